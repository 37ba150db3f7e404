"""Write to an ASGI server without waiting, and without a task per message.

An ASGI ``send`` is a coroutine that most servers finish without ever suspending. So it is driven by
hand: one step, and only if it does suspend a task takes it over. What is to be sent meanwhile waits
in order; the connection's window bounds how much that can be.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

Event = dict[str, Any]
AsgiSend = Callable[[Event], Awaitable[None]]


class Writer:
    """The outgoing side of one ASGI connection.

    Args:
        send: the server's ``send``.
        failed: called once, soon, if the server can send no more.
    """

    __slots__ = ("_failed", "_loop", "_send", "_task", "_waiting", "broken")

    def __init__(self, send: AsgiSend, *, failed: Callable[[], None]) -> None:
        self._send = send
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        self.broken = False

    def write(self, event: Event) -> None:
        """Send an event after all those before it."""
        if self.broken:
            return
        if self._task is not None:
            self._waiting.append(event)
            return
        sending: Any = self._send(event)
        try:
            suspended_on = sending.send(None)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001  servers differ in what they raise for a closed socket
            self._break()
            return
        self._task = self._loop.create_task(self._finish(_resume(sending, suspended_on)))

    def abandon(self) -> None:
        """Send nothing more."""
        self.broken = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _finish(self, started: Awaitable[None]) -> None:
        try:
            await started
            while self._waiting:
                await self._send(self._waiting.popleft())
        except Exception:  # noqa: BLE001  see write()
            self._break()
        finally:
            self._task = None

    def _break(self) -> None:
        if not self.broken:
            self.broken = True
            self._waiting.clear()
            self._loop.call_soon(self._failed)


@types.coroutine
def _resume(started: Coroutine[Any, Any, None], suspended_on: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was started by hand and waits for ``suspended_on``."""
    while True:
        step: Callable[[], Any]
        try:
            value = yield suspended_on
        except BaseException as error:  # noqa: BLE001  whatever is thrown in belongs to it
            step = partial(started.throw, error)
        else:
            step = partial(started.send, value)
        try:
            suspended_on = step()
        except StopIteration:
            return
