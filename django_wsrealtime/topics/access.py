"""Who may do what with a topic: denied unless a rule of the topic allows it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import PermissionDenied
from django.utils.crypto import salted_hmac
from django.utils.translation import get_language_from_request, override

from ..errors import ActionError, ErrorCode, ProtocolError, describe
from ..instrumentation import count, logger, refuse
from ..protocol.codec import Sender
from . import grants, threads
from .base import Topic
from .registry import registry

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

MEMORY = 5.0
"""Seconds for which an allowance is remembered. A refusal never is."""
MAX_REMEMBERED = 10_000
"""Allowances remembered at a time, the latest used ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is at the other end of one connection.

    Args:
        user: a user, or ``AnonymousUser``; not lazy.
        sid: the connection's id.
        session: its session, if it has one.
        session_key: the session's key when the connection was made; a secret.
        headers: of the handshake, in whatever case their names are asked for.
        language: code of the language to speak to this user.
        tab: the browser tab's random id.
    """

    user: Any
    sid: str
    session: SessionBase | None = field(default=None, repr=False)
    session_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    language: str = "en"
    tab: str = ""

    @classmethod
    def of(
        cls,
        request: HttpRequest,
        *,
        user: Any,
        session: SessionBase | None,
        sid: str,
        tab: str = "",
    ) -> Identity:
        """Who sent a request, or opened a WebSocket with it as its handshake.

        Args:
            request: for its headers and its language.
            user: a user, or ``AnonymousUser``; not lazy, because rules run in other threads.
            session: the session by which the user was found.
            sid: the connection's id.
            tab: the browser tab's id.
        """
        return cls(
            user=user,
            sid=sid,
            session=session,
            session_key=None if session is None else session.session_key,
            headers=request.headers,
            language=get_language_from_request(request),
            tab=tab,
        )

    @property
    def is_anonymous(self) -> bool:
        return not getattr(self.user, "is_authenticated", False)

    @property
    def member(self) -> str:
        """Who this is to others: the user's primary key, or ``anon:`` and a visitor's random id.

        The latter is the same for all connections of a session, and tells nothing about it.
        """
        if not self.is_anonymous:
            return str(self.user.pk)
        secret = self.session_key or self.sid
        digest = salted_hmac("django_wsrealtime.member", secret, algorithm="sha256").hexdigest()
        return f"anon:{digest[:16]}"

    @property
    def sender(self) -> Sender:
        """This member as others see it: the full name, or the user name."""
        if self.is_anonymous:
            return Sender(id=self.member, name="")
        full_name = getattr(self.user, "get_full_name", str)()
        return Sender(id=self.member, name=str(full_name or self.user.get_username()))

    @property
    def limits_key(self) -> str:
        """What the limits of one person are counted under."""
        return self.member if self.is_anonymous else f"user:{self.member}"


# --- questions ---------------------------------------------------------------------------------


def find(name: str) -> Topic:
    """The topic that a peer names.

    Raises:
        ProtocolError: there is none; the message does not tell which there are.
    """
    topic = registry.find(name)
    if topic is None:
        raise ProtocolError(
            ErrorCode.UNKNOWN_TOPIC,
            f"There is no topic {describe(name)}, or it is spelled differently.",
            topic=name,
        )
    return topic


async def authorize(topic: Topic, identity: Identity, *, grant: str | None = None) -> None:
    """Make sure that somebody may follow a topic.

    The topic's own ``can_subscribe`` decides if it has one. Visitors who are not signed in are
    refused without being asked about, unless the topic is ``public``. A topic without a rule is
    open to everybody if it is ``public``, and else to those to whom the server signed a grant.

    Raises:
        ProtocolError: they may not, or the rule failed.
    """
    has_rule = type(topic).can_subscribe is not Topic.can_subscribe
    if identity.is_anonymous and not topic.public:
        _deny(topic, "visitors are not signed in; set public = True to let can_subscribe decide")
    if has_rule:
        if not await _memo.ask(topic, identity):
            _deny(topic, f"can_subscribe() did not allow {identity.member}")
        return
    if topic.public:
        return
    if grant is None:
        _deny(topic, f"{type(topic).__name__} has no can_subscribe() and is not public")
    if not await threads.run(grants.verify, grant, topic.name, identity):
        _deny(topic, f"the grant of {identity.member} is not valid")


async def authorize_publish(
    topic: Topic, identity: Identity, event: str, data: Any, *, grant: str | None = None
) -> None:
    """Make sure that a subscriber may publish an event.

    Raises:
        ProtocolError: it may not, or the rule failed.
    """
    if topic.publish_by != "subscribers":
        _deny(topic, "only the server publishes here (publish_by)")
    await authorize(topic, identity, grant=grant)
    if not await _ask(topic, identity, topic.can_publish, event, data):
        _deny(topic, f"can_publish() did not allow {identity.member}")


async def authorize_whisper(
    topic: Topic, identity: Identity, event: str, data: Any, *, grant: str | None = None
) -> None:
    """Make sure that a subscriber may whisper.

    Raises:
        ProtocolError: it may not, or the rule failed.
    """
    if topic.whisper_by != "subscribers":
        _deny(topic, "only the server whispers here (whisper_by)")
    await authorize(topic, identity, grant=grant)
    if not await _ask(topic, identity, topic.can_whisper, event, data):
        _deny(topic, f"can_whisper() did not allow {identity.member}")


def forget(user_pk: object | None = None) -> None:
    """Ask the rules again for this user (``None``: for everybody), whatever was answered before."""
    _memo.forget(None if user_pk is None else f"user:{user_pk}")


def _deny(topic: Topic, why: str) -> NoReturn:
    refuse("topic", f"{topic.name}: {why}")
    raise ProtocolError(
        ErrorCode.FORBIDDEN, "The topic's rules do not allow this.", topic=topic.name
    )


# --- asking a rule -----------------------------------------------------------------------------


async def _ask(topic: Topic, identity: Identity, rule: Callable[..., Any], *arguments: Any) -> bool:
    """A rule's verdict: sync rules are asked in the pool, async ones in the event loop."""
    name = f"{type(topic).__name__}.{rule.__name__}"
    try:
        return await _call(name, rule, identity, *arguments)
    except PermissionDenied:
        return False
    except ActionError as error:
        raise ProtocolError(
            ErrorCode.FORBIDDEN, error.message, topic=topic.name, retry_after=error.retry_after
        ) from error
    except ProtocolError:
        raise
    except Exception as error:
        count("rules.failed")
        logger.exception("%s() failed; the request was refused.", name)
        raise ProtocolError(
            ErrorCode.INTERNAL, "The topic's rules could not be asked.", topic=topic.name
        ) from error


