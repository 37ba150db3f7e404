"""The dashboard's first data: the same rows for the same seed."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

from django.utils import timezone

from dashboard.models import Customer, Order, Store, Tick

CUSTOMERS = (
    "Amara Okafor", "Ben Lindqvist", "Chiara Russo", "Dmitri Volkov", "Elif Yılmaz",
    "Farid Haddad", "Grete Olsen", "Hiro Tanaka", "Inês Duarte", "Jonas Weber",
    "Kavya Iyer", "Lucía Romero", "Maud Janssen", "Noor Rahman", "Oscar Nyberg",
)  # fmt: skip
NOTES = ("", "", "", "oat milk", "to go", "extra hot", "no sugar", "gift wrap", "call on arrival")
FIRST_PRICES = {"arabica": 412.4, "robusta": 268.1, "cocoa": 731.5, "sugar": 97.3}
PIECE_PRICES = tuple(Decimal(cents) / 100 for cents in (280, 320, 350, 410, 480, 1250, 1690))


def random_total(random: Random) -> Decimal:
    return sum(random.choices(PIECE_PRICES, k=random.randint(1, 4)), Decimal(0))


def next_price(random: Random, price: Decimal) -> Decimal:
    """A small step of a random walk that never falls below 1."""
    return max(Decimal(1), (price * Decimal(1 + random.gauss(0, 0.0022))).quantize(Decimal("0.01")))


def seed(random: Random, users: Sequence[Any]) -> None:
    """Two stores: everyone works in the first, only the first user in the second."""
    harbour = Store.objects.create(name="Harbour Street")
    harbour.members.set(users)
    mill = Store.objects.create(name="Old Mill")
    mill.members.set(users[:1])
    customers = [Customer.objects.create(name=name) for name in CUSTOMERS]
    open_states = (Order.Status.NEW, Order.Status.PREPARING, Order.Status.READY)
    for number in range(1001, 1025):
        Order.objects.create(
            number=number,
            store=mill if number % 3 == 0 else harbour,
            customer=random.choice(customers),
            status=random.choice(open_states),
            total=random_total(random),
            note=random.choice(NOTES),
        )
    now = timezone.now()
    for symbol, first in FIRST_PRICES.items():
        price, ticks = Decimal(str(first)), []
        for seconds in range(Tick.KEPT, 0, -1):
            price = next_price(random, price)
            time = now - timedelta(seconds=seconds)
            ticks.append(Tick(symbol=symbol, price=price, time=time))
        Tick.objects.bulk_create(ticks)
