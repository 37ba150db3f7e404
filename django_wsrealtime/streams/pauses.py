"""Named points at which a test may hold a publisher still.

A race is tested by forcing its interleavings, not by hoping for them: random threads hardly ever
meet between a commit and the append that follows it. Nothing but tests sets :data:`hook`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Point = Literal["write", "ticket", "read", "append"]
"""What comes next: the row is written (its place before is known); after the commit the ticket is
drawn; the row is read; its event is appended."""

hook: Callable[[Point], None] | None = None


def pause(point: Point) -> None:
    """Wait here if a test asks for it."""
    if hook is not None:
        hook(point)
