"""What browsers may follow: topic classes, their routes, rules and actions."""

from ..brokers.base import History
from ..presence import Presence
from .base import Topic
from .registry import autodiscover, register, resolve, routes

__all__ = ["History", "Presence", "Topic", "autodiscover", "register", "resolve", "routes"]
