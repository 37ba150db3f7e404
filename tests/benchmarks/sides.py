"""The sides of a comparison: how to open a subscription on each, and what a delivery looks like."""

import json
from dataclasses import dataclass

from django_wsrealtime.protocol import SUBPROTOCOL

TOPIC = "fanout/bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One implementation.

    Args:
        name: as on the command line.
        label: as in tables.
        application: ``module:attribute`` for an ASGI server; empty: a program of its own.
        path: where its WebSocket is.
        subprotocol: what the handshake offers, if anything.
        greeting: what the client sends first.
        ready: how the frame begins after which every broadcast is delivered; empty: the handshake.
        event: how a frame begins that delivers a broadcast.
    """

    name: str
    label: str
    application: str
    path: str
    subprotocol: str = ""
    greeting: bytes = b""
    ready: bytes = b""
    event: bytes


def ours(topic: str, *, application: str) -> Side:
    """A subscriber of one of our topics."""
    hello = {"type": "hello", "v": 1, "tab": "bench", "subscriptions": [{"topic": topic}]}
    return Side(
        name="ours",
        label="django_wsrealtime",
        application=application,
        path="/realtime/ws/",
        subprotocol=SUBPROTOCOL,
        greeting=json.dumps(hello).encode(),
        ready=b'{"type":"subscribed"',
        event=b'{"type":"event"',
    )


SIDES = {
    side.name: side
    for side in (
        Side(
            name="stock",
            label="stock consumer",
            application="tests.benchmarks.site.stock:application",
            path="/fanout/",
            event=b'{"at"',
        ),
        ours(TOPIC, application="tests.benchmarks.site.ours:application"),
        Side(
            name="raw",
            label="raw asyncio writes",
            application="",
            path="/",
            event=b'{"at"',
        ),
    )
}
