"""How far a reader is behind, told by marks that it acknowledges.

Some ASGI servers never say that a socket is full. So after every 64 KiB the server sends a
``mark`` with an unguessable ``n``; the client answers ``ack`` with the same ``n``, in order. Bytes
sent after the last acknowledged mark are *on their way*; more than a window of them and the reader
lags.
"""

from __future__ import annotations

from collections import deque

from ..errors import CloseCode, ErrorCode, ProtocolError

MARK_EVERY = 65_536
"""Bytes after which the driver sends the next mark."""


class Window:
    """The bytes on their way to one reader.

    Args:
        size: bytes that may be on their way before the reader counts as lagging.
    """

    __slots__ = ("_marks", "acknowledged", "marked", "sent", "size")

    def __init__(self, *, size: int) -> None:
        self.size = size
        self.sent = 0
        self.marked = 0
        self.acknowledged = 0
        self._marks: deque[tuple[str, int]] = deque()

    @property
    def lagging(self) -> bool:
        """Whether nothing more should be written before an ``ack`` comes."""
        return self.sent - self.acknowledged > self.size

    def mark(self, n: str) -> None:
        """Note that a mark named ``n`` was sent now."""
        self.marked = self.sent
        self._marks.append((n, self.sent))

    def ack(self, n: str) -> None:
        """Take the client's answer to the oldest unanswered mark.

        Raises:
            ProtocolError: fatal; ``n`` is not that mark. Whoever guesses acknowledgements could
                make the server believe that data arrived.
        """
        if not self._marks or self._marks[0][0] != n:
            raise ProtocolError(
                ErrorCode.UNEXPECTED,
                "This ack names no mark that waits for one; acks repeat `n` of each mark in order.",
                fatal=CloseCode.PROTOCOL_ERROR,
            )
        _, self.acknowledged = self._marks.popleft()
