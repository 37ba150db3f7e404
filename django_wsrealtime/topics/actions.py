"""Carries out what a browser calls: allowed, not too often, with valid arguments, off the loop."""

from __future__ import annotations

import functools
import inspect
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.translation import override

from ..errors import ActionError, ErrorCode, ProtocolError, describe
from ..instrumentation import count, logger, refuse
from ..protocol.limits import TokenBuckets
from . import access, serialize, threads
from .access import Identity
from .base import Topic
from .methods import Action, action

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an action knows of its caller; the parameter ``ctx``.

    Args:
        identity: who calls.
        key: the caller's word that repeating this call is harmless; the same in each repetition.
    """

    identity: Identity
    key: str | None = None

    @property
    def user(self) -> Any:
        """The user as of when the connection was made, or ``AnonymousUser``."""
        return self.identity.user

    @property
    def session(self) -> SessionBase | None:
        return self.identity.session

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the connection's handshake, in whatever case their names are asked for."""
        return self.identity.headers

    @property
    def language(self) -> str:
        """The language that is active in the action."""
        return self.identity.language

    @property
    def tab(self) -> str:
        """The browser tab; pass ``origin=ctx`` to ``publish`` to spare it its own echo."""
        return self.identity.tab


async def perform(topic: Topic, name: str, data: Any, ctx: Context) -> msgspec.Raw:
    """Call an action for somebody who may follow the topic: :func:`.access.authorize` comes first.

    Args:
        topic: whose action.
        name: the method's name.
        data: the arguments, an object or ``None``, as it came from the browser.
        ctx: the caller.

    Returns:
        What the method returned, as JSON.

    Raises:
        ProtocolError: it was not called, or it failed; safe to show to the caller.
    """
    found = topic.actions.get(name)
    if found is None:
        names = ", ".join(repr(known) for known in sorted(topic.actions)) or "none"
        raise ProtocolError(
            ErrorCode.UNKNOWN_ACTION,
            f"There is no action {describe(name)}; there is: {names}.",
            topic=topic.name,
        )
    try:
        _throttles.take(found, ctx.identity)
        return await _perform(topic, found, data, ctx)
    except ProtocolError as error:
        error.topic = topic.name
        raise
    except ActionError as error:
        raise _answer(error.code, error.message, topic, retry_after=error.retry_after) from error
    except PermissionDenied as error:
        raise _answer(ErrorCode.FORBIDDEN, str(error) or "You may not do this.", topic) from error
    except Http404 as error:
        raise _answer(
            ErrorCode.INVALID_DATA, str(error) or "There is no such object.", topic
        ) from error
    except Exception as error:
        count("actions.failed")
        logger.exception("The action %s of %s failed.", found.name, found.owner)
        raise _answer(ErrorCode.INTERNAL, "The action failed.", topic) from error


def _answer(
    code: Any, message: str, topic: Topic, *, retry_after: int | None = None
) -> ProtocolError:
    return ProtocolError(code, message, topic=topic.name, retry_after=retry_after)


async def _perform(topic: Topic, found: Action, data: Any, ctx: Context) -> msgspec.Raw:
    arguments = found.read(data)
    method = functools.partial(found.method, topic, ctx, **arguments)
    what = f"the result of {found.owner}.{found.name}()"

    def call() -> Any:
        _check_permission(found, ctx)
        answer = method()
        return answer if inspect.isawaitable(answer) else serialize.encode(answer, what=what)

    with override(ctx.language):
        answer: Any = None
        if not found.is_async:
            answer = await threads.run(call)
        else:
            if found.permission is not None:
                await threads.run(_check_permission, found, ctx)
            answer = method()
        if inspect.isawaitable(answer):
            answer = serialize.encode(await answer, what=what)
    return msgspec.Raw(answer)


def _check_permission(found: Action, ctx: Context) -> None:
    """Called in a thread that may query."""
    if found.permission is None:
        return
    if isinstance(found.permission, str):
        allowed = ctx.user.has_perm(found.permission)
    else:
        allowed = access.verdict("permission", found.permission(ctx.user))
    if not allowed:
        refuse("action", f"{found.owner}.{found.name}: {ctx.identity.member} lacks permission")
        raise PermissionDenied("You may not do this.")


class Throttles:
    """Measures how often each person calls each action.

    Args:
        clock: seconds of a steady clock.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets = TokenBuckets()

    def take(self, found: Action, identity: Identity) -> None:
        """Count a call.

        Raises:
            ProtocolError: it is one too many.
        """
        if found.throttle is None:
            return
        key = (identity.limits_key, found.owner, found.name)
        calls = found.throttle.calls
        with self._lock:
            wait = self._buckets.take(
                key, rate=calls / found.throttle.period, burst=calls, now=self._clock()
            )
        if wait:
            count("actions.throttled")
            raise ProtocolError(
                ErrorCode.RATE_LIMITED,
                f"The action {found.name!r} may be called {found.throttle}.",
                retry_after=max(1, math.ceil(wait * 1_000)),
            )


_throttles = Throttles()

__all__ = ["Context", "Throttles", "action", "perform"]
