"""What a broker is: the keeper of every topic's log, and the bell that tells of new entries.

The log is the truth, the bell is only a doorbell. A broker may lose a ring, never an entry inside a
topic's history; whoever doubts what it heard reads the log from its position. A backend implements
:class:`Broker` (used from any thread) and :class:`Listener` (used from one event loop), states what
it can do in :class:`Capabilities`, and passes :mod:`django_wsrealtime.testing.conformance`.

Rows and tickets
----------------
Two transactions commit v1, then v2; the second publisher may reach the broker first. So a publisher
draws a *ticket* before it reads a row and appends with it; the broker refuses a row whose newest
entry has a higher ticket. The publisher of the last commit drew its ticket after that commit:
whoever holds a higher one read later still, and whoever read less holds a lower one and is refused.
Beside the ticket a broker remembers which topics the row's last events went to, and swaps both in
the same step, so that a row moved twice at once leaves no ghost in the topic it passed through.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from ..errors import NotSupported
from ..protocol.position import Position, Since, Start

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

METADATA_LIFE = 10
"""A log's epoch and offset outlive its entries this many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How much of a topic's log is kept for those who come back.

    Args:
        size: events.
        ttl: seconds.
        from_: ``"start"``: whoever may subscribe may read all of it. ``"join"``: nobody reads
            what was published before they first joined.
    """

    size: int = 100
    ttl: float = 300.0
    from_: Literal["start", "join"] = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event in a topic's log.

    Args:
        epoch: the log's name.
        offset: the event's number in it, from 1.
        time: microseconds of the broker's clock; never less than that of the entry before.
        body: from :func:`..protocol.codec.event_body` or :func:`..protocol.binary.encode_body`.
    """

    epoch: str
    offset: int
    time: int
    body: bytes

    @property
    def position(self) -> Position:
        return Position(epoch=self.epoch, offset=self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a reader of a log gets.

    Args:
        position: the log's end after ``entries``.
        recovered: whether ``entries`` is everything after the start that was asked for.
            ``True`` when no start was asked for.
        entries: in order; empty unless ``recovered``.
        reason: why it was not recovered: ``"epoch"``, ``"trimmed"`` or ``"lost"``.
    """

    position: Position
    recovered: bool = True
    entries: Sequence[Entry] = ()
    reason: str = ""


# --- what publishers ask for -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Append one event to one topic.

    Args:
        topic: the topic's name.
        body: the event.
        history: how much of the log to keep.
        key: an idempotency key, already scoped to its author: a second append with the same key
            within the history's ``ttl`` answers :attr:`Outcome.DUPLICATE` with the first position.
    """

    topic: str
    body: bytes
    history: History
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """Append a row's committed state to the topics it belongs to, and its removal elsewhere.

    In one step: refuse if the row's newest entry has a higher ticket (or, with ``ticket=None``, if
    the row has any entry), or if a topic concerned was reset with a higher one; append ``remove``
    to every topic in ``before`` or remembered for the row that is not in ``topics``; append each of
    ``topics``; remember the ticket and the topics.

    Args:
        row: names the row in its table and database, as in ``"shop.order/default/5"``.
        ticket: from :meth:`Broker.ticket`; ``None`` for a row that its transaction created.
        topics: the row's event for each topic it belongs to now; empty if it was deleted.
        remove: the event for topics that the row left.
        before: topics it was in before the transaction, as far as its publisher knows.
        history: how much of these logs, and how long the row's ticket, to keep.
    """

    row: str
    ticket: int | None
    topics: Mapping[str, bytes]
    remove: bytes
    before: frozenset[str]
    history: History


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Begin a new epoch of a topic's log: whatever its readers hold is stale.

    Args:
        topic: the topic's name.
        reason: ``"bulk"`` or ``"lost"``; travels to the clients.
        history: how long to keep the log's metadata.
        ticket: drawn before the reset: rows that were read with a lower one, or with none, may be
            older than what readers fetch now, so their changes are refused from here on.
    """

    topic: str
    reason: str
    history: History
    ticket: int | None = None


Command = Publish | RowChange | Reset


class Outcome(enum.Enum):
    """What became of a command."""

    APPENDED = "appended"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer to a command.

    Args:
        outcome: what became of it.
        positions: per topic, the position of the entry (of the first one, for a duplicate); of a
            reset, the beginning of the new epoch. Empty if it was refused, and where a backend
            without history numbers nothing.
    """

    outcome: Outcome
    positions: Mapping[str, Position]


# --- presence ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """One connection that is present in a topic.

    Args:
        sid: the connection's id.
        member: whose connection it is.
        info: JSON of what everybody may know of the member, its state included.
    """

    sid: str
    member: str
    info: bytes


# --- the contract ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do.

    Args:
        history: keeps entries, so that a reader can come back. Without it every gap is a reset.
        cluster: several processes share it.
        presence: keeps who is present.
        idempotency: recognises a key it has seen.
    """

    history: bool
    cluster: bool
    presence: bool
    idempotency: bool


class Handler(Protocol):
    """Who listens. Every method is called in the listener's event loop and must not block."""

    def on_entry(self, topic: str, entry: Entry) -> None:
        """A topic's log has grown."""

    def on_reset(self, topic: str, reason: str) -> None:
        """A topic's log has begun a new epoch; look at it."""

    def on_doubt(self, topics: Iterable[str] | None) -> None:
        """Rings may have been lost: compare these topics (``None``: all) with their logs."""

    def on_signal(self, topic: str, payload: bytes) -> None:
        """Something fleeting was sent to a topic: it is in no log."""


class Broker(ABC):
    """The part that publishers use; safe in every thread, and after a fork.

    Every method may raise :class:`~django_wsrealtime.errors.BrokerUnavailable`, after at most
    one second in total, and at once while the store is known to be away.

    Args:
        options: what ``conf`` found for this backend.
    """

    capabilities: ClassVar[Capabilities]
    blocking: ClassVar[bool] = True
    """Whether a call may wait for a network, so that event loops must not make it."""

    @abstractmethod
    def append(self, commands: Sequence[Command]) -> list[Result]:
        """Carry out commands in order, each atomically; one round trip where possible."""

    @abstractmethod
    def ticket(self) -> int:
        """Draw a ticket: higher than every ticket drawn before, in any process."""

    @abstractmethod
    def now(self) -> Since:
        """The latest time before which, for certain, nothing new will appear in any log.

        It is the broker's clock less what this process does not know about it. Costs no round
        trip when the clocks were compared lately. ``Since(time=0)``, the beginning of time, if
        the store cannot be reached: whoever reads from there gets a reset.
        """

    @abstractmethod
    def read(self, topic: str, start: Start, *, history: History) -> Page:
        """Read a log. One that does not exist yet is created.

        Args:
            topic: the topic's name.
            start: ``None`` reads only the log's end.
            history: what counts as inside the window.
        """

    def read_all(self, topic: str, *, history: History) -> Sequence[Entry]:
        """Everything that is kept of a log, oldest first.

        Raises:
            NotSupported: the backend keeps no history.
        """
        raise NotSupported(f"{type(self).__name__} keeps no history; use the Redis broker.")

    @abstractmethod
    def signal(self, topic: str, payload: bytes) -> None:
        """Ring with a message of its own that is kept nowhere and may be lost."""

    def present(self, topic: str) -> Sequence[Attendance]:
        """Who is present in a topic, oldest first; those not heard of within the TTL are gone."""
        raise NotSupported(f"{type(self).__name__} keeps no presence; use the Redis broker.")

    def claim(self, name: str, value: str, *, ttl: float) -> str:
        """Set ``name`` to ``value`` for ``ttl`` seconds unless it is set; return what it is set to.

        A value that is already there has its time extended.
        """
        raise NotSupported(f"{type(self).__name__} keeps no values; use the Redis broker.")

    def when_back(self, callback: Callable[[], None]) -> None:
        """Call back, in some thread, once the store can be reached; at once if it can now."""
        callback()

    @abstractmethod
    def listen(self, handler: Handler) -> Listener:
        """Begin to listen in the running event loop."""

    def serves_browsers(self) -> None:  # noqa: B027  a backend may have nothing to note
        """This process serves an ASGI application: browsers may connect to it at any time."""

    def close(self) -> None:  # noqa: B027  a backend may have nothing to give back
        """Give back every connection."""

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """System checks of this backend and its configuration (``check --deploy`` included)."""
        return []


class Listener(ABC):
    """The part that a hub uses, in the event loop that made it.

    It reconnects by itself; after each interruption it calls ``handler.on_doubt(None)``.
    The methods that ask the store raise ``BrokerUnavailable`` like those of :class:`Broker`.
    """

    @abstractmethod
    async def subscribe(self, topics: Sequence[str]) -> None:
        """Hear of these topics from now on; returns when the store has confirmed it.

        If it raises, none of those that were not heard before will be. Not to be called for a
        topic while another call for it is under way.
        """

    @abstractmethod
    async def unsubscribe(self, topics: Sequence[str]) -> None:
        """Hear of these topics no longer."""

    @abstractmethod
    async def read(self, topic: str, start: Start, *, history: History) -> Page:
        """See :meth:`Broker.read`."""

    @abstractmethod
    async def heads(self, topics: Mapping[str, History]) -> Mapping[str, Position]:
        """The ends of many logs, in one round trip, which keeps these logs alive.

        Logs that do not exist (any more) are left out: whoever has a position in one must read it.
        """

    @abstractmethod
    async def signal(self, topic: str, payload: bytes) -> None:
        """See :meth:`Broker.signal`."""

    async def present(self, topic: str) -> Sequence[Attendance]:
        """See :meth:`Broker.present`."""
        raise NotSupported(f"{type(self).__name__} keeps no presence; use the Redis broker.")

    async def attend(self, topic: str, attendance: Sequence[Attendance], *, ttl: float) -> None:
        """Enter connections into a topic's presence, or renew them, for ``ttl`` seconds."""
        raise NotSupported(f"{type(self).__name__} keeps no presence; use the Redis broker.")

    async def leave(self, topic: str, sids: Sequence[str]) -> None:
        """Take connections out of a topic's presence."""
        raise NotSupported(f"{type(self).__name__} keeps no presence; use the Redis broker.")

    async def claim(self, name: str, value: str, *, ttl: float) -> str:
        """See :meth:`Broker.claim`."""
        raise NotSupported(f"{type(self).__name__} keeps no values; use the Redis broker.")

    @abstractmethod
    async def aclose(self) -> None:
        """Stop listening; ends every task that was started."""


__all__ = [
    "METADATA_LIFE",
    "Attendance",
    "Broker",
    "Capabilities",
    "Command",
    "Entry",
    "Handler",
    "History",
    "Listener",
    "Outcome",
    "Page",
    "Publish",
    "Reset",
    "Result",
    "RowChange",
]
