"""Joins that meet something else: a refusal, a withdrawal, the connection's end, a store away."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from django_wsrealtime import (
    History,
    Presence,
    Topic,
    apublish,
    disconnect,
    recheck,
    register,
)
from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import BrokerUnavailable
from django_wsrealtime.hub import core as hub_core
from django_wsrealtime.protocol.position import Since
from django_wsrealtime.testing import RealtimeClient
from django_wsrealtime.testing.client import RequestFailed
from django_wsrealtime.topics import access
from django_wsrealtime.topics.registry import registry
from django_wsrealtime.transports.local import get_local

User = get_user_model()
ALLOWED: set[str] = set()


class Rule:
    """What a topic's rule and snapshot wait for."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.answer.set()
        self.snapshot_begun = asyncio.Event()
        self.snapshot = asyncio.Event()
        self.snapshot.set()


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    broker = MemoryBroker()
    before = set_broker(broker)
    yield broker
    set_broker(before)


@pytest.fixture
def rule(broker: MemoryBroker) -> Iterator[Rule]:
    rule = Rule()
    ALLOWED.clear()
    ALLOWED.add("ada")
    access.forget()
    with registry.isolated():

        @register("club/<slug:slug>")
        class Club(Topic):
            presence = Presence()
            publish_by = "subscribers"
            whisper_by = "subscribers"

            def can_subscribe(self, user: Any) -> bool:
                allowed = user.username in ALLOWED
                rule.asked.set()
                rule.answer.wait(10)
                return allowed

            async def snapshot(self) -> Any:
                rule.snapshot_begun.set()
                await rule.snapshot.wait()
                return {"rows": []}

        @register("staff/<slug:slug>")
        class Staff(Topic):
            def can_subscribe(self, user: Any) -> bool:
                return bool(user.has_perm("auth.change_group"))

        @register("members/<slug:slug>")
        class Members(Topic):
            public = True
            history = History(size=50, ttl=60, from_="join")

        yield rule


@pytest.fixture
def application() -> Any:
    return get_asgi_application()


@pytest.fixture
def ada() -> Any:
    return User(pk=5, username="ada")


