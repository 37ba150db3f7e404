"""The application on real servers, spoken to by a stranger's WebSocket client."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from django_wsrealtime.protocol import SUBPROTOCOL
from tests.protocol.test_codec import MALFORMED
from tests.support.servers import SERVER_KINDS, ServerProcess

pytestmark = pytest.mark.parametrize("server", SERVER_KINDS, indirect=True)
RECEIVE = 30.0


@pytest.fixture
def server(request: pytest.FixtureRequest, server_process: Any) -> ServerProcess:
    started: ServerProcess = server_process(request.param)
    return started


class Peer:
    """A client that speaks frames, and nothing else."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._ids = itertools.count(1)
        self._kept: deque[dict[str, Any]] = deque()

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame))

    def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.socket.recv(timeout=RECEIVE))
        return frame

    def until(self, type: str, **fields: Any) -> dict[str, Any]:
        """The next frame of a type; marks are answered on the way."""
        while True:
            frame = self._kept.popleft() if self._kept else self.receive()
            if frame["type"] == "mark":
                self.send(type="ack", n=frame["n"])
            if frame["type"] == type and fields.items() <= frame.items():
                return frame

    def ask(self, **frame: Any) -> dict[str, Any]:
        """The answer; what comes before it is kept for :meth:`until`."""
        id = next(self._ids)
        self.send(id=id, **frame)
        while True:
            answer = self.receive()
            if answer.get("id") == id:
                return answer
            self._kept.append(answer)


@contextmanager
def peer(server: ServerProcess, *, hello: bool = True, **options: Any) -> Iterator[Peer]:
    options = {"origin": server.origin, "subprotocols": [SUBPROTOCOL], **options}
    with connect(server.ws_url(), **options) as socket:
        one = Peer(socket)
        if hello:
            one.send(type="hello", v=1, tab="t")
            assert one.receive()["type"] == "welcome"
        yield one


def test_events_calls_and_replay(server: ServerProcess) -> None:
    with peer(server) as one, peer(server) as two:
        for each in (one, two):
            subscribed = each.ask(type="subscribe", topic="site/a")
            assert (subscribed["type"], subscribed["offset"]) == ("subscribed", 0)
        said = two.ask(
            type="call", topic="site/a", action="say", data={"event": "n", "data": 7, "times": 3}
        )
        assert said["data"] == 3
        events = [one.until("event") for _ in range(3)]
        assert [event["offset"] for event in events] == [1, 2, 3]
        position = {"epoch": events[0]["epoch"], "offset": 1}
    with peer(server) as back:
        again = back.ask(type="subscribe", topic="site/a", position=position)
        assert again["recovered"] is True
        assert [event["offset"] for event in again["events"]] == [2, 3]


def test_a_burst_beyond_the_window_arrives_whole(server: ServerProcess) -> None:
    with peer(server) as one, peer(server) as two:
        one.ask(type="subscribe", topic="site/a")
        two.ask(type="subscribe", topic="site/a")
        two.ask(
            type="call",
            topic="site/a",
            action="say",
            data={"event": "n", "data": "x" * 5_000, "times": 200},
        )
        offsets = [one.until("event")["offset"] for _ in range(200)]
        assert offsets == list(range(1, 201))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_foreign_pages_get_403(server: ServerProcess, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused, peer(server, origin=origin):
        pass
    # autobahn, under daphne, refuses some malformed Origins itself, with 400.
    assert refused.value.response.status_code in (400, 403)


def test_clients_of_other_protocols_are_refused(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused, peer(server, subprotocols=["chat"]):
        pass
    assert refused.value.response.status_code == (403 if server.kind == "daphne" else 400)


def test_other_paths_are_refused_without_a_traceback(server: ServerProcess) -> None:
    with (
        pytest.raises(InvalidStatus),
        connect(server.ws_url("/nope/"), origin=Origin(server.origin)),
    ):
        pass
    assert "Traceback" not in server.log()


def test_the_server_says_bye_and_closes_with_its_code(server: ServerProcess) -> None:
    with peer(server, hello=False) as old:
        old.send(type="hello", v=0)
        bye = old.receive()
        assert (bye["type"], bye["code"], bye["reconnect"]) == ("bye", 4504, False)
        with pytest.raises(ConnectionClosed) as closed:
            old.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4504


def test_malformed_input_is_one_error_each_and_touches_nobody(server: ServerProcess) -> None:
    with peer(server) as good:
        good.ask(type="subscribe", topic="site/a")
        for parameters in MALFORMED:
            line, code, _ = parameters.values
            assert isinstance(line, bytes)
            if _is_text(line):
                with peer(server) as bad:
                    bad.socket.send(line.decode())
                    error = bad.until("error")
                    assert error["code"] == ("too_large" if len(line) > 65_536 else code)
                    answer = bad.ask(type="unsubscribe", topic="nothing")
                    assert answer["type"] == "ok"
            else:
                with peer(server) as bad:
                    bad.socket.send(line, text=True)
                    with pytest.raises(ConnectionClosed):
                        bad.receive()
        for binary in (b"", b"\x00", b"\x01\x03", bytes(70_000)):
            with peer(server) as bad:
                bad.socket.send(binary)
                assert bad.until("error")["code"] in ("bad_message", "too_large")
        echo = good.ask(type="call", topic="site/a", action="echo", data={"text": "well"})
        assert echo["data"] == "well"
    # uvicorn logs a traceback of its own for text that is not UTF-8.
    assert "django_wsrealtime/" not in server.log()


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
