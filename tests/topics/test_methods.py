"""What can be called from a browser, and with what."""

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from django_wsrealtime.errors import ConfigurationError, ErrorCode, ProtocolError
from django_wsrealtime.topics import Topic, action
from django_wsrealtime.topics.methods import Action, Throttle, collect

if TYPE_CHECKING:
    from django_wsrealtime.topics import Context


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Base(Topic):
    @action
    def inherited(self, ctx: Any) -> None: ...

    @action
    def hidden(self, ctx: Any) -> None: ...


class Board(Base):
    @action
    def move(
        self,
        ctx: "Context",
        order_id: int,
        note: str = "",
        *,
        price: decimal.Decimal | None = None,
        key: uuid.UUID | None = None,
        day: datetime.date | None = None,
        colour: Colour = Colour.RED,
        mode: Literal["a", "b"] = "a",
        points: list[Point] = [],  # noqa: B006
        text: Annotated[str, msgspec.Meta(max_length=3)] = "",
        anything: Any = None,
        ratio: float = 0.0,
        flag: bool = False,
    ) -> None: ...

    def hidden(self, ctx: Any) -> None:
        """Overridden without the decorator: no browser calls this."""

    def plain(self, ctx: Any) -> None: ...


@pytest.fixture
def move() -> Action:
    return collect(Board)["move"]


def refused(action: Action, data: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        action.read(data)
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert len(caught.value.message) < 500
    return caught.value.message


def test_only_what_is_decorated_can_be_called() -> None:
    assert set(collect(Board)) == {"move", "inherited"}


def test_arguments_are_read_by_their_annotations(move: Action) -> None:
    assert move.read(
        {
            "order_id": 5,
            "note": "soon",
            "price": "12.50",
            "key": "0b5d7a52-7a8c-4d10-9f53-54b5e2d0c2a1",
            "day": "2024-02-29",
            "colour": "red",
            "mode": "b",
            "points": [{"x": 1}, {"x": 2, "y": 3}],
            "text": "abc",
            "anything": {"a": [None]},
            "ratio": 1,
            "flag": True,
        }
    ) == {
        "order_id": 5,
        "note": "soon",
        "price": decimal.Decimal("12.50"),
        "key": uuid.UUID("0b5d7a52-7a8c-4d10-9f53-54b5e2d0c2a1"),
        "day": datetime.date(2024, 2, 29),
        "colour": Colour.RED,
        "mode": "b",
        "points": [Point(1), Point(2, 3)],
        "text": "abc",
        "anything": {"a": [None]},
        "ratio": 1.0,
        "flag": True,
    }


def test_defaults_are_left_to_the_method(move: Action) -> None:
    assert move.read({"order_id": 5}) == {"order_id": 5}


@pytest.mark.parametrize("data", [None, {}])
def test_no_arguments(data: Any) -> None:
    assert collect(Board)["inherited"].read(data) == {}


def test_a_missing_argument_is_named(move: Action) -> None:
    assert refused(move, {"note": "x"}) == "The argument 'order_id' is missing; expected int."


def test_an_unknown_argument_is_named_with_those_there_are(move: Action) -> None:
    message = refused(move, {"order_id": 5, "extra": 1})
    assert "'extra'" in message
    assert "'order_id': int, 'note': str" in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("order_id", "5", "expected int"),
        ("order_id", True, "expected int"),
        ("order_id", 5.5, "expected int"),
        ("order_id", None, "expected int"),
        ("note", 5, "expected str"),
        ("note", None, "expected str"),
        ("flag", 1, "expected bool"),
        ("ratio", "1", "expected float"),
        ("price", "much", "expected decimal.Decimal | None"),
        ("day", "2023-02-29", "expected datetime.date | None"),
        ("key", "x", "expected uuid.UUID | None"),
        ("colour", "blue", "expected Colour"),
        ("mode", "c", "expected Literal['a', 'b']"),
        ("points", [{"x": "1"}], "$[0].x"),
        ("points", {}, "expected list["),
        ("text", "abcd", "length <= 3"),
    ],
)
def test_a_wrong_argument_is_named_with_what_came_and_what_was_expected(
    move: Action, name: str, value: Any, expected: str
) -> None:
    message = refused(move, {"order_id": 5, name: value})
    assert f"The argument {name!r} is {value!r}" in message
    assert expected in message


