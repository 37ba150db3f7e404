"""A small busy world: customers order, the kitchen works, prices move. Every step saves rows."""

import logging
import math
import time
from decimal import Decimal
from random import Random
from threading import Event, Thread

from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from dashboard.models import Customer, Order, Store, Tick
from dashboard.seed import NOTES, next_price, random_total

logger = logging.getLogger(__name__)

OPEN_ORDERS = 14  # per store: above it the kitchen works faster than customers order
ARCHIVED_ORDERS = 200  # older ones are deleted


class Simulator:
    """Saves `rate` rows a second until told to stop. The same seed makes the same choices."""

    def __init__(self, *, seed: int = 7, rate: float = 4.0) -> None:
        self.random = Random(seed)
        self.pause = 1 / rate
        self.saves = 0

    def run(self, stop: Event, *, seconds: float | None = None) -> None:
        """Runs until `stop` is set or `seconds` are over; `saves` counts the steps."""
        end = time.monotonic() + seconds if seconds is not None else math.inf
        while not stop.wait(self.pause) and time.monotonic() < end:
            try:
                self.step()
            except DatabaseError:
                logger.exception("The simulator could not save; it goes on with its next step.")

    def step(self) -> None:
        """Two steps of three move a price, the third one an order."""
        with transaction.atomic():
            if self.saves % 3 == 2:
                self.move_order(self.random.choice(list(Store.objects.all())))
            else:
                self.move_price(self.random.choice(Tick.Symbol.values))
        self.saves += 1

    def move_price(self, symbol: str) -> None:
        newest = Tick.objects.filter(symbol=symbol).order_by("-pk").first()
        price = next_price(self.random, newest.price if newest else Decimal(100))
        Tick.objects.create(symbol=symbol, price=price, time=timezone.now())
        Tick.forget_old(symbol)

    def move_order(self, store: Store) -> None:
        orders = list(store.orders.filter(archived=False).order_by("number"))
        if self.random.random() < 0.75 - len(orders) / OPEN_ORDERS / 2:
            customer = self.random.choice(list(Customer.objects.order_by("pk")))
            Order.objects.create(
                store=store,
                customer=customer,
                number=Order.next_number(),
                total=random_total(self.random),
                note=self.random.choice(NOTES),
            )
        elif orders:
            self.work_on(self.random.choice(orders))

    def work_on(self, order: Order) -> None:
        if order.status == Order.Status.NEW:
            order.status = Order.Status.PREPARING
            order.save(update_fields=["status", "updated"])
        elif order.status == Order.Status.PREPARING:
            order.mark_ready()
        else:
            order.deliver()
            archived = order.store.orders.filter(archived=True).values_list("pk", flat=True)
            Order.objects.filter(pk__in=list(archived[ARCHIVED_ORDERS:])).delete()


class SimulatorThread:
    """The simulator beside a server in one process; leaving the `with` block ends its thread."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.stop = Event()
        self.thread = Thread(target=self.run, name="simulator", daemon=True)

    def run(self) -> None:
        try:
            self.simulator.run(self.stop)
        finally:
            connections.close_all()

    def __enter__(self) -> "SimulatorThread":
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop.set()
        self.thread.join(timeout=10)
