"""What happens when the bus, the database or a declaration fails: no save does."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.db.models import QuerySet

from django_wsrealtime.errors import BrokerUnavailable
from django_wsrealtime.streams import ModelStream, connect, disconnect, rows
from tests.streams.conftest import Bus, Declare
from tests.testapp.models import Node, Order, Store

pytestmark = pytest.mark.django_db(transaction=True)


class Away:
    """The bus is away until it is told to come back."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._patch = monkeypatch
        monkeypatch.setattr(bus.broker, "ticket", self._fail)
        monkeypatch.setattr(bus.broker, "append", self._fail)
        monkeypatch.setattr(bus.broker, "when_back", self._callbacks.append)

    def _fail(self, *args: Any) -> Any:
        raise BrokerUnavailable("gone")

    def come_back(self) -> None:
        self._patch.undo()
        for callback in self._callbacks:
            callback()


@pytest.fixture
def orders(declare: Declare, bus: Bus) -> type[ModelStream]:
    for pk in (1, 2, 3):
        Store.objects.create(pk=pk, name=str(pk))
    return declare(
        "orders/<int:store_id>",
        model=Order,
        fields=["number"],
        partition_by={"store_id": "store_id"},
    )


def test_topics_are_reset_when_the_bus_is_back(
    orders: Any, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Order.objects.create(store_id=1, number="a")
    bus.take()
    away = Away(bus, monkeypatch)
    moved.store_id = 2
    moved.save()
    Order.objects.create(store_id=3, number="b")
    assert bus.take() == []
    away.come_back()
    assert bus.take() == [(f"orders/{store}", "reset", "lost") for store in (1, 2, 3)]


def test_a_row_that_cannot_be_read_again_resets_the_topics_it_was_in(
    orders: Any, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Order.objects.create(store_id=1, number="a")
    bus.take()

    def fail(*args: Any) -> Any:
        raise DatabaseError("gone")

    one.store_id = 2
    with monkeypatch.context() as patch:
        patch.setattr(rows, "read", fail)
        one.save()
    assert bus.take() == [("orders/1", "reset", "lost"), ("orders/2", "reset", "lost")]


def test_a_row_that_no_topic_can_be_named_after_is_in_none(declare: Declare, bus: Bus) -> None:
    declare("nodes/<int:parent>", model=Node, fields=["name"], partition_by={"parent": "parent_id"})
    root = Node.objects.create(name="root")
    assert bus.take() == []
    child = Node.objects.create(name="child", parent=root)
    assert bus.take() == [(f"nodes/{root.pk}", "upsert", child.pk)]
    Node.objects.create(pk=-5, name="odd")
    Node.objects.create(name="child", parent_id=-5)
    assert bus.take() == []


def test_a_save_that_fails_leaves_nothing_behind(orders: Any, bus: Bus) -> None:
    one = Order.objects.create(store_id=1, number="a")
    bus.take()
    one.number = None  # type: ignore[assignment]
    with pytest.raises(DatabaseError):
        one.save()
    one.number = "b"
    with transaction.atomic():
        one.store_id = 2
        one.save()
        assert bus.take() == []
    assert bus.take() == [("orders/1", "remove", one.pk), ("orders/2", "upsert", one.pk)]


def test_a_queryset_that_changes_with_time_is_asked_again(
    declare: Declare, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a"

    class Named(ModelStream):
        def get_queryset(self) -> QuerySet[Any]:
            return super().get_queryset().filter(name=name)

    declare("nodes", bases=(Named,), model=Node, fields=["name"])
    monkeypatch.setattr(rows, "FRESH", 0.0)
    Node.objects.create(name="a").save()
    name = "b"
    Node.objects.create(name="b").save()
    assert len(bus.take()) == 4


def test_a_queryset_without_rows(declare: Declare, bus: Bus) -> None:
    class Nothing(ModelStream):
        def get_queryset(self) -> QuerySet[Any]:
            return super().get_queryset().none()

    stream = declare("nodes", bases=(Nothing,), model=Node, fields=["name"])
    Node.objects.create(name="a").save()
    assert bus.take() == []
    assert stream().snapshot() == {"rows": []}


def test_a_stream_that_names_what_does_not_exist_follows_nothing(
    declare: Declare, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    declare("nodes", model=Node, fields=["nam"])
    Node.objects.create(name="a")
    assert bus.take() == []
    assert "has no field 'nam'" in caplog.text


def test_what_is_disconnected_is_not_followed(declare: Declare, bus: Bus) -> None:
    declare("nodes", model=Node, fields=["name"])
    disconnect()
    Node.objects.create(name="a").delete()
    assert bus.take() == []
    connect()
    connect()
    Node.objects.create(name="a")
    assert len(bus.take()) == 1
