"""Remembers that a store is away, so that nobody else waits for it.

The first caller that finds a store away pays for it (at most a second); the breaker is then open
and everybody after fails at once, until a thread of its own has reached the store again. That
thread lives only while somebody cares: it ends when the store is back, when the breaker is closed
for good, or when nobody has asked for a while and nobody waits to be called back.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from ..errors import BrokerUnavailable
from ..instrumentation import count, logger

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between two probes; they double from the first to the longest."""
CALM = 10.0
"""Seconds; a store that fails again so soon after its return is probed no faster than before."""
FORGOTTEN = 60.0
"""Seconds after which the probing ends if nobody asks."""
MAX_CALLBACKS = 1_000


class Breaker:
    """The state of one store, shared by every thread and event loop of this process.

    Args:
        name: names the store in messages.
        probe: reaches the store and returns, or raises. Called in the breaker's own thread.
    """

    def __init__(self, *, name: str, probe: Callable[[], None]) -> None:
        self.name = name
        self._probe = probe
        self.forget()

    def forget(self) -> None:
        """Start afresh, as after a fork: the thread and the callbacks are the parent's."""
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._ended = threading.Event()
        self._pause = FIRST_PAUSE
        self._closed_at = 0.0
        self._asked_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store is known to be away."""
        return self._error is not None

    def check(self) -> None:
        """Do nothing if the store may be there.

        Raises:
            BrokerUnavailable: it is known to be away.
        """
        error = self._error
        if error is None:
            return
        self._asked_at = time.monotonic()
        if self._thread is None:
            with self._lock:
                self._keep_probing()
        count("bus.refused")
        raise BrokerUnavailable(f"{self.name} is away: {error}") from error

    def trip(self, error: BaseException) -> None:
        """Note that the store is away; it is probed until it is back."""
        with self._lock:
            now = self._asked_at = time.monotonic()
            if self._error is None:
                logger.warning("%s is away: %s", self.name, error)
                count("bus.away")
                if now - self._closed_at > CALM:
                    self._pause = FIRST_PAUSE
            self._error = error
            self._keep_probing()

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once the store is there: now, or later in the breaker's thread."""
        with self._lock:
            waits = self._error is not None
            if waits and len(self._callbacks) < MAX_CALLBACKS:
                self._callbacks.append(callback)
                self._keep_probing()
                return
        if waits:
            count("bus.callbacks_dropped")
            logger.error("More than %d wait for the return of %s.", MAX_CALLBACKS, self.name)
            return
        callback()

    def close(self) -> None:
        """End the probing for good."""
        with self._lock:
            self._ended.set()
            self._callbacks.clear()

    def _keep_probing(self) -> None:
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="wsrealtime-probe", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        ended = self._ended
        while not ended.wait(self._pause * random.uniform(0.5, 1.0)):
            try:
                self._probe()
            except Exception as error:  # noqa: BLE001
                # Whatever a probe raises, the store is not usable; the text is what the next
                # caller reads.
                with self._lock:
                    self._error = error
                    self._pause = min(self._pause * 2, LONGEST_PAUSE)
                    if self._nobody_cares():
                        self._thread = None
                        return
                logger.debug("%s is still away: %s", self.name, error)
                continue
            self._come_back()
            return
        with self._lock:
            self._thread = None

    def _nobody_cares(self) -> bool:
        return not self._callbacks and time.monotonic() - self._asked_at > FORGOTTEN

    def _come_back(self) -> None:
        with self._lock:
            self._error = None
            self._thread = None
            self._closed_at = time.monotonic()
            callbacks, self._callbacks = self._callbacks, []
        logger.warning("%s is back.", self.name)
        count("bus.back")
        for callback in callbacks:
            try:
                callback()
            except Exception:
                count("bus.callbacks_failed")
                logger.exception("A callback on the return of %s failed.", self.name)
