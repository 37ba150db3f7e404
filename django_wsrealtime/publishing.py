"""Hand commands to the broker: now or after commit, from any context, without failing the caller.

A view must not fail because the bus is down. What could not be published is *lost*: logged, counted
and remembered, and when the bus returns the topics concerned begin a new epoch, so that everybody
who follows them knows (``reset``, reason ``lost``).

Inside a transaction nothing is published before its commit. Django keeps ``on_commit`` hooks with
the savepoints they were registered in and drops those of a savepoint that is rolled back, but it
has no "after the last hook". So what is to be published is collected in one :class:`Bucket` per set
of open savepoints; the buckets that survive until the commit run one after the other and share one
:class:`Transaction`, whose ``done`` set keeps a row from being published twice::

    with atomic():                      # bucket ()        row 1
        with atomic():                  # bucket (s1,)     row 1 again, row 2
            ...
                                        # commit: () publishes row 1; (s1,) publishes row 2
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .brokers import get_broker
from .brokers.base import Command, History, Reset, Result, RowChange
from .errors import BrokerUnavailable
from .instrumentation import count, logger, warn_once

MAX_LOST = 100_000
"""Topics whose loss one process remembers."""
MAX_QUEUED = 10_000
"""Commands that may wait for the publisher thread."""
BATCH = 256
"""Commands carried out in one call of a broker."""
ANNOUNCE_AGAIN = 5.0
"""Seconds after which losses are announced again if that failed although the broker seemed back."""
EXIT_SECONDS = 2.0
"""How long the end of the process waits for what is still queued."""


# --- now ---------------------------------------------------------------------------------------


def send(commands: Sequence[Command]) -> list[Result] | None:
    """Carry commands out now, in order.

    In a running event loop a broker that could block it is called by a thread of ours.

    Returns:
        The broker's answers; ``None`` if they are not known: handed to the thread, or lost.
    """
    if not commands:
        return []
    if get_broker().blocking and in_event_loop():
        _publisher.put(commands)
        return None
    return _append(commands)


async def asend(commands: Sequence[Command]) -> list[Result] | None:
    """Like :func:`send`, but waits for the answers without blocking the event loop."""
    if not commands:
        return []
    if not get_broker().blocking:
        return _append(commands)
    return await asyncio.wrap_future(_publisher.put(commands))


def in_event_loop() -> bool:
    """Whether the caller must not block, because a coroutine of this thread called it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _append(commands: Sequence[Command]) -> list[Result] | None:
    broker = get_broker()
    try:
        results = broker.append(commands)
    except BrokerUnavailable as error:
        lost(_topics(commands), why=str(error))
        return None
    except Exception as error:
        lost(_topics(commands), why=f"{type(error).__name__}: {error}")
        raise
    count("published", len(commands))
    for observer in _observers:
        observer(commands, results)
    return results


Observer = Callable[[Sequence[Command], Sequence[Result]], None]
_observers: list[Observer] = []


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Within this context show everything that is published to an observer, in any thread."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def _topics(commands: Sequence[Command]) -> dict[str, History]:
    topics: dict[str, History] = {}
    for command in commands:
        if isinstance(command, RowChange):
            topics.update(dict.fromkeys([*command.topics, *command.before], command.history))
        else:
            topics[command.topic] = command.history
    return topics


# --- after commit ------------------------------------------------------------------------------


class Work(Protocol):
    """Something to publish when its transaction has been committed."""

    def flush(self, transaction: Transaction) -> None:
        """Publish. Called once; must not raise because the bus is down."""


class Transaction:
    """What the buckets of one database transaction share; it ends with the transaction.

    Args:
        using: the database's alias.
    """

    __slots__ = ("__weakref__", "buckets", "done", "flushed", "notes", "using")

    def __init__(self, using: str) -> None:
        self.using = using
        self.done: set[Hashable] = set()
        self.notes: dict[Hashable, Any] = {}
        self.buckets: dict[tuple[str | None, ...], Bucket] = {}
        self.flushed = False

    @property
    def pending(self) -> bool:
        """Whether a bucket still waits for the commit.

        Django alone holds the hooks: those of what was rolled back are gone.
        """
        return not self.flushed and any(bucket.waits for bucket in self.buckets.values())


