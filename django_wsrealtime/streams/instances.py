"""Tells whether a saved instance holds exactly what a query would answer.

A row that was just created need not be read again if that is certain. It is not where a field holds
an expression, was not loaded, or has a value of another type than the database will answer:
``total=5`` is stored, and sent, as ``"5.00"``.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

from django.conf import settings
from django.db import models
from django.db.models import Model

from .paths import Path

Certain: TypeAlias = Callable[[Any], bool]
Attributes: TypeAlias = tuple[tuple[str, Certain], ...]
"""Attribute names of an instance, each with the test its value has to pass."""


def _is(kind: type) -> Certain:
    return lambda value: type(value) is kind


def _is_moment(value: Any) -> bool:
    expected = datetime.timezone.utc if settings.USE_TZ else None
    return type(value) is datetime.datetime and value.tzinfo is expected


_AS_STORED: dict[type, Certain] = {
    **dict.fromkeys(
        (
            models.AutoField,
            models.BigAutoField,
            models.BigIntegerField,
            models.IntegerField,
            models.PositiveBigIntegerField,
            models.PositiveIntegerField,
            models.PositiveSmallIntegerField,
            models.SmallAutoField,
            models.SmallIntegerField,
        ),
        _is(int),
    ),
    **dict.fromkeys(
        (models.CharField, models.EmailField, models.SlugField, models.TextField, models.URLField),
        _is(str),
    ),
    models.BooleanField: _is(bool),
    models.DateField: _is(datetime.date),
    models.DateTimeField: _is_moment,
    models.DurationField: _is(datetime.timedelta),
    models.FloatField: _is(float),
    models.TimeField: _is(datetime.time),
    models.UUIDField: _is(uuid.UUID),
}
"""Values that a database gives back exactly as they were saved, by class of field."""


def _as_stored(field: Any) -> Certain | None:
    """Whether a value of this field is what a query would answer; ``None``: never certain."""
    while field.remote_field is not None and field.concrete:
        field = field.target_field
    if getattr(field, "generated", False):
        return None
    if type(field) is models.DecimalField:
        places = -field.decimal_places

        def is_quantised(value: Any) -> bool:
            return type(value) is decimal.Decimal and value.as_tuple().exponent == places

        return is_quantised
    return _AS_STORED.get(type(field))


_MISSING = object()


def attributes(paths: list[Path]) -> Attributes | None:
    """How to take these values from an instance; ``None`` if it does not have them all."""
    found: list[tuple[str, Certain]] = []
    for path in paths:
        certain = _as_stored(path.leaf) if path.local else None
        if certain is None:
            return None
        found.append((path.leaf.attname, certain))
    return tuple(found)


def values(instance: Model, wanted: Attributes) -> list[Any] | None:
    """The values of a saved instance as a query would answer them; ``None`` if in doubt."""
    state = instance.__dict__
    found: list[Any] = []
    for attname, certain in wanted:
        value = state.get(attname, _MISSING)
        if isinstance(value, enum.Enum):
            value = value.value
        if value is not None and not certain(value):
            return None
        found.append(value)
    return found
