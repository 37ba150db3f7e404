"""Bring readers that are behind up to date, from memory, from the log, or with a snapshot.

A subscription is greeted once (``subscribed``), then brought up to its feed's position; from there
it is live. Whatever puts it behind later, it comes back the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Raw

from ..errors import ErrorCode, ProtocolError
from ..instrumentation import count
from ..protocol import codec
from ..protocol.frames import Id, Reset, Snapshot, Subscribed
from ..protocol.position import Position, Since, Start
from .feed import Feed, Recent, SnapshotAt, Subscription, latest_per_key
from .message import Message

if TYPE_CHECKING:
    from .core import Hub

SNAPSHOTS_AT_ONCE = 8
SNAPSHOT_SECONDS = 2.0
"""How long a snapshot serves the crowd that a reset sends for it."""
EVENTS_PER_FRAME = 65_536
"""Bytes of replayed events in one frame."""
REFETCH_SPREAD = 10
"""Milliseconds per reader over which those are spread who must refetch after a reset."""
REFETCH_MOST = 20_000


class CatchUp:
    """What a hub does for subscriptions that are behind.

    Args:
        hub: whose subscriptions.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._snapshots = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)

    def begin(self, subscription: Subscription) -> None:
        """Bring a subscription up to its feed's position, unless that is under way."""
        if subscription.task is None and not subscription.closed:
            subscription.task = self._hub.start(self._bring_up(subscription))

    async def _bring_up(self, subscription: Subscription) -> None:
        """Write what a subscription misses until it is live, or lags."""
        feed, connection = subscription.feed, subscription.connection
        try:
            while not subscription.closed and not connection.lagging:
                if subscription.reset or (
                    subscription.epoch != feed.epoch and not await self._same_epoch(subscription)
                ):
                    await self._tell_reset(subscription, subscription.reset or "epoch")
                elif subscription.chunks:
                    connection.write(subscription.chunks.popleft())
                elif subscription.offset == feed.offset:
                    feed.behind.discard(subscription)
                    feed.live[connection] = subscription
                    return
                elif subscription.offset > feed.offset:
                    await self._wait_for_check(feed)
                else:
                    await self._replay(subscription)
        finally:
            subscription.task = None

    async def _same_epoch(self, subscription: Subscription) -> bool:
        """Whether the reader is ahead of a feed that has not yet heard of a new epoch."""
        await self._wait_for_check(subscription.feed)
        return subscription.epoch == subscription.feed.epoch

    async def _wait_for_check(self, feed: Feed) -> None:
        self._hub.check(feed)
        if feed.checking is not None:
            await asyncio.shield(feed.checking)

    async def _replay(self, subscription: Subscription) -> None:
        feed = subscription.feed
        events = feed.after(subscription.position)
        if events is None:
            position = subscription.position
            page = await self._hub.patiently(
                lambda: self._hub.listener.read(feed.name, position, history=feed.source.history)
            )
            if subscription.closed or subscription.reset:
                return
            if not page.recovered:
                subscription.reset = "lagging" if page.reason == "trimmed" else page.reason
                return
            events = [
                Recent(entry.offset, entry.time, entry.body, feed.message(entry))
                for entry in page.entries
            ]
        if len(events) > 1 and _may_conflate(feed, events):
            self._write_latest(subscription, events)
            return
        for event in events:
            subscription.offset = event.offset
            if not subscription.connection.write(event.message):
                return

    def _write_latest(self, subscription: Subscription, events: Sequence[Recent]) -> None:
        """A keyed topic's reader needs only the last event of each key, as one frame."""
        feed = subscription.feed
        latest = latest_per_key(events)
        subscription.offset = events[-1].offset
        count("hub.conflated", len(events) - len(latest))
        frame = Subscribed(
            topic=feed.name,
            epoch=subscription.epoch,
            offset=subscription.offset,
            recovered=True,
            events=[Raw(event.message.data) for event in latest],
        )
        subscription.connection.write(Message.of(frame))

    async def _tell_reset(self, subscription: Subscription, reason: str) -> None:
        feed = subscription.feed
        subscription.chunks.clear()
        snapshot = await self._snapshot_or_none(feed)
        if subscription.closed:
            return
        if snapshot is not None:
            message = snapshot.reset(feed.name, reason)
            position = snapshot.position
            subscription.chunks.extend(snapshot.rest)
        else:
            position = feed.position
            readers = len(feed.live) + len(feed.behind)
            frame = Reset(
                topic=feed.name,
                epoch=position.epoch,
                offset=position.offset,
                reason=reason,
                after=min(REFETCH_MOST, readers * REFETCH_SPREAD),
            )
            message = Message.of(frame)
        subscription.reset = ""
        subscription.epoch, subscription.offset = position.epoch, position.offset
        subscription.connection.write(message)

    # --- joining ---

    async def greet(
        self, subscription: Subscription, start: Start, *, id: Id | None, not_before: int
    ) -> None:
        """Answer a subscribe: everything after ``start``, or the starting state."""
        feed = subscription.feed
        if start is not None:
            events = await self._after(subscription, start, not_before=not_before)
            if subscription.closed:
                return
            if events is not None:
                self._say_recovered(subscription, events, id)
                return
        recovered = None if start is None else False
        if feed.source.has_snapshot:
            snapshot = await self._snapshot(feed, crowd=start is not None)
            if subscription.closed:
                return
            position = snapshot.position
            subscription.chunks.extend(snapshot.rest)
            first, more = Raw(snapshot.chunks[0]), len(snapshot.chunks) > 1
        else:
            position, first, more = feed.position, None, False
        frame = Subscribed(
            topic=feed.name,
            epoch=position.epoch,
            offset=position.offset,
            id=id,
            recovered=recovered,
            snapshot=first,
            more=more,
        )
        self._greeted(subscription, position, frame)

    async def _after(
        self, subscription: Subscription, start: Position | Since, *, not_before: int
    ) -> Sequence[Recent] | None:
        """The events after ``start``; ``None`` if they cannot be had, or may not be read."""
        feed = subscription.feed
        if isinstance(start, Since):
            start = Since(time=max(start.time, not_before))
        elif (known := feed.after(start)) is not None:
            if known and known[0].time < not_before:
                return None
            subscription.epoch, subscription.offset = start.epoch, start.offset
            return known
        page = await self._hub.patiently(
            lambda: self._hub.listener.read(feed.name, start, history=feed.source.history)
        )
        if not page.recovered:
            if page.position.epoch != feed.epoch:
                await self._wait_for_check(feed)
            return None
        if page.entries and page.entries[0].time < not_before:
            return None
        head = codec.event_head(feed.name, page.position.epoch)
        events = [
            Recent(
                entry.offset,
                entry.time,
                entry.body,
                Message.of_entry(entry, topic=feed.name, head=head),
            )
            for entry in page.entries
        ]
        subscription.epoch = page.position.epoch
        subscription.offset = page.entries[0].offset - 1 if page.entries else page.position.offset
        return events

    def _say_recovered(
        self, subscription: Subscription, events: Sequence[Recent], id: Id | None
    ) -> None:
        feed = subscription.feed
        end = events[-1].offset if events else subscription.offset
        texts: list[Raw] = []
        if _may_conflate(feed, events):
            texts = [Raw(event.message.data) for event in latest_per_key(events)]
        else:
            size = 0
            for event in events:
                size += event.message.size
                if event.message.binary or (texts and size > EVENTS_PER_FRAME):
                    end = event.offset - 1  # the others follow as frames of their own
                    break
                texts.append(Raw(event.message.data))
        frame = Subscribed(
            topic=feed.name,
            epoch=subscription.epoch,
            offset=end,
            id=id,
            recovered=True,
            events=texts or None,
        )
        self._greeted(subscription, Position(epoch=subscription.epoch, offset=end), frame)

    def _greeted(self, subscription: Subscription, position: Position, frame: Subscribed) -> None:
        subscription.epoch, subscription.offset = position.epoch, position.offset
        subscription.joined = True
        subscription.reset = ""
        subscription.connection.write(Message.of(frame))

    # --- snapshots ---

    async def _snapshot_or_none(self, feed: Feed) -> SnapshotAt | None:
        """For a reset, which has to be told even if the application cannot give a state."""
        if not feed.source.has_snapshot:
            return None
        try:
            return await self._snapshot(feed, crowd=True)
        except ProtocolError:
            return None

    async def _snapshot(self, feed: Feed, *, crowd: bool) -> SnapshotAt:
        """The topic's state; computed once for all who ask at the same time.

        Args:
            crowd: a recent one will do, because a reset sent many for it at once; what has
                happened since is replayed to them.
        """
        ready = feed.snapshot
        if (
            crowd
            and ready is not None
            and self._loop.time() - ready.made < SNAPSHOT_SECONDS
            and feed.covers(ready.position)
        ):
            return ready
        if feed.flight is None:
            feed.flight = self._hub.start(self._make_snapshot(feed))
        try:
            return await asyncio.shield(feed.flight)
        except Exception as error:
            raise ProtocolError(
                ErrorCode.INTERNAL,
                "The topic's snapshot failed; the server's log says why.",
                topic=feed.name,
            ) from error

    async def _make_snapshot(self, feed: Feed) -> SnapshotAt:
        try:
            async with self._snapshots:
                count("hub.snapshots")
                # The position is taken first: what happens while the state is read comes again.
                position = feed.position
                made = self._loop.time()
                chunks = await feed.source.make_snapshot()
        finally:
            feed.flight = None
        rest = [
            Message.of(Snapshot(topic=feed.name, items=Raw(chunk), more=number < len(chunks) - 1))
            for number, chunk in enumerate(chunks[1:], start=1)
        ]
        feed.snapshot = SnapshotAt(position=position, chunks=chunks, made=made, rest=rest)
        return feed.snapshot


def _may_conflate(feed: Feed, events: Sequence[Recent]) -> bool:
    """Whether the last event of each key will do, as one frame; bytes do not fit into one."""
    return feed.source.keyed and not any(event.message.binary for event in events)
