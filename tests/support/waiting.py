"""Waiting for a condition, with a bound."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1


class Timeout(AssertionError):
    """A condition did not come true in time."""


def _complaint(predicate: Callable[[], object], timeout: float, last: object, what: str) -> str:
    name = what or getattr(predicate, "__qualname__", repr(predicate))
    return f"waited {timeout:g} s for {name}; its last value was {last!r}"


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, *, what: str = "") -> T:
    """Call ``predicate`` until it returns something true, and return that.

    For code outside an event loop. ``timeout`` is in seconds; ``what`` names the condition in the
    error. Raises :class:`Timeout`, an ``AssertionError``, when time is up.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise Timeout(_complaint(predicate, timeout, value, what))
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return value


async def await_until(predicate: Callable[[], T], timeout: float = 10.0, *, what: str = "") -> T:
    """:func:`wait_until` for coroutines: the event loop runs on while this waits."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise Timeout(_complaint(predicate, timeout, value, what))
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return value
