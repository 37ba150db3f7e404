"""A TCP proxy that misbehaves on demand: resets, silence, delay, refusal."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from .processes import HOST

T = TypeVar("T")

_CHUNK = 64 * 1024  # bytes
_QUEUED_CHUNKS = 256  # per direction; beyond that TCP's own back-pressure holds the sender
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST
_END = b""


class _Link:
    """One client's connection and the one made for it to the target."""

    def __init__(self, proxy: "TcpProxy", client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.writers = [client]

    async def run(self, reader: asyncio.StreamReader) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection(
                self.proxy.target_host, self.proxy.target_port
            )
        except OSError:
            self.abort()
            return
        self.writers.append(upstream)
        pumps = [
            asyncio.ensure_future(self._pump(reader, upstream, is_up=True)),
            asyncio.ensure_future(self._pump(upstream_reader, self.writers[0], is_up=False)),
        ]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            # One side reset its connection: the other side sees a reset too.
            self.abort()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in self.writers:
                writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        sender = asyncio.ensure_future(self._send(queue, writer, is_up=is_up))
        try:
            while True:
                data = await reader.read(_CHUNK)
                due = asyncio.get_running_loop().time() + self.proxy.delay_seconds
                await queue.put((due, data))
                if data == _END:
                    break
            await sender
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(
        self,
        queue: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
        *,
        is_up: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self.proxy.flowing.wait()
            if data == _END:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            self.proxy.count(len(data), is_up=is_up)

    def abort(self) -> None:
        """Reset both connections at once, without delivering what is on its way."""
        for writer in self.writers:
            connection = writer.get_extra_info("socket")
            if connection is not None and connection.fileno() != -1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            writer.transport.abort()


class TcpProxy:
    """Listens on ``port`` and forwards to ``target_port``, from an event loop in its own thread.

    Every method may be called from any thread and takes effect before it returns. A context
    manager: leaving it closes every connection and ends the thread.
    """

    flowing: asyncio.Event

    def __init__(self, target_port: int, *, target_host: str = HOST) -> None:
        self.target_host = target_host
        self.target_port = target_port
        self.delay_seconds = 0.0
        self.port = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.accepted = 0
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="tcp-proxy", daemon=True)

    def __enter__(self) -> "TcpProxy":
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def host(self) -> str:
        """``127.0.0.1:port``"""
        return f"{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._links)

    def count(self, amount: int, *, is_up: bool) -> None:
        if is_up:
            self.bytes_up += amount
        else:
            self.bytes_down += amount

    def reset_all(self) -> int:
        """Reset every connection (RST, no farewell); return how many there were."""
        return self._do(self._reset())

    def blackhole(self) -> None:
        """Forward nothing: connections stay open, new ones are accepted, all are silent."""
        self._do(self._set_flowing(flowing=False))

    def delay(self, seconds: float) -> None:
        """Deliver every byte this many seconds late, in both directions, without reordering."""
        self.delay_seconds = seconds

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as a host without a server does."""
        self._do(self._refuse())

    def resume(self) -> None:
        """Behave again: listen on the same port, forward what was held back, without delay."""
        self.delay_seconds = 0.0
        self._do(self._resume())

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _open(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        await self._listen()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._accept, HOST, self.port, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, writer)
        task = self._loop.create_task(link.run(reader))
        self._links[link] = task
        task.add_done_callback(lambda _: self._links.pop(link, None))

    async def _set_flowing(self, *, flowing: bool) -> None:
        if flowing:
            self.flowing.set()
        else:
            self.flowing.clear()

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _reset(self) -> int:
        links = dict(self._links)
        for link, task in links.items():
            link.abort()
            task.cancel()
        await asyncio.gather(*links.values(), return_exceptions=True)
        return len(links)

    async def _refuse(self) -> None:
        await self._stop_listening()
        await self._reset()

    async def _resume(self) -> None:
        self.flowing.set()
        if self._listener is None:
            await self._listen()

    async def _close(self) -> None:
        await self._stop_listening()
        await self._reset()
