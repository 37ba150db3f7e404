"""What the server and members publish is in the topic's log, after the commit it belongs to."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import RequestFactory
from django.utils.translation import gettext_lazy as _

from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import BrokerUnavailable, ErrorCode, ProtocolError, UnknownTopic
from django_wsrealtime.topics import Event, History, Topic, apublish, publish
from django_wsrealtime.topics.actions import Context
from django_wsrealtime.topics.publish import member_publish
from django_wsrealtime.topics.registry import Registry

from .conftest import member

pytestmark = pytest.mark.usefixtures("broker")


@pytest.fixture
def room(topics: Registry) -> Topic:
    @topics.register("room/<slug:slug>")
    class Room(Topic):
        history = History(size=50, ttl=60)

    return Room(slug="a")


def told(topic: Topic) -> list[tuple[str, Any]]:
    return [(event.event, event.data) for event in topic.read_history()]


def test_a_topic_is_given_by_its_name_or_itself(room: Topic) -> None:
    publish("room/a", "one", {"n": 1})
    publish(room, "two")
    room.publish("three", [3])
    assert told(room) == [("one", {"n": 1}), ("two", None), ("three", [3])]


async def test_from_a_coroutine(room: Topic) -> None:
    await apublish("room/a", "one", {"n": 1})
    await room.apublish("two")
    publish("room/a", "three")
    assert [event for event, _ in told(room)] == ["one", "two", "three"]


def test_from_a_thread(room: Topic) -> None:
    thread = threading.Thread(target=publish, args=("room/a", "one"))
    thread.start()
    thread.join()
    assert told(room) == [("one", None)]


def test_an_event_says_what_it_is(room: Topic, broker: MemoryBroker) -> None:
    room.publish("flash", {"a": 1}, origin="tab7", key="k")
    [event] = room.read_history()
    assert event == Event(
        topic="room/a",
        epoch=event.epoch,
        offset=1,
        time=1_000_000_000_000,
        kind="app",
        event="flash",
        data={"a": 1},
        key="k",
        origin="tab7",
    )


def test_bytes_make_a_binary_event(room: Topic) -> None:
    for data in (b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")):
        room.publish("stroke", data)
    assert told(room) == [("stroke", b"\x00\xff")] * 3
    assert room.read_history()[0].kind == "app"


def test_an_unknown_topic_is_answered_with_what_is_near(room: Topic) -> None:
    with pytest.raises(UnknownTopic, match="did you mean 'room/<slug:slug>'"):
        publish("rooms/a", "flash")


@pytest.mark.parametrize("data", [object(), {"user": User()}, float, {1, object()}, "\ud800"])
def test_data_that_cannot_be_sent_is_refused_at_the_call(room: Topic, data: Any) -> None:
    with pytest.raises(TypeError, match="event 'flash' of topic 'room/a'"):
        publish("room/a", "flash", data)
    assert told(room) == []


def test_a_key_makes_a_retry_harmless(room: Topic) -> None:
    room.publish("paid", {"n": 1}, key="order-5")
    room.publish("paid", {"n": 2}, key="order-5")
    room.publish("paid", {"n": 3}, key="order-6")
    assert [data for _, data in told(room)] == [{"n": 1}, {"n": 3}]


# Where it comes from -------------------------------------------------------------------------


def test_the_origin_is_in_the_requests_header_or_form(room: Topic, rf: RequestFactory) -> None:
    room.publish("a", origin=rf.get("/", headers={"X-Realtime-Tab": "t1"}))
    room.publish("b", origin=rf.post("/", {"_realtime_tab": "t2"}))
    room.publish("c", origin=rf.post("/", data="{}", content_type="application/json"))
    room.publish("d", origin=rf.get("/", {"_realtime_tab": "t3"}))
    room.publish("e", origin=Context(identity=member(7)))
    room.publish("f", origin="x" * 65)
    origins = [event.origin for event in room.read_history()]
    assert origins == ["t1", "t2", None, None, "tab7", None]


# Transactions --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_nothing_is_published_before_the_commit(room: Topic) -> None:
    with transaction.atomic():
        room.publish("after")
        room.publish("now", on_commit=False)
        assert told(room) == [("now", None)]
    assert told(room) == [("now", None), ("after", None)]


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_published(room: Topic) -> None:
    with transaction.atomic():
        room.publish("one")
        with transaction.atomic():
            room.publish("two")
            transaction.set_rollback(True)
        room.publish("three")
    assert [event for event, _ in told(room)] == ["one", "three"]


@pytest.mark.django_db(transaction=True)
def test_data_is_that_of_the_call_not_of_the_commit(room: Topic) -> None:
    data = {"n": 1}
    with transaction.atomic():
        room.publish("one", data)
        data["n"] = 2
    assert told(room) == [("one", {"n": 1})]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_database_whose_commit_is_waited_for_can_be_named(room: Topic) -> None:
    with transaction.atomic(using="other"):
        room.publish("default", using="default")
        room.publish("other", using="other")
        assert told(room) == [("default", None)]
    assert told(room) == [("default", None), ("other", None)]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_without_a_name_it_is_the_one_that_is_in_a_transaction(room: Topic) -> None:
    with transaction.atomic(using="other"):
        room.publish("one")
        assert told(room) == []
    assert told(room) == [("one", None)]
    with transaction.atomic(using="other"):
        with transaction.atomic():
            room.publish("two")
        assert told(room) == [("one", None), ("two", None)]


# Members -------------------------------------------------------------------------------------


async def test_what_a_member_publishes_is_marked_as_such(room: Topic) -> None:
    await member_publish(room, member(7), "upsert", {"pk": 1}, key="k")
    [event] = room.read_history()
    assert (event.kind, event.event, event.key, event.origin) == ("client", "upsert", "k", None)
    assert event.sender is not None
    assert (event.sender.id, event.sender.name) == ("7", "user7")


async def test_a_member_may_publish_bytes(room: Topic) -> None:
    await member_publish(room, member(7), "stroke", b"\x00\x01")
    [event] = room.read_history()
    assert (event.kind, event.data) == ("client", b"\x00\x01")


async def test_a_members_retry_is_harmless_and_its_key_is_its_own(room: Topic) -> None:
    first = await member_publish(room, member(1), "paid", 1, key="k")
    again = await member_publish(room, member(1, sid="other"), "paid", 2, key="k")
    await member_publish(room, member(2), "paid", 3, key="k")
    room.publish("paid", 4, key="k")
    assert first.positions == again.positions
    assert [data for _, data in told(room)] == [1, 3, 4]


class Away(MemoryBroker):
    """A broker whose store cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[], None]] = []

    def append(self, commands: Any) -> Any:
        raise BrokerUnavailable("away")

    def when_back(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


@pytest.fixture
def away(broker: MemoryBroker) -> Iterator[Away]:
    """The broker, while it is away; it is back after the test."""
    away = Away()
    set_broker(away)
    yield away
    set_broker(broker)
    for callback in away.callbacks:
        callback()


@pytest.mark.usefixtures("away")
async def test_a_member_is_told_that_it_could_not_be_published(room: Topic) -> None:
    with pytest.raises(ProtocolError) as caught:
        await member_publish(room, member(), "paid", 1)
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert caught.value.retry_after


@pytest.mark.usefixtures("away")
def test_the_server_is_not_disturbed_by_a_broker_that_is_away(
    room: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    room.publish("paid", 1)
    assert "room/a" in caplog.text


def test_lazy_strings_are_in_the_language_of_the_call(room: Topic) -> None:
    room.publish("flash", {"label": _("Yes")})
    assert msgspec.json.encode(told(room)[0][1]) == b'{"label":"Yes"}'
