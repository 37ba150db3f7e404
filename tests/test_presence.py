"""Who is present is told to everybody who is there, and nobody stays who is gone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest

from django_wsrealtime import presence
from django_wsrealtime.brokers.base import Attendance, Capabilities, Entry
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import BrokerUnavailable, ErrorCode, NotSupported, ProtocolError
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.presence import MAX_STATE, SAMPLE, TTL, Attendances, group
from django_wsrealtime.protocol import signals
from django_wsrealtime.protocol.frames import Frame, PresenceOut
from tests.support.waiting import await_until

ROOM = "room/a"
QUICK = 0.01
"""Seconds between two frames, where the test is not about that."""


class Clock:
    """The broker's clock; it stands still until a test moves it. In seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def microseconds(self) -> int:
        return round(self.now * 1e6)


class Broker(MemoryBroker):
    """Counts what is asked, and can be away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock.microseconds)
        self.away = False
        self.reads = 0
        self.entered: list[tuple[float, str]] = []
        self._seconds = clock

    def _reach(self) -> None:
        if self.away:
            raise BrokerUnavailable("away")

    def present(self, topic: str) -> Sequence[Attendance]:
        self._reach()
        self.reads += 1
        return super().present(topic)

    def attend(self, topic: str, attendance: Sequence[Attendance], *, ttl: float) -> None:
        self._reach()
        self.entered += [(self._seconds.now, one.sid) for one in attendance]
        super().attend(topic, attendance, ttl=ttl)

    def leave(self, topic: str, sids: Sequence[str]) -> None:
        self._reach()
        super().leave(topic, sids)

    def signal(self, topic: str, payload: bytes) -> None:
        self._reach()
        super().signal(topic, payload)


class Tab:
    """A connection that notes what it is told, and keeps the list as a client does."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.lagging = False
        self.frames: list[PresenceOut] = []
        self.times: list[float] = []
        self.members: dict[str, dict[str, Any]] = {}
        self.seq: int | None = None

    def write_frame(self, frame: Frame) -> None:
        assert isinstance(frame, PresenceOut)
        assert not self.lagging
        self.frames.append(frame)
        self.times.append(asyncio.get_running_loop().time())
        if frame.members is not None:
            self.members = {member["id"]: dict(member) for member in frame.members}
        else:
            assert self.seq is not None, "a difference came before the list"
            assert frame.seq == self.seq + 1
        self.seq = frame.seq
        for member in [*(frame.join or ()), *(frame.state or ())]:
            self.members.setdefault(member["id"], {}).update(member)
        for id in frame.leave or ():
            del self.members[id]

    @property
    def names(self) -> set[str]:
        return {member["name"] for member in self.members.values()}


