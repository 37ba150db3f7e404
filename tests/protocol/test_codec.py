"""What the codec makes of good and of bad messages."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsrealtime.errors import ErrorCode, ProtocolError
from django_wsrealtime.protocol import binary, codec
from django_wsrealtime.protocol.frames import Call, Hello
from django_wsrealtime.protocol.limits import Limits

LIMITS = Limits()

CALL = b'{"type":"call","id":7,"topic":"orders/7","action":"mark","data":%b}'

MALFORMED = [
    pytest.param(b"nope", ErrorCode.BAD_MESSAGE, None, id="not JSON"),
    pytest.param(b"\xff\xfe\x00", ErrorCode.BAD_MESSAGE, None, id="not UTF-8"),
    pytest.param(b"[]", ErrorCode.BAD_MESSAGE, None, id="a list"),
    pytest.param(b'"hello"', ErrorCode.BAD_MESSAGE, None, id="a string"),
    pytest.param(b"null", ErrorCode.BAD_MESSAGE, None, id="null"),
    pytest.param(b"17", ErrorCode.BAD_MESSAGE, None, id="a number"),
    pytest.param(b"{", ErrorCode.BAD_MESSAGE, None, id="cut off"),
    pytest.param(b"{}", ErrorCode.UNKNOWN_TYPE, None, id="no type"),
    pytest.param(b'{"type":5,"id":1}', ErrorCode.UNKNOWN_TYPE, 1, id="type is a number"),
    pytest.param(b'{"type":"welcome"}', ErrorCode.UNKNOWN_TYPE, None, id="a server's type"),
    pytest.param(b'{"type":"nope","id":"a"}', ErrorCode.UNKNOWN_TYPE, "a", id="unknown type"),
    pytest.param(b'{"type":"call","id":5}', ErrorCode.BAD_MESSAGE, 5, id="fields missing"),
    pytest.param(b'{"type":"call","id":{}}', ErrorCode.BAD_MESSAGE, None, id="id is an object"),
    pytest.param(b'{"type":"call","id":true}', ErrorCode.BAD_MESSAGE, None, id="id is a bool"),
    pytest.param(
        b'{"type":"subscribe","id":"%b","topic":"a"}' % (b"x" * 65),
        ErrorCode.BAD_MESSAGE,
        None,
        id="id too long",
    ),
    pytest.param(
        b'{"type":"subscribe","id":1,"topic":"%b"}' % (b"x" * 201),
        ErrorCode.BAD_MESSAGE,
        1,
        id="topic too long",
    ),
    pytest.param(CALL % (b"[" * 100_000), ErrorCode.TOO_DEEP, None, id="100,000 levels"),
    pytest.param(CALL % (b"[" * 33 + b"]" * 33), ErrorCode.TOO_DEEP, None, id="too deep"),
    pytest.param(CALL % (b"9" * 5_000), ErrorCode.BAD_MESSAGE, 7, id="5,000 digits"),
    pytest.param(CALL % b"NaN", ErrorCode.BAD_MESSAGE, None, id="NaN"),
    pytest.param(CALL % b"1e999", ErrorCode.BAD_MESSAGE, 7, id="infinite"),
    pytest.param(CALL % b'"\\ud800"', ErrorCode.BAD_MESSAGE, None, id="lone surrogate"),
    pytest.param(CALL % b'"\x01"', ErrorCode.BAD_MESSAGE, None, id="control character"),
    pytest.param(
        b'{"type":"ack","n":null}', ErrorCode.BAD_MESSAGE, None, id="a field of another type"
    ),
    pytest.param(
        b'{"type":"subscribe","id":1,"topic":"a","position":{"epoch":"x","offset":-1}}',
        ErrorCode.BAD_MESSAGE,
        1,
        id="negative offset",
    ),
]


@pytest.mark.parametrize(("line", "code", "id"), MALFORMED)
def test_malformed_input_is_one_protocol_error(
    line: bytes, code: ErrorCode, id: int | str | None
) -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.decode(line, limits=LIMITS)
    assert (caught.value.code, caught.value.id) == (code, id)
    assert len(caught.value.message) < 300


@given(st.binary(max_size=400))
def test_any_bytes_raise_nothing_but_a_protocol_error(data: bytes) -> None:
    for read in (_read_text, _read_binary):
        with contextlib.suppress(ProtocolError):
            read(data)


def _read_text(data: bytes) -> None:
    for line in codec.split(data, limits=LIMITS):
        codec.decode(line, limits=LIMITS)


def _read_binary(data: bytes) -> None:
    binary.decode(b"\x01\x03" + data, limits=LIMITS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "id", "topic", "event", "action", "data", "n", "v", "position", "state"]
        ),
        st.sampled_from(["hello", "call", "publish", "subscribe", "ack", "presence"]) | json_values,
    )
)
def test_any_object_raises_nothing_but_a_protocol_error(frame: dict[str, object]) -> None:
    with contextlib.suppress(ProtocolError):
        codec.decode(json.dumps(frame).encode("utf-8", "replace"), limits=LIMITS)


def test_unknown_fields_are_ignored() -> None:
    frame = codec.decode(b'{"type":"hello","v":1,"later":{"a":1}}', limits=LIMITS)
    assert frame == Hello(v=1)


def test_brackets_in_strings_are_not_depth() -> None:
    text = b'"' + b"[{" * 500 + b'\\""'
    assert isinstance(codec.decode(CALL % text, limits=LIMITS), Call)


def test_a_message_holds_several_frames_and_blank_lines() -> None:
    lines = codec.split('{"type":"ping"}\n\n  \n{"type":"pong"}\n', limits=LIMITS)
    assert [type(codec.decode(line, limits=LIMITS)).__name__ for line in lines] == ["Ping", "Pong"]


@pytest.mark.parametrize("message", ["", "\n\n", "   "])
def test_an_empty_message_is_an_error(message: str) -> None:
    with pytest.raises(ProtocolError, match="empty"):
        codec.split(message, limits=LIMITS)


def test_a_message_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.split("x" * (LIMITS.message_bytes + 1), limits=LIMITS)
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_lone_surrogate_in_text_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="surrogate"):
        codec.split('{"a":"\ud800"}', limits=LIMITS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**53 - 1, 2**53 - 1),
        (2**53, str(2**53)),
        (-(2**53), str(-(2**53))),
        (2**70, str(2**70)),
        ({"a": [2**64, 1]}, {"a": [str(2**64), 1]}),
        (decimal.Decimal("1.10"), "1.10"),
        (float("nan"), None),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        ("1234567890123456789", "1234567890123456789"),
        (0.12345678901234568, 0.12345678901234568),
    ],
)
def test_application_data_reaches_javascript_without_loss(value: object, expected: object) -> None:
    assert json.loads(codec.encode_data(value)) == expected


def test_what_json_does_not_know_is_asked_for() -> None:
    class Price:
        cents = 250

    def default(value: object) -> object:
        assert isinstance(value, Price)
        return value.cents

    assert codec.encode_data({"price": Price(), "big": 2**60}, default=default) == (
        b'{"price":250,"big":"1152921504606846976"}'
    )
    with pytest.raises(TypeError):
        codec.encode_data(Price())


def test_an_event_is_put_together_from_head_and_body() -> None:
    body = codec.event_body(
        kind="client",
        event="message",
        data=b'{"text":"hi"}',
        key="k",
        origin="tab",
        sender=codec.Sender(id="5", name="Ada"),
    )
    frame = codec.event_frame(codec.event_head("room/é", "e1"), offset=3, time=9, body=body)
    assert json.loads(frame) == {
        "type": "event",
        "topic": "room/é",
        "epoch": "e1",
        "offset": 3,
        "time": 9,
        "kind": "client",
        "event": "message",
        "data": {"text": "hi"},
        "key": "k",
        "origin": "tab",
        "from": {"id": "5", "name": "Ada"},
    }
    info = codec.read_body(body)
    assert (info.kind, info.event, info.key) == ("client", "message", "k")


@given(
    topic=st.text(min_size=1, max_size=40),
    event=st.text(min_size=1, max_size=20),
    offset=st.integers(min_value=0, max_value=2**50),
    payload=st.binary(max_size=50),
)
def test_binary_events_have_the_documented_layout(
    topic: str, event: str, offset: int, payload: bytes
) -> None:
    body = binary.encode_body(kind="app", event=event, payload=payload)
    assert codec.is_binary(body)
    assert codec.read_body(body).event == event
    frame = binary.encode_frame(topic=topic, epoch="e", offset=offset, body=body)
    assert frame[:2] == b"\x01\x01"
    rest = frame[2:]
    for expected in (topic, "e", event):
        length, rest = _varuint(rest)
        assert rest[:length].decode() == expected
        rest = rest[length:]
    read, rest = _varuint(rest)
    assert (read, rest) == (offset, payload)


def _varuint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, data[index + 1 :]
    raise AssertionError("ends inside a number")


def test_a_binary_publish_is_read() -> None:
    message = b"\x01\x03" + b"\x05paint" + b"\x017" + b"\x06stroke" + b"\x00" + b"\xde\xad"
    publish = binary.decode(message, limits=LIMITS)
    assert (publish.topic, publish.id, publish.event, publish.payload) == (
        "paint",
        "7",
        "stroke",
        b"\xde\xad",
    )


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", b"\x02\x03", b"\x01\x01", b"\x01\x03\xff", b"\x01\x03\x05ab", b"\x01\x03" * 9],
)
def test_other_binary_messages_are_errors(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        binary.decode(message, limits=LIMITS)
