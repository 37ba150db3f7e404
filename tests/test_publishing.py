"""Publishing: when it happens, in which order, and what a dead bus does to the caller."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.db import connection, connections, transaction

from django_wsrealtime import publishing
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.base import (
    Command,
    History,
    Outcome,
    Publish,
    Reset,
    Result,
    RowChange,
)
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import BrokerUnavailable
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.protocol import codec
from tests.support.waiting import wait_until

HISTORY = History(size=10_000)


def event(number: int, topic: str = "t") -> Publish:
    body = codec.event_body(kind="app", event="n", data=codec.encode_data(number))
    return Publish(topic=topic, body=body, history=HISTORY)


class Bus(MemoryBroker):
    """A broker that is asked like one across a network, and that can be away."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.threads: set[str] = set()
        self.waiting: list[Callable[[], None]] = []

    def append(self, commands: Sequence[Command]) -> list[Result]:
        self.threads.add(threading.current_thread().name)
        if self.away:
            raise BrokerUnavailable("away")
        return super().append(commands)

    def when_back(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def come_back(self) -> None:
        self.away = False
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    def numbers(self, topic: str = "t") -> list[int]:
        entries = self.read_all(topic, history=HISTORY)
        return [int(bytes(codec.read_body(entry.body).data)) for entry in entries]


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    bus.serves_browsers()
    before = set_broker(bus)
    yield bus
    set_broker(before)


def test_outside_a_transaction_it_happens_at_once(bus: Bus) -> None:
    results = publishing.send([event(1), event(2)])
    assert results is not None
    assert [result.positions["t"].offset for result in results] == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_waits_for_the_commit(bus: Bus) -> None:
    with transaction.atomic():
        publishing.submit([event(1)])
        publishing.submit([event(2)], on_commit=False)
        assert bus.numbers() == [2]
    assert bus.numbers() == [2, 1]


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_never_published(bus: Bus) -> None:
    with transaction.atomic():
        publishing.submit([event(1)])
        transaction.set_rollback(True)
    with transaction.atomic():
        publishing.submit([event(2)])
        with transaction.atomic():
            publishing.submit([event(3)])
            transaction.set_rollback(True)
        with transaction.atomic():
            publishing.submit([event(4)])
        publishing.submit([event(5)])
    publishing.submit([event(6)])
    # Order holds within a savepoint set; sets follow each other as Django runs their hooks.
    assert bus.numbers() == [2, 5, 4, 6]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_has_its_own_commit(bus: Bus) -> None:
    with transaction.atomic(using="other"):
        publishing.submit([event(1)], using="other")
        publishing.submit([event(2)], using="default")
        assert bus.numbers() == [2]
        with transaction.atomic():
            publishing.submit([event(3)])
        assert bus.numbers() == [2, 3]
    assert bus.numbers() == [2, 3, 1]


@pytest.mark.django_db(transaction=True)
def test_buckets_of_a_commit_share_what_is_done_and_the_next_commit_starts_anew(bus: Bus) -> None:
    seen: list[tuple[str, bool]] = []

    class Once:
        def __init__(self, name: str) -> None:
            self.name = name

        def flush(self, transaction: publishing.Transaction) -> None:
            seen.append((self.name, "row" in transaction.done))
            transaction.done.add("row")

    with transaction.atomic():
        publishing.on_commit("default").add(Once("outer"))
        with transaction.atomic():
            publishing.on_commit("default").add(Once("inner"))
    with transaction.atomic():
        publishing.on_commit("default").add(Once("next"))
    assert seen == [("outer", False), ("inner", True), ("next", False)]


@pytest.mark.django_db(transaction=True)
def test_one_work_that_fails_does_not_keep_the_others_back(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def flush(self, transaction: publishing.Transaction) -> None:
            raise LookupError("broken")

    with transaction.atomic():
        publishing.on_commit("default").add(Broken())
        publishing.submit([event(1)])
    assert bus.numbers() == [1]
    assert "broken" in caplog.text


@pytest.mark.django_db
def test_in_a_test_case_each_captured_commit_is_one(
    bus: Bus, django_capture_on_commit_callbacks: Any
) -> None:
    for number in (1, 2):
        with django_capture_on_commit_callbacks(execute=True):
            publishing.submit([event(number)])
        assert bus.numbers()[-1] == number
    assert connection.in_atomic_block


def test_a_dead_bus_raises_nothing_and_its_topics_are_reset_when_it_returns(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    publishing.send([event(1)])
    before = bus.read("t", None, history=HISTORY).position
    bus.away = True
    assert publishing.send([event(2)]) is None
    assert publishing.send([event(3, "u")]) is None
    row = RowChange(
        row="r", ticket=1, topics={"v": b""}, remove=b"", before=frozenset({"w"}), history=HISTORY
    )
    assert publishing.send([row]) is None
    assert "Events of t were lost: away" in caplog.text
    assert len(bus.waiting) == 1
    bus.come_back()
    assert bus.read("t", None, history=HISTORY).position.epoch != before.epoch
    heads = bus.heads(dict.fromkeys(["t", "u", "v", "w"], HISTORY))
    assert set(heads) == {"t", "u", "v", "w"}
    publishing.send([event(4)])
    assert bus.numbers() == [4]


def test_a_loss_while_the_loss_is_announced_is_announced_too(bus: Bus) -> None:
    bus.away = True
    publishing.send([event(1)])
    waiting, bus.waiting = bus.waiting, []
    for callback in waiting:
        callback()  # it is still away
    assert len(bus.waiting) == 1
    bus.come_back()
    assert bus.heads({"t": HISTORY})["t"].offset == 0


def test_a_broker_that_fails_otherwise_is_announced_too(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = bus.append

    def broken(commands: Sequence[Command]) -> list[Result]:
        if isinstance(commands[0], Reset):
            return append(commands)
        raise LookupError("a bug")

    monkeypatch.setattr(bus, "append", broken)

    async def hand_over() -> None:
        publishing.send([event(1, "handed over")])

    asyncio.run(hand_over())
    publishing.flush()
    with pytest.raises(LookupError):
        publishing.send([event(1, "at once")])
    bus.come_back()
    assert set(bus.heads(dict.fromkeys(("handed over", "at once"), HISTORY))) == {
        "handed over",
        "at once",
    }


def test_a_broker_that_says_it_is_back_and_is_not_is_asked_again_later(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ANNOUNCE_AGAIN", 0.01)
    monkeypatch.setattr(bus, "when_back", lambda callback: callback())
    bus.away = True
    publishing.send([event(1)])
    bus.away = False
    wait_until(lambda: "t" in bus.heads({"t": HISTORY}))


async def test_losses_are_not_announced_in_the_event_loop(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_QUEUED", 0)
    monkeypatch.setattr(bus, "when_back", lambda callback: callback())
    publishing.send([event(1)])
    await asyncio.to_thread(wait_until, lambda: "t" in bus.heads({"t": HISTORY}))
    assert bus.threads == {"wsrealtime-losses"}


async def test_in_an_event_loop_a_thread_publishes_in_order(bus: Bus) -> None:
    for number in range(1_000):
        assert publishing.send([event(number)]) is None
    await asyncio.to_thread(publishing.flush)
    assert bus.numbers() == list(range(1_000))
    assert bus.threads == {"wsrealtime-publisher"}


async def test_awaiting_tells_the_position(bus: Bus) -> None:
    results = await publishing.asend([event(1)])
    assert results is not None
    assert results[0].positions["t"].offset == 1
    assert await publishing.asend([]) == []


async def test_whoever_stops_waiting_takes_no_answer_from_others(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    append = bus.append

    def slow(commands: Sequence[Command]) -> list[Result]:
        gate.wait(10)
        return append(commands)

    monkeypatch.setattr(bus, "append", slow)
    waiting = [asyncio.ensure_future(publishing.asend([event(number)])) for number in range(4)]
    await asyncio.sleep(0)  # all of them have asked
    waiting[2].cancel()
    await asyncio.wait([waiting[2]])
    gate.set()
    for number in (0, 1, 3):
        results = await asyncio.wait_for(waiting[number], 10)
        assert results is not None
        assert results[0].positions["t"].offset == number + 1
    assert bus.numbers() == [0, 1, 2, 3]
    await asyncio.wait_for(asyncio.to_thread(publishing.flush), 10)


async def test_more_than_can_wait_is_announced_not_swallowed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_QUEUED", 3)
    gate = threading.Event()
    append = bus.append

    def slow(commands: Sequence[Command]) -> list[Result]:
        if not isinstance(commands[0], Reset):
            gate.wait(10)
        return append(commands)

    monkeypatch.setattr(bus, "append", slow)
    for number in range(5):
        publishing.send([event(number)])
    assert len(bus.waiting) == 1
    gate.set()
    await asyncio.to_thread(publishing.flush)
    bus.come_back()
    assert bus.numbers() == []
    assert counters()["publish.lost"] >= 1


def test_threads_publish_side_by_side(bus: Bus) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 200):
            publishing.send([event(number)])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 800, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bus.numbers()) == list(range(800))


@pytest.mark.django_db(transaction=True)
def test_autocommit_off_is_warned_about(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    transaction.set_autocommit(False)
    try:
        publishing.on_commit("default").run()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert "Use transaction.atomic()" in caplog.text


def test_a_forked_worker_publishes_with_a_thread_of_its_own(bus: Bus) -> None:
    publishing.flush()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # the worker
        answer = b"lost"
        try:
            results = asyncio.run(publishing.asend([event(1)]))
            answer = b"sent" if results else b"lost"
        finally:
            os.write(write, answer)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"sent"
    os.waitpid(pid, 0)


def test_a_forked_worker_announces_its_own_losses(bus: Bus) -> None:
    bus.away = True
    publishing.send([event(1, "parents")])
    assert len(bus.waiting) == 1
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # the worker
        answer = b"silent"
        try:
            bus.waiting.clear()
            publishing.send([event(1, "own")])
            bus.come_back()
            answer = ",".join(bus.heads({"own": HISTORY, "parents": HISTORY})).encode()
        finally:
            os.write(write, answer)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"own"
    os.waitpid(pid, 0)
    bus.come_back()


def test_the_wait_for_a_slow_thread_is_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def stuck(commands: Sequence[Command]) -> list[Result]:
        gate.wait(10)
        raise BrokerUnavailable("stuck")

    monkeypatch.setattr(bus, "append", stuck)

    async def hand_over() -> None:
        publishing.send([event(1)])

    asyncio.run(hand_over())
    start = time.monotonic()
    publishing.flush(timeout=0.1)
    assert time.monotonic() - start < 5
    gate.set()
    wait_until(lambda: bool(bus.waiting))
    monkeypatch.undo()
    bus.come_back()


def test_connections_are_not_opened_for_publishing_without_a_transaction(bus: Bus) -> None:
    connections.close_all()
    publishing.submit([event(1)], on_commit=False)
    assert bus.numbers() == [1]


def test_losses_are_announced_with_a_ticket_so_that_older_rows_are_refused(bus: Bus) -> None:
    early = bus.ticket()
    bus.away = True
    publishing.send([event(1)])
    bus.come_back()
    late = RowChange(
        row="r",
        ticket=early,
        topics={"t": event(2).body},
        remove=event(3).body,
        before=frozenset(),
        history=HISTORY,
    )
    results = publishing.send([late])
    assert results is not None
    assert results[0].outcome is Outcome.REFUSED
