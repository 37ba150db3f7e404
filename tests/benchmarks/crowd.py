"""Many WebSocket clients in one process that do as little as they can.

They read with one ``epoll``, look at the headers of frames and at how a frame begins, and answer
what must be answered (pings, our protocol's ``mark``). Nothing is decoded, so that one core of this
follows servers that write from Python as fast as they can.
"""

import base64
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from .sides import Side

HOST = "127.0.0.1"
AT_ONCE = 25
"""Handshakes under way at a time: daphne's listen backlog is 50."""
HANDSHAKE_SECONDS = 30.0
_CHUNK = 262_144
_MARK = b'{"type":"mark"'
_IGNORED = (b'{"type":"welcome"', b'{"type":"presence"', b'{"type":"subscribed"')


class Reader:
    """One client."""

    __slots__ = ("count", "ready", "rest", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.rest = b""
        self.count = 0
        self.ready = False


class Crowd:
    """``size`` subscribers of one server.

    Args:
        side: what they speak.
        port: where the server listens.
        size: how many.
    """

    def __init__(self, side: Side, *, port: int, size: int) -> None:
        self.side = side
        self.received = 0
        self.resets = 0
        self.each: Callable[[Reader, bytes], None] | None = None
        """Called with every delivery, for those who want more than to count."""
        self.readers: list[Reader] = []
        self._by_number: dict[int, Reader] = {}
        self._poll = select.epoll()
        self._port = port
        for start in range(0, size, AT_ONCE):
            self._connect(min(AT_ONCE, size - start))

    def close(self) -> None:
        """Hang up."""
        for reader in self.readers:
            reader.socket.close()
        self._poll.close()

    def forget(self) -> None:
        """Count from zero."""
        self.received = self.resets = 0
        for reader in self.readers:
            reader.count = 0

    def read(self, seconds: float) -> None:
        """Wait for at most so long until something comes, and read it."""
        for number, _ in self._poll.poll(seconds, 1024):
            self._read(self._by_number[number])

    # --- handshakes ---

    def _connect(self, size: int) -> None:
        fresh = [self._open() for _ in range(size)]
        for reader in fresh:
            self._upgrade(reader)
            if self.side.greeting:
                _send(reader, 0x81, self.side.greeting)
        for reader in fresh:
            while self.side.ready and not reader.ready:
                self._read(reader)
            reader.socket.setblocking(False)
            self._by_number[reader.socket.fileno()] = reader
            self._poll.register(reader.socket.fileno(), select.EPOLLIN)
            self.readers.append(reader)

    def _open(self) -> Reader:
        connection = socket.create_connection((HOST, self._port), timeout=HANDSHAKE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host = f"{HOST}:{self._port}"
        lines = [
            f"GET {self.side.path} HTTP/1.1",
            f"Host: {host}",
            f"Origin: http://{host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        if self.side.subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {self.side.subprotocol}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return Reader(connection)

    def _upgrade(self, reader: Reader) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = reader.socket.recv(_CHUNK)
            if not data:
                raise ConnectionError(f"the server hung up during the handshake: {answer!r}")
            answer += data
        head, _, reader.rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"the server refused the handshake: {head!r}")

    # --- frames (RFC 6455 section 5.2) ---

    def _read(self, reader: Reader) -> None:
        data = reader.socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the server hung up on a subscriber")
        if reader.rest:
            data = reader.rest + data
        event, at, end, got = self.side.event, 0, len(data), 0
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size > 125:
                wide = 2 if size == 126 else 8
                if end - start < wide:
                    break
                size = int.from_bytes(data[start : start + wide], "big")
                start += wide
            stop = start + size
            if stop > end:
                break
            if data.startswith(event, start):
                got += 1
                if self.each is not None:
                    self.each(reader, data[start:stop])
            else:
                self._other(reader, data[at] & 0x0F, data[start:stop])
            at = stop
        reader.rest = data[at:]
        reader.count += got
        self.received += got

    def _other(self, reader: Reader, opcode: int, payload: bytes) -> None:
        if opcode == 0x9:
            _send(reader, 0x8A, payload)
        elif payload.startswith(_MARK):
            _send(reader, 0x81, b'{"type":"ack"' + payload[len(_MARK) :])
        elif payload.startswith(b'{"type":"ping"'):
            _send(reader, 0x81, b'{"type":"pong"}')
        elif payload.startswith(b'{"type":"reset"'):
            self.resets += 1
        elif not payload.startswith(_IGNORED):
            raise ConnectionError(f"the server sent {payload[:200]!r} (opcode {opcode})")
        if self.side.ready and payload.startswith(self.side.ready):
            reader.ready = True


def _send(reader: Reader, first: int, payload: bytes) -> None:
    """A client's frame; the mask is zero, which leaves the payload as it is."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    reader.socket.sendall(bytes((first,)) + length + bytes(4) + payload)


class Driver:
    """Publishes through another process, as fast as the crowd reads or at a steady rate.

    Args:
        crowd: who reads.
        grant: let the publisher publish so many broadcasts.
    """

    STALL = 10.0
    """Seconds without any delivery after which what is missing is taken for lost."""

    def __init__(self, crowd: Crowd, grant: Callable[[int], Any]) -> None:
        self._crowd = crowd
        self._grant = grant
        self.published = 0

    def closed_loop(self, *, outstanding: int, seconds: float) -> float:
        """Keep so many broadcasts under way; return the seconds until the last was read."""
        return self._drive(seconds, lambda _: self._complete + outstanding - self.published)

    def steady(self, *, rate: float, seconds: float) -> float:
        """Publish at a rate per second; return the seconds until the last was read."""
        return self._drive(seconds, lambda elapsed: int(elapsed * rate) + 1 - self.published)

    @property
    def _complete(self) -> int:
        return self._crowd.received // len(self._crowd.readers)

    def _drive(self, seconds: float, due: Callable[[float], int]) -> float:
        crowd = self._crowd
        crowd.forget()
        self.published = 0
        started = heard = time.monotonic()
        while True:
            now = time.monotonic()
            before = crowd.received
            if now - started < seconds:
                if (credits := due(now - started)) > 0:
                    self.published += credits
                    self._grant(credits)
            elif before >= self.published * len(crowd.readers) or now - heard > self.STALL:
                return heard - started
            crowd.read(0.005)
            if crowd.received != before:
                heard = time.monotonic()

    @property
    def lost(self) -> int:
        """Deliveries that did not happen."""
        return sum(max(0, self.published - reader.count) for reader in self._crowd.readers)

    @property
    def repeated(self) -> int:
        """Deliveries that happened more than once."""
        return sum(max(0, reader.count - self.published) for reader in self._crowd.readers)
