"""The middleware notes the broker's time before anything else of a request runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import BrokerUnavailable
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.middleware import RealtimeMiddleware
from django_wsrealtime.protocol.position import Since


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000_000

    def __call__(self) -> int:
        return self.time


class DeadBroker(MemoryBroker):
    blocking = True

    def now(self) -> Since:
        raise BrokerUnavailable("The store is away.")


class RemoteBroker(MemoryBroker):
    """Remembers which thread asked for the time."""

    blocking = True
    asked_by: threading.Thread | None = None

    def now(self) -> Since:
        self.asked_by = threading.current_thread()
        return super().now()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> Iterator[MemoryBroker]:
    broker = MemoryBroker(clock=clock)
    before = set_broker(broker)
    yield broker
    set_broker(before)


def get(middleware: Any) -> HttpRequest:
    request = RequestFactory().get("/")
    middleware(request)
    return request


def test_the_time_is_taken_before_the_view_runs(broker: MemoryBroker, clock: Clock) -> None:
    before = broker.now().time

    def view(request: HttpRequest) -> HttpResponse:
        clock.time += 5_000_000
        return HttpResponse()

    request: Any = get(RealtimeMiddleware(view))
    assert request.realtime_since == Since(time=before)
    assert broker.now().time > before


def test_the_lag_of_replicas_is_taken_off(broker: MemoryBroker) -> None:
    with override_settings(WSREALTIME={"REPLICA_LAG": 2.5}):
        set_broker(broker)
        request: Any = get(RealtimeMiddleware(lambda request: HttpResponse()))
    assert request.realtime_since.time == broker.now().time - 2_500_000


def test_a_broker_that_is_away_means_the_beginning_of_time(broker: MemoryBroker) -> None:
    set_broker(DeadBroker())
    before = counters().get("since.unknown", 0)
    request: Any = get(RealtimeMiddleware(lambda request: HttpResponse()))
    assert request.realtime_since == Since(time=0)
    assert counters()["since.unknown"] == before + 1


async def test_an_async_view_gets_the_time_too(broker: MemoryBroker) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(request.realtime_since.time))  # type: ignore[attr-defined]

    middleware: Any = RealtimeMiddleware(view)
    assert asyncio.iscoroutinefunction(middleware) or middleware.is_async
    response = await middleware(RequestFactory().get("/"))
    assert int(response.content) == broker.now().time


async def test_a_broker_over_a_network_is_not_asked_in_the_event_loop(clock: Clock) -> None:
    broker = RemoteBroker(clock=clock)
    before = set_broker(broker)

    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    middleware: Any = RealtimeMiddleware(view)
    await middleware(RequestFactory().get("/"))
    set_broker(before)
    assert broker.asked_by is not None
    assert broker.asked_by is not threading.main_thread()


@pytest.mark.parametrize("vary", [True, False])
def test_a_page_for_one_user_varies_on_the_cookie(broker: MemoryBroker, vary: bool) -> None:
    def view(request: Any) -> HttpResponse:
        request.realtime_vary = vary
        return HttpResponse(headers={"Vary": "Accept-Language"})

    response: Any = RealtimeMiddleware(view)(RequestFactory().get("/"))
    assert response["Vary"] == ("Accept-Language, Cookie" if vary else "Accept-Language")


@pytest.mark.django_db
def test_it_works_in_a_sync_project(client: Client) -> None:
    assert b"data-since" in client.get("/").content


@pytest.mark.django_db(transaction=True)
async def test_it_works_in_an_async_project(async_client: AsyncClient) -> None:
    response = await async_client.get("/")
    assert b"data-since" in response.content
