"""Two server processes and a worker that share topics over Redis."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from websockets.exceptions import ConnectionClosed

from tests.support.plugin import RunPython, StartServer
from tests.support.redis import RedisServer
from tests.support.servers import ServerProcess
from tests.testapp.models import Parcel

from .test_servers import Peer, peer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def servers(server_process: StartServer, redis_server: RedisServer) -> list[ServerProcess]:
    return [
        server_process("daphne", redis=redis_server),
        server_process("uvicorn", redis=redis_server),
    ]


def test_events_whispers_and_presence_cross_processes(servers: list[ServerProcess]) -> None:
    with peer(servers[0]) as one, peer(servers[1]) as two:
        for each in (one, two):
            assert each.ask(type="subscribe", topic="site/a")["type"] == "subscribed"
        two.ask(type="call", topic="site/a", action="say", data={"event": "n", "data": 1})
        assert one.until("event")["data"] == 1
        assert two.ask(type="publish", topic="site/a", event="m", data=2)["type"] == "ok"
        assert one.until("event")["kind"] == "client"
        two.send(type="whisper", topic="site/a", event="typing", data=True)
        assert one.until("whisper")["data"] is True
    with peer(servers[0]) as one:
        one.ask(type="subscribe", topic="site/b")
        assert len(one.until("presence")["members"]) == 1
        with peer(servers[1]) as two:
            two.ask(type="subscribe", topic="site/b")
            assert len(one.until("presence")["join"]) == 1
        assert len(one.until("presence")["leave"]) == 1


def test_a_client_goes_on_in_another_process(servers: list[ServerProcess]) -> None:
    with peer(servers[0]) as one:
        one.ask(type="subscribe", topic="site/a")
        one.ask(type="call", topic="site/a", action="say", data={"event": "n", "data": 1})
        seen = one.until("event")
    with peer(servers[1]) as other:
        other.ask(
            type="call", topic="site/a", action="say", data={"event": "n", "data": 2, "times": 5}
        )
        position = {"epoch": seen["epoch"], "offset": seen["offset"]}
        again = other.ask(type="subscribe", topic="site/a", position=position)
    assert again["recovered"] is True
    assert [event["offset"] for event in again["events"]] == [2, 3, 4, 5, 6]


def test_a_worker_saves_and_disconnects(
    servers: list[ServerProcess], redis_server: RedisServer, run_python: RunPython, client: Client
) -> None:
    ada = get_user_model().objects.create(username="ada")
    client.force_login(ada)
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    with (
        peer(servers[0], additional_headers={"Cookie": cookie}) as one,
        peer(servers[1], additional_headers={"Cookie": cookie}) as two,
        peer(servers[1]) as visitor,
    ):
        for each in (one, two, visitor):
            assert each.ask(type="subscribe", topic="depot/1")["snapshot"] == {"rows": []}
        run_python(
            f"""
            from django_wsrealtime import disconnect
            from tests.testapp.models import Parcel
            Parcel.objects.create(depot=1, label="from a worker")
            disconnect({ada.pk}, reason="test")
            """,
            redis=redis_server,
        )
        for each in (one, two):
            assert _close_code(each) == 4502
        event: dict[str, Any] = visitor.until("event")
        assert event["data"]["row"]["label"] == "from a worker"
    assert Parcel.objects.count() == 1


def _close_code(each: Peer) -> int:
    bye = each.until("bye")
    with pytest.raises(ConnectionClosed) as closed:
        each.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == bye["code"]
    return int(bye["code"])
