"""Hears what rings over a channel layer, and numbers it.

Each topic that is listened to has an epoch and a count of its own here. See ``channel_layer`` for
what that is worth.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import BrokerUnavailable
from ..instrumentation import count, logger
from ..protocol.position import Position, Start
from .base import Entry, Handler, History, Listener, Page
from .seal import Kind
from .tasks import end

if TYPE_CHECKING:
    from .channel_layer import ChannelLayerBroker

BUDGET = 0.8
"""Seconds that a subscription may take."""
ECHO_EVERY = 0.1
"""Seconds between two attempts to hear oneself in a topic."""
MAX_PUBLISHERS = 64
"""Publishers of one topic whose numbers are watched."""
MAX_ROWS = 10_000
"""Rows whose newest ticket a listener remembers."""
GROUP_RENEWAL = 3_600.0
"""Seconds; layers forget who is in a group unless told again (channels_redis: after a day)."""
LONGEST_PAUSE = 1.0


class Ring(msgspec.Struct, frozen=True, array_like=True):
    """What is sent to a topic's group, sealed.

    Args:
        body: of the event, the signal, or the reason of a reset.
        publisher: the random name of a process that numbers what it sends to this topic.
        number: rises by one per publisher and topic.
        row: names the row that the event is of.
        ticket: of that row's change; ``None`` if it was created.
    """

    body: bytes
    publisher: str = ""
    number: int = 0
    row: str | None = None
    ticket: int | None = None


_decode = msgspec.msgpack.Decoder(Ring).decode


@dataclass(slots=True)
class _Topic:
    """What was heard of a topic since it is listened to."""

    epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    offset: int = 0
    time: int = 0
    numbers: OrderedDict[str, int] = field(default_factory=OrderedDict)

    @property
    def position(self) -> Position:
        return Position(epoch=self.epoch, offset=self.offset)

    def begin(self) -> None:
        """What was said before does not hold."""
        self.epoch, self.offset = secrets.token_hex(8), 0

    def follows(self, ring: Ring) -> bool:
        """Whether nothing is missing between this ring and its publisher's last one."""
        before = self.numbers.get(ring.publisher)
        self.numbers[ring.publisher] = ring.number
        self.numbers.move_to_end(ring.publisher)
        if len(self.numbers) > MAX_PUBLISHERS:
            self.numbers.popitem(last=False)
        return before is None or ring.number == before + 1


