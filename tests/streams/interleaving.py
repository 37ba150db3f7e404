"""Runs two writers step by step, in every order there is.

A writer is a thread that stops at each pause of ``django_wsrealtime.streams.pauses``. The conductor
lets one of them go on to its next pause, then looks at what a browser would see, and so on. Nothing
is left to the machine's scheduler, so an interleaving that fails fails every time.
"""

import itertools
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.db import connections

from django_wsrealtime.streams import pauses

PATIENCE = 20.0
"""Seconds until a writer that reaches no pause counts as stuck."""


class Writer:
    """A thread that runs one job at a time, in steps.

    Args:
        points: the pauses at which it stops.
    """

    def __init__(self, points: Collection[str]) -> None:
        self._points = points
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self.finished = True
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, job: Callable[[], None]) -> None:
        """Give it a job; it waits at the beginning."""
        self.finished = False
        self._jobs.put(job)

    def step(self) -> None:
        """Let it go on to its next pause, or to the end of its job."""
        if self.finished:
            return
        self._go.release()
        assert self._stopped.acquire(timeout=PATIENCE), "a writer reached no pause"
        if self.error is not None:
            raise self.error

    def pause(self, point: str) -> None:
        """Called in the thread."""
        if threading.current_thread() is self._thread and point in self._points:
            self._stopped.release()
            self._go.acquire()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._go.acquire()
            try:
                job()
            except BaseException as error:  # noqa: BLE001  raised by the conductor
                self.error = error
            self.finished = True
            self._stopped.release()
        connections.close_all()

    def close(self) -> None:
        """Let it run to the end of its job without a pause, and end it."""
        self._points = ()
        self._go.release()
        self._jobs.put(None)
        self._thread.join(PATIENCE)


class Conductor:
    """Two writers, and an onlooker who is asked between their steps.

    Args:
        points: the pauses at which writers stop.
    """

    def __init__(self, points: Collection[str] = ("ticket", "read", "append")) -> None:
        self.writers = (Writer(points), Writer(points))
        self.steps = len(points) + 1

    def __enter__(self) -> "Conductor":
        pauses.hook = self._pause
        return self

    def __exit__(self, *exception: object) -> None:
        pauses.hook = None
        for writer in self.writers:
            writer.close()

    def _pause(self, point: str) -> None:
        for writer in self.writers:
            writer.pause(point)

    def schedules(self) -> Iterator[tuple[int, ...]]:
        """Every order of the two writers' steps: ``(0, 1, 1, 0, …)``."""
        total = 2 * self.steps
        for first in itertools.combinations(range(total), self.steps):
            yield tuple(0 if index in first else 1 for index in range(total))

    def perform(
        self,
        schedule: tuple[int, ...],
        jobs: tuple[Callable[[], None], Callable[[], None]],
        look: Callable[[], Any],
    ) -> None:
        """Run both jobs in this order; ``look()`` before, between and after the steps."""
        for writer, job in zip(self.writers, jobs, strict=True):
            writer.begin(job)
        look()
        for index in schedule:
            self.writers[index].step()
            look()
        while not all(writer.finished for writer in self.writers):
            for writer in self.writers:
                writer.step()
                look()
