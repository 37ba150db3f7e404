"""An event as Python code sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..brokers.base import Entry
from ..protocol import binary, codec
from ..protocol.codec import Sender
from ..protocol.position import Position

RESET = "reset"
"""The kind of what is no event of the log, but says that the log does not go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a topic's log, or the news that what is known of the topic is stale.

    Args:
        topic: the topic's name.
        epoch: the log's name.
        offset: the event's number in it, from 1.
        kind: ``"row"``, ``"app"`` (published by the server), ``"client"`` (by a member), …;
            ``"reset"``: see :attr:`is_reset`.
        event: its name; the reason of a reset.
        time: microseconds since 1970, of the broker's clock; 0 where it is not told: for resets,
            and for binary events that come from :func:`~.listen.asubscribe`.
        data: what came with it; ``bytes`` if it is binary; the snapshot of a reset, if the topic
            has one.
        key: what it is about, or what it was published with.
        origin: the browser tab that caused it.
        sender: the member who published it.
    """

    topic: str
    epoch: str
    offset: int
    kind: str
    event: str
    time: int = 0
    data: Any = None
    key: str | None = None
    origin: str | None = None
    sender: Sender | None = None

    @property
    def position(self) -> Position:
        """Where a reader of this event stands; ``asubscribe(…, since=…)`` goes on from there."""
        return Position(epoch=self.epoch, offset=self.offset)

    @property
    def is_reset(self) -> bool:
        """Whether events may have been missed, so that the state has to be read anew."""
        return self.kind == RESET

    @classmethod
    def of(cls, topic: str, entry: Entry) -> Event:
        """Read an entry of a topic's log.

        Raises:
            ProtocolError: its body cannot be read.
        """
        body = codec.read_body(entry.body)
        return cls(
            topic=topic,
            epoch=entry.epoch,
            offset=entry.offset,
            time=entry.time,
            kind=body.kind,
            event=body.event,
            data=body.value,
            key=body.key,
            origin=body.origin,
            sender=_sender(body.sender),
        )

    @classmethod
    def of_frame(cls, frame: dict[str, Any]) -> Event:
        """Read a decoded ``event`` frame."""
        return cls(
            topic=frame["topic"],
            epoch=frame["epoch"],
            offset=frame["offset"],
            time=frame["time"],
            kind=frame["kind"],
            event=frame["event"],
            data=frame.get("data"),
            key=frame.get("key"),
            origin=frame.get("origin"),
            sender=_sender(frame.get("from")),
        )

    @classmethod
    def of_binary(cls, frame: bytes) -> Event:
        """Read a binary frame.

        Raises:
            ProtocolError: it cannot be read.
        """
        found = binary.read_frame(frame)
        return cls(
            topic=found.topic,
            epoch=found.epoch,
            offset=found.offset,
            kind=found.kind,
            event=found.event,
            data=found.payload,
        )


def _sender(value: Any) -> Sender | None:
    return None if value is None else msgspec.convert(value, Sender)
