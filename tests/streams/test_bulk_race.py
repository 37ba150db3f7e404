"""A row that was read before a bulk change must not follow that change's reset."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from django_wsrealtime import RealtimeQuerySet
from django_wsrealtime.brokers import get_broker, set_broker
from django_wsrealtime.brokers.base import History
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.protocol import codec
from django_wsrealtime.streams import pauses
from tests.testapp.models import Parcel


@pytest.mark.django_db(transaction=True)
def test_the_row_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set_broker(MemoryBroker())
    get_broker().serves_browsers()
    Parcel.objects.bulk_create(Parcel(depot=9, label="old") for _ in range(250))
    first = Parcel.objects.filter(depot=9).order_by("pk")[0]
    held, go = threading.Event(), threading.Event()

    def pause(name: str) -> None:
        if name == "append" and threading.current_thread().name == "slow":
            held.set()
            go.wait(20)

    def save() -> None:
        first.label = "slow"
        first.save()
        connection.close()

    monkeypatch.setattr(pauses, "hook", pause)
    slow = threading.Thread(target=save, name="slow")
    slow.start()
    assert held.wait(20)
    RealtimeQuerySet(Parcel).filter(depot=9).update(label="bulk")
    go.set()
    slow.join(20)
    events = [
        codec.read_body(entry.body) for entry in get_broker().read_all("depot/9", history=History())
    ]
    set_broker(before)
    assert [event.event for event in events if b'"slow"' in bytes(event.data)] == []
    assert set(Parcel.objects.filter(depot=9).values_list("label", flat=True)) == {"bulk"}
