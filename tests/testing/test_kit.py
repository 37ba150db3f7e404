"""The testing kit, used as the tests of a user's project use it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from django_wsrealtime import Topic, publish, register
from django_wsrealtime.brokers import get_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.testing import RealtimeClient, RealtimeTestMixin
from django_wsrealtime.testing.client import RequestFailed
from django_wsrealtime.topics.registry import registry
from tests.asgi import application
from tests.testapp.models import Parcel


class AssertPublishedTests(RealtimeTestMixin, TestCase):
    parcel: ClassVar[Parcel]

    @classmethod
    def setUpTestData(cls) -> None:
        cls.parcel = Parcel.objects.create(depot=7, label="first")

    def test_a_save_is_published_although_the_test_never_commits(self) -> None:
        with self.assertPublished("depot/7", event="upsert", count=1) as published:
            self.parcel.label = "second"
            self.parcel.save()
        assert published[0].data["row"]["label"] == "second"
        assert published[0].key == str(self.parcel.pk)

    def test_every_save_counts_once_per_block(self) -> None:
        for number in range(3):
            with self.assertPublished("depot/7", count=1):
                self.parcel.label = str(number)
                self.parcel.save()

    def test_a_moved_row_is_removed_where_it_was(self) -> None:
        with (
            self.assertPublished("depot/7", event="remove", count=1),
            self.assertPublished("depot/8", event="upsert", count=1),
        ):
            self.parcel.depot = 8
            self.parcel.save()

    def test_what_is_rolled_back_is_not_published(self) -> None:
        with self.assertNothingPublished(), transaction.atomic():
            self.parcel.save()
            transaction.set_rollback(True)

    def test_the_failure_names_what_was_published_instead(self) -> None:
        with (
            self.assertRaisesMessage(
                AssertionError,
                "Expected 1 'remove' events on 'depot/7', got 0.",
            ),
            self.assertPublished("depot/7", event="remove", count=1),
        ):
            self.parcel.save()
        with (
            self.assertRaisesMessage(AssertionError, "Expected nothing to be published"),
            self.assertNothingPublished(),
        ):
            self.parcel.save()

    def test_plain_events_are_recorded_too(self) -> None:
        with self.assertPublished("site/a", event="news") as published:
            publish("site/a", "news", {"text": "hi"}, key="k")
        assert (published[0].data, published[0].key, published[0].kind) == (
            {"text": "hi"},
            "k",
            "app",
        )

    def test_each_test_has_a_broker_of_its_own(self) -> None:
        broker = get_broker()
        assert isinstance(broker, MemoryBroker)
        assert broker.heads({"depot/7": Topic.history}) == {}

    async def test_a_client_sees_what_the_tests_transaction_holds(self) -> None:
        user = await get_user_model().objects.acreate(username="ada")
        async with RealtimeClient(application, user=user) as client:
            depot = await client.subscribe("depot/7")
            assert depot.snapshot == {
                "rows": [
                    {
                        "pk": self.parcel.pk,
                        "row": {"id": self.parcel.pk, "label": "first", "weight": "0.000"},
                    }
                ]
            }


class RulesTests(RealtimeTestMixin, TestCase):
    """Rules read the database of the test, in the test's transaction."""

    def setUp(self) -> None:
        super().setUp()
        isolated = registry.isolated()
        isolated.__enter__()
        self.addCleanup(isolated.__exit__, None, None, None)

        @register("mine/<int:pk>")
        class Mine(Topic):
            pk: int

            def can_subscribe(self, user: Any) -> bool:
                return get_user_model().objects.filter(pk=user.pk, is_staff=True).exists()

    async def test_a_rule_is_asked(self) -> None:
        users = get_user_model().objects
        staff = await users.acreate(username="staff", is_staff=True)
        other = await users.acreate(username="other")
        async with RealtimeClient(application, user=staff) as client:
            await client.subscribe("mine/1")
        async with RealtimeClient(application, user=other) as client:
            with pytest.raises(RequestFailed, match="rules do not allow"):
                await client.subscribe("mine/1")


class ClientTests(RealtimeTestMixin, TransactionTestCase):
    async def test_drop_and_resume(self) -> None:
        async with RealtimeClient(application) as client:
            depot = await client.subscribe("depot/7")
            await Parcel.objects.acreate(depot=7, label="a")
            event = await depot.next_event()
            assert event["data"]["row"]["label"] == "a"
            await client.drop()
            await Parcel.objects.acreate(depot=7, label="b")
            await client.resume()
            assert (await depot.next_event())["data"]["row"]["label"] == "b"
            assert depot.resets == []

    async def test_sessions_are_read_from_cookies(self) -> None:
        user = await get_user_model().objects.acreate(username="ada")
        await self.async_client.aforce_login(user)
        cookies = "; ".join(
            f"{name}={morsel.value}" for name, morsel in self.async_client.cookies.items()
        )
        async with RealtimeClient(application, headers={"cookie": cookies}) as client:
            assert client.welcome is not None
            assert client.welcome["user"] == {"id": str(user.pk), "name": "ada"}
        await sync_to_async(self.async_client.logout)()
        async with RealtimeClient(application, headers={"cookie": cookies}) as client:
            assert client.welcome is not None
            assert client.welcome["user"] is None
