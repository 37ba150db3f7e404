"""What rows look like in events, and in snapshots, which must be the same."""

import datetime
import uuid
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from asgiref.sync import async_to_sync
from django.core.files.base import ContentFile
from django.db import transaction

from django_wsrealtime.protocol import codec
from django_wsrealtime.streams import ModelStream
from django_wsrealtime.topics import serialize
from tests.streams.conftest import Bus, Declare
from tests.testapp.models import Everything, Item, Node, Order, Store

pytestmark = pytest.mark.django_db(transaction=True)

UTC = datetime.timezone.utc


def snapshot(stream: type[ModelStream], **params: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(
        codec.encode_data(stream(**params).snapshot(), default=serialize.default)
    )
    return decoded


@pytest.fixture
def everything(declare: Declare, bus: Bus) -> type[ModelStream]:
    fields = [field.name for field in Everything._meta.concrete_fields]
    return declare("everything", model=Everything, fields=fields)


def test_every_kind_of_value(everything: type[ModelStream], bus: Bus, settings: Any) -> None:
    settings.MEDIA_URL = "/media/"
    one = Everything.objects.create(
        big_integer=2**60,
        binary=b"\x00\x01",
        boolean=True,
        char="ä",
        colour=Everything.Colour.BLUE,
        date=datetime.date(2024, 2, 29),
        datetime=datetime.datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
        decimal=Decimal("1.5"),
        duration=datetime.timedelta(hours=1),
        file="files/a.txt",
        float=0.5,
        ip="::1",
        json={"a": [1, None, "ü"]},
        time=datetime.time(12, 30),
        url="https://example.com/",
        uuid=uuid.UUID(int=1),
    )
    row = bus.row()
    assert row == {
        "id": one.pk,
        "big_integer": str(2**60),
        "binary": "AAE=",
        "boolean": True,
        "char": "ä",
        "colour": 2,
        "date": "2024-02-29",
        "datetime": "2024-02-29T12:30:00Z",
        "decimal": "1.5000000000",
        "duration": "PT3600S",
        "file": "/media/files/a.txt",
        "float": 0.5,
        "ip": "::1",
        "json": {"a": [1, None, "ü"]},
        "text": "",
        "time": "12:30:00",
        "url": "https://example.com/",
        "uuid": "00000000-0000-0000-0000-000000000001",
    }
    assert snapshot(everything) == {"rows": [{"pk": one.pk, "row": row}]}


def test_nothing_is_null(everything: type[ModelStream], bus: Bus) -> None:
    Everything.objects.create()
    row = bus.row()
    assert row["file"] is None
    assert row["decimal"] is None
    assert row["json"] is None
    assert snapshot(everything)["rows"][0]["row"] == row


def test_a_file_that_is_saved_with_its_row(
    everything: Any, bus: Bus, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    settings.MEDIA_URL = "/media/"
    Everything.objects.create(file=ContentFile(b"x", name="b.txt"))
    assert bus.row()["file"] == "/media/files/b.txt"


def test_a_key_that_is_no_number(declare: Declare, bus: Bus) -> None:
    stream = declare("items", model=Item, fields=["name"])
    one = Item.objects.create(name="a")
    assert bus.take() == [("items", "upsert", str(one.pk))]
    assert snapshot(stream) == {"rows": [{"pk": str(one.pk), "row": {"name": "a"}}]}
    Item.objects.create(key=str(uuid.UUID(int=2)), name="b").save()
    two = str(uuid.UUID(int=2))
    assert bus.take() == [("items", "upsert", two), ("items", "upsert", two)]


def test_a_value_that_cannot_be_sent_resets_its_topic(
    declare: Declare, bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    declare("items", model=Item, fields=["name"])
    monkeypatch.setattr(
        Item._meta.get_field("name"), "from_db_value", lambda *args: object(), raising=False
    )
    with transaction.atomic():
        Item.objects.create(name="a")
    assert bus.take() == [("items", "reset", "lost")]
    assert "A row cannot be sent" in caplog.text


# --- snapshots ------------------------------------------------------------------------------------


@pytest.fixture
def orders(declare: Declare, bus: Bus) -> type[ModelStream]:
    for pk in (1, 2):
        Store.objects.create(pk=pk, name=str(pk))
    return declare(
        "orders/<int:store_id>",
        model=Order,
        fields=["number", "status"],
        partition_by={"store_id": "store_id"},
    )


def test_a_snapshot_holds_the_rows_of_its_topic(
    orders: type[ModelStream], django_assert_num_queries: Any
) -> None:
    for store in (1, 2, 1):
        Order.objects.create(store_id=store, number=f"{store}")
    topic = orders(store_id=1)
    with django_assert_num_queries(1):
        rows = topic.snapshot()["rows"]
    assert [row["row"]["number"] for row in rows] == ["1", "1"]
    assert [row["pk"] for row in rows] == sorted(row["pk"] for row in rows)
    assert topic.has_snapshot
    assert topic.keyed


def test_a_snapshot_keeps_the_order_of_its_queryset(declare: Declare, bus: Bus) -> None:
    class Named(ModelStream):
        def get_queryset(self) -> Any:
            return super().get_queryset().order_by("-name")

    stream = declare("nodes", bases=(Named,), model=Node, fields=["name"])
    for name in "bca":
        Node.objects.create(name=name)
    rows = stream().snapshot()["rows"]
    assert [row["row"]["name"] for row in rows] == ["c", "b", "a"]


def test_a_snapshot_that_is_too_long_says_so(
    orders: type[ModelStream], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        Order.objects.create(store_id=1, number=str(number))
    settings.WSREALTIME = {"LIMITS": {"snapshot_rows": 4}}
    assert "truncated" not in orders(store_id=1).snapshot()
    settings.WSREALTIME = {"LIMITS": {"snapshot_rows": 3}}
    cut = orders(store_id=1).snapshot()
    assert [row["row"]["number"] for row in cut["rows"]] == ["0", "1", "2"]
    assert cut["truncated"] is True
    assert "more than 3 rows" in caplog.text


def test_a_snapshot_is_sent_in_pieces(orders: type[ModelStream]) -> None:
    Order.objects.create(store_id=1, number="x")
    pieces = async_to_sync(orders(store_id=1).make_snapshot)()
    assert [msgspec.json.decode(piece)["rows"][0]["row"]["number"] for piece in pieces] == ["x"]
