"""What a hub uses of Redis, in the event loop that made it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import BrokerUnavailable, ConfigurationError
from ..instrumentation import logger
from ..protocol.position import Position, Start
from . import redis_scripts
from .base import Attendance, Handler, History, Listener, Page
from .redis_async import AsyncLinks
from .redis_hosts import AsyncHost
from .redis_pubsub import Bell
from .seal import Kind
from .tasks import end

if TYPE_CHECKING:
    from .redis import RedisBroker

COMPARE_CLOCKS_EVERY = 20.0
"""Seconds; less than the age from which a request would have to wait for it."""


class RedisListener(Listener):
    """Hears the servers' bells and asks their logs.

    Args:
        broker: whose servers, seal, breakers and clocks it shares.
        handler: is told what is heard.
    """

    def __init__(self, broker: RedisBroker, handler: Handler) -> None:
        self._layout = broker.layout
        self._seal = broker.seal
        self._handler = handler
        self._hosts = [AsyncHost(host) for host in broker.layout.hosts]
        servers = list(zip(broker.links, self._hosts, strict=True))
        self._links = [AsyncLinks(links, host) for links, host in servers]
        self._bells = [
            Bell(links, host, self._hear, lambda: handler.on_doubt(None)) for links, host in servers
        ]
        self._clock_keeper = asyncio.get_running_loop().create_task(
            self._keep_clocks(), name="wsrealtime clocks"
        )

    async def subscribe(self, topics: Sequence[str]) -> None:
        servers = self._by_server(topics)
        answers = await asyncio.gather(
            *(self._bells[index].subscribe(some) for index, some in servers.items()),
            return_exceptions=True,
        )
        errors = [answer for answer in answers if answer is not None]
        if errors:
            # All of them or none: who is told of a failure listens to nothing of it.
            for answer, (index, some) in zip(answers, servers.items(), strict=True):
                if answer is None:
                    await self._bells[index].unsubscribe(some)
            raise errors[0]

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        await asyncio.gather(
            *(
                self._bells[index].unsubscribe(some)
                for index, some in self._by_server(topics).items()
            )
        )

    async def read(self, topic: str, start: Start, *, history: History) -> Page:
        arguments = redis_scripts.read_arguments(topic, start, history)
        answer = await self._links_of(topic).run("read", arguments)
        return redis_scripts.page(self._seal, topic, answer)

    async def heads(self, topics: Mapping[str, History]) -> Mapping[str, Position]:
        portions = [
            (self._links[index], some, arguments)
            for index, names in self._by_server(list(topics)).items()
            for some, arguments in redis_scripts.heads_arguments(
                {name: topics[name] for name in names}
            )
        ]
        answers = await asyncio.gather(
            *(links.run("heads", arguments) for links, _, arguments in portions)
        )
        found: dict[str, Position] = {}
        for (_, some, _), answer in zip(portions, answers, strict=True):
            found.update(redis_scripts.heads(some, answer))
        return found

    async def signal(self, topic: str, payload: bytes) -> None:
        links = self._links_of(topic)
        sealed = self._seal.close(Kind.SIGNAL, topic, payload)
        await links.command("PUBLISH", f"{links.links.prefix}bell:{topic}", b"S" + sealed)

    async def present(self, topic: str) -> Sequence[Attendance]:
        answer = await self._links_of(topic).run("present", (topic,))
        return redis_scripts.attendances(self._seal, topic, answer)

    async def attend(self, topic: str, attendance: Sequence[Attendance], *, ttl: float) -> None:
        if attendance:
            arguments = redis_scripts.attend_arguments(self._seal, topic, attendance, ttl)
            await self._links_of(topic).run("attend", arguments)

    async def leave(self, topic: str, sids: Sequence[str]) -> None:
        if sids:
            links = self._links_of(topic)
            await links.command("HDEL", f"{links.links.prefix}present:{topic}", *sids)

    async def claim(self, name: str, value: str, *, ttl: float) -> str:
        arguments = redis_scripts.claim_arguments(self._seal, name, value, ttl)
        answer = await self._links_of(name).run("claim", arguments)
        return redis_scripts.claimed(self._seal, name, answer, value)

    async def aclose(self) -> None:
        await end(self._clock_keeper)
        await asyncio.gather(*(bell.aclose() for bell in self._bells))
        await asyncio.gather(*(links.close() for links in self._links))
        await asyncio.gather(*(host.aclose() for host in self._hosts))

    # --- inside ---

    def _links_of(self, name: str) -> AsyncLinks:
        return self._links[self._layout.index(name)]

    def _by_server(self, names: Sequence[str]) -> dict[int, list[str]]:
        servers: dict[int, list[str]] = defaultdict(list)
        for name in names:
            servers[self._layout.index(name)].append(name)
        return servers

    def _hear(self, topic: str, payload: bytes) -> None:
        kind, rest = payload[:1], payload[1:]
        if kind == b"E":
            self._hear_entry(topic, rest)
        elif kind == b"S":
            signal = self._seal.open(Kind.SIGNAL, topic, rest)
            if signal is not None:
                self._handler.on_signal(topic, signal)
        elif kind == b"R":
            reason = self._seal.open(Kind.RESET, topic, rest)
            if reason is not None:
                self._handler.on_reset(topic, reason.decode())
        else:
            self._seal.reject(topic)

    def _hear_entry(self, topic: str, rung: bytes) -> None:
        epoch, _, rest = rung.partition(b":")
        offset, _, stamped = rest.partition(b":")
        if not (offset.isdigit() and epoch.isalnum()):
            self._seal.reject(topic)
            return
        entry = redis_scripts.entry(self._seal, topic, epoch.decode(), int(offset), stamped)
        if entry is not None:
            self._handler.on_entry(topic, entry)

    async def _keep_clocks(self) -> None:
        """Compare clocks now and then, so that no request has to."""
        while True:
            for links in self._links:
                try:
                    await links.compare_clocks()
                except BrokerUnavailable as error:
                    logger.debug("The clocks could not be compared: %s", error)
                except ConfigurationError:
                    logger.exception("The servers of the channel layer cannot be used.")
            await asyncio.sleep(COMPARE_CLOCKS_EVERY)
