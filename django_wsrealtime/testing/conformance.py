"""The contract of a broker as tests: subclass it for your backend and let pytest run it.

::

    # tests/test_my_broker.py
    from django_wsrealtime.testing.conformance import BrokerConformance

    class TestMyBroker(BrokerConformance):
        @pytest.fixture
        def store_of_backend(self, my_server):     # only if it needs one; it becomes self.store
            return my_server

        def make_broker(self):
            return MyBroker(self.store.url)

It needs pytest and nothing else: listeners live in event loops of the suite's own threads. What the
backend's :class:`~django_wsrealtime.brokers.base.Capabilities` say it cannot do is skipped. Each
test uses names of its own, so the backend's store need not be emptied between tests.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from ..brokers.base import (
    Attendance,
    Broker,
    Capabilities,
    Entry,
    History,
    Listener,
    Outcome,
    Page,
    Publish,
    Reset,
    Result,
    RowChange,
)
from ..errors import NotSupported
from ..protocol.position import Position, Since

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a condition may take to come true."""
KEPT = History(size=100, ttl=60.0)
REMOVE = b'"kind":"row","event":"remove"'


def eventually(condition: Callable[[], T], *, what: str) -> T:
    """Wait until ``condition()`` is true and return it; fail after :data:`PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}; last: {value!r}"
        time.sleep(0.005)
    return value


class Ears:
    """A listener in an event loop of its own thread, and everything that it was told.

    Args:
        broker: whose listener.
    """

    def __init__(self, broker: Broker) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.listener = self.do(self._listen(broker))

    async def _listen(self, broker: Broker) -> Listener:
        return broker.listen(self)

    def do(self, what: Awaitable[T]) -> T:
        """Await something in the listener's loop."""
        return asyncio.run_coroutine_threadsafe(_await(what), self._loop).result(PATIENCE)

    def close(self) -> None:
        """End the listener and its loop; no task may be left behind."""
        self.do(self.listener.aclose())
        left = self.do(self._tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        # A channel layer may end tasks of its own when the loop is closed.
        left = {task for task in left if not task.done()}
        assert not left, f"aclose() left tasks behind: {left}"

    async def _tasks(self) -> set[asyncio.Task[Any]]:
        for _ in range(3):
            await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    # --- the handler ---

    def on_entry(self, topic: str, entry: Entry) -> None:
        self.heard.append(("entry", topic, entry))

    def on_reset(self, topic: str, reason: str) -> None:
        self.heard.append(("reset", topic, reason))

    def on_doubt(self, topics: Iterable[str] | None) -> None:
        self.heard.append(("doubt", topics))

    def on_signal(self, topic: str, payload: bytes) -> None:
        self.heard.append(("signal", topic, payload))

    # --- what the tests ask ---

    def entries(self, topic: str) -> list[Entry]:
        """The entries of a topic that were heard, in the order they came."""
        return [told[2] for told in list(self.heard) if told[:2] == ("entry", topic)]

    def wait_for_entries(self, topic: str, number: int) -> list[Entry]:
        """Wait until so many entries of a topic were heard."""
        return eventually(
            lambda: (found := self.entries(topic))[number - 1 :] and found,
            what=f"{number} entries of {topic}",
        )

    def wait_for(self, *told: Any) -> None:
        """Wait until this was heard."""
        eventually(lambda: told in list(self.heard), what=repr(told))


async def _await(what: Awaitable[T]) -> T:
    return await what


Test = TypeVar("Test", bound=Callable[..., None])


def needs(**capabilities: bool) -> Callable[[Test], Test]:
    """Says which capabilities a backend has, or has not, to which a test applies."""

    def decorate(test: Test) -> Test:
        test.__dict__["needs"] = capabilities
        return test

    return decorate


def applies(item: pytest.Item, capabilities: Capabilities) -> bool:
    """Whether a test of this suite is meant for a backend with these capabilities.

    One that is not is skipped. A project that does not want to see the skips deselects them with
    this function, in ``pytest_collection_modifyitems``.
    """
    wanted: dict[str, bool] = getattr(getattr(item, "function", None), "needs", {})
    return all(getattr(capabilities, name) is has for name, has in wanted.items())


class _Suite:
    """What the tests share; subclasses say how to make a broker."""

    broker: Broker
    store: Any

    @pytest.fixture
    def store_of_backend(self) -> Any:
        """Override it with a fixture of yours that starts what the backend needs."""
        return None

    def make_broker(self) -> Broker:
        """Make a broker of the backend under test; it is closed after the test."""
        raise NotImplementedError("Override make_broker() to return a broker of your backend.")

    @pytest.fixture(autouse=True)
    def _broker(self, request: pytest.FixtureRequest, store_of_backend: Any) -> Iterator[None]:
        self.store = store_of_backend
        self.broker = self.make_broker()
        if not applies(request.node, self.broker.capabilities):
            self.broker.close()
            pytest.skip(f"not for a {type(self.broker).__name__}: see its capabilities")
        self._names = itertools.count()
        self._run = secrets.token_hex(4)
        yield
        self.broker.close()

    def name(self, kind: str = "conformance") -> str:
        """A name that no other test uses."""
        return f"{kind}/{self._run}/{next(self._names)}"

    @contextmanager
    def listening(self, *topics: str) -> Iterator[Ears]:
        """A listener that is subscribed to these topics."""
        ears = Ears(self.broker)
        try:
            ears.do(ears.listener.subscribe(topics))
            yield ears
        finally:
            ears.close()

    def publish(
        self, topic: str, *bodies: bytes, history: History = KEPT, key: str | None = None
    ) -> list[Result]:
        """Append bodies, one command each, in one call."""
        return self.broker.append(
            [Publish(topic=topic, body=body, history=history, key=key) for body in bodies]
        )

    def bodies(self, topic: str, history: History = KEPT) -> list[bytes]:
        """What is kept of a log."""
        return [entry.body for entry in self.broker.read_all(topic, history=history)]

    def end(self, topic: str, history: History = KEPT) -> Position:
        """The log's end."""
        return self.broker.read(topic, None, history=history).position


class LogConformance(_Suite):
    """Appending and reading."""

    @needs(history=True)
    def test_offsets_rise_by_one_from_one(self) -> None:
        topic = self.name()
        results = self.publish(topic, b"a", b"b") + self.publish(topic, b"c")
        positions = [result.positions[topic] for result in results]
        assert [position.offset for position in positions] == [1, 2, 3]
        assert len({position.epoch for position in positions}) == 1
        assert all(result.outcome is Outcome.APPENDED for result in results)

    @needs(history=True)
    def test_topics_have_logs_of_their_own(self) -> None:
        one, other = self.name(), self.name()
        self.publish(one, b"a", b"b")
        assert self.publish(other, b"c")[0].positions[other].offset == 1
        assert self.bodies(one) == [b"a", b"b"]
        assert self.bodies(other) == [b"c"]

    @needs(history=True)
    def test_commands_of_one_call_are_carried_out_in_order(self) -> None:
        one, other, row = self.name(), self.name(), self.name("row")
        self.broker.append(
            [
                Publish(topic=one, body=b"1", history=KEPT),
                self.change(row, None, {one: b"2", other: b"2"}),
                Publish(topic=one, body=b"3", history=KEPT),
                Publish(topic=other, body=b"3", history=KEPT),
            ]
        )
        assert self.bodies(one) == [b"1", b"2", b"3"]
        assert self.bodies(other) == [b"2", b"3"]

    def test_nothing_to_append_is_no_error(self) -> None:
        assert self.broker.append([]) == []

    @needs(history=True)
    def test_bodies_come_back_as_they_were(self) -> None:
        topic = self.name("sonderzeichen-ä→😀")
        bodies = [b"", b"\x00\x01\xff", bytes(range(256)), b"x" * 100_000, "😀".encode()]
        self.publish(topic, *bodies)
        assert self.bodies(topic) == bodies

    @needs(history=True)
    def test_reading_a_log_that_does_not_exist_creates_it(self) -> None:
        topic = self.name()
        before = self.end(topic)
        assert before.offset == 0
        position = self.publish(topic, b"a")[0].positions[topic]
        assert position == Position(epoch=before.epoch, offset=1)

    @needs(history=True)
    def test_reading_without_a_start_reads_only_the_end(self) -> None:
        topic = self.name()
        self.publish(topic, b"a", b"b")
        page = self.broker.read(topic, None, history=KEPT)
        assert page.recovered
        assert page.position.offset == 2
        assert not page.entries

    @needs(history=True)
    def test_reading_after_a_position(self) -> None:
        topic = self.name()
        start = self.publish(topic, b"a", b"b", b"c")[0].positions[topic]
        page = self.broker.read(topic, start, history=KEPT)
        assert page.recovered
        assert [(entry.offset, entry.body) for entry in page.entries] == [(2, b"b"), (3, b"c")]
        assert {entry.epoch for entry in page.entries} == {start.epoch}
        assert page.position == Position(epoch=start.epoch, offset=3)

    @needs(history=True)
    def test_who_has_everything_gets_nothing_and_no_reset(self) -> None:
        topic = self.name()
        end = self.publish(topic, b"a")[0].positions[topic]
        page = self.broker.read(topic, end, history=KEPT)
        assert page == Page(position=end, recovered=True, entries=page.entries)
        assert not page.entries

    @needs(history=True)
    def test_a_foreign_epoch_is_not_recovered(self) -> None:
        topic = self.name()
        self.publish(topic, b"a")
        start = Position(epoch="another", offset=1)
        self.assert_reset(self.broker.read(topic, start, history=KEPT), "epoch")

    @needs(history=True)
    def test_a_position_beyond_the_end_is_not_recovered(self) -> None:
        topic = self.name()
        end = self.publish(topic, b"a")[0].positions[topic]
        beyond = Position(epoch=end.epoch, offset=end.offset + 1)
        self.assert_reset(self.broker.read(topic, beyond, history=KEPT), "lost")

    @needs(history=True)
    def test_size_trims_the_oldest(self) -> None:
        topic, history = self.name(), History(size=3, ttl=60.0)
        positions = [
            result.positions[topic]
            for result in self.publish(topic, b"1", b"2", b"3", b"4", b"5", history=history)
        ]
        assert self.bodies(topic, history) == [b"3", b"4", b"5"]
        self.assert_reset(self.broker.read(topic, positions[0], history=history), "trimmed")
        page = self.broker.read(topic, positions[1], history=history)
        assert [entry.body for entry in page.entries] == [b"3", b"4", b"5"]

    @needs(history=True)
    def test_a_log_of_size_zero_keeps_nothing_and_says_so(self) -> None:
        topic, history = self.name(), History(size=0, ttl=60.0)
        since = self.broker.now()
        first, second = self.publish(topic, b"1", b"2", history=history)
        assert self.bodies(topic, history) == []
        start = first.positions[topic]
        self.assert_reset(self.broker.read(topic, start, history=history), "trimmed")
        self.assert_reset(self.broker.read(topic, since, history=history), "trimmed")
        assert self.broker.read(topic, second.positions[topic], history=history).recovered

    @needs(history=True)
    def test_ttl_trims_the_oldest(self) -> None:
        topic, history = self.name(), History(size=100, ttl=0.3)
        start = self.end(topic, history)
        self.publish(topic, b"old", history=history)
        assert self.broker.read(topic, start, history=history).recovered
        eventually(lambda: not self.bodies(topic, history), what="the entry's time to be up")
        self.publish(topic, b"new", history=history)
        assert self.bodies(topic, history) == [b"new"]
        page = self.broker.read(topic, start, history=history)
        self.assert_reset(page, "trimmed")
        assert page.position == Position(epoch=start.epoch, offset=2)

    @needs(history=True)
    def test_the_metadata_outlives_the_entries(self) -> None:
        topic, history = self.name(), History(size=100, ttl=0.5)
        end = self.publish(topic, b"a", history=history)[0].positions[topic]
        eventually(lambda: not self.bodies(topic, history), what="the entry's time to be up")
        assert self.end(topic, history) == end

    @needs(history=True)
    def test_after_its_metadata_has_expired_a_log_has_another_epoch(self) -> None:
        topic, history = self.name(), History(size=100, ttl=0.02)
        end = self.publish(topic, b"a", history=history)[0].positions[topic]
        with self.listening() as ears:
            # Asking for a log's end keeps it alive, so that is asked only once it is gone.
            time.sleep(history.ttl * 10 + 0.05)
            assert ears.do(ears.listener.heads({topic: history})).get(topic) != end
        assert self.end(topic, history).epoch != end.epoch

    @needs(history=True)
    def test_asking_for_its_end_keeps_a_silent_log_alive(self) -> None:
        topic, history = self.name(), History(size=100, ttl=0.1)
        end = self.publish(topic, b"a", history=history)[0].positions[topic]
        with self.listening() as ears:
            until = time.monotonic() + history.ttl * 15
            while time.monotonic() < until:
                assert ears.do(ears.listener.heads({topic: history})) == {topic: end}
                time.sleep(0.02)

    @needs(history=True)
    def test_a_window_that_is_narrower_for_the_reader_is_kept_to(self) -> None:
        topic = self.name()
        start = self.publish(topic, b"1", b"2", b"3")[0].positions[topic]
        narrow = History(size=1, ttl=60.0)
        self.assert_reset(self.broker.read(topic, start, history=narrow), "trimmed")

    @needs(history=True)
    def test_heads_tell_many_ends_and_leave_out_what_is_not_there(self) -> None:
        topics = [self.name() for _ in range(1_200)]
        ends = {topic: self.publish(topic, b"a")[0].positions[topic] for topic in topics[:5]}
        with self.listening() as ears:
            assert ears.do(ears.listener.heads(dict.fromkeys(topics, KEPT))) == ends

    @needs(history=True)
    def test_a_listener_reads_as_the_broker_does(self) -> None:
        topic = self.name()
        start = self.publish(topic, b"a", b"b")[0].positions[topic]
        with self.listening() as ears:
            page = ears.do(ears.listener.read(topic, start, history=KEPT))
        assert [entry.body for entry in page.entries] == [b"b"]
        assert page.position.offset == 2

    @needs(history=True)
    def test_appending_from_many_threads_leaves_one_order(self) -> None:
        topic, number, threads = self.name(), 100, 4
        history = History(size=number * threads, ttl=60.0)

        def append(thread: int) -> list[Position]:
            return [
                self.publish(topic, b"%d:%d" % (thread, i), history=history)[0].positions[topic]
                for i in range(number)
            ]

        with ThreadPoolExecutor(threads) as pool:
            positions = list(pool.map(append, range(threads)))
        offsets = sorted(position.offset for some in positions for position in some)
        assert offsets == list(range(1, number * threads + 1))
        kept = self.bodies(topic, history)
        for thread in range(threads):
            own = [body for body in kept if body.startswith(b"%d:" % thread)]
            assert own == [b"%d:%d" % (thread, i) for i in range(number)]

    # --- helpers ---

    def assert_reset(self, page: Page, reason: str) -> None:
        """Not recovered, for this reason, and nothing replayed in part."""
        assert not page.recovered
        assert page.reason == reason
        assert not page.entries

    def change(
        self,
        row: str,
        ticket: int | None,
        topics: dict[str, bytes],
        before: Iterable[str] = (),
        history: History = KEPT,
    ) -> RowChange:
        """A row's change."""
        return RowChange(
            row=row,
            ticket=ticket,
            topics=topics,
            remove=REMOVE,
            before=frozenset(before),
            history=history,
        )


class TimeConformance(_Suite):
    """The store's time, and reading from one."""

    @needs(history=True)
    def test_an_entry_is_never_older_than_the_time_given_out_before_it(self) -> None:
        topic = self.name()
        for i in range(20):
            since = self.broker.now()
            self.publish(topic, b"%d" % i)
            assert self.broker.read_all(topic, history=KEPT)[-1].time >= since.time

    @needs(history=True)
    def test_times_never_run_backwards(self) -> None:
        topic = self.name()
        self.publish(topic, *(b"%d" % i for i in range(20)))
        times = [entry.time for entry in self.broker.read_all(topic, history=KEPT)]
        assert times == sorted(times)

    @needs(history=True)
    def test_reading_since_a_time_includes_what_came_at_it_and_after(self) -> None:
        topic = self.name()
        self.end(topic)
        self.settle()
        self.publish(topic, b"a", b"b", b"c", b"d")
        entries = self.broker.read_all(topic, history=KEPT)
        for number, entry in enumerate(entries):
            page = self.broker.read(topic, Since(time=entry.time), history=KEPT)
            assert page.recovered
            assert [one.body for one in page.entries] == [
                one.body for one in entries if one.time >= entry.time
            ]
            assert entries[number] in page.entries
            assert page.position == entries[-1].position

    @needs(history=True)
    def test_what_comes_after_the_page_was_rendered_arrives(self) -> None:
        topic = self.name()
        self.end(topic)
        self.settle()
        since = self.broker.now()
        self.publish(topic, b"a")
        page = self.broker.read(topic, since, history=KEPT)
        assert page.recovered
        assert [entry.body for entry in page.entries] == [b"a"]

    @needs(history=True)
    def test_a_log_that_never_was_answers_a_time_without_a_reset(self) -> None:
        self.settle()
        since = self.broker.now()
        page = self.broker.read(self.name(), since, history=KEPT)
        assert page.recovered
        assert not page.entries

    @needs(history=True)
    def test_a_time_before_the_store_was_born_is_a_reset(self) -> None:
        page = self.broker.read(self.name(), Since(time=0), history=KEPT)
        assert not page.recovered
        assert page.reason == "trimmed"

    @needs(history=True)
    def test_a_time_before_what_was_trimmed_is_a_reset(self) -> None:
        topic, history = self.name(), History(size=2, ttl=60.0)
        self.end(topic, history)
        self.settle()
        since = self.broker.now()
        self.publish(topic, b"1", b"2", b"3", history=history)
        page = self.broker.read(topic, since, history=history)
        assert (page.recovered, page.reason) == (False, "trimmed")

    @needs(history=True)
    def test_a_time_before_entries_whose_time_is_up_is_a_reset(self) -> None:
        topic, history = self.name(), History(size=100, ttl=0.2)
        self.end(topic, history)
        self.settle()
        since = self.broker.now()
        self.publish(topic, b"1", history=history)
        eventually(lambda: not self.bodies(topic, history), what="the entry's time to be up")
        page = self.broker.read(topic, since, history=history)
        assert (page.recovered, page.reason) == (False, "trimmed")

    def settle(self) -> None:
        """Wait until the store vouches for now: it may have been born this moment."""
        topic = self.name("settle")
        eventually(
            lambda: self.broker.read(topic, self.broker.now(), history=KEPT).recovered,
            what="the store to vouch for the present",
        )


class KeyConformance(_Suite):
    """Idempotency keys."""

    @needs(idempotency=True)
    def test_a_key_that_was_seen_is_a_duplicate(self) -> None:
        topic = self.name()
        [first] = self.publish(topic, b"a", key="k")
        self.publish(topic, b"between")
        [second] = self.publish(topic, b"a again", key="k")
        assert first.outcome is Outcome.APPENDED
        assert second.outcome is Outcome.DUPLICATE
        assert second.positions == first.positions
        assert self.bodies(topic) == [b"a", b"between"]

    @needs(idempotency=True)
    def test_keys_are_of_their_topic(self) -> None:
        one, other = self.name(), self.name()
        self.publish(one, b"a", key="k")
        assert self.publish(other, b"b", key="k")[0].outcome is Outcome.APPENDED

    @needs(idempotency=True)
    def test_names_that_join_to_the_same_text_are_not_confused(self) -> None:
        topic = self.name()
        self.publish(f"{topic}:a", b"1", key="b")
        assert self.publish(topic, b"2", key="a:b")[0].outcome is Outcome.APPENDED

    @needs(idempotency=True)
    def test_a_key_is_forgotten_when_its_time_is_up(self) -> None:
        topic, history = self.name(), History(size=10, ttl=0.2)
        self.publish(topic, b"a", key="k", history=history)

        def appended() -> bool:
            [result] = self.publish(topic, b"b", key="k", history=history)
            return result.outcome is Outcome.APPENDED

        eventually(appended, what="the key to be forgotten")

    @needs(idempotency=True)
    def test_a_key_of_a_log_that_was_reset_is_forgotten(self) -> None:
        topic = self.name()
        self.publish(topic, b"a", key="k")
        self.broker.append([Reset(topic=topic, reason="lost", history=KEPT)])
        assert self.publish(topic, b"a", key="k")[0].outcome is Outcome.APPENDED

    @needs(idempotency=True)
    def test_of_many_at_once_with_one_key_one_is_appended(self) -> None:
        topic = self.name()
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda i: self.publish(topic, b"%d" % i, key="k"), range(20)))
        assert len({str(result.positions) for [result] in results}) == 1
        assert len(self.bodies(topic)) == 1


