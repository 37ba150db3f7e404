"""A topic's name and its parameters lead to each other, in one way only."""

import uuid
from typing import Any

import pytest
from django.urls import converters, register_converter
from hypothesis import given
from hypothesis import strategies as st

from django_wsrealtime.errors import ConfigurationError
from django_wsrealtime.topics.routes import MAX_NAME_BYTES, Route, name_fault

SOME_UUID = "0b5d7a52-7a8c-4d10-9f53-54b5e2d0c2a1"


class HexConverter:
    """A converter of a project's own: a number written in hexadecimal."""

    regex = "[0-9a-f]+"

    def to_python(self, value: str) -> int:
        return int(value, 16)

    def to_url(self, value: Any) -> str:
        return f"{value:x}"


if "hex_number" not in converters.get_converters():
    register_converter(HexConverter, "hex_number")


@pytest.mark.parametrize(
    ("text", "params", "name"),
    [
        ("status", {}, "status"),
        ("orders/<int:store_id>", {"store_id": 7}, "orders/7"),
        ("room/<slug:slug>/<int:page>", {"slug": "a-b", "page": 0}, "room/a-b/0"),
        ("item/<uuid:key>", {"key": uuid.UUID(SOME_UUID)}, f"item/{SOME_UUID}"),
        ("file/<path:path>", {"path": "a/b.txt"}, "file/a/b.txt"),
        ("name/<name>", {"name": "Ünïcode (1.0) 100%"}, "name/Ünïcode (1.0) 100%"),
        ("hex/<hex_number:n>", {"n": 255}, "hex/ff"),
    ],
)
def test_reverse_and_match_are_inverse(text: str, params: dict[str, Any], name: str) -> None:
    route = Route(text)
    assert route.reverse(params) == name
    assert route.match(name) == params


@given(st.integers(min_value=0), st.text(alphabet="abc-_1", min_size=1, max_size=30))
def test_every_name_that_can_be_made_is_read_back(number: int, slug: str) -> None:
    route = Route("a/<int:number>/b/<slug:slug>")
    params = {"number": number, "slug": slug}
    assert route.match(route.reverse(params)) == params


@given(st.text())
def test_whatever_is_matched_is_the_canonical_name(name: str) -> None:
    for text in ("<int:a>", "<a>", "<slug:a>-<b>", "<hex_number:a>"):
        route = Route(text)
        if (params := route.match(name)) is not None and name_fault(name) is None:
            assert route.reverse(params) == name


@pytest.mark.parametrize("name", ["orders/007", "orders/0x7", "orders/", "orders/7/", "/orders/7"])
def test_other_spellings_are_not_matched(name: str) -> None:
    assert Route("orders/<int:store_id>").match(name) is None


def test_the_canonical_spelling_can_be_asked_for() -> None:
    assert Route("orders/<int:store_id>").canonical("orders/007") == "orders/7"
    assert Route("hex/<hex_number:n>").canonical("hex/00ff") == "hex/ff"
    assert Route("orders/<int:store_id>").canonical("rooms/1") is None


def test_a_custom_converter_decides_what_is_canonical() -> None:
    assert Route("hex/<hex_number:n>").match("hex/0ff") is None


def test_a_number_may_be_given_as_text() -> None:
    assert Route("orders/<int:store_id>").reverse({"store_id": "007"}) == "orders/7"


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(TypeError, match=r"'orders/<int:store_id>'.*'store_id' is missing"):
        Route("orders/<int:store_id>").reverse({})


def test_an_unknown_parameter_is_named_with_those_there_are() -> None:
    with pytest.raises(TypeError, match="no parameter 'store'; it takes 'store_id'"):
        Route("orders/<int:store_id>").reverse({"store": 7, "store_id": 7})


@pytest.mark.parametrize("value", ["x", -1, None, 1.5, object()])
def test_an_unfit_value_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="'store_id'"):
        Route("orders/<int:store_id>").reverse({"store_id": value})


def test_parameters_that_cannot_be_told_apart_are_refused() -> None:
    route = Route("pair/<a>-<b>")
    assert route.match("pair/x-y-z") == {"a": "x-y", "b": "z"}
    with pytest.raises(ValueError, match="tell the parameters apart"):
        route.reverse({"a": "x", "b": "y-z"})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("a\x00", r"U\+0000"),
        ("a\n", r"U\+000A"),
        ("a\u202eb", r"U\+202E"),
        ("a\u200bb", r"U\+200B"),
        ("a\u2028b", r"U\+2028"),
        ("a\ud800", r"U\+D800"),
        ("e\u0301", "form C"),
        ("é" * 101, "202 bytes"),
    ],
)
def test_what_no_topic_can_be_called(name: str, why: str) -> None:
    fault = name_fault(name)
    assert fault is not None
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(fault)


def test_the_longest_name() -> None:
    assert name_fault("a" * MAX_NAME_BYTES) is None
    assert name_fault("a" * (MAX_NAME_BYTES + 1)) is not None


@pytest.mark.parametrize("slug", ["e\u0301", "a\u200b", "x" * 300])
def test_a_parameter_cannot_bring_in_what_a_name_may_not_hold(slug: str) -> None:
    with pytest.raises(ValueError, match="room/<slug>"):
        Route("room/<slug>").reverse({"slug": slug})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/orders",
        "^orders$",
        "orders/<int:a",
        "orders/int:a>",
        "<int:a>/<int:a>",
        "<nothing:a>",
        "<int: a>",
        "<int:1a>",
        "a\n",
    ],
)
def test_a_malformed_route_is_refused_at_once(text: str) -> None:
    with pytest.raises(ConfigurationError, match="route"):
        Route(text)


def test_the_prefix_is_what_comes_before_the_first_parameter() -> None:
    assert Route("store-summary/<int:store_id>").prefix == "store-summary"
    assert Route("status").prefix == "status"
