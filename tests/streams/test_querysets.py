"""Statements on many rows at once, for which Django sends no signals."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.models import F, Value

from django_wsrealtime import RealtimeManager, RealtimeQuerySet, rows_changed, suppress_publishing
from django_wsrealtime.streams import ModelStream
from tests.streams.conftest import Bus, Declare
from tests.testapp.models import Part, PartUse

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def parts(declare: Declare, bus: Bus) -> type[ModelStream]:
    return declare(
        "parts/<int:shelf>",
        model=Part,
        fields=["code", "stock"],
        partition_by={"shelf": "shelf"},
    )


@pytest.fixture
def rows(parts: type[ModelStream], bus: Bus) -> list[Part]:
    """Two parts on shelf 1, one on shelf 2; the broker has not heard of them."""
    with suppress_publishing():
        return [
            Part.objects.create(shelf=shelf, code=code)
            for shelf, code in ((1, "a"), (1, "b"), (2, "c"))
        ]


@pytest.fixture
def few(settings: Any) -> None:
    """Two rows per topic are one by one, three are many; more than 50 are not remembered."""
    settings.WSREALTIME = {"LIMITS": {"bulk_rows": 2}}


# --- update ---------------------------------------------------------------------------------------


def test_updated_rows_are_sent(rows: list[Part], bus: Bus) -> None:
    assert Part.objects.filter(shelf=1).update(stock=F("stock") + 5) == 2
    assert [row["stock"] for row in bus.rows] == [5, 5]
    assert bus.take() == [("parts/1", "upsert", rows[0].pk), ("parts/1", "upsert", rows[1].pk)]


def test_rows_updated_out_of_their_own_filter_are_sent(rows: list[Part], bus: Bus) -> None:
    assert Part.objects.filter(shelf=1, code="a").update(shelf=3) == 1
    assert bus.take() == [("parts/1", "remove", rows[0].pk), ("parts/3", "upsert", rows[0].pk)]


def test_fields_nobody_follows_cost_nothing(
    declare: Declare, bus: Bus, django_assert_num_queries: Any
) -> None:
    declare("parts", model=Part, fields=["code"])
    Part.objects.create(shelf=1, code="a")
    bus.take()
    with django_assert_num_queries(1):
        Part.objects.update(stock=5)
    assert bus.take() == []


def test_an_update_that_is_rolled_back_sends_nothing(rows: list[Part], bus: Bus) -> None:
    with transaction.atomic():
        Part.objects.update(stock=1)
        transaction.set_rollback(True)
    assert bus.take() == []


def test_an_update_of_nothing(rows: list[Part], bus: Bus) -> None:
    assert Part.objects.filter(shelf=9).update(stock=1) == 0
    assert Part.objects.none().update(stock=1) == 0
    assert bus.take() == []


def test_more_rows_than_the_limit_become_one_reset_per_topic(
    rows: list[Part], bus: Bus, few: None
) -> None:
    with suppress_publishing():
        Part.objects.create(shelf=1, code="d")
    Part.objects.update(stock=1)
    assert bus.take() == [("parts/1", "reset", "bulk"), ("parts/2", "upsert", rows[2].pk)]


@pytest.mark.parametrize("shelf", [7, Value(7), F("shelf") + 6])
def test_more_rows_than_are_remembered_reset_the_topics_they_touch(
    parts: Any, bus: Bus, few: None, shelf: Any
) -> None:
    with suppress_publishing():
        Part.objects.bulk_create(Part(shelf=1, code=str(number)) for number in range(51))
        Part.objects.create(shelf=5, code="x")
    assert Part.objects.filter(shelf=1).update(shelf=shelf) == 51
    assert bus.take() == [("parts/1", "reset", "bulk"), ("parts/7", "reset", "bulk")]


def test_a_huge_update_that_moves_nothing_asks_for_topics_not_rows(
    parts: Any, bus: Bus, few: None, django_assert_num_queries: Any
) -> None:
    with suppress_publishing():
        Part.objects.bulk_create(Part(shelf=n % 3, code=str(n)) for n in range(60))
    with django_assert_num_queries(5):  # BEGIN, up to 51 keys, the topics, UPDATE, COMMIT
        Part.objects.update(stock=9)
    assert bus.take() == [(f"parts/{shelf}", "reset", "bulk") for shelf in range(3)]


def test_an_updated_related_object(declare: Declare, bus: Bus) -> None:
    declare("uses", model=PartUse, fields=["part__code"], depends_on={Part: "part"})
    part = Part.objects.create(shelf=1, code="a")
    use = PartUse.objects.create(part=part)
    bus.take()
    Part.objects.filter(shelf=1).update(code="b")
    assert bus.row() == {"part__code": "b"}
    assert bus.take() == [("uses", "upsert", use.pk)]
    Part.objects.update(stock=1)
    assert bus.take() == []


def test_huge_updates_of_related_objects(declare: Declare, bus: Bus, few: None) -> None:
    declare(
        "uses/<int:shelf>",
        model=PartUse,
        fields=["part__code"],
        depends_on={Part: "part"},
        partition_by={"shelf": "part__shelf"},
    )
    with suppress_publishing():
        parts = Part.objects.bulk_create(Part(shelf=1, code=str(n)) for n in range(51))
        PartUse.objects.create(part=parts[0])
    Part.objects.update(shelf=4)
    assert bus.take() == [("uses/1", "reset", "bulk"), ("uses/4", "reset", "bulk")]


# --- bulk_create, bulk_update ---------------------------------------------------------------------


def test_bulk_create(parts: Any, bus: Bus) -> None:
    created = Part.objects.bulk_create([Part(shelf=1, code="a"), Part(shelf=2, code="b")])
    assert bus.take() == [
        ("parts/1", "upsert", created[0].pk),
        ("parts/2", "upsert", created[1].pk),
    ]
    assert Part.objects.bulk_create([]) == []


def test_bulk_create_that_ignores_conflicts(rows: list[Part], bus: Bus) -> None:
    Part.objects.bulk_create(
        [Part(shelf=9, code="a"), Part(shelf=3, code="new")], ignore_conflicts=True
    )
    new = Part.objects.get(code="new")
    assert bus.take() == [("parts/3", "upsert", new.pk)]


def test_bulk_create_that_updates(rows: list[Part], bus: Bus) -> None:
    Part.objects.bulk_create(
        [Part(shelf=3, code="a", stock=5), Part(shelf=3, code="new")],
        update_conflicts=True,
        unique_fields=["code"],
        update_fields=["shelf", "stock"],
    )
    new = Part.objects.get(code="new")
    assert bus.take() == [
        ("parts/1", "remove", rows[0].pk),
        ("parts/3", "upsert", rows[0].pk),
        ("parts/3", "upsert", new.pk),
    ]


def test_bulk_create_on_a_database_that_tells_no_keys(
    rows: list[Part], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    Part.objects.bulk_create([Part(shelf=1, code="x"), Part(shelf=2, code="y")])
    x, y = Part.objects.get(code="x"), Part.objects.get(code="y")
    assert bus.take() == [("parts/1", "upsert", x.pk), ("parts/2", "upsert", y.pk)]


def test_bulk_create_of_many(parts: Any, bus: Bus, few: None) -> None:
    Part.objects.bulk_create(Part(shelf=n % 2, code=str(n)) for n in range(120))
    assert bus.take() == [("parts/0", "reset", "bulk"), ("parts/1", "reset", "bulk")]


def test_bulk_update(rows: list[Part], bus: Bus) -> None:
    rows[0].stock = 7
    rows[2].shelf = 3
    assert Part.objects.bulk_update([rows[0], rows[2]], ["stock", "shelf"]) == 2
    assert bus.take() == [
        ("parts/1", "upsert", rows[0].pk),
        ("parts/2", "remove", rows[2].pk),
        ("parts/3", "upsert", rows[2].pk),
    ]


def test_delete(rows: list[Part], bus: Bus) -> None:
    pks = [row.pk for row in rows]
    Part.objects.filter(shelf=1).delete()
    assert bus.take() == [("parts/1", "remove", pks[0]), ("parts/1", "remove", pks[1])]


def test_deleting_many(parts: Any, bus: Bus, few: None) -> None:
    with suppress_publishing():
        Part.objects.bulk_create(Part(shelf=n % 2, code=str(n)) for n in range(120))
    Part.objects.all().delete()
    assert bus.take() == [("parts/0", "reset", "bulk"), ("parts/1", "reset", "bulk")]


def test_the_asynchronous_methods(rows: list[Part], bus: Bus) -> None:
    @async_to_sync
    async def change() -> None:
        await Part.objects.filter(code="a").aupdate(stock=1)
        await Part.objects.abulk_create([Part(shelf=1, code="new")])
        rows[1].stock = 3
        await Part.objects.abulk_update([rows[1]], ["stock"])
        await Part.objects.filter(code="c").adelete()

    deleted = rows[2].pk
    change()
    new = Part.objects.get(code="new")
    assert bus.take() == [
        ("parts/1", "upsert", rows[0].pk),
        ("parts/1", "upsert", new.pk),
        ("parts/1", "upsert", rows[1].pk),
        ("parts/2", "remove", deleted),
    ]


def test_other_managers_can_be_made_of_it() -> None:
    class Mine(RealtimeQuerySet[Part]):
        def stocked(self) -> "Mine":
            return self.filter(stock__gt=0)

    manager = RealtimeManager.from_queryset(Mine)()
    manager.model = Part
    for queryset in (manager.stocked(), Mine(Part).stocked(), Mine.as_manager().none()):
        assert isinstance(queryset, Mine)
    assert type(Part.objects.all()) is RealtimeQuerySet


# --- raw SQL --------------------------------------------------------------------------------------


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_rows_changed_by_raw_sql(rows: list[Part], bus: Bus) -> None:
    execute("UPDATE testapp_part SET stock = 4")
    rows_changed(Part.objects.filter(shelf=1))
    assert bus.row()["stock"] == 4
    assert bus.take() == [("parts/1", "upsert", rows[0].pk), ("parts/1", "upsert", rows[1].pk)]


def test_instances_tell_where_rows_were(rows: list[Part], bus: Bus) -> None:
    with transaction.atomic():
        execute("UPDATE testapp_part SET shelf = 3 WHERE code = 'a'")
        execute("DELETE FROM testapp_part WHERE code = 'c'")
        rows_changed([rows[0], rows[2]])
        assert bus.take() == []
    rows_changed(rows[1])
    assert bus.take() == [
        ("parts/1", "remove", rows[0].pk),
        ("parts/1", "upsert", rows[1].pk),
        ("parts/2", "remove", rows[2].pk),
        ("parts/3", "upsert", rows[0].pk),
    ]


def test_many_rows_changed_by_raw_sql(parts: Any, bus: Bus, few: None) -> None:
    with suppress_publishing():
        Part.objects.bulk_create(Part(shelf=n % 2, code=str(n)) for n in range(60))
        rows_changed(Part.objects.all())
    assert bus.take() == []
    rows_changed(Part.objects.all())
    assert bus.take() == [("parts/0", "reset", "bulk"), ("parts/1", "reset", "bulk")]
