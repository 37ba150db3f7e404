"""Reads committed rows: the values a stream sends, and the topics they belong to.

Saving a row must stay cheap, so the two queries on that path are compiled once per connection and
then run with nothing but a new key: Django's query builder takes several times as long as SQLite.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression
from django.db.models.constants import LOOKUP_SEP

from ..protocol import codec
from ..protocol.codec import Kind
from ..topics import serialize
from .membership import NO_TOPICS, Plan

if TYPE_CHECKING:
    from django.db.models import QuerySet

CHUNK = 500
"""Keys in one query; below the number of parameters that every database takes."""
FRESH = 1.0
"""Seconds for which the answer of an overridden ``get_queryset`` is taken to hold."""
_ATTRIBUTE = "_wsrealtime_queries"
"""Where a connection keeps its compiled queries, so that they end with it."""

Values = Sequence[Any]
Located = dict[Any, frozenset[str]]
"""Rows by primary key, with the topics they are in."""


class Row:
    """A row as it was read.

    Args:
        values: one for each of the plan's columns.
        topics: where it belongs.
    """

    __slots__ = ("extra", "topics", "values")

    def __init__(self, values: Values, topics: frozenset[str]) -> None:
        self.values = values
        self.topics = topics
        self.extra: dict[str, list[Any]] = {}


# --- queries that are compiled once --------------------------------------------------------------

_SLOT: Any = object()


class _Slot(Expression):
    """A parameter whose value is not known yet."""

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", [_SLOT]


class _Compiled:
    """A query for the columns of one row, bound to a connection."""

    __slots__ = ("_before", "_compiler", "_converters", "_key", "_native", "_sql", "expires")

    def __init__(self, queryset: QuerySet[Any, Any], connection: Any, *, expires: float) -> None:
        self.expires = expires
        self._compiler = queryset.query.get_compiler(connection=connection)
        self._key = 0
        self._before: list[Any] = []
        self._native = ""
        try:
            self._sql, params = self._compiler.as_sql()
        except EmptyResultSet:
            self._sql = ""
            return
        self._before = list(params)
        if connection.vendor == "sqlite" and "%" not in self._sql.replace("%s", ""):
            self._native = self._sql.replace("%s", "?")
        self._key = next(index for index, value in enumerate(params) if value is _SLOT)
        compiler: Any = self._compiler
        selected = [column[0] for column in compiler.select[: compiler.col_count]]
        self._converters = compiler.get_converters(selected)

    def rows(self, connection: BaseDatabaseWrapper, key: Any) -> list[Values]:
        if not self._sql:
            return []
        params = self._before.copy()
        params[self._key] = key
        rows: list[Values]
        if self._native and not (connection.queries_logged or connection.execute_wrappers):
            # Nobody wants to see this query. SQLite answers it in less time than Django's cursor
            # takes to pass it on.
            connection.ensure_connection()
            connection.validate_thread_sharing()
            connection.validate_no_broken_transaction()
            with connection.wrap_database_errors:
                rows = connection.connection.execute(self._native, params).fetchall()
        else:
            with connection.cursor() as cursor:
                cursor.execute(self._sql, params)
                rows = cursor.fetchall()
        if rows and self._converters:
            return list(self._compiler.apply_converters(rows, self._converters))
        return rows


def _compiled(plan: Plan, connection: BaseDatabaseWrapper, columns: Sequence[str]) -> _Compiled:
    cache: dict[Any, _Compiled] | None = connection.__dict__.get(_ATTRIBUTE)
    if cache is None:
        cache = connection.__dict__[_ATTRIBUTE] = {}
    query = cache.get((plan, columns))
    now = time.monotonic()
    if query is None or query.expires < now:
        queryset = (
            _queryset(plan, connection.alias)
            .filter(pk=_Slot(output_field=plan.pk_field))
            .values_list(*columns)
        )
        expires = now + FRESH if plan.stream.overrides_queryset() else float("inf")
        query = cache[(plan, columns)] = _Compiled(queryset, connection, expires=expires)
    return query


def _queryset(plan: Plan, alias: str) -> QuerySet[Any, Any]:
    return plan.stream.new_queryset().using(alias).order_by()


def _fetch(plan: Plan, alias: str, columns: Sequence[str], pks: Sequence[Any]) -> Iterable[Values]:
    if len(pks) == 1:
        connection = connections[alias]
        key = plan.pk_field.get_db_prep_value(pks[0], connection, prepared=False)
        return _compiled(plan, connection, columns).rows(connection, key)
    return _fetch_many(plan, alias, columns, pks)


def _fetch_many(
    plan: Plan, alias: str, columns: Sequence[str], pks: Sequence[Any]
) -> Iterator[Values]:
    for start in range(0, len(pks), CHUNK):
        chunk = pks[start : start + CHUNK]
        yield from _queryset(plan, alias).filter(pk__in=chunk).values_list(*columns)


# --- where rows are ------------------------------------------------------------------------------


def locate(plan: Plan, alias: str, pks: Sequence[Any]) -> Located:
    """The topics that rows are in now; rows that do not pass the filter are left out."""
    if not plan.moves:
        return dict.fromkeys(pks, plan.everywhere)
    return _grouped(plan, _fetch(plan, alias, plan.places, pks))


def find(
    plan: Plan, alias: str, lookup: str, values: Sequence[Any], *, limit: int
) -> Located | None:
    """The rows with these related objects, and where they are; ``None`` if more than ``limit``.

    Rows that do not pass the filter are among them, in no topic: they may be about to.
    """
    queryset = (
        plan.model._base_manager.using(alias)
        .order_by()
        .filter(**{f"{lookup}{LOOKUP_SEP}in": values})
    )
    if not plan.shape.filtered:
        found = list(queryset.values_list(*plan.places)[: limit + 1])
        return None if len(found) > limit else _grouped(plan, found)
    pks = list(queryset.values_list("pk", flat=True)[: limit + 1])
    if len(pks) > limit:
        return None
    return {**dict.fromkeys(pks, NO_TOPICS), **locate(plan, alias, pks)}


def find_topics(plan: Plan, alias: str, lookup: str, values: Sequence[Any]) -> frozenset[str]:
    """The topics of all rows with these related objects, however many rows."""
    queryset = plan.model._base_manager.using(alias)
    return topics_of(plan, queryset.filter(**{f"{lookup}{LOOKUP_SEP}in": values}))


def topics_of(plan: Plan, queryset: QuerySet[Any, Any]) -> frozenset[str]:
    """The topics of all rows of a queryset, by one query for the distinct values."""
    if not plan.partition:
        return plan.everywhere
    rows = queryset.order_by().values_list(*plan.distinct).distinct()
    return plan.topics(
        tuple([row[i] for i in plan.distinct_indices]) for row in rows.iterator(chunk_size=2_000)
    )


def _grouped(plan: Plan, rows: Iterable[Values]) -> Located:
    located: Located = {}
    for row in rows:
        topics = plan.topic(tuple([row[i] for i in plan.place_indices]))
        located[row[0]] = located.get(row[0], NO_TOPICS) | topics
    return located


def is_unchanged(plan: Plan, alias: str, pk: Any, evidence: Mapping[str, Any]) -> bool:
    """Whether a row still has these values."""
    return plan.model._base_manager.using(alias).filter(pk=pk, **evidence).exists()


# --- what rows hold ------------------------------------------------------------------------------


def read(plan: Plan, alias: str, pks: Sequence[Any]) -> dict[Any, Row]:
    """The committed rows that pass the stream's filter, by primary key."""
    rows = collect(plan, _fetch(plan, alias, plan.columns, pks))
    read_multiple(plan, alias, rows)
    return rows


