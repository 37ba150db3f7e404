"""Connections of threads to one Redis server: a small pool that survives forks and bounds waiting.

redis-py's own pool and client are not used for publishing: their retries and timeouts add up, and
they cost more than the round trip. A :class:`Link` is one redis-py connection together with the
``run_id`` of the server it leads to; it is thrown away after any trouble and never reconnects, so
the ``run_id`` it passes to a script is always that of the server which runs the script.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis

from ..errors import BrokerError, BrokerUnavailable, ConfigurationError
from ..instrumentation import count, logger, warn_once
from .breaker import Breaker
from .redis_clock import Clock
from .redis_hosts import BUDGET, Host, Layout
from .redis_scripts import Argument, Script, script

MAX_IDLE = 64
"""Connections kept per server; each thread uses one at a time."""
FINGERPRINT_LIFE_MS = 120_000
PROBLEMS = (redis.RedisError, OSError)


class Link:
    """One connection, connected, and which run of the server it leads to."""

    __slots__ = ("_connection", "generation", "run_id")

    def __init__(self, host: Host, generation: int) -> None:
        """Connect; waits at most as long as every single step of it may take."""
        self.generation = generation
        self._connection = host.connection()
        self._connection.connect()
        self._connection.send_command("INFO", "server", check_health=False)
        self.run_id = host.identify(self._connection.read_response()).run_id

    @property
    def stale(self) -> bool:
        """Whether the server has closed this connection while it was idle."""
        try:
            readable: bool = self._connection.can_read(0)
        except PROBLEMS:
            return True
        return readable  # an answer nobody asked for

    def run(self, what: Script, arguments: Sequence[Argument]) -> Any:
        """Run a script; one round trip unless the server has not seen it yet."""
        connection = self._connection
        connection.send_command("EVALSHA", what.sha, 0, *arguments, check_health=False)
        try:
            return connection.read_response()
        except redis.exceptions.NoScriptError:
            # Nothing was run. EVAL runs it and has the server keep it.
            connection.send_command("EVAL", what.text, 0, *arguments, check_health=False)
        return connection.read_response()

    def command(self, *arguments: Argument) -> Any:
        """Carry out one command."""
        self._connection.send_command(*arguments, check_health=False)
        return self._connection.read_response()

    def limit(self, seconds: float) -> None:
        """Let every read and write from now on take at most so long."""
        self._connection.update_current_socket_timeout(seconds)

    def close(self) -> None:
        self._connection.disconnect()


class Links:
    """The connections of this process's threads to one server.

    Args:
        layout: for the keys' prefix and the fingerprint.
        host: the server.
        clock: told the server's time with every new connection.
    """

    def __init__(self, layout: Layout, host: Host, clock: Clock) -> None:
        self.host = host
        self.prefix = layout.prefix(host)
        self.clock = clock
        self._fingerprint = layout.fingerprint()
        self._idle: deque[Link] = deque()
        self._pid = os.getpid()
        self._ended = False
        self.generation = 0
        """Rises when another server takes over; connections of older ones are given up."""
        self.breaker = Breaker(name=host.name, probe=self._probe)

    # --- what the broker asks ---

    def run(self, name: str, arguments: Sequence[Argument], deadline: float) -> Any:
        """Run a script by name.

        Args:
            name: of a file in ``brokers/lua``.
            arguments: those after the three that every script takes.
            deadline: on the monotonic clock.

        Raises:
            BrokerUnavailable: at once if the server is known to be away.
            ConfigurationError: the server is none that is supported.
        """
        what = script(name)
        return self._use(lambda link: link.run(what, self.header(link.run_id, arguments)), deadline)

    def command(self, *arguments: Argument, deadline: float) -> Any:
        """Carry out one plain command; see :meth:`run`."""
        return self._use(lambda link: link.command(*arguments), deadline)

    def _use(self, ask: Callable[[Link], Any], deadline: float) -> Any:
        self.breaker.check()
        link = self._take(deadline)
        left = deadline - time.monotonic()
        hurried = left < BUDGET - 0.1
        try:
            if hurried:
                link.limit(max(left, 0.001))
            answer = ask(link)
            if hurried:
                link.limit(BUDGET)
        except PROBLEMS as error:
            link.close()
            raise self.failed(error) from error
        self._give(link)
        return answer

    def compare_clocks(self, deadline: float) -> None:
        """Ask the server for its time, and whether another deployment disagrees about the list."""
        self.heard_hello(self.run("hello", self.hello_arguments(), deadline))

    # --- what the listener uses too ---

    def header(self, run_id: str, arguments: Sequence[Argument]) -> list[Argument]:
        """A script's arguments with those before them that every script takes."""
        return [self.prefix, run_id, secrets.token_hex(8), *arguments]

    def hello_arguments(self) -> list[Argument]:
        """What ``hello.lua`` takes."""
        return [self._fingerprint, FINGERPRINT_LIFE_MS]

    def heard_hello(self, answer: Sequence[bytes]) -> None:
        """Take the answer of ``hello.lua``, just come."""
        self.clock.note(int(answer[0]))
        if other := answer[1].decode(errors="replace"):
            count("bus.hosts_differ")
            warn_once(
                f"bus.hosts_differ.{self.prefix}",
                f"{self.host.name} is used by processes with another list of `hosts`: they have"
                f" {other}, this process has {self._fingerprint}. They look for topics on other"
                " servers and miss events. Give all processes the same list, spelled alike.",
            )

    def failed(self, error: BaseException) -> BrokerUnavailable:
        """Note that the server cannot be used now; the exception that says so."""
        count("bus.failed")
        self.breaker.trip(error)
        return BrokerUnavailable(f"{self.host.name} cannot be used: {error}")

    def moved(self) -> None:
        """Another server has taken over: what is connected leads to the wrong one."""
        count("bus.moved")
        logger.warning("Another server has taken over from %s.", self.host.name)
        self.generation += 1
        self.clock.forget()

    def forget(self) -> None:
        """After a fork: the connections are the parent's; they are dropped, not shut down."""
        self._pid = os.getpid()
        self._idle = deque()
        self.breaker.forget()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._ended = True
        self.breaker.close()
        while self._idle:
            self._idle.pop().close()
        self.host.close()

    # --- the pool ---

    def _take(self, deadline: float) -> Link:
        if self._pid != os.getpid():
            self.forget()
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self._dial(deadline)
            if link.generation == self.generation and not link.stale:
                return link
            link.close()

    def _give(self, link: Link) -> None:
        if self._ended or len(self._idle) >= MAX_IDLE:
            link.close()
        else:
            self._idle.append(link)

    def _dial(self, deadline: float) -> Link:
        """Connect in a thread of its own: no name server and no handshake holds the caller up."""
        call = _Call(self)
        threading.Thread(target=call.run, name="wsrealtime-dial", daemon=True).start()
        return call.result(deadline)

    def connect(self) -> Link:
        """A new connection that has said hello."""
        link = Link(self.host, self.generation)
        try:
            answer = link.run(script("hello"), self.header(link.run_id, self.hello_arguments()))
        except PROBLEMS:
            link.close()
            raise
        self.heard_hello(answer)
        return link

    def _probe(self) -> None:
        """Reach the server with a write like those that failed: one that is full is not back."""
        link = self.connect()
        try:
            link.run(script("ticket"), self.header(link.run_id, ()))
        except PROBLEMS:
            link.close()
            raise
        self._give(link)


class _Call:
    """A connection that is being made for somebody who may stop waiting for it."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._abandoned = False
        self._link: Link | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        link, problem = None, None
        try:
            link = self._links.connect()
        except Exception as error:  # noqa: BLE001
            # Whatever went wrong is raised again in the thread that waits.
            problem = error
            logger.debug("Connecting to %s failed: %s", self._links.host.name, error)
        with self._lock:
            self._link, self._error = link, problem
            abandoned = self._abandoned
        self._done.set()
        if abandoned and link is not None:
            link.close()

    def result(self, deadline: float) -> Link:
        self._done.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._abandoned = True
            link, error = self._link, self._error
        if link is not None:
            return link
        if isinstance(error, ConfigurationError):
            raise error
        if error is None:
            error = BrokerError(f"no connection within {BUDGET} s")
        raise self._links.failed(error) from error
