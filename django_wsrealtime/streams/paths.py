"""What a field lookup such as ``order__store__name`` passes through.

>>> path = resolve(Payment, "order__store__name")
>>> [step.name for step in path.steps], path.leaf.name
(['order', 'store'], 'name')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model
from django.db.models.constants import LOOKUP_SEP
from django.db.models.fields.related import ManyToManyField
from django.db.models.fields.reverse_related import ManyToManyRel

AnyField: TypeAlias = "Field[Any, Any]"


class UnknownLookup(Exception):
    """A lookup names something that the model does not have; says what, and what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One relation that a lookup follows.

    Args:
        model: where it starts.
        field: the relation there: a field, or the other end of one.
        prefix: the lookup that leads from the stream's model to ``model``; ``""`` if it is that.
        name: the relation's name in lookups.
        target: where it leads.
        many: whether it may lead to several objects.
    """

    model: type[Model]
    field: Any
    prefix: str
    name: str
    target: type[Model]
    many: bool

    @property
    def lookup(self) -> str:
        """The lookup that leads from the stream's model to ``target``."""
        return f"{self.prefix}{LOOKUP_SEP}{self.name}" if self.prefix else self.name

    @property
    def through(self) -> type[Model] | None:
        """The table between the two models of a many-to-many relation."""
        if isinstance(self.field, ManyToManyField):
            return self.field.remote_field.through
        if isinstance(self.field, ManyToManyRel):
            return self.field.through
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A lookup, taken apart.

    Args:
        lookup: as it was written.
        steps: the relations it follows.
        leaf: the field its value comes from.
        rest: what stands behind the field: transforms, keys of a JSON document.
    """

    lookup: str
    steps: tuple[Step, ...]
    leaf: AnyField
    rest: tuple[str, ...] = ()

    @property
    def many(self) -> bool:
        """Whether a row may have several values."""
        return any(step.many for step in self.steps)

    @property
    def local(self) -> bool:
        """Whether the value is a column of the row itself, as it is."""
        return not self.steps and not self.rest


def get_field(model: type[Model], name: str) -> Any:
    """The field or relation of this name.

    Raises:
        UnknownLookup: there is none.
    """
    if name == "pk":
        return model._meta.pk
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        names = sorted(
            field.name for field in model._meta.get_fields() if not field.name.endswith("+")
        )
        raise UnknownLookup(
            f"{model._meta.label} has no field {name!r}; it has {', '.join(names)}"
        ) from None


def resolve(model: type[Model], lookup: str) -> Path:
    """Take the lookup of a value apart.

    Raises:
        UnknownLookup: some part of it does not exist.
    """
    names = lookup.split(LOOKUP_SEP)
    steps: list[Step] = []
    here = model
    for index, name in enumerate(names):
        field = get_field(here, name)
        last = index == len(names) - 1
        if not field.is_relation or (last and field.concrete and not field.many_to_many):
            return Path(
                lookup=lookup, steps=tuple(steps), leaf=field, rest=tuple(names[index + 1 :])
            )
        steps.append(_step(here, field, steps))
        here = steps[-1].target
    return Path(lookup=lookup, steps=tuple(steps), leaf=here._meta.pk)


def resolve_relation(model: type[Model], lookup: str) -> tuple[Step, ...]:
    """Take the lookup of related objects apart.

    Raises:
        UnknownLookup: some part of it does not exist or is no relation.
    """
    steps: list[Step] = []
    here = model
    for name in lookup.split(LOOKUP_SEP):
        field = get_field(here, name)
        if not field.is_relation:
            raise UnknownLookup(f"{here._meta.label}.{name} is no relation")
        steps.append(_step(here, field, steps))
        here = steps[-1].target
    return tuple(steps)


def _step(model: type[Model], field: Any, before: list[Step]) -> Step:
    if field.related_model is None:
        raise UnknownLookup(
            f"{model._meta.label}.{field.name} is a generic relation, which queries cannot follow"
        )
    return Step(
        model=model,
        field=field,
        prefix=before[-1].lookup if before else "",
        name=field.name,
        target=field.related_model,
        many=bool(field.many_to_many or field.one_to_many),
    )


def family(model: type[Model], models: list[type[Model]]) -> list[type[Model]]:
    """The classes among ``models`` whose instances are rows of ``model``: proxies and children."""
    concrete = model._meta.concrete_model
    return [
        other
        for other in models
        if concrete is other._meta.concrete_model
        or concrete in {parent._meta.concrete_model for parent in other._meta.all_parents}
    ]
