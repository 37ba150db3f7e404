"""One connection's part of the protocol as a state machine: messages and clock in, effects out.

It decides, and does nothing: no socket, no clock, no randomness of its own. A driver
(:mod:`..transports.connection`) feeds it what comes and carries out the effects in order::

    awaiting hello --hello--> authenticating --welcome()--> open --close()--> closed
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import ParamSpec

from ..errors import CloseCode, ErrorCode, ProtocolError
from . import VERSION, binary, codec
from .binary import BinaryPublish
from .frames import (
    Ack,
    Bye,
    Call,
    ClientFrame,
    Error,
    Frame,
    Hello,
    Id,
    Mark,
    Ok,
    Ping,
    Pong,
    Publish,
    SetPresence,
    Subscribe,
    Unsubscribe,
    User,
    Welcome,
    Whisper,
    WirePosition,
)
from .limits import Limits, TokenBucket
from .position import Position, Since, Start
from .window import Window

P = ParamSpec("P")

PING_JITTER = 0.1
"""Heartbeats come at their interval ± this share, so that a crowd does not beat in step."""
SILENCE = 3.0
"""A connection that was silent for this many heartbeats is dead."""
LAG_SECONDS = 30.0
"""A lagging reader whose marks do not move for so long is given up."""
LAG_LOOK = 5.0
"""Seconds between two looks at a lagging reader."""
MAX_TIME = 2**63
BOTHERS = 500
BOTHERS_PER_SECOND = 100.0
"""Frames that ask for nothing that is carried out: heartbeats, and those that are refused. Each of
them costs an answer or a look, so whoever sends more than so many at once and a second is cut."""


class State(enum.Enum):
    """Where a connection is in its life."""

    AWAITING_HELLO = "awaiting hello"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    CLOSED = "closed"


# --- effects -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Find out who this is, then call :meth:`Session.welcome` or :meth:`Session.fail`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Join:
    """Subscribe to a topic, or call :meth:`Session.left` and :meth:`Session.fail`."""

    id: Id | None
    topic: str
    grant: str | None
    start: Start


@dataclass(frozen=True, slots=True)
class Leave:
    """Unsubscribe."""

    id: Id
    topic: str


@dataclass(frozen=True, slots=True)
class Perform:
    """Do what a member asks for, then call :meth:`Session.answer` or :meth:`Session.fail`."""

    request: Call | Publish | SetPresence | BinaryPublish


@dataclass(frozen=True, slots=True)
class PassOn:
    """Pass a whisper on."""

    whisper: Whisper


@dataclass(frozen=True, slots=True)
class Resume:
    """The reader has caught up enough: write again."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the transport; nothing else follows."""

    code: CloseCode


Effect = Send | Authenticate | Join | Leave | Perform | PassOn | Resume | Close