@pytest.mark.parametrize("data", [[], [5], "x", 5, True, b"bytes"])
def test_data_that_is_no_object_is_refused(move: Action, data: Any) -> None:
    assert "expected an object with 'order_id': int" in refused(move, data)


def test_an_integer_that_travels_as_a_string_is_read_back(move: Action) -> None:
    assert move.read({"order_id": str(2**60)}) == {"order_id": 2**60}
    assert move.read({"order_id": str(-(2**60))}) == {"order_id": -(2**60)}
    refused(move, {"order_id": str(2**53 - 1)})
    refused(move, {"order_id": "9" * 5_000})
    assert move.read({"order_id": 1, "note": str(2**60)})["note"] == str(2**60)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(JSON | st.dictionaries(st.sampled_from(["order_id", "note", "price", "points"]), JSON))
def test_no_data_raises_anything_but_a_protocol_error(data: Any) -> None:
    action = collect(Board)["move"]
    fault: ProtocolError | None = None
    try:
        arguments = action.read(data)
    except ProtocolError as error:
        fault = error
    if fault is None:
        assert type(arguments["order_id"]) is int
    else:
        assert fault.code is ErrorCode.INVALID_DATA
        assert len(fault.message) < 600


# Declarations --------------------------------------------------------------------------------


def declare(**methods: Any) -> dict[str, Action]:
    return collect(type("Declared", (Topic,), methods))


def test_an_argument_without_annotation_is_refused_at_declaration() -> None:
    @action
    def go(self, ctx, where): ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigurationError, match=r"Declared.go .*'where'.*annotate"):
        declare(go=go)


@pytest.mark.parametrize("kind", [User, "User", list[User]])
def test_a_type_that_json_cannot_say_is_refused_at_declaration(kind: Any) -> None:
    def go(self: Any, ctx: Any, who: Any) -> None: ...

    go.__annotations__["who"] = kind
    with pytest.raises(ConfigurationError, match=r"Declared.go declares 'who' as .*User"):
        declare(go=action(go))


def test_a_private_name_is_refused() -> None:
    @action
    def _go(self: Any, ctx: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="private"):
        declare(_go=_go)


def test_an_action_takes_a_context() -> None:
    @action
    def go(self: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"must take \(self, ctx, …\)"):
        declare(go=go)


def test_arguments_are_declared_one_by_one() -> None:
    @action
    def many(self: Any, ctx: Any, *names: str) -> None: ...

    @action
    def options(self: Any, ctx: Any, **names: str) -> None: ...

    @action
    def positional(self: Any, ctx: Any, name: str, /) -> None: ...

    for method in (many, options, positional):
        with pytest.raises(ConfigurationError, match="declare each argument by its name"):
            declare(go=method)


def test_a_generator_is_no_action() -> None:
    with pytest.raises(ConfigurationError, match="def or async def"):

        @action
        async def go(self: Any, ctx: Any) -> Any:
            yield 1


def test_a_static_method_is_no_action() -> None:
    with pytest.raises(ConfigurationError, match="def or async def"):
        action(staticmethod(lambda ctx: None))


@pytest.mark.parametrize(
    ("text", "throttle"),
    [
        ("5/s", Throttle(calls=5, period=1)),
        ("30/m", Throttle(calls=30, period=60)),
        ("100/h", Throttle(calls=100, period=3_600)),
    ],
)
def test_throttles(text: str, throttle: Throttle) -> None:
    assert Throttle.parse(text) == throttle
    assert str(throttle) == text


@pytest.mark.parametrize("text", ["", "5", "0/s", "5/d", "5 / s", "-1/s", "1.5/s", "5/s\n"])
def test_a_throttle_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="as in '5/s'"):
        action(throttle=text)
