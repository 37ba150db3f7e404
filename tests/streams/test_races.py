"""Two writers of one row, in every order of their steps: the last event is the committed row.

An onlooker takes a snapshot between any two steps and follows the log from there. Whenever they
looked first, in the end they hold what the database holds: nothing older, no ghost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.db import transaction
from django.db.models import F, QuerySet

from django_wsrealtime import suppress_publishing
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.base import Broker, Result, RowChange
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.protocol import codec
from django_wsrealtime.streams import ModelStream, publication, rows
from tests.brokers.redis_tools import broker_on
from tests.streams.conftest import HISTORY, Bus, Declare
from tests.streams.interleaving import Conductor
from tests.support.redis import RedisServer
from tests.testapp.models import Order, Store

pytestmark = pytest.mark.django_db(transaction=True)

PK = 5
TOPICS = ("orders/1", "orders/2", "orders/3")
Held = dict[str, dict[int, dict[str, Any]]]


class Open(ModelStream):
    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().filter(archived=False)


@pytest.fixture
def orders(request: pytest.FixtureRequest, declare: Declare, bus: Bus) -> type[ModelStream]:
    """Orders by store; with the parameter ``"filtered"`` those alone that are not archived."""
    for pk in (1, 2, 3):
        Store.objects.create(pk=pk, name=f"Store {pk}")
    return declare(
        "orders/<int:store_id>",
        bases=(Open,) if getattr(request, "param", "all") == "filtered" else (ModelStream,),
        model=Order,
        fields=["number", "total"],
        partition_by={"store_id": "store_id"},
    )


# --- what writers do -----------------------------------------------------------------------------


def save(**values: Any) -> Callable[[], None]:
    def job() -> None:
        order = Order.objects.filter(pk=PK).first()
        if order is not None:
            for name, value in values.items():
                setattr(order, name, value)
            order.save(update_fields=list(values))

    return job


def create(**values: Any) -> Callable[[], None]:
    return lambda: Order(pk=PK, **{"store_id": 1, "total": Decimal("0.00"), **values}).save(
        force_insert=True
    )


def delete() -> None:
    order = Order.objects.filter(pk=PK).first()
    if order is not None:
        order.delete()


def atomic(*jobs: Callable[[], None]) -> Callable[[], None]:
    def job() -> None:
        with transaction.atomic():
            for one in jobs:
                one()

    return job


# --- what an onlooker sees -----------------------------------------------------------------------


@dataclass
class Look:
    offsets: dict[str, int]
    held: Held


def in_database(stream: type[ModelStream]) -> Held:
    held: Held = {topic: {} for topic in TOPICS}
    for pk, store, number, total in stream.new_queryset().values_list(
        "pk", "store_id", "number", "total"
    ):
        held[f"orders/{store}"][pk] = {"number": number, "total": str(total)}
    return held


class Onlooker:
    """Remembers a snapshot of each moment; in the end applies to each what came after it."""

    def __init__(self, stream: type[ModelStream], broker: Broker) -> None:
        self._stream = stream
        self._broker = broker
        self._looks: list[Look] = []

    def look(self) -> None:
        offsets = {
            topic: self._broker.read(topic, None, history=HISTORY).position.offset
            for topic in TOPICS
        }
        look = Look(offsets=offsets, held=in_database(self._stream))
        if look not in self._looks:
            self._looks.append(look)

    def mistaken(self) -> bool:
        """Whether somebody who looked at some moment ends up with something untrue."""
        truth = in_database(self._stream)
        for look in self._looks:
            for topic in TOPICS:
                self._follow(topic, look)
            if look.held != truth:
                return True
        return False

    def _follow(self, topic: str, look: Look) -> None:
        for entry in self._broker.read_all(topic, history=HISTORY):
            if entry.offset <= look.offsets[topic]:
                continue
            info = codec.read_body(entry.body)
            data = msgspec.json.decode(info.data)
            if info.event == "upsert":
                look.held[topic][data["pk"]] = data["row"]
            else:
                look.held[topic].pop(data["pk"], None)


def mistakes(
    stream: type[ModelStream],
    conductor: Conductor,
    jobs: tuple[Callable[[], None], Callable[[], None]],
    *,
    before: Callable[[], None] | None,
    make_broker: Callable[[], Broker] = MemoryBroker,
    remembered: bool = False,
) -> tuple[int, list[tuple[int, ...]]]:
    """Run every interleaving: how many there were, and which ended in something untrue.

    Args:
        before: makes the row that is there at first.
        remembered: whether the broker knows of it.
    """
    wrong = []
    count = 0
    for schedule in conductor.schedules():
        count += 1
        broker = make_broker()
        set_broker(broker)
        with suppress_publishing():
            Order.objects.all().delete()
        if before is not None and remembered:
            before()
        elif before is not None:
            with suppress_publishing():
                before()
        onlooker = Onlooker(stream, broker)
        conductor.perform(schedule, jobs, onlooker.look)
        if onlooker.mistaken():
            wrong.append(schedule)
    return count, wrong


UPDATES = (save(total=Decimal("1.00")), save(total=Decimal("2.00")))
MOVES = (save(store_id=2), save(store_id=3))
JOBS: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "updates": UPDATES,
    "moves": MOVES,
    "moves of one in a transaction": (atomic(save(store_id=2)), save(store_id=3)),
    "moves back": (save(store_id=2), atomic(save(store_id=2), save(store_id=1))),
    "updates in transactions": (atomic(UPDATES[0]), atomic(UPDATES[1])),
    "expressions": (save(total=F("total") + 1), atomic(save(total=F("total") * 2))),
    "a deletion and an update": (delete, save(total=Decimal("1.00"))),
    "a deletion and a move": (delete, save(store_id=2)),
    "a move and an archiving": (save(store_id=2), atomic(save(archived=True))),
}


@pytest.mark.parametrize(
    ("orders", "name", "remembered"),
    [
        *(("all", name, False) for name in JOBS),
        ("all", "updates", True),
        ("all", "moves", True),
        ("filtered", "moves", False),
        ("filtered", "a deletion and a move", False),
        ("filtered", "a move and an archiving", True),
    ],
    indirect=["orders"],
)
def test_two_writers_of_one_row_end_in_its_truth(
    orders: type[ModelStream], name: str, remembered: bool
) -> None:
    with Conductor() as conductor:
        count, wrong = mistakes(
            orders, conductor, JOBS[name], before=create(number="A"), remembered=remembered
        )
    assert count == 70
    assert wrong == []


@pytest.mark.parametrize("name", ["moves"])
def test_a_place_looked_up_long_before_the_write_may_be_out_of_date(
    orders: type[ModelStream], name: str
) -> None:
    with Conductor(points=("write", "ticket", "read", "append")) as conductor:
        count, wrong = mistakes(orders, conductor, JOBS[name], before=create(number="A"))
    assert count == 252
    assert wrong == []


UNDOING = (save(archived=False), save(archived=True))


@pytest.mark.parametrize("orders", ["filtered"], indirect=True)
def test_a_row_that_passed_the_filter_for_a_moment_leaves_no_ghost(
    orders: type[ModelStream],
) -> None:
    with Conductor(points=("write", "ticket", "read", "append")) as conductor:
        _, wrong = mistakes(orders, conductor, UNDOING, before=create(number="A", archived=True))
    assert wrong == []


@pytest.mark.parametrize("second", [save(store_id=2), save(total=Decimal("3.00")), delete])
def test_a_row_is_created_and_at_once_changed_by_somebody_else(
    orders: type[ModelStream], second: Callable[[], None]
) -> None:
    with Conductor() as conductor:
        jobs = (create(number="A"), second)
        _, wrong = mistakes(orders, conductor, jobs, before=None)
    assert wrong == []


def test_redis_keeps_the_order_as_well(
    orders: type[ModelStream], redis_server: RedisServer
) -> None:
    def make_broker() -> Broker:
        redis_server.flush()
        return broker

    with broker_on(redis_server) as broker, Conductor() as conductor:
        count, wrong = mistakes(
            orders, conductor, MOVES, before=create(number="A"), make_broker=make_broker
        )
    assert count == 70
    assert wrong == []


# --- the tests above can fail ---------------------------------------------------------------------


class WithoutTickets(MemoryBroker):
    """Takes whatever comes, in the order in which it comes."""

    def _change_row(self, command: RowChange) -> Result:
        known = self._rows.pop(command.row, None)
        if known is not None:
            command = RowChange(
                row=command.row,
                ticket=command.ticket,
                topics=command.topics,
                remove=command.remove,
                before=command.before | known.topics,
                history=command.history,
            )
        return super()._change_row(command)


class WithoutMembership(MemoryBroker):
    """Checks tickets, but does not remember where rows are."""

    def _change_row(self, command: RowChange) -> Result:
        result = super()._change_row(command)
        known = self._rows[command.row]
        self._rows[command.row] = type(known)(
            ticket=known.ticket, topics=frozenset(), expires=known.expires
        )
        return result


def test_without_tickets_an_old_version_may_come_last(orders: type[ModelStream]) -> None:
    with Conductor() as conductor:
        _, wrong = mistakes(
            orders, conductor, UPDATES, before=create(number="A"), make_broker=WithoutTickets
        )
    assert wrong


def test_without_membership_a_row_moved_twice_leaves_a_ghost(
    orders: type[ModelStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication.Publication, "_learn", _learn_nothing)
    with Conductor(points=("write", "ticket", "read", "append")) as conductor:
        _, wrong = mistakes(
            orders, conductor, MOVES, before=create(number="A"), make_broker=WithoutMembership
        )
    assert wrong


def test_without_reading_again_after_a_refusal_a_snapshot_may_hold_a_ghost(
    orders: type[ModelStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication.Publication, "_overtaken", lambda *args: [])
    with Conductor(points=("write", "ticket", "read", "append")) as conductor:
        _, wrong = mistakes(orders, conductor, MOVES, before=create(number="A"))
    assert wrong


@pytest.mark.parametrize("orders", ["filtered"], indirect=True)
def test_without_evidence_of_what_was_written_a_snapshot_may_hold_a_ghost(
    orders: type[ModelStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "is_unchanged", lambda *args: True)
    with Conductor(points=("write", "ticket", "read", "append")) as conductor:
        _, wrong = mistakes(orders, conductor, UNDOING, before=create(number="A", archived=True))
    assert wrong


def _learn_nothing(self: Any, pks: Any, found: Any) -> None:
    """Knows the place before, and nothing else."""
