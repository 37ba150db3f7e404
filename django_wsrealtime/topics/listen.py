"""Follow a topic from the server's side: for bots, bridges and workers."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec

from ..hub import Hub, Message, get_hub
from ..protocol.position import Start
from .base import Topic
from .events import RESET, Event
from .registry import registry

MAX_WAITING = 1_000
"""Events that may wait for the reader; more and it is brought up from the log."""


async def asubscribe(
    topic: str | Topic, *, since: Start = None, joined: Callable[[], None] = lambda: None
) -> AsyncGenerator[Event, None]:
    """Listen to a topic from server code, with the same promises that browsers get.

    No permission is asked: server code is trusted. Leaving the loop ends the subscription. An event
    for which :attr:`Event.is_reset` holds says that others may have been missed::

        async for event in asubscribe("orders/7"):
            if event.is_reset:
                orders = event.data          # the snapshot, whole, if the topic has one
            else:
                print(event.event, event.data)

    Args:
        topic: a topic or its name.
        since: where to begin: the ``position`` of an event, or a page's ``request.realtime_since``;
            ``None``: now.
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
            for event in reader.take():
                yield event
            await reader.more()
    finally:
        hub.disconnect(reader)


class _Reader:
    """A hub's connection that leads to a coroutine."""

    def __init__(self, hub: Hub) -> None:
        self.sid = secrets.token_urlsafe(8)
        self._hub = hub
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._reset: dict[str, Any] | None = None
        """The frame of a reset whose snapshot has not come whole yet."""

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

    def take(self) -> list[Event]:
        """What has arrived."""
        lagged = self.lagging
        found = [event for message in self._waiting for event in self._read(message)]
        self._waiting.clear()
        self._arrived.clear()
        if lagged:
            self._hub.resume(self)
        return found

    def _read(self, message: Message) -> list[Event]:
        if message.binary:
            return [Event.of_binary(message.data)]
        frame = msgspec.json.decode(message.data)
        match frame["type"]:
            case "event":
                return [Event.of_frame(frame)]
            case "subscribed" if frame.get("recovered") is not False:
                return [Event.of_frame(event) for event in frame.get("events", ())]
            case "subscribed":
                return self._begin_reset({**frame, "reason": "trimmed"})
            case "reset":
                return self._begin_reset(frame)
            case "snapshot" if self._reset is not None:
                _extend(self._reset["snapshot"], frame["items"])
                return [] if frame["more"] else self._end_reset()
        return []

    def _begin_reset(self, frame: dict[str, Any]) -> list[Event]:
        self._reset = frame
        return [] if frame.get("more") else self._end_reset()

    def _end_reset(self) -> list[Event]:
        frame, self._reset = self._reset, None
        assert frame is not None
        return [
            Event(
                topic=frame["topic"],
                epoch=frame["epoch"],
                offset=frame["offset"],
                kind=RESET,
                event=frame["reason"],
                data=frame.get("snapshot"),
            )
        ]


def _extend(snapshot: dict[str, Any], items: Mapping[str, Any]) -> None:
    """Add a further piece of a snapshot: its lists go on."""
    for name, values in items.items():
        snapshot[name] = [*snapshot.get(name, ()), *values]
