"""What Django's own values look like as JSON."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from typing import Any

from django.db.models import Model
from django.db.models.fields.files import FieldFile
from django.db.models.query import QuerySet
from django.utils.functional import Promise

from ..protocol import codec


def default(value: Any) -> Any:
    """Turn a value that JSON does not know into one it does; a hook of ``codec.encode_data``.

    Raises:
        TypeError: the value has no obvious form; the message says what to pass instead.
    """
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, FieldFile):
        return _file(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str | int | float | list | tuple):
        return _plain(value)
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return str(value)
    if _is_range(value):
        return {"lower": value.lower, "upper": value.upper, "bounds": _bounds(value)}
    if isinstance(value, Model):
        raise TypeError(
            f"{value._meta.label} is a model instance; send the fields that may be seen, as in"
            " {'id': order.pk, 'status': order.status}"
        )
    if isinstance(value, QuerySet):
        raise TypeError(
            f"a QuerySet of {value.model._meta.label} is not sent; send list(queryset.values(…))"
            " with the fields that may be seen"
        )
    raise TypeError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} has no form in JSON;"
        " send strings, numbers, booleans, None, dates, UUIDs, lists or dicts"
    )


def encode(value: Any, *, what: str) -> bytes:
    """Write application data as JSON.

    Args:
        value: the data.
        what: names the data in the error, as in ``"event 'flash' of topic 'orders/7'"``.

    Raises:
        TypeError: some value in it has no form in JSON.
    """
    try:
        return codec.encode_data(value, default=default)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"The data of {what} cannot be sent: {error}.") from error


def _file(value: FieldFile) -> str | None:
    if not value:
        return None
    try:
        return str(value.url)
    except (NotImplementedError, ValueError):  # a storage without URLs
        return value.name


def _plain(value: Any) -> Any:
    """A subclass of a built-in type (``SafeString``, a named tuple) as the type itself."""
    if isinstance(value, str):
        return str.__str__(value)  # str() of a SafeString is a SafeString
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    return list(value)


def _is_range(value: Any) -> bool:
    """psycopg's ``Range``, 2 or 3, without importing either."""
    return any(
        kind.__name__ == "Range" and kind.__module__.startswith("psycopg")
        for kind in type(value).__mro__
    )


def _bounds(value: Any) -> str | None:
    """``"[)"`` and the like; ``None`` for the empty range."""
    return getattr(value, "bounds", None) or getattr(value, "_bounds", None) or None
