"""System checks of streams: what a declaration names exists, may be seen, and is followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage, Error, Warning
from django.db.models.constants import LOOKUP_SEP

from ..topics import registry
from . import paths
from .membership import has_table
from .paths import Path, Step, UnknownLookup

if TYPE_CHECKING:
    from .base import ModelStream

SENSITIVE = (
    "api_key",
    "apikey",
    "credit_card",
    "cvv",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "secret",
    "session_key",
    "token",
)
"""Parts of names of fields that hardly anybody means to show to browsers."""


def check_streams() -> list[CheckMessage]:
    """Check every registered stream."""
    from .base import ModelStream

    found: list[CheckMessage] = []
    for known in registry.routes():
        if issubclass(known.topic_class, ModelStream):
            found += known.topic_class.check()
    return found


def check(stream: type[ModelStream]) -> list[CheckMessage]:
    """What is wrong with one stream."""
    model: Any = getattr(stream, "model", None)
    if not has_table(model):
        return [
            Error(
                f"{stream.__qualname__}.model is {model!r}; a stream needs a model that has a "
                "table.",
                hint="Set it to a model class, as in `model = Order`.",
                obj=stream,
                id="wsrealtime.E101",
            )
        ]
    if len(getattr(model._meta, "pk_fields", ())) > 1:
        return [
            Error(
                f"{model._meta.label} has a composite primary key, which streams cannot send.",
                hint="Give the model a primary key of one field.",
                obj=stream,
                id="wsrealtime.E102",
            )
        ]
    return [*_fields(stream), *_partition(stream), *_depends_on(stream), *_queryset(stream)]


def _fields(stream: type[ModelStream]) -> Iterator[CheckMessage]:
    if isinstance(stream.fields, str) or not stream.fields:
        yield Error(
            f"{stream.__qualname__}.fields is {stream.fields!r}; nothing is sent unless it is "
            "named.",
            hint="List the fields that subscribers may see: fields = ['number', 'status'].",
            obj=stream,
            id="wsrealtime.E103",
        )
        return
    computed = frozenset(stream.new_queryset().query.annotations)
    for name in stream.fields:
        if any(part in name.lower() for part in SENSITIVE):
            yield Error(
                f"{stream.__qualname__}.fields sends {name!r} to browsers, which looks like a "
                "secret.",
                hint="Take it out of `fields`; if it is harmless, send an annotation of "
                "get_queryset() with another name instead.",
                obj=stream,
                id="wsrealtime.E104",
            )
        try:
            path = paths.resolve(stream.model, name)
        except UnknownLookup as error:
            if name.partition(LOOKUP_SEP)[0] not in computed:
                yield _unknown(stream, "fields", name, error)
            continue
        yield from _followed(stream, "fields", path)


def _partition(stream: type[ModelStream]) -> Iterator[CheckMessage]:
    parameters = stream.route.parameters if stream.route is not None else ()
    if not isinstance(stream.partition_by, Mapping) or set(stream.partition_by) != set(parameters):
        yield Error(
            f"{stream.__qualname__}.partition_by has {sorted(stream.partition_by)}, but the "
            f"parameters of its route {str(stream.route)!r} are {sorted(parameters)}.",
            hint="Name one field lookup for each parameter of the route, and no others.",
            obj=stream,
            id="wsrealtime.E106",
        )
        return
    for lookup in stream.partition_by.values():
        try:
            path = paths.resolve(stream.model, lookup)
        except UnknownLookup as error:
            yield _unknown(stream, "partition_by", lookup, error)
            continue
        yield from _followed(stream, "partition_by", path)


def _unknown(
    stream: type[ModelStream], option: str, lookup: str, error: UnknownLookup
) -> CheckMessage:
    return Error(
        f"{stream.__qualname__}.{option} names {lookup!r}, but {error}.",
        hint="Correct the name; annotations of get_queryset() may be named in `fields` alone.",
        obj=stream,
        id="wsrealtime.E105",
    )


def _followed(stream: type[ModelStream], option: str, path: Path) -> Iterator[CheckMessage]:
    """Each related model that a value comes through is followed."""
    for index, step in enumerate(path.steps):
        reached_only = index == len(path.steps) - 1 and step.through is not None
        if reached_only and path.lookup == step.lookup:
            continue  # the keys of a many-to-many relation: its table is followed
        if step.lookup not in _declared(stream, step):
            yield Error(
                f"{stream.__qualname__}.{option} has {path.lookup!r}, but changes of "
                f"{step.target._meta.label} are not followed, so subscribers would keep the old "
                "value.",
                hint=f"Add it: depends_on = {{{step.target.__name__}: {step.lookup!r}}}.",
                obj=stream,
                id="wsrealtime.E107",
            )


def _declared(stream: type[ModelStream], step: Step) -> set[str]:
    concrete = step.target._meta.concrete_model
    found: set[str] = set()
    for model, lookups in stream.depends_on.items():
        if model._meta.concrete_model is concrete:
            found.update([lookups] if isinstance(lookups, str) else lookups)
    return found


def _depends_on(stream: type[ModelStream]) -> Iterator[CheckMessage]:
    for model, lookups in stream.depends_on.items():
        for lookup in [lookups] if isinstance(lookups, str) else lookups:
            try:
                steps = paths.resolve_relation(stream.model, lookup)
            except UnknownLookup as error:
                yield _unknown(stream, "depends_on", lookup, error)
                continue
            target = steps[-1].target
            if target._meta.concrete_model is not model._meta.concrete_model:
                yield Error(
                    f"{stream.__qualname__}.depends_on says that {lookup!r} leads to "
                    f"{model._meta.label}; it leads to {target._meta.label}.",
                    hint="Correct the lookup or the model.",
                    obj=stream,
                    id="wsrealtime.E108",
                )


def _queryset(stream: type[ModelStream]) -> Iterator[CheckMessage]:
    queryset = stream.new_queryset()
    query: Any = queryset.query
    if query.is_sliced or query.combinator:
        yield Error(
            f"{stream.__qualname__}.get_queryset() returns a slice or a union, in which no row can "
            "be looked up.",
            hint="Filter instead; a snapshot is limited by WSREALTIME['LIMITS']['snapshot_rows'].",
            obj=stream,
            id="wsrealtime.E109",
        )
    if queryset.model._meta.concrete_model is not stream.model._meta.concrete_model:
        yield Error(
            f"{stream.__qualname__}.get_queryset() returns rows of {queryset.model._meta.label}; "
            f"its model is {stream.model._meta.label}.",
            hint="Return a queryset of the stream's model.",
            obj=stream,
            id="wsrealtime.E110",
        )
    crossed = _models_crossed(queryset) - {
        model._meta.concrete_model for model in stream.depends_on
    }
    for model in sorted(crossed, key=lambda model: str(model._meta.label)):
        yield Warning(
            f"{stream.__qualname__}.get_queryset() filters by {model._meta.label}, whose changes "
            "are not followed: rows would enter and leave only when they are saved themselves.",
            hint=f"Add {model.__name__} to depends_on.",
            obj=stream,
            id="wsrealtime.W101",
        )


def _models_crossed(queryset: Any) -> set[Any]:
    """The models whose tables a queryset joins, beyond its own and those between."""
    query = queryset.query
    own = {queryset.model._meta.concrete_model, *queryset.model._meta.all_parents}
    crossed: set[Any] = set()
    for join in query.alias_map.values():
        field = getattr(join, "join_field", None)
        model = getattr(field, "related_model", None)
        if model is not None and query.alias_refcount.get(join.table_alias):
            crossed.add(model._meta.concrete_model)
    return {model for model in crossed if model not in own and not model._meta.auto_created}
