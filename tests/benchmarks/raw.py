"""The floor: asyncio's ``transport.write`` of a prebuilt frame, without any server or framework.

``python -m tests.benchmarks.raw PORT`` upgrades whoever connects and writes to everybody what is
published on a Redis channel. What it costs per delivery, nothing in Python can undercut without
joining messages.
"""

import asyncio
import base64
import hashlib
import os
import sys

import redis.asyncio

CHANNEL = "fanout-raw"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upgraded(asyncio.Protocol):
    """Answers the handshake, then ignores what comes (RFC 6455 section 4.2.2)."""

    def __init__(self, everybody: "set[asyncio.Transport]") -> None:
        self._everybody = everybody
        self._request = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        if transport in self._everybody:
            return
        self._request += data
        if b"\r\n\r\n" not in self._request:
            return
        lines = self._request.split(b"\r\n")
        prefix = b"sec-websocket-key:"
        key = next(line[len(prefix) :] for line in lines if line.lower().startswith(prefix)).strip()
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._everybody.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._everybody.discard(self._transport)


def frame(payload: bytes) -> bytes:
    """An unmasked text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return b"\x81\x7e" + size.to_bytes(2, "big") + payload


async def main(port: int) -> None:
    everybody: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    client = redis.asyncio.Redis.from_url(os.environ["BENCHMARK_REDIS"], socket_timeout=None)
    pubsub = client.pubsub()
    await pubsub.subscribe(CHANNEL)
    server = await loop.create_server(lambda: Upgraded(everybody), "127.0.0.1", port, backlog=2048)
    async with server:
        async for message in pubsub.listen():
            if message["type"] == "message":
                data = frame(message["data"])
                for transport in everybody:
                    transport.write(data)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