async def _call(name: str, rule: Callable[..., Any], identity: Identity, *arguments: Any) -> bool:
    def ask() -> Any:
        answer = rule(identity.user, *arguments)
        return answer if inspect.isawaitable(answer) else verdict(name, answer)

    with override(identity.language):
        if inspect.iscoroutinefunction(rule):
            answer = ask()
        else:
            answer = await threads.run(ask)
        if inspect.isawaitable(answer):
            answer = verdict(name, await answer)
    return bool(answer)


def verdict(name: str, answer: Any) -> bool:
    """A rule's answer as yes or no; a query set, a list or a number counts as in an ``if``.

    Called where the rule ran: looking at a query set is a query.
    """
    if isinstance(answer, bool):
        return answer
    if answer is None:
        raise TypeError(f"{name}() returned None; expected True or False. Is a return missing?")
    if hasattr(answer, "__bool__") or hasattr(answer, "__len__"):
        return bool(answer)
    raise TypeError(f"{name}() returned a {type(answer).__name__}; expected True or False.")


# --- remembering -------------------------------------------------------------------------------

_Key = tuple[str, str]
"""Whose question about which topic."""


class Memo:
    """Remembers allowances for a moment, and lets those who ask the same at once share an answer.

    Args:
        clock: seconds of a steady clock.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._allowed: OrderedDict[_Key, float] = OrderedDict()
        self._asked: dict[tuple[asyncio.AbstractEventLoop, _Key], asyncio.Future[bool]] = {}
        self._generation = 0

    async def ask(self, topic: Topic, identity: Identity) -> bool:
        """Whether ``can_subscribe`` allows this, asked at most :data:`MEMORY` seconds ago."""
        key = (identity.limits_key, topic.name)
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._remembers(key):
                    return True
                shared = self._asked.get((loop, key))
                if shared is None:
                    mine = self._asked[loop, key] = loop.create_future()
                    generation = self._generation
                    break
            await asyncio.wait([shared])
            if not shared.cancelled():
                return shared.result()
        return await self._first(topic, identity, key, mine, generation)

    async def _first(
        self,
        topic: Topic,
        identity: Identity,
        key: _Key,
        mine: asyncio.Future[bool],
        generation: int,
    ) -> bool:
        try:
            answer = await _ask(topic, identity, topic.can_subscribe)
        except ProtocolError as error:
            mine.set_exception(error)
            mine.exception()  # those who share it, if any, retrieve it too
            raise
        else:
            mine.set_result(answer)
            with self._lock:
                if answer and generation == self._generation:
                    self._remember(key)
            return answer
        finally:
            mine.cancel()  # without effect if it has a result; else another one asks
            with self._lock:
                if self._asked.get((mine.get_loop(), key)) is mine:
                    del self._asked[mine.get_loop(), key]

    def _remembers(self, key: _Key) -> bool:
        expires = self._allowed.get(key)
        if expires is None:
            return False
        if expires <= self._clock():
            del self._allowed[key]
            return False
        self._allowed.move_to_end(key)
        return True

    def _remember(self, key: _Key) -> None:
        self._allowed[key] = self._clock() + MEMORY
        self._allowed.move_to_end(key)
        while len(self._allowed) > MAX_REMEMBERED:
            self._allowed.popitem(last=False)

    def forget(self, who: str | None) -> None:
        """Forget one person's allowances, or all; questions under way are not remembered."""
        with self._lock:
            self._generation += 1
            for key in [key for key in self._allowed if who in (None, key[0])]:
                del self._allowed[key]
            for place in [place for place in self._asked if who in (None, place[1][0])]:
                del self._asked[place]


_memo = Memo()
