"""The broker of a single process: logs in memory. Read this one first.

It is the reference for every other backend: each method says in plain Python what the Redis scripts
do in Lua. Everything happens under one lock; listeners are told through their event loops, in the
order of the log.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..instrumentation import count, logger, warn_once
from ..protocol.position import Position, Since, Start
from .base import (
    METADATA_LIFE,
    Attendance,
    Broker,
    Capabilities,
    Command,
    Entry,
    Handler,
    History,
    Listener,
    Outcome,
    Page,
    Publish,
    Reset,
    Result,
    RowChange,
)

MAX_PENDING = 10_000
"""Rings that may wait for one event loop; more become one doubt about all topics."""
SWEEP_EVERY = 1_024
"""Commands between two looks for what has expired."""


def _microseconds() -> int:
    return time.time_ns() // 1_000


@dataclass(slots=True)
class _Log:
    epoch: str
    complete_since: int
    """Everything from this time on that is not in ``entries`` was never published."""
    expires: float
    offset: int = 0
    time: int = 0
    entries: deque[Entry] = field(default_factory=deque)
    keys: dict[str, tuple[int, Position]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Row:
    ticket: int
    topics: frozenset[str]
    expires: float


class MemoryBroker(Broker):
    """Logs in this process's memory.

    Args:
        clock: microseconds since 1970; tests move it.
    """

    capabilities = Capabilities(history=True, cluster=False, presence=True, idempotency=True)
    blocking = False

    def __init__(self, *, clock: Callable[[], int] = _microseconds) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._born = clock()
        self._time = self._born
        self._tickets = itertools.count(1)
        self._logs: dict[str, _Log] = {}
        self._rows: dict[str, _Row] = {}
        self._floors: dict[str, tuple[int, float]] = {}
        """Per topic the ticket it was last reset with, and until when that matters."""
        self._presence: dict[str, dict[str, tuple[int, Attendance]]] = {}
        self._values: dict[str, tuple[int, str]] = {}
        self._listeners: set[_MemoryListener] = set()
        self._commands = 0
        self._serves_browsers = False

    def serves_browsers(self) -> None:
        self._serves_browsers = True

    # --- publishers ---

    def append(self, commands: Sequence[Command]) -> list[Result]:
        if not self._serves_browsers and not self._listeners:
            warn_once(
                "memory",
                "This process publishes into its own memory, and no browser is connected to it:"
                " nobody will see it. Processes share topics over Redis; set CHANNEL_LAYERS to"
                " channels_redis.",
            )
        with self._lock:
            self._commands += len(commands)
            if self._commands >= SWEEP_EVERY:
                self._commands = 0
                self._sweep()
            return [self._carry_out(command) for command in commands]

    def _carry_out(self, command: Command) -> Result:
        match command:
            case Publish():
                return self._publish(command)
            case RowChange():
                return self._change_row(command)
            case Reset():
                return self._reset(command)

    def _publish(self, command: Publish) -> Result:
        log = self._log(command.topic, command.history)
        if command.key is not None and (seen := log.keys.get(command.key)) is not None:
            expires, position = seen
            if expires > self._tick():
                return Result(outcome=Outcome.DUPLICATE, positions={command.topic: position})
        entry = self._write(command.topic, log, command.body, command.history)
        if command.key is not None:
            expires = entry.time + round(command.history.ttl * 1e6)
            log.keys[command.key] = (expires, entry.position)
        return Result(outcome=Outcome.APPENDED, positions={command.topic: entry.position})

    def _change_row(self, command: RowChange) -> Result:
        known = self._rows.get(command.row)
        if known is not None and known.expires < self._tick():
            known = None
        if known is not None and (command.ticket is None or known.ticket > command.ticket):
            return Result(outcome=Outcome.REFUSED, positions={})
        left = command.before | known.topics if known is not None else command.before
        if any(self._below_floor(topic, command.ticket) for topic in left.union(command.topics)):
            return Result(outcome=Outcome.REFUSED, positions={})
        positions: dict[str, Position] = {}
        for topic in sorted(left - command.topics.keys()):
            log = self._log(topic, command.history)
            positions[topic] = self._write(topic, log, command.remove, command.history).position
        for topic, body in command.topics.items():
            log = self._log(topic, command.history)
            positions[topic] = self._write(topic, log, body, command.history).position
        self._rows[command.row] = _Row(
            ticket=command.ticket or 0,
            topics=frozenset(command.topics),
            expires=self._end_of_life(self._tick(), command.history),
        )
        return Result(outcome=Outcome.APPENDED, positions=positions)

    def _below_floor(self, topic: str, ticket: int | None) -> bool:
        """Whether a row read with this ticket may be older than the topic's last reset."""
        floor, expires = self._floors.get(topic, (0, 0.0))
        return expires >= self._tick() and (ticket is None or ticket < floor)

    def _reset(self, command: Reset) -> Result:
        if command.ticket is not None:
            expires = self._end_of_life(self._tick(), command.history)
            self._floors[command.topic] = (command.ticket, expires)
        log = self._logs[command.topic] = self._new_log(self._tick(), command.history)
        for listener in self._listeners:
            listener.ring_reset(command.topic, command.reason)
        position = Position(epoch=log.epoch, offset=0)
        return Result(outcome=Outcome.APPENDED, positions={command.topic: position})

    def _write(self, topic: str, log: _Log, body: bytes, history: History) -> Entry:
        now = self._tick()
        log.offset += 1
        log.time = now
        log.expires = self._end_of_life(now, history)
        entry = Entry(epoch=log.epoch, offset=log.offset, time=now, body=body)
        log.entries.append(entry)
        self._trim(log, history, now)
        for listener in self._listeners:
            listener.ring(topic, entry)
        return entry

    def ticket(self) -> int:
        return next(self._tickets)

    def signal(self, topic: str, payload: bytes) -> None:
        with self._lock:
            for listener in self._listeners:
                listener.ring_signal(topic, payload)

    # --- readers ---

    def now(self) -> Since:
        with self._lock:
            return Since(time=self._tick())

    def read(self, topic: str, start: Start, *, history: History) -> Page:
        with self._lock:
            log = self._log(topic, history)
            log.expires = self._end_of_life(self._tick(), history)
            self._trim(log, history, self._tick())
            end = Position(epoch=log.epoch, offset=log.offset)
            first = log.entries[0].offset if log.entries else log.offset + 1
            if start is None:
                return Page(position=end)
            if isinstance(start, Since):
                if start.time < log.complete_since:
                    return Page(position=end, recovered=False, reason="trimmed")
                found = [entry for entry in log.entries if entry.time >= start.time]
                return Page(position=end, entries=found)
            if start.epoch != log.epoch:
                return Page(position=end, recovered=False, reason="epoch")
            if start.offset > log.offset:
                return Page(position=end, recovered=False, reason="lost")
            if start.offset + 1 < first:
                return Page(position=end, recovered=False, reason="trimmed")
            found = [entry for entry in log.entries if entry.offset > start.offset]
            return Page(position=end, entries=found)

    def read_all(self, topic: str, *, history: History) -> Sequence[Entry]:
        with self._lock:
            log = self._log(topic, history)
            self._trim(log, history, self._tick())
            return list(log.entries)

    def heads(self, topics: Mapping[str, History]) -> dict[str, Position]:
        """The ends of the logs that exist; they live on as long as somebody asks."""
        with self._lock:
            now = self._tick()
            found: dict[str, Position] = {}
            for topic, history in topics.items():
                log = self._logs.get(topic)
                if log is not None and log.expires >= now:
                    log.expires = self._end_of_life(now, history)
                    found[topic] = Position(epoch=log.epoch, offset=log.offset)
            return found

    # --- presence and values ---

    def present(self, topic: str) -> Sequence[Attendance]:
        with self._lock:
            now = self._tick()
            there = self._presence.get(topic, {})
            for sid in [sid for sid, (expires, _) in there.items() if expires <= now]:
                del there[sid]
            return [attendance for _, attendance in there.values()]

    def attend(self, topic: str, attendance: Sequence[Attendance], *, ttl: float) -> None:
        """Enter connections into a topic's presence, or renew them."""
        with self._lock:
            expires = self._tick() + round(ttl * 1e6)
            there = self._presence.setdefault(topic, {})
            for one in attendance:
                there[one.sid] = (expires, one)

    def leave(self, topic: str, sids: Sequence[str]) -> None:
        """Take connections out of a topic's presence."""
        with self._lock:
            there = self._presence.get(topic, {})
            for sid in sids:
                there.pop(sid, None)
            if not there:
                self._presence.pop(topic, None)

    def claim(self, name: str, value: str, *, ttl: float) -> str:
        with self._lock:
            now = self._tick()
            expires, known = self._values.get(name, (0, value))
            if expires <= now:
                known = value
            self._values[name] = (now + round(ttl * 1e6), known)
            return known

    def listen(self, handler: Handler) -> Listener:
        listener = _MemoryListener(self, handler)
        with self._lock:
            self._listeners.add(listener)
        return listener

    def forget(self, listener: _MemoryListener) -> None:
        """Tell a listener nothing more."""
        with self._lock:
            self._listeners.discard(listener)

    # --- inside the lock ---

    def _tick(self) -> int:
        """The clock, which here never runs backwards."""
        self._time = max(self._time, self._clock())
        return self._time

    def _end_of_life(self, now: int, history: History) -> float:
        return now + history.ttl * METADATA_LIFE * 1e6

    def _new_log(self, complete_since: int, history: History) -> _Log:
        expires = self._end_of_life(self._tick(), history)
        return _Log(epoch=secrets.token_hex(8), complete_since=complete_since, expires=expires)

    def _log(self, topic: str, history: History) -> _Log:
        log = self._logs.get(topic)
        now = self._tick()
        if log is None or log.expires < now:
            # What is not here was never published, or its metadata has expired, which takes
            # METADATA_LIFE times as long as its entries.
            window = max(self._born, now - round(history.ttl * 1e6))
            log = self._logs[topic] = self._new_log(window, history)
        return log

    def _trim(self, log: _Log, history: History, now: int) -> None:
        oldest = now - round(history.ttl * 1e6)
        while log.entries and (len(log.entries) > history.size or log.entries[0].time < oldest):
            log.complete_since = log.entries.popleft().time + 1

    def _sweep(self) -> None:
        now = self._tick()
        for topic in [topic for topic, log in self._logs.items() if log.expires < now]:
            del self._logs[topic]
        for row in [row for row, known in self._rows.items() if known.expires < now]:
            del self._rows[row]
        for topic in [topic for topic, (_, expires) in self._floors.items() if expires < now]:
            del self._floors[topic]
        for name in [name for name, (expires, _) in self._values.items() if expires < now]:
            del self._values[name]
        for log in self._logs.values():
            for key in [key for key, (expires, _) in log.keys.items() if expires < now]:
                del log.keys[key]