class ChannelListener(Listener):
    """One channel that is a member of the groups of all topics listened to.

    Args:
        broker: whose layer.
        handler: is told what is heard.
    """

    def __init__(self, broker: ChannelLayerBroker, handler: Handler) -> None:
        self._broker = broker
        self._layer: Any = broker.layer
        self._handler = handler
        self._topics: dict[str, _Topic] = {}
        self._rows: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._echoes: dict[bytes, asyncio.Future[None]] = {}
        self._channel = ""
        loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._tasks = (
            loop.create_task(self._run(), name="wsrealtime channel"),
            loop.create_task(self._renew(), name="wsrealtime groups"),
        )

    async def subscribe(self, topics: Sequence[str]) -> None:
        if not topics:
            return
        self._broker.breaker.check()
        new = [topic for topic in topics if topic not in self._topics]
        for topic in new:
            self._topics[topic] = _Topic()
        try:
            await asyncio.wait_for(self._join(topics), BUDGET)
        except BaseException as error:
            for topic in new:
                self._topics.pop(topic, None)
            if isinstance(error, Exception):
                # Every layer raises exceptions of its own.
                self._broker.breaker.trip(error)
                raise BrokerUnavailable(
                    f"{type(self._layer).__name__} did not confirm a subscription: {error!r}"
                ) from error
            raise

    async def _join(self, topics: Sequence[str]) -> None:
        await self._ready.wait()
        for topic in topics:
            await self._layer.group_add(self._broker.group(topic), self._channel)
        await asyncio.gather(*(self._hear_oneself(topic) for topic in topics))

    async def _hear_oneself(self, topic: str) -> None:
        """Ring until it is heard: a layer does not say when a channel is in its group."""
        name = secrets.token_bytes(8)
        message = self._broker.message(topic, Kind.ECHO, Ring(body=name))
        echo = self._echoes[name] = asyncio.get_running_loop().create_future()
        try:
            while not echo.done():
                await self._layer.group_send(self._broker.group(topic), message)
                await asyncio.wait({echo}, timeout=ECHO_EVERY)
        finally:
            del self._echoes[name]

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        for topic in topics:
            if self._topics.pop(topic, None) is not None and self._channel:
                await self._discard(topic, self._channel)

    async def _discard(self, topic: str, channel: str) -> None:
        try:
            await self._layer.group_discard(self._broker.group(topic), channel)
        except Exception as error:  # noqa: BLE001  every layer raises exceptions of its own
            # What still comes from that group is ignored, and the layer forgets the member.
            logger.debug("Leaving a group failed: %r", error)

    async def read(self, topic: str, start: Start, *, history: History) -> Page:
        known = self._topics.get(topic) or _Topic()
        if start is None or start == known.position:
            return Page(position=known.position)
        foreign = isinstance(start, Position) and start.epoch != known.epoch
        reason = "epoch" if foreign else "trimmed"
        return Page(position=known.position, recovered=False, reason=reason)

    async def heads(self, topics: Mapping[str, History]) -> Mapping[str, Position]:
        return {topic: self._topics[topic].position for topic in topics if topic in self._topics}

    async def signal(self, topic: str, payload: bytes) -> None:
        self._broker.breaker.check()
        message = self._broker.message(topic, Kind.SIGNAL, Ring(body=payload))
        sending = self._layer.group_send(self._broker.group(topic), message)
        try:
            await asyncio.wait_for(sending, BUDGET)
        except Exception as error:
            # Every layer raises exceptions of its own.
            self._broker.breaker.trip(error)
            raise BrokerUnavailable(
                f"{type(self._layer).__name__} did not send: {error!r}"
            ) from error

    async def aclose(self) -> None:
        await end(*self._tasks)
        topics, self._topics = self._topics, {}
        if self._channel:
            for topic in topics:
                await self._discard(topic, self._channel)

    # --- the tasks ---

    async def _run(self) -> None:
        pause, interrupted = 0.05, False
        while True:
            try:
                await self._listen(interrupted=interrupted)
            except Exception as error:  # noqa: BLE001  every layer raises exceptions of its own
                count("bus.interrupted")
                logger.warning("Lost the channel layer: %r", error)
            self._ready.clear()
            interrupted = True
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _listen(self, *, interrupted: bool) -> None:
        self._channel = await self._layer.new_channel()
        for topic in list(self._topics):
            await self._layer.group_add(self._broker.group(topic), self._channel)
        self._ready.set()
        if interrupted:
            self._begin_anew()
        while True:
            message = await self._layer.receive(self._channel)
            try:
                self._hear(message)
            except Exception:
                count("bus.handler_failed")
                logger.exception("What listens to a broker failed; its topics begin anew.")
                self._begin_anew()

    def _begin_anew(self) -> None:
        for known in self._topics.values():
            known.begin()
        if self._topics:
            self._handler.on_doubt(None)

    async def _renew(self) -> None:
        expiry = getattr(self._layer, "group_expiry", None) or 4 * GROUP_RENEWAL
        while True:
            await asyncio.sleep(min(GROUP_RENEWAL, expiry / 4))
            for topic in list(self._topics):
                try:
                    await self._layer.group_add(self._broker.group(topic), self._channel)
                except Exception as error:  # noqa: BLE001  every layer raises its own
                    count("bus.failed")
                    logger.warning("Staying in a topic's group failed: %r", error)
                    break

    # --- what is heard ---

    def _hear(self, message: Mapping[str, Any]) -> None:
        topic, raw = message.get("topic"), message.get("ring")
        if not isinstance(topic, str) or not isinstance(raw, bytes):
            return
        known = self._topics.get(topic)
        if known is None:
            return
        kind = raw[:1]
        data = self._broker.seal.open(kind, topic, raw[1:])
        if data is None:
            return
        ring = _decode(data)
        if kind == Kind.ECHO:
            echo = self._echoes.get(ring.body)
            if echo is not None and not echo.done():
                echo.set_result(None)
        elif kind == Kind.SIGNAL:
            self._handler.on_signal(topic, ring.body)
        elif not known.follows(ring):
            count("bus.gap")
            self._begin(topic, known, "lost")
            if kind == Kind.ENTRY:
                self._tell(topic, known, ring)
        elif kind == Kind.RESET:
            self._begin(topic, known, ring.body.decode())
        else:
            self._tell(topic, known, ring)

    def _begin(self, topic: str, known: _Topic, reason: str) -> None:
        known.begin()
        self._handler.on_reset(topic, reason)

    def _tell(self, topic: str, known: _Topic, ring: Ring) -> None:
        if ring.row is not None and self._is_late(topic, ring.row, ring.ticket):
            count("bus.late")
            return
        known.offset += 1
        known.time = max(known.time, time.time_ns() // 1_000)
        self._handler.on_entry(
            topic,
            Entry(epoch=known.epoch, offset=known.offset, time=known.time, body=ring.body),
        )

    def _is_late(self, topic: str, row: str, ticket: int | None) -> bool:
        newest = self._rows.get((topic, row))
        if newest is not None and (ticket is None or newest > ticket):
            return True
        self._rows[topic, row] = ticket or 0
        self._rows.move_to_end((topic, row))
        if len(self._rows) > MAX_ROWS:
            self._rows.popitem(last=False)
        return False
