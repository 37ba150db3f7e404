"""Who is present in a topic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Declares that a topic keeps a list of who follows it.

    Args:
        public_state: largest state that a member may set, in bytes of JSON.
    """

    public_state: int = 2_048
