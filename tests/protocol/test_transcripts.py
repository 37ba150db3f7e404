"""The server's half of the transcripts: see tests/transcripts/README.md."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest

from django_wsrealtime.errors import CloseCode, ErrorCode, ProtocolError
from django_wsrealtime.protocol import binary, codec, session
from django_wsrealtime.protocol.frames import (
    Bye,
    Frame,
    PresenceOut,
    Reset,
    Snapshot,
    Subscribed,
    User,
    WhisperOut,
)
from django_wsrealtime.protocol.limits import Limits
from django_wsrealtime.protocol.session import Session, State

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "transcripts").glob("*.json"))


class Server:
    """A session, and around it only what the transcript says."""

    def __init__(self) -> None:
        self.machine = self._new(0.0)
        self.sent: deque[dict[str, Any]] = deque()
        self.asked: list[session.Effect] = []
        self._nonce = ""

    def _new(self, now: float, sid: str = "") -> Session:
        return Session(
            sid=sid,
            limits=Limits(),
            ping_interval=25.0,
            now=now,
            random=lambda: 0.5,
            nonce=lambda: self._nonce,
        )

    # --- input ---

    def receive(self, message: str | bytes, now: float) -> None:
        hello = isinstance(message, str) and '"type": "hello"' in message
        if hello and self.machine.state is not State.AWAITING_HELLO:
            self.machine = self._new(now)
        effects = self.machine.receive(message, now=now)
        assert not any(isinstance(effect, session.Close) for effect in effects)
        self._note(effects)

    def do(self, step: dict[str, Any], now: float) -> None:
        effect, fields = step["effect"], {k: v for k, v in step.items() if k != "effect"}
        getattr(self, f"_{effect}")(now=now, **fields)

    # --- output ---

    def expect(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "mark" and not self.sent:
            self._mark(n=frame["n"], now=0.0)
        assert self.sent, f"the server says nothing, the transcript {frame}"
        said = self.sent.popleft()
        if frame["type"] == "welcome":
            limits = said["limits"]
            said["limits"] = {name: limits[name] for name in frame["limits"]}
        assert said == frame

    def expect_bytes(self, data: bytes) -> None:
        """A binary event: taken apart by the documented layout, put together by the codec."""
        rest, texts = data[2:], []
        for _ in range(3):
            length = rest[0]
            texts.append(rest[1 : 1 + length].decode())
            rest = rest[1 + length :]
        offset = shift = 0
        while True:
            byte, rest = rest[0], rest[1:]
            offset |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        topic, epoch, event = texts
        kind = {1: "app", 2: "client"}[data[1]]
        body = binary.encode_body(kind=kind, event=event, payload=rest)
        assert binary.encode_frame(topic=topic, epoch=epoch, offset=offset, body=body) == data

    # --- what the server around the session does ---

    def _welcomed(self, *, now: float, sid: str, user: dict[str, str] | None) -> None:
        self.machine.sid = sid
        public = None if user is None else User(**user)
        self._note(self.machine.welcome(user=public, now=now))

    def _granted(self, *, now: float, topic: str, id: Any = None, **fields: Any) -> None:
        self._asked(session.Join, topic, id)
        self._say(Subscribed(topic=topic, id=id, **_raw(fields)))

    def _denied(self, *, now: float, topic: str, code: str, **fields: Any) -> None:
        asked = self._asked((session.Join, session.Perform), topic, fields.get("id"))
        if isinstance(asked, session.Join):
            self.machine.left(topic)
        self._note(self.machine.fail(ProtocolError(ErrorCode(code), topic=topic, **fields)))

    def _deliver(self, *, now: float, frame: dict[str, Any]) -> None:
        data = codec.encode_data(frame.get("data"))
        sender = codec.Sender(**frame["from"]) if "from" in frame else None
        body = codec.event_body(
            kind=frame["kind"],
            event=frame["event"],
            data=data,
            key=frame.get("key"),
            origin=frame.get("origin"),
            sender=sender,
        )
        head = codec.event_head(frame["topic"], frame["epoch"])
        made = codec.event_frame(head, offset=frame["offset"], time=frame["time"], body=body)
        self.sent.append(json.loads(made))

    def _whisper(self, *, now: float, frame: dict[str, Any]) -> None:
        self._say(msgspec.convert(frame, WhisperOut))

    def _presence(self, *, now: float, frame: dict[str, Any]) -> None:
        self._say(msgspec.convert(frame, PresenceOut))

    def _chunk(self, *, now: float, topic: str, items: Any, more: bool) -> None:
        raw = msgspec.Raw(json.dumps(items).encode())
        self._say(Snapshot(topic=topic, items=raw, more=more))

    def _reset(self, *, now: float, **fields: Any) -> None:
        self._say(Reset(**_raw(fields)))

    def _lagging(self, *, now: float, topic: str) -> None:
        assert topic in self.machine.topics

    def _caught_up(self, *, now: float, **fields: Any) -> None:
        self._say(Subscribed(**_raw(fields)))

    def _result(self, *, now: float, id: Any, data: Any = None) -> None:
        self._asked(session.Perform, None, id)
        self._note(self.machine.answer(id, data))

    def _left(self, *, now: float, id: Any, topic: str = "") -> None:
        self._asked(session.Leave, topic or None, id)
        self._note(self.machine.answer(id))

    def _mark(self, *, now: float, n: str) -> None:
        self._nonce = n
        self._say(self.machine.mark())

    def _ping(self, *, now: float) -> None:
        due = self.machine.next_tick(now=now)
        assert due <= now, f"the next heartbeat is due at {due} s, not at {now} s"
        self._note(self.machine.tick(now=now))

    def _close(
        self, *, now: float, code: int, reason: str, reconnect: bool, after: int | None = None
    ) -> None:
        bye = Bye(code=code, reason=reason, reconnect=reconnect, after=after)
        self._note(self.machine.close(CloseCode(code), after=after))
        assert self.sent[-1] == json.loads(codec.encode(bye))

    # --- inside ---

    def _say(self, frame: Frame) -> None:
        self.sent.append(json.loads(codec.encode(frame)))

    def _note(self, effects: list[session.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, session.Send):
                self._say(effect.frame)
            else:
                self.asked.append(effect)

    def _asked(self, kind: type | tuple[type, ...], topic: str | None, id: Any) -> session.Effect:
        """The session must have asked for what is now answered."""
        for effect in self.asked:
            inner: Any = getattr(effect, "request", effect)
            if isinstance(effect, kind) and inner.id == id and topic in (None, inner.topic):
                self.asked.remove(effect)
                return effect
        raise AssertionError(f"no {kind} of {topic} ({id}) among {self.asked}")


def _raw(fields: dict[str, Any]) -> dict[str, Any]:
    if "snapshot" in fields:
        fields["snapshot"] = msgspec.Raw(json.dumps(fields["snapshot"]).encode())
    if "events" in fields:
        fields["events"] = [msgspec.Raw(json.dumps(event).encode()) for event in fields["events"]]
    return fields


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 30


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_server_says_what_the_transcript_says(path: Path) -> None:
    server = Server()
    for step in json.loads(path.read_text())["steps"]:
        now = step["at"] / 1_000
        if "fault" in step:
            continue
        if "c2s" in step:
            assert not server.sent, f"said, but not in the transcript: {server.sent}"
            server.receive(json.dumps(step["c2s"]), now)
        elif "c2s_hex" in step:
            server.receive(bytes.fromhex(step["c2s_hex"]), now)
        elif "server_does" in step:
            server.do(step["server_does"], now)
        elif "s2c" in step:
            server.expect(step["s2c"])
        elif "s2c_batch" in step:
            for frame in step["s2c_batch"]:
                if isinstance(frame, dict):
                    server.expect(frame)
        elif "s2c_hex" in step:
            server.expect_bytes(bytes.fromhex(step["s2c_hex"]))
        elif step.get("client_does", {}).get("op") == "drop":
            server.machine.end()
    assert not server.sent
