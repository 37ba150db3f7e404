"""What is committed while a page is rendered reaches the page (docs/how-to/first-paint.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import include, path

from django_wsrealtime import streams
from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.middleware import take_since
from django_wsrealtime.streams import ModelStream
from django_wsrealtime.testing import RealtimeClient
from django_wsrealtime.topics.registry import registry
from tests.testapp.models import Order, Store

pytestmark = pytest.mark.django_db(transaction=True)

TIMES = 100


@pytest.fixture(autouse=True)
def orders() -> Iterator[None]:
    before = set_broker(MemoryBroker())
    streams.disconnect()
    with registry.isolated():

        @registry.register("watched/<int:store_id>")
        class Orders(ModelStream):
            model = Order
            fields = ("number", "note")
            partition_by = {"store_id": "store_id"}
            public = True

        streams.connect()
        yield
    streams.disconnect()
    streams.connect()
    set_broker(before)


PAGE = """{% load wsrealtime %}{% realtime_script %}
{% for order in orders %}[{{ order.note }}]{% endfor %}"""


def page(change: Callable[[], None]) -> Callable[[HttpRequest], HttpResponse]:
    """A view whose rows are changed by somebody else after it has read them."""

    def view(request: HttpRequest) -> HttpResponse:
        orders = list(Order.objects.all())
        change()
        template = engines["django"].from_string(PAGE)
        return HttpResponse(template.render({"orders": orders}, request))

    return view


def since(markup: str) -> str:
    found = re.search(r'data-since="(\d+)"', markup)
    assert found
    return found[1]


class Site:
    """The changed page and the endpoints, as a URLconf."""

    def __init__(self, change: Callable[[], None]) -> None:
        self.urlpatterns = [
            path("", page(change)),
            path("realtime/", include("django_wsrealtime.urls")),
        ]


def prepare() -> tuple[Store, Order]:
    store = Store.objects.create(name="s")
    return store, Order.objects.create(store=store, number="1", note="before")


def note(order: Order, text: str) -> None:
    order.note = text
    order.save(update_fields=["note"])


async def test_a_row_changed_between_query_and_subscription_arrives_every_time(
    settings: Any,
) -> None:
    store, order = await sync_to_async(prepare)()
    texts = iter(f"change {number}" for number in range(TIMES))
    settings.ROOT_URLCONF = Site(lambda: note(order, next(texts)))
    application = get_asgi_application()
    shown = "before"
    for number in range(TIMES):
        response = await sync_to_async(Client().get)("/")
        markup = response.content.decode()
        assert f"[{shown}]" in markup
        shown = f"change {number}"
        async with RealtimeClient(application) as client:
            watched = await client.subscribe(f"watched/{store.pk}", since=since(markup))
            assert watched.resets == []
            assert watched.events[-1]["data"]["row"]["note"] == shown


async def test_a_time_taken_after_the_query_would_miss_it(settings: Any) -> None:
    """The test above can fail: this is what it would see without the middleware's time."""
    store, order = await sync_to_async(prepare)()
    settings.ROOT_URLCONF = Site(lambda: note(order, "changed"))
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.edge.test_first_paint.TooLate"]
    response = await sync_to_async(Client().get)("/")
    async with RealtimeClient(get_asgi_application()) as client:
        watched = await client.subscribe(
            f"watched/{store.pk}", since=since(response.content.decode())
        )
        assert watched.resets == []
        assert watched.events == []


class TooLate:
    """Middleware that notes a time later than the view's queries."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        late = f'data-since="{take_since().time + 1}"'
        response.content = re.sub(r'data-since="\d+"', late, response.content.decode()).encode()
        return response


async def test_without_the_middleware_everything_is_loaded_anew(settings: Any) -> None:
    store, order = await sync_to_async(prepare)()
    settings.ROOT_URLCONF = Site(lambda: note(order, "changed"))
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    response = await sync_to_async(Client().get)("/")
    async with RealtimeClient(get_asgi_application()) as client:
        watched = await client.subscribe(
            f"watched/{store.pk}", since=since(response.content.decode())
        )
        assert watched.resets == ["not recovered"]
        assert watched.snapshot is not None
        assert watched.snapshot["rows"][0]["row"]["note"] == "changed"