def collect(plan: Plan, fetched: Iterable[Values]) -> dict[Any, Row]:
    """Rows by primary key; a row comes several times if its partition has several values."""
    rows: dict[Any, Row] = {}
    for values in fetched:
        topics = plan.topic(tuple([values[i] for i in plan.partition_indices]))
        if (known := rows.get(values[0])) is None:
            rows[values[0]] = Row(values, topics)
        else:
            known.topics |= topics
    return rows


def read_multiple(plan: Plan, alias: str, rows: Mapping[Any, Row]) -> None:
    """Add the fields of which a row may have several values: one query for each field."""
    pks = list(rows)
    for name in plan.multiple:
        for row in rows.values():
            row.extra[name] = []
        relation = plan.paths[name].steps[-1].lookup
        for start in range(0, len(pks), CHUNK):
            found = (
                plan.model._base_manager.using(alias)
                .filter(pk__in=pks[start : start + CHUNK], **{f"{relation}__isnull": False})
                .order_by("pk", f"{relation}__pk")
                .values_list("pk", name)
            )
            for pk, value in found:
                rows[pk].extra[name].append(value)


def item(plan: Plan, row: Row) -> dict[str, Any]:
    """A row as it stands in events and snapshots: ``{"pk", "row": {field: value}}``."""
    values = row.values
    data = {name: values[index] for name, index in plan.field_indices}
    for name, field in plan.files:
        data[name] = field.attr_class(None, field, data[name])
    if row.extra:
        data = {name: row.extra[name] if name in row.extra else data[name] for name in plan.fields}
    return {"pk": json_pk(values[0]), "row": data}


def json_pk(pk: Any) -> int | str:
    """A primary key as it is sent."""
    return pk if type(pk) is int else str(pk)


def upsert(plan: Plan, row: Row) -> bytes:
    """The event that tells what a row holds.

    Raises:
        TypeError: a field's value has no form in JSON.
    """
    data = serialize.encode(item(plan, row), what=f"a row of {plan.model._meta.label}")
    return codec.event_body(kind=Kind.ROW, event="upsert", data=data, key=str(row.values[0]))


def remove(pk: Any) -> bytes:
    """The event that tells that a row is no longer here."""
    data = codec.encode_data({"pk": json_pk(pk)})
    return codec.event_body(kind=Kind.ROW, event="remove", data=data, key=str(pk))
