"""Which topics a row belongs to, and which changes can alter that or what is sent of the row.

Everything that can be known of a stream in advance is worked out here, once, so that saving a row
has little left to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import Col, CombinedExpression, Value
from django.db.models.lookups import Lookup
from django.db.models.sql.where import WhereNode

from ..brokers.base import History
from ..instrumentation import warn_once
from . import instances
from .paths import AnyField, Path, Step, UnknownLookup, get_field, resolve, resolve_relation

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .base import ModelStream

Names = frozenset[str]
"""Fields by name and by attribute name (``store`` and ``store_id``), as in ``update_fields``."""

NO_TOPICS: frozenset[str] = frozenset()
NAMES_KEPT = 4_096
"""Names of topics that one stream keeps at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a stream's queryset says about it.

    Args:
        filtered: whether some rows of the table may be missing from it.
        columns: fields that decide it; ``None`` if that cannot be told: any may.
        alias: the database that the stream is bound to; ``None``: wherever its rows are saved.
    """

    filtered: bool
    columns: Names | None
    alias: str | None


class Plan:
    """A stream's declaration, worked out.

    Args:
        stream: the registered class.

    Raises:
        UnknownLookup: the declaration names fields that do not exist.
    """

    def __init__(self, stream: type[ModelStream]) -> None:
        assert stream.route is not None
        if not has_table(getattr(stream, "model", None)):
            raise UnknownLookup("it has no model with a table")
        self.stream = stream
        self.model: type[Model] = stream.model
        self.route = stream.route
        self.history: History = stream.history
        self.pk_field = pk_field(self.model)
        self.pk_attname = self.model._meta.pk.attname
        self.fields = tuple(dict.fromkeys(stream.fields))
        self.paths: dict[str, Path] = {}
        for name in self.fields:
            if (path := _path_or_annotation(stream, name)) is not None:
                self.paths[name] = path
        # The related models to follow, each with the relations that lead to it.
        self.related: tuple[tuple[type[Model], tuple[Step, ...]], ...] = tuple(
            (model, resolve_relation(self.model, lookup))
            for model, lookups in stream.depends_on.items()
            for lookup in ([lookups] if isinstance(lookups, str) else lookups)
        )
        self.partition: dict[str, Path] = {
            parameter: resolve(self.model, lookup)
            for parameter, lookup in stream.partition_by.items()
        }
        # Whether what its queryset computes or leaves out may depend on any field and relation.
        self.opaque = stream.overrides_queryset() or len(self.paths) < len(self.fields)
        self.single = tuple(name for name in self.fields if not self.many(name))
        self.multiple = tuple(name for name in self.fields if self.many(name))
        lookups = tuple(path.lookup for path in self.partition.values())
        # What is read of a row: all that is sent; where it belongs; which topics there are.
        self.columns = tuple(dict.fromkeys(("pk", *self.single, *lookups)))
        self.places = tuple(dict.fromkeys(("pk", *lookups)))
        self.distinct = tuple(dict.fromkeys(lookups))
        self.field_indices = tuple((name, self.columns.index(name)) for name in self.single)
        self.partition_indices = tuple(self.columns.index(lookup) for lookup in lookups)
        self.place_indices = tuple(self.places.index(lookup) for lookup in lookups)
        self.distinct_indices = tuple(self.distinct.index(lookup) for lookup in lookups)
        self.files: tuple[tuple[str, Any], ...] = tuple(
            (name, self.paths[name].leaf)
            for name in self.single
            if name in self.paths and _is_file(self.paths[name])
        )
        # The partition's attribute names, if an instance of the model tells where its row belongs.
        self.written_attnames: tuple[str, ...] | None = (
            tuple(path.leaf.attname for path in self.partition.values())
            if all(path.local for path in self.partition.values())
            else None
        )
        self.topic = lru_cache(maxsize=NAMES_KEPT)(self._topic)
        self.everywhere = NO_TOPICS if self.partition else self.topic(())

    def many(self, name: str) -> bool:
        """Whether a row may have several values for this field."""
        return name in self.paths and self.paths[name].many

    def row_name(self, alias: str, pk: Any) -> str:
        """The row's name in the broker: a stream remembers its rows for itself."""
        return f"{self.route.text}#{self.model._meta.label_lower}/{alias}/{pk}"

    # --- topics ---

    def _topic(self, values: tuple[Any, ...]) -> frozenset[str]:
        """The topic of rows with these values, as a set; empty if there is no such topic."""
        if None in values:
            return NO_TOPICS
        try:
            return frozenset((self.route.reverse(dict(zip(self.partition, values, strict=True))),))
        except (TypeError, ValueError) as error:
            warn_once(
                f"unnamed:{self.route.text}",
                f"Rows of {self.model._meta.label} are in no topic of {self.route.text!r}: {error}",
            )
            return NO_TOPICS

    def topics(self, rows: Iterable[tuple[Any, ...]]) -> frozenset[str]:
        """The topics of several rows."""
        found: set[str] = set()
        for values in rows:
            found |= self.topic(values)
        return frozenset(found)

    def written(self, instance: Model) -> frozenset[str] | None:
        """Where the values of an instance say that its row belongs; ``None`` if they do not say.

        Whether the row passes the stream's filter is not considered.
        """
        if self.written_attnames is None:
            return None
        if not self.partition:
            return self.everywhere
        state = instance.__dict__
        values = []
        for attname in self.written_attnames:
            value = state.get(attname, self)
            if value is self or hasattr(value, "resolve_expression"):
                return None
            values.append(value)
        return self.topic(tuple(values))

    def evidence(self, instance: Model) -> dict[str, Any] | None:
        """The values of an instance that the filter judges by; ``None`` if they are not known."""
        found: dict[str, Any] = {}
        for field in self.filtering:
            value = instance.__dict__.get(field.attname, self)
            if value is self or hasattr(value, "resolve_expression"):
                return None
            found[field.attname] = value
        return found or None

    # --- what changes concern it ---

    @cached_property
    def shape(self) -> Shape:
        queryset = self.stream.new_queryset()
        query: Any = queryset.query
        alias: str | None = getattr(queryset, "_db", None)
        columns = filter_columns(queryset)
        filtered = self.stream.overrides_queryset() or columns is None or bool(columns)
        if query.annotations:
            columns = None
        return Shape(filtered=filtered, columns=columns, alias=alias)

    @cached_property
    def moves(self) -> bool:
        """Whether a row may enter or leave a topic other than by being created or deleted."""
        return bool(self.partition) or self.shape.filtered

    @cached_property
    def moving(self) -> Names | None:
        """Fields of the row itself whose change may move it; ``None``: any field."""
        if self.shape.columns is None:
            return None
        return self.shape.columns | own_names(self.partition.values())

    @cached_property
    def filtering(self) -> tuple[AnyField, ...]:
        """The row's own fields that decide whether it passes the filter; empty if others may."""
        names = self.shape.columns or NO_TOPICS
        return tuple(field for field in self.model._meta.concrete_fields if field.name in names)

    @cached_property
    def interest(self) -> Names | None:
        """Fields of the row itself whose change is news; ``None``: any field."""
        moving = self.moving
        generated = any(getattr(path.leaf, "generated", False) for path in self.paths.values())
        if moving is None or generated or len(self.paths) < len(self.fields):
            return None
        return moving | own_names(self.paths.values())

    @cached_property
    def attributes(self) -> instances.Attributes | None:
        """How to take ``columns`` from an instance; ``None`` if its row must be read."""
        if self.multiple or self.opaque or self.shape.filtered:
            return None
        return instances.attributes([resolve(self.model, lookup) for lookup in self.columns])

    def follows(self, alias: str) -> bool:
        """Whether rows that are saved in this database are this stream's."""
        return self.shape.alias is None or self.shape.alias == alias

    def lookups(self) -> list[Path]:
        """Every path through which values come into this stream."""
        return [*self.paths.values(), *self.partition.values()]

    def __repr__(self) -> str:
        return f"<plan of {self.stream.__name__}>"


