"""Tools for testing your own topics, without a server, Redis or a browser."""

from __future__ import annotations

from .assertions import Published, RealtimeTestMixin
from .client import ClientSubscription, ConnectionClosed, RealtimeClient, RequestFailed

__all__ = [
    "ClientSubscription",
    "ConnectionClosed",
    "Published",
    "RealtimeClient",
    "RealtimeTestMixin",
    "RequestFailed",
]
