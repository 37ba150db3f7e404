"""The names and examples of the public API, used as they are written."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, transaction
from django.http import HttpRequest
from django.template import Context, Template
from django.test import RequestFactory, TestCase

import django_wsrealtime
from django_wsrealtime import (
    ActionError,
    History,
    ModelStream,
    Presence,
    RealtimeManager,
    RealtimeQuerySet,
    Topic,
    action,
    apublish,
    asubscribe,
    disconnect,
    publish,
    recheck,
    register,
    rows_changed,
    streams,
    suppress_publishing,
    testing,
)
from django_wsrealtime.checks.declarations import check_topics
from django_wsrealtime.testing import RealtimeClient, RealtimeTestMixin, RequestFailed
from django_wsrealtime.topics.registry import registry
from tests.asgi import application
from tests.testapp.models import Customer, Order, Part, Store, StoreMembership


class Promises(RealtimeTestMixin, TestCase):
    """The topics of the examples, a store and somebody who may see its orders."""

    databases = {"default", "other"}
    ada: ClassVar[User]
    bob: ClassVar[User]
    store: ClassVar[Store]
    order: ClassVar[Order]

    @classmethod
    def setUpTestData(cls) -> None:
        users = get_user_model().objects
        cls.ada = users.create_user("ada", is_staff=True)
        cls.bob = users.create_user("bob")
        cls.store = Store.objects.create(pk=7, name="Seventh")
        StoreMembership.objects.create(user=cls.ada, store=cls.store)
        customer = Customer.objects.create(name="Cy")
        cls.order = Order.objects.create(store=cls.store, number="A1", customer=customer)

    def setUp(self) -> None:
        super().setUp()
        stack = ExitStack()
        self.addCleanup(stack.close)
        stack.callback(streams.connect)
        stack.callback(streams.disconnect)
        streams.disconnect()
        stack.enter_context(registry.isolated())
        streams.connect()
        self.Orders, self.Room = declare()


def declare() -> tuple[type[ModelStream], type[Topic]]:
    @register("orders/<int:store_id>")
    class Orders(ModelStream):
        model = Order
        fields = ["id", "number", "status", "total", "customer__name"]
        depends_on = {Customer: "customer"}
        partition_by = {"store_id": "store_id"}
        history = History(size=500, ttl=600)
        presence = Presence()

        def get_queryset(self) -> Any:
            return super().get_queryset().filter(archived=False)

        def can_subscribe(self, user: Any) -> bool:
            memberships = StoreMembership.objects.filter(user=user, store=self.store_id)
            return bool(memberships.exists())

        @action(throttle="5/s")
        def mark_ready(self, ctx: Any, order_id: int, note: str = "") -> dict[str, Any]:
            if order_id != order_id_of(ctx):
                raise ActionError("That order is not yours.")
            self.publish("ready", {"note": note}, origin=ctx, on_commit=False)
            return {"by": ctx.user.username, "language": ctx.language, "key": ctx.key}

    def order_id_of(ctx: Any) -> int:
        assert (ctx.session, ctx.headers["host"]) == (None, "testserver")
        assert ctx.tab
        return Order.objects.get().pk

    @register("room/<slug:slug>")
    class Room(Topic):
        history = History(size=100, ttl=300)
        presence = Presence()
        publish_by = "subscribers"
        whisper_by = "subscribers"
        public = True

        def can_subscribe(self, user: Any) -> bool:
            return bool(self.slug != "closed")

        def can_publish(self, user: Any, event: str, data: Any) -> bool:
            return event == "message"

        def can_whisper(self, user: Any, event: str, data: Any) -> bool:
            return event == "typing"

        def snapshot(self) -> dict[str, Any]:
            return {"messages": [{"key": "1", "text": "hello"}]}

    return Orders, Room


# Names ---------------------------------------------------------------------------------------


def test_every_public_name_can_be_imported() -> None:
    assert set(django_wsrealtime.__all__) == set(django_wsrealtime._MODULES)
    for name in django_wsrealtime.__all__:
        assert getattr(django_wsrealtime, name).__name__ == name
        assert name in dir(django_wsrealtime)


def test_every_public_name_says_what_it_is_for() -> None:
    silent = [
        name
        for name in django_wsrealtime.__all__
        if not getattr(django_wsrealtime, name).__doc__
        or getattr(django_wsrealtime, name).__doc__.startswith(f"{name}(")  # by a dataclass
    ]
    assert silent == []


@pytest.mark.parametrize("package", [django_wsrealtime, testing])
def test_every_public_name_stands_in_the_reference(package: Any) -> None:
    text = (Path(__file__).parent.parent / "docs/reference/python.md").read_text(encoding="utf-8")
    assert [name for name in package.__all__ if f"{name}" not in text] == []


def test_where_the_project_finds_the_app() -> None:
    from django_wsrealtime.asgi import get_asgi_application
    from django_wsrealtime.middleware import RealtimeMiddleware
    from django_wsrealtime.urls import websocket_urlpatterns

    paths = "django_wsrealtime.urls.websocket_urlpatterns"
    for patterns in (None, [], websocket_urlpatterns, paths):
        made: Any = get_asgi_application(websocket_urlpatterns=patterns)
        assert made.application_mapping.keys() == {"http", "websocket", "lifespan"}
    assert RealtimeMiddleware.async_capable
    assert RealtimeMiddleware.sync_capable
    assert len(websocket_urlpatterns) == 1


# Topics --------------------------------------------------------------------------------------


class TopicTests(Promises):
    def test_one_topic(self) -> None:
        topic = self.Orders(store_id=7)
        assert topic.name == "orders/7"
        with self.assertPublished("orders/7", event="flash", count=1):
            topic.publish("flash", {"text": "…"})
        [event] = topic.read_history()
        assert (event.event, event.data) == ("flash", {"text": "…"})
        assert topic.members() == []

    async def test_one_topic_in_a_coroutine(self) -> None:
        topic = self.Orders(store_id=7)
        await topic.apublish("flash", 1)
        assert [event.data for event in await topic.aread_history()] == [1]
        async with RealtimeClient(application, user=self.ada) as client:
            orders = await client.subscribe("orders/7")
            await client.until(lambda: bool(orders.members))
            assert [member.name for member in await topic.amembers()] == ["ada"]
            topic.disconnect(self.ada)
            await client.until(lambda: orders.resets == ["revoked"])

    def test_the_examples_pass_the_checks(self) -> None:
        assert check_topics() == []

    def test_a_revalidate_on_that_nothing_acts_on_yet_is_told(self) -> None:
        self.Room.revalidate_on = [StoreMembership]
        [message] = check_topics()
        assert message.id == "wsrealtime.W053"
        assert "recheck(user)" in (message.hint or "")

    async def test_rules_and_a_snapshot(self) -> None:
        async with RealtimeClient(application) as client, RealtimeClient(application) as other:
            for closed in ("room/closed", "orders/7"):
                with pytest.raises(RequestFailed, match="forbidden"):
                    await client.subscribe(closed)
            room = await client.subscribe("room/lobby")
            assert room.snapshot == {"messages": [{"key": "1", "text": "hello"}]}
            heard = await other.subscribe("room/lobby")
            await client.publish("room/lobby", "message", {"text": "hi"})
            assert (await heard.next_event())["kind"] == "client"
            with pytest.raises(RequestFailed, match="forbidden"):
                await client.publish("room/lobby", "html", "<b>")
            client.whisper("room/lobby", "typing", {})
            await other.until(lambda: len(heard.whispers) == 1)

    async def test_an_action(self) -> None:
        async with RealtimeClient(application, user=self.ada) as client:
            orders = await client.subscribe("orders/7")
            answer = await client.call(
                "orders/7", "mark_ready", {"order_id": self.order.pk, "note": "n"}, key="k"
            )
            assert answer == {"by": "ada", "language": "en", "key": "k"}
            event = await orders.next_event()
            assert (event["data"], event["origin"]) == ({"note": "n"}, client.tab)
            for data, message in (
                ({}, "'order_id' is missing"),
                ({"order_id": "5"}, "'order_id' is '5'; expected int"),
                ({"order_id": 0}, "That order is not yours."),
            ):
                with pytest.raises(RequestFailed, match=message) as failed:
                    await client.call("orders/7", "mark_ready", data)
                assert failed.value.code == "invalid_data"
            await client.call("orders/7", "mark_ready", {"order_id": self.order.pk})
            with pytest.raises(RequestFailed, match="may be called 5/s") as failed:
                await client.call("orders/7", "mark_ready", {"order_id": self.order.pk})
            assert failed.value.frame["retry_after"] > 0
            with pytest.raises(RequestFailed, match="there is: 'mark_ready'"):
                await client.call("orders/7", "delete")

    async def test_history_from_join(self) -> None:
        self.Room.history = History(size=100, ttl=300, from_="join")
        await apublish("room/lobby", "before")
        async with RealtimeClient(application, user=self.ada) as client:
            room = await client.subscribe("room/lobby", since=0)
            await apublish("room/lobby", "after")
            assert (await room.next_event())["event"] == "after"


# Streams -------------------------------------------------------------------------------------


class StreamTests(Promises):
    def test_upsert_and_remove(self) -> None:
        with self.assertPublished("orders/7", event="upsert", count=1) as published:
            self.order.status = Order.Status.READY
            self.order.save()
        [event] = published
        assert event.data == {
            "pk": self.order.pk,
            "row": {
                "id": self.order.pk,
                "number": "A1",
                "status": "ready",
                "total": "0.00",
                "customer__name": "Cy",
            },
        }
        with self.assertPublished("orders/7", event="remove", count=1) as published:
            self.order.archived = True
            self.order.save()
        assert published[0].data == {"pk": self.order.pk}

    def test_a_related_object_changes(self) -> None:
        assert self.order.customer is not None
        with self.assertPublished("orders/7", event="upsert", count=1) as published:
            self.order.customer.name = "Di"
            self.order.customer.save()
        assert published[0].data["row"]["customer__name"] == "Di"

    def test_suppressed(self) -> None:
        with self.assertNothingPublished(), suppress_publishing():
            self.order.save()

    def test_rows_changed(self) -> None:
        orders = Order.objects.filter(store=7)
        with self.assertPublished("orders/7", event="upsert", count=1):
            with connection.cursor() as cursor:
                cursor.execute("UPDATE testapp_order SET number = 'B1'")
            rows_changed(orders)

    def test_bulk_statements(self) -> None:
        assert isinstance(Part.objects, RealtimeManager)
        assert isinstance(Part.objects.all(), RealtimeQuerySet)

        @register("parts")
        class Parts(ModelStream):
            model = Part
            fields = ["id"]
            public = True

        with self.assertPublished("parts", event="upsert", count=2):
            Part.objects.bulk_create([Part(shelf=1, code="a"), Part(shelf=1, code="b")])
        with self.assertPublished("parts", event="remove", count=2):
            Part.objects.all().delete()


# Publishing ----------------------------------------------------------------------------------


class PublishTests(Promises):
    def published(self) -> list[Any]:
        return [event.data for event in self.Room(slug="a").read_history()]

    def test_a_topic_or_its_name(self) -> None:
        with self.assertPublished("room/a", count=2):
            publish("room/a", "n", 1)
            publish(self.Room(slug="a"), "n", 2)

    def test_on_commit(self) -> None:
        with self.assertNothingPublished(), transaction.atomic():
            publish("room/a", "n", 1)
            transaction.set_rollback(True)
        with self.assertPublished("room/a", count=1), transaction.atomic():
            publish("room/a", "n", 2, on_commit=False)
            transaction.set_rollback(True)

    def test_using(self) -> None:
        with self.assertNothingPublished(), transaction.atomic(using="other"):
            publish("room/a", "n", 1, using="other")
            transaction.set_rollback(True, using="other")

    def test_key(self) -> None:
        with self.assertPublished("room/a", count=1):
            publish("room/a", "n", 1, key="idempotency-key")
            publish("room/a", "n", 1, key="idempotency-key")

    def test_origin(self) -> None:
        by_header: HttpRequest = RequestFactory().get("/", headers={"X-Realtime-Tab": "tab1"})
        by_field: HttpRequest = RequestFactory().post("/", {"_realtime_tab": "tab2"})
        for origin in (by_header, by_field, "tab3", None):
            publish("room/a", "n", origin=origin, on_commit=False)
        origins = [event.origin for event in self.Room(slug="a").read_history()]
        assert origins == ["tab1", "tab2", "tab3", None]

    async def test_in_a_running_loop(self) -> None:
        await apublish("room/a", "n", 1)
        await sync_to_async(publish)("room/a", "n", 2, on_commit=False)
        assert await sync_to_async(self.published)() == [1, 2]


# Users ---------------------------------------------------------------------------------------


class UserTests(Promises):
    async def test_disconnect(self) -> None:
        for reconnect, code in ((False, 4502), (True, 4102)):
            async with RealtimeClient(application, user=self.ada) as client:
                disconnect(self.ada, reason="…", reconnect=reconnect)
                assert (await client.closed()).code == code

    async def test_recheck(self) -> None:
        async with RealtimeClient(application, user=self.ada) as client:
            orders = await client.subscribe("orders/7")
            await StoreMembership.objects.all().adelete()
            recheck(self.ada)
            await client.until(lambda: orders.resets == ["revoked"])


# Listening -----------------------------------------------------------------------------------


class ListenTests(Promises):
    async def test_a_bot(self) -> None:
        joined = asyncio.Event()

        async def bot() -> list[Any]:
            heard = []
            async for event in asubscribe("orders/7", since=None, joined=joined.set):
                heard.append((event.event, event.data))
                if len(heard) == 2:
                    break
            return heard

        async with RealtimeClient(application):
            task = asyncio.create_task(bot())
            await joined.wait()
            await apublish("orders/7", "flash", {"text": "…"})
            await apublish("orders/7", "stroke", b"\x00\x01")
            heard = await asyncio.wait_for(task, 5)
        assert heard == [("flash", {"text": "…"}), ("stroke", b"\x00\x01")]

    async def test_a_bot_goes_on_where_it_stopped(self) -> None:
        await apublish("room/a", "n", 1)
        [first] = await self.Room(slug="a").aread_history()
        await apublish("room/a", "n", b"2")
        await apublish("room/a", "n", 3)
        async with RealtimeClient(application):
            heard = []
            async for event in asubscribe(self.Room(slug="a"), since=first.position):
                heard.append(event)
                if len(heard) == 2:
                    break
        assert [event.data for event in heard] == [b"2", 3]
        assert [event.position.offset for event in heard] == [2, 3]


# Templates -----------------------------------------------------------------------------------


class TagTests(Promises):
    def test_the_tags(self) -> None:
        request = RequestFactory().get("/")
        request.user = AnonymousUser()
        html = Template(
            "{% load wsrealtime %}{% realtime_script %}{% live_connection %}"
            '{% live_presence "orders/7" %}{% live_presence "orders" store_id=7 %}'
        )
        from django_wsrealtime.middleware import take_since

        request.realtime_since = take_since()  # type: ignore[attr-defined]
        request.realtime_vary = False  # type: ignore[attr-defined]
        rendered = html.render(Context({"request": request}))
        assert "data-since" in rendered
        assert rendered.count('<wsrealtime-presence topic="orders/7"') == 2
        assert "<wsrealtime-connection" in rendered


# The testing kit -----------------------------------------------------------------------------


class KitTests(Promises):
    def test_assert_published(self) -> None:
        with self.assertPublished("orders/7", event="upsert", count=1):
            self.order.save()

    async def test_client(self) -> None:
        async with RealtimeClient(application, user=self.ada) as client:
            orders = await client.subscribe("orders/7")
            await apublish("orders/7", "flash", 1)
            assert (await orders.next_event())["data"] == 1
            await client.drop()
            await apublish("orders/7", "flash", 2)
            await client.resume()
            assert (await orders.next_event())["data"] == 2
            assert orders.resets == []
