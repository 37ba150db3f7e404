"""Follow a topic from the server's side: for bots, bridges and workers."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from ..hub import Message, get_hub
from ..protocol.position import Position, Start
from .registry import registry

MAX_WAITING = 1_000
"""Events that may wait for the reader; more and it is brought up from the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a listener hears.

    Args:
        type: ``"event"``; or ``"reset"``: whatever was known of the topic is stale.
        topic: the topic's name.
        position: where the listener stands now; a later ``asubscribe`` can go on from there.
        kind: who made the event; see ``docs/reference/frames.md``.
        event: its name; for a reset, the reason.
        data: what was published, or the snapshot that came with a reset.
        key: what the event is about.
        time: microseconds since 1970, of the broker's clock.
    """

    type: Literal["event", "reset"]
    topic: str
    position: Position
    kind: str = ""
    event: str = ""
    data: Any = None
    key: str | None = None
    time: int = 0


async def asubscribe(
    topic: str, *, since: Start = None, joined: Callable[[], None] = lambda: None
) -> AsyncGenerator[Received, None]:
    """Listen to a topic from server code, with the same promises that browsers get.

    No permission is asked: server code is trusted. Leaving the loop ends the subscription.

    Args:
        topic: the topic's name.
        since: where to begin; ``None``: now.
        joined: called once nothing more can be missed.

    Raises:
        UnknownTopic: no route matches.
    """
    source = registry.resolve(topic)
    hub = get_hub()
    reader = _Reader(hub)
    try:
        await hub.join(reader, source, since)
        joined()
        while True:
            for received in reader.take():
                yield received
            await reader.more()
    finally:
        hub.disconnect(reader)


class _Reader:
    """A hub's connection that leads to a coroutine."""

    def __init__(self, hub: Any) -> None:
        self.sid = secrets.token_urlsafe(8)
        self._hub = hub
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()

    @property
    def lagging(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def write(self, message: Message) -> bool:
        self._waiting.append(message)
        self._arrived.set()
        return not self.lagging

    async def more(self) -> None:
        """Wait for the next message."""
        await self._arrived.wait()

    def take(self) -> list[Received]:
        """What has arrived."""
        lagged = self.lagging
        found = [
            received
            for message in self._waiting
            if not message.binary
            for received in _read(message.data)
        ]
        self._waiting.clear()
        self._arrived.clear()
        if lagged:
            self._hub.resume(self)
        return found


def _read(data: bytes) -> list[Received]:
    frame = msgspec.json.decode(data)
    match frame["type"]:
        case "event":
            return [_event(frame)]
        case "subscribed" if frame.get("recovered") is not False:
            return [_event(event) for event in frame.get("events", ())]
        case "subscribed":
            return [_reset(frame, "trimmed")]
        case "reset":
            return [_reset(frame, frame["reason"])]
    return []


def _event(frame: dict[str, Any]) -> Received:
    return Received(
        type="event",
        topic=frame["topic"],
        position=Position(epoch=frame["epoch"], offset=frame["offset"]),
        kind=frame["kind"],
        event=frame["event"],
        data=frame.get("data"),
        key=frame.get("key"),
        time=frame["time"],
    )


def _reset(frame: dict[str, Any], reason: str) -> Received:
    return Received(
        type="reset",
        topic=frame["topic"],
        position=Position(epoch=frame["epoch"], offset=frame["offset"]),
        event=reason,
        data=frame.get("snapshot"),
    )
