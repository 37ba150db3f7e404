"""The application that ``get_asgi_application`` makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.testing import WebsocketCommunicator

from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.protocol import SUBPROTOCOL


class NotedBroker(MemoryBroker):
    noted = 0

    def serves_browsers(self) -> None:
        self.noted += 1


@pytest.fixture
def broker() -> Iterator[NotedBroker]:
    broker = NotedBroker()
    before = set_broker(broker)
    yield broker
    set_broker(before)


async def test_a_process_serves_browsers_when_a_page_is_asked_for_and_not_before(
    broker: NotedBroker,
) -> None:
    application: Any = get_asgi_application()
    assert broker.noted == 0
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "GET",
        "path": "/realtime/csrf/",
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }
    client: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
    await client.send_input({"type": "http.request", "body": b""})
    assert (await client.receive_output())["status"] == 200
    await client.receive_output()
    await client.wait()
    assert broker.noted == 1


@pytest.mark.parametrize(
    ("root_path", "path", "subprotocol"),
    [
        ("", "/realtime/ws/", SUBPROTOCOL),
        ("/shop", "/shop/realtime/ws/", SUBPROTOCOL),
        ("/shop", "/shop/elsewhere/", None),
    ],
)
async def test_the_websocket_is_served_below_the_prefix_that_pages_are_told(
    broker: NotedBroker, root_path: str, path: str, subprotocol: str | None
) -> None:
    application: Any = get_asgi_application()
    client: Any = WebsocketCommunicator(
        application,
        path,
        headers=[(b"host", b"testserver"), (b"origin", b"http://testserver")],
        subprotocols=[SUBPROTOCOL],
    )
    client.scope["root_path"] = root_path
    accepted, chosen = await client.connect()
    assert accepted is (subprotocol is not None)
    if accepted:
        assert chosen == subprotocol
        await client.disconnect()