class RowConformance(LogConformance):
    """A row's last event is the committed row, and no ghost stays behind."""

    def test_tickets_rise(self) -> None:
        tickets = [self.broker.ticket() for _ in range(20)]
        assert tickets == sorted(set(tickets))

    def test_tickets_of_many_threads_are_all_different_and_rise_in_each(self) -> None:
        def draw(_: int) -> list[int]:
            return [self.broker.ticket() for _ in range(50)]

        with ThreadPoolExecutor(4) as pool:
            drawn = list(pool.map(draw, range(4)))
        assert all(tickets == sorted(tickets) for tickets in drawn)
        assert len({ticket for tickets in drawn for ticket in tickets}) == 200

    @needs(history=True)
    def test_a_change_is_appended_to_each_topic_of_the_row(self) -> None:
        row, one, other = self.name("row"), self.name(), self.name()
        result = self.append(row, self.broker.ticket(), {one: b"1", other: b"2"})
        assert result.outcome is Outcome.APPENDED
        assert result.positions == {one: self.end(one), other: self.end(other)}
        assert (self.bodies(one), self.bodies(other)) == ([b"1"], [b"2"])

    @needs(history=True)
    def test_a_lower_ticket_is_refused(self) -> None:
        row, topic = self.name("row"), self.name()
        low, high = self.broker.ticket(), self.broker.ticket()
        assert self.append(row, high, {topic: b"v2"}).outcome is Outcome.APPENDED
        late = self.append(row, low, {topic: b"v1"})
        assert (late.outcome, late.positions) == (Outcome.REFUSED, {})
        assert self.bodies(topic) == [b"v2"]

    @needs(history=True)
    def test_the_same_ticket_may_append_again(self) -> None:
        row, topic, ticket = self.name("row"), self.name(), self.broker.ticket()
        self.append(row, ticket, {topic: b"v1"})
        assert self.append(row, ticket, {topic: b"v1 again"}).outcome is Outcome.APPENDED

    @needs(history=True)
    def test_a_created_row_is_appended_once_and_only_if_it_has_no_entry(self) -> None:
        row, topic = self.name("row"), self.name()
        assert self.append(row, None, {topic: b"v1"}).outcome is Outcome.APPENDED
        assert self.append(row, None, {topic: b"v1"}).outcome is Outcome.REFUSED
        assert self.append(row, self.broker.ticket(), {topic: b"v2"}).outcome is Outcome.APPENDED
        assert self.append(row, None, {topic: b"v1"}).outcome is Outcome.REFUSED
        assert self.bodies(topic) == [b"v1", b"v2"]

    @needs(history=True)
    def test_a_row_that_was_read_before_a_reset_is_refused_in_every_topic(self) -> None:
        row, created, topic, other = self.name("row"), self.name("row"), self.name(), self.name()
        early, ticket = self.broker.ticket(), self.broker.ticket()
        self.broker.append([Reset(topic=topic, reason="bulk", history=KEPT, ticket=ticket)])
        assert self.append(row, early, {topic: b"v1"}).outcome is Outcome.REFUSED
        moved = self.append(row, early, {other: b"v1"}, before=frozenset({topic}))
        assert moved.outcome is Outcome.REFUSED
        assert self.append(created, None, {topic: b"v1"}).outcome is Outcome.REFUSED
        assert self.append(row, ticket, {topic: b"v2"}).outcome is Outcome.APPENDED
        late = self.append(created, self.broker.ticket(), {topic: b"v2"})
        assert late.outcome is Outcome.APPENDED
        assert self.bodies(topic) == [b"v2", b"v2"]

    @needs(history=True)
    def test_any_ticket_follows_a_creation(self) -> None:
        row, topic, ticket = self.name("row"), self.name(), self.broker.ticket()
        self.append(row, None, {topic: b"v1"})
        assert self.append(row, ticket, {topic: b"v2"}).outcome is Outcome.APPENDED

    @needs(history=True)
    def test_topics_that_the_row_left_get_its_removal(self) -> None:
        row, old, new = self.name("row"), self.name(), self.name()
        self.append(row, None, {old: b"v1"})
        result = self.append(row, self.broker.ticket(), {new: b"v2"}, before=[old])
        assert self.bodies(old) == [b"v1", REMOVE]
        assert self.bodies(new) == [b"v2"]
        assert result.positions == {old: self.end(old), new: self.end(new)}

    @needs(history=True)
    def test_a_topic_it_stays_in_gets_no_removal(self) -> None:
        row, topic = self.name("row"), self.name()
        self.append(row, None, {topic: b"v1"})
        self.append(row, self.broker.ticket(), {topic: b"v2"}, before=[topic])
        assert self.bodies(topic) == [b"v1", b"v2"]

    @needs(history=True)
    def test_a_deleted_row_is_removed_everywhere(self) -> None:
        row, one, other = self.name("row"), self.name(), self.name()
        self.append(row, None, {one: b"v1", other: b"v1"})
        self.append(row, self.broker.ticket(), {}, before=[one])
        assert self.bodies(one)[-1] == REMOVE
        assert self.bodies(other)[-1] == REMOVE

    @needs(history=True)
    def test_topics_that_are_remembered_get_the_removal_too(self) -> None:
        row, first, through, last = (self.name(kind) for kind in ("row", "a", "b", "c"))
        self.append(row, None, {first: b"v1"})
        self.append(row, self.broker.ticket(), {through: b"v2"}, before=[first])
        # This publisher looked before the other one committed: it knows of `first` only.
        self.append(row, self.broker.ticket(), {last: b"v3"}, before=[first])
        assert self.bodies(through) == [b"v2", REMOVE]
        assert self.bodies(last) == [b"v3"]

    @needs(history=True)
    def test_what_follows_a_remembered_removal_in_one_call_keeps_its_place(self) -> None:
        row, through, last = (self.name(kind) for kind in ("row", "b", "c"))
        self.append(row, None, {through: b"v1"})
        results = self.broker.append(
            [
                Publish(topic=last, body=b"before", history=KEPT),
                self.change(row, self.broker.ticket(), {last: b"v2"}),
                Publish(topic=last, body=b"after", history=KEPT),
                Publish(topic=through, body=b"after", history=KEPT),
            ]
        )
        assert [result.outcome for result in results] == [Outcome.APPENDED] * 4
        assert self.bodies(last) == [b"before", b"v2", b"after"]
        assert self.bodies(through) == [b"v1", REMOVE, b"after"]

    @needs(history=True)
    def test_rows_do_not_know_each_other(self) -> None:
        one, other, topic = self.name("row"), self.name("row"), self.name()
        low, high = self.broker.ticket(), self.broker.ticket()
        self.append(one, high, {topic: b"one"})
        assert self.append(other, low, {topic: b"other"}).outcome is Outcome.APPENDED

    @needs(history=True)
    def test_every_interleaving_of_two_writers_ends_in_the_committed_row(self) -> None:
        """Each writer commits, draws, reads the row and appends; the steps are interleaved."""
        steps = ("commit", "draw", "read", "append")
        for schedule in sorted(set(itertools.permutations([0] * 4 + [1] * 4))):
            row, topic = self.name("row"), self.name()
            committed = b""
            tickets, seen = [0, 0], [b"", b""]
            done = [0, 0]
            for writer in schedule:
                step, done[writer] = steps[done[writer]], done[writer] + 1
                if step == "commit":
                    committed = b"v%d" % writer
                elif step == "draw":
                    tickets[writer] = self.broker.ticket()
                elif step == "read":
                    seen[writer] = committed
                else:
                    self.append(row, tickets[writer], {topic: seen[writer]})
            assert self.bodies(topic)[-1] == committed, schedule

    @needs(history=True)
    def test_a_row_moved_twice_at_once_is_in_one_topic_whatever_the_order(self) -> None:
        """From a to b and on to c; the second mover saw the row in a. Any order of arrival."""
        for order in itertools.permutations(range(3)):
            row, a, b, c = (self.name(kind) for kind in ("row", "a", "b", "c"))
            changes = [
                self.change(row, None, {a: b"in a"}),
                self.change(row, self.broker.ticket(), {b: b"in b"}, before=[a]),
                self.change(row, self.broker.ticket(), {c: b"in c"}, before=[a]),
            ]
            for number in order:
                self.broker.append([changes[number]])
            last = {topic: (self.bodies(topic) or [REMOVE])[-1] for topic in (a, b, c)}
            assert last == {a: REMOVE, b: REMOVE, c: b"in c"}, order

    @needs(history=True)
    def test_many_movers_at_once_leave_the_row_in_one_topic(self) -> None:
        row = self.name("row")
        topics = [self.name() for _ in range(5)]
        self.append(row, None, {topics[0]: b"in 0"})
        committed: list[int] = [0]
        lock = threading.Lock()

        def move(to: int) -> None:
            with lock:
                before = topics[committed[0]]
                committed[0] = to
            ticket = self.broker.ticket()
            with lock:
                there = committed[0]
            self.append(row, ticket, {topics[there]: b"in %d" % there}, before=[before])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(move, [i % 5 for i in range(1, 60)]))
        last = {number: (self.bodies(topic) or [REMOVE])[-1] for number, topic in enumerate(topics)}
        assert [number for number, body in last.items() if body != REMOVE] == [committed[0]]

    def append(
        self,
        row: str,
        ticket: int | None,
        topics: dict[str, bytes],
        before: Iterable[str] = (),
    ) -> Result:
        """Append one change of a row."""
        [result] = self.broker.append([self.change(row, ticket, topics, before)])
        return result


