"""Drive one client's session: carry out what the protocol decides, and write what hubs deliver.

This is the only asynchronous driver of :mod:`..protocol.session`; transports are thin shells over
it. Requests that concern one topic are carried out in the order in which they came, those of
different topics side by side.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec

from ..conf import conf
from ..errors import CloseCode, ErrorCode, ProtocolError
from ..hub import Message
from ..instrumentation import count, logger
from ..protocol import session
from ..protocol.binary import BinaryPublish
from ..protocol.frames import Call, Frame, Hello, Id, Publish, SetPresence, User, Whisper
from ..protocol.session import Session
from ..protocol.window import MARK_EVERY
from ..topics.access import Identity
from .local import Local, get_local
from .requests import Requests

MAX_WAITING = 100
"""Requests of one connection and topic that may wait for those before them."""

MAX_BEYOND = 1_048_576
"""Bytes of answers to a reader that lags already; one who asks on without reading is cut."""
FRAME_COST = 512
"""Bytes that a frame takes in memory beside its own, about."""

Job = Callable[[], Awaitable[None]]


class Transport(Protocol):
    """What carries messages to one client."""

    def write(self, message: Message) -> None:
        """Send without waiting, in order."""

    def close(self, code: CloseCode) -> None:
        """Close after everything written has been sent."""


class Connection:
    """One client, from its first message to its last.

    Args:
        transport: what carries messages to it.
        identify: finds out who it is, given its ``hello``.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        identify: Callable[[str, Hello], Awaitable[Identity]],
    ) -> None:
        self.sid = secrets.token_urlsafe(12)
        self.identity: Identity | None = None
        self._transport = transport
        self._identify = identify
        self._loop = asyncio.get_running_loop()
        settings = conf()
        self._session = Session(
            sid=self.sid,
            limits=settings.limits,
            ping_interval=settings.ping_interval,
            now=self._loop.time(),
            random=random.random,
            nonce=lambda: secrets.token_urlsafe(8),
        )
        self._window = self._session.window
        self._beyond = 0
        self._local: Local = get_local()
        self.requests = Requests(self, self._local)
        self._timer: asyncio.TimerHandle | None = None
        self._chains: dict[str, deque[Job]] = {}
        self._joins_waiting: Counter[str] = Counter()
        """Per topic, the joins that have not begun."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._schedule()

    # --- outgoing (hub.Connection) ---

    @property
    def lagging(self) -> bool:
        """Whether the reader is a window behind."""
        return self._window.lagging

    @property
    def closed(self) -> bool:
        """Whether nothing more can be said."""
        return self._session.closed

    def write(self, message: Message) -> bool:
        """Put a message out without waiting; ``False`` if the reader lags now."""
        window = self._window
        window.sent += message.size
        self._transport.write(message)
        if window.sent - window.marked < MARK_EVERY:
            return True
        self._mark()
        return not window.lagging

    def write_frame(self, frame: Frame) -> None:
        """Put a frame out that is meant for this client alone."""
        if not self.closed and not self.write(Message.of(frame)):
            self._local.hub.park(self)

    def _mark(self) -> None:
        message = Message.of(self._session.mark())
        self._window.sent += message.size
        self._transport.write(message)
        if self._window.lagging:
            # The clock has to look at it sooner than at the next heartbeat.
            self._loop.call_soon(self._schedule)

    # --- incoming ---

    def receive(self, message: str | bytes) -> None:
        """Take a message: text as ``str``, binary as ``bytes``."""
        self._carry_out(self._session.receive(message, now=self._loop.time()))

    def ended(self) -> None:
        """The transport is gone."""
        self._session.end()
        self._release()

    def close(self, code: CloseCode, *, after: int | None = None) -> None:
        """End the connection with a ``bye``.

        Args:
            code: why.
            after: milliseconds within which the client picks the moment to dial again.
        """
        self._carry_out(self._session.close(code, after=after))

    # --- what requests need ---

    def answer(self, id: Id, data: msgspec.Raw | None = None) -> None:
        """A request was fulfilled."""
        self._carry_out(self._session.answer(id, data))

    def fail(self, error: ProtocolError) -> None:
        """A request was not fulfilled."""
        count(f"error.{error.name if isinstance(error.code, ErrorCode) else 'action'}")
        self._carry_out(self._session.fail(error))

    def left(self, topic: str) -> None:
        """A subscription was refused, or ended by the server.

        If the client has asked for it again meanwhile, that is still to be answered.
        """
        if not self._joins_waiting[topic]:
            self._session.left(topic)

    # --- effects ---

    def _carry_out(self, effects: Iterable[session.Effect]) -> None:
        for effect in effects:
            match effect:
                case session.Send(frame):
                    self._put(frame)
                case session.Perform(request):
                    self._perform(request)
                case session.Resume():
                    self._local.hub.resume(self)
                case session.PassOn(whisper):
                    self._pass_on(whisper)
                case session.Join():
                    self._join(effect)
                case session.Leave(id, topic):
                    self._leave(id, topic)
                case session.Authenticate(hello):
                    self._start(self._authenticate(hello))
                case session.Close(code):
                    self._release()
                    self._transport.close(code)

    def _put(self, frame: Frame) -> None:
        message = Message.of(frame)
        if not self._window.lagging:
            self._beyond = 0
        elif not self.closed:
            self._beyond += message.size + FRAME_COST
            if self._beyond > MAX_BEYOND:
                self.close(CloseCode.SLOW_CONSUMER)
                return
        if not self.write(message):
            self._local.hub.park(self)

    async def _authenticate(self, hello: Hello) -> None:
        try:
            identity = await self._identify(self.sid, hello)
        except ProtocolError as error:
            self.fail(error)
            return
        if self.closed:
            return
        if not self._local.admit(self, identity):
            count("refused.connections_per_user")
            self.close(CloseCode.TOO_MANY_CONNECTIONS)
            return
        self.identity = identity
        self._carry_out(self._session.welcome(user=_public(identity), now=self._loop.time()))
        self._schedule()

    def _join(self, join: session.Join) -> None:
        def job() -> Awaitable[None]:
            self._joins_waiting -= Counter((join.topic,))
            return self.requests.join(join.topic, join.start, grant=join.grant, id=join.id)

        if self._enqueue(join.topic, job, id=join.id):
            self._joins_waiting[join.topic] += 1

    def _leave(self, id: Any, topic: str) -> None:
        async def job() -> None:
            await self.requests.leave(topic)
            self.answer(id)

        self._enqueue(topic, job, id=id)

    def _perform(self, request: Call | Publish | SetPresence | BinaryPublish) -> None:
        self._enqueue(request.topic, lambda: self.requests.perform(request), id=request.id)

    def _pass_on(self, whisper: Whisper) -> None:
        self._enqueue(f"whisper:{whisper.topic}", lambda: self.requests.whisper(whisper))

    # --- order ---

    def _enqueue(self, lane: str, job: Job, *, id: Any = None) -> bool:
        """Carry something out after all that came before it; ``False`` if too much waits."""
        waiting = self._chains.get(lane)
        if waiting is None:
            self._chains[lane] = deque((job,))
            self._start(self._run(lane))
        elif len(waiting) < MAX_WAITING:
            waiting.append(job)
        else:
            self.fail(
                ProtocolError(
                    ErrorCode.RATE_LIMITED,
                    f"{MAX_WAITING} requests to this topic wait already; wait for their answers.",
                    id=id,
                    topic=lane,
                    retry_after=1_000,
                )
            )
            return False
        return True

    async def _run(self, lane: str) -> None:
        waiting = self._chains[lane]
        try:
            # The connection may have ended before its task had its first turn.
            while waiting and not self.closed:
                await waiting[0]()
                waiting.popleft()
        finally:
            del self._chains[lane]

    # --- the clock ---

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.closed:
            due = self._session.next_tick(now=self._loop.time())
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self._session.tick(now=self._loop.time()))
        self._schedule()

    # --- the end ---

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._local.forget(self)
        for waiting in self._chains.values():
            # What runs may be half done and goes on; what has not begun never will.
            while len(waiting) > 1:
                waiting.pop()
        self.requests.cancel()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            count("connection.failed")
            logger.error("A connection's request failed.", exc_info=error)
            self.close(CloseCode.STATE_LOST)


def _public(identity: Identity) -> User | None:
    if identity.is_anonymous:
        return None
    return User(id=identity.sender.id, name=identity.sender.name)
