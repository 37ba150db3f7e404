"""The client of docs/how-to/writing-a-client.md, as it stands there, misses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.docs.markdown import DOCS, ROOT, blocks
from tests.support.plugin import StartServer
from tests.support.servers import ServerProcess
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import await_until

PAGE = DOCS / "how-to" / "writing-a-client.md"
BURST = 200
SIZE = 5_000  # bytes of an event: a burst is several windows long

MakeProxy = Callable[[int], TcpProxy]


@pytest.fixture(scope="module")
def follow() -> ModuleType:
    """The module that the page shows."""
    (code,) = (block.code for block in blocks(PAGE) if block.file == "follow.py")
    module = ModuleType("follow")
    exec(compile(code, "follow.py", "exec"), vars(module))
    return module


def test_the_transcript_is_the_recorded_one() -> None:
    name = "hello-resume-events"
    recorded = json.loads((ROOT / "tests" / "transcripts" / f"{name}.json").read_text())
    frames = [
        (arrow, step[key])
        for step in recorded["steps"]
        for arrow, key in (("→", "c2s"), ("←", "s2c"))
        if key in step
    ]
    shown = [
        (line[0], json.loads(line[2:]))
        for block in blocks(PAGE)
        if block.language == "text"
        for line in block.code.splitlines()
    ]
    assert shown == frames
    assert f"`tests/transcripts/{name}.json`" in PAGE.read_text(encoding="utf-8")


def test_every_code_that_ends_a_client_is_told() -> None:
    from django_wsrealtime.errors import CloseCode

    (hopeless,) = re.findall(r"(?m)^\| ([\d, –]+) \| Stop", PAGE.read_text(encoding="utf-8"))
    codes: set[int] = set()
    for part in hopeless.split(", "):
        first, _, last = part.partition("–")
        codes |= set(range(int(first), int(last or first) + 1))
    final = {code for code in CloseCode if not code.reconnect} - {CloseCode.NORMAL}
    assert final <= codes
    assert not codes & (set(CloseCode) - final)


class Notes:
    """What a follower was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.replaced: list[tuple[str, str, Any]] = []
        self.refused: list[tuple[str, str]] = []
        self.offsets: list[tuple[str, int]] = []
        self.sent: Counter[str] = Counter()


@contextlib.asynccontextmanager
async def following(
    follow: ModuleType, host: str, *topics: str
) -> AsyncIterator[tuple[Any, Notes]]:
    """A follower on its way, and what it hears."""
    notes = Notes()

    class Follower(follow.Follower):  # type: ignore[misc, name-defined]
        def event(self, topic: str, event: dict[str, Any]) -> None:
            notes.events.append(event["data"])
            notes.offsets.append((event["epoch"], event["offset"]))

        def replace(self, topic: str, reason: str, snapshot: Any) -> None:
            notes.replaced.append((topic, reason, snapshot))

        def refused(self, topic: str, code: str) -> None:
            notes.refused.append((topic, code))

        async def send(self, socket: Any, **frame: Any) -> None:
            await super().send(socket, **frame)
            notes.sent[frame["type"]] += 1

    one = Follower(f"ws://{host}/realtime/ws/", topics, origin=f"http://{host}", close_timeout=1)
    running = asyncio.create_task(one.run())
    try:
        yield one, notes
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def say(server: ServerProcess, topic: str, data: Any, *, times: int = 1) -> None:
    """Have the server publish."""
    with connect(
        server.ws_url(),
        origin=Origin(server.origin),
        subprotocols=[Subprotocol("wsrealtime.v1.json")],
        open_timeout=30,
    ) as socket:
        arguments = {"event": "n", "data": data, "times": times}
        call = {"topic": topic, "action": "say", "data": arguments}
        socket.send(json.dumps({"type": "hello", "v": 1}))
        assert json.loads(socket.recv(timeout=30))["type"] == "welcome"
        socket.send(json.dumps({"type": "subscribe", "id": 1, "topic": topic}))
        socket.send(json.dumps({"type": "call", "id": 2, **call}))
        while True:
            for line in str(socket.recv(timeout=30)).split("\n"):
                frame = json.loads(line)
                if frame["type"] == "mark":
                    socket.send(json.dumps({"type": "ack", "n": frame["n"]}))
                if frame.get("id") == 2:
                    assert frame["type"] == "ok", frame
                    return


async def test_it_follows_resumes_and_never_applies_twice(
    follow: ModuleType, server_process: StartServer, tcp_proxy: MakeProxy
) -> None:
    server = server_process("daphne")
    proxy = tcp_proxy(server.port)
    async with following(follow, proxy.host, "site/a", "nowhere/1") as (follower, notes):
        await await_until(lambda: notes.replaced == [("site/a", "start", None)], 30)
        assert notes.refused == [("nowhere/1", "unknown_topic")]
        await asyncio.to_thread(say, server, "site/a", "one")
        await await_until(lambda: notes.events == ["one"], 30)

        for number in range(3):
            await asyncio.to_thread(proxy.refuse)
            await asyncio.to_thread(say, server, "site/a", f"missed {number}")
            await asyncio.to_thread(proxy.resume)
            await await_until(lambda: len(notes.events) == number + 2, 30)  # noqa: B023
        assert notes.events == ["one", "missed 0", "missed 1", "missed 2"]

        # More than its window: it gets everything only because it answers marks.
        await asyncio.to_thread(say, server, "site/a", "\u2028" + "x" * SIZE, times=BURST)
        await await_until(lambda: len(notes.events) == BURST + 4, 60)
        assert len(set(notes.offsets)) == len(notes.offsets) == notes.offsets[-1][1]
        assert len(notes.replaced) == 1
        assert follower.positions["site/a"]["offset"] == BURST + 4


async def test_a_log_that_was_lost_is_told_as_such(
    follow: ModuleType, server_process: StartServer
) -> None:
    server = server_process("daphne", realtime={"PING_INTERVAL": 1})
    async with following(follow, server.host, "site/a") as (_, notes):
        await await_until(lambda: notes.replaced, 30)
        await asyncio.to_thread(say, server, "site/a", "one")
        await await_until(lambda: notes.events == ["one"], 30)
        await asyncio.to_thread(server.restart)
        await await_until(lambda: len(notes.replaced) == 2, 60)
        assert notes.replaced[1] == ("site/a", "not recovered", None)
        # Its answers to pings keep it alive: three silent intervals would end it.
        pongs, hellos = notes.sent["pong"], notes.sent["hello"]
        await await_until(lambda: notes.sent["pong"] >= pongs + 4, 30)
        await asyncio.to_thread(say, server, "site/a", "two")
        await await_until(lambda: notes.events == ["one", "two"], 30)
        assert notes.sent["hello"] == hellos
        assert len(notes.replaced) == 2


@pytest.mark.django_db(transaction=True)
async def test_rows_come_as_a_snapshot_in_parts(
    follow: ModuleType, server_process: StartServer
) -> None:
    from tests.testapp.models import Parcel

    await Parcel.objects.abulk_create(
        [Parcel(depot=7, label=f"{number:050}") for number in range(1_500)]
    )
    server = server_process("daphne")
    async with following(follow, server.host, "depot/7") as (follower, notes):
        await await_until(lambda: notes.replaced, 60)
        ((_, reason, snapshot),) = notes.replaced
        assert reason == "start"
        assert [item["row"]["label"] for item in snapshot["rows"]] == [
            f"{number:050}" for number in range(1_500)
        ]
        assert not follower.parts
        assert follower.positions["depot/7"] is not None
