"""Follows topics once per process and serves all local connections."""

from __future__ import annotations

from .core import Connection, Hub, get_hub
from .feed import Source
from .message import Message

__all__ = ["Connection", "Hub", "Message", "Source", "get_hub"]
