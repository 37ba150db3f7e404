"""The pool of threads in which users' sync code runs, each call with clean database connections.

Channels and asgiref run sync code of a process in one shared thread, so one slow handler delays
everybody's. Here as many run at once as ``WSREALTIME["THREADS"]`` says.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed
from django.db import close_old_connections

from ..conf import conf
from ..errors import ErrorCode, ProtocolError
from ..instrumentation import count

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 1_000
"""Calls that may wait for a thread; further ones are refused."""
RETRY_AFTER = 1_000
"""Milliseconds after which a refused caller may try again."""


class _Pool(ThreadPoolExecutor):
    """Threads that take a bounded number of calls."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="wsrealtime")
        self._threads_wanted = threads
        self._calls_lock = threading.Lock()
        self._calls = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with self._calls_lock:
            full = self._calls >= self._threads_wanted + MAX_WAITING
            if not full:
                self._calls += 1
        if full:
            count("threads.refused")
            raise ProtocolError(
                ErrorCode.UNAVAILABLE,
                "The server is busy; try again later.",
                retry_after=RETRY_AFTER,
            )
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[Any]) -> None:
        with self._calls_lock:
            self._calls -= 1


_lock = threading.Lock()
_pool: _Pool | None = None
_shared = contextvars.ContextVar("django_wsrealtime.threads.shared", default=False)


async def run(func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function in the pool and wait for its result.

    Context variables, the active language among them, are those of the caller. Connections that
    are too old or broken are closed before and after the call, as around a request.

    Raises:
        ProtocolError: too many calls are waiting already.
    """
    if _shared.get():
        return await sync_to_async(func, thread_sensitive=True)(*args, **kwargs)

    def call() -> T:
        close_old_connections()
        try:
            return func(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(call, thread_sensitive=False, executor=_get_pool())()


@contextmanager
def share_thread() -> Iterator[None]:
    """Within this context run sync code in the thread of the surrounding sync code instead.

    For tests inside a transaction, whose rows no other connection can see.
    """
    token = _shared.set(True)
    try:
        yield
    finally:
        _shared.reset(token)


def _get_pool() -> _Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = _Pool(conf().threads)
        return _pool


def close() -> None:
    """Let the threads end when they have done what they were given; the next call starts anew."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False)


def _after_fork() -> None:
    """The threads stayed with the parent."""
    global _pool, _lock
    _lock = threading.Lock()
    _pool = None


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "WSREALTIME":
        close()


setting_changed.connect(_forget, dispatch_uid="django_wsrealtime.topics.threads")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
