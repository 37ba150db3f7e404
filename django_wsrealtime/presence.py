"""Who is present in a topic: enters and renews the local connections, tells them of all others.

The list is kept by the broker, one entry per connection, each with a time to live: a process that
dies takes its members with it within :data:`TTL` seconds. A ring (a ``presence`` signal) only says
that the list has changed. Whoever hears it reads the list and tells its own subscribers the
difference to what they were told before, so a lost ring costs time, never a wrong list: each
process looks again whenever it renews its entries.

A member is a person: three tabs are three connections of one member. In a crowd of more than
:data:`SAMPLE` the list shows those who have been there longest, and ``count`` tells how many there
are.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from .brokers.base import Attendance, Listener
from .errors import BrokerUnavailable, ErrorCode, NotSupported, ProtocolError
from .instrumentation import count, logger, warn_once
from .protocol import codec, signals
from .protocol.frames import Frame, PresenceOut

TTL = 45.0
"""Seconds after which a connection that is not renewed is gone."""
RENEW_EVERY = 15.0
"""Seconds between two renewals: two may fail before anybody seems to have left."""
BATCH = 0.5
"""Seconds between two frames about one topic."""
RETRY = 1.0
"""Seconds before a broker that was away is asked again."""
GOODBYE = 2.0
"""Seconds that a process which ends takes to sign its members off."""
SAMPLE = 200
"""Members that a list shows."""
MAX_STATE = 4_096
"""Bytes of JSON in one member's state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Declares that a topic keeps a list of who follows it: ``presence = Presence()``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One person in a topic.

    Args:
        id: the user's primary key as a string, or ``anon:`` and a visitor's random id.
        name: how the person is called.
        state: what the person's browser last set with ``presence.set()``.
        connections: how many tabs.
    """

    id: str
    name: str
    state: Mapping[str, Any] = field(default_factory=dict)
    connections: int = 1


class Subscriber(Protocol):
    """A connection that is told who is there."""

    @property
    def lagging(self) -> bool:
        """Whether nothing may be written to it now."""

    def write_frame(self, frame: Frame) -> None:
        """Send a frame."""


class _Info(msgspec.Struct, omit_defaults=True):
    """What is kept of a connection at the broker; ``at`` is when the state was set."""

    name: str = ""
    state: dict[str, Any] = {}
    at: float = 0.0


_info = msgspec.json.Decoder(_Info)


def group(attendances: Iterable[Attendance]) -> list[Member]:
    """Connections as members, in the order in which their first connections came.

    A member's state is the one that was set last, in whichever tab.
    """
    infos: dict[str, tuple[_Info, int]] = {}
    for attendance in attendances:
        try:
            info = _info.decode(attendance.info)
        except (msgspec.DecodeError, UnicodeDecodeError):
            count("presence.rejected")
            continue
        known, connections = infos.get(attendance.member, (info, 0))
        infos[attendance.member] = (info if info.at > known.at else known, connections + 1)
    return [
        Member(id=id, name=info.name, state=info.state, connections=connections)
        for id, (info, connections) in infos.items()
    ]


@dataclass(slots=True, kw_only=True, eq=False)
class _Attendee:
    """One local connection in one topic.

    ``entered``: the broker has it as it is now. ``told``: it has a list that differences apply to.
    """

    sid: str
    member: str
    info: _Info
    subscriber: Subscriber
    entered: bool = False
    told: bool = False

    def attendance(self) -> Attendance:
        return Attendance(sid=self.sid, member=self.member, info=msgspec.json.encode(self.info))


@dataclass(slots=True, kw_only=True, eq=False)
class _Feed:
    """One topic: its local connections, and what those of them that are ``told`` know."""

    topic: str
    attendees: dict[str, _Attendee] = field(default_factory=dict)
    known: dict[str, Member] = field(default_factory=dict)
    count: int = 0
    seq: int = 0
    dirty: bool = False
    announce: bool = False
    next_at: float = 0.0
    task: asyncio.Task[None] | None = None


class Attendances:
    """The presence of one event loop's connections.

    Args:
        listener: the loop's face of the broker.
        batch: seconds between two frames about one topic.
        renew_every: seconds between two renewals.
    """

    def __init__(
        self, *, listener: Listener, batch: float = BATCH, renew_every: float = RENEW_EVERY
    ) -> None:
        self._listener = listener
        self._batch = batch
        self._renew_every = renew_every
        self._loop = asyncio.get_running_loop()
        self._id = secrets.token_hex(8)
        self._feeds: dict[str, _Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None

    # --- what connections do ---

    async def enter(
        self,
        topic: str,
        sid: str,
        member: str,
        info: Mapping[str, Any],
        subscriber: Subscriber,
    ) -> None:
        """A connection follows a topic; it is sent the list, and from then on what changes.

        Args:
            topic: the topic's name.
            sid: the connection's id.
            member: whose it is.
            info: what everybody may know of the member; ``name`` is read.
            subscriber: the connection.
        """
        feed = self._feeds.get(topic)
        if feed is None:
            feed = self._feeds[topic] = _Feed(topic=topic)
        # Whoever asks for the topic again, after a gap for example, shows what it showed before.
        known = feed.attendees.get(sid)
        before = _Info() if known is None else known.info
        attendee = _Attendee(
            sid=sid,
            member=member,
            info=_Info(name=str(info.get("name") or ""), state=before.state, at=before.at),
            subscriber=subscriber,
        )
        feed.attendees[sid] = attendee
        if self._renewing is None:
            self._renewing = self._start(self._renew_regularly())
        await self._attend(feed, [attendee])
        self._ring(feed, announce=True)

    async def set_state(self, topic: str, sid: str, state: Mapping[str, Any]) -> None:
        """Set what a member shows to the others, in place of what it showed before.

        Args:
            topic: the topic's name.
            sid: the connection's id.
            state: a JSON object, at most :data:`MAX_STATE` bytes.

        Raises:
            ProtocolError: the state is too large, or the connection is not in the topic.
        """
        feed = self._feeds.get(topic)
        attendee = feed.attendees.get(sid) if feed is not None else None
        if feed is None or attendee is None:
            raise ProtocolError(
                ErrorCode.NOT_SUBSCRIBED,
                "A presence state needs a subscription to the topic; subscribe to it first.",
                topic=topic,
            )
        encoded = codec.encode_data(state)
        if len(encoded) > MAX_STATE:
            raise ProtocolError(
                ErrorCode.LIMIT_EXCEEDED,
                f"The state has {len(encoded)} bytes; at most {MAX_STATE} are kept.",
                topic=topic,
            )
        attendee.info = _Info(name=attendee.info.name, state=dict(state), at=time.time())
        attendee.entered = False
        await self._attend(feed, [attendee])
        self._ring(feed, announce=True)

    async def leave(self, topic: str, sid: str) -> None:
        """A connection follows a topic no longer; one that did not is no error."""
        feed = self._feeds.get(topic)
        if feed is None or feed.attendees.pop(sid, None) is None:
            return
        await self._sign_off(feed, [sid])
        self._ring(feed, announce=True)

    async def leave_all(self, sid: str) -> None:
        """A connection has ended."""
        for topic in [topic for topic, feed in self._feeds.items() if sid in feed.attendees]:
            await self.leave(topic, sid)

    def on_signal(self, topic: str, signal: signals.Signal | None = None) -> None:
        """A topic's list has changed, here or elsewhere.

        Args:
            topic: the topic's name.
            signal: what was heard; one of our own tells nothing new.
        """
        feed = self._feeds.get(topic)
        if feed is not None and (signal is None or signal.skip != self._id):
            self._ring(feed)

    async def aclose(self) -> None:
        """Sign everybody off, so that no other process shows them, and end every task."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        feeds, self._feeds = self._feeds, {}
        goodbyes = [self._say_goodbye(feed) for feed in feeds.values() if feed.attendees]
        try:
            await asyncio.wait_for(asyncio.gather(*goodbyes), GOODBYE)
        except asyncio.TimeoutError:
            count("presence.unsigned")

    async def _say_goodbye(self, feed: _Feed) -> None:
        if await self._sign_off(feed, list(feed.attendees)):
            await self._announce(feed)

    # --- the broker's list ---

    async def _attend(self, feed: _Feed, attendees: Sequence[_Attendee]) -> bool:
        """Enter connections or renew them; ``False`` if the broker cannot now."""
        entries = [attendee.attendance() for attendee in attendees]
        for attendee in attendees:
            attendee.entered = True
        if not await self._ask(self._listener.attend(feed.topic, entries, ttl=TTL)):
            for attendee in attendees:
                attendee.entered = False
            return False
        # Whoever left meanwhile may have been entered after being signed off.
        gone = [one.sid for one in attendees if feed.attendees.get(one.sid) is None]
        return await self._sign_off(feed, gone) if gone else True

    async def _sign_off(self, feed: _Feed, sids: Sequence[str]) -> bool:
        return await self._ask(self._listener.leave(feed.topic, sids))

    async def _announce(self, feed: _Feed) -> bool:
        payload = signals.encode(op=signals.PRESENCE, skip=self._id)
        return await self._ask(self._listener.signal(feed.topic, payload))

    async def _ask(self, call: Coroutine[Any, Any, None]) -> bool:
        """Whether the broker did it. If not, it is tried again, or the TTL makes up for it."""
        try:
            await call
        except BrokerUnavailable:
            count("presence.unavailable")
            return False
        except NotSupported as error:
            warn_once("presence", f"Nobody is shown as present: {error}")
        return True

    async def _renew_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._renew_every * random.uniform(0.9, 1.1))
            for feed in list(self._feeds.values()):
                if not await self._attend(feed, list(feed.attendees.values())):
                    break  # the broker is away: all other topics would wait for it as well
                self._ring(feed)

    # --- telling ---

    def _ring(self, feed: _Feed, *, announce: bool = False) -> None:
        """Have the list read again, soon."""
        feed.dirty = True
        feed.announce = feed.announce or announce
        if feed.task is None:
            feed.task = self._start(self._follow(feed))

    async def _follow(self, feed: _Feed) -> None:
        """Read and tell until nothing is new, at most once per batch; the first time at once."""
        try:
            while feed.dirty:
                await asyncio.sleep(feed.next_at - self._loop.time())
                feed.dirty = False
                feed.next_at = self._loop.time() + self._batch
                if not await self._refresh(feed):
                    feed.dirty = True
                    feed.next_at = self._loop.time() + RETRY
        finally:
            feed.task = None
            if not feed.attendees and self._feeds.get(feed.topic) is feed:
                del self._feeds[feed.topic]

    async def _refresh(self, feed: _Feed) -> bool:
        """Whether the broker could be asked."""
        missing = [one for one in feed.attendees.values() if not one.entered]
        if missing and not await self._attend(feed, missing):
            return False
        if feed.announce:
            feed.announce = not await self._announce(feed)
        if not feed.attendees:
            return True
        try:
            members = group(await self._listener.present(feed.topic))
        except BrokerUnavailable:
            count("presence.unavailable")
            return False
        except NotSupported as error:
            warn_once("presence", f"Nobody is shown as present: {error}")
            return True
        self._tell(feed, members)
        return True

    def _tell(self, feed: _Feed, members: Sequence[Member]) -> None:
        shown = {member.id: member for member in members[:SAMPLE]}
        diff = _difference(feed.known, shown)
        changed = bool(diff) or feed.count != len(members)
        feed.known, feed.count = shown, len(members)
        if changed:
            feed.seq += 1
        news = PresenceOut(topic=feed.topic, seq=feed.seq, count=feed.count, **diff)
        whole = PresenceOut(
            topic=feed.topic,
            seq=feed.seq,
            count=feed.count,
            members=[_public(member) for member in shown.values()],
        )
        for attendee in list(feed.attendees.values()):
            if attendee.subscriber.lagging:
                attendee.told = False  # it gets the whole list when it has caught up
            elif not attendee.told:
                attendee.told = True
                attendee.subscriber.write_frame(whole)
            elif changed:
                attendee.subscriber.write_frame(news)

    # --- tasks ---

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            count("presence.failed")
            logger.error("Following a topic's presence failed.", exc_info=error)


def _public(member: Member) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": member.id, "name": member.name}
    if member.state:
        shown["state"] = member.state
    return shown


def _difference(before: Mapping[str, Member], after: Mapping[str, Member]) -> dict[str, list[Any]]:
    """The fields of a frame that lead from one list to the other.

    A member whose number of connections has changed looks the same to others.
    """
    join = [
        _public(member)
        for id, member in after.items()
        if id not in before or before[id].name != member.name
    ]
    leave = [id for id in before if id not in after]
    state = [
        {"id": id, "state": member.state}
        for id, member in after.items()
        if id in before and before[id].state != member.state
    ]
    found: dict[str, list[Any]] = {"join": join, "leave": leave, "state": state}
    return {name: items for name, items in found.items() if items}
