"""Publish to a topic by its name: after commit, from views, tasks, threads and event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest

from .. import publishing
from ..brokers.base import Publish, Result
from ..errors import ErrorCode, ProtocolError
from ..instrumentation import warn_once
from ..protocol import binary, codec
from ..protocol.codec import Kind
from . import serialize
from .base import Topic
from .registry import registry

if TYPE_CHECKING:
    from .access import Identity

TAB_HEADER = "X-Realtime-Tab"
TAB_FIELD = "_realtime_tab"
MAX_TAB = 64
"""Characters of a tab's id; a longer one is none."""


class HasTab(Protocol):
    """An action's ``ctx``, or an ``Identity``."""

    @property
    def tab(self) -> str: ...


Origin = HttpRequest | HasTab | str | None
"""The tab that caused an event: a request from it, an action's ``ctx``, or its id."""


def publish(
    topic: str | Topic,
    event: str,
    data: Any = None,
    *,
    using: str | None = None,
    on_commit: bool = True,
    origin: Origin = None,
    key: str | None = None,
) -> None:
    """Append an event to a topic's log; whoever follows the topic gets it.

    It never raises because the bus is down. What was lost then is logged and counted, and followers
    of the topic get a ``reset`` when the bus is back.

    Args:
        topic: a topic or its name.
        event: the event's name.
        data: what goes with it: anything that has a form in JSON. ``bytes`` make a binary event.
        using: alias of the database whose transaction is waited for. By default that is the default
            database if it is in a transaction, and else the one that is.
        on_commit: ``False`` publishes now, whatever becomes of the transaction.
        origin: the request (or the action's ``ctx``, or the tab's id) that caused it: that tab does
            not hear its own echo. Binary events have no origin.
        key: makes a retry harmless: a second event of this key within the history is not appended.
            Snapshot items with this ``key`` and the event are not both shown.

    Raises:
        UnknownTopic: no route matches the name; the message says which do.
        TypeError: the data has no form in JSON.
    """
    command = _command(topic, event, data, origin=origin, key=key)
    publishing.submit(
        [command], using=_transaction(using) if on_commit else using, on_commit=on_commit
    )


async def apublish(
    topic: str | Topic,
    event: str,
    data: Any = None,
    *,
    origin: Origin = None,
    key: str | None = None,
) -> None:
    """Like :func:`publish`, from a coroutine; returns when the broker has the event, or it is lost.

    An event loop has no transactions to wait for, so it publishes at once. A coroutine that sync
    code calls from within a transaction should leave publishing to that code.

    Args:
        topic: a topic or its name.
        event: the event's name.
        data: see :func:`publish`; likewise ``origin`` and ``key``.

    Raises:
        UnknownTopic: no route matches the name; the message says which do.
        TypeError: the data has no form in JSON.
    """
    await publishing.asend([_command(topic, event, data, origin=origin, key=key)])


async def member_publish(
    topic: Topic, identity: Identity, event: str, data: Any, *, key: str | None = None
) -> Result:
    """Publish what a member sent; :func:`.access.authorize_publish` comes first.

    Its kind is ``client`` and it names its sender, so it can be mistaken for nothing else. Its
    sender hears it too, in the one order that everybody hears, so it has no ``origin``.

    Args:
        topic: where.
        identity: the member.
        event: the event's name.
        data: as it came from the browser; ``bytes`` make a binary event.
        key: makes a retry by the same member harmless.

    Raises:
        ProtocolError: the bus is down; the member may try again.
    """
    body = _body(topic, event, data, kind=Kind.CLIENT, key=key, identity=identity)
    scoped = None if key is None else f"client:{identity.limits_key}:{key}"
    command = Publish(topic=topic.name, body=body, history=topic.history, key=scoped)
    results = await publishing.asend([command])
    if results is None:
        raise ProtocolError(
            ErrorCode.UNAVAILABLE,
            "The event could not be published now; try again later.",
            topic=topic.name,
            retry_after=1_000,
        )
    return results[0]


def _command(
    topic: str | Topic, event: str, data: Any, *, origin: Origin, key: str | None
) -> Publish:
    known = registry.resolve(topic)
    body = _body(known, event, data, kind=Kind.APP, key=key, origin=tab_of(origin))
    scoped = None if key is None else f"app:{key}"
    return Publish(topic=known.name, body=body, history=known.history, key=scoped)


def _body(
    topic: Topic,
    event: str,
    data: Any,
    *,
    kind: str,
    key: str | None,
    origin: str | None = None,
    identity: Identity | None = None,
) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return binary.encode_body(kind=kind, event=event, payload=bytes(data))
    return codec.event_body(
        kind=kind,
        event=event,
        data=serialize.encode(data, what=f"event {event!r} of topic {topic.name!r}"),
        key=key,
        origin=origin,
        sender=None if identity is None else identity.sender,
    )


def tab_of(origin: Origin) -> str | None:
    """The id of the tab that caused something; ``None`` if it is not known."""
    if isinstance(origin, HttpRequest):
        tab = origin.headers.get(TAB_HEADER)
        if tab is None and origin.method == "POST":
            tab = origin.POST.get(TAB_FIELD)
    elif origin is None or isinstance(origin, str):
        tab = origin
    else:
        tab = origin.tab
    return tab if tab and len(tab) <= MAX_TAB else None


def _transaction(using: str | None) -> str:
    """The database whose commit to wait for.

    ``on_commit`` without an alias means the default database and runs at once if that is in no
    transaction. Inside another database's transaction that would be before the commit, and a
    follower who then looks at the database would not find what the event speaks of.
    """
    if using is not None:
        return using
    open_aliases = [
        connection.alias
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block
    ]
    if DEFAULT_DB_ALIAS in open_aliases or not open_aliases:
        return DEFAULT_DB_ALIAS
    if len(open_aliases) > 1:
        warn_once(
            f"publish.using:{open_aliases}",
            f"An event is published inside transactions of {', '.join(open_aliases)}; it waits for"
            f" the commit of {open_aliases[-1]!r}. Pass using= to publish() to choose.",
        )
    return open_aliases[-1]
