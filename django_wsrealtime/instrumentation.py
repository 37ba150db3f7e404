"""Counters of everything that was dropped, refused, lost or healed, and the package's loggers.

Nothing is ever missed in silence: every drop has a counter with a stable, documented name
(``docs/reference/counters.md``). A metrics system reads them with :func:`counters`.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

logger = logging.getLogger("django_wsrealtime")
security_logger = logging.getLogger("django_wsrealtime.security")

MAX_LINE = 300
"""Bytes of one log line that a peer can cause."""

_lock = threading.Lock()
_counters: Counter[str] = Counter()
_said: set[str] = set()


def count(name: str, by: int = 1) -> None:
    """Add to a counter, from any thread."""
    with _lock:
        _counters[name] += by


def counters() -> dict[str, int]:
    """What was counted in this process since it started."""
    with _lock:
        return dict(_counters)


def warn_once(key: str, message: str) -> None:
    """Log a warning the first time ``key`` comes up in this process."""
    with _lock:
        if key in _said:
            return
        _said.add(key)
    logger.warning("%s", message)


def refuse(reason: str, detail: str) -> None:
    """Log one short line about a peer that was turned away, and count it."""
    count(f"refused.{reason}")
    security_logger.warning("%s", f"refused ({reason}): {detail}"[:MAX_LINE])
