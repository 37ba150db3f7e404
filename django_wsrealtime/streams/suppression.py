"""``suppress_publishing()``: changes that nobody is told of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_suppressed: ContextVar[bool] = ContextVar("wsrealtime_suppressed", default=False)

is_suppressed = _suppressed.get
"""Whether the code that runs now is within :func:`suppress_publishing`."""


@contextmanager
def suppress_publishing() -> Iterator[None]:
    """Do not tell streams of rows that are changed in here; also a decorator.

    For imports and fixtures. It holds for this thread or task alone, and may be nested. What is
    published explicitly is published all the same. Subscribers keep what they had: call
    :func:`~.queryset.rows_changed` afterwards if they should see the changes.
    """
    token = _suppressed.set(True)
    try:
        yield
    finally:
        _suppressed.reset(token)
