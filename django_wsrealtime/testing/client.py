"""A client of the wire protocol that talks to an ASGI application directly.

It does what a browser's client does (positions, duplicates, heartbeats, marks), so a test sees what
a page would see. No server, no socket, no Redis.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from ..conf import conf
from ..protocol import SUBPROTOCOL
from ..topics import threads
from ..transports.local import get_local

TIMEOUT = 5.0
"""Seconds that a test waits for something that should come at once."""


class ConnectionClosed(Exception):
    """The server ended the connection.

    Args:
        code: of the close frame, or of ``bye`` if one came.
        bye: the ``bye`` frame, if one came.
    """

    def __init__(self, code: int, bye: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"closed with {code}: {dict(bye) if bye else 'no bye'}")
        self.code = code
        self.bye = bye


class RequestFailed(Exception):
    """The server answered a request with an ``error`` frame.

    Args:
        frame: the frame.
    """

    def __init__(self, frame: Mapping[str, Any]) -> None:
        super().__init__(f"{frame['code']}: {frame['message']}")
        self.frame = frame
        self.code = str(frame["code"])


class ClientSubscription:
    """One topic as the client follows it.

    Attributes:
        events: every event that was applied, in order.
        snapshot: the starting state, if the topic has one; the lists of later chunks included.
        resets: the reasons of all discontinuities.
        whispers: what members whispered.
        members: who is present, as last told.
    """

    def __init__(self, client: RealtimeClient, topic: str, grant: str | None) -> None:
        self.topic = topic
        self.grant = grant
        self.epoch = ""
        self.offset = 0
        self.events: list[dict[str, Any]] = []
        self.snapshot: dict[str, Any] | None = None
        self.resets: list[str] = []
        self.whispers: list[dict[str, Any]] = []
        self.members: dict[str, dict[str, Any]] = {}
        self._client = client
        self._unread: deque[dict[str, Any]] = deque()

    @property
    def position(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "offset": self.offset}

    async def next_event(self, *, timeout: float = TIMEOUT) -> dict[str, Any]:
        """The next event that the test has not looked at yet.

        Args:
            timeout: seconds.

        Raises:
            asyncio.TimeoutError: none came.
            ConnectionClosed: the server ended the connection.
        """
        await self._client.until(lambda: bool(self._unread), timeout=timeout)
        return self._unread.popleft()

    async def nothing(self, *, seconds: float = 0.05) -> bool:
        """Whether no event comes for so long."""
        try:
            await self._client.until(lambda: bool(self._unread), timeout=seconds)
        except asyncio.TimeoutError:
            return True
        return False

    def take(self, frame: dict[str, Any]) -> None:
        """Take a frame from the server."""
        match frame["type"]:
            case "subscribed":
                for event in frame.get("events", ()):
                    self._apply(event)
                if frame.get("recovered") is False:
                    self.resets.append("not recovered")
                self._state(frame)
            case "reset":
                self.resets.append(frame["reason"])
                self._state(frame)
            case "snapshot":
                self._extend(frame["items"])
            case "event":
                if frame["epoch"] != self.epoch or frame["offset"] > self.offset + 1:
                    raise AssertionError(f"A hole: at {self.position}, received {frame}")
                self._apply(frame)
            case "whisper":
                self.whispers.append(frame)
            case "presence":
                self._presence(frame)

    def _state(self, frame: dict[str, Any]) -> None:
        self.epoch, self.offset = frame["epoch"], frame["offset"]
        if "snapshot" in frame:
            self.snapshot = frame["snapshot"]

    def _extend(self, items: Mapping[str, Any]) -> None:
        assert self.snapshot is not None
        for name, values in items.items():
            self.snapshot[name] = [*self.snapshot.get(name, []), *values]

    def _apply(self, event: dict[str, Any]) -> None:
        if event["epoch"] == self.epoch and event["offset"] <= self.offset:
            return
        self.epoch, self.offset = event["epoch"], event["offset"]
        self.events.append(event)
        self._unread.append(event)

    def _presence(self, frame: Mapping[str, Any]) -> None:
        if "members" in frame:
            self.members = {member["id"]: member for member in frame["members"]}
        for member in (*frame.get("join", ()), *frame.get("state", ())):
            self.members[member["id"]] = {**self.members.get(member["id"], {}), **member}
        for id in frame.get("leave", ()):
            self.members.pop(id, None)


class RealtimeClient:
    """A connected client; use it with ``async with``.

    A ``TestCase`` never commits, so what its actions save or publish reaches no client, unless it
    is published with ``on_commit=False`` or :func:`~django_wsrealtime.apublish`. Use it in a
    ``TransactionTestCase`` to see what happens after a commit.

    Args:
        application: the project's ASGI application.
        user: who it is; default: a visitor who is not signed in.
        headers: further headers of the handshake, ``cookie`` for instance.
        path: where topics are served.
        origin: of the page; default: the application's own.
        host: the ``Host`` header.
        share_thread: run rules, snapshots and sync actions in the test's thread, so that they see
            what a ``TestCase`` has written in its transaction. ``False`` uses the pool, as in
            production.
    """

    def __init__(
        self,
        application: Any,
        *,
        user: Any = None,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        origin: str | None = "http://testserver",
        host: str = "testserver",
        share_thread: bool = True,
    ) -> None:
        self._application = application
        self._user = user
        self._headers = dict(headers or {})
        self._path = path or conf().path
        self._origin = origin
        self._host = host
        self._share_thread = share_thread
        self._ids = itertools.count(1)
        self._answers: dict[int | str, dict[str, Any]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._accepted = False
        self._closed: ConnectionClosed | None = None
        self._bye: dict[str, Any] | None = None
        self.tab = secrets.token_urlsafe(8)
        self.welcome: dict[str, Any] | None = None
        self.subscriptions: dict[str, ClientSubscription] = {}
        self.frames: list[dict[str, Any]] = []
        self.binary: list[bytes] = []
        self.errors: list[dict[str, Any]] = []
        self.reading = True
        """``False``: marks are not acknowledged, as by a page that does not read."""

    async def __aenter__(self) -> RealtimeClient:
        _count(+1)
        await self.open()
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.drop()
        if _count(-1) == 0:
            await get_local().aclose()

    # --- the connection ---

    async def open(self) -> None:
        """Connect and say hello, naming every subscription with its position.

        Raises:
            ConnectionClosed: the server refused.
        """
        self._incoming = asyncio.Queue()
        self._accepted, self._closed, self._bye, self.welcome = False, None, None, None
        with threads.share_thread() if self._share_thread else nullcontext():
            self._task = asyncio.create_task(self._run())
        await self._incoming.put({"type": "websocket.connect"})
        await self.until(lambda: self._accepted)
        wanted = [
            {
                "topic": topic,
                "position": subscription.position,
                **({"grant": subscription.grant} if subscription.grant else {}),
            }
            for topic, subscription in self.subscriptions.items()
        ]
        self.send(type="hello", v=1, client="test", tab=self.tab, subscriptions=wanted)
        await self.until(lambda: self.welcome is not None)

    async def drop(self) -> None:
        """Lose the connection, as if the network went away."""
        if self._task is None:
            return
        await self._incoming.put({"type": "websocket.disconnect", "code": 1006})
        await asyncio.wait([self._task], timeout=TIMEOUT)
        self._task.cancel()
        self._task = None

    async def resume(self) -> None:
        """Connect again and wait until every subscription is answered."""
        known = {topic: len(self._greetings(topic)) for topic in self.subscriptions}
        await self.open()
        await self.until(
            lambda: all(len(self._greetings(topic)) > count for topic, count in known.items())
        )

    def _greetings(self, topic: str) -> list[dict[str, Any]]:
        return [
            frame
            for frame in self.frames
            if frame.get("topic") == topic and frame["type"] in ("subscribed", "error")
        ]

    # --- requests ---

    async def subscribe(
        self,
        topic: str,
        *,
        grant: str | None = None,
        position: Mapping[str, Any] | None = None,
        since: str | int | None = None,
    ) -> ClientSubscription:
        """Follow a topic.

        Args:
            topic: the topic's name.
            grant: as signed by a template tag.
            position: ``{"epoch": …, "offset": …}``.
            since: the broker time of a rendered page.

        Raises:
            RequestFailed: the server does not allow it.
        """
        subscription = ClientSubscription(self, topic, grant)
        self.subscriptions[topic] = subscription
        fields: dict[str, Any] = {"topic": topic}
        if grant is not None:
            fields["grant"] = grant
        if position is not None:
            fields["position"] = dict(position)
        elif since is not None:
            fields["position"] = {"since": str(since)}
        try:
            await self.request(type="subscribe", **fields)
        except RequestFailed:
            del self.subscriptions[topic]
            raise
        return subscription

    async def unsubscribe(self, topic: str) -> None:
        """Follow a topic no longer."""
        await self.request(type="unsubscribe", topic=topic)
        self.subscriptions.pop(topic, None)

    async def call(
        self, topic: str, action: str, data: Any = None, *, key: str | None = None
    ) -> Any:
        """Call an action; return its result.

        Raises:
            RequestFailed: it failed; ``code`` says why.
        """
        fields = {"topic": topic, "action": action, "data": data}
        if key is not None:
            fields["key"] = key
        answer = await self.request(type="call", **fields)
        return answer.get("data")

    async def publish(
        self, topic: str, event: str, data: Any = None, *, key: str | None = None
    ) -> None:
        """Publish as a member."""
        fields = {"topic": topic, "event": event, "data": data}
        if key is not None:
            fields["key"] = key
        await self.request(type="publish", **fields)

    def whisper(self, topic: str, event: str, data: Any = None) -> None:
        """Whisper to the other members."""
        self.send(type="whisper", topic=topic, event=event, data=data)

    async def request(self, **frame: Any) -> dict[str, Any]:
        """Send a frame with an id; return the frame that answers it.

        Raises:
            RequestFailed: the answer is an ``error``.
        """
        id = next(self._ids)
        self._answers.pop(id, None)  # of a frame that a test sent by hand
        self.send(id=id, **frame)
        await self.until(lambda: id in self._answers)
        answer = self._answers.pop(id)
        if answer["type"] == "error":
            raise RequestFailed(answer)
        return answer

    def send(self, **frame: Any) -> None:
        """Send any frame."""
        self.send_text(json.dumps(frame))

    def send_text(self, text: str) -> None:
        """Send any text."""
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes."""
        self._incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    async def until(self, predicate: Any, *, timeout: float = TIMEOUT) -> None:
        """Wait until something holds.

        Raises:
            asyncio.TimeoutError: it did not within ``timeout`` seconds.
            ConnectionClosed: the server ended the connection before.
        """

        async def wait() -> None:
            while not predicate():
                if self._closed is not None:
                    raise self._closed
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), timeout)

    async def closed(self, *, timeout: float = TIMEOUT) -> ConnectionClosed:
        """Wait until the server ends the connection."""
        try:
            await self.until(lambda: False, timeout=timeout)
        except ConnectionClosed as closed:
            return closed
        raise AssertionError  # pragma: no cover

    # --- inside ---

    async def _run(self) -> None:
        try:
            await self._application(self._scope(), self._incoming.get, self._receive)
        finally:
            if self._closed is None:
                self._closed = ConnectionClosed(1006, self._bye)
            self._changed.set()

    def _scope(self) -> dict[str, Any]:
        headers = {"host": self._host, **self._headers}
        if self._origin is not None:
            headers["origin"] = self._origin
        scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "scheme": "ws",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
            "subprotocols": [SUBPROTOCOL],
            "extensions": {},
        }
        if self._user is not None:
            scope["user"] = self._user
        return scope

    async def _receive(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "websocket.accept":
                self._accepted = True
            case "websocket.close":
                code = self._bye["code"] if self._bye else event.get("code", 1000)
                self._closed = ConnectionClosed(code, self._bye)
            case "websocket.send" if event.get("bytes") is not None:
                self.binary.append(event["bytes"])
            case "websocket.send":
                for line in event["text"].split("\n"):
                    if line:
                        self._take(json.loads(line))
        self._changed.set()

    def _take(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        kind = frame["type"]
        if kind == "welcome":
            self.welcome = frame
        elif kind == "bye":
            self._bye = frame
        elif kind == "ping":
            self.send(type="pong")
        elif kind == "mark" and self.reading:
            self.send(type="ack", n=frame["n"])
        elif kind == "error":
            self.errors.append(frame)
        if frame.get("topic") in self.subscriptions:
            self.subscriptions[frame["topic"]].take(frame)
        if "id" in frame:
            self._answers[frame["id"]] = frame


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


def _count(by: int) -> int:
    """Count the clients of this event loop: the last one closes what they shared."""
    loop = asyncio.get_running_loop()
    _clients[loop] = _clients.get(loop, 0) + by
    return _clients[loop]
