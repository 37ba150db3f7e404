"""Live topics for Django: what is saved on the server is seen in the browser.

Everything a browser can follow is a *topic*: the server publishes to it, the browser calls it.
The names below are imported when they are first used, because models, and with them topics, cannot
be imported before Django is set up.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .brokers.base import History
    from .consumers import TopicConsumer
    from .errors import ActionError, RealtimeError
    from .instrumentation import counters
    from .streams import (
        ModelStream,
        RealtimeManager,
        RealtimeQuerySet,
        rows_changed,
        suppress_publishing,
    )
    from .topics import Presence, Topic, action, register
    from .topics.control import disconnect, recheck
    from .topics.listen import asubscribe
    from .topics.publish import apublish, publish

_MODULES = {
    "ActionError": "errors",
    "History": "brokers.base",
    "ModelStream": "streams",
    "Presence": "topics",
    "RealtimeError": "errors",
    "RealtimeManager": "streams",
    "RealtimeQuerySet": "streams",
    "Topic": "topics",
    "TopicConsumer": "consumers",
    "action": "topics",
    "apublish": "topics",
    "asubscribe": "topics.listen",
    "counters": "instrumentation",
    "disconnect": "topics.control",
    "publish": "topics",
    "recheck": "topics.control",
    "register": "topics",
    "rows_changed": "streams",
    "suppress_publishing": "streams",
}

__all__ = [
    "ActionError",
    "History",
    "ModelStream",
    "Presence",
    "RealtimeError",
    "RealtimeManager",
    "RealtimeQuerySet",
    "Topic",
    "TopicConsumer",
    "action",
    "apublish",
    "asubscribe",
    "counters",
    "disconnect",
    "publish",
    "recheck",
    "register",
    "rows_changed",
    "suppress_publishing",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
