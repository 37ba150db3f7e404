"""Serve the protocol on a WebSocket: a plain ASGI application, no consumer, no channel.

Channels' consumers cost a channel, a task and a thread hop per socket and message. This application
has one coroutine per socket, the one that the server starts, and it only ever waits for the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..conf import conf
from ..errors import CloseCode
from ..hub import Message
from ..instrumentation import count, refuse
from ..protocol import SUBPROTOCOL
from ..protocol.frames import Hello
from ..topics.access import Identity
from .address import client_address
from .authentication import identify
from .connection import Connection
from .local import get_local
from .origin import refusal
from .writer import AsgiSend, Writer

Receive = Callable[[], Awaitable[dict[str, Any]]]
Application = Callable[[dict[str, Any], Receive, AsgiSend], Awaitable[None]]

SERVER_CODES = frozenset((CloseCode.NORMAL,)) | {code for code in CloseCode if code >= 3000}
"""Codes that every ASGI server lets an application close with."""


class RealtimeWebSocket:
    """The ASGI application behind ``WSREALTIME["PATH"]``.

    It refuses foreign origins and clients of other protocols before the upgrade, and everything
    that a browser should understand after it, with a ``bye``.
    """

    @classmethod
    def as_asgi(cls) -> Application:
        """The application, in the shape that ``channels.routing.URLRouter`` expects."""

        async def application(scope: dict[str, Any], receive: Receive, send: AsgiSend) -> None:
            await cls()(scope, receive, send)

        return application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: AsgiSend) -> None:
        """Serve one WebSocket (ASGI specification, section WebSocket)."""
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        if (reason := refusal(scope)) is not None:
            refuse("origin", reason)
            await _refuse(scope, send, status=403)
            return
        if SUBPROTOCOL not in scope.get("subprotocols", ()):
            refuse("subprotocol", f"the client does not offer {SUBPROTOCOL}")
            await _refuse(scope, send, status=400)
            return
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        await _serve(scope, receive, send)


async def _serve(scope: dict[str, Any], receive: Receive, send: AsgiSend) -> None:
    async def who(sid: str, hello: Hello) -> Identity:
        return await identify(scope, sid=sid, tab=hello.tab, token=hello.token)

    transport = _AsgiTransport(send)
    connection = Connection(transport, identify=who)
    transport.connection = connection
    if conf().limits.connections_per_address and not get_local().admits_from(client_address(scope)):
        count("refused.connections_per_address")
        connection.close(CloseCode.TOO_MANY_CONNECTIONS)
    try:
        while True:
            event = await receive()
            if event["type"] == "websocket.receive":
                text = event.get("text")
                connection.receive(event.get("bytes") or b"" if text is None else text)
            elif event["type"] == "websocket.disconnect":
                return
    finally:
        connection.ended()
        transport.abandon()


class _AsgiTransport:
    """Messages of one connection on their way through the server's ``send``."""

    connection: Connection

    def __init__(self, send: AsgiSend) -> None:
        self._writer = Writer(send, failed=self._failed)

    def write(self, message: Message) -> None:
        self._writer.write(message.asgi)

    def close(self, code: CloseCode) -> None:
        self._writer.write(
            {
                "type": "websocket.close",
                "code": int(code if code in SERVER_CODES else CloseCode.NORMAL),
                "reason": code.reason,
            }
        )

    def abandon(self) -> None:
        self._writer.abandon()

    def _failed(self) -> None:
        self.connection.ended()


async def _refuse(scope: Mapping[str, Any], send: AsgiSend, *, status: int) -> None:
    """Answer a handshake without upgrading; 403 where the server knows nothing else."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    body = b"refused\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