async def settle() -> None:
    """Let everything that is ready have its turns."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_comes_with_the_connections_end_follows_nothing(
    application: Any, ada: Any, rule: Rule
) -> None:
    async with RealtimeClient(application, user=ada) as client:
        hub = get_local().hub
        subscribe = {"type": "subscribe", "id": 1, "topic": "members/a"}
        client.send_text(f"{json.dumps(subscribe)}\n" + json.dumps({"type": "ack", "n": "wrong"}))
        await client.closed()
        await settle()
        assert hub.connections == []


async def test_whoever_is_refused_on_asking_again_is_present_no_longer(
    application: Any, ada: Any, rule: Rule, broker: MemoryBroker
) -> None:
    async with RealtimeClient(application, user=ada) as client:
        club = await client.subscribe("club/a")
        await client.until(lambda: bool(club.members))
        ALLOWED.clear()
        access.forget()
        with pytest.raises(RequestFailed):
            await client.subscribe("club/a")
        await settle()
        assert broker.present("club/a") == []
        assert get_local().hub.subscribed(next(iter(get_local()._connections))) == []


async def test_permission_withdrawn_while_the_snapshot_is_made(
    application: Any, ada: Any, rule: Rule, broker: MemoryBroker
) -> None:
    rule.snapshot.clear()
    async with RealtimeClient(application, user=ada) as client:
        joining = asyncio.ensure_future(client.subscribe("club/a"))
        await rule.snapshot_begun.wait()
        ALLOWED.clear()
        recheck(ada)
        hub = get_local().hub
        while any(hub.subscribed(connection) for connection in hub.connections):
            await asyncio.sleep(0.001)
        rule.snapshot.set()
        with pytest.raises(RequestFailed) as failed:
            await joining
        assert failed.value.code == "forbidden"
        assert broker.present("club/a") == []
        assert [frame["type"] for frame in client.frames if "topic" in frame] == ["error"]


async def test_permission_withdrawn_while_the_rule_is_asked(
    application: Any, ada: Any, rule: Rule
) -> None:
    rule.answer.clear()
    async with RealtimeClient(application, user=ada) as client:
        joining = asyncio.ensure_future(client.subscribe("club/a"))
        await asyncio.to_thread(rule.asked.wait, 10)
        ALLOWED.clear()
        recheck(ada)
        await settle()
        rule.answer.set()
        with pytest.raises(RequestFailed) as failed:
            await joining
        assert failed.value.code == "forbidden"


async def test_a_refused_join_does_not_spoil_the_next(
    application: Any, ada: Any, rule: Rule
) -> None:
    rule.answer.clear()
    ALLOWED.clear()
    async with RealtimeClient(application, user=ada) as client:
        first = asyncio.ensure_future(client.subscribe("club/a"))
        await asyncio.to_thread(rule.asked.wait, 10)
        second = asyncio.ensure_future(client.request(type="subscribe", topic="club/a"))
        await settle()
        ALLOWED.add("ada")
        rule.answer.set()
        with pytest.raises(RequestFailed):
            await first
        await second
        await client.publish("club/a", "note", 1)


@pytest.mark.django_db(transaction=True)
async def test_asking_again_asks_about_the_user_as_it_is_now(application: Any, rule: Rule) -> None:
    grace = await User.objects.acreate(username="grace")
    await grace.user_permissions.aadd(await Permission.objects.aget(codename="change_group"))
    async with RealtimeClient(application, user=grace) as client:
        staff = await client.subscribe("staff/a")
        await grace.user_permissions.aclear()
        recheck(grace)
        await client.until(lambda: staff.resets == ["revoked"])
        with pytest.raises(RequestFailed):
            await client.subscribe("staff/a")


@pytest.mark.django_db(transaction=True)
async def test_a_deactivated_user_is_thrown_out_when_asked_again(
    application: Any, rule: Rule
) -> None:
    grace = await User.objects.acreate(username="grace")
    async with RealtimeClient(application, user=grace) as client:
        await User.objects.filter(pk=grace.pk).aupdate(is_active=False)
        recheck(grace)
        assert (await client.closed()).code == 4101


async def test_while_the_store_is_away_whispers_are_dropped_and_joins_wait(
    application: Any, ada: Any, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_core, "RETRY_SECONDS", 0.01)
    async with RealtimeClient(application, user=ada) as client:
        await client.subscribe("club/a")
        listener, asked = get_local().hub.listener, 0
        claim = listener.claim

        async def away(*args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked <= 2:
                raise BrokerUnavailable("away")
            return await claim(*args, **kwargs)

        async def silent(*args: Any, **kwargs: Any) -> None:
            raise BrokerUnavailable("away")

        monkeypatch.setattr(listener, "claim", away)
        monkeypatch.setattr(listener, "signal", silent)
        client.whisper("club/a", "typing", {})
        await client.subscribe("members/a")
        assert asked >= 3


async def test_nobody_joins_at_the_beginning_of_time(
    application: Any, rule: Rule, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker whose store is away says so with a time of 0."""
    monkeypatch.setattr(hub_core, "RETRY_SECONDS", 0.01)
    times = [Since(time=0), broker.now()]
    monkeypatch.setattr(broker, "now", lambda: times.pop(0))
    claimed: list[str] = []
    async with RealtimeClient(application) as client:
        listener = get_local().hub.listener
        claim = listener.claim

        async def noted(name: str, value: str, *, ttl: float) -> str:
            claimed.append(value)
            return await claim(name, value, ttl=ttl)

        monkeypatch.setattr(listener, "claim", noted)
        await client.subscribe("members/a")
    assert claimed
    assert "0" not in claimed


async def test_in_an_event_loop_orders_are_given_by_a_thread(
    application: Any, ada: Any, rule: Rule, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    signal = broker.signal

    def noted(topic: str, payload: bytes) -> None:
        threads.append(threading.current_thread())
        signal(topic, payload)

    async with RealtimeClient(application, user=ada) as client:
        monkeypatch.setattr(MemoryBroker, "blocking", True)
        monkeypatch.setattr(broker, "signal", noted)
        disconnect(ada)
        await client.closed()
    assert threads != [threading.main_thread()]


async def test_asking_for_a_topic_again_keeps_what_the_member_shows(
    application: Any, ada: Any, rule: Rule, broker: MemoryBroker
) -> None:
    async with RealtimeClient(application, user=ada) as client:
        club = await client.subscribe("club/a")
        await client.request(type="presence", topic="club/a", state={"x": 1})
        await client.request(type="subscribe", topic="club/a", position=club.position)
        await settle()
        [attendance] = broker.present("club/a")
        assert json.loads(attendance.info)["state"] == {"x": 1}


async def test_a_member_who_was_here_for_long_comes_back_without_a_reset(
    application: Any, ada: Any, rule: Rule
) -> None:
    time = [1_000_000_000_000]
    before = set_broker(MemoryBroker(clock=lambda: time[0]))
    try:
        async with RealtimeClient(application, user=ada) as client:
            members = await client.subscribe("members/a")
            time[0] += 100_000_000  # longer than anything is kept
            await apublish("members/a", "n", 1)
            await members.next_event()
            await client.drop()
            time[0] += 1_000_000
            await apublish("members/a", "n", 2)
            await client.resume()
            assert (await members.next_event())["data"] == 2
            assert members.resets == []
            # Unlike one who comes for the first time.
            time[0] += 1
            async with RealtimeClient(application) as other:
                late = await other.subscribe("members/a", since=0)
                assert late.events == []
    finally:
        set_broker(before)
