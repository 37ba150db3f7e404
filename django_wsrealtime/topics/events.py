"""An event as Python code sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..brokers.base import Entry
from ..protocol import codec
from ..protocol.codec import Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a topic's log.

    Args:
        topic: the topic's name.
        epoch: the log's name.
        offset: the event's number in it, from 1.
        time: microseconds since 1970, of the broker's clock.
        kind: ``"row"``, ``"app"`` (published by the server) or ``"client"`` (by a member), …
        event: its name.
        data: what came with it; ``bytes`` if it is binary.
        key: what it is about, or what it was published with.
        origin: the browser tab that caused it.
        sender: the member who published it.
    """

    topic: str
    epoch: str
    offset: int
    time: int
    kind: str
    event: str
    data: Any = None
    key: str | None = None
    origin: str | None = None
    sender: Sender | None = None

    @classmethod
    def of(cls, topic: str, entry: Entry) -> Event:
        """Read an entry of a topic's log.

        Raises:
            ProtocolError: its body cannot be read.
        """
        body = codec.read_body(entry.body)
        if codec.is_binary(entry.body):
            data: Any = codec.binary_payload(entry.body)
        else:
            data = msgspec.json.decode(body.data)
        sender = None if body.sender is None else msgspec.convert(body.sender, Sender)
        return cls(
            topic=topic,
            epoch=entry.epoch,
            offset=entry.offset,
            time=entry.time,
            kind=body.kind,
            event=body.event,
            data=data,
            key=body.key,
            origin=body.origin,
            sender=sender,
        )
