"""Collects the rows that a transaction changes, until its commit publishes them.

A row is remembered with the topics it was in *before* the transaction, read when it is first
touched. Rolling back a savepoint takes the changes made within it away, not what was known before.
Memory is bounded: beyond :func:`rows_kept` rows of a stream only the topics they touch are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections

from .. import publishing
from ..conf import conf
from ..instrumentation import count, logger
from . import rows
from .membership import NO_TOPICS, Plan
from .publication import Publication, draw_ticket

TOPICS_KEPT = 100_000
"""Topics per stream that one transaction may touch beyond the rows that are kept."""
_NOTE = "streams"

Topics = frozenset[str]


def rows_kept() -> int:
    """How many rows per stream and transaction are kept one by one."""
    return 25 * conf().limits.bulk_rows


class Dirty:
    """What the buckets of one transaction share."""

    __slots__ = ("before", "changes", "evidence", "published", "touched", "using", "writes")

    def __init__(self, using: str) -> None:
        self.using = using
        self.published = False
        self.changes: dict[publishing.Bucket, Changes] = {}
        self.before: dict[Plan, dict[Any, Topics]] = {}
        self.evidence: dict[Plan, dict[Any, dict[str, Any]]] = {}
        self.touched: dict[Plan, set[str]] = {}
        self.writes = itertools.count(1)

    def touch(self, plan: Plan, topics: Iterable[str]) -> None:
        """These topics have changed in more rows than are kept."""
        touched = self.touched.setdefault(plan, set())
        touched.update(topics)
        if len(touched) > TOPICS_KEPT:
            count("streams.forgotten", len(touched) - TOPICS_KEPT)
            logger.critical(
                "One transaction changed rows of %r in more than %d topics; subscribers of some of"
                " them are not told. Change fewer rows at once.",
                plan.route.text,
                TOPICS_KEPT,
            )
            while len(touched) > TOPICS_KEPT:
                touched.pop()


class Changes:
    """The rows changed while a certain set of savepoints was open; a :class:`publishing.Work`."""

    __slots__ = ("bucket", "dirty", "rows")

    def __init__(self, dirty: Dirty, bucket: publishing.Bucket) -> None:
        self.dirty = dirty
        self.bucket = bucket
        # By stream and primary key: the number of the row's last write here, and where it put it.
        self.rows: dict[Plan, dict[Any, tuple[int, Topics]]] = {}

    @property
    def using(self) -> str:
        return self.dirty.using

    def mark(self, plan: Plan, pk: Any, written: Topics | None = None) -> None:
        """This row has changed.

        Args:
            plan: the stream that is concerned.
            pk: which row.
            written: the topics that the row was put into; ``None``: as before, or not known.
        """
        marked = self.rows.get(plan)
        if marked is None:
            marked = self.rows[plan] = {}
        if written is None:
            marked.setdefault(pk, (0, NO_TOPICS))
        else:
            marked[pk] = (next(self.dirty.writes), written)
        if len(marked) > rows_kept():
            del marked[pk]
            if written is None:
                written = rows.locate(plan, self.using, [pk]).get(pk, NO_TOPICS)
            self.dirty.touch(plan, written | self.dirty.before.get(plan, {}).get(pk, NO_TOPICS))

    def knows(self, plan: Plan, pk: Any) -> bool:
        """Whether it is known where the row was before the transaction."""
        before = self.dirty.before.get(plan)
        return before is not None and pk in before

    def note(self, plan: Plan, pk: Any, topics: Topics) -> None:
        """These are the topics the row was in before the transaction; what came first holds."""
        before = self.dirty.before.get(plan)
        if before is None:
            before = self.dirty.before[plan] = {}
        if len(before) < rows_kept():
            before.setdefault(pk, topics)
        elif pk not in before:
            self.dirty.touch(plan, topics)

    def note_evidence(self, plan: Plan, pk: Any, evidence: dict[str, Any] | None) -> None:
        """The row passes the filter or not by these values, which were written last."""
        if evidence is not None and self.dirty.before.get(plan, {}).get(pk) == NO_TOPICS:
            self.dirty.evidence.setdefault(plan, {})[pk] = evidence

    def note_rows(self, plan: Plan, pks: Iterable[Any]) -> None:
        """Look up where these rows are, before they change."""
        unknown = [pk for pk in pks if not self.knows(plan, pk)]
        if unknown and plan.moves:
            located = rows.locate(plan, self.using, unknown)
            for pk in unknown:
                self.note(plan, pk, located.get(pk, NO_TOPICS))

    def mark_rows(self, plan: Plan, pks: Sequence[Any], *, moved: bool = False) -> None:
        """These rows have changed; ``moved``: and maybe their topics."""
        for start in range(0, len(pks), rows.CHUNK):
            chunk = pks[start : start + rows.CHUNK]
            full = len(self.rows.get(plan, ())) + len(chunk) > rows_kept()
            if not moved and not full:
                for pk in chunk:
                    self.mark(plan, pk)
                continue
            located = rows.locate(plan, self.using, chunk)
            for pk in chunk:
                self.mark(plan, pk, located.get(pk, NO_TOPICS))

    def mark_related(self, plan: Plan, lookup: str, values: Sequence[Any]) -> None:
        """The rows with these related objects change, or their relation does."""
        for start in range(0, len(values), rows.CHUNK):
            chunk = values[start : start + rows.CHUNK]
            located = rows.find(plan, self.using, lookup, chunk, limit=rows_kept())
            if located is None:
                self.dirty.touch(plan, rows.find_topics(plan, self.using, lookup, chunk))
                continue
            for pk, topics in located.items():
                self.note(plan, pk, topics)
                self.mark(plan, pk)

    def flush(self, transaction: publishing.Transaction) -> None:
        """Publish what all surviving buckets of the transaction have collected, once."""
        dirty = self.dirty
        if dirty.published:
            return
        dirty.published = True
        merged = self._merged()
        ticket = draw_ticket()
        for plan in dict.fromkeys([*merged, *dirty.touched]):
            Publication(
                plan,
                using=dirty.using,
                written=merged.get(plan, {}),
                before=dirty.before.get(plan, {}),
                evidence=dirty.evidence.get(plan, {}),
                touched=dirty.touched.get(plan, set()),
            ).publish(ticket)

    def _merged(self) -> dict[Plan, dict[Any, Topics]]:
        """The changed rows of the buckets that survived, with the topics of their last write."""
        last: dict[Plan, dict[Any, tuple[int, Topics]]] = {}
        for bucket, changes in self.dirty.changes.items():
            if bucket is not self.bucket and not bucket.waits:
                continue
            for plan, marked in changes.rows.items():
                known = last.setdefault(plan, {})
                for pk, write in marked.items():
                    if pk not in known or known[pk][0] < write[0]:
                        known[pk] = write
        return {
            plan: {pk: topics for pk, (_, topics) in known.items()} for plan, known in last.items()
        }


def open_changes(using: str) -> Changes:
    """Where to collect what changes now; outside a transaction the caller flushes it."""
    bucket = publishing.on_commit(using)
    notes = bucket.transaction.notes
    dirty: Dirty | None = notes.get(_NOTE)
    if dirty is None:
        dirty = notes[_NOTE] = Dirty(using)
    changes = dirty.changes.get(bucket)
    if changes is None:
        changes = dirty.changes[bucket] = Changes(dirty, bucket)
        bucket.add(changes)
    return changes


def in_transaction(using: str) -> bool:
    """Whether changes wait for a commit."""
    return bool(connections[using].in_atomic_block)