class Bucket:
    """What is to be published if a certain set of savepoints survives."""

    __slots__ = ("_hook", "transaction", "works")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.works: list[Work] = []
        self._hook: weakref.ref[Callable[[], None]] | None = None
        """The function given to Django and to nobody else: when it is gone, so is the bucket."""

    @property
    def waits(self) -> bool:
        """Whether Django still means to run this bucket."""
        return self._hook is not None and self._hook() is not None

    @property
    def immediate(self) -> bool:
        """Whether there is no transaction to wait for: the caller runs the bucket."""
        return self._hook is None

    def add(self, work: Work) -> None:
        """Publish this too."""
        self.works.append(work)

    def run(self) -> None:
        """Publish everything, in order; what one work raises does not keep the others back."""
        self.transaction.flushed = True
        works, self.works = self.works, []
        for work in works:
            try:
                work.flush(self.transaction)
            except Exception:
                count("publish.failed")
                logger.exception("Publishing after commit failed; its events are lost.")

    def wait(self, using: str) -> None:
        """Have Django run this bucket after the commit of the savepoints now open."""

        def publish_after_commit() -> None:
            self.run()

        self._hook = weakref.ref(publish_after_commit)
        transaction.on_commit(publish_after_commit, using=using, robust=True)


_transactions: weakref.WeakKeyDictionary[BaseDatabaseWrapper, Transaction] = (
    weakref.WeakKeyDictionary()
)


