"""A store that is away is waited for once, and noticed when it is back."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from django_wsrealtime.brokers import breaker as module
from django_wsrealtime.brokers.breaker import Breaker
from django_wsrealtime.errors import BrokerUnavailable
from tests.support.waiting import wait_until

from .redis_tools import counted


class Store:
    """Something that is there or not."""

    def __init__(self) -> None:
        self.there = False
        self.probes = 0

    def probe(self) -> None:
        self.probes += 1
        if not self.there:
            raise OSError(f"probe {self.probes} found nobody")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def breaker(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaker]:
    _earlier[:] = _probes()
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.02)
    breaker = Breaker(name="the store", probe=store.probe)
    yield breaker
    breaker.close()


def probing() -> list[threading.Thread]:
    """The threads that probe now, those of earlier tests left out."""
    return [thread for thread in _probes() if thread not in _earlier]


def _probes() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wsrealtime-probe"]


_earlier: list[threading.Thread] = []


def test_while_the_store_is_there_nothing_happens(breaker: Breaker, store: Store) -> None:
    breaker.check()
    assert not breaker.is_open
    assert store.probes == 0
    assert probing() == []


def test_while_it_is_away_everybody_is_refused_at_once(breaker: Breaker) -> None:
    breaker.trip(OSError("gone"))
    started = time.monotonic()
    with counted("bus.refused"), pytest.raises(BrokerUnavailable, match="the store is away"):
        breaker.check()
    assert time.monotonic() - started < 0.05


def test_it_is_probed_by_one_thread_until_it_is_back(breaker: Breaker, store: Store) -> None:
    for _ in range(5):
        breaker.trip(OSError("gone"))
    assert len(probing()) == 1
    wait_until(lambda: store.probes >= 3)
    assert breaker.is_open
    store.there = True
    with counted("bus.back"):
        wait_until(lambda: not breaker.is_open)
        wait_until(lambda: not probing())
    breaker.check()


def test_who_waits_is_called_once_in_order(breaker: Breaker, store: Store) -> None:
    called: list[int] = []
    breaker.trip(OSError("gone"))
    for number in range(3):
        breaker.when_closed(_appending(called, number))
    assert called == []
    store.there = True
    wait_until(lambda: len(called) == 3)
    assert called == [0, 1, 2]
    breaker.when_closed(_appending(called, 3))
    assert called == [0, 1, 2, 3]


def test_a_callback_that_fails_keeps_no_other_back(breaker: Breaker, store: Store) -> None:
    called: list[int] = []

    def fail() -> None:
        raise ValueError("a bug")

    breaker.trip(OSError("gone"))
    breaker.when_closed(fail)
    breaker.when_closed(_appending(called, 1))
    with counted("bus.callbacks_failed"):
        store.there = True
        wait_until(lambda: called)


def test_a_callback_may_find_the_store_away_again(breaker: Breaker, store: Store) -> None:
    called: list[str] = []

    def use() -> None:
        called.append("first")
        store.there = False
        breaker.trip(OSError("gone again"))
        breaker.when_closed(lambda: called.append("second"))

    breaker.trip(OSError("gone"))
    breaker.when_closed(use)
    store.there = True
    wait_until(lambda: called == ["first"] and breaker.is_open)
    store.there = True
    wait_until(lambda: called == ["first", "second"])


def test_those_who_wait_are_bounded(breaker: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLBACKS", 2)
    called: list[int] = []
    breaker.trip(OSError("gone"))
    with counted("bus.callbacks_dropped"):
        for number in range(3):
            breaker.when_closed(_appending(called, number))
    assert called == []


def test_the_probing_ends_when_nobody_asks_and_begins_again_when_somebody_does(
    breaker: Breaker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGOTTEN", 0.05)
    breaker.trip(OSError("gone"))
    wait_until(lambda: not probing())
    assert breaker.is_open
    store.there = True
    with pytest.raises(BrokerUnavailable):
        breaker.check()
    wait_until(lambda: not breaker.is_open)


def test_the_probing_goes_on_while_somebody_waits(
    breaker: Breaker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGOTTEN", 0.0)
    called: list[int] = []
    breaker.trip(OSError("gone"))
    breaker.when_closed(_appending(called, 1))
    wait_until(lambda: store.probes >= 5)
    store.there = True
    wait_until(lambda: called)


def test_closing_ends_the_thread(breaker: Breaker) -> None:
    breaker.trip(OSError("gone"))
    breaker.close()
    wait_until(lambda: not probing())


def _appending(called: list[int], number: int) -> Callable[[], None]:
    return lambda: called.append(number)
