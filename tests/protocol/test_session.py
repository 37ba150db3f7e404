"""The connection's state machine, without any connection."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsrealtime.errors import CloseCode, ErrorCode, ProtocolError
from django_wsrealtime.protocol import session
from django_wsrealtime.protocol.frames import Bye, Error, Frame, Mark, Ping, Pong, User, Welcome
from django_wsrealtime.protocol.limits import Limits
from django_wsrealtime.protocol.position import Position, Since
from django_wsrealtime.protocol.session import Session, State
from django_wsrealtime.protocol.window import MARK_EVERY


def make(**limits: Any) -> Session:
    marks = itertools.count(1)
    return Session(
        sid="s1",
        limits=Limits(**limits),
        ping_interval=25.0,
        now=0.0,
        random=lambda: 0.5,
        nonce=lambda: f"n{next(marks)}",
    )


def opened(**limits: Any) -> Session:
    machine = make(**limits)
    machine.receive('{"type":"hello","v":1}', now=0.0)
    machine.welcome(user=None, now=0.0)
    return machine


def send(machine: Session, *objects: dict[str, Any], now: float = 0.0) -> list[session.Effect]:
    return machine.receive("\n".join(json.dumps(one) for one in objects), now=now)


def frames(effects: list[session.Effect]) -> list[Frame]:
    return [effect.frame for effect in effects if isinstance(effect, session.Send)]


def only_error(effects: list[session.Effect]) -> Error:
    [frame] = frames(effects)
    assert isinstance(frame, Error)
    return frame


def test_hello_is_answered_by_welcome_and_joins() -> None:
    machine = make()
    [authenticate] = send(
        machine,
        {
            "type": "hello",
            "v": 1,
            "tab": "t",
            "subscriptions": [
                {"topic": "a", "position": {"epoch": "e", "offset": 3}},
                {"topic": "b", "position": {"since": "17"}, "grant": "g"},
                {"topic": "c"},
            ],
        },
    )
    assert isinstance(authenticate, session.Authenticate)
    assert State(machine.state) is State.AUTHENTICATING
    greeting, *joins = machine.welcome(user=User(id="5", name="Ada"), now=1.0)
    assert isinstance(greeting, session.Send)
    assert isinstance(greeting.frame, Welcome)
    assert greeting.frame.limits["message_bytes"] == 65_536
    assert joins == [
        session.Join(None, "a", None, Position(epoch="e", offset=3)),
        session.Join(None, "b", "g", Since(time=17)),
        session.Join(None, "c", None, None),
    ]
    assert machine.state is State.OPEN


@pytest.mark.parametrize("kind", ["subscribe", "call", "publish", "unsubscribe", "presence"])
def test_frames_before_hello_are_told_so(kind: str) -> None:
    frame = {
        "type": kind,
        "id": 4,
        "topic": "a",
        "action": "x",
        "event": "x",
        "state": {},
        "data": {},
    }
    error = only_error(send(make(), frame))
    assert (error.code, error.id) == (ErrorCode.UNEXPECTED.value, 4)


def test_a_second_hello_is_an_error() -> None:
    error = only_error(send(opened(), {"type": "hello", "v": 1}))
    assert error.code == ErrorCode.UNEXPECTED.value


def test_a_client_of_an_older_protocol_is_sent_away() -> None:
    effects = send(make(), {"type": "hello", "v": 0})
    assert effects[-1] == session.Close(CloseCode.CLIENT_TOO_OLD)


def test_hello_must_come_in_time() -> None:
    machine = make(hello_seconds=10)
    assert machine.next_tick(now=0.0) == 10.0
    assert machine.tick(now=9.9) == []
    bye, close = machine.tick(now=10.0)
    assert isinstance(bye, session.Send)
    assert isinstance(bye.frame, Bye)
    assert (bye.frame.code, bye.frame.reconnect) == (4008, True)
    assert close == session.Close(CloseCode.HELLO_TIMEOUT)
    assert machine.receive('{"type":"hello","v":1}', now=11.0) == []


def test_publishing_needs_a_subscription() -> None:
    error = only_error(
        send(opened(), {"type": "publish", "id": 1, "topic": "a", "event": "e", "data": None})
    )
    assert (error.code, error.id, error.topic) == (ErrorCode.NOT_SUBSCRIBED.value, 1, "a")


def test_the_number_of_subscriptions_is_limited_and_resubscribing_is_not() -> None:
    machine = opened(subscriptions=2)
    for topic in ("a", "b", "a"):
        [join] = send(machine, {"type": "subscribe", "id": topic, "topic": topic})
        assert isinstance(join, session.Join)
    error = only_error(send(machine, {"type": "subscribe", "id": 1, "topic": "c"}))
    assert error.code == ErrorCode.LIMIT_EXCEEDED.value
    send(machine, {"type": "unsubscribe", "id": 2, "topic": "a"})
    [join] = send(machine, {"type": "subscribe", "id": 3, "topic": "c"})
    assert isinstance(join, session.Join)


def test_requests_have_a_rate_and_heartbeats_do_not_count() -> None:
    machine = opened(messages_per_second=10, burst=3)
    call = {"type": "call", "id": 1, "topic": "a", "action": "x", "data": {}}
    for _ in range(50):
        send(machine, {"type": "ping"}, {"type": "pong"})
    for _ in range(3):
        assert isinstance(send(machine, call)[0], session.Perform)
    error = only_error(send(machine, call))
    assert (error.code, error.retry_after) == (ErrorCode.RATE_LIMITED.value, 100)
    assert isinstance(send(machine, call, now=0.2)[0], session.Perform)


@pytest.mark.parametrize(
    "line",
    ["1", "{", '{"type":"hello","v":1}', '{"type":"ping"}', '{"type":"pong"}', '{"type":"x"}'],
)
def test_a_flood_of_what_is_refused_or_asks_for_nothing_ends_the_connection(line: str) -> None:
    machine = opened()
    for second in range(5):
        effects = machine.receive("\n".join([line] * 100), now=float(second))
        assert not any(isinstance(effect, session.Close) for effect in effects)
    effects = machine.receive("\n".join([line] * 2_000), now=5.0)
    assert len(effects) < 1_200
    assert effects[-1] == session.Close(CloseCode.OVERLOADED)


def test_a_ping_is_answered_with_its_time() -> None:
    assert frames(send(make(), {"type": "ping", "ts": 17})) == [Pong(ts=17)]


def test_quiet_connections_are_pinged_and_silent_ones_closed() -> None:
    machine = opened()
    assert machine.next_tick(now=0.0) == 25.0
    assert frames(machine.tick(now=25.0)) == [Ping()]
    send(machine, {"type": "pong"}, now=26.0)
    assert frames(machine.tick(now=50.0)) == [Ping()]
    assert frames(machine.tick(now=75.0)) == [Ping()]
    assert frames(machine.tick(now=100.0)) == [Ping()]
    assert machine.tick(now=101.0)[-1] == session.Close(CloseCode.NO_HEARTBEAT)


def fill(machine: Session) -> list[Mark]:
    """Send until the reader lags."""
    marks = []
    while not machine.window.lagging:
        machine.window.sent += 16_384
        if machine.window.sent - machine.window.marked >= MARK_EVERY:
            marks.append(machine.mark())
    return marks


def test_a_reader_that_acknowledges_goes_on() -> None:
    machine = opened()
    marks = fill(machine)
    assert machine.window.sent <= 262_144 + 16_384
    [resume] = send(machine, {"type": "ack", "n": marks[0].n})
    assert resume == session.Resume()
    assert not machine.window.lagging


def test_a_slow_reader_that_moves_is_never_cut_and_one_that_stands_is() -> None:
    machine = opened()
    now = 0.0
    for _ in range(10):
        marks = fill(machine)
        now += 24.0
        send(machine, {"type": "pong"}, now=now)
        assert not any(isinstance(e, session.Close) for e in machine.tick(now=now))
        for mark in marks:
            send(machine, {"type": "ack", "n": mark.n}, now=now)
    fill(machine)
    assert machine.next_tick(now=now) <= now + 5
    machine.tick(now=now)
    send(machine, {"type": "pong"}, now=now + 29)
    assert not any(isinstance(e, session.Close) for e in machine.tick(now=now + 29))
    assert machine.tick(now=now + 30)[-1] == session.Close(CloseCode.SLOW_CONSUMER)


@pytest.mark.parametrize("n", ["guess", "n2"])
def test_a_wrong_ack_is_a_protocol_error(n: str) -> None:
    machine = opened()
    fill(machine)
    assert send(machine, {"type": "ack", "n": n})[-1] == session.Close(CloseCode.PROTOCOL_ERROR)


def test_one_bad_frame_does_not_disturb_the_others_in_its_message() -> None:
    effects = opened().receive('{"type":"ping"}\nnope\n{"type":"ping"}', now=0.0)
    assert [type(frame).__name__ for frame in frames(effects)] == ["Pong", "Error", "Pong"]


@pytest.mark.parametrize(
    "position",
    [
        {},
        {"epoch": "e"},
        {"offset": 1},
        {"since": "x"},
        {"since": -1},
        {"since": "1", "epoch": "e", "offset": 1},
        {"since": 2**80},
    ],
)
def test_a_position_is_whole_or_an_error(position: dict[str, Any]) -> None:
    error = only_error(
        send(opened(), {"type": "subscribe", "id": 1, "topic": "a", "position": position})
    )
    assert (error.code, error.id) == (ErrorCode.BAD_MESSAGE.value, 1)


def test_welcome_out_of_turn_names_what_was_expected() -> None:
    with pytest.raises(RuntimeError, match="awaiting hello; expected authenticating"):
        make().welcome(user=None, now=0.0)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.text(max_size=60),
            st.sampled_from(
                [
                    '{"type":"hello","v":1}',
                    '{"type":"ping"}',
                    '{"type":"ack","n":"n1"}',
                    '{"type":"subscribe","id":1,"topic":"a"}',
                    '{"type":"publish","id":1,"topic":"a","event":"e"}',
                    "welcome",
                    "tick",
                ]
            ),
        ),
        max_size=30,
    )
)
def test_no_input_raises_anything(messages: list[str | bytes]) -> None:
    machine = make()
    for number, message in enumerate(messages):
        if message == "welcome":
            if machine.state is State.AUTHENTICATING:
                machine.welcome(user=None, now=float(number))
        elif message == "tick":
            machine.tick(now=float(number))
        else:
            machine.receive(message, now=float(number))


def test_an_error_may_end_the_connection() -> None:
    machine = opened()
    effects = machine.fail(
        ProtocolError(ErrorCode.FORBIDDEN, "no", fatal=CloseCode.NOT_AUTHENTICATED)
    )
    assert effects[-1] == session.Close(CloseCode.NOT_AUTHENTICATED)
    assert machine.close(CloseCode.NORMAL) == []