def _path_or_annotation(stream: type[ModelStream], name: str) -> Path | None:
    """A field's path; ``None`` if the stream's queryset computes it."""
    try:
        return resolve(stream.model, name)
    except UnknownLookup:
        if name.partition(LOOKUP_SEP)[0] in stream.new_queryset().query.annotations:
            return None
        raise


def _is_file(path: Path) -> bool:
    return isinstance(path.leaf, models.FileField) and not path.rest


def has_table(model: Any) -> bool:
    """Whether this is a model whose rows are stored."""
    return isinstance(model, type) and issubclass(model, Model) and not model._meta.abstract


def pk_field(model: type[Model]) -> AnyField:
    """The field that converts a model's primary key; behind links to parents, theirs."""
    field: Any = model._meta.pk
    while field.remote_field is not None:
        field = field.target_field
    return field  # type: ignore[no-any-return]


def own_names(paths: Iterable[Path]) -> Names:
    """The columns of the row itself through which paths begin."""
    names: set[str] = set()
    for path in paths:
        field = path.steps[0].field if path.steps else path.leaf
        if getattr(field, "concrete", False) and not field.many_to_many:
            names.update((field.name, field.attname))
    return frozenset(names)


def filter_columns(queryset: QuerySet[Any, Any]) -> Names | None:
    """The columns of its own table that a queryset filters by; ``None`` if others may matter."""
    query: Any = queryset.query
    if query.distinct or query.combinator or query.is_sliced or query.extra or query.group_by:
        return None
    names: set[str] = set()
    alias = query.chain().get_initial_alias()
    return frozenset(names) if _collect(query.where, alias, names) else None


def _collect(node: Any, alias: str, names: set[str]) -> bool:
    """Add the columns below ``node`` to ``names``; whether everything there was understood."""
    if isinstance(node, WhereNode):
        return all(_collect(child, alias, names) for child in node.children)
    if isinstance(node, Col):
        if node.alias != alias:
            return False
        names.update((node.target.name, node.target.attname))
        return True
    if isinstance(node, Value | models.Func | CombinedExpression | Lookup):
        return all(
            _collect(child, alias, names)
            for child in node.get_source_expressions()
            if hasattr(child, "resolve_expression")
        )
    return False


__all__ = [
    "NO_TOPICS",
    "Names",
    "Plan",
    "Shape",
    "UnknownLookup",
    "get_field",
    "pk_field",
]