class _MemoryListener(Listener):
    """Carries rings into one event loop, in order and without ever blocking the publisher."""

    def __init__(self, broker: MemoryBroker, handler: Handler) -> None:
        self._broker = broker
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._topics: set[str] = set()
        self._pending: deque[Callable[[], None]] = deque()
        self._overflown = False

    def ring(self, topic: str, entry: Entry) -> None:
        if topic in self._topics:
            self._enqueue(lambda: self._handler.on_entry(topic, entry))

    def ring_reset(self, topic: str, reason: str) -> None:
        if topic in self._topics:
            self._enqueue(lambda: self._handler.on_reset(topic, reason))

    def ring_signal(self, topic: str, payload: bytes) -> None:
        if topic in self._topics:
            self._enqueue(lambda: self._handler.on_signal(topic, payload))

    def _enqueue(self, ring: Callable[[], None]) -> None:
        if len(self._pending) >= MAX_PENDING:
            self._overflown = True
            return
        self._pending.append(ring)
        if len(self._pending) > 1:
            return
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._pending.clear()
            self._topics.clear()

    def _drain(self) -> None:
        with self._broker._lock:
            rings, self._pending = self._pending, deque()
            overflown, self._overflown = self._overflown, False
        doubt = overflown
        for ring in rings:
            try:
                ring()
            except Exception:
                count("bus.handler_failed")
                logger.exception("A ring could not be handled; every log is looked at again.")
                doubt = True
        if doubt:
            self._handler.on_doubt(None)

    async def subscribe(self, topics: Sequence[str]) -> None:
        self._topics.update(topics)

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        self._topics.difference_update(topics)

    async def read(self, topic: str, start: Start, *, history: History) -> Page:
        return self._broker.read(topic, start, history=history)

    async def heads(self, topics: Mapping[str, History]) -> Mapping[str, Position]:
        return self._broker.heads(topics)

    async def signal(self, topic: str, payload: bytes) -> None:
        self._broker.signal(topic, payload)

    async def present(self, topic: str) -> Sequence[Attendance]:
        return self._broker.present(topic)

    async def attend(self, topic: str, attendance: Sequence[Attendance], *, ttl: float) -> None:
        self._broker.attend(topic, attendance, ttl=ttl)

    async def leave(self, topic: str, sids: Sequence[str]) -> None:
        self._broker.leave(topic, sids)

    async def claim(self, name: str, value: str, *, ttl: float) -> str:
        return self._broker.claim(name, value, ttl=ttl)

    async def aclose(self) -> None:
        self._broker.forget(self)
        self._topics.clear()
        self._pending.clear()
