"""A message that is encoded once and handed to every connection as it is."""

from __future__ import annotations

from typing import Any

from ..protocol import codec
from ..protocol.frames import Frame


class Message:
    """Bytes on their way to readers, in the form that each kind of transport wants.

    Args:
        data: a text frame's UTF-8, or a binary frame.
        binary: which of the two.
    """

    __slots__ = ("asgi", "binary", "data", "forms", "size")

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
        self.forms: dict[str, Any] | None = None
        """Further forms of it, made by transports that need them."""

    @classmethod
    def of(cls, frame: Frame) -> Message:
        """The message that holds one frame."""
        return cls(codec.encode(frame))
