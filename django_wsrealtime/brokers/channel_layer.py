"""The broker for any other Channels layer: it can ring, but it keeps no log.

A channel layer carries messages to whoever listens now, may drop them, and has no counter that
processes share. So nobody can number events for everybody, and nobody can come back for what was
missed. What is left is told honestly:

* Each listener numbers what it hears, in an epoch of its own (``channel_listener``). Within one
  process that is one order without gaps; a reader that comes back to another process, or later,
  stands in a foreign epoch and gets a reset.
* Each publisher numbers what it sends to a topic. A listener that sees a number skipped knows that
  the layer dropped something, and begins a new epoch: a reset instead of a hole. A message that is
  dropped last of all is noticed when the next one comes, not before.
* A row's tickets are times of this machine's clock. The record of a row is kept by each publishing
  process for itself, and listeners refuse what is older than what they have heard of the row. Two
  processes on machines whose clocks differ may still publish an older state last, and a row moved
  twice at once by two processes may leave a ghost until the next reset. Use Redis where that
  matters.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from channels.layers import get_channel_layer

from ..conf import conf
from ..errors import BrokerUnavailable, ConfigurationError
from ..instrumentation import count
from ..protocol.position import Position, Since, Start
from .base import (
    METADATA_LIFE,
    Broker,
    Capabilities,
    Command,
    Handler,
    History,
    Listener,
    Outcome,
    Page,
    Publish,
    Reset,
    Result,
    RowChange,
)
from .breaker import Breaker
from .channel_listener import ChannelListener, Ring
from .seal import Kind, Seal

BUDGET = 0.8
"""Seconds that one call may take."""
MAX_ROWS = 10_000
"""Rows whose ticket and topics one process remembers."""
MAX_TOPICS = 10_000
"""Topics whose sending is numbered; a topic beyond them begins anew, which is a reset."""


class ChannelLayerBroker(Broker):
    """Rings over a channel layer.

    Args:
        layer: the layer; default: the one that ``WSREALTIME["CHANNEL_LAYER"]`` names.
        deployment: part of every group's name; default: ``WSREALTIME["DEPLOYMENT"]``.

    Raises:
        ConfigurationError: there is no such layer, or it knows no groups.
    """

    capabilities = Capabilities(history=False, cluster=True, presence=False, idempotency=False)

    def __init__(self, *, layer: Any = None, deployment: str | None = None) -> None:
        alias = conf().channel_layer
        self.layer: Any = layer if layer is not None else get_channel_layer(alias)
        if self.layer is None:
            raise ConfigurationError(
                f"CHANNEL_LAYERS has no {alias!r}; set WSREALTIME['CHANNEL_LAYER'] to one it has."
            )
        if not hasattr(self.layer, "group_send"):
            raise ConfigurationError(
                f"{type(self.layer).__name__} does not support groups, which topics need."
            )
        self.deployment = deployment or conf().deployment or "wsrealtime"
        self.seal = Seal(deployment=self.deployment)
        self._name = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._last_ticket = 0
        self._rows: OrderedDict[str, tuple[int, frozenset[str], float]] = OrderedDict()
        self._sent: OrderedDict[str, int] = OrderedDict()
        self._sender = _Sender()
        self.breaker = Breaker(name=type(self.layer).__name__, probe=self._probe)

    def group(self, topic: str) -> str:
        """The group of a topic; groups' names are short and plain, topics' are not."""
        raw = f"{self.deployment}\0{topic}".encode()
        return f"wsrealtime.{hashlib.blake2b(raw, digest_size=16).hexdigest()}"

    def message(self, topic: str, kind: bytes, ring: Ring) -> dict[str, Any]:
        """A channel layer's message of something that rings in a topic."""
        sealed = self.seal.close(kind, topic, msgspec.msgpack.encode(ring))
        return {"type": "wsrealtime.ring", "topic": topic, "ring": kind + sealed}

    # --- publishers ---

    def append(self, commands: Sequence[Command]) -> list[Result]:
        """See :meth:`.base.Broker.append`; the results tell no positions: nobody numbers here."""
        if not commands:
            return []
        results: list[Result] = self._send(lambda: self._append(commands))
        return results

    async def _append(self, commands: Sequence[Command]) -> list[Result]:
        return [await self._carry_out(command) for command in commands]

    async def _carry_out(self, command: Command) -> Result:
        outcome = Outcome.APPENDED
        if isinstance(command, Publish):
            await self._ring(command.topic, Kind.ENTRY, command.body)
        elif isinstance(command, Reset):
            await self._ring(command.topic, Kind.RESET, command.reason.encode())
        else:
            outcome = await self._change_row(command)
        return Result(outcome=outcome, positions={})

    async def _change_row(self, command: RowChange) -> Outcome:
        now = time.monotonic()
        known, remembered, expires = self._rows.get(command.row, (-1, frozenset(), 0.0))
        if expires > now and (command.ticket is None or known > command.ticket):
            return Outcome.REFUSED
        left = command.before | (remembered if expires > now else frozenset())
        # Remembered before anything is sent: what fails half-way is removed by the next change.
        self._remember(command, left | command.topics.keys())
        for topic in sorted(left - command.topics.keys()):
            await self._ring(topic, Kind.ENTRY, command.remove, command)
        for topic, body in command.topics.items():
            await self._ring(topic, Kind.ENTRY, body, command)
        self._remember(command, frozenset(command.topics))
        return Outcome.APPENDED

    def _remember(self, command: RowChange, topics: frozenset[str]) -> None:
        expires = time.monotonic() + command.history.ttl * METADATA_LIFE
        self._rows[command.row] = (command.ticket or 0, topics, expires)
        self._rows.move_to_end(command.row)
        if len(self._rows) > MAX_ROWS:
            self._rows.popitem(last=False)

    async def _ring(
        self, topic: str, kind: bytes, body: bytes, change: RowChange | None = None
    ) -> None:
        number = self._sent.get(topic, 0) + 1
        self._sent[topic] = number
        self._sent.move_to_end(topic)
        if len(self._sent) > MAX_TOPICS:
            self._sent.popitem(last=False)
        ring = Ring(
            publisher=self._name,
            number=number,
            body=body,
            row=None if change is None else change.row,
            ticket=None if change is None else change.ticket,
        )
        await self.layer.group_send(self.group(topic), self.message(topic, kind, ring))

    def ticket(self) -> int:
        with self._lock:
            self._last_ticket = max(self._last_ticket + 1, time.time_ns() // 1_000)
            return self._last_ticket

    def signal(self, topic: str, payload: bytes) -> None:
        message = self.message(topic, Kind.SIGNAL, Ring(body=payload))
        self._send(lambda: self.layer.group_send(self.group(topic), message))

    # --- readers ---

    def now(self) -> Since:
        return Since(time=time.time_ns() // 1_000)

    def read(self, topic: str, start: Start, *, history: History) -> Page:
        """There is no log outside a listener: a position of nobody's, and no recovery."""
        end = Position(epoch=self._name, offset=0)
        if start is None:
            return Page(position=end)
        return Page(position=end, recovered=False, reason="lost")

    # --- life ---

    def when_back(self, callback: Callable[[], None]) -> None:
        self.breaker.when_closed(callback)

    def listen(self, handler: Handler) -> Listener:
        return ChannelListener(self, handler)

    def close(self) -> None:
        self.breaker.close()
        self._sender.close()

    def _probe(self) -> None:
        message = {"type": "wsrealtime.probe"}
        self._sender.run(lambda: self.layer.group_send(self.group("probe"), message), BUDGET)

    def _send(self, what: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self.breaker.check()
        try:
            return self._sender.run(what, BUDGET)
        except Exception as error:
            # Every layer raises exceptions of its own; whichever it is, the message is not sent.
            count("bus.failed")
            self.breaker.trip(error)
            raise BrokerUnavailable(
                f"{type(self.layer).__name__} did not send: {error or type(error).__name__}"
            ) from error


class _Sender:
    """An event loop in a thread of its own, which sends one thing after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: asyncio.Lock | None = None
        self._numbers = itertools.count(1)

    def run(self, what: Callable[[], Coroutine[Any, Any, Any]], timeout: float) -> Any:
        """Run a coroutine in turn and return what it returns; at most ``timeout`` seconds."""
        loop = self._running()
        future = asyncio.run_coroutine_threadsafe(self._in_turn(what, timeout), loop)
        return future.result(timeout + 0.05)

    async def _in_turn(self, what: Callable[[], Coroutine[Any, Any, Any]], timeout: float) -> Any:
        if self._turn is None:
            self._turn = asyncio.Lock()
        return await asyncio.wait_for(self._alone(self._turn, what), timeout)

    async def _alone(self, turn: asyncio.Lock, what: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async with turn:
            return await what()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():  # the thread is the parent's
            self._lock = threading.Lock()
            self._pid, self._loop, self._turn = os.getpid(), None, None
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._serve,
                    args=(self._loop,),
                    name=f"wsrealtime-sender-{next(self._numbers)}",
                    daemon=True,
                ).start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        # channels_redis closes its connections when the loop they belong to is closed.
        loop.close()

    def close(self) -> None:
        """End the thread; sending again begins another."""
        with self._lock:
            loop, self._loop, self._turn = self._loop, None, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
