"""Ends tasks for good."""

from __future__ import annotations

import asyncio
from typing import Any


async def end(*tasks: asyncio.Task[Any]) -> list[BaseException | None]:
    """Cancel tasks until they have ended; return what each of them raised.

    Before Python 3.12 ``wait_for`` may swallow a cancellation (bpo-37658), so one is not enough.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.05)
    return [None if task.cancelled() else task.exception() for task in tasks]
