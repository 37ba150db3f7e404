"""A message that is encoded once and handed to every connection as it is."""

from __future__ import annotations

from typing import Any

from ..brokers.base import Entry
from ..protocol import binary, codec
from ..protocol.frames import Frame


class Message:
    """Bytes on their way to readers, in the form that each kind of transport wants.

    Args:
        data: a text frame's UTF-8, or a binary frame.
        binary: which of the two.
    """

    __slots__ = ("asgi", "binary", "data", "size")

    def __init__(self, data: bytes, *, binary: bool = False) -> None:
        self.data = data
        self.binary = binary
        self.size = len(data)
        self.asgi: dict[str, Any] = (
            {"type": "websocket.send", "bytes": data}
            if binary
            else {"type": "websocket.send", "text": data.decode()}
        )
        """The ASGI event; shared, so nobody may change it."""

    @classmethod
    def of(cls, frame: Frame) -> Message:
        """The message that holds one frame."""
        return cls(codec.encode(frame))

    @classmethod
    def of_entry(cls, entry: Entry, *, topic: str, head: bytes) -> Message:
        """The message that carries an entry of a topic's log.

        Args:
            entry: the entry.
            topic: the topic's name.
            head: from :func:`~..protocol.codec.event_head`, for the entry's epoch.
        """
        if codec.is_binary(entry.body):
            data = binary.encode_frame(
                topic=topic, epoch=entry.epoch, offset=entry.offset, body=entry.body
            )
            return cls(data, binary=True)
        return cls(codec.event_frame(head, offset=entry.offset, time=entry.time, body=entry.body))
