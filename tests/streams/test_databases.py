"""Several databases: a row is the row of its database, and waits for its database's commit."""

from typing import Any

import pytest
from django.db import transaction
from django.db.models import QuerySet

from django_wsrealtime import rows_changed
from django_wsrealtime.streams import ModelStream
from tests.streams.conftest import Bus, Declare
from tests.testapp.models import Node, Part

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_rows_are_read_from_where_they_were_saved(declare: Declare, bus: Bus) -> None:
    declare("nodes", model=Node, fields=["name"])
    Node.objects.using("other").create(pk=1, name="other")
    assert bus.row() == {"name": "other"}
    Node(pk=1, name="default").save(using="default")
    one = Node.objects.using("other").get(pk=1)
    one.name = "changed"
    one.save()
    assert bus.row() == {"name": "changed"}
    one.delete()
    assert [event for _, event, _ in bus.take()] == ["upsert", "upsert", "upsert", "remove"]
    assert len(bus.broker._rows) == 2


def test_each_database_has_its_own_transaction(declare: Declare, bus: Bus) -> None:
    declare("nodes", model=Node, fields=["name"])
    with transaction.atomic(using="other"):
        Node.objects.using("other").create(pk=1, name="other")
        Node.objects.create(pk=2, name="default")
        assert bus.take() == [("nodes", "upsert", 2)]
    assert bus.take() == [("nodes", "upsert", 1)]


def test_a_stream_may_be_bound_to_one_database(declare: Declare, bus: Bus) -> None:
    class Bound(ModelStream):
        def get_queryset(self) -> QuerySet[Any]:
            return super().get_queryset().using("other")

    stream = declare("nodes", bases=(Bound,), model=Node, fields=["name"])
    Node.objects.create(pk=1, name="default")
    assert bus.take() == []
    Node.objects.using("other").create(pk=1, name="other")
    assert bus.row() == {"name": "other"}
    assert [row["row"] for row in stream().snapshot()["rows"]] == [{"name": "other"}]


def test_statements_in_another_database(declare: Declare, bus: Bus) -> None:
    declare("parts", model=Part, fields=["stock"])
    parts = Part.objects.using("other")
    parts.bulk_create([Part(pk=1, shelf=1, code="a")])
    with transaction.atomic(using="other"):
        parts.update(stock=3)
        assert len(bus.take()) == 1
    assert bus.row() == {"stock": 3}
    parts.raw("SELECT 1")
    rows_changed(parts.filter(pk=1))
    rows_changed(parts.get(pk=1))
    rows_changed(Part(pk=1), using="other")
    assert bus.take() == [("parts", "upsert", 1)] * 4
