"""Values become JSON as Django users expect."""

import datetime
import decimal
import enum
import ipaddress
import json
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import Storage
from django.db.models.fields.files import FieldFile
from django.http import QueryDict
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override
from psycopg.types.range import Range

from django_wsrealtime.topics import serialize
from tests.testapp.models import Everything, Order


def through(value: Any) -> Any:
    return json.loads(serialize.encode({"value": value}, what="a test"))["value"]


class Plain(enum.Enum):
    ONE = 1


@dataclass
class Point:
    x: int
    label: Any


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**53 - 1, 2**53 - 1),
        (2**53, str(2**53)),
        ({"id": -(2**60)}, {"id": str(-(2**60))}),
        (0.5, 0.5),
        (float("nan"), None),
        (float("inf"), None),
        (decimal.Decimal("10.50"), "10.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (
            datetime.datetime(2024, 2, 29, 12, 0, 0, 5, datetime.timezone.utc),
            "2024-02-29T12:00:00.000005Z",
        ),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(days=1, seconds=2), "P1DT2S"),
        (Plain.ONE, 1),
        (Order.Status.READY, "ready"),
        (Everything.Colour.BLUE, 2),
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        ({1}, [1]),
        ({1: "a"}, {"1": "a"}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (QueryDict("a=1&a=2"), {"a": ["1", "2"]}),
        (b"\x00\xff", "AP8="),
        (memoryview(b"\x00\xff"), "AP8="),
        (mark_safe("<b>"), "<b>"),
        (ipaddress.ip_address("::1"), "::1"),
        (Point(1, gettext_lazy("Yes")), {"x": 1, "label": "Yes"}),
        (Range(1, 5, "[)"), {"lower": 1, "upper": 5, "bounds": "[)"}),
        (Range(None, None, empty=True), {"lower": None, "upper": None, "bounds": None}),
    ],
)
def test_a_value_and_its_json(value: Any, expected: Any) -> None:
    assert through(value) == expected


def test_a_range_of_dates() -> None:
    day = datetime.date(2024, 1, 1)
    assert through(Range(day, None, "[)"))["lower"] == "2024-01-01"


def test_lazy_strings_are_in_the_active_language() -> None:
    with override("de"):
        assert through([gettext_lazy("Yes"), {"a": gettext_lazy("No")}]) == ["Ja", {"a": "Nein"}]


def test_lazy_strings_beside_big_integers() -> None:
    assert through([gettext_lazy("Yes"), 2**60]) == ["Yes", str(2**60)]


class WithoutUrls(Storage):
    """A storage whose files no browser can fetch."""


def test_a_file_is_its_url(settings: Any) -> None:
    settings.MEDIA_URL = "/media/"
    assert through(Everything(file="a/b c.txt").file) == "/media/a/b%20c.txt"


def test_no_file_is_null() -> None:
    assert through(Everything().file) is None


def test_a_file_without_url_is_its_name() -> None:
    file = FieldFile(Everything(), Everything._meta.get_field("file"), "a.txt")
    file.storage = WithoutUrls()
    assert through(file) == "a.txt"


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (User(username="ada", password="hush"), "auth.User is a model instance; send the fields"),
        (User.objects.all(), r"a QuerySet of auth.User is not sent; send list\("),
        ((number for number in [1]), "builtins.generator has no form in JSON"),
        (object(), "builtins.object has no form in JSON"),
        (1j, "builtins.complex has no form in JSON"),
        ("\ud800", "surrogates"),
        ({None: 1}, "a test"),
    ],
)
def test_what_has_no_form_says_what_to_send_instead(value: Any, hint: str) -> None:
    with pytest.raises(TypeError, match="The data of a test cannot be sent") as caught:
        through(value)
    assert caught.match(hint)
    assert "hush" not in str(caught.value)


def test_data_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TypeError, match="cannot be sent"):
        through(loop)
