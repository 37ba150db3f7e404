"""Assertions about what was published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.test import TestCase

from .. import publishing
from ..brokers import set_broker
from ..brokers.base import Broker, Command, Outcome, Publish, Reset, Result, RowChange
from ..brokers.memory import MemoryBroker
from ..protocol import codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One event that went into a topic's log.

    Args:
        topic: the topic's name.
        event: the event's name; ``"reset"`` if the log began anew.
        data: what was published, as a browser gets it; ``bytes`` for a binary event; the reason
            of a reset.
        key: what it is about.
        kind: see ``docs/reference/frames.md``.
    """

    topic: str
    event: str
    data: Any = None
    key: str | None = None
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.topic}: {self.event} {self.data!r}"


class RealtimeTestMixin:
    """For test cases of Django: a fresh broker in memory, and assertions about publishing.

    Put it before ``TestCase``::

        class OrderTests(RealtimeTestMixin, TestCase):
            def test_saving_is_announced(self):
                with self.assertPublished("orders/7", event="upsert", count=1):
                    order.save()

    What waits for a commit is published at the end of the ``with`` block, although the test's own
    transaction never commits. That holds for sync tests: a coroutine's database work is done in
    another thread, whose commits a ``TestCase`` cannot stand in for; use a ``TransactionTestCase``.
    """

    _broker_before: Broker | None

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        broker = MemoryBroker()
        broker.serves_browsers()
        self._broker_before = set_broker(broker)
        self.addCleanup(self._restore_broker)  # type: ignore[attr-defined]

    def _restore_broker(self) -> None:
        set_broker(self._broker_before)

    @contextmanager
    def assertPublished(
        self, topic: str, *, event: str | None = None, count: int | None = None
    ) -> Iterator[list[Published]]:
        """Fail unless the block publishes to a topic.

        Args:
            topic: the topic's name.
            event: only events of this name count; default: any.
            count: how many; default: at least one.

        Returns:
            A list that holds the matching events once the block has ended.
        """
        matching: list[Published] = []
        with self._recorded() as recorded:
            yield matching
        matching += [one for one in recorded if one.topic == topic and event in (None, one.event)]
        if (count is None and matching) or len(matching) == count:
            return
        expected = "at least one" if count is None else str(count)
        what = f"{event!r} events" if event is not None else "events"
        seen = "".join(f"\n  {one}" for one in recorded) or " nothing"
        self.fail(  # type: ignore[attr-defined]
            f"Expected {expected} {what} on {topic!r}, got {len(matching)}."
            f" The block published:{seen}"
        )

    @contextmanager
    def assertNothingPublished(self) -> Iterator[None]:
        """Fail if the block publishes anything."""
        with self._recorded() as recorded:
            yield
        if recorded:
            seen = "".join(f"\n  {one}" for one in recorded)
            self.fail(f"Expected nothing to be published, got:{seen}")  # type: ignore[attr-defined]

    @contextmanager
    def _recorded(self) -> Iterator[list[Published]]:
        recorded: list[Published] = []

        def note(commands: Sequence[Command], results: Sequence[Result]) -> None:
            for command, result in zip(commands, results, strict=True):
                recorded.extend(_published(command, result))

        with publishing.observed(note):
            publishing.forget_pending()
            with ExitStack() as stack:
                if isinstance(self, TestCase):
                    for alias in self._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
                        stack.enter_context(
                            self.captureOnCommitCallbacks(using=alias, execute=True)
                        )
                yield recorded
            publishing.flush()


def _published(command: Command, result: Result) -> list[Published]:
    if result.outcome is not Outcome.APPENDED:
        return []
    match command:
        case Publish():
            return [_event(command.topic, command.body)]
        case Reset():
            return [Published(topic=command.topic, event="reset", data=command.reason)]
        case RowChange():
            return [
                _event(topic, command.topics.get(topic, command.remove))
                for topic in result.positions
            ]


def _event(topic: str, body: bytes) -> Published:
    info = codec.read_body(body)
    return Published(topic=topic, event=info.event, data=info.value, key=info.key, kind=info.kind)
