"""Carry out what a client asks for: join, leave, call, publish, whisper, be present."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..errors import BrokerUnavailable, ErrorCode, ProtocolError
from ..instrumentation import count
from ..protocol import signals
from ..protocol.binary import BinaryPublish
from ..protocol.frames import Call, Id, Publish, SetPresence, Whisper
from ..protocol.position import Start
from ..topics import access, actions
from ..topics.base import Topic
from ..topics.publish import member_publish
from ..topics.serialize import default

if TYPE_CHECKING:
    from ..topics.access import Identity
    from .connection import Connection
    from .local import Local


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """When a member first joined a topic, as the broker keeps it.

    Args:
        name: under which it is kept.
        time: microseconds of broker time.
        ttl: seconds for which it is kept.
    """

    name: str
    time: str
    ttl: float


class Requests:
    """The requests of one connection.

    Args:
        connection: whose.
        local: this event loop's hub and presence.
    """

    def __init__(self, connection: Connection, local: Local) -> None:
        self._connection = connection
        self._local = local
        self._joins: set[asyncio.Future[None]] = set()
        self._grants: dict[str, str] = {}
        """By which grants topics are followed."""
        self._doubts = 0
        self._claims: dict[str, _Claim] = {}
        """Since when topics may be read of which nobody reads what came before joining."""

    @property
    def _identity(self) -> Identity:
        identity = self._connection.identity
        assert identity is not None, "requests are only accepted after welcome"
        return identity

    def grant(self, topic: str) -> str | None:
        """The grant by which a topic is followed, if it is."""
        return self._grants.get(topic)

    def doubt(self) -> None:
        """Whatever was answered so far about permissions may be wrong now."""
        self._doubts += 1

    def cancel(self) -> None:
        """The connection is gone: nobody waits for its joins any more."""
        for join in list(self._joins):
            join.cancel()
        for topic in list(self._claims):
            self._prolong(topic)

    async def join(self, name: str, start: Start, *, grant: str | None, id: Id | None) -> None:
        """Subscribe, or answer why not."""
        connection = self._connection
        joining = asyncio.ensure_future(self._join(name, start, grant=grant, id=id))
        self._joins.add(joining)
        try:
            await joining
        except ProtocolError as error:
            connection.left(name)
            self._explain(error, id=id, topic=name)
            await self.leave(name)  # whoever followed it already does so no longer
        except asyncio.CancelledError:
            if not connection.closed:
                raise
        finally:
            self._joins.discard(joining)

    async def _join(self, name: str, start: Start, *, grant: str | None, id: Id | None) -> None:
        connection, hub = self._connection, self._local.hub
        if start is None:
            self._local.spend_new_topic(self._identity)
        topic = access.find(name)
        not_before, doubts = 0, -1
        while doubts != self._doubts:
            # The hub knows of the subscription only after this loop. So permissions that are
            # withdrawn while it runs have to be noticed here.
            doubts = self._doubts
            await access.authorize(topic, self._identity, grant=grant)
            if topic.history.from_ == "join":
                not_before = await self._first_join(topic)
        if grant is not None:
            self._grants[name] = grant
        if not await hub.join(connection, topic, start, id=id, not_before=not_before):
            raise ProtocolError(
                ErrorCode.FORBIDDEN, "The permission was withdrawn while you joined."
            )
        if topic.presence is not None:
            sender = self._identity.sender
            await self._local.attendances.enter(
                name,
                connection.sid,
                self._identity.member,
                {"id": sender.id, "name": sender.name},
                connection,
            )

    async def _first_join(self, topic: Topic) -> int:
        """Since when this member may read the topic, in microseconds of broker time.

        While the store is away this waits, as joining the hub does.
        """
        hub = self._local.hub
        name = f"joined:{topic.name}:{self._identity.member}"

        async def ask() -> str:
            now = (
                await asyncio.to_thread(hub.broker.now)
                if hub.broker.blocking
                else (hub.broker.now())
            )
            if not now.time:
                raise BrokerUnavailable("The store's time is not known.")
            return await hub.listener.claim(name, str(now.time), ttl=topic.history.ttl)

        claim = _Claim(name=name, time=await hub.patiently(ask), ttl=topic.history.ttl)
        self._claims[topic.name] = claim
        return int(claim.time)

    def _prolong(self, topic: str) -> None:
        """A member who leaves may come back for what is kept from now on.

        The store forgets a claim as soon as what it may hide is gone, but here it was in use.
        """
        claim = self._claims.pop(topic, None)
        if claim is not None:
            self._local.start(self._claim_again(claim))

    async def _claim_again(self, claim: _Claim) -> None:
        try:
            await self._local.hub.listener.claim(claim.name, claim.time, ttl=claim.ttl)
        except BrokerUnavailable:
            count("claims.lost")  # the member gets a reset

    async def leave(self, name: str) -> None:
        """Unsubscribe; a topic that was not joined is no error."""
        self._local.hub.leave(self._connection, name)
        self._grants.pop(name, None)
        self._prolong(name)
        await self._local.attendances.leave(name, self._connection.sid)

    async def perform(self, request: Call | Publish | SetPresence | BinaryPublish) -> None:
        """Do what is asked and answer it once."""
        try:
            data = await self._perform(request)
        except ProtocolError as error:
            self._explain(error, id=request.id, topic=request.topic)
        else:
            self._connection.answer(request.id, data)

    async def _perform(
        self, request: Call | Publish | SetPresence | BinaryPublish
    ) -> msgspec.Raw | None:
        topic, identity = access.find(request.topic), self._identity
        grant = self._grants.get(request.topic)
        match request:
            case Call():
                context = actions.Context(identity=identity, key=request.key)
                await access.authorize(topic, identity, grant=grant)
                return await actions.perform(topic, request.action, request.data, context)
            case Publish():
                await access.authorize_publish(
                    topic, identity, request.event, request.data, grant=grant
                )
                await member_publish(topic, identity, request.event, request.data, key=request.key)
            case BinaryPublish():
                await access.authorize_publish(
                    topic, identity, request.event, request.payload, grant=grant
                )
                await member_publish(topic, identity, request.event, request.payload)
            case SetPresence():
                if topic.presence is None:
                    raise ProtocolError(ErrorCode.FORBIDDEN, "This topic has no presence.")
                await self._local.attendances.set_state(
                    request.topic, self._connection.sid, request.state
                )
        return None

    async def whisper(self, whisper: Whisper) -> None:
        """Pass a whisper on to everybody else who reads the topic."""
        try:
            topic = access.find(whisper.topic)
            await access.authorize_whisper(
                topic,
                self._identity,
                whisper.event,
                whisper.data,
                grant=self._grants.get(whisper.topic),
            )
        except ProtocolError as error:
            self._explain(error, topic=whisper.topic)
            return
        payload = signals.encode_whisper(
            topic=whisper.topic,
            event=whisper.event,
            data=whisper.data,
            sender=self._identity.sender,
            sid=self._connection.sid,
            default=default,
        )
        try:
            await self._local.hub.listener.signal(whisper.topic, payload)
        except BrokerUnavailable:
            count("whisper.dropped")

    def _explain(self, error: ProtocolError, *, topic: str, id: Id | None = None) -> None:
        error.id = id
        error.topic = topic
        self._connection.fail(error)
