"""The code of the how-to pages about topics does what the pages say."""

import doctest
import re
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import RequestFactory

from django_wsrealtime import topics as topics_package
from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.testing import ConnectionClosed, RealtimeClient
from django_wsrealtime.testing.client import RequestFailed
from django_wsrealtime.topics import Topic
from django_wsrealtime.topics.registry import Registry
from tests.testapp import models
from tests.testapp.models import Order, Store, StoreMembership

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"(?s)```python\n# (\S+)\n(.*?)```")

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("broker")]


class Page:
    """One how-to page; its modules can be imported while it lives."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        self.shell = ""
        for file, code in BLOCK.findall(text):
            if file == "anywhere":
                self.shell += code
                continue
            module = file.removesuffix(".py").replace("/", ".")
            self.put(module, code, monkeypatch)

    def put(self, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, name, "exec"), vars(module))

    def __getitem__(self, module: str) -> Any:
        return sys.modules[module]

    def run_shell(self) -> None:
        """Check what is typed into a shell and what it answers."""
        assert self.shell
        test = doctest.DocTestParser().get_doctest(self.shell, {}, "shell", None, 0)
        failures: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failures.append)
        assert not failures, "".join(failures)


@pytest.fixture
def page(topics: Registry, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("shop", "chat"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "shop.models", models)
    return lambda name: Page(name, monkeypatch)


@pytest.fixture
def ada() -> User:
    return User.objects.create(username="ada")


@pytest.fixture
def eve() -> User:
    return User.objects.create(username="eve")


@pytest.fixture
def store(ada: User) -> Store:
    store = Store.objects.create(pk=7, name="Corner")
    StoreMembership.objects.create(user=ada, store=store)
    return store


@pytest.fixture
def order(store: Store) -> Order:
    return Order.objects.create(store=store, number="A-1")


@pytest.fixture
def application() -> Any:
    return get_asgi_application()


async def refused(attempt: Any, code: str = "forbidden") -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await attempt
    assert caught.value.code == code
    return caught.value


async def test_topics(
    page: Any, application: Any, ada: User, eve: User, order: Order, rf: RequestFactory
) -> None:
    page("topics")
    async with RealtimeClient(application, user=ada) as client:
        store = await client.subscribe("store/7")
        assert store.snapshot == {
            "orders": [
                {"key": str(order.pk), "id": order.pk, "number": "A-1", "status": "new"},
            ]
        }
        await refused(client.subscribe("store/007"), "unknown_topic")
        await refused(client.subscribe("store/8"))
    async with RealtimeClient(application, user=eve) as client:
        await refused(client.subscribe("store/7"))


def test_what_the_page_on_topics_types(page: Any) -> None:
    page("topics").run_shell()


async def test_permissions(page: Any, application: Any, ada: User, eve: User, store: Store) -> None:
    views = page("permissions")["shop.views"]
    async with (
        RealtimeClient(application, user=ada) as client,
        RealtimeClient(application) as visitor,
    ):
        await visitor.subscribe("status")
        await refused(visitor.subscribe("counter/7"))
        counter = await client.subscribe("counter/7")
        await client.publish("counter/7", "note", "hi")
        assert (await counter.next_event())["kind"] == "client"
        await refused(client.publish("counter/7", "note", 5))
        await refused(client.publish("counter/7", "upsert", "x"))
        error = await refused(client.publish("counter/7", "bell", "x"))
        assert "Only staff may ring the bell." in str(error)
        client.whisper("counter/7", "shouting", {})
        await client.until(lambda: client.frames[-1].get("code") == "forbidden")

        await sync_to_async(views.end_counter)(ada, 7)
        await client.until(lambda: counter.resets == ["revoked"])
        counter = await client.subscribe("counter/7")
        await sync_to_async(views.leave_store)(ada, 7)
        await client.until(lambda: counter.resets == ["revoked"])
        await refused(client.subscribe("counter/7"))
        await sync_to_async(views.lock_out)(ada)
        closed: ConnectionClosed = await client.closed()
        assert closed.code == 4502


async def test_actions(page: Any, application: Any, ada: User, eve: User, order: Order) -> None:
    desk = page("actions")["shop.realtime"].Desk(store_id=7)
    async with RealtimeClient(application, user=ada) as client:
        await client.subscribe("desk/7")
        data = {"order_id": order.pk, "note": "counter 2"}
        assert await client.call("desk/7", "mark_ready", data) == {"number": "A-1"}
        [event] = desk.read_history()
        assert (event.data, event.origin) == ({"text": "A-1 is ready"}, client.tab)
        await refused(client.call("desk/7", "mark_ready", {"order_id": 0}), "no_such_order")
        await refused(client.call("desk/7", "mark_ready", {"order_id": "5"}), "invalid_data")
        await refused(client.call("desk/7", "estimate", {"totals": []}))
    await sync_to_async(order.refresh_from_db)()
    assert (order.status, order.note) == ("ready", "counter 2")

    def permit() -> User:
        kind = ContentType.objects.create(app_label="shop", model="order")
        permission = Permission.objects.create(codename="change_order", content_type=kind)
        ada.user_permissions.add(permission)
        return User.objects.get(pk=ada.pk)

    async with RealtimeClient(application, user=await sync_to_async(permit)()) as client:
        await client.subscribe("desk/7")
        data = {"totals": ["1.50", "2.25"]}
        total = await client.call("desk/7", "estimate", data)
        assert Decimal(total) == Decimal("3.75")
    async with RealtimeClient(application, user=eve) as client:
        await refused(client.call("desk/7", "mark_ready", {"order_id": order.pk}))


async def test_publishing(
    page: Any, application: Any, ada: User, order: Order, rf: RequestFactory
) -> None:
    topic = page("topics")["shop.realtime"].Store(store_id=7)
    views = page("publishing")["shop.views"]
    async with RealtimeClient(application, user=ada) as client:
        store = await client.subscribe("store/7")
        request = rf.post("/", headers={"X-Realtime-Tab": "t1"})
        await sync_to_async(views.mark_ready)(request, order.pk)
        event = await store.next_event()
        assert (event["event"], event["data"], event["origin"]) == (
            "flash",
            {"text": "A-1 is ready"},
            "t1",
        )
        await views.ring(request, 7)
        assert (await store.next_event())["event"] == "bell"
        await sync_to_async(views.import_prices)([(7, Decimal("1.5")), (7, Decimal("1.5"))])
        assert (await store.next_event())["data"] == {"price": "1.5"}
        assert await store.nothing()
    assert [event.event for event in topic.read_history()] == ["flash", "bell", "price"]


async def test_presence(page: Any, application: Any, ada: User, broker: MemoryBroker) -> None:
    shown = page("presence")
    ada.first_name = "Ada"
    async with (
        RealtimeClient(application, user=ada) as one,
        RealtimeClient(application, user=ada) as two,
        RealtimeClient(application) as visitor,
    ):
        lounge = await one.subscribe("lounge/main")
        await two.subscribe("lounge/main")
        await refused(visitor.subscribe("lounge/main"))
        await one.until(lambda: lounge.members.keys() == {str(ada.pk)})
        await one.request(type="presence", topic="lounge/main", state={"cursor": [3, 4]})
        await one.until(lambda: len(broker.present("lounge/main")) == 2)
        await sync_to_async(shown.run_shell)()


def test_the_reference_names_everything_that_is_public() -> None:
    text = (PAGES.parent / "reference" / "python.md").read_text(encoding="utf-8")
    internal = {"autodiscover", "routes"}
    missing = [name for name in set(topics_package.__all__) - internal if name not in text]
    assert not missing
    for name in ("history", "presence", "publish_by", "public", "keyed", "revalidate_on"):
        assert f"`{name}`" in text
        assert hasattr(Topic, name)
