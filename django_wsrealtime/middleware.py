"""Notes when a request began, so that the page it renders has no gap before its subscriptions.

A page shows what its view read. Whatever is committed after that read has to reach the page through
its subscriptions, so they must begin before the first query: at the broker's time when the request
came in. That is why this middleware stands first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from .brokers import get_broker
from .conf import conf
from .errors import RealtimeError
from .instrumentation import count, warn_once
from .protocol.position import Since

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]

BEGINNING = Since(time=0)
"""Before every log: whoever starts here is told to read everything anew."""


def take_since() -> Since:
    """The broker time from which a page that is about to be rendered must be told of changes.

    It is the broker's time less ``WSREALTIME["REPLICA_LAG"]``. If the broker cannot tell, it is the
    beginning of time, from which every subscription starts with a ``reset``: late, never wrong.
    Never raises.
    """
    try:
        now = get_broker().now()
    except (RealtimeError, OSError) as error:
        count("since.unknown")
        warn_once(
            f"since:{type(error).__name__}",
            f"The broker did not tell its time ({error}); pages are rendered with the beginning of "
            "time, so their subscriptions start with a reset.",
        )
        return BEGINNING
    return Since(time=max(0, now.time - round(conf().replica_lag * 1e6)))


async def atake_since() -> Since:
    """:func:`take_since` in an event loop, which must not wait for a broker over a network."""
    return await asyncio.to_thread(take_since) if _may_wait() else take_since()


def _may_wait() -> bool:
    try:
        return get_broker().blocking
    except RealtimeError:
        return False  # take_since() tells of it


class RealtimeMiddleware:
    """Sets ``request.realtime_since`` before anything else runs, in sync and async projects.

    Put it first in ``MIDDLEWARE``. A template tag that renders something for one user alone asks
    for ``Vary: Cookie`` by setting ``request.realtime_vary``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._acall(request)
        _begin(request, take_since())
        return _end(request, cast(HttpResponseBase, self.get_response(request)))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        _begin(request, await atake_since())
        return _end(request, await cast("Awaitable[HttpResponseBase]", self.get_response(request)))


def _begin(request: Any, since: Since) -> None:
    request.realtime_since = since
    request.realtime_vary = False


def _end(request: Any, response: HttpResponseBase) -> HttpResponseBase:
    if request.realtime_vary:
        patch_vary_headers(response, ["Cookie"])
    return response