class Process:
    """One process: its listener hears the broker, and its hub passes the rings on."""

    def __init__(self, broker: MemoryBroker, **options: Any) -> None:
        self.listener = broker.listen(self)
        self.attendances = Attendances(listener=self.listener, **{"batch": QUICK, **options})

    async def enter(self, sid: str, member: str = "", topic: str = ROOM) -> Tab:
        tab = Tab(sid)
        await self.listener.subscribe([topic])
        member = member or sid
        info = {"id": member, "name": f"name of {member}"}
        await self.attendances.enter(topic, sid, member, info, tab)
        return tab

    def on_signal(self, topic: str, payload: bytes) -> None:
        self.attendances.on_signal(topic, signals.decode(payload))

    def on_entry(self, topic: str, entry: Entry) -> None: ...

    def on_reset(self, topic: str, reason: str) -> None: ...

    def on_doubt(self, topics: Iterable[str] | None) -> None: ...

    async def crash(self) -> None:
        """End without a word."""
        tasks = list(self.attendances._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.listener.aclose()

    async def aclose(self) -> None:
        await self.attendances.aclose()
        await self.listener.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> Broker:
    return Broker(clock)


Start = Callable[..., Process]


@pytest.fixture
async def start(broker: Broker) -> AsyncIterator[Start]:
    """``start()``: another process; ended after the test."""
    processes: list[Process] = []

    def make(**options: Any) -> Process:
        processes.append(Process(broker, **options))
        return processes[-1]

    yield make
    broker.away = False
    for process in processes:
        await process.aclose()
        assert not process.attendances._tasks


async def test_a_newcomer_gets_the_list_and_the_others_are_told(start: Start) -> None:
    process = start()
    ada = await process.enter("s1", "ada")
    await await_until(lambda: ada.frames)
    assert ada.frames[0].members == [{"id": "ada", "name": "name of ada"}]
    assert ada.frames[0].count == 1
    bob = await process.enter("s2", "bob")
    await await_until(lambda: len(ada.frames) == 2 and bob.frames)
    assert ada.frames[1].members is None
    assert ada.frames[1].join == [{"id": "bob", "name": "name of bob"}]
    assert ada.frames[1].count == 2
    assert bob.frames[0].members is not None
    assert ada.members == bob.members
    await process.attendances.leave(ROOM, "s2")
    await await_until(lambda: len(ada.frames) == 3)
    assert ada.frames[2].leave == ["bob"]
    assert ada.frames[2].count == 1
    assert len(bob.frames) == 1


async def test_other_processes_are_told(start: Start) -> None:
    here, there = start(), start()
    ada = await here.enter("s1", "ada")
    bob = await there.enter("s2", "bob")
    await await_until(lambda: ada.members.keys() == bob.members.keys() == {"ada", "bob"})
    await there.attendances.leave(ROOM, "s2")
    await await_until(lambda: ada.members.keys() == {"ada"})


async def test_a_state_is_told_and_kept_for_newcomers(start: Start) -> None:
    here, there = start(), start()
    ada = await here.enter("s1", "ada")
    bob = await there.enter("s2", "bob")
    await await_until(lambda: ada.members.keys() == bob.members.keys() == {"ada", "bob"})
    await here.attendances.set_state(ROOM, "s1", {"cursor": [3, 4]})
    await await_until(lambda: bob.members["ada"].get("state") == {"cursor": [3, 4]})
    assert bob.frames[-1].join is None
    assert bob.frames[-1].state == [{"id": "ada", "state": {"cursor": [3, 4]}}]
    await await_until(lambda: "state" in ada.members["ada"])  # one's own tabs are told too
    eve = await there.enter("s3", "eve")
    await await_until(lambda: eve.frames)
    assert eve.members["ada"]["state"] == {"cursor": [3, 4]}
    await here.attendances.set_state(ROOM, "s1", {})
    await await_until(lambda: eve.members["ada"]["state"] == {})


async def test_three_tabs_are_one_member(start: Start) -> None:
    process = start()
    watcher = await process.enter("w", "watcher")
    tabs = [await process.enter(f"s{number}", "ada") for number in range(3)]
    await await_until(lambda: "ada" in watcher.members and all(tab.frames for tab in tabs))
    assert watcher.frames[-1].count == 2
    told = len(watcher.frames)
    await process.attendances.set_state(ROOM, "s0", {"n": 1})
    await process.attendances.set_state(ROOM, "s1", {"n": 2})
    await await_until(lambda: watcher.members["ada"].get("state") == {"n": 2})
    await process.attendances.leave(ROOM, "s1")
    await process.attendances.leave(ROOM, "s2")
    await await_until(lambda: watcher.members["ada"].get("state") == {"n": 1})
    assert all(frame.leave is None for frame in watcher.frames[told:])
    await process.attendances.leave(ROOM, "s0")
    await await_until(lambda: "ada" not in watcher.members)


async def test_whoever_is_in_several_topics_leaves_all_of_them(start: Start) -> None:
    process = start()
    one = await process.enter("w1", topic="room/1")
    two = await process.enter("w2", topic="room/2")
    for topic in ("room/1", "room/2"):
        await process.enter("s", "ada", topic=topic)
    await await_until(lambda: "ada" in one.members and "ada" in two.members)
    await process.attendances.leave_all("s")
    await await_until(lambda: "ada" not in one.members and "ada" not in two.members)


async def test_members_of_a_process_that_died_are_gone_after_the_ttl(
    start: Start, broker: Broker, clock: Clock
) -> None:
    alive, dead = start(renew_every=QUICK), start()
    ada = await alive.enter("s1", "ada")
    await dead.enter("s2", "bob")
    await await_until(lambda: "bob" in ada.members)
    await dead.crash()
    clock.now += TTL - 1
    renewed = (clock.now, "s1")
    await await_until(lambda: renewed in broker.entered, what="renewal of the living")
    assert ada.members.keys() == {"ada", "bob"}
    clock.now += 2
    await await_until(lambda: "bob" not in ada.members)
    assert ada.members.keys() == {"ada"}


async def test_a_process_that_ends_signs_its_members_off(start: Start, broker: Broker) -> None:
    here, there = start(), start()
    ada = await here.enter("s1", "ada")
    await there.enter("s2", "bob")
    await await_until(lambda: "bob" in ada.members)
    await there.aclose()
    assert [one.member for one in broker.present(ROOM)] == ["ada"]
    await await_until(lambda: "bob" not in ada.members)


async def test_a_lost_ring_is_made_up_for_at_the_next_renewal(start: Start, broker: Broker) -> None:
    here = start(renew_every=QUICK)
    ada = await here.enter("s1", "ada")
    await await_until(lambda: ada.frames)
    info = b'{"name":"Bob"}'
    broker.attend(ROOM, [Attendance(sid="s2", member="bob", info=info)], ttl=TTL)
    await await_until(lambda: "bob" in ada.members)


# In a crowd ----------------------------------------------------------------------------------


async def test_changes_are_batched(start: Start, broker: Broker) -> None:
    assert presence.BATCH >= 0.5
    batch = 0.1
    process = start(batch=batch)
    watcher = await process.enter("w", "watcher")
    await await_until(lambda: watcher.frames)
    before = broker.reads
    for number in range(100):
        await process.enter(f"s{number}")
        await asyncio.sleep(0.002)
    await await_until(lambda: len(watcher.members) == 101)
    gaps = [after - before for before, after in zip(watcher.times, watcher.times[1:], strict=False)]
    # A write that comes late makes the next gap shorter.
    assert min(gaps) >= batch * 0.5
    assert len(watcher.frames) < 20
    assert broker.reads - before < 20


async def test_a_crowd_is_a_count_and_a_sample(start: Start) -> None:
    process = start()
    first = await process.enter("w", "watcher")
    for number in range(SAMPLE + 50):
        await process.enter(f"s{number}")
    await await_until(lambda: first.frames and first.frames[-1].count == SAMPLE + 51)
    assert len(first.members) == SAMPLE
    last = await process.enter("late", "late")
    await await_until(lambda: last.frames)
    assert last.frames[0].members is not None
    assert len(last.frames[0].members) == SAMPLE
    assert last.frames[0].count == SAMPLE + 52
    assert "late" not in last.members
    assert last.members == first.members
    for number in range(100):
        await process.attendances.leave(ROOM, f"s{number}")
    await await_until(lambda: first.frames[-1].count == SAMPLE - 48)
    assert "late" in first.members
    assert len(first.members) == SAMPLE - 48
    assert last.members == first.members


# Readers that lag, and states that are too large --------------------------------------------


async def test_a_reader_that_lags_is_told_nothing_and_gets_the_list_later(start: Start) -> None:
    process = start(renew_every=QUICK)
    slow = await process.enter("s1", "slow")
    ada = await process.enter("s2", "ada")
    await await_until(lambda: slow.members.keys() == ada.members.keys() == {"slow", "ada"})
    slow.lagging = True
    told = len(slow.frames)
    await process.enter("s3", "bob")
    await await_until(lambda: "bob" in ada.members)
    assert len(slow.frames) == told
    slow.lagging = False
    await await_until(lambda: "bob" in slow.members)
    assert slow.frames[told].members is not None
    await process.attendances.leave(ROOM, "s3")
    await await_until(lambda: "bob" not in slow.members)
    assert slow.frames[-1].leave == ["bob"]


async def test_a_state_that_is_too_large_is_refused(start: Start) -> None:
    process = start()
    await process.enter("s1", "ada")
    with pytest.raises(ProtocolError, match=f"at most {MAX_STATE}") as caught:
        await process.attendances.set_state(ROOM, "s1", {"x": "x" * MAX_STATE})
    assert caught.value.code is ErrorCode.LIMIT_EXCEEDED


async def test_a_state_needs_a_subscription(start: Start) -> None:
    process = start()
    await process.enter("s1", "ada")
    for topic, sid in ((ROOM, "s2"), ("room/b", "s1")):
        with pytest.raises(ProtocolError) as caught:
            await process.attendances.set_state(topic, sid, {})
        assert caught.value.code is ErrorCode.NOT_SUBSCRIBED


async def test_leaving_twice_is_no_error(start: Start) -> None:
    process = start()
    await process.enter("s1", "ada")
    for _ in range(2):
        await process.attendances.leave(ROOM, "s1")
    await process.attendances.leave("room/b", "s1")


async def test_entering_again_sends_the_list_again(start: Start) -> None:
    process = start()
    first = await process.enter("s1", "ada")
    await await_until(lambda: first.frames)
    again = await process.enter("s1", "ada")
    await await_until(lambda: again.frames)
    assert again.members.keys() == {"ada"}
    assert len(first.frames) == 1


async def test_nothing_is_kept_of_a_topic_that_nobody_follows(start: Start, broker: Broker) -> None:
    process = start()
    await process.enter("s1", "ada")
    await process.attendances.leave(ROOM, "s1")
    await await_until(lambda: not process.attendances._feeds)
    assert broker.present(ROOM) == []


class SlowListener:
    """Enters a connection only when the test lets it."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self.let = asyncio.Event()

    async def attend(self, topic: str, attendance: Any, *, ttl: float) -> None:
        await self.let.wait()
        await self._listener.attend(topic, attendance, ttl=ttl)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


async def test_whoever_leaves_while_being_entered_leaves_no_ghost(
    start: Start, broker: Broker
) -> None:
    process = start()
    slow = SlowListener(process.listener)
    process.attendances._listener = slow  # type: ignore[assignment]
    entering = asyncio.ensure_future(process.enter("s1", "ada"))
    await await_until(lambda: process.attendances._feeds)
    await process.attendances.leave(ROOM, "s1")
    slow.let.set()
    await entering
    assert broker.present(ROOM) == []


# The broker ----------------------------------------------------------------------------------


async def test_a_broker_that_is_away_delays_the_list_and_fails_nobody(
    start: Start, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "RETRY", QUICK)
    process = start()
    before = counters().get("presence.unavailable", 0)
    broker.away = True
    ada = await process.enter("s1", "ada")
    await process.attendances.set_state(ROOM, "s1", {"n": 1})
    await await_until(lambda: counters()["presence.unavailable"] > before + 3)
    assert ada.frames == []
    broker.away = False
    await await_until(lambda: "ada" in ada.members)
    assert ada.members["ada"]["state"] == {"n": 1}


class Without(MemoryBroker):
    """A broker that keeps no presence."""

    capabilities = Capabilities(history=True, cluster=False, presence=False, idempotency=True)

    def attend(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported("no presence here")

    def leave(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported("no presence here")

    def present(self, *args: Any, **kwargs: Any) -> Sequence[Attendance]:
        raise NotSupported("no presence here")


async def test_a_broker_without_presence_shows_nobody_and_fails_nobody() -> None:
    failed = counters().get("presence.failed", 0)
    process = Process(Without())
    ada = await process.enter("s1", "ada")
    await await_until(lambda: not process.attendances._feeds[ROOM].task)
    await process.attendances.leave(ROOM, "s1")
    assert ada.frames == []
    await process.aclose()
    assert counters().get("presence.failed", 0) == failed


def test_an_entry_that_cannot_be_read_is_counted_and_left_out() -> None:
    before = counters().get("presence.rejected", 0)
    entries = [
        Attendance(sid="s1", member="ada", info=b'{"name":"Ada"}'),
        Attendance(sid="s2", member="eve", info=b"\xff"),
        Attendance(sid="s3", member="bob", info=b"[]"),
    ]
    assert [member.name for member in group(entries)] == ["Ada"]
    assert counters()["presence.rejected"] == before + 2
