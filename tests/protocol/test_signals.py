"""What processes tell each other beside the log survives the way, and nothing else gets through."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsrealtime.errors import ProtocolError
from django_wsrealtime.protocol import signals
from django_wsrealtime.protocol.codec import Sender

ADA = Sender(id="7", name="Ada")


def test_a_whisper_carries_a_finished_frame() -> None:
    payload = signals.encode_whisper(
        topic="room/a", event="typing", data={"on": True, "id": 2**60}, sender=ADA, sid="s1"
    )
    signal = signals.decode(payload)
    assert (signal.op, signal.skip) == (signals.WHISPER, "s1")
    assert json.loads(bytes(signal.frame)) == {
        "type": "whisper",
        "topic": "room/a",
        "event": "typing",
        "data": {"on": True, "id": str(2**60)},
        "from": {"id": "7", "name": "Ada"},
    }


def test_a_signal_may_be_nothing_but_its_kind() -> None:
    signal = signals.decode(signals.encode(op=signals.PRESENCE))
    assert (signal.op, signal.skip, bytes(signal.frame)) == (signals.PRESENCE, None, b"null")


def test_fields_that_are_not_known_are_ignored() -> None:
    assert signals.decode(b'{"op":"x","new":1}').op == "x"


@given(st.binary() | st.sampled_from([b"", b"[]", b"{}", b'{"op":1}', b'{"op":"x"', b"[" * 10_000]))
def test_anything_else_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        signals.decode(payload)
