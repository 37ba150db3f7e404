"""Which changes elsewhere are news of a stream's rows: related objects, parents, tables between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import CASCADE, DO_NOTHING, PROTECT, RESTRICT, Model
from django.db.models.constants import LOOKUP_SEP

from .membership import Names, Plan, own_names
from .paths import Step

_LEAVES_ROWS_ALONE = (CASCADE, DO_NOTHING, PROTECT, RESTRICT)
"""What happens on deletion without the row being changed behind our back: CASCADE has its signals,
and the others leave it as it is. ``SET_NULL`` and those of the database itself do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A model whose instances are part of what a stream sends.

    Args:
        plan: the stream.
        model: whose changes matter.
        lookup: how the stream's rows find these objects.
        names: fields of ``model`` that matter; ``None``: any.
        moves: whether such a change may move rows, or make others the related ones.
        forward: whether rows point to the objects, so that nothing points to a new one.
        deletions_only: whether only deleting such an object matters.
    """

    plan: Plan
    model: type[Model]
    lookup: str
    names: Names | None
    moves: bool
    forward: bool = True
    deletions_only: bool = False


def dependencies(plan: Plan) -> list[Dependency]:
    """Everything a stream depends on: declared, parents, and what may be set to null."""
    return [*_declared(plan), *_parents(plan), *_nulled(plan)]


def _declared(plan: Plan) -> Iterator[Dependency]:
    for model, steps in plan.related:
        lookup = steps[-1].lookup
        forward = all(step.field.concrete and not step.many for step in steps)
        yield Dependency(
            plan=plan,
            model=model,
            lookup=lookup,
            names=_names(plan, model, steps),
            moves=not forward or _moves(plan, lookup),
            forward=forward,
        )


def _names(plan: Plan, model: type[Model], steps: Sequence[Step]) -> Names | None:
    """The fields of a related model that a stream uses; ``None`` if that cannot be told."""
    prefix = steps[-1].lookup + LOOKUP_SEP
    used = [path for path in plan.lookups() if path.lookup.startswith(prefix)]
    if not used or plan.opaque:
        return None
    names: set[str] = set()
    for path in used:
        field = path.steps[len(steps)].field if len(path.steps) > len(steps) else path.leaf
        names.update((field.name, getattr(field, "attname", field.name)))
    link = steps[-1].field  # a relation that leads back is a field of the related model
    if link.auto_created:
        names.update((link.field.name, link.field.attname))
    return frozenset(names)


def _moves(plan: Plan, lookup: str) -> bool:
    """Whether a change of these related objects may move rows."""
    return plan.opaque or any(
        path.lookup.startswith(lookup + LOOKUP_SEP) for path in plan.partition.values()
    )


def _parents(plan: Plan) -> Iterator[Dependency]:
    """Saving a parent of a multi-table model changes the child's row, without its signals."""
    meta = plan.model._meta
    for parent in meta.all_parents:
        if parent._meta.proxy or parent._meta.concrete_model is meta.concrete_model:
            continue
        links = meta.get_path_to_parent(parent)
        if not links:
            continue
        inherited = {
            name
            for field in parent._meta.local_concrete_fields
            for name in (field.name, field.attname)
        }
        names = own_names(plan.lookups()) & inherited
        if not names and not plan.opaque:
            continue
        yield Dependency(
            plan=plan,
            model=parent,
            lookup=LOOKUP_SEP.join(link.join_field.name for link in links),
            names=None if plan.opaque else names,
            moves=plan.opaque or bool(own_names(plan.partition.values()) & inherited),
        )


def _nulled(plan: Plan) -> Iterator[Dependency]:
    """Deleting a related object may change the row without a signal of its own."""
    for between in betweens(plan):
        yield _on_deletion(plan, between.step.target, between.step.lookup)
    seen: set[str] = set()
    for field, lookup in _pointers(plan):
        on_delete = getattr(field.remote_field, "on_delete", None)
        if on_delete is None or on_delete in _LEAVES_ROWS_ALONE or lookup in seen:
            continue
        seen.add(lookup)
        yield _on_deletion(plan, field.related_model, lookup)


def _on_deletion(plan: Plan, model: type[Model], lookup: str) -> Dependency:
    return Dependency(
        plan=plan, model=model, lookup=lookup, names=None, moves=False, deletions_only=True
    )


def _pointers(plan: Plan) -> Iterable[tuple[Any, str]]:
    """The foreign keys that a stream's values come from or through, with their lookups."""
    for path in plan.lookups():
        for step in path.steps:
            if step.field.concrete and not step.many:
                yield step.field, step.lookup
        if path.leaf.is_relation:
            prefix = path.steps[-1].lookup + LOOKUP_SEP if path.steps else ""
            yield path.leaf, prefix + path.leaf.name
    if plan.opaque:
        for field in plan.model._meta.concrete_fields:
            if field.is_relation:
                yield field, field.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The table of a many-to-many relation that a stream's values come through.

    Args:
        plan: the stream.
        step: the relation.
        through: the table's model.
    """

    plan: Plan
    step: Step
    through: type[Model]

    def rows(
        self, instance: Model, *, reverse: bool, pk_set: set[Any] | None
    ) -> Iterator[tuple[str, list[Any]]]:
        """Lookups and values that find the stream's rows concerned by a change of the relation.

        Args:
            instance: on whose side the change was made.
            reverse: whether that is the side the relation was not declared on.
            pk_set: the objects on the other side; ``None``: all.
        """
        here = self.step.prefix or "pk"
        declared_here = not self.step.field.auto_created
        if declared_here is not reverse:
            yield here, [instance.pk]
            if not getattr(self.step.field.remote_field, "symmetrical", False):
                return
        if pk_set is None:
            yield self.step.lookup, [instance.pk]
        elif pk_set:
            yield here, list(pk_set)


def betweens(plan: Plan) -> list[Between]:
    """The many-to-many relations that a stream's values come through."""
    found: dict[str, Between] = {}
    lines = [path.steps for path in plan.lookups()]
    lines += [steps for _, steps in plan.related]
    for steps in lines:
        for step in steps:
            if step.through is not None:
                found[step.lookup] = Between(plan=plan, step=step, through=step.through)
    return list(found.values())
