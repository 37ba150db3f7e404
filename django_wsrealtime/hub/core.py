"""One hub per process and event loop: it follows topics once and serves all local connections.

The log is the truth, a ring is only a doorbell, and every trouble is the same case: *read the log
from a position*. A subscription is either live, and then gets each event in the turn in which it
is heard, or behind, and then :mod:`.catchup` reads the log for it until it is live. Joining,
resuming, lagging, a lost ring, a restarted store: all of them only put subscriptions behind.

Invariants, all within one event loop:

* every live subscription stands at its feed's position;
* a feed's position only moves to the next entry of its log, or by :meth:`_discontinue`, which puts
  everybody behind with a reset to be told;
* nothing is awaited on behalf of one reader while another waits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from ..brokers import get_broker
from ..brokers.base import Broker, Entry, Listener
from ..errors import BrokerUnavailable, ProtocolError
from ..instrumentation import count, logger
from ..protocol import signals
from ..protocol.frames import Id, Reset
from ..protocol.position import Order, Position, Start
from .catchup import CatchUp
from .feed import Feed, Source, Subscription
from .message import Message

CHECK_SECONDS = 10.0
"""Every topic that was silent for so long has its position compared with its log's."""
CHECK_BATCH = 500
"""Logs that are compared in one round trip."""
MAX_EARLY = 1_000
"""Entries that wait while a log is being opened."""
LINGER_SECONDS = 1.0
"""How long a topic that nobody reads is still followed."""
RETRY_SECONDS = 1.0
"""Pause before asking a store again that was away."""

T = TypeVar("T")


class Connection(Protocol):
    """What a hub needs of a transport's connection."""

    @property
    def sid(self) -> str: ...

    @property
    def lagging(self) -> bool:
        """Whether the reader is a window behind; then nothing more may be written to it."""

    def write(self, message: Message) -> bool:
        """Put a message out without waiting; ``False`` if the reader lags now.

        Must not call the hub back before it returns.
        """


SignalHandler = Callable[[str, "signals.Signal"], None]


