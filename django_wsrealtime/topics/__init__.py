"""What browsers may follow: topic classes, their routes, rules and actions."""

from ..brokers.base import History
from ..presence import Member, Presence
from .actions import Context, action
from .base import Topic
from .events import Event
from .publish import apublish, publish
from .registry import autodiscover, register, resolve, routes

__all__ = [
    "Context",
    "Event",
    "History",
    "Member",
    "Presence",
    "Topic",
    "action",
    "apublish",
    "autodiscover",
    "publish",
    "register",
    "resolve",
    "routes",
]
