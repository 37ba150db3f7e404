"""The WebSocket application, driven through ASGI as a server drives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import override_settings

from django_wsrealtime import (
    ActionError,
    History,
    Presence,
    Topic,
    action,
    apublish,
    asubscribe,
    disconnect,
    recheck,
    register,
)
from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.testing import ConnectionClosed, RealtimeClient
from django_wsrealtime.testing.client import RequestFailed
from django_wsrealtime.topics.registry import registry
from tests.protocol.test_codec import MALFORMED

User = get_user_model()
ALLOWED: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    before = set_broker(MemoryBroker())
    ALLOWED.clear()
    with registry.isolated():
        _declare()
        yield
    set_broker(before)


def _declare() -> None:
    @register("room/<slug:slug>")
    class Room(Topic):
        public = True
        publish_by = "subscribers"
        whisper_by = "subscribers"
        presence = Presence()
        history = History(size=200, ttl=60)

        @action
        def add(self, ctx: Any, a: int, b: int = 0) -> dict[str, int]:
            return {"sum": a + b}

        @action
        def block(self, ctx: Any) -> str:
            time.sleep(1.0)
            return "done"

        @action
        def refuse(self, ctx: Any) -> None:
            raise ActionError("Not today.", code="closed", retry_after=60)

        @action
        def fail(self, ctx: Any) -> None:
            raise LookupError("secret")

    @register("private/<int:pk>")
    class Private(Topic):
        def can_subscribe(self, user: Any) -> bool:
            return user.username in ALLOWED

    @register("members/<slug:slug>")
    class Members(Topic):
        public = True
        history = History(size=50, ttl=60, from_="join")


@pytest.fixture
def application() -> Any:
    return get_asgi_application()


@pytest.fixture
def ada() -> Any:
    return User(pk=5, username="ada", first_name="Ada")


async def test_an_event_reaches_everybody(application: Any) -> None:
    async with RealtimeClient(application) as one, RealtimeClient(application) as two:
        rooms = [await client.subscribe("room/lobby") for client in (one, two)]
        await apublish("room/lobby", "news", {"text": "hi"}, key="k1")
        for room in rooms:
            event = await room.next_event()
            assert (event["event"], event["data"], event["kind"], event["key"]) == (
                "news",
                {"text": "hi"},
                "app",
                "k1",
            )


async def test_what_happens_while_a_client_is_away_is_replayed(application: Any) -> None:
    async with RealtimeClient(application) as client:
        room = await client.subscribe("room/lobby")
        await apublish("room/lobby", "n", 1)
        await room.next_event()
        await client.drop()
        for number in (2, 3):
            await apublish("room/lobby", "n", number)
        await client.resume()
        await apublish("room/lobby", "n", 4)
        assert [(await room.next_event())["data"] for _ in range(3)] == [2, 3, 4]
        assert room.resets == []


async def test_members_publish_as_themselves(application: Any, ada: Any) -> None:
    async with RealtimeClient(application, user=ada) as client:
        room = await client.subscribe("room/lobby")
        for event in ("message", "upsert", "html"):
            await client.publish("room/lobby", event, {"kind": "row"}, key=f"k-{event}")
            received = await room.next_event()
            assert received["kind"] == "client"
            assert received["from"] == {"id": "5", "name": "Ada"}
        await client.publish("room/lobby", "message", {}, key="k-message")
        assert await room.nothing()


async def test_a_whisper_reaches_the_others_and_no_log(application: Any) -> None:
    async with RealtimeClient(application) as one, RealtimeClient(application) as two:
        mine, theirs = await one.subscribe("room/a"), await two.subscribe("room/a")
        one.whisper("room/a", "typing", {"on": True})
        await two.until(lambda: bool(theirs.whispers))
        assert theirs.whispers[0]["data"] == {"on": True}
        assert theirs.offset == 0
        assert mine.whispers == []


async def test_presence_tells_who_comes_and_goes(application: Any, ada: Any) -> None:
    async with RealtimeClient(application, user=ada) as one:
        room = await one.subscribe("room/a")
        await one.until(lambda: "5" in room.members)
        async with RealtimeClient(application) as two:
            await two.subscribe("room/a")
            await one.until(lambda: len(room.members) == 2)
            await one.request(type="presence", topic="room/a", state={"cursor": 3})
            await one.until(lambda: room.members["5"].get("state") == {"cursor": 3})
        await one.until(lambda: len(room.members) == 1)


async def test_an_action_answers(application: Any) -> None:
    async with RealtimeClient(application) as client:
        await client.subscribe("room/a")
        assert await client.call("room/a", "add", {"a": 2, "b": 3}) == {"sum": 5}
        for name, data, code in (
            ("add", {"a": "x"}, "invalid_data"),
            ("add", {}, "invalid_data"),
            ("nope", {}, "unknown_action"),
            ("can_subscribe", {}, "unknown_action"),
            ("refuse", {}, "closed"),
            ("fail", {}, "internal"),
        ):
            with pytest.raises(RequestFailed) as failed:
                await client.call("room/a", name, data)
            assert failed.value.code == code
            assert "secret" not in str(failed.value)


async def test_a_blocking_action_delays_nobody_else(application: Any) -> None:
    async with RealtimeClient(application, share_thread=False) as slow:
        await slow.subscribe("room/a")
        async with RealtimeClient(application, share_thread=False) as quick:
            await quick.subscribe("room/a")
            blocked = asyncio.ensure_future(slow.call("room/a", "block"))
            for number in range(20):
                assert await quick.call("room/a", "add", {"a": number}) == {"sum": number}
            assert not blocked.done()
            assert await blocked == "done"


async def test_rules_deny_by_default_and_are_asked(application: Any, ada: Any) -> None:
    async with RealtimeClient(application, user=ada) as client:
        for topic, code in (
            ("private/1", "forbidden"),
            ("private/01", "unknown_topic"),
            ("nope", "unknown_topic"),
        ):
            with pytest.raises(RequestFailed) as failed:
                await client.subscribe(topic)
            assert failed.value.code == code
        ALLOWED.add("ada")
        await client.subscribe("private/1")


async def test_permissions_are_asked_again_when_told(application: Any, ada: Any) -> None:
    ALLOWED.add("ada")
    async with RealtimeClient(application, user=ada) as client:
        private = await client.subscribe("private/1")
        public = await client.subscribe("room/a")
        ALLOWED.clear()
        recheck(ada)
        await client.until(lambda: private.resets == ["revoked"])
        await apublish("private/1", "secret")
        await apublish("room/a", "news")
        await public.next_event()
        assert private.events == []


@pytest.mark.parametrize(("reconnect", "code"), [(False, 4502), (True, 4102)])
async def test_a_user_can_be_disconnected(
    application: Any, ada: Any, reconnect: bool, code: int
) -> None:
    async with (
        RealtimeClient(application, user=ada) as client,
        RealtimeClient(application) as other,
    ):
        await other.subscribe("room/a")
        disconnect(ada, reason="test", reconnect=reconnect)
        closed = await client.closed()
        assert closed.code == code
        assert closed.bye is not None
        assert closed.bye["reconnect"] is reconnect
        assert await other.call("room/a", "add", {"a": 1}) == {"sum": 1}


async def test_history_from_join_hides_what_came_before(application: Any) -> None:
    since = MemoryBroker().now().time
    async with RealtimeClient(application) as client:
        await apublish("members/a", "before")
        members = await client.subscribe("members/a", since=since)
        await apublish("members/a", "after")
        assert (await members.next_event())["event"] == "after"
    assert [event["event"] for event in members.events] == ["after"]


async def test_server_code_listens_too(application: Any) -> None:
    async with RealtimeClient(application) as client:
        await client.subscribe("room/a")
        heard: list[str] = []
        joined = asyncio.Event()

        async def bot() -> None:
            async for event in asubscribe("room/a", joined=joined.set):
                heard.append(f"{event.kind} {event.event} {event.data}")
                if len(heard) == 2:
                    return

        task = asyncio.ensure_future(bot())
        await joined.wait()
        await apublish("room/a", "news", 1)
        await client.publish("room/a", "message", 2)
        await asyncio.wait_for(task, 5)
        assert heard == ["app news 1", "client message 2"]


async def test_binary_events_pass(application: Any) -> None:
    async with RealtimeClient(application) as client:
        await client.subscribe("room/a")
        await apublish("room/a", "stroke", b"\x00\x01")
        client.send_bytes(
            b"\x01\x03" + b"\x06room/a" + b"\x02id" + b"\x06stroke" + b"\x00" + b"\xff"
        )
        await client.until(lambda: len(client.binary) == 2)
        assert client.binary[0].endswith(b"\x01\x00\x01")
        assert client.binary[1].endswith(b"\x02\xff")
        await client.until(lambda: any(f.get("id") == "id" for f in client.frames))


# A WebSocket server refuses text that is not UTF-8 itself (RFC 6455 section 8.1).
@pytest.mark.parametrize(
    ("line", "code", "id"), [each for each in MALFORMED if each.id != "not UTF-8"]
)
async def test_malformed_input_is_one_error_and_touches_nobody(
    application: Any,
    caplog: pytest.LogCaptureFixture,
    line: bytes,
    code: Any,
    id: Any,
) -> None:
    text = line.decode()
    large = len(text) > 65_536
    async with RealtimeClient(application) as bad, RealtimeClient(application) as good:
        room = await good.subscribe("room/a")
        bad.send_text(text)
        await bad.until(lambda: bool(bad.errors))
        assert bad.errors[0]["code"] == ("too_large" if large else code.value)
        await bad.subscribe("room/a")
        assert len(bad.errors) == 1
        await apublish("room/a", "n", 1)
        await room.next_event()
        assert good.errors == []
    assert not [record for record in caplog.records if record.exc_info]


async def test_errors_are_counted(application: Any) -> None:
    before = counters().get("error.unknown_topic", 0)
    async with RealtimeClient(application) as client:
        with pytest.raises(RequestFailed):
            await client.subscribe("nope")
    assert counters()["error.unknown_topic"] == before + 1


async def test_a_reader_that_stalls_gets_everything_later(application: Any) -> None:
    async with RealtimeClient(application) as slow, RealtimeClient(application) as quick:
        late, live = await slow.subscribe("room/a"), await quick.subscribe("room/a")
        slow.reading = False
        for number in range(150):
            await apublish("room/a", "n", {"n": number, "fill": "x" * 5_000})
        await quick.until(lambda: len(live.events) == 150)
        assert len(late.events) < 70
        slow.reading = True
        marks = [frame["n"] for frame in slow.frames if frame["type"] == "mark"]
        for n in marks:
            slow.send(type="ack", n=n)
        await slow.until(lambda: len(late.events) == 150)
        assert [event["data"]["n"] for event in late.events] == list(range(150))
        assert late.resets == []


async def test_a_reader_that_stalls_and_asks_on_is_cut(application: Any) -> None:
    @register("dump")
    class Dump(Topic):
        public = True

        @action
        async def all(self, ctx: Any) -> str:
            return "x" * 200_000

    async with RealtimeClient(application) as client:
        client.reading = False
        for number in range(12):
            client.send(type="call", id=number, topic="dump", action="all")
        assert (await client.closed()).code == 4001
        assert sum(frame["type"] == "ok" for frame in client.frames) < 9


async def test_a_wrong_ack_ends_the_connection(application: Any) -> None:
    async with RealtimeClient(application) as client:
        client.send(type="ack", n="guess")
        assert (await client.closed()).code == 4503


async def test_hello_must_come_in_time(application: Any) -> None:
    with override_settings(WSREALTIME={"LIMITS": {"hello_seconds": 0.05}}):
        client = RealtimeClient(application)
        client.send = lambda **frame: None  # type: ignore[method-assign]
        with pytest.raises(ConnectionClosed) as closed:
            await client.__aenter__()
        assert closed.value.code == 4008
        await client.__aexit__()


async def test_one_user_has_a_limited_number_of_connections(application: Any, ada: Any) -> None:
    with override_settings(WSREALTIME={"LIMITS": {"connections_per_user": 1}}):
        async with RealtimeClient(application, user=ada):
            second = RealtimeClient(application, user=ada)
            with pytest.raises(ConnectionClosed) as closed:
                await second.__aenter__()
            assert closed.value.code == 4029
            await second.__aexit__()


async def test_one_address_opens_a_limited_number_of_connections(application: Any) -> None:
    limited = {"TRUSTED_PROXIES": ["127.0.0.0/8"], "LIMITS": {"connections_per_address": 0.001}}
    with override_settings(WSREALTIME=limited):
        async with RealtimeClient(application, headers={"x-forwarded-for": "203.0.113.1"}):
            again = RealtimeClient(application, headers={"x-forwarded-for": "1.2.3.4, 203.0.113.1"})
            with pytest.raises(ConnectionClosed) as closed:
                await again.__aenter__()
            assert closed.value.code == 4029
            await again.__aexit__()
            async with RealtimeClient(application, headers={"x-forwarded-for": "203.0.113.2"}):
                pass


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "testserver"),
        ("null", "testserver"),
        (None, "testserver"),
        ("http://testserver.evil.example", "testserver"),
        ("http://testserver:8000", "testserver"),
        ("https://testserver", "testserver"),
        ("http://evil.example", "evil.example"),
        ("http://[", "testserver"),
        ("file://testserver", "testserver"),
        ("http://testserver/path", "testserver"),
        ("http://a@testserver", "testserver"),
    ],
)
async def test_foreign_pages_are_refused_before_the_upgrade(
    application: Any, origin: str | None, host: str
) -> None:
    client = RealtimeClient(application, origin=origin, host=host)
    with pytest.raises(ConnectionClosed):
        await client.__aenter__()
    assert not client._accepted
    await client.__aexit__()


async def test_clients_of_other_protocols_are_refused(application: Any) -> None:
    client = RealtimeClient(application)
    scope = client._scope()
    client._scope = lambda: {**scope, "subprotocols": ["chat"]}  # type: ignore[method-assign]
    with pytest.raises(ConnectionClosed):
        await client.__aenter__()
    assert not client._accepted
    await client.__aexit__()


async def test_a_star_among_djangos_trusted_origins_means_nothing(application: Any) -> None:
    with override_settings(CSRF_TRUSTED_ORIGINS=["*"]):
        client = RealtimeClient(application, origin="http://evil.example")
        with pytest.raises(ConnectionClosed):
            await client.__aenter__()
        await client.__aexit__()
    with override_settings(WSREALTIME={"ALLOWED_ORIGINS": ["*"]}):
        async with RealtimeClient(application, origin="http://evil.example"):
            pass