class Hub:
    """Routes what a broker's listener hears to the connections of one event loop.

    Args:
        broker: where the logs are; by default the process's.
    """

    def __init__(self, broker: Broker | None = None) -> None:
        self.broker = broker or get_broker()
        self.listener: Listener = self.broker.listen(self)
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Feed] = {}
        self._connections: dict[Connection, dict[str, Subscription]] = {}
        self._handlers: dict[str, SignalHandler] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._catch_up = CatchUp(self)
        self.start(self._check_regularly())

    # --- faces for connections ---

    async def join(
        self,
        connection: Connection,
        source: Source,
        start: Start,
        *,
        id: Id | None = None,
        not_before: int = 0,
    ) -> bool:
        """Subscribe a connection to a topic and tell it so.

        While the store is away this waits; the connection stays open.

        Args:
            connection: who wants to read.
            source: the topic; whoever calls has asked whether this is allowed.
            start: where the reader stands; ``None``: it knows nothing yet.
            id: the request's, repeated in the answer.
            not_before: broker time, in microseconds, before which the reader may see nothing.

        Returns:
            ``False`` if the subscription was ended meanwhile; then the connection was told nothing.

        Raises:
            ProtocolError: the topic's snapshot failed.
        """
        self._drop(connection, source.name)
        feed = self._feed(source)
        subscription = Subscription(connection, feed)
        self._connections.setdefault(connection, {})[source.name] = subscription
        feed.behind.add(subscription)
        opening = feed.opening
        if opening is not None:
            await asyncio.shield(opening)
        if subscription.closed:
            return False
        await self._catch_up.greet(subscription, start, id=id, not_before=not_before)
        self._catch_up.begin(subscription)
        return not subscription.closed

    def leave(self, connection: Connection, topic: str) -> None:
        """End a connection's subscription; unknown ones are no error."""
        self._drop(connection, topic)

    def disconnect(self, connection: Connection) -> None:
        """End everything of a connection."""
        for topic in list(self._connections.get(connection, ())):
            self._drop(connection, topic)

    def resume(self, connection: Connection) -> None:
        """A connection no longer lags: bring it up to date."""
        for subscription in list(self._connections.get(connection, {}).values()):
            if subscription in subscription.feed.behind and subscription.joined:
                count("hub.resumed")
                self._catch_up.begin(subscription)

    def park(self, connection: Connection) -> None:
        """A connection lags: keep its positions and write nothing more to it."""
        count("hub.parked")
        for subscription in self._connections.get(connection, {}).values():
            feed = subscription.feed
            if feed.live.pop(connection, None) is not None:
                subscription.epoch, subscription.offset = feed.epoch, feed.offset
                feed.behind.add(subscription)

    def revoke(self, connection: Connection, topic: str) -> None:
        """End a subscription and tell the client to empty it, unless it has not even joined."""
        subscription = self._connections.get(connection, {}).get(topic)
        if subscription is None:
            return
        feed = subscription.feed
        self._drop(connection, topic)
        if not subscription.joined:
            return
        frame = Reset(topic=topic, epoch=feed.epoch, offset=feed.offset, reason="revoked")
        if not connection.write(Message.of(frame)):
            self.park(connection)

    def subscribed(self, connection: Connection) -> list[str]:
        """The topics a connection reads."""
        return list(self._connections.get(connection, ()))

    @property
    def connections(self) -> list[Connection]:
        """Every connection that reads anything."""
        return list(self._connections)

    def on(self, op: str, handler: SignalHandler) -> None:
        """Call ``handler(topic, signal)`` for each fleeting message of a kind."""
        self._handlers[op] = handler

    async def follow(self, topic: str) -> None:
        """Hear a topic's fleeting messages although nobody reads its log."""
        await self.patiently(lambda: self.listener.subscribe([topic]))

    def broadcast(self, topic: str, message: Message, *, but: str = "") -> None:
        """Write something fleeting to everybody who reads a topic and does not lag.

        Args:
            but: the id of a connection that is left out.
        """
        feed = self._feeds.get(topic)
        if feed is None:
            return
        for subscription in feed.subscriptions():
            connection = subscription.connection
            if not subscription.joined or connection.sid == but:
                continue
            if connection.lagging:
                count("whisper.dropped")
                continue
            if not connection.write(message):
                self.park(connection)

    async def aclose(self) -> None:
        """Stop following anything; ends every task."""
        self._closed = True
        for connection in list(self._connections):
            self.disconnect(connection)
        for feed in self._feeds.values():
            if feed.linger is not None:
                feed.linger.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.listener.aclose()
        if _hubs.get(self._loop) is self:
            del _hubs[self._loop]

    # --- feeds ---

    def _feed(self, source: Source) -> Feed:
        feed = self._feeds.get(source.name)
        if feed is None:
            feed = self._feeds[source.name] = Feed(source)
            feed.opening = self.start(self._open(feed))
        elif feed.linger is not None:
            feed.linger.cancel()
            feed.linger = None
        return feed

    async def _open(self, feed: Feed) -> None:
        """Listen first, then look where the log ends; what is heard meanwhile waits."""

        async def look() -> Position:
            await self.listener.subscribe([feed.name])
            page = await self.listener.read(feed.name, None, history=feed.source.history)
            return page.position

        try:
            position = await self.patiently(look)
        except BaseException:
            del self._feeds[feed.name]  # whoever asks next tries anew
            raise
        feed.start_at(position)
        early, feed.early = feed.early or [], None
        feed.opening = None
        for entry in early:
            self.on_entry(feed.name, entry)
        if feed.reset_reason:
            self.check(feed)
        self._let_go_later(feed)

    def _drop(self, connection: Connection, topic: str) -> None:
        subscriptions = self._connections.get(connection)
        subscription = subscriptions.pop(topic, None) if subscriptions is not None else None
        if subscription is None:
            return
        if not subscriptions:
            del self._connections[connection]
        subscription.closed = True
        if subscription.task is not None:
            subscription.task.cancel()
        feed = subscription.feed
        feed.behind.discard(subscription)
        feed.live.pop(connection, None)
        self._let_go_later(feed)

    def _let_go_later(self, feed: Feed) -> None:
        if feed.unused and feed.linger is None and not self._closed:
            feed.linger = self._loop.call_later(LINGER_SECONDS, self._let_go, feed)

    def _let_go(self, feed: Feed) -> None:
        feed.linger = None
        if feed.unused and self._feeds.get(feed.name) is feed and feed.opening is None:
            del self._feeds[feed.name]
            self.start(self._unsubscribe(feed.name))

    async def _unsubscribe(self, topic: str) -> None:
        await self.patiently(lambda: self.listener.unsubscribe([topic]))
        if topic in self._feeds:  # somebody came meanwhile: whichever was first, listen
            await self.patiently(lambda: self.listener.subscribe([topic]))
            self.check(self._feeds[topic])

    # --- what the listener hears ---

    def on_entry(self, topic: str, entry: Entry) -> None:
        """The log has grown (:class:`~..brokers.base.Handler`)."""
        feed = self._feeds.get(topic)
        if feed is None:
            return
        if feed.early is not None:
            if len(feed.early) < MAX_EARLY:  # what is left out becomes a gap, and that is healed
                feed.early.append(entry)
            return
        feed.heard = True
        order = feed.position.compare(epoch=entry.epoch, offset=entry.offset)
        if order is Order.NEXT:
            self._deliver(feed, entry)
        elif order is not Order.OLD:
            self.check(feed)

    def on_reset(self, topic: str, reason: str) -> None:
        """The log has a new epoch."""
        feed = self._feeds.get(topic)
        if feed is None:
            return
        feed.reset_reason = reason
        if feed.early is None:
            self.check(feed)

    def on_doubt(self, topics: Iterable[str] | None) -> None:
        """Rings may have been lost."""
        count("hub.doubts")
        names = self._feeds if topics is None else topics
        feeds = [feed for name in names if (feed := self._feeds.get(name)) is not None]
        self.start(self._compare(feeds))

    def on_signal(self, topic: str, payload: bytes) -> None:
        """Something fleeting was sent."""
        try:
            signal = signals.decode(payload)
        except ProtocolError as error:
            count("bus.rejected")
            logger.warning("A signal on the bus cannot be read: %s", error)
            return
        handler = self._handlers.get(signal.op)
        if handler is not None:
            handler(topic, signal)

    def _deliver(self, feed: Feed, entry: Entry) -> None:
        message = feed.advance(entry)
        lagging: list[Connection] | None = None
        for connection in feed.live:
            if not connection.write(message):
                if lagging is None:
                    lagging = []
                lagging.append(connection)
        if lagging is not None:
            for connection in lagging:
                self.park(connection)

    # --- doubts ---

    def check(self, feed: Feed) -> None:
        if feed.checking is not None:
            feed.check_again = True
            return
        feed.checking = self.start(self._read_on(feed))

    async def _read_on(self, feed: Feed) -> None:
        """Read a feed's log from its position, until that is the log's end."""
        try:
            while self._feeds.get(feed.name) is feed:
                feed.check_again = False
                page = await self.patiently(
                    lambda: self.listener.read(
                        feed.name, feed.position, history=feed.source.history
                    )
                )
                if page.recovered:
                    for entry in page.entries:
                        if feed.position.compare(epoch=entry.epoch, offset=entry.offset) is (
                            Order.NEXT
                        ):
                            count("hub.healed")
                            self._deliver(feed, entry)
                else:
                    self._discontinue(feed, page.position, feed.reset_reason or page.reason)
                if not feed.check_again:
                    feed.reset_reason = ""  # else it is of what the next page will tell
                    return
        finally:
            feed.checking = None

    def _discontinue(self, feed: Feed, position: Position, reason: str) -> None:
        """The log goes on elsewhere: everybody must be told before anything newer."""
        count(f"hub.reset.{reason}")
        feed.start_at(position)
        for subscription in feed.subscriptions():
            feed.live.pop(subscription.connection, None)
            feed.behind.add(subscription)
            if subscription.joined:
                subscription.reset = reason
                self._catch_up.begin(subscription)

    async def _check_regularly(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS * random.uniform(0.9, 1.1))
            try:
                await self._look_round()
            except Exception:
                # Whatever is wrong with one look, the next one may heal what was lost.
                count("hub.failed")
                logger.exception("Comparing topics with their logs failed.")

    async def _look_round(self) -> None:
        quiet = [
            feed
            for feed in self._feeds.values()
            if not feed.heard and feed.early is None and not feed.unused
        ]
        for feed in self._feeds.values():
            feed.heard = False
            self._prune(feed)
            for subscription in feed.behind:
                # Only those whose task failed have none and wait for nothing.
                if subscription.joined and not subscription.connection.lagging:
                    self._catch_up.begin(subscription)
        await self._compare(quiet)

    def _prune(self, feed: Feed) -> None:
        if feed.recent and not feed.behind:
            newest = feed.recent[-1].time
            feed.prune(before=newest - round(feed.source.history.ttl * 1e6))

    async def _compare(self, feeds: Sequence[Feed]) -> None:
        """Look whether feeds stand at the ends of their logs."""
        for start in range(0, len(feeds), CHECK_BATCH):
            batch = {
                feed.name: feed
                for feed in feeds[start : start + CHECK_BATCH]
                if feed.early is None and self._feeds.get(feed.name) is feed
            }
            histories = {name: feed.source.history for name, feed in batch.items()}
            try:
                heads = await self.listener.heads(histories)
            except BrokerUnavailable:
                return  # on_doubt() comes when the store is back
            for name, feed in batch.items():
                if heads.get(name) != feed.position:
                    self.check(feed)

    # --- tasks ---

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            count("hub.failed")
            logger.error("A task of the hub failed.", exc_info=error)

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store until it answers."""
        while True:
            try:
                return await ask()
            except BrokerUnavailable:
                count("hub.retries")
                await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def get_hub() -> Hub:
    """The running event loop's hub; made when it is first asked for."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None or hub.broker is not get_broker():
        hub = _hubs[loop] = Hub()
    return hub
