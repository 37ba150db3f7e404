"""Connections of one event loop to one Redis server, for everything but listening."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import redis

from ..errors import BrokerError, BrokerUnavailable
from .redis_hosts import BUDGET, AsyncHost
from .redis_link import PROBLEMS, Links
from .redis_scripts import Argument, Script, script

MAX_CONNECTIONS = 8
"""Per server; whoever finds all in use waits for one."""


class AsyncLink:
    """One connection, connected, and which run of the server it leads to."""

    __slots__ = ("_connection", "generation", "run_id")

    def __init__(self, connection: Any, run_id: str, generation: int) -> None:
        self._connection = connection
        self.run_id = run_id
        self.generation = generation

    @classmethod
    async def connect(cls, host: AsyncHost, generation: int) -> AsyncLink:
        """Connect and ask the server who it is."""
        connection = host.connection()
        try:
            await connection.connect()
            await connection.send_command("INFO", "server", check_health=False)
            server = host.identify(await connection.read_response())
            return cls(connection, server.run_id, generation)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def run(self, what: Script, arguments: Sequence[Argument]) -> Any:
        """Run a script; see :meth:`.redis_link.Link.run`."""
        connection = self._connection
        await connection.send_command("EVALSHA", what.sha, 0, *arguments, check_health=False)
        try:
            return await connection.read_response()
        except redis.exceptions.NoScriptError:
            await connection.send_command("EVAL", what.text, 0, *arguments, check_health=False)
        return await connection.read_response()

    async def command(self, *arguments: Argument) -> Any:
        """Carry out one command."""
        await self._connection.send_command(*arguments, check_health=False)
        return await self._connection.read_response()

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


class AsyncLinks:
    """A bounded pool of connections that belongs to one event loop.

    Args:
        links: those of this process's threads to the same server; prefix, breaker and clock are
            shared with them.
        host: how this loop connects.
    """

    def __init__(self, links: Links, host: AsyncHost) -> None:
        self.links = links
        self._host = host
        self._idle: list[AsyncLink] = []
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._ended = False

    async def run(self, name: str, arguments: Sequence[Argument]) -> Any:
        """Run a script by name.

        Raises:
            BrokerUnavailable: at once if the server is known to be away.
            ConfigurationError: the server is none that is supported.
        """
        what = script(name)
        return await self._use(
            lambda link: link.run(what, self.links.header(link.run_id, arguments))
        )

    async def command(self, *arguments: Argument) -> Any:
        """Carry out one plain command; see :meth:`run`."""
        return await self._use(lambda link: link.command(*arguments))

    async def compare_clocks(self) -> None:
        """See :meth:`.redis_link.Links.compare_clocks`."""
        self.links.heard_hello(await self.run("hello", self.links.hello_arguments()))

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._ended = True
        while self._idle:
            await self._idle.pop().close()

    async def _use(self, ask: Callable[[AsyncLink], Awaitable[Any]]) -> Any:
        async with self._free:
            self.links.breaker.check()
            deadline = time.monotonic() + BUDGET
            while True:
                link = self._idle.pop() if self._idle else None
                if link is not None and link.generation != self.links.generation:
                    await link.close()
                    continue
                fresh = link is None
                try:
                    if link is None:
                        link = await asyncio.wait_for(
                            AsyncLink.connect(self._host, self.links.generation), _left(deadline)
                        )
                    answer = await asyncio.wait_for(ask(link), _left(deadline))
                except asyncio.TimeoutError as error:
                    await _close(link)
                    raise self._failed(f"no answer within {BUDGET} s", error) from error
                except (*PROBLEMS, BrokerError) as error:
                    await _close(link)
                    if not fresh and isinstance(error, redis.exceptions.ConnectionError):
                        # The server had closed an idle connection. What is asked here may be
                        # asked twice: nothing in this module appends.
                        continue
                    raise self.links.failed(error) from error
                except BaseException:
                    await _close(link)
                    raise
                if self._ended:
                    await link.close()
                else:
                    self._idle.append(link)
                return answer

    def _failed(self, what: str, error: BaseException) -> BrokerUnavailable:
        return self.links.failed(BrokerUnavailable(f"{what} ({type(error).__name__})"))


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


async def _close(link: AsyncLink | None) -> None:
    if link is not None:
        await link.close()
