"""Topics whose events are the rows of a model: see :class:`ModelStream`."""

from .base import ModelStream
from .capture import connect, disconnect
from .problems import check_streams
from .queryset import RealtimeManager, RealtimeQuerySet, rows_changed
from .suppression import suppress_publishing

__all__ = [
    "ModelStream",
    "RealtimeManager",
    "RealtimeQuerySet",
    "check_streams",
    "connect",
    "disconnect",
    "rows_changed",
    "suppress_publishing",
]
