"""Fields that PostgreSQL alone has."""

import datetime
from typing import Any

import pytest

from tests.streams.conftest import Bus, Declare

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_arrays_and_ranges(declare: Declare, bus: Bus) -> None:
    from tests.testapp.models import Booking  # exists with PostgreSQL alone

    declare("bookings", model=Booking, fields=["labels", "period", "seats"])
    start = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    expected: dict[str, Any] = {
        "labels": ["a", "b"],
        "period": {
            "lower": "2024-02-29T12:00:00Z",
            "upper": "2024-02-29T13:00:00Z",
            "bounds": "[)",
        },
        "seats": {"lower": 1, "upper": 5, "bounds": "[)"},
    }
    one = Booking.objects.create(
        labels=["a", "b"], period=(start, start + datetime.timedelta(hours=1)), seats=(1, 5)
    )
    assert bus.row() == expected
    one.seats = None
    one.save()
    assert bus.row() == {**expected, "seats": None}
