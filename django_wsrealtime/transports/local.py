"""All connections of one event loop, with the hub and the presence that serve them."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..conf import conf
from ..errors import CloseCode, ErrorCode, ProtocolError
from ..hub import Hub, Message, get_hub
from ..instrumentation import count, logger
from ..presence import Attendances
from ..protocol import signals
from ..protocol.limits import TokenBuckets
from ..protocol.signals import Signal
from ..topics import access
from ..topics.control import CONTROL, DISCONNECT, RECHECK, Order
from .authentication import reload

if TYPE_CHECKING:
    from ..topics.access import Identity
    from .connection import Connection


class Local:
    """What the connections of one event loop share.

    Args:
        hub: the loop's.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.attendances = Attendances(listener=hub.listener)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._connections: set[Connection] = set()
        self._per_user: Counter[str] = Counter()
        self._per_address = TokenBuckets()
        self._new_topics = TokenBuckets()
        self._tasks: set[asyncio.Task[None]] = set()
        hub.on(signals.WHISPER, self._whispered)
        hub.on(signals.PRESENCE, self._presence_changed)
        hub.on(DISCONNECT, self._disconnect)
        hub.on(RECHECK, self._recheck)
        self.start(hub.follow(CONTROL))

    # --- admission ---

    def admits_from(self, address: str) -> bool:
        """Count a new connection; ``False`` if too many come from its address in this process."""
        rate = conf().limits.connections_per_address
        burst = max(1.0, rate)
        now = self._loop.time()
        return self._per_address.take(address, rate=rate, burst=burst, now=now) == 0

    def admit(self, connection: Connection, identity: Identity) -> bool:
        """Count a connection in; ``False`` if its user has too many in this process."""
        if not identity.is_anonymous:
            if self._per_user[identity.limits_key] >= conf().limits.connections_per_user:
                return False
            self._per_user[identity.limits_key] += 1
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.hub.disconnect(connection)
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        identity = connection.identity
        if identity is not None and not identity.is_anonymous:
            self._per_user[identity.limits_key] -= 1
            if self._per_user[identity.limits_key] <= 0:
                del self._per_user[identity.limits_key]
        self.start(self.attendances.leave_all(connection.sid))

    def spend_new_topic(self, identity: Identity) -> None:
        """Count a topic that the user had not open before.

        Raises:
            ProtocolError: too many in too short a time.
        """
        limits = conf().limits
        if wait := self._new_topics.take(
            identity.limits_key,
            rate=limits.new_topics_per_second,
            burst=limits.subscriptions,
            now=self._loop.time(),
        ):
            raise ProtocolError(
                ErrorCode.RATE_LIMITED,
                f"Too many new topics; at most {limits.new_topics_per_second:g} a second.",
                retry_after=max(1, round(wait * 1_000)),
            )

    # --- signals ---

    def _whispered(self, topic: str, signal: Signal) -> None:
        self.hub.broadcast(topic, Message(bytes(signal.frame)), but=signal.skip or "")

    def _presence_changed(self, topic: str, signal: Signal) -> None:
        self.attendances.on_signal(topic, signal)

    def _disconnect(self, topic: str, signal: Signal) -> None:
        order = Order.read(signal)
        for connection in self._of(order.user):
            if order.topic:
                self._revoke(connection, order.topic)
            elif order.reconnect:
                connection.close(CloseCode.PERMISSION_CHANGED)
            else:
                connection.close(CloseCode.DISCONNECTED)

    def _recheck(self, topic: str, signal: Signal) -> None:
        self.start(self._ask_again(Order.read(signal).user))

    def _of(self, member: str) -> list[Connection]:
        return [
            connection
            for connection in self._connections
            if connection.identity is not None and connection.identity.member == member
        ]

    async def _ask_again(self, member: str) -> None:
        """End what a member's connections may not have any more."""
        await self._reload(member)
        # Only now nobody can ask about the user as it was, and have the answer remembered.
        access.forget(member)
        connections = self._of(member)
        for connection in connections:
            connection.requests.doubt()
        for connection in connections:
            self.start(self._revoke_lost(connection))

    async def _reload(self, member: str) -> None:
        """Users remember their permissions; so all connections of one get it anew."""
        users = {
            one.identity.user.__class__: one.identity.user
            for one in self._of(member)
            if one.identity is not None
        }
        for kind, user in users.items():
            try:
                fresh = await reload(user)
            except Exception:
                count("local.failed")
                logger.exception("A user could not be read again; the permissions may be old.")
                continue
            for connection in self._of(member):
                identity = connection.identity
                if identity is None or identity.user.__class__ is not kind:
                    continue
                if fresh is None:
                    connection.close(CloseCode.SESSION_CHANGED)
                else:
                    connection.identity = replace(identity, user=fresh)

    async def _revoke_lost(self, connection: Connection) -> None:
        """End every subscription of a connection that its user may not have any more."""
        for name in self.hub.subscribed(connection):
            identity = connection.identity
            assert identity is not None
            try:
                grant = connection.requests.grant(name)
                await access.authorize(access.find(name), identity, grant=grant)
            except ProtocolError:
                self._revoke(connection, name)

    def _revoke(self, connection: Connection, topic: str) -> None:
        count("revoked")
        self.hub.revoke(connection, topic)
        connection.left(topic)
        self.start(self.attendances.leave(topic, connection.sid))

    # --- the end ---

    async def aclose(self) -> None:
        """End every connection and every task."""
        for connection in list(self._connections):
            connection.close(CloseCode.RESTARTING)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.attendances.aclose()
        await self.hub.aclose()
        if _locals.get(self._loop) is self:
            del _locals[self._loop]

    def start(self, work: object) -> None:
        """Have something done that ends with this at the latest."""
        # Not in the context of whoever sent a signal, be it a publisher in this process.
        task: asyncio.Task[None] = self._context.run(self._loop.create_task, work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            count("local.failed")
            logger.error("A task for a connection failed.", exc_info=error)


_locals: WeakKeyDictionary[asyncio.AbstractEventLoop, Local] = WeakKeyDictionary()


def get_local() -> Local:
    """The running event loop's; made when it is first asked for."""
    loop, hub = asyncio.get_running_loop(), get_hub()
    local = _locals.get(loop)
    if local is None or local.hub is not hub:
        local = _locals[loop] = Local(hub)
    return local
