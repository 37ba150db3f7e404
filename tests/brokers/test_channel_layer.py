"""Another channel layer drops, fails or is late: a reset or an error, never a silent hole."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from django_wsrealtime.brokers import broker_path
from django_wsrealtime.brokers.base import History, Outcome, Publish, RowChange
from django_wsrealtime.brokers.channel_layer import ChannelLayerBroker
from django_wsrealtime.errors import BrokerUnavailable, ConfigurationError
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.testing.conformance import Ears
from tests.support.waiting import wait_until

from .redis_tools import counted
from .test_conformance import OtherLayer

KEPT = History()


class FaultyLayer(OtherLayer):
    """A layer that can be told to drop or to fail."""

    dropping = False
    failing = False

    async def send(self, channel: str, message: Any) -> None:
        if not self.dropping:
            await super().send(channel, message)

    async def group_send(self, group: str, message: Any) -> None:
        self._fail()
        await super().group_send(group, message)

    async def receive(self, channel: str) -> Any:
        while (queue := self.channels.get(channel)) is None or queue.empty():
            self._fail()
            await asyncio.sleep(0.001)
        return await super().receive(channel)

    def _fail(self) -> None:
        if self.failing:
            raise OSError("the layer's server is away")


@pytest.fixture
def layer() -> FaultyLayer:
    return FaultyLayer(capacity=1_000)


@pytest.fixture
def broker(layer: FaultyLayer) -> Iterator[ChannelLayerBroker]:
    broker = ChannelLayerBroker(layer=layer)
    yield broker
    broker.close()


@pytest.fixture
def other(layer: FaultyLayer) -> Iterator[ChannelLayerBroker]:
    """Another process's."""
    broker = ChannelLayerBroker(layer=layer)
    yield broker
    broker.close()


@pytest.fixture
def ears(broker: ChannelLayerBroker) -> Iterator[Ears]:
    ears = Ears(broker)
    ears.do(ears.listener.subscribe(["t", "u"]))
    yield ears
    ears.close()


def publish(broker: ChannelLayerBroker, topic: str, body: bytes) -> None:
    broker.append([Publish(topic=topic, body=body, history=KEPT)])


def change(ticket: int | None, topics: dict[str, bytes], *before: str) -> RowChange:
    return RowChange(
        row="row",
        ticket=ticket,
        topics=topics,
        remove=b"remove",
        before=frozenset(before),
        history=KEPT,
    )


def test_what_was_dropped_is_a_reset_when_the_next_one_comes(
    broker: ChannelLayerBroker, layer: FaultyLayer, ears: Ears
) -> None:
    publish(broker, "t", b"1")
    ears.wait_for_entries("t", 1)
    layer.dropping = True
    publish(broker, "t", b"dropped")
    layer.dropping = False
    with counted("bus.gap"):
        publish(broker, "t", b"2")
        first, second = ears.wait_for_entries("t", 2)
    assert [told[0] for told in ears.heard] == ["entry", "reset", "entry"]
    assert (second.offset, second.body) == (1, b"2")
    assert second.epoch != first.epoch


def test_several_publishers_are_no_gap(
    broker: ChannelLayerBroker, other: ChannelLayerBroker, ears: Ears
) -> None:
    for number in range(5):
        publish(broker, "t", b"%d" % number)
        publish(other, "t", b"%d" % number)
        ears.wait_for_entries("t", 2 * number + 2)
    assert [entry.offset for entry in ears.entries("t")] == list(range(1, 11))


def test_a_layer_that_fails_is_away_until_it_is_back(
    broker: ChannelLayerBroker, layer: FaultyLayer
) -> None:
    called: list[bool] = []
    publish(broker, "t", b"1")
    layer.failing = True
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            publish(broker, "t", b"2")
    broker.when_back(lambda: called.append(True))
    assert called == []
    layer.failing = False
    wait_until(lambda: called)
    publish(broker, "t", b"3")


def test_after_an_interruption_every_topic_begins_anew(
    broker: ChannelLayerBroker, layer: FaultyLayer, ears: Ears
) -> None:
    publish(broker, "t", b"1")
    ears.wait_for_entries("t", 1)
    before = ears.do(ears.listener.heads({"t": KEPT, "u": KEPT}))
    interruptions = counters().get("bus.interrupted", 0)
    layer.failing = True
    layer.groups.clear()  # its server was restarted
    with pytest.raises(BrokerUnavailable):
        publish(broker, "t", b"lost")
    wait_until(lambda: counters().get("bus.interrupted", 0) > interruptions)
    layer.failing = False
    wait_until(lambda: ("doubt", None) in ears.heard)
    after = ears.do(ears.listener.heads({"t": KEPT, "u": KEPT}))
    assert all(before[topic].epoch != after[topic].epoch for topic in ("t", "u"))
    wait_until(lambda: not broker.breaker.is_open)
    publish(broker, "t", b"2")
    ears.wait_for_entries("t", 2)


def test_a_late_row_is_not_told(
    layer: FaultyLayer, broker: ChannelLayerBroker, other: ChannelLayerBroker, ears: Ears
) -> None:
    low, high = other.ticket(), broker.ticket() + 1_000_000
    broker.append([change(high, {"t": b"v2"})])
    ears.wait_for_entries("t", 1)
    with counted("bus.late", 2):
        other.append([change(low, {"t": b"v1"})])
        third = ChannelLayerBroker(layer=layer)
        third.append([change(None, {"t": b"v0"})])
        third.close()
        publish(broker, "t", b"next")
        ears.wait_for_entries("t", 2)
    assert [entry.body for entry in ears.entries("t")] == [b"v2", b"next"]


def test_one_process_s_rows_are_as_strict_as_ever(broker: ChannelLayerBroker, ears: Ears) -> None:
    low, high = broker.ticket(), broker.ticket()
    [first] = broker.append([change(high, {"t": b"in t"})])
    [late] = broker.append([change(low, {"t": b"late"})])
    [moved] = broker.append([change(broker.ticket(), {"u": b"in u"})])
    assert [first.outcome, late.outcome, moved.outcome] == [
        Outcome.APPENDED,
        Outcome.REFUSED,
        Outcome.APPENDED,
    ]
    ears.wait_for_entries("u", 1)
    assert [entry.body for entry in ears.wait_for_entries("t", 2)] == [b"in t", b"remove"]


def test_a_forged_ring_is_skipped(
    broker: ChannelLayerBroker, layer: FaultyLayer, ears: Ears
) -> None:
    with counted("bus.rejected"):
        for message in (
            {"type": "wsrealtime.ring", "topic": "t", "ring": b"E" + b"0" * 40},
            {"type": "wsrealtime.ring", "topic": 7, "ring": None},
            {"type": "something.else"},
        ):
            ears.do(layer.group_send(broker.group("t"), message))
        publish(broker, "t", b"true")
        ears.wait_for_entries("t", 1)
    assert [told[0] for told in ears.heard] == ["entry"]


def test_groups_names_are_what_every_layer_can_spell(broker: ChannelLayerBroker) -> None:
    group = broker.group("Straße/😀 " + "x" * 180)
    assert InMemoryChannelLayer().require_valid_group_name(group)
    assert group != broker.group("Straße/😀 " + "x" * 179)


def test_it_is_chosen_for_any_other_layer(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.brokers.test_conformance.OtherLayer"}}
    assert broker_path() == "django_wsrealtime.brokers.channel_layer.ChannelLayerBroker"
    settings.CHANNEL_LAYERS = {}
    with pytest.raises(ConfigurationError, match="CHANNEL_LAYERS has no 'default'"):
        ChannelLayerBroker()
