"""What readers get from a hub, whatever happens to rings, readers and logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from django_wsrealtime.brokers.base import (
    Entry,
    History,
    Page,
    Publish,
    Reset,
    RowChange,
)
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import BrokerUnavailable, ProtocolError
from django_wsrealtime.hub import Hub, Message
from django_wsrealtime.hub import core as hub_core
from django_wsrealtime.hub.catchup import CatchUp
from django_wsrealtime.protocol import binary, codec
from django_wsrealtime.protocol.position import Position, Since, Start
from django_wsrealtime.protocol.window import Window

HISTORY = History(size=100, ttl=300)


class Reader:
    """A connection that keeps what it is sent and acknowledges when told to."""

    def __init__(self, *, window: int = 262_144) -> None:
        self.sid = f"reader-{id(self)}"
        self.frames: list[dict[str, Any]] = []
        self.binary: list[bytes] = []
        self.window = Window(size=window)
        self._arrived = asyncio.Event()

    @property
    def lagging(self) -> bool:
        return self.window.lagging

    def write(self, message: Message) -> bool:
        self.window.sent += message.size
        if message.binary:
            self.binary.append(message.data)
        else:
            self.frames.append(json.loads(message.data))
        self._arrived.set()
        return not self.lagging

    def acknowledge(self) -> None:
        self.window.acknowledged = self.window.sent

    async def until(self, predicate: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not predicate():
                self._arrived.clear()
                await self._arrived.wait()

        await asyncio.wait_for(wait(), timeout=10)

    async def next(self, type: str) -> dict[str, Any]:
        await self.until(lambda: any(frame["type"] == type for frame in self.frames))
        return next(frame for frame in self.frames if frame["type"] == type)

    def applied(self) -> list[tuple[str, int]]:
        """Epoch and offset of every event, as a client would apply them; fails on a hole."""
        position: Position | None = None
        found: list[tuple[str, int]] = []
        for frame in self.frames:
            if frame["type"] in ("subscribed", "reset"):
                for event in frame.get("events", ()):
                    found.append((event["epoch"], event["offset"]))
                position = Position(epoch=frame["epoch"], offset=frame["offset"])
            elif frame["type"] == "event":
                assert position is not None
                assert (frame["epoch"], frame["offset"]) == (position.epoch, position.offset + 1)
                position = Position(epoch=frame["epoch"], offset=frame["offset"])
                found.append((frame["epoch"], frame["offset"]))
        return found


class Source:
    """A topic as the hub sees it."""

    def __init__(
        self,
        name: str = "orders/7",
        *,
        keyed: bool = False,
        snapshot: Callable[[], list[bytes]] | None = None,
        history: History = HISTORY,
    ) -> None:
        self.name = name
        self.history = history
        self.keyed = keyed
        self.has_snapshot = snapshot is not None
        self.snapshots = 0
        self.gate: asyncio.Event | None = None
        self._snapshot = snapshot

    async def make_snapshot(self) -> list[bytes]:
        self.snapshots += 1
        if self.gate is not None:
            await self.gate.wait()
        assert self._snapshot is not None
        return self._snapshot()


class Deaf(MemoryBroker):
    """A memory broker whose bell can be switched off, and whose store can go away."""

    away = False

    def listen(self, handler: Any) -> Any:
        listener = super().listen(handler)
        broker = self
        reads: list[str] = []
        listener.reads = reads  # type: ignore[attr-defined]
        read = listener.read

        async def patched(topic: str, start: Start, *, history: History) -> Page:
            reads.append(topic)
            if broker.away:
                raise BrokerUnavailable("away")
            return await read(topic, start, history=history)

        listener.read = patched  # type: ignore[method-assign]
        return listener


@pytest.fixture
async def broker() -> MemoryBroker:
    return Deaf()


@pytest.fixture
async def hub(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(hub_core, "RETRY_SECONDS", 0.01)
    hub = Hub(broker)
    yield hub
    await hub.aclose()


def body(number: int, *, key: str | None = None, kind: str = "app", size: int = 0) -> bytes:
    data = codec.encode_data({"n": number, "fill": "x" * size})
    return codec.event_body(kind=kind, event="e", data=data, key=key)


def publish(broker: MemoryBroker, *numbers: int, topic: str = "orders/7", **options: Any) -> None:
    broker.append(
        [Publish(topic=topic, body=body(number, **options), history=HISTORY) for number in numbers]
    )


def numbers(reader: Reader) -> list[int]:
    found: list[int] = []
    for frame in reader.frames:
        events = frame.get("events", ()) if frame["type"] == "subscribed" else [frame]
        found += [event["data"]["n"] for event in events if event["type"] == "event"]
    return found


async def test_events_come_once_in_order_and_encoded_once(hub: Hub, broker: MemoryBroker) -> None:
    source, readers = Source(), [Reader() for _ in range(3)]
    for reader in readers:
        await hub.join(reader, source, None, id=5)
    publish(broker, *range(50))
    for reader in readers:
        await reader.until(lambda reader=reader: len(reader.frames) == 51)  # type: ignore[misc]
        assert numbers(reader) == list(range(50))
        assert reader.frames[0]["id"] == 5
        reader.applied()
    assert hub.listener.reads == ["orders/7"]  # type: ignore[attr-defined]


async def test_a_reader_that_comes_back_gets_what_it_missed(hub: Hub, broker: MemoryBroker) -> None:
    source, reader = Source(), Reader()
    await hub.join(reader, source, None)
    publish(broker, 1, 2)
    await reader.until(lambda: len(numbers(reader)) == 2)
    position = reader.frames[-1]
    hub.disconnect(reader)
    publish(broker, 3, 4)
    back = Reader()
    start = Position(epoch=position["epoch"], offset=position["offset"])
    await hub.join(back, source, start)
    publish(broker, 5)
    await back.until(lambda: len(numbers(back)) == 3)
    assert numbers(back) == [3, 4, 5]
    assert back.frames[0]["recovered"] is True
    assert back.applied()[-1][1] == 5


async def test_a_page_that_was_rendered_a_moment_ago_misses_nothing(
    hub: Hub, broker: MemoryBroker
) -> None:
    since = broker.now()
    publish(broker, 1)
    reader = Reader()
    await hub.join(reader, Source(), since)
    assert numbers(reader) == [1]
    assert reader.frames[0]["recovered"] is True


async def test_an_idle_topic_answers_since_without_a_reset(hub: Hub, broker: MemoryBroker) -> None:
    reader = Reader()
    await hub.join(reader, Source("never/used"), broker.now())
    assert reader.frames == [
        {
            "type": "subscribed",
            "topic": "never/used",
            "epoch": reader.frames[0]["epoch"],
            "offset": 0,
            "recovered": True,
        }
    ]


async def test_what_cannot_be_replayed_is_announced(hub: Hub, broker: MemoryBroker) -> None:
    source = Source()
    publish(broker, 1)
    for start in (Since(time=0), Position(epoch="other", offset=0), _beyond(broker)):
        reader = Reader()
        await hub.join(reader, source, start)
        assert reader.frames[0]["recovered"] is False
        assert "events" not in reader.frames[0]
        hub.disconnect(reader)


def _beyond(broker: MemoryBroker) -> Position:
    head = broker.heads({"orders/7": HISTORY})["orders/7"]
    return Position(epoch=head.epoch, offset=head.offset + 5)


async def test_a_lost_ring_is_noticed_by_the_next_one(hub: Hub, broker: MemoryBroker) -> None:
    reader = Reader()
    await hub.join(reader, Source(), None)
    await hub.listener.unsubscribe(["orders/7"])
    publish(broker, 1, 2, 3)
    await hub.listener.subscribe(["orders/7"])
    publish(broker, 4)
    await reader.until(lambda: len(numbers(reader)) == 4)
    assert numbers(reader) == [1, 2, 3, 4]
    reader.applied()


async def test_a_lost_last_ring_is_noticed_by_the_regular_look(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_core, "CHECK_SECONDS", 0.05)
    hub, reader = Hub(broker), Reader()
    await hub.join(reader, Source(), None)
    await hub.listener.unsubscribe(["orders/7"])
    publish(broker, 1)
    await reader.until(lambda: numbers(reader) == [1])
    await hub.aclose()


async def test_after_an_interruption_of_the_bus_positions_are_compared(
    hub: Hub, broker: MemoryBroker
) -> None:
    reader = Reader()
    await hub.join(reader, Source(), None)
    await hub.listener.unsubscribe(["orders/7"])
    publish(broker, 1, 2)
    hub.on_doubt(None)
    await reader.until(lambda: numbers(reader) == [1, 2])


async def test_a_new_epoch_resets_everybody_once_before_anything_newer(
    hub: Hub, broker: MemoryBroker
) -> None:
    readers = [Reader() for _ in range(3)]
    for reader in readers:
        await hub.join(reader, Source(), None)
    publish(broker, 1)
    broker.append([Reset(topic="orders/7", reason="bulk", history=HISTORY)])
    for reader in readers:
        await reader.next("reset")
    publish(broker, 2)
    for reader in readers:
        await reader.until(lambda reader=reader: len(numbers(reader)) == 2)  # type: ignore[misc]
        kinds = [frame["type"] for frame in reader.frames]
        assert kinds == ["subscribed", "event", "reset", "event"]
        assert reader.frames[2]["reason"] == "bulk"
        reader.applied()


async def test_a_reset_brings_one_snapshot_for_all(hub: Hub, broker: MemoryBroker) -> None:
    rows = [b'{"rows":[1]}', b'{"rows":[2]}']
    source = Source(keyed=True, snapshot=lambda: rows)
    readers = [Reader() for _ in range(20)]
    for reader in readers:
        await hub.join(reader, source, None)
    before = source.snapshots
    broker.append([Reset(topic="orders/7", reason="lost", history=HISTORY)])
    for reader in readers:
        await reader.next("reset")
        await reader.until(lambda reader=reader: reader.frames[-1]["type"] == "snapshot")  # type: ignore[misc]
        reset = next(frame for frame in reader.frames if frame["type"] == "reset")
        assert (reset["snapshot"], reset["more"]) == ({"rows": [1]}, True)
        assert reader.frames[-1]["items"] == {"rows": [2]}
        assert reader.frames[-1]["more"] is False
    assert source.snapshots == before + 1


async def test_snapshots_are_made_once_for_all_who_ask_at_a_time(hub: Hub) -> None:
    source = Source(snapshot=lambda: [b"{}"])
    source.gate = asyncio.Event()
    readers = [Reader() for _ in range(10)]
    joins = [asyncio.ensure_future(hub.join(reader, source, None)) for reader in readers]
    while not source.snapshots:
        await asyncio.sleep(0)
    source.gate.set()
    await asyncio.gather(*joins)
    assert source.snapshots == 1


async def test_the_position_of_a_snapshot_is_taken_before_it(
    hub: Hub, broker: MemoryBroker
) -> None:
    state: list[int] = []
    source = Source(keyed=True, snapshot=lambda: [json.dumps({"rows": state}).encode()])
    source.gate = asyncio.Event()
    reader = Reader()
    join = asyncio.ensure_future(hub.join(reader, source, None))
    while not source.snapshots:
        await asyncio.sleep(0)
    publish(broker, 1, key="1", kind="row")  # after the position, maybe before the state was read
    source.gate.set()
    await join
    await reader.until(lambda: numbers(reader) == [1])
    assert reader.frames[0]["offset"] == 0


async def test_a_snapshot_that_fails_is_an_error_for_the_joiner_alone(hub: Hub) -> None:
    def fail() -> list[bytes]:
        raise LookupError("no such table")

    source, other = Source(snapshot=fail), Source("other")
    reader = Reader()
    await hub.join(reader, other, None)
    with pytest.raises(ProtocolError, match="snapshot failed"):
        await hub.join(reader, source, None)
    assert hub.subscribed(reader) == ["other", "orders/7"]
    hub.leave(reader, "orders/7")


async def test_a_reader_that_stalls_is_parked_and_caught_up_and_others_notice_nothing(
    hub: Hub, broker: MemoryBroker
) -> None:
    source, slow, quick = Source(), Reader(window=5_000), Reader()
    await hub.join(slow, source, None)
    await hub.join(quick, source, None)
    publish(broker, *range(50), size=1_000)
    await quick.until(lambda: len(numbers(quick)) == 50)
    assert slow.lagging
    assert slow.window.sent < 7_000
    while len(numbers(slow)) < 50:
        slow.acknowledge()
        hub.resume(slow)
        await asyncio.sleep(0)
    assert numbers(slow) == list(range(50))
    slow.applied()
    publish(broker, 50)
    await quick.until(lambda: 50 in numbers(quick))


async def test_a_reader_that_lags_for_one_topic_is_parked_for_all(
    hub: Hub, broker: MemoryBroker
) -> None:
    reader = Reader(window=1_000)
    await hub.join(reader, Source("a"), None)
    await hub.join(reader, Source("b"), None)
    publish(broker, 1, topic="a", size=2_000)
    await reader.until(lambda: reader.lagging)
    publish(broker, *range(10), topic="b")
    publish(broker, 2, topic="a")
    await asyncio.sleep(0.01)
    assert numbers(reader) == [1]
    while len(numbers(reader)) < 12:
        reader.acknowledge()
        hub.resume(reader)
        await asyncio.sleep(0)
    assert sorted(numbers(reader)) == sorted([1, *range(10), 2])


async def test_a_keyed_topic_catches_up_with_the_latest_of_each_key(
    hub: Hub, broker: MemoryBroker
) -> None:
    source, reader = Source(keyed=True), Reader(window=2_000)
    await hub.join(reader, source, None)
    publish(broker, 0, key="a", kind="row", size=3_000)
    await reader.until(lambda: reader.lagging)
    for number in range(1, 21):
        publish(broker, number, key="ab"[number % 2], kind="row")
    reader.acknowledge()
    hub.resume(reader)
    await reader.until(lambda: reader.frames[-1].get("offset") == 21)
    caught_up = reader.frames[-1]
    assert (caught_up["type"], caught_up["recovered"]) == ("subscribed", True)
    assert [event["data"]["n"] for event in caught_up["events"]] == [19, 20]
    assert "id" not in caught_up
    publish(broker, 21, key="a", kind="row")
    await reader.until(lambda: reader.frames[-1].get("offset") == 22)


async def test_a_reader_that_lagged_beyond_the_history_gets_one_reset(
    hub: Hub, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_wsrealtime.hub.feed.RECENT_EVENTS", 10)
    reader = Reader(window=2_000)
    await hub.join(reader, Source(), None)
    publish(broker, *range(200), size=500)
    await reader.until(lambda: reader.lagging)
    await asyncio.sleep(0.01)
    reader.acknowledge()
    hub.resume(reader)
    reset = await reader.next("reset")
    assert reset["reason"] == "lagging"
    reader.acknowledge()
    publish(broker, 200)
    await reader.until(lambda: 200 in numbers(reader))
    assert [frame["type"] for frame in reader.frames].count("reset") == 1
    reader.applied()


async def test_while_the_store_is_away_a_join_waits_and_the_others_live(
    hub: Hub, broker: MemoryBroker
) -> None:
    old, new = Reader(), Reader()
    await hub.join(old, Source(), None)
    broker.away = True  # type: ignore[attr-defined]
    join = asyncio.ensure_future(hub.join(new, Source("other"), None))
    publish(broker, 1)
    await old.until(lambda: numbers(old) == [1])
    assert not join.done()
    broker.away = False  # type: ignore[attr-defined]
    await join
    assert new.frames[0]["type"] == "subscribed"


async def test_nobody_reads_what_was_published_before_they_may(
    hub: Hub, broker: MemoryBroker
) -> None:
    since = broker.now()
    publish(broker, 1)
    joined = broker.now().time + 1
    while broker.now().time <= joined:
        await asyncio.sleep(0)
    publish(broker, 2)
    reader = Reader()
    await hub.join(reader, Source(), since, not_before=joined)
    assert numbers(reader) == [2]
    hub.disconnect(reader)
    head = broker.heads({"orders/7": HISTORY})["orders/7"]
    other = Reader()
    await hub.join(other, Source(), Position(epoch=head.epoch, offset=0), not_before=joined)
    assert other.frames[0]["recovered"] is False


async def test_binary_events_are_replayed_as_frames_of_their_own(
    hub: Hub, broker: MemoryBroker
) -> None:
    start = broker.now()
    payload = binary.encode_body(kind="app", event="stroke", payload=b"\x00\xff")
    publish(broker, 1)
    broker.append([Publish(topic="orders/7", body=payload, history=HISTORY)])
    publish(broker, 3)
    reader = Reader()
    await hub.join(reader, Source(), start)
    await reader.until(lambda: 3 in numbers(reader))
    assert reader.frames[0]["offset"] == 1
    assert len(reader.binary) == 1
    assert reader.binary[0].endswith(b"\x00\xff")


async def test_bytes_in_a_keyed_topic_are_replayed_too(hub: Hub, broker: MemoryBroker) -> None:
    source, reader, since = Source(keyed=True), Reader(window=2_000), broker.now()
    await hub.join(reader, source, None)
    publish(broker, 0, key="a", kind="row", size=3_000)
    await reader.until(lambda: reader.lagging)
    publish(broker, 1, key="a", kind="row")
    payload = binary.encode_body(kind="client", event="stroke", payload=b"\x00\xff")
    broker.append([Publish(topic="orders/7", body=payload, history=HISTORY)])
    publish(broker, 2, key="a", kind="row")
    reader.acknowledge()
    hub.resume(reader)
    late = Reader()
    await hub.join(late, source, since)
    for each in (reader, late):
        await each.until(lambda each=each: 2 in numbers(each))  # type: ignore[misc]
        assert [message[-2:] for message in each.binary] == [b"\x00\xff"]


async def test_a_topic_that_was_given_up_while_it_was_opened_is_not_followed(
    hub: Hub, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_core, "LINGER_SECONDS", 0.0)
    reader = Reader()
    broker.away = True  # type: ignore[attr-defined]
    join = asyncio.ensure_future(hub.join(reader, Source(), None))
    await asyncio.sleep(0)
    hub.disconnect(reader)
    for _ in range(5):
        await asyncio.sleep(0)
    broker.away = False  # type: ignore[attr-defined]
    assert await join is False
    await asyncio.wait_for(_gone(hub), 5)


async def _gone(hub: Hub) -> None:
    while hub._feeds:
        await asyncio.sleep(0.001)


async def test_a_reset_while_a_topic_is_opened_is_noticed(hub: Hub, broker: MemoryBroker) -> None:
    publish(broker, 1)
    listener, reader = hub.listener, Reader()
    read = listener.read

    async def slow(topic: str, start: Start, *, history: History) -> Page:
        page = await read(topic, start, history=history)
        if start is None:
            broker.append([Reset(topic="orders/7", reason="bulk", history=HISTORY)])
            await asyncio.sleep(0.01)  # it is heard before the answer
        return page

    listener.read = slow  # type: ignore[method-assign]
    await hub.join(reader, Source(), None)
    epoch = broker.heads({"orders/7": HISTORY})["orders/7"].epoch
    # Sooner than the regular look.
    await asyncio.wait_for(reader.until(lambda: reader.frames[-1]["epoch"] == epoch), 5)


async def test_what_a_reset_was_for_is_told_although_a_look_was_under_way(
    hub: Hub, broker: MemoryBroker
) -> None:
    listener, reader = hub.listener, Reader()
    await hub.join(reader, Source(), None)
    publish(broker, 1)
    await reader.until(lambda: numbers(reader) == [1])
    read, slow_once = listener.read, [True]

    async def slow(topic: str, start: Start, *, history: History) -> Page:
        page = await read(topic, start, history=history)
        if slow_once and slow_once.pop():
            broker.append([Reset(topic="orders/7", reason="bulk", history=HISTORY)])
            await asyncio.sleep(0.01)
        return page

    listener.read = slow  # type: ignore[method-assign]
    hub.check(hub._feeds["orders/7"])
    assert (await reader.next("reset"))["reason"] == "bulk"


async def test_what_failed_unexpectedly_is_tried_again_by_the_regular_look(
    hub: Hub, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.aclose()
    monkeypatch.setattr(hub_core, "CHECK_SECONDS", 0.02)
    hub = Hub(broker)
    listener, reader = hub.listener, Reader(window=2_000)
    await hub.join(reader, Source(), None)
    publish(broker, 0, size=3_000)
    await reader.until(lambda: reader.lagging)
    publish(broker, 1)
    heads, failures = listener.heads, ["heads", "after"]
    feed = hub._feeds["orders/7"]

    async def fail_once(topics: Any) -> Any:
        if "heads" in failures:
            failures.remove("heads")
            raise LookupError("a bug")
        return await heads(topics)

    make = CatchUp._replay

    async def fail_too(self: Any, subscription: Any) -> None:
        if "after" in failures:
            failures.remove("after")
            raise LookupError("another bug")
        await make(self, subscription)

    listener.heads = fail_once  # type: ignore[method-assign]
    monkeypatch.setattr(CatchUp, "_replay", fail_too)
    reader.acknowledge()
    hub.resume(reader)
    await reader.until(lambda: 1 in numbers(reader))
    while failures:
        await asyncio.sleep(0.001)
    assert feed.live
    await hub.aclose()


async def test_a_topic_that_nobody_reads_is_not_followed(
    hub: Hub, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_core, "LINGER_SECONDS", 0.01)
    reader = Reader()
    await hub.join(reader, Source(), None)
    hub.leave(reader, "orders/7")
    while hub._feeds:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.01)
    assert hub.listener._topics == set()  # type: ignore[attr-defined]
    await hub.join(reader, Source(), None)
    publish(broker, 1)
    await reader.until(lambda: numbers(reader) == [1])


async def test_a_burst_that_overflows_the_bell_is_read_from_the_log_or_announced(
    hub: Hub, broker: MemoryBroker
) -> None:
    reader = Reader(window=10**9)
    await hub.join(reader, Source(), None)
    for start in range(0, 20_000, 1_000):
        publish(broker, *range(start, start + 1_000))
    await reader.until(
        lambda: (
            reader.frames[-1]["type"] == "reset"
            or reader.frames[-1].get("data", {}).get("n") == 19_999
        )
    )
    reader.applied()


async def test_a_revoked_subscription_ends_with_a_reset(hub: Hub, broker: MemoryBroker) -> None:
    reader = Reader()
    await hub.join(reader, Source(), None)
    hub.revoke(reader, "orders/7")
    publish(broker, 1)
    await asyncio.sleep(0.01)
    assert [frame["type"] for frame in reader.frames] == ["subscribed", "reset"]
    assert reader.frames[1]["reason"] == "revoked"


async def test_a_moved_row_is_removed_where_it_was(hub: Hub, broker: MemoryBroker) -> None:
    readers: dict[str, Reader] = {}
    for name in ("a", "b"):
        readers[name] = Reader()
        await hub.join(readers[name], Source(name, keyed=True), None)
    for topic, before in (("a", frozenset()), ("b", frozenset({"a"}))):
        broker.append(
            [
                RowChange(
                    row="r/1",
                    ticket=broker.ticket(),
                    topics={topic: body(1, key="1", kind="row")},
                    remove=body(0, key="1", kind="row"),
                    before=before,
                    history=HISTORY,
                )
            ]
        )
    await readers["b"].until(lambda: numbers(readers["b"]) == [1])
    await readers["a"].until(lambda: numbers(readers["a"]) == [1, 0])


def test_the_helpers_notice_a_hole() -> None:
    async def check() -> None:
        reader = Reader()
        entry: Sequence[Entry] = ()
        assert not entry
        reader.frames = [
            {"type": "subscribed", "epoch": "e", "offset": 1},
            {"type": "event", "epoch": "e", "offset": 3},
        ]
        with pytest.raises(AssertionError):
            reader.applied()

    asyncio.run(check())