class Session:
    """The server's side of one connection.

    Args:
        sid: the connection's id.
        limits: what the client may ask for.
        ping_interval: seconds between heartbeats.
        now: the present, in seconds of any steady clock; likewise in every method.
        random: numbers in [0, 1).
        nonce: fresh, unguessable strings for marks.
    """

    def __init__(
        self,
        *,
        sid: str,
        limits: Limits,
        ping_interval: float,
        now: float,
        random: Callable[[], float],
        nonce: Callable[[], str],
    ) -> None:
        self.sid = sid
        self.state = State.AWAITING_HELLO
        self.window = Window(size=limits.window_bytes)
        self.topics: set[str] = set()
        self._limits = limits
        self._ping_interval = ping_interval
        self._random = random
        self._nonce = nonce
        self._opened = now
        self._heard = now
        self._ping_at = now
        self._lagging_since: float | None = None
        self._wanted: Hello | None = None
        self._requests = TokenBucket(rate=limits.messages_per_second, burst=limits.burst, now=now)
        self._presence = _bucket(limits.presence_per_second, now)
        self._whispers = _bucket(limits.whispers_per_second, now)
        self._bothers = TokenBucket(rate=BOTHERS_PER_SECOND, burst=BOTHERS, now=now)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be said or heard."""
        return self.state is State.CLOSED

    # --- from the client ---

    def receive(self, message: str | bytes, *, now: float) -> list[Effect]:
        """Take a message; text comes as ``str``, binary as ``bytes``."""
        if self.closed:
            return []
        self._heard = now
        if isinstance(message, bytes):
            return self._guard(now, self._binary, message, now)
        try:
            lines = codec.split(message, limits=self._limits)
        except ProtocolError as error:
            return self._refuse(error, now)
        effects: list[Effect] = []
        for line in lines:
            if not self.closed:
                effects += self._guard(now, self._line, line, now)
        return effects

    def _guard(
        self, now: float, step: Callable[P, Sequence[Effect]], *args: P.args, **kwargs: P.kwargs
    ) -> list[Effect]:
        """One step; whatever is wrong with its input becomes one error frame."""
        try:
            return list(step(*args, **kwargs))
        except ProtocolError as error:
            return self._refuse(error, now)

    def _refuse(self, error: ProtocolError, now: float) -> list[Effect]:
        return self.fail(error) + self._bothered(now)

    def _bothered(self, now: float) -> list[Effect]:
        """One more frame that asks for nothing that is carried out."""
        return self.close(CloseCode.OVERLOADED) if self._bothers.take(now=now) else []

    def _line(self, line: bytes, now: float) -> list[Effect]:
        return self._frame(codec.decode(line, limits=self._limits), now)

    def _binary(self, message: bytes, now: float) -> list[Effect]:
        request = binary.decode(message, limits=self._limits)
        self._expect_open("a binary message", id=request.id)
        self._spend(self._requests, now, id=request.id, topic=request.topic)
        self._expect_topic(request.topic, id=request.id)
        return [Perform(request)]

    def _frame(self, frame: ClientFrame, now: float) -> list[Effect]:
        if isinstance(frame, Hello):
            return self._hello(frame)
        if isinstance(frame, Ping):
            return [Send(Pong(ts=frame.ts)), *self._bothered(now)]
        if isinstance(frame, Pong):
            return self._bothered(now)
        if isinstance(frame, Ack):
            return self._ack(frame, now)
        id = getattr(frame, "id", None)
        self._expect_open(f"a {frame.__struct_config__.tag} frame", id=id)
        if isinstance(frame, Whisper):
            self._spend(self._whispers, now, topic=frame.topic)
            self._expect_topic(frame.topic)
            return [PassOn(frame)]
        if isinstance(frame, SetPresence):
            self._spend(self._presence, now, id=frame.id, topic=frame.topic)
            self._expect_topic(frame.topic, id=frame.id)
            return [Perform(frame)]
        self._spend(self._requests, now, id=id, topic=frame.topic)
        match frame:
            case Subscribe():
                return self._join(frame.id, frame.topic, frame.grant, frame.position)
            case Unsubscribe():
                self.topics.discard(frame.topic)
                return [Leave(frame.id, frame.topic)]
            case Publish():
                self._expect_topic(frame.topic, id=frame.id)
                return [Perform(frame)]
            case Call():
                return [Perform(frame)]
        raise AssertionError(frame)  # pragma: no cover

    def _hello(self, hello: Hello) -> list[Effect]:
        if self.state is not State.AWAITING_HELLO:
            raise ProtocolError(
                ErrorCode.UNEXPECTED, f"A hello came while {self.state.value}; expected just one."
            )
        if hello.v < VERSION:
            return self.close(CloseCode.CLIENT_TOO_OLD)
        self.state = State.AUTHENTICATING
        self._wanted = hello
        return [Authenticate(hello)]

    def _ack(self, ack: Ack, now: float) -> list[Effect]:
        lagged = self.window.lagging
        self.window.ack(ack.n)
        if self._lagging_since is not None:
            self._lagging_since = now
        if not lagged or self.window.lagging:
            return []
        self._lagging_since = None
        return [Resume()]

    def _join(
        self, id: Id | None, topic: str, grant: str | None, position: WirePosition | None
    ) -> list[Effect]:
        if topic not in self.topics and len(self.topics) >= self._limits.subscriptions:
            raise ProtocolError(
                ErrorCode.LIMIT_EXCEEDED,
                f"This connection follows {len(self.topics)} topics already, which is the most;"
                " unsubscribe from one first.",
                id=id,
                topic=topic,
            )
        start = _start(position, id=id, topic=topic)
        self.topics.add(topic)
        return [Join(id, topic, grant, start)]

    def _expect_open(self, what: str, *, id: Id | None = None) -> None:
        if self.state is not State.OPEN:
            raise ProtocolError(
                ErrorCode.UNEXPECTED, f"Received {what} while {self.state.value}.", id=id
            )

    def _expect_topic(self, topic: str, *, id: Id | None = None) -> None:
        if topic not in self.topics:
            raise ProtocolError(
                ErrorCode.NOT_SUBSCRIBED,
                "This needs a subscription to the topic; subscribe to it first.",
                id=id,
                topic=topic,
            )

    def _spend(
        self, bucket: TokenBucket, now: float, *, id: Id | None = None, topic: str | None = None
    ) -> None:
        if wait := bucket.take(now=now):
            raise ProtocolError(
                ErrorCode.RATE_LIMITED,
                f"Too many messages; at most {bucket.rate:g} a second.",
                id=id,
                topic=topic,
                retry_after=max(1, round(wait * 1_000)),
            )

    # --- from the driver ---

    def welcome(self, *, user: User | None, now: float) -> list[Effect]:
        """The client is known now: greet it and join what its ``hello`` asked for."""
        if self.closed:
            return []
        if self.state is not State.AUTHENTICATING or self._wanted is None:
            raise RuntimeError(f"welcome() while {self.state.value}; expected authenticating.")
        self.state = State.OPEN
        self._ping_at = now + self._next_ping()
        greeting = Welcome(
            sid=self.sid,
            v=VERSION,
            ping=round(self._ping_interval * 1_000),
            limits={name: float(value) for name, value in asdict(self._limits).items()},
            user=user,
        )
        effects: list[Effect] = [Send(greeting)]
        for wanted in self._wanted.subscriptions:
            effects += self._guard(
                now, self._join, None, wanted.topic, wanted.grant, wanted.position
            )
        self._wanted = None
        return effects

    def answer(self, id: Id, data: object = None) -> list[Effect]:
        """A request was fulfilled."""
        return [] if self.closed else [Send(Ok(id=id, data=data))]

    def fail(self, error: ProtocolError) -> list[Effect]:
        """Something cannot be done: tell the client, and close if it is fatal."""
        if self.closed:
            return []
        frame = Error(
            code=error.name,
            message=error.message,
            id=error.id,
            topic=error.topic,
            retry_after=error.retry_after,
        )
        effects: list[Effect] = [Send(frame)]
        if error.fatal is not None:
            effects += self.close(error.fatal)
        return effects

    def left(self, topic: str) -> None:
        """The server ended a subscription, or refused it."""
        self.topics.discard(topic)

    def close(self, code: CloseCode, *, after: int | None = None) -> list[Effect]:
        """End the connection.

        Args:
            code: why.
            after: milliseconds within which the client picks the moment to dial again.
        """
        if self.closed:
            return []
        self.state = State.CLOSED
        bye = Bye(code=int(code), reason=code.reason, reconnect=code.reconnect, after=after)
        return [Send(bye), Close(code)]

    def end(self) -> None:
        """The transport is gone."""
        self.state = State.CLOSED

    def mark(self) -> Mark:
        """The mark that is due; the driver sends it and counts its bytes like any other."""
        frame = Mark(n=self._nonce())
        self.window.mark(frame.n)
        return frame

    # --- the clock ---

    def tick(self, *, now: float) -> list[Effect]:
        """Do what is due."""
        if self.closed:
            return []
        if self.state is not State.OPEN:
            if now >= self._opened + self._limits.hello_seconds:
                return self.close(CloseCode.HELLO_TIMEOUT)
            return []
        if now >= self._heard + self._ping_interval * SILENCE:
            return self.close(CloseCode.NO_HEARTBEAT)
        if self.window.lagging:
            if self._lagging_since is None:
                self._lagging_since = now
            elif now >= self._lagging_since + LAG_SECONDS:
                return self.close(CloseCode.SLOW_CONSUMER)
        if now >= self._ping_at:
            self._ping_at = now + self._next_ping()
            return [Send(Ping())]
        return []

    def next_tick(self, *, now: float) -> float:
        """When to call :meth:`tick` next, unless the reader begins to lag before."""
        if self.state is not State.OPEN:
            return self._opened + self._limits.hello_seconds
        due = min(self._ping_at, self._heard + self._ping_interval * SILENCE)
        return min(due, now + LAG_LOOK) if self.window.lagging else due

    def _next_ping(self) -> float:
        return self._ping_interval * (1 - PING_JITTER + 2 * PING_JITTER * self._random())


def _bucket(rate: float, now: float) -> TokenBucket:
    return TokenBucket(rate=rate, burst=max(1.0, rate), now=now)


def _start(position: WirePosition | None, *, id: Id | None, topic: str) -> Start:
    if position is None:
        return None
    if position.since is not None and position.epoch is None and position.offset is None:
        try:
            time = int(position.since)
        except ValueError:
            time = -1
        if 0 <= time < MAX_TIME:
            return Since(time=time)
    elif position.epoch is not None and position.offset is not None and position.since is None:
        return Position(epoch=position.epoch, offset=position.offset)
    raise ProtocolError(
        ErrorCode.BAD_MESSAGE,
        "A position is {epoch, offset} or {since}, as the server gave them out.",
        id=id,
        topic=topic,
    )
