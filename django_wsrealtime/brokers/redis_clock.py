"""Knows what a store's clock shows at least, from comparisons that lie a little back.

A comparison asks the store for its time; when the answer comes at local time ``t`` with the time
``b`` in it, the store's clock shows ``b`` or more. From then on it advances as our steady clock
does, but for a drift that NTP bounds. So at ``t + d`` it shows at least ``b + d - d × DRIFT``: that
is the latest time before which, for certain, nothing new will appear in a log of that store.
"""

from __future__ import annotations

import time

DRIFT = 0.001
"""Twice the 500 ppm by which NTP may slew a clock (RFC 5905, section 11.3)."""
FRESH = 30.0
"""Seconds after which a comparison should be repeated."""
USABLE = 300.0
"""Seconds after which a comparison is worth nothing: the clock may have been set."""


class Clock:
    """The clock of one store as this process knows it; safe in every thread."""

    __slots__ = ("_reading",)

    def __init__(self) -> None:
        self._reading: tuple[float, int] | None = None

    def note(self, store_time: int) -> None:
        """The store's answer, in its microseconds; call this when it has just come."""
        self._reading = (time.monotonic(), store_time)

    def forget(self) -> None:
        """Another store has taken over."""
        self._reading = None

    @property
    def age(self) -> float:
        """Seconds since the last comparison."""
        reading = self._reading
        return float("inf") if reading is None else time.monotonic() - reading[0]

    def floor(self) -> int | None:
        """What the store's clock shows now at least, in microseconds."""
        reading = self._reading
        if reading is None:
            return None
        at, store_time = reading
        elapsed = time.monotonic() - at
        if elapsed > USABLE:
            return None
        return store_time + int(elapsed * (1 - DRIFT) * 1e6)
