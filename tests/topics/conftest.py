"""Fixtures of the topics' tests: a broker whose clock the test moves, topics of the test's own."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.topics import access, actions, threads
from django_wsrealtime.topics.access import Identity
from django_wsrealtime.topics.registry import Registry, registry


class Clock:
    """A clock that stands still until a test moves it; in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def microseconds(self) -> int:
        return round(self.now * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> Iterator[MemoryBroker]:
    """This process's broker during the test."""
    broker = MemoryBroker(clock=clock.microseconds)
    before = set_broker(broker)
    yield broker
    set_broker(before)


@pytest.fixture
def topics() -> Iterator[Registry]:
    """The registry; what a test registers is forgotten after it."""
    with registry.isolated() as isolated:
        yield isolated


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[None]:
    """Nothing is remembered from one test to the next."""
    monkeypatch.setattr(access, "_memo", access.Memo(clock=clock))
    monkeypatch.setattr(actions, "_throttles", actions.Throttles(clock=clock))
    yield
    threads.close()


def member(pk: int = 1, **fields: Any) -> Identity:
    """Somebody who is signed in, without a row in a database."""
    user = SimpleNamespace(
        pk=pk,
        is_authenticated=True,
        is_anonymous=False,
        get_username=lambda: f"user{pk}",
        get_full_name=lambda: "",
        has_perm=lambda name: name == "shop.may",
    )
    fields.setdefault("sid", f"sid{pk}")
    fields.setdefault("tab", f"tab{pk}")
    return Identity(user=user, **fields)


def visitor(**fields: Any) -> Identity:
    """Somebody who is not signed in."""
    return Identity(user=AnonymousUser(), **{"sid": "visitor", **fields})