class ListenConformance(_Suite):
    """What listeners hear."""

    def test_entries_are_heard_in_the_order_of_the_log(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            self.publish(topic, *(b"%d" % i for i in range(50)))
            entries = ears.wait_for_entries(topic, 50)
        assert [entry.body for entry in entries] == [b"%d" % i for i in range(50)]
        first = entries[0].offset
        assert [entry.offset for entry in entries] == list(range(first, first + 50))
        assert len({entry.epoch for entry in entries}) == 1
        assert [entry.time for entry in entries] == sorted(entry.time for entry in entries)

    @needs(history=True)
    def test_what_is_heard_is_what_is_in_the_log(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            self.publish(topic, b"a", b"\x00\xff" * 5_000)
            heard = ears.wait_for_entries(topic, 2)
        assert heard == list(self.broker.read_all(topic, history=KEPT))

    def test_heard_entries_go_on_from_the_position_that_was_read(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            end = ears.do(ears.listener.read(topic, None, history=KEPT)).position
            self.publish(topic, b"a")
            [entry] = ears.wait_for_entries(topic, 1)
        assert entry.position == Position(epoch=end.epoch, offset=end.offset + 1)

    def test_entries_from_many_threads_are_heard_without_gap_or_duplicate(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda i: self.publish(topic, b"%d" % i), range(200)))
            entries = ears.wait_for_entries(topic, 200)
        first = entries[0].offset
        assert [entry.offset for entry in entries] == list(range(first, first + 200))
        assert sorted(int(entry.body) for entry in entries) == list(range(200))

    def test_only_subscribed_topics_are_heard(self) -> None:
        topic, other = self.name(), self.name()
        with self.listening(topic) as ears:
            self.publish(other, b"other")
            self.publish(topic, b"a")
            ears.wait_for_entries(topic, 1)
            assert {told[1] for told in ears.heard} == {topic}

    def test_unsubscribed_topics_are_heard_no_longer(self) -> None:
        topic, other = self.name(), self.name()
        with self.listening(topic, other) as ears:
            ears.do(ears.listener.unsubscribe([topic]))
            self.publish(topic, b"unheard")
            self.publish(other, b"a")
            ears.wait_for_entries(other, 1)
            assert ears.entries(topic) == []
            ears.do(ears.listener.subscribe([topic]))
            self.publish(topic, b"heard")
            assert [entry.body for entry in ears.wait_for_entries(topic, 1)] == [b"heard"]

    def test_many_topics_are_subscribed_at_once_by_many_tasks(self) -> None:
        topics = [self.name() for _ in range(60)]
        with self.listening() as ears:

            async def subscribe() -> None:
                portions = [topics[start::6] for start in range(6)]
                await asyncio.gather(*(ears.listener.subscribe(some) for some in portions))

            ears.do(subscribe())
            for topic in topics:
                self.publish(topic, b"a")
            for topic in topics:
                ears.wait_for_entries(topic, 1)

    def test_several_listeners_hear_the_same(self) -> None:
        topic = self.name()
        with self.listening(topic) as one, self.listening(topic) as other:
            self.publish(topic, b"a", b"b")
            for ears in (one, other):
                assert [entry.body for entry in ears.wait_for_entries(topic, 2)] == [b"a", b"b"]

    def test_a_closed_listener_leaves_the_others_alone(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            with self.listening(topic):
                pass
            self.publish(topic, b"a")
            ears.wait_for_entries(topic, 1)

    def test_a_row_s_events_are_heard(self) -> None:
        row, old, new = self.name("row"), self.name("old"), self.name("new")
        with self.listening(old, new) as ears:
            change = RowChange(
                row=row,
                ticket=self.broker.ticket(),
                topics={new: b"row"},
                remove=REMOVE,
                before=frozenset({old}),
                history=KEPT,
            )
            self.broker.append([change])
            assert ears.wait_for_entries(old, 1)[0].body == REMOVE
            assert ears.wait_for_entries(new, 1)[0].body == b"row"

    def test_a_reset_begins_a_new_epoch_and_is_heard(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            self.publish(topic, b"a")
            before = ears.wait_for_entries(topic, 1)[0]
            self.broker.append([Reset(topic=topic, reason="bulk", history=KEPT)])
            ears.wait_for("reset", topic, "bulk")
            self.publish(topic, b"b")
            after = ears.wait_for_entries(topic, 2)[1]
            page = ears.do(ears.listener.read(topic, before.position, history=KEPT))
        assert after.epoch != before.epoch
        assert after.offset == 1
        assert (page.recovered, page.reason) == (False, "epoch")

    @needs(history=True)
    def test_a_reset_voids_what_was_said_before(self) -> None:
        topic = self.name()
        since = self.broker.now()
        [before] = self.publish(topic, b"a")
        [reset] = self.broker.append([Reset(topic=topic, reason="lost", history=KEPT)])
        assert reset.positions[topic].offset == 0
        assert self.bodies(topic) == []
        for start in (before.positions[topic], since):
            assert not self.broker.read(topic, start, history=KEPT).recovered
        assert self.publish(topic, b"b")[0].positions[topic] == Position(
            epoch=reset.positions[topic].epoch, offset=1
        )

    def test_signals_are_heard_and_are_in_no_log(self) -> None:
        topic, other = self.name(), self.name()
        with self.listening(topic) as ears:
            self.broker.signal(other, b"unheard")
            self.broker.signal(topic, b"\x00typing")
            ears.do(ears.listener.signal(topic, b"from a listener"))
            ears.wait_for("signal", topic, b"\x00typing")
            ears.wait_for("signal", topic, b"from a listener")
            end = ears.do(ears.listener.read(topic, None, history=KEPT)).position
            assert end.offset == 0
            assert {told[0] for told in ears.heard} == {"signal"}

    @needs(history=False)
    def test_without_history_every_gap_is_a_reset(self) -> None:
        topic = self.name()
        with pytest.raises(NotSupported):
            self.broker.read_all(topic, history=KEPT)
        with self.listening(topic) as ears:
            self.publish(topic, b"a")
            first = ears.wait_for_entries(topic, 1)[0]
            self.publish(topic, b"b")
            ears.wait_for_entries(topic, 2)
            for start in (first.position, self.broker.now(), Position(epoch="x", offset=2)):
                page = ears.do(ears.listener.read(topic, start, history=KEPT))
                assert not page.recovered
                assert not page.entries


class PresenceConformance(_Suite):
    """Who is present, and values that are claimed."""

    @needs(presence=True)
    def test_who_entered_is_present_oldest_first_until_they_leave(self) -> None:
        topic = self.name()
        people = [self.person(i) for i in range(3)]
        with self.listening() as ears:
            for one in people:
                ears.do(ears.listener.attend(topic, [one], ttl=60.0))
            assert list(self.broker.present(topic)) == people
            assert list(ears.do(ears.listener.present(topic))) == people
            ears.do(ears.listener.leave(topic, [people[1].sid, "nobody"]))
            assert list(self.broker.present(topic)) == [people[0], people[2]]
        assert list(self.broker.present(self.name())) == []

    @needs(presence=True)
    def test_renewing_keeps_the_place_and_takes_the_new_info(self) -> None:
        topic = self.name()
        one, other = self.person(1), self.person(2)
        changed = Attendance(sid=one.sid, member=one.member, info=b'{"state":"busy"}')
        with self.listening() as ears:
            for attendance in (one, other, changed):
                ears.do(ears.listener.attend(topic, [attendance], ttl=60.0))
        assert list(self.broker.present(topic)) == [changed, other]

    @needs(presence=True)
    def test_who_is_not_renewed_is_gone(self) -> None:
        topic = self.name()
        stays, goes = self.person(1), self.person(2)
        with self.listening() as ears:
            ears.do(ears.listener.attend(topic, [goes], ttl=0.2))
            ears.do(ears.listener.attend(topic, [stays], ttl=60.0))
            eventually(lambda: list(self.broker.present(topic)) == [stays], what="one to be gone")

    @needs(presence=True)
    def test_one_member_may_have_several_connections(self) -> None:
        topic = self.name()
        both = [Attendance(sid=sid, member="7", info=b"{}") for sid in ("a", "b")]
        with self.listening() as ears:
            ears.do(ears.listener.attend(topic, both, ttl=60.0))
        assert {one.sid for one in self.broker.present(topic)} == {"a", "b"}

    @needs(presence=True)
    def test_a_claim_is_won_once(self) -> None:
        name = self.name("claim")
        with ThreadPoolExecutor(4) as pool:
            answers = set(pool.map(lambda i: self.claim(name, f"v{i}"), range(12)))
        assert len(answers) == 1
        with self.listening() as ears:
            assert {ears.do(ears.listener.claim(name, "late", ttl=60.0))} == answers

    @needs(presence=True)
    def test_a_claim_ends_when_its_time_is_up_and_is_extended_before(self) -> None:
        name = self.name("claim")
        self.broker.claim(name, "first", ttl=0.4)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            assert self.broker.claim(name, "second", ttl=0.4) == "first"
            time.sleep(0.01)
        self.broker.claim(name, "second", ttl=0.1)
        time.sleep(0.15)
        assert self.broker.claim(name, "third", ttl=0.4) == "third"

    @needs(presence=False)
    def test_without_presence_it_says_so(self) -> None:
        with pytest.raises(NotSupported):
            self.broker.present(self.name())

    def claim(self, name: str, value: str) -> str:
        """Claim a name for a minute."""
        return self.broker.claim(name, value, ttl=60.0)

    def person(self, number: int) -> Attendance:
        """A connection of somebody."""
        info = b'{"id":"%d","name":"P\xc3\xa4r"}' % number
        return Attendance(sid=f"s{number}", member=f"user {number}", info=info)


class LifeConformance(_Suite):
    """Beginning and end."""

    def test_who_waits_for_the_store_is_called_at_once_while_it_is_there(self) -> None:
        called: list[bool] = []
        self.broker.ticket()
        self.broker.when_back(lambda: called.append(True))
        assert called == [True]

    def test_closing_twice_is_no_error(self) -> None:
        self.broker.ticket()
        self.broker.close()
        self.broker.close()

    def test_check_finds_nothing_wrong(self) -> None:
        assert self.broker.check() == []

    def test_a_closed_listener_is_told_nothing(self) -> None:
        topic = self.name()
        with self.listening(topic) as ears:
            ears.do(ears.listener.aclose())
            self.publish(topic, b"a")
            with self.listening(topic) as other:
                self.publish(topic, b"b")
                other.wait_for_entries(topic, 1)
            assert ears.heard == []


class BrokerConformance(
    RowConformance,
    TimeConformance,
    KeyConformance,
    ListenConformance,
    PresenceConformance,
    LifeConformance,
):
    """The whole contract of :mod:`django_wsrealtime.brokers.base`."""


__all__: Sequence[str] = ["BrokerConformance", "Ears", "eventually"]
