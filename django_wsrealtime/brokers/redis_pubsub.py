"""Hears the bells of one Redis server, on one connection that one task owns.

The task connects, subscribes to everything that is wanted, then reads; when the connection is lost
it begins again. What was subscribed is confirmed by a ``PING`` sent after it: the server answers in
order, so its ``pong`` means that every ``SUBSCRIBE`` before it is in force. The same pong, after a
reconnection, is the moment from which nothing is missed again: then the owner is told to doubt.

redis-py's own ``PubSub`` is not used: several tasks that subscribe while it connects break it, and
it tells nobody when it has reconnected.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import BrokerUnavailable
from ..instrumentation import count, logger
from .redis_hosts import BUDGET, AsyncHost
from .redis_link import PROBLEMS, Links
from .tasks import end

PING_EVERY = 3.0
"""Seconds; a connection that was silent for three of them is dead, for the server answers pings."""
SILENT_PINGS = 3
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between two attempts to connect."""
AT_ONCE = 1_000
"""Channels in one ``SUBSCRIBE``."""
BREATH = 64
"""Rings after which other tasks of the loop have their turn."""


class Bell:
    """A connection that hears channels, for as long as :meth:`aclose` is not called.

    Args:
        links: prefix and breaker are shared with them.
        host: how this loop connects.
        hear: called with a topic and what rang, in the loop; must not block.
        doubt: called after an interruption, once everything is subscribed again.
    """

    def __init__(
        self,
        links: Links,
        host: AsyncHost,
        hear: Callable[[str, bytes], None],
        doubt: Callable[[], None],
    ) -> None:
        self._links = links
        self._host = host
        self._hear = hear
        self._doubt = doubt
        self._channels = f"{links.prefix}bell:".encode()
        self._wanted: set[bytes] = set()
        self._connection: Any = None
        self._writing = asyncio.Lock()
        self._pings = 0
        self._awaited: dict[bytes, asyncio.Future[None]] = {}
        self._heard = False
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"bell {links.prefix}")

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Hear of these topics; returns when that is in force.

        Raises:
            BrokerUnavailable: it is not; none of those that were not heard before will be.
        """
        channels = [self._channels + topic.encode() for topic in topics]
        if not channels:
            return
        if self._connection is None:
            self._links.breaker.check()
        new = [channel for channel in channels if channel not in self._wanted]
        self._wanted.update(new)
        try:
            await asyncio.wait_for(self._subscribe(channels), BUDGET)
        except asyncio.TimeoutError:
            self._wanted.difference_update(new)
            count("bus.failed")
            raise BrokerUnavailable(
                f"{self._links.host.name} did not confirm a subscription within {BUDGET} s."
            ) from None
        except BaseException:
            self._wanted.difference_update(new)
            raise

    async def unsubscribe(self, topics: Iterable[str]) -> None:
        """Hear of these topics no longer."""
        channels = [self._channels + topic.encode() for topic in topics]
        self._wanted.difference_update(channels)
        await self._send([(b"UNSUBSCRIBE", *some) for some in _portions(channels)])

    async def aclose(self) -> None:
        """End the task and close the connection."""
        await end(self._task)
        for future in self._awaited.values():
            future.cancel()
        self._awaited.clear()

    # --- asking ---

    async def _subscribe(self, channels: Sequence[bytes]) -> None:
        name, confirmed = self._expect_pong()
        commands = [(b"SUBSCRIBE", *some) for some in _portions(channels)]
        # Without a connection the next one subscribes to all that is wanted and then confirms
        # whatever waits.
        try:
            await self._send([*commands, (b"PING", name)])
            await confirmed
        finally:
            self._awaited.pop(name, None)

    def _expect_pong(self) -> tuple[bytes, asyncio.Future[None]]:
        self._pings += 1
        name = b"%d" % self._pings
        future = self._awaited[name] = asyncio.get_running_loop().create_future()
        return name, future

    async def _send(self, commands: Sequence[tuple[bytes, ...]]) -> None:
        connection = self._connection
        if connection is None or not commands:
            return
        try:
            await asyncio.wait_for(self._write(connection, commands), BUDGET)
        except (*PROBLEMS, asyncio.TimeoutError) as error:
            # Whoever failed to write has closed the connection; the task sees it.
            logger.debug("A bell's connection is broken: %s", error)

    async def _write(self, connection: Any, commands: Sequence[tuple[bytes, ...]]) -> None:
        async with self._writing:
            # redis-py would silently connect again, without the subscriptions.
            if connection.is_connected:
                packed = connection.pack_commands(commands)
                await connection.send_packed_command(packed, check_health=False)

    # --- the task ---

    async def _run(self) -> None:
        pause, interrupted = FIRST_PAUSE, False
        while True:
            try:
                connection = await self._connect()
            except (*PROBLEMS, asyncio.TimeoutError) as error:
                interrupted = True
                self._links.breaker.trip(error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self._connection, self._writing = connection, asyncio.Lock()
            try:
                await self._use(connection, interrupted=interrupted)
            finally:
                self._connection = None
                await connection.disconnect(nowait=True)
            count("bus.interrupted")
            interrupted, pause = True, FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.1, 1.0))

    async def _connect(self) -> Any:
        connection = self._host.connection()
        try:
            await asyncio.wait_for(connection.connect(), BUDGET)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _use(self, connection: Any, *, interrupted: bool) -> None:
        """Listen until the connection is lost or silent."""
        loop = asyncio.get_running_loop()
        listening = loop.create_task(self._listen(connection, interrupted=interrupted))
        pinging = loop.create_task(self._ping(connection))
        try:
            await asyncio.wait({listening, pinging}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A closed transport wakes its reader only once its buffer is written, which in a black
            # hole is never; so the reader is cancelled.
            errors = await end(listening, pinging)
        for error in errors:
            if error is not None:
                logger.warning("Lost the bell of %s: %s", self._links.host.name, error)

    async def _listen(self, connection: Any, *, interrupted: bool) -> None:
        waiting = list(self._awaited.values())
        name, caught_up = self._expect_pong()
        # A channel of its own keeps the connection in subscribed mode, in which pongs are told
        # from other answers.
        channels = [self._channels, *self._wanted]
        commands = [(b"SUBSCRIBE", *some) for some in _portions(channels)]
        await self._send([*commands, (b"PING", name)])
        rings = 0
        while True:
            message = await connection.read_response()
            self._heard = True
            kind = message[0]
            if kind == b"message":
                self._ring(message[1], message[2])
                rings += 1
                if rings % BREATH == 0:
                    await asyncio.sleep(0)
            elif kind == b"pong":
                future = self._awaited.pop(message[1], None)
                if future is not None:
                    _resolve(future)
                if future is caught_up:
                    for one in waiting:
                        _resolve(one)
                    if interrupted:
                        # Whoever doubts asks the logs, so those must be allowed to be asked.
                        self._links.breaker.when_closed(self._doubt_soon)

    def _ring(self, channel: bytes, payload: bytes) -> None:
        if channel not in self._wanted:
            return
        try:
            self._hear(channel[len(self._channels) :].decode(), payload)
        except Exception:
            count("bus.handler_failed")
            logger.exception("What listens to a broker failed; its topics are looked at again.")
            self._tell_doubt()

    def _doubt_soon(self) -> None:
        """Called in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_doubt)

    def _tell_doubt(self) -> None:
        if self._task.done():
            return
        try:
            self._doubt()
        except Exception:
            count("bus.handler_failed")
            logger.exception("What listens to a broker failed while it was told to doubt.")

    async def _ping(self, connection: Any) -> None:
        """Ping until the server has been silent for too long, or is not the master any more."""
        silent = 0
        while silent < SILENT_PINGS:
            self._heard = False
            await self._send([(b"PING", b"")])
            await asyncio.sleep(PING_EVERY)
            # Counted in turns, not in time: a loop that stood still has not listened either.
            silent = 0 if self._heard else silent + 1
            if await self._has_moved(connection):
                self._links.moved()
                raise BrokerUnavailable("another server has taken over")
        count("bus.silent")
        raise BrokerUnavailable(f"it was silent for {PING_EVERY * SILENT_PINGS:g} s")

    async def _has_moved(self, connection: Any) -> bool:
        try:
            return await asyncio.wait_for(self._host.has_moved(connection), BUDGET)
        except (*PROBLEMS, asyncio.TimeoutError) as error:
            logger.debug("No sentinel of %s answers: %s", self._links.host.name, error)
            return False


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _portions(channels: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (channels[start : start + AT_ONCE] for start in range(0, len(channels), AT_ONCE))
