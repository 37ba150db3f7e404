"""Publishes the rows of one stream that a transaction has changed, so that the truth comes last.

Draw a ticket, then read, then append: whoever holds a higher ticket has read later. What the broker
refuses was overtaken, by somebody who has read what we committed. But that somebody may not know of
a topic that we put the row into, and a snapshot may have shown it there. So whoever is refused
draws a new ticket and reads again, until the row has left every topic that it was in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .. import publishing
from ..brokers import get_broker
from ..brokers.base import Command, Outcome, Reset, Result, RowChange
from ..conf import conf
from ..errors import BrokerUnavailable
from ..instrumentation import count, logger
from . import rows
from .membership import NO_TOPICS, Plan
from .pauses import pause
from .rows import Row

ATTEMPTS = 20
"""Times to be overtaken before a row's topics are reset instead."""

Topics = frozenset[str]


def draw_ticket() -> int | None:
    """A ticket for what is read from now on; ``None`` if the broker is away."""
    pause("ticket")
    try:
        return get_broker().ticket()
    except BrokerUnavailable:
        return None


class Publication:
    """The changed rows of one stream.

    Args:
        plan: the stream.
        using: the database.
        written: the changed rows, with topics they were put into, as far as is known.
        before: topics that rows were in before the transaction.
        evidence: for rows that did not pass the filter before: the values that it judges by, as
            they were written.
        touched: topics that changed in more rows than are known one by one.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        using: str,
        written: Mapping[Any, Topics],
        before: Mapping[Any, Topics],
        evidence: Mapping[Any, Mapping[str, Any]],
        touched: set[str],
    ) -> None:
        self._plan = plan
        self._using = using
        self._touched = touched
        # Topics that a row may have to leave.
        self._left: dict[Any, Topics] = {pk: before.get(pk, NO_TOPICS) for pk in written}
        self._written = written
        self._evidence = evidence
        # Rows that do not pass the filter, but may have, until somebody overwrote what we wrote.
        self._passed: set[Any] = set()

    def publish(self, ticket: int | None) -> None:
        """Publish now, after the commit.

        Args:
            ticket: drawn after the commit; ``None``: the broker is away.
        """
        pks = list(self._written)
        if self._touched and not pks:
            self._reset(self._touched, ticket)
            return
        for _ in range(ATTEMPTS):
            pks = self._publish(pks, ticket)
            if not pks:
                return
            ticket = draw_ticket()
        topics = frozenset().union(*(self._left[pk] for pk in pks))
        count("streams.overtaken", len(pks))
        logger.error("%d rows of %r were overtaken %d times.", len(pks), self._plan, ATTEMPTS)
        publishing.lost(dict.fromkeys(topics, self._plan.history), why="others kept changing rows")

    def _publish(self, pks: Sequence[Any], ticket: int | None) -> list[Any]:
        """Publish these rows; return those that were overtaken."""
        pause("read")
        try:
            found = self._read(pks)
        except Exception:  # whatever the application's queryset raises
            count("publish.failed")
            logger.exception("Rows of %r could not be read again.", self._plan)
            self._lose(pks, {}, why="the database did not answer")
            return []
        if ticket is None:
            self._lose(pks, found, why="the broker drew no ticket")
            return []
        self._learn(pks, found)
        reset = self._too_many(pks, found)
        commands: list[Command] = []
        published: list[Any] = []
        for pk in pks:
            command = self._command(pk, found.get(pk), ticket, reset)
            if command is not None:
                commands.append(command)
                published.append(pk)
        pause("append")
        results = self._send(commands)
        self._reset(reset, ticket)
        return self._overtaken(published, results)

    def _read(self, pks: Sequence[Any]) -> dict[Any, Row]:
        found = rows.read(self._plan, self._using, pks)
        for pk in pks:
            if pk not in found and not self._left[pk] and pk in self._evidence:
                evidence = self._evidence[pk]
                if not rows.is_unchanged(self._plan, self._using, pk, evidence):
                    self._passed.add(pk)
        return found

    def _learn(self, pks: Sequence[Any], found: Mapping[Any, Row]) -> None:
        """Somebody may have seen a row where it was put, before it was moved on."""
        for pk in pks:
            now = found[pk].topics if pk in found else NO_TOPICS
            seen = self._left[pk] | now
            if seen or pk in self._passed or not self._plan.shape.filtered:
                self._left[pk] = seen | self._written[pk]

    def _too_many(self, pks: Sequence[Any], found: Mapping[Any, Row]) -> Topics:
        """The topics with more changed rows than are sent one by one."""
        limit = conf().limits.bulk_rows
        touched = frozenset(self._touched)
        if len(pks) <= limit:
            return touched
        counted = Counter(topic for pk in pks for topic in self._left[pk])
        return touched.union(topic for topic, changed in counted.items() if changed > limit)

    def _command(self, pk: Any, row: Row | None, ticket: int, reset: Topics) -> RowChange | None:
        """What to tell of a row; ``None`` if resets tell everything, or it cannot be told."""
        now = row.topics if row is not None else NO_TOPICS
        if self._left[pk] and self._left[pk] <= reset:
            return None
        body = b""
        if row is not None and now - reset:
            try:
                body = rows.upsert(self._plan, row)
            except TypeError:
                count("publish.failed")
                logger.exception("A row cannot be sent; its topics are reset.")
                publishing.lost(
                    dict.fromkeys(self._left[pk], self._plan.history), why="a row cannot be sent"
                )
                return None
        return RowChange(
            row=self._plan.row_name(self._using, pk),
            ticket=ticket,
            topics=dict.fromkeys(now - reset, body),
            remove=rows.remove(pk),
            before=self._left[pk] - now - reset,
            history=self._plan.history,
        )

    def _send(self, commands: Sequence[Command]) -> list[Result | None]:
        results: list[Result | None] = []
        for start in range(0, len(commands), publishing.BATCH):
            batch = commands[start : start + publishing.BATCH]
            results += publishing.send(batch) or [None] * len(batch)
        return results

    def _overtaken(self, pks: Sequence[Any], results: Sequence[Result | None]) -> list[Any]:
        if not self._plan.moves:
            return []  # whoever overtook us has told the one topic there is
        return [
            pk
            for pk, result in zip(pks, results, strict=True)
            if result is not None and result.outcome is Outcome.REFUSED
        ]

    def _reset(self, topics: Topics | set[str], ticket: int | None) -> None:
        self._send(
            [
                Reset(topic=topic, reason="bulk", history=self._plan.history, ticket=ticket)
                for topic in sorted(topics)
            ]
        )
        self._touched = set()

    def _lose(self, pks: Sequence[Any], found: Mapping[Any, Row], *, why: str) -> None:
        self._learn(pks, found)
        topics = frozenset(self._touched).union(*(self._left[pk] for pk in pks))
        if topics:
            publishing.lost(dict.fromkeys(topics, self._plan.history), why=why)


def publish_created(plan: Plan, using: str, pk: Any, row: Row) -> bool:
    """Publish a row that was created and committed just now, as it was saved.

    No ticket is needed: if the broker has heard of the row, somebody came later.

    Returns:
        Whether that was it; ``False``: the row has to be read again.
    """
    try:
        body = rows.upsert(plan, row)
    except TypeError:
        return False  # the other way knows whom to tell
    command = RowChange(
        row=plan.row_name(using, pk),
        ticket=None,
        topics=dict.fromkeys(row.topics, body),
        remove=rows.remove(pk),
        before=NO_TOPICS,
        history=plan.history,
    )
    pause("append")
    results = publishing.send([command])
    if results is None:
        return (
            not publishing.in_event_loop()
        )  # an event loop is not told whether somebody came later
    return results[0].outcome is not Outcome.REFUSED
