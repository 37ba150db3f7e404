"""The broker of many processes and machines: logs in Redis.

This module is the face that publishers use. What happens to a log is written in ``brokers/lua``;
``redis_append`` spells commands for it, ``redis_link`` keeps the connections of threads,
``redis_listener`` those of event loops, ``redis_hosts`` reads the settings, ``seal`` signs.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from django.core.checks import CheckMessage

from ..errors import BrokerUnavailable
from ..instrumentation import logger
from ..protocol.position import Since, Start
from . import redis_checks, redis_scripts
from .base import (
    Attendance,
    Broker,
    Capabilities,
    Command,
    Entry,
    Handler,
    History,
    Listener,
    Page,
    Result,
)
from .redis_append import Appender
from .redis_clock import FRESH, Clock
from .redis_hosts import BUDGET, read_layout
from .redis_link import Links
from .redis_listener import RedisListener
from .seal import Kind, Seal


class RedisBroker(Broker):
    """Logs in Redis, on the servers that the channel layer's settings name.

    Args:
        hosts: as in channels_redis; default: those of the channel layer.
        deployment: part of every key; default: ``WSREALTIME["DEPLOYMENT"]``, else the layer's
            ``prefix``.
        encryption_keys: as channels_redis' ``symmetric_encryption_keys``; default: the layer's.

    Raises:
        ConfigurationError: the settings name no usable servers.
    """

    capabilities = Capabilities(history=True, cluster=True, presence=True, idempotency=True)

    def __init__(
        self,
        *,
        hosts: Sequence[Any] | None = None,
        deployment: str | None = None,
        encryption_keys: Sequence[str | bytes] | None = None,
    ) -> None:
        self.layout = read_layout(
            hosts=hosts, deployment=deployment, encryption_keys=encryption_keys
        )
        self.seal = Seal(
            deployment=self.layout.deployment, encryption_keys=self.layout.encryption_keys
        )
        self.links = [Links(self.layout, host, Clock()) for host in self.layout.hosts]
        self._appender = Appender(self.layout, self.links, self.seal)
        self._comparing = threading.Lock()
        _brokers.add(self)

    def links_of(self, name: str) -> Links:
        """The connections to the server that keeps a topic or another name."""
        return self.links[self.layout.index(name)]

    # --- publishers ---

    def append(self, commands: Sequence[Command]) -> list[Result]:
        return self._appender.append(commands)

    def ticket(self) -> int:
        # Always drawn on the first server: one ticket is compared with those of any row.
        return int(self.links[0].run("ticket", (), _deadline()))

    def signal(self, topic: str, payload: bytes) -> None:
        links = self.links_of(topic)
        sealed = self.seal.close(Kind.SIGNAL, topic, payload)
        channel = f"{links.prefix}bell:{topic}"
        links.command("PUBLISH", channel, b"S" + sealed, deadline=_deadline())

    # --- readers ---

    def now(self) -> Since:
        deadline = _deadline()
        floors = []
        for links in self.links:
            if links.clock.floor() is None:
                try:
                    links.compare_clocks(deadline)
                except BrokerUnavailable:
                    return Since(time=0)
            elif links.clock.age > FRESH:
                self._compare_clocks_aside()
            floors.append(links.clock.floor() or 0)
        return Since(time=min(floors))

    def _compare_clocks_aside(self) -> None:
        """Compare clocks in a thread: whoever asks for the time need not wait for it."""
        if self._comparing.acquire(blocking=False):
            threading.Thread(
                target=self._compare_clocks, name="wsrealtime-clock", daemon=True
            ).start()

    def _compare_clocks(self) -> None:
        try:
            for links in self.links:
                links.compare_clocks(_deadline())
        except BrokerUnavailable as error:
            logger.debug("The clocks could not be compared: %s", error)
        finally:
            self._comparing.release()

    def read(self, topic: str, start: Start, *, history: History) -> Page:
        arguments = redis_scripts.read_arguments(topic, start, history)
        answer = self.links_of(topic).run("read", arguments, _deadline())
        return redis_scripts.page(self.seal, topic, answer)

    def read_all(self, topic: str, *, history: History) -> Sequence[Entry]:
        arguments = [*redis_scripts.read_arguments(topic, None, history), "A"]
        answer = self.links_of(topic).run("read", arguments, _deadline())
        return redis_scripts.all_entries(self.seal, topic, answer)

    def present(self, topic: str) -> Sequence[Attendance]:
        answer = self.links_of(topic).run("present", (topic,), _deadline())
        return redis_scripts.attendances(self.seal, topic, answer)

    def claim(self, name: str, value: str, *, ttl: float) -> str:
        arguments = redis_scripts.claim_arguments(self.seal, name, value, ttl)
        answer = self.links_of(name).run("claim", arguments, _deadline())
        return redis_scripts.claimed(self.seal, name, answer, value)

    # --- life ---

    def when_back(self, callback: Callable[[], None]) -> None:
        """Call back once every server can be reached; at once if none is known to be away."""
        for links in self.links:
            if links.breaker.is_open:
                links.breaker.when_closed(lambda: self.when_back(callback))
                return
        callback()

    def listen(self, handler: Handler) -> Listener:
        return RedisListener(self, handler)

    def close(self) -> None:
        for links in self.links:
            links.close()

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What is wrong with the servers; asks them only with ``deploy=True`` or ``databases``."""
        if kwargs.get("deploy") or kwargs.get("databases"):
            return redis_checks.check_servers(self.links)
        return []

    def forget(self) -> None:
        """After a fork: connections, threads and locks are the parent's."""
        self._comparing = threading.Lock()
        for links in self.links:
            links.forget()


def _deadline() -> float:
    return time.monotonic() + BUDGET


_brokers: weakref.WeakSet[RedisBroker] = weakref.WeakSet()


def _after_fork() -> None:
    for broker in list(_brokers):
        broker.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
