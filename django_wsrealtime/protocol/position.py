"""Where a reader stands in a topic's log, and what follows from what it is shown next.

A log is named by its *epoch*; within one epoch offsets rise by one. So a reader at offset 4 that
is shown offset 5 advances, one that is shown 4 has it already, one that is shown 7 missed two::

    >>> at = Position(epoch="a", offset=4)
    >>> at.compare(epoch="a", offset=5)
    <Order.NEXT: 'next'>
    >>> at.compare(epoch="a", offset=4)
    <Order.OLD: 'old'>
    >>> at.compare(epoch="a", offset=7)
    <Order.GAP: 'gap'>
    >>> at.compare(epoch="b", offset=1)
    <Order.FOREIGN: 'foreign'>
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Order(enum.Enum):
    """How an event stands to a position."""

    NEXT = "next"
    OLD = "old"
    GAP = "gap"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """After which event of a log a reader stands.

    Args:
        epoch: the log's random name; a new one means that nothing said before holds.
        offset: the number of the last event the reader has; 0 before the first.
    """

    epoch: str
    offset: int

    def compare(self, *, epoch: str, offset: int) -> Order:
        """Tell what an event at ``(epoch, offset)`` means to a reader at this position."""
        if epoch != self.epoch:
            return Order.FOREIGN
        if offset <= self.offset:
            return Order.OLD
        if offset == self.offset + 1:
            return Order.NEXT
        return Order.GAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """From when a reader wants to know everything: the broker time at which its page was rendered.

    Args:
        time: microseconds of the broker's clock.
    """

    time: int


Start = Position | Since | None
"""Where a subscription begins: after a position, since a time, or from now."""
