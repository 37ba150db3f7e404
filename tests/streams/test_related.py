"""Changes elsewhere that are news of a row: related objects, parents, many-to-many tables."""

from typing import Any

import pytest
from django.db import transaction
from django.db.models import Count, QuerySet

from django_wsrealtime.streams import ModelStream
from tests.streams.conftest import Bus, Declare
from tests.testapp.models import (
    Customer,
    Node,
    Order,
    Payment,
    Place,
    Restaurant,
    Shelf,
    Store,
    Tag,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def store(bus: Bus) -> Store:
    Store.objects.create(pk=2, name="Store 2")
    return Store.objects.create(pk=1, name="Store 1")


def order(**values: Any) -> Order:
    return Order.objects.create(**{"store_id": 1, "number": "A1", **values})


# --- foreign keys ---------------------------------------------------------------------------------


def test_a_related_field_changes(declare: Declare, bus: Bus, store: Store) -> None:
    declare(
        "orders/<int:store_id>",
        model=Order,
        fields=["number", "customer__name"],
        depends_on={Customer: "customer"},
        partition_by={"store_id": "store_id"},
    )
    ann = Customer.objects.create(name="Ann")
    mine = [order(customer=ann, store_id=pk).pk for pk in (1, 2)]
    order()
    bus.take()
    ann.name = "Anna"
    ann.save()
    assert bus.row()["customer__name"] == "Anna"
    assert bus.take() == [("orders/1", "upsert", mine[0]), ("orders/2", "upsert", mine[1])]


def test_a_related_field_nobody_follows(
    declare: Declare, bus: Bus, store: Store, django_assert_num_queries: Any
) -> None:
    declare(
        "payments",
        model=Payment,
        fields=["order__number"],
        depends_on={Order: "order"},
    )
    one = order()
    Payment.objects.create(order=one, amount=1)
    bus.take()
    one.note = "x"
    with django_assert_num_queries(1):
        one.save(update_fields=["note"])
    assert bus.take() == []
    with django_assert_num_queries(3):  # UPDATE, its payments, what they hold
        one.save(update_fields=["number"])
    assert len(bus.take()) == 1


def test_a_related_object_moves_the_row(declare: Declare, bus: Bus, store: Store) -> None:
    declare(
        "payments/<int:store_id>",
        model=Payment,
        fields=["amount"],
        depends_on={Order: "order"},
        partition_by={"store_id": "order__store_id"},
    )
    one = order()
    payment = Payment.objects.create(order=one, amount=1)
    assert bus.take() == [("payments/1", "upsert", payment.pk)]
    bus.broker._rows.clear()
    one.store_id = 2
    one.save()
    assert bus.take() == [
        ("payments/1", "remove", payment.pk),
        ("payments/2", "upsert", payment.pk),
    ]
    bus.broker._rows.clear()
    payment.order = order()
    payment.save()
    assert bus.take() == [
        ("payments/1", "upsert", payment.pk),
        ("payments/2", "remove", payment.pk),
    ]
    pk = payment.pk
    bus.broker._rows.clear()
    Store.objects.all().delete()
    assert bus.take() == [("payments/1", "remove", pk)]


def test_objects_that_point_to_the_row(declare: Declare, bus: Bus, store: Store) -> None:
    class Paid(ModelStream):
        def get_queryset(self) -> QuerySet[Any]:
            queryset: QuerySet[Any] = super().get_queryset().annotate(paid=Count("payments"))
            return queryset

    declare(
        "orders",
        bases=(Paid,),
        model=Order,
        fields=["number", "paid"],
        depends_on={Payment: "payments"},
    )
    first, second = order(), order()
    bus.take()
    payment = Payment.objects.create(order=first, amount=1)
    assert bus.row()["paid"] == 1
    assert bus.take() == [("orders", "upsert", first.pk)]
    payment.order = second
    payment.save()
    assert bus.take() == [("orders", "upsert", first.pk), ("orders", "upsert", second.pk)]
    payment.delete()
    assert bus.row()["paid"] == 0
    assert bus.take() == [("orders", "upsert", second.pk)]


def test_a_related_object_brings_rows_into_the_filter(
    declare: Declare, bus: Bus, store: Store
) -> None:
    class OfAnn(ModelStream):
        def get_queryset(self) -> QuerySet[Any]:
            return super().get_queryset().filter(customer__name="Ann")

    declare(
        "ann", bases=(OfAnn,), model=Order, fields=["number"], depends_on={Customer: "customer"}
    )
    bob = Customer.objects.create(name="Bob")
    one = order(customer=bob)
    assert bus.take() == []
    bob.name = "Ann"
    bob.save()
    assert bus.take() == [("ann", "upsert", one.pk)]
    bus.broker._rows.clear()
    bob.name = "Bob"
    bob.save()
    assert bus.take() == [("ann", "remove", one.pk)]


def test_a_key_set_to_null_by_a_deletion(declare: Declare, bus: Bus, store: Store) -> None:
    declare("shelves", model=Shelf, fields=["tag"])
    tag = Tag.objects.create(name="red")
    shelf = Shelf.objects.create(tag=tag)
    bus.take()
    tag.delete()
    assert bus.row() == {"tag": None}
    assert bus.take() == [("shelves", "upsert", shelf.pk)]


def test_a_tree_is_deleted_with_its_root(declare: Declare, bus: Bus) -> None:
    declare("nodes", model=Node, fields=["name"])
    root = Node.objects.create(name="root")
    child = Node.objects.create(name="child", parent=root)
    pks = sorted((root.pk, child.pk))
    bus.take()
    root.delete()
    assert bus.take() == [("nodes", "remove", pk) for pk in pks]


# --- parents and children -------------------------------------------------------------------------


def test_saving_a_parent_is_news_of_the_child(declare: Declare, bus: Bus) -> None:
    declare("restaurants", model=Restaurant, fields=["name", "serves_pizza"])
    Place.objects.create(name="no restaurant")
    one = Restaurant.objects.create(name="Roma", serves_pizza=True)
    assert bus.row() == {"name": "Roma", "serves_pizza": True}
    assert bus.take() == [("restaurants", "upsert", one.pk)]
    place = Place.objects.get(pk=one.pk)
    place.name = "Napoli"
    place.save()
    assert bus.row() == {"name": "Napoli", "serves_pizza": True}
    assert bus.take() == [("restaurants", "upsert", one.pk)]
    pk = place.pk
    place.delete()
    assert bus.take() == [("restaurants", "remove", pk)]


def test_saving_a_child_is_news_of_the_parent(declare: Declare, bus: Bus) -> None:
    declare("places", model=Place, fields=["name"])
    one = Restaurant.objects.create(name="Roma")
    assert bus.take() == [("places", "upsert", one.pk)]
    one.name = "Napoli"
    one.save()
    assert bus.row() == {"name": "Napoli"}
    assert bus.take() == [("places", "upsert", one.pk)]
    pk = one.pk
    one.delete()
    assert bus.take() == [("places", "remove", pk)]


def test_a_place_that_becomes_a_restaurant_enters(declare: Declare, bus: Bus) -> None:
    declare("restaurants", model=Restaurant, fields=["name"])
    declare("places", model=Place, fields=["name"])
    place = Place.objects.create(name="Roma")
    bus.take()
    Restaurant(place_ptr=place, name=place.name).save()
    assert bus.take() == [("places", "upsert", place.pk), ("restaurants", "upsert", place.pk)]


# --- many to many ---------------------------------------------------------------------------------


@pytest.fixture
def tagged(declare: Declare, bus: Bus, store: Store) -> type[ModelStream]:
    return declare(
        "orders",
        model=Order,
        fields=["number", "tags", "tags__name"],
        depends_on={Tag: "tags"},
    )


def test_several_values_are_a_list(tagged: Any, bus: Bus) -> None:
    red, blue = (Tag.objects.create(name=name) for name in ("red", "blue"))
    one = order()
    assert bus.row() == {"number": "A1", "tags": [], "tags__name": []}
    bus.take()
    one.tags.add(red, blue)
    assert bus.row() == {
        "number": "A1",
        "tags": [red.pk, blue.pk],
        "tags__name": ["red", "blue"],
    }
    assert bus.take() == [("orders", "upsert", one.pk)]


def test_the_relation_changes_from_either_side(tagged: Any, bus: Bus) -> None:
    red = Tag.objects.create(name="red")
    first, second = order(), order()
    bus.take()
    red.orders.set([first, second])
    assert bus.take() == [("orders", "upsert", first.pk), ("orders", "upsert", second.pk)]
    red.orders.remove(first)
    assert bus.take() == [("orders", "upsert", first.pk)]
    red.orders.clear()
    assert bus.row()["tags"] == []
    assert bus.take() == [("orders", "upsert", second.pk)]
    first.tags.set([red])
    assert bus.take() == [("orders", "upsert", first.pk)]
    first.tags.clear()
    assert bus.take() == [("orders", "upsert", first.pk)]
    first.tags.clear()
    second.tags.remove(red)
    bus.take()


def test_a_related_object_of_many_changes_and_is_deleted(tagged: Any, bus: Bus) -> None:
    red = Tag.objects.create(name="red")
    one = order()
    one.tags.add(red)
    bus.take()
    red.name = "scarlet"
    red.save()
    assert bus.row()["tags__name"] == ["scarlet"]
    bus.take()
    red.delete()
    assert bus.row()["tags__name"] == []
    assert bus.take() == [("orders", "upsert", one.pk)]


def test_a_row_may_be_in_several_topics(declare: Declare, bus: Bus, store: Store) -> None:
    stream = declare(
        "tagged/<int:tag>", model=Order, fields=["number"], partition_by={"tag": "tags"}
    )
    tags = [Tag.objects.create(pk=pk, name=str(pk)) for pk in (1, 2, 3)]
    one = order()
    assert bus.take() == []
    one.tags.add(tags[0], tags[1])
    assert bus.take() == [("tagged/1", "upsert", one.pk), ("tagged/2", "upsert", one.pk)]
    bus.broker._rows.clear()
    one.tags.set(tags[1:])
    assert bus.take() == [
        ("tagged/1", "remove", one.pk),
        ("tagged/2", "upsert", one.pk),
        ("tagged/3", "upsert", one.pk),
    ]
    assert [row["pk"] for row in stream(tag=2).snapshot()["rows"]] == [one.pk]
    bus.broker._rows.clear()
    tags[1].delete()
    assert bus.take() == [("tagged/2", "remove", one.pk), ("tagged/3", "upsert", one.pk)]


def test_clearing_brings_rows_into_a_filter(declare: Declare, bus: Bus, store: Store) -> None:
    class Untagged(ModelStream):
        def get_queryset(self) -> QuerySet[Any]:
            return super().get_queryset().filter(tags__isnull=True)

    declare("untagged", bases=(Untagged,), model=Order, fields=["number"], depends_on={Tag: "tags"})
    red = Tag.objects.create(name="red")
    one = order()
    bus.take()
    one.tags.add(red)
    assert bus.take() == [("untagged", "remove", one.pk)]
    red.orders.clear()
    assert bus.take() == [("untagged", "upsert", one.pk)]


def test_many_related_rows_become_one_reset(
    declare: Declare, bus: Bus, store: Store, settings: Any
) -> None:
    settings.WSREALTIME = {"LIMITS": {"bulk_rows": 2}}
    declare(
        "orders/<int:store_id>",
        model=Order,
        fields=["customer__name"],
        depends_on={Customer: "customer"},
        partition_by={"store_id": "store_id"},
    )
    ann = Customer.objects.create(name="Ann")
    with transaction.atomic():
        rows = [order(customer=ann, store_id=pk) for pk in (1, 1, 1, 2)]
    assert bus.take() == [("orders/1", "reset", "bulk"), ("orders/2", "upsert", rows[3].pk)]
    ann.save()
    assert bus.take() == [("orders/1", "reset", "bulk"), ("orders/2", "upsert", rows[3].pk)]
