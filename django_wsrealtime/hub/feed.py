"""What one process knows of one topic's log: its end, its latest events, and who reads it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from msgspec import Raw

from ..brokers.base import Entry, History
from ..instrumentation import count
from ..protocol import codec
from ..protocol.frames import Reset
from ..protocol.position import Position
from .message import Message

if TYPE_CHECKING:
    from .core import Connection

RECENT_EVENTS = 512
"""Events kept in memory per topic, so that catching up seldom asks the broker."""
RECENT_BYTES = 1_048_576


class Source(Protocol):
    """What a hub must know of a topic; every ``Topic`` is one."""

    @property
    def name(self) -> str: ...

    @property
    def history(self) -> History: ...

    @property
    def keyed(self) -> bool:
        """Whether an event replaces the previous one of its key."""

    @property
    def has_snapshot(self) -> bool: ...

    async def make_snapshot(self) -> list[bytes]:
        """The topic's present state as JSON objects of at most 32 KiB; at least one."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One connection's reading of one feed.

    It is *live* (gets each event as it comes) or *behind* (a task of the hub brings it up to the
    feed's position). Only when behind does it have a position of its own.
    """

    connection: Connection
    feed: Feed
    epoch: str = ""
    offset: int = 0
    joined: bool = False
    """Whether the client was told ``subscribed``."""
    closed: bool = False
    reset: str = ""
    """Why the client has to be told that what it holds is stale."""
    chunks: deque[Message] = field(default_factory=deque)
    """What remains to be sent of a snapshot."""
    task: asyncio.Task[None] | None = None

    @property
    def position(self) -> Position:
        return Position(epoch=self.epoch, offset=self.offset)


@dataclass(slots=True, eq=False)
class SnapshotAt:
    """A topic's state, not older than a position of its log."""

    position: Position
    chunks: list[bytes]
    made: float
    rest: list[Message]
    resets: dict[str, Message] = field(default_factory=dict)

    def reset(self, topic: str, reason: str) -> Message:
        """The ``reset`` frame with this snapshot; the same for everybody."""
        message = self.resets.get(reason)
        if message is None:
            frame = Reset(
                topic=topic,
                epoch=self.position.epoch,
                offset=self.position.offset,
                reason=reason,
                snapshot=Raw(self.chunks[0]),
                more=len(self.chunks) > 1,
            )
            message = self.resets[reason] = Message.of(frame)
        return message


@dataclass(slots=True, frozen=True)
class Recent:
    """An event that was just delivered."""

    offset: int
    time: int
    body: bytes
    message: Message


class Feed:
    """One topic as this process follows it.

    Args:
        source: the topic.
    """

    __slots__ = (
        "_recent_bytes",
        "behind",
        "check_again",
        "checking",
        "early",
        "epoch",
        "flight",
        "head",
        "heard",
        "linger",
        "live",
        "offset",
        "opening",
        "recent",
        "reset_reason",
        "snapshot",
        "source",
    )

    def __init__(self, source: Source) -> None:
        self.source = source
        self.epoch = ""
        self.offset = 0
        self.head = b""
        self.live: dict[Connection, Subscription] = {}
        self.behind: set[Subscription] = set()
        self.recent: deque[Recent] = deque()
        self._recent_bytes = 0
        self.early: list[Entry] | None = []
        """Entries heard before the log's end was known; ``None`` once it is."""
        self.opening: asyncio.Task[None] | None = None
        self.checking: asyncio.Task[None] | None = None
        self.check_again = False
        self.heard = False
        """Whether anything was heard since the last look at the log."""
        self.reset_reason = ""
        self.snapshot: SnapshotAt | None = None
        self.flight: asyncio.Task[SnapshotAt] | None = None
        self.linger: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def position(self) -> Position:
        return Position(epoch=self.epoch, offset=self.offset)

    @property
    def unused(self) -> bool:
        return not self.live and not self.behind

    def subscriptions(self) -> Iterator[Subscription]:
        """Everybody who reads it; a copy, so that it may change meanwhile."""
        yield from [*self.live.values(), *self.behind]

    def start_at(self, position: Position) -> None:
        """Take another position, forgetting all that led to the one before."""
        self.epoch = position.epoch
        self.offset = position.offset
        self.head = codec.event_head(self.name, position.epoch)
        self.recent.clear()
        self._recent_bytes = 0
        self.snapshot = None

    def message(self, entry: Entry) -> Message:
        """The message that carries an entry of the log."""
        return Message.of_entry(entry, topic=self.name, head=self.head)

    def advance(self, entry: Entry) -> Message:
        """Take the next entry; return the message for those who are live."""
        message = self.message(entry)
        self.offset = entry.offset
        self.recent.append(Recent(entry.offset, entry.time, entry.body, message))
        self._recent_bytes += message.size
        while len(self.recent) > RECENT_EVENTS or (
            self._recent_bytes > RECENT_BYTES and len(self.recent) > 1
        ):
            self._recent_bytes -= self.recent.popleft().message.size
        count("hub.events")
        return message

    def prune(self, *, before: int) -> None:
        """Forget recent events from before a broker time, in microseconds."""
        while self.recent and self.recent[0].time < before:
            self._recent_bytes -= self.recent.popleft().message.size

    def after(self, position: Position) -> Sequence[Recent] | None:
        """All events after a position, if all of them are in memory."""
        if position.epoch != self.epoch or position.offset > self.offset:
            return None
        if position.offset == self.offset:
            return ()
        missing = self.offset - position.offset
        if missing > len(self.recent):
            return None
        return [event for event in self.recent if event.offset > position.offset]

    def covers(self, position: Position) -> bool:
        """Whether a reader at a position can be brought up to date from memory."""
        return position.epoch == self.epoch and (
            0 <= self.offset - position.offset <= len(self.recent)
        )


def latest_per_key(events: Sequence[Recent]) -> list[Recent]:
    """Of each key only the last event, in the order of the log; events without a key all stay."""
    latest: dict[str, int] = {}
    keys = [None if codec.is_binary(event.body) else _key(event) for event in events]
    for event, key in zip(events, keys, strict=True):
        if key is not None:
            latest[key] = event.offset
    return [
        event
        for event, key in zip(events, keys, strict=True)
        if key is None or latest[key] == event.offset
    ]


def _key(event: Recent) -> str | None:
    info = codec.read_body(event.body)
    if info.key is None or info.kind not in codec.KEYED_KINDS:
        return None
    return f"{info.kind}:{info.key}"
