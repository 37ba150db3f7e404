"""What server code and the hub may ask a topic."""

import asyncio
import json
import threading
from typing import Any

import msgspec
import pytest

from django_wsrealtime.brokers.base import Attendance
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.hub.feed import Source
from django_wsrealtime.protocol import signals
from django_wsrealtime.topics import History, Member, Topic
from django_wsrealtime.topics.control import CONTROL, Order
from django_wsrealtime.topics.registry import Registry

from .conftest import Clock


@pytest.fixture
def topics(topics: Registry, broker: MemoryBroker) -> Registry:
    return topics


def declare(topics: Registry, **attributes: Any) -> Topic:
    room: type[Topic] = topics.register("room/<slug:slug>")(type("Room", (Topic,), attributes))
    return room(slug="a")


# Snapshots -----------------------------------------------------------------------------------


def test_a_topic_is_a_source_of_the_hub(topics: Registry) -> None:
    source: Source = declare(topics)
    assert source.name == "room/a"
    assert source.history == History()
    assert source.keyed is False
    assert source.has_snapshot is False


async def test_a_sync_snapshot_is_made_in_a_thread(topics: Registry) -> None:
    def snapshot(self: Any) -> dict[str, Any]:
        return {"slug": self.slug, "thread": threading.current_thread().name[:10]}

    topic = declare(topics, snapshot=snapshot)
    assert topic.has_snapshot
    [chunk] = await topic.make_snapshot()
    assert json.loads(chunk) == {"slug": "a", "thread": "wsrealtime"}


async def test_an_async_snapshot_is_made_in_the_event_loop(topics: Registry) -> None:
    async def snapshot(self: Any) -> dict[str, Any]:
        asyncio.get_running_loop()
        return {"messages": [1, 2]}

    assert await declare(topics, snapshot=snapshot).make_snapshot() == [b'{"messages":[1,2]}']


@pytest.mark.parametrize("wrong", [None, [1], "x"])
async def test_a_snapshot_is_a_mapping(topics: Registry, wrong: Any) -> None:
    topic = declare(topics, snapshot=lambda self: wrong)
    with pytest.raises(TypeError, match=r"Room.snapshot\(\) returned .* expected a dict"):
        await topic.make_snapshot()


# History -------------------------------------------------------------------------------------


def test_what_is_kept_can_be_read(topics: Registry, clock: Clock) -> None:
    topic = declare(topics, history=History(size=2, ttl=60))
    for number in range(3):
        topic.publish("n", number)
    assert [(event.offset, event.data) for event in topic.read_history()] == [(2, 1), (3, 2)]
    clock.now += 61
    assert topic.read_history() == []


async def test_what_is_kept_can_be_read_from_a_coroutine(topics: Registry) -> None:
    topic = declare(topics)
    await topic.apublish("n", 1)
    assert [event.data for event in await topic.aread_history()] == [1]


# Members -------------------------------------------------------------------------------------


def attendance(sid: str, member: str, **info: Any) -> Attendance:
    return Attendance(sid=sid, member=member, info=msgspec.json.encode(info))


async def test_members_are_persons(topics: Registry, broker: MemoryBroker) -> None:
    topic = declare(topics)
    broker.attend(
        "room/a",
        [
            attendance("s1", "7", name="Ada", state={"away": True}, at=2.0),
            attendance("s2", "8", name="Bob"),
            attendance("s3", "7", name="Ada", state={"away": False}, at=1.0),
        ],
        ttl=45,
    )
    expected = [
        Member(id="7", name="Ada", state={"away": True}, connections=2),
        Member(id="8", name="Bob", state={}, connections=1),
    ]
    assert topic.members() == expected
    assert await topic.amembers() == expected


def test_members_that_are_not_heard_of_are_gone(
    topics: Registry, broker: MemoryBroker, clock: Clock
) -> None:
    topic = declare(topics)
    broker.attend("room/a", [attendance("s1", "7", name="Ada")], ttl=45)
    clock.now += 46
    assert topic.members() == []


# Disconnecting -------------------------------------------------------------------------------


class Heard:
    """Notes the signals of a broker."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, signals.Signal]] = []

    def on_signal(self, topic: str, payload: bytes) -> None:
        self.signals.append((topic, signals.decode(payload)))

    def on_entry(self, topic: str, entry: Any) -> None: ...

    def on_reset(self, topic: str, reason: str) -> None: ...

    def on_doubt(self, topics: Any) -> None: ...


async def test_a_user_can_be_turned_out_of_one_topic(
    topics: Registry, broker: MemoryBroker
) -> None:
    heard = Heard()
    listener = broker.listen(heard)
    await listener.subscribe([CONTROL])
    declare(topics).disconnect(7)
    while not heard.signals:
        await asyncio.sleep(0)
    [(where, signal)] = heard.signals
    order = Order.read(signal)
    assert (where, order.user, order.topic) == (CONTROL, "7", "room/a")
    await listener.aclose()