def on_commit(using: str) -> Bucket:
    """The bucket of the savepoints that are open now on this thread's connection.

    Outside a transaction it is a new one, ``immediate``, which the caller fills and runs.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        if not connection.get_autocommit():
            warn_once(
                f"manual:{using}",
                f"Something was published on database {using!r} with autocommit off and outside"
                " atomic(): the package cannot see that commit and publishes at once, maybe"
                " before it. Use transaction.atomic().",
            )
        return Bucket(Transaction(using))
    current = _transactions.get(connection)
    if current is None or not current.pending:
        current = _transactions[connection] = Transaction(using)
    savepoints = tuple(connection.savepoint_ids)
    bucket = current.buckets.get(savepoints)
    if bucket is None:
        bucket = current.buckets[savepoints] = Bucket(current)
        bucket.wait(using)
    return bucket


def forget_pending() -> None:
    """Let what is published from now on in this thread belong to transactions of its own.

    For tests, whose outer transaction never commits: what was written before a block of a test is
    to that block what was committed before.
    """
    _transactions.clear()


class _Commands:
    """Plain commands that wait for a commit."""

    __slots__ = ("_commands",)

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands

    def flush(self, transaction: Transaction) -> None:
        send(self._commands)


def submit(
    commands: Sequence[Command], *, using: str | None = None, on_commit: bool = True
) -> None:
    """Carry commands out after the commit of the transaction that is open, or now if none is.

    Args:
        commands: what to publish, in order.
        using: whose transaction; default: the default database.
        on_commit: ``False`` publishes now, whatever the transaction comes to.
    """
    using = using or DEFAULT_DB_ALIAS
    if not on_commit or not connections[using].in_atomic_block:
        send(commands)
        return
    _bucket_for(using).add(_Commands(commands))


_bucket_for = on_commit  # `submit` has an argument of that name


# --- losses ------------------------------------------------------------------------------------

_lost: dict[str, History] = {}
_lost_lock = threading.Lock()
_announcing = False
_here = threading.local()


def lost(topics: Mapping[str, History], *, why: str) -> None:
    """Remember that events of these topics never reached the log.

    When the broker is back each of them begins a new epoch.

    Args:
        topics: with how much of their logs is kept.
        why: for the log.
    """
    global _announcing
    count("publish.lost", max(1, len(topics)))
    logger.error(
        "Events of %s were lost: %s. They will be reset when the broker is back.",
        ", ".join(sorted(topics)[:5]) + (" and others" if len(topics) > 5 else ""),
        why,
    )
    with _lost_lock:
        room = MAX_LOST - len(_lost)
        for topic, history in list(topics.items())[: max(0, room)]:
            _lost[topic] = history
        if len(topics) > room:
            count("publish.forgotten", len(topics) - max(0, room))
            logger.critical("More than %d topics lost events; some will not be reset.", MAX_LOST)
        if _announcing or not _lost:
            return
        _announcing = True
    get_broker().when_back(_announce)


def _announce() -> None:
    if getattr(_here, "announcing", False):
        # The broker said at once that it is back, in the midst of an announcement that failed.
        again = threading.Timer(ANNOUNCE_AGAIN, _announce)
        again.daemon = True
        again.start()
    elif get_broker().blocking and in_event_loop():
        threading.Thread(target=_announce, name="wsrealtime-losses", daemon=True).start()
    else:
        _here.announcing = True
        try:
            _reset_lost()
        finally:
            _here.announcing = False


def _reset_lost() -> None:
    global _announcing
    with _lost_lock:
        topics = dict(_lost)
        _lost.clear()
        _announcing = False
    try:
        # Rows that were read before now may be older than what readers will fetch.
        ticket = get_broker().ticket() if topics else None
    except BrokerUnavailable as error:
        lost(topics, why=str(error))
        return
    resets = [
        Reset(topic=topic, reason="lost", history=history, ticket=ticket)
        for topic, history in topics.items()
    ]
    for start in range(0, len(resets), BATCH):
        try:
            _append(resets[start : start + BATCH])
        except Exception:
            count("publish.failed")
            logger.exception("Announcing losses failed; it is tried again.")
    if resets:
        logger.warning("The broker is back; %d topics were reset.", len(resets))


# --- the publisher thread ----------------------------------------------------------------------

_Answer = concurrent.futures.Future["list[Result] | None"]


class _Publisher:
    """One daemon thread that publishes what event loops hand to it, many at a time."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[tuple[Sequence[Command], _Answer]] = deque()
        self._queued = 0
        self._thread: threading.Thread | None = None

    def put(self, commands: Sequence[Command]) -> _Answer:
        """Publish these; the future tells the answers, or ``None`` if they were lost."""
        answer: _Answer = concurrent.futures.Future()
        with self._condition:
            full = self._queued + len(commands) > MAX_QUEUED
            if not full:
                self._queued += len(commands)
                self._queue.append((commands, answer))
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(
                        target=self._run, name="wsrealtime-publisher", daemon=True
                    )
                    self._thread.start()
                self._condition.notify()
        if full:
            lost(_topics(commands), why=f"more than {MAX_QUEUED} commands were waiting")
            answer.set_result(None)
        return answer

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._queue:
                    self._condition.wait()
                batch = [self._queue.popleft()]
                size = len(batch[0][0])
                while self._queue and size + len(self._queue[0][0]) <= BATCH:
                    batch.append(self._queue.popleft())
                    size += len(batch[-1][0])
            try:
                self._publish(batch)
            finally:
                with self._condition:
                    self._queued -= size
                    self._condition.notify_all()

    def _publish(self, batch: list[tuple[Sequence[Command], _Answer]]) -> None:
        # From here on nobody can cancel. Whoever did so before no longer waits for an answer, but
        # what was handed over is published all the same.
        awaited = [answer.set_running_or_notify_cancel() for _, answer in batch]
        try:
            results = _append([command for commands, _ in batch for command in commands])
        except Exception as error:
            count("publish.failed")
            logger.exception("Publishing failed.")
            for (_, answer), waits in zip(batch, awaited, strict=True):
                if waits:
                    answer.set_exception(error)
            return
        start = 0
        for (commands, answer), waits in zip(batch, awaited, strict=True):
            end = start + len(commands)
            if waits:
                answer.set_result(None if results is None else results[start:end])
            start = end

    def drain(self, timeout: float) -> None:
        """Wait until everything queued has been published, at most ``timeout`` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._queued == 0, timeout)

    def forget(self) -> None:
        """After a fork: the parent publishes what it had queued."""
        self.__init__()  # type: ignore[misc]


def _after_fork() -> None:
    """What was queued or lost before is the parent's to publish or to announce."""
    global _lost_lock, _announcing
    _publisher.forget()
    _lost_lock = threading.Lock()
    _lost.clear()
    _announcing = False


def flush(timeout: float = EXIT_SECONDS) -> None:
    """Wait until the publisher thread has nothing left to do, at most ``timeout`` seconds."""
    _publisher.drain(timeout)


_publisher = _Publisher()
atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
