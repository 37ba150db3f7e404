"""``RealtimeQuerySet``: bulk statements that streams hear of, though Django sends no signals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, router, transaction
from django.db.models import Manager, Max, Model, Q, QuerySet, UniqueConstraint
from django.db.models.constants import LOOKUP_SEP

from . import capture, rows
from .changes import Changes, open_changes, rows_kept
from .membership import NO_TOPICS, Names, Plan, own_names
from .related import Dependency
from .suppression import is_suppressed

AnyModel = TypeVar("AnyModel", bound=Model)

OBJECTS_PER_QUERY = 100
"""Objects in one query for the rows that an insert would collide with."""


class RealtimeQuerySet(QuerySet[AnyModel, AnyModel]):
    """A queryset whose ``update()`` and ``bulk_*`` methods are seen by streams, like ``save()``.

    ::

        class Order(models.Model):
            objects = RealtimeQuerySet.as_manager()     # or RealtimeManager()

    Rows are published one by one; above ``bulk_rows`` of them per topic and transaction one
    ``reset`` tells subscribers to load theirs again. ``delete()`` needs no help: as soon as there
    is a stream, Django sends a signal for each row. The methods that begin with ``a`` work alike.
    """

    def update(self, **kwargs: Any) -> int:
        """As Django's; the rows are locked first, where the database can."""
        using = self._for_write_alias
        names = _names(self.model, kwargs)
        concerned = _Concerned(self.model, using, names)
        if not concerned or self.query.is_sliced or self.query.combinator:
            return super().update(**kwargs)
        with transaction.atomic(using=using, savepoint=False):
            changes = open_changes(using)
            pks = _locked(self.using(using), limit=rows_kept())
            if pks is None:
                concerned.touch_before(changes, self.using(using), kwargs)
                updated = super().update(**kwargs)
                concerned.touch_after(changes)
                return updated
            if not pks:
                return 0
            concerned.note(changes, pks)
            updated = super(RealtimeQuerySet, self.using(using).filter(pk__in=pks)).update(**kwargs)
            concerned.mark(changes, pks)
        self._result_cache = None
        return updated

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(
        self,
        objs: Iterable[AnyModel],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[AnyModel]:
        """As Django's."""
        objs = list(objs)
        using = self._for_write_alias
        concerned = _Concerned(self.model, using, None)

        def insert() -> list[AnyModel]:
            return super(RealtimeQuerySet, self).bulk_create(
                objs,
                batch_size=batch_size,
                ignore_conflicts=ignore_conflicts,
                update_conflicts=update_conflicts,
                update_fields=update_fields,
                unique_fields=unique_fields,
            )

        if not concerned or not objs:
            return insert()
        manager = self.model._base_manager.using(using)
        with transaction.atomic(using=using, savepoint=False):
            changes = open_changes(using)
            existing: dict[Any, None] = {}
            if update_conflicts:
                existing = _colliding(manager, objs, unique_fields)
                concerned.note(changes, [*existing])
            told = connections[using].features.can_return_rows_from_bulk_insert
            floor: Any = None
            if not (told and not ignore_conflicts) and any(obj.pk is None for obj in objs):
                floor = manager.aggregate(last=Max("pk"))["last"]
                unknown = manager.filter(pk__gt=floor) if floor is not None else manager.all()
            else:
                unknown = manager.none()
            created = insert()
            concerned.mark_queryset(changes, unknown)
            new = dict.fromkeys(obj.pk for obj in created if obj.pk is not None)
            if not ignore_conflicts:
                concerned.note_created(changes, [pk for pk in new if pk not in existing])
            concerned.mark(changes, [*dict.fromkeys([*existing, *new])])
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    @property
    def _for_write_alias(self) -> str:
        self._for_write = True
        return self.db


class RealtimeManager(Manager.from_queryset(RealtimeQuerySet)):  # type: ignore[misc]
    """A manager whose querysets are :class:`RealtimeQuerySet`."""


def rows_changed(
    changed: QuerySet[Any, Any] | Model | Iterable[Model], *, using: str | None = None
) -> None:
    """Tell streams of rows that were changed behind Django's back, by raw SQL for instance.

    Call it in the transaction of the change, or after it. The rows are read again after the commit.

    Args:
        changed: the rows as they are now, as a queryset; or instances, whose rows may have been
            deleted meanwhile, and which tell where their rows were before.
        using: the database that holds them; default: the queryset's or the instance's.
    """
    if is_suppressed():
        return
    if isinstance(changed, QuerySet):
        queryset = changed.using(
            using or getattr(changed, "_db", None) or router.db_for_write(changed.model)
        )
        changes = open_changes(queryset.db)
        _Concerned(queryset.model, queryset.db, None).mark_queryset(changes, queryset)
        _finish(changes)
        return
    instances = [changed] if isinstance(changed, Model) else changed
    for instance in instances:
        alias = using or instance._state.db or router.db_for_write(type(instance))
        changes = open_changes(alias)
        concerned = _Concerned(type(instance), alias, None)
        for plan in concerned.plans:
            pk = plan.pk_field.to_python(getattr(instance, plan.pk_attname))
            changes.note(plan, pk, plan.written(instance) or NO_TOPICS)
        concerned.mark(changes, [instance.pk])
        _finish(changes)


def _finish(changes: Changes) -> None:
    if changes.bucket.immediate:
        changes.bucket.run()


# --- who is concerned ----------------------------------------------------------------------------


class _Concerned:
    """The streams that a statement concerns.

    Args:
        model: whose rows it changes.
        using: in which database.
        names: which fields; ``None``: all of them.
    """

    def __init__(self, model: type[Model], using: str, names: Names | None) -> None:
        self._names = names
        self.plans: list[Plan] = []
        self.dependencies: list[Dependency] = []
        if is_suppressed():
            return
        self.plans = [
            plan
            for plan in capture.plans_of(model, using)
            if capture.concerns(plan.interest, names)
        ]
        self.dependencies = [
            one
            for one in capture.dependencies_on(model, using)
            if not one.deletions_only and capture.concerns(one.names, names)
        ]

    def __bool__(self) -> bool:
        return bool(self.plans or self.dependencies)

    def _moves(self, plan: Plan) -> bool:
        return plan.moves and capture.concerns(plan.moving, self._names)

    def note(self, changes: Changes, pks: Sequence[Any]) -> None:
        """These rows are about to change."""
        for plan in self.plans:
            if self._moves(plan):
                changes.note_rows(plan, pks)
        for one in self.dependencies:
            if one.moves:
                changes.mark_related(one.plan, one.lookup, pks)

    def note_created(self, changes: Changes, pks: Sequence[Any]) -> None:
        """These rows were in no topic before."""
        for plan in self.plans:
            for pk in pks:
                changes.note(plan, pk, NO_TOPICS)

    def mark(self, changes: Changes, pks: Sequence[Any]) -> None:
        """These rows have changed."""
        for plan in self.plans:
            changes.mark_rows(plan, pks, moved=self._moves(plan))
        for one in self.dependencies:
            changes.mark_related(one.plan, one.lookup, pks)

    def mark_queryset(self, changes: Changes, queryset: QuerySet[Any, Any]) -> None:
        """The rows of a queryset have changed."""
        if not self:
            return
        limit = rows_kept()
        pks = list(queryset.order_by().values_list("pk", flat=True)[: limit + 1])
        if len(pks) <= limit:
            self.mark(changes, pks)
            return
        for plan in self.plans:
            changes.dirty.touch(plan, rows.topics_of(plan, queryset))
        for one in self.dependencies:
            changes.dirty.touch(one.plan, _topics_related(one, queryset))

    # More rows than are kept: topics alone.

    def touch_before(
        self, changes: Changes, queryset: QuerySet[Any, Any], values: Mapping[str, Any]
    ) -> None:
        """All these rows are about to be updated."""
        for plan in self.plans:
            changes.dirty.touch(plan, rows.topics_of(plan, queryset))
            if not own_names(plan.partition.values()).isdisjoint(self._names or ()):
                changes.dirty.touch(plan, _topics_after(plan, queryset, values))
        for one in self.dependencies:
            changes.dirty.touch(one.plan, _topics_related(one, queryset))

    def touch_after(self, changes: Changes) -> None:
        """They were; where rows went through other tables cannot be told without all of them."""
        everywhere = [one.plan for one in self.dependencies if one.moves]
        everywhere += [
            plan
            for plan in self.plans
            if plan.written_attnames is None
            and not own_names(plan.partition.values()).isdisjoint(self._names or ())
        ]
        for plan in everywhere:
            rows_now = plan.model._base_manager.using(changes.using).all()
            changes.dirty.touch(plan, rows.topics_of(plan, rows_now))


def _topics_related(one: Dependency, queryset: QuerySet[Any, Any]) -> frozenset[str]:
    """The topics of the rows that depend on the objects of a queryset."""
    keys = queryset.order_by().values("pk")
    dependent = one.plan.model._base_manager.using(queryset.db).filter(
        **{f"{one.lookup}{LOOKUP_SEP}in": keys}
    )
    return rows.topics_of(one.plan, dependent)


def _topics_after(
    plan: Plan, queryset: QuerySet[Any, Any], values: Mapping[str, Any]
) -> frozenset[str]:
    """The topics that rows will be in after an update, by the values they will have."""
    if plan.written_attnames is None:
        return NO_TOPICS
    expressions: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for path in plan.partition.values():
        for name in (path.leaf.name, path.leaf.attname):
            if name in values:
                value = values[name]
                value = value.pk if isinstance(value, Model) else value
                kind = expressions if hasattr(value, "resolve_expression") else constants
                kind[path.lookup] = value
    annotated = {lookup: f"_wsrealtime_{index}" for index, lookup in enumerate(expressions)}
    columns = [annotated.get(lookup, lookup) for lookup in plan.distinct]
    found = (
        queryset.order_by()
        .annotate(**{annotated[lookup]: value for lookup, value in expressions.items()})
        .values_list(*columns)
        .distinct()
    )
    lookups = [path.lookup for path in plan.partition.values()]
    return plan.topics(
        tuple(
            [
                constants[lookup] if lookup in constants else row[plan.distinct.index(lookup)]
                for lookup in lookups
            ]
        )
        for row in found.iterator(chunk_size=rows.CHUNK)
    )


# --- which rows ----------------------------------------------------------------------------------


def _names(model: type[Model], fields: Iterable[str]) -> Names:
    """Fields by both of their names."""
    names: set[str] = set()
    for name in fields:
        try:
            field: Any = model._meta.get_field(name)
        except FieldDoesNotExist:
            continue  # Django will say so
        names.update((field.name, getattr(field, "attname", field.name)))
    return frozenset(names)


def _locked(queryset: QuerySet[Any, Any], *, limit: int) -> list[Any] | None:
    """The keys of a queryset's rows, which others cannot change now; ``None`` if too many."""
    query: Any = queryset.query
    features = connections[queryset.db].features
    queryset = queryset.order_by()
    lockable = not (query.distinct or query.group_by or query.combinator)
    if lockable and features.has_select_for_update:
        queryset = queryset.select_for_update(
            of=("self",) if features.has_select_for_update_of else (),
            no_key=features.has_select_for_no_key_update,
        )
    pks = list(dict.fromkeys(queryset.values_list("pk", flat=True)[: limit + 1]))
    return None if len(pks) > limit else pks


def _colliding(
    queryset: QuerySet[Any, Any], objs: Sequence[Model], unique_fields: Collection[str] | None
) -> dict[Any, None]:
    """The keys of the rows that inserting these objects would update instead."""
    uniques = [tuple(unique_fields)] if unique_fields else _uniques(queryset.model)
    found: dict[Any, None] = {}
    for start in range(0, len(objs), OBJECTS_PER_QUERY):
        condition = Q()
        for obj in objs[start : start + OBJECTS_PER_QUERY]:
            for names in uniques:
                values = {name: getattr(obj, name) for name in names}
                if None not in values.values():
                    condition |= Q(**values)
        if condition:
            found.update(dict.fromkeys(queryset.filter(condition).values_list("pk", flat=True)))
    return found


def _uniques(model: type[Model]) -> list[tuple[str, ...]]:
    """The sets of fields of which no two rows have the same values."""
    found: list[tuple[str, ...]] = [
        (field.name,) for field in model._meta.concrete_fields if field.unique
    ]
    found += [tuple(names) for names in model._meta.unique_together]
    found += [
        tuple(constraint.fields)
        for constraint in model._meta.constraints
        if isinstance(constraint, UniqueConstraint) and constraint.fields
    ]
    return found
