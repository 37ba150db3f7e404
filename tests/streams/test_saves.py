"""Created, updated and deleted rows reach their topics, once per transaction."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F, QuerySet

from django_wsrealtime import suppress_publishing
from django_wsrealtime.streams import ModelStream
from tests.streams.conftest import Bus, Declare
from tests.testapp.models import Customer, Order, ProxyOrder, Store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stores() -> list[Store]:
    return [Store.objects.create(pk=pk, name=f"Store {pk}") for pk in (1, 2, 3)]


@pytest.fixture
def orders(declare: Declare, bus: Bus, stores: list[Store]) -> type[ModelStream]:
    """Orders by store, with a related field."""
    return declare(
        "orders/<int:store_id>",
        model=Order,
        fields=["number", "status", "total", "customer__name"],
        depends_on={Customer: "customer"},
        partition_by={"store_id": "store_id"},
    )


class Open(ModelStream):
    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().filter(archived=False)


@pytest.fixture
def open_orders(declare: Declare, bus: Bus, stores: list[Store]) -> type[ModelStream]:
    """Orders that are not archived, in one topic."""
    return declare("open", bases=(Open,), model=Order, fields=["number"])


def order(**values: Any) -> Order:
    return Order.objects.create(**{"store_id": 1, "number": "A1", **values})


def test_a_created_row_is_sent_with_its_declared_fields(orders: Any, bus: Bus) -> None:
    one = order(total=Decimal("12.50"), note="secret")
    assert bus.row() == {"number": "A1", "status": "new", "total": "12.50", "customer__name": None}
    assert bus.take() == [("orders/1", "upsert", one.pk)]


def test_values_are_sent_as_the_database_holds_them(orders: Any, bus: Bus) -> None:
    order(total=5)
    assert bus.row()["total"] == "5.00"
    order(total="7.5", status=Order.Status.READY)
    assert bus.row()["total"] == "7.50"
    assert bus.row()["status"] == "ready"


def test_an_updated_row_is_sent_again(orders: Any, bus: Bus) -> None:
    one = order()
    bus.take()
    one.status = "done"
    one.save()
    assert bus.row()["status"] == "done"
    assert bus.take() == [("orders/1", "upsert", one.pk)]


def test_a_row_that_moves_leaves_its_old_topic(orders: Any, bus: Bus) -> None:
    one = order()
    bus.take()
    one.store_id = 2
    one.save()
    assert bus.take() == [("orders/1", "remove", one.pk), ("orders/2", "upsert", one.pk)]


def test_an_old_topic_is_told_though_the_broker_has_forgotten_the_row(
    orders: Any, bus: Bus
) -> None:
    one = order()
    bus.take()
    bus.broker._rows.clear()
    one.store_id = 2
    one.save()
    assert bus.take() == [("orders/1", "remove", one.pk), ("orders/2", "upsert", one.pk)]


def test_a_deleted_row_is_removed(orders: Any, bus: Bus) -> None:
    one = order()
    pk = one.pk
    bus.take()
    bus.broker._rows.clear()
    one.delete()
    assert bus.take() == [("orders/1", "remove", pk)]


def test_a_queryset_deletes_row_by_row(orders: Any, bus: Bus) -> None:
    pks = [order(store_id=store).pk for store in (1, 1, 2)]
    bus.take()
    Order.objects.all().delete()
    assert bus.take() == [
        ("orders/1", "remove", pks[0]),
        ("orders/1", "remove", pks[1]),
        ("orders/2", "remove", pks[2]),
    ]


def test_cascades_are_told(orders: Any, bus: Bus) -> None:
    pks = [order(store_id=store).pk for store in (1, 1, 2)]
    bus.take()
    Store.objects.get(pk=1).delete()
    assert bus.take() == [("orders/1", "remove", pk) for pk in pks[:2]]


def test_deleting_an_instance_whose_values_were_changed_tells_the_topic_it_was_in(
    orders: Any, bus: Bus
) -> None:
    one = order()
    pk = one.pk
    bus.take()
    bus.broker._rows.clear()
    one.store_id = 2
    one.delete()
    assert bus.take() == [("orders/1", "remove", pk)]


def test_a_transaction_sends_one_message_per_row(orders: Any, bus: Bus) -> None:
    with transaction.atomic():
        one = order()
        for status in ("ready", "done"):
            one.status = status
            one.save()
        assert bus.take() == []
    assert bus.row()["status"] == "done"
    assert bus.take() == [("orders/1", "upsert", one.pk)]


def test_a_transaction_draws_one_ticket(
    orders: Any, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = iter([7])
    monkeypatch.setattr(bus.broker, "ticket", lambda: next(tickets))
    with transaction.atomic():
        for _ in range(3):
            order()
    assert len(bus.take()) == 3
    assert list(tickets) == []


def test_a_transaction_rolled_back_sends_nothing(orders: Any, bus: Bus) -> None:
    with transaction.atomic():
        order()
        transaction.set_rollback(True)
    assert bus.take() == []


def test_a_savepoint_rolled_back_sends_nothing(orders: Any, bus: Bus) -> None:
    one = order()
    other = order()
    bus.take()
    with transaction.atomic():
        one.status = "ready"
        one.save()
        with transaction.atomic():
            one.status = "done"
            one.save()
            other.status = "done"
            other.save()
            order()
            transaction.set_rollback(True)
    assert bus.row()["status"] == "ready"
    assert bus.take() == [("orders/1", "upsert", one.pk)]


def test_a_savepoint_rolled_back_by_hand_sends_what_was_committed(orders: Any, bus: Bus) -> None:
    one = order()
    bus.take()
    with transaction.atomic():
        # Django 6.1 renames savepoint() to savepoint_create().
        create = getattr(transaction, "savepoint_create", None) or transaction.savepoint
        savepoint = create()
        one.status = "done"
        one.save()
        transaction.savepoint_rollback(savepoint)
    assert [row["status"] for row in bus.rows] == ["new"]


def test_a_row_saved_in_a_released_savepoint_is_sent_once(orders: Any, bus: Bus) -> None:
    one = order()
    bus.take()
    with transaction.atomic():
        one.status = "ready"
        one.save()
        with transaction.atomic():
            one.status = "done"
            one.save()
    assert bus.row()["status"] == "done"
    assert bus.take() == [("orders/1", "upsert", one.pk)]


def test_what_is_created_and_deleted_in_one_transaction_was_never_there(
    orders: Any, bus: Bus
) -> None:
    with transaction.atomic():
        order().delete()
    assert bus.take() == []


def test_a_row_that_moves_twice_in_a_transaction_is_told_to_the_first_and_the_last(
    orders: Any, bus: Bus
) -> None:
    one = order()
    bus.take()
    with transaction.atomic():
        for store in (2, 3):
            one.store_id = store
            one.save()
    assert bus.take() == [("orders/1", "remove", one.pk), ("orders/3", "upsert", one.pk)]


def test_fields_nobody_follows_send_nothing_and_ask_nothing(
    orders: Any, bus: Bus, django_assert_num_queries: Any
) -> None:
    one = order()
    bus.take()
    one.note = "x"
    with django_assert_num_queries(1):
        one.save(update_fields=["note"])
    assert bus.take() == []


def test_expressions_are_sent_as_values(orders: Any, bus: Bus) -> None:
    one = order(total=Decimal("2.00"))
    one.total = F("total") * 3
    one.save()
    assert bus.row()["total"] == "6.00"


def test_a_partition_may_be_moved_by_an_expression(orders: Any, bus: Bus) -> None:
    one = order()
    bus.take()
    one.store_id = F("store_id") + 1
    one.save()
    assert bus.take() == [("orders/1", "remove", one.pk), ("orders/2", "upsert", one.pk)]


def test_deferred_fields_are_read(orders: Any, bus: Bus) -> None:
    pk = order(total=Decimal("2.00")).pk
    bus.take()
    one = Order.objects.only("status").get(pk=pk)
    one.status = "done"
    one.save()
    assert bus.row() == {"number": "A1", "status": "done", "total": "2.00", "customer__name": None}


def test_a_proxy_saves_the_same_rows(orders: Any, bus: Bus) -> None:
    one = ProxyOrder.objects.create(store_id=1, number="P")
    one.store_id = 2
    one.save()
    pk = one.pk
    one.delete()
    assert bus.take() == [
        ("orders/1", "upsert", pk),
        ("orders/1", "remove", pk),
        ("orders/2", "upsert", pk),
        ("orders/2", "remove", pk),
    ]


def test_saving_with_a_known_key_is_an_update(orders: Any, bus: Bus) -> None:
    pk = order().pk
    bus.take()
    bus.broker._rows.clear()
    Order(pk=pk, store_id=2, number="B").save()
    assert bus.take() == [("orders/1", "remove", pk), ("orders/2", "upsert", pk)]


def test_a_row_created_again_under_its_old_key_is_sent(orders: Any, bus: Bus) -> None:
    one = order()
    pk = one.pk
    one.delete()
    bus.take()
    order(pk=pk, number="again")
    assert bus.row()["number"] == "again"
    assert bus.take() == [("orders/1", "upsert", pk)]


def test_a_key_given_as_text_is_the_same_key(orders: Any, bus: Bus) -> None:
    pk = order().pk
    bus.take()
    one = Order(pk=str(pk), store_id=2, number="B")
    one.save()
    assert bus.take() == [("orders/1", "remove", pk), ("orders/2", "upsert", pk)]


def test_rows_enter_and_leave_a_filter(open_orders: Any, bus: Bus) -> None:
    one = order()
    assert bus.take() == [("open", "upsert", one.pk)]
    one.archived = True
    one.save()
    assert bus.take() == [("open", "remove", one.pk)]
    one.save()
    assert bus.take() == []
    one.archived = False
    one.save(update_fields=["archived"])
    assert bus.take() == [("open", "upsert", one.pk)]


def test_a_row_that_never_passed_the_filter_is_not_heard_of(open_orders: Any, bus: Bus) -> None:
    one = order(archived=True)
    one.number = "B"
    one.save()
    one.delete()
    with transaction.atomic():
        order(archived=True).save()
    assert bus.take() == []


def test_a_row_left_the_filter_though_the_broker_has_forgotten_it(
    open_orders: Any, bus: Bus
) -> None:
    one = order()
    bus.take()
    bus.broker._rows.clear()
    one.archived = True
    one.save()
    assert bus.take() == [("open", "remove", one.pk)]


def test_suppressed_changes_send_nothing(orders: Any, bus: Bus) -> None:
    with suppress_publishing():
        one = order()
        with suppress_publishing():
            one.save()
        one.save()
        one.delete()
    assert bus.take() == []
    order()
    assert len(bus.take()) == 1


def test_what_a_save_costs_in_queries(
    orders: Any, bus: Bus, django_assert_num_queries: Any
) -> None:
    order()  # compiles what is compiled once
    with django_assert_num_queries(2):  # INSERT, and the row with its related field
        one = order()
    with django_assert_num_queries(3):  # where it was, UPDATE, what it holds
        one.save()
    with django_assert_num_queries(2):  # `status` cannot move it
        one.save(update_fields=["status"])
    with django_assert_num_queries(2 + 2 * 3 + 1), transaction.atomic():
        for _ in range(3):
            order().save()  # created here: its place before needs no query
    assert connection.in_atomic_block is False


def test_a_row_created_alone_is_not_read_again(
    declare: Declare, bus: Bus, stores: list[Store], django_assert_num_queries: Any
) -> None:
    declare(
        "orders/<int:store_id>",
        model=Order,
        fields=["number", "status", "total", "updated"],
        partition_by={"store_id": "store_id"},
    )
    with django_assert_num_queries(1):
        one = order(status=Order.Status.READY, total=Decimal("1.00"))
    sent = bus.row()
    assert bus.take() == [("orders/1", "upsert", one.pk)]
    with transaction.atomic():
        Order.objects.get(pk=one.pk).save(update_fields=["status"])
    assert bus.row() == sent


def test_every_stream_of_a_model_is_told(declare: Declare, orders: Any, bus: Bus) -> None:
    declare("all", model=Order, fields=["number"])
    one = order()
    assert bus.take() == [("all", "upsert", one.pk), ("orders/1", "upsert", one.pk)]
    pk = one.pk
    one.delete()
    assert bus.take() == [("all", "remove", pk), ("orders/1", "remove", pk)]
