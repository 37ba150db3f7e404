"""The application that ``get_asgi_application`` makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator

from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker


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
