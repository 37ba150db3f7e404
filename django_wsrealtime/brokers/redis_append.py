"""Carries out publishers' commands on Redis: one script and one round trip per server.

A row whose topics live on several servers
------------------------------------------
One script cannot append on two servers. So such a row is changed in three steps. *Claim*: on the
row's own server its ticket is checked, and the record swapped to the ticket and **all** topics
concerned: those it goes to, those it may come from, those remembered. *Append*: in each topic the
event or the removal is appended together with the ticket, unless the place (this row in this topic)
has seen a higher one. *Settle*: the record is narrowed to the topics the row is in now, if it still
bears this ticket. For example a row that is moved twice at once, from ``a`` on server 1 to ``b`` on
server 2 (ticket 1), then to ``c`` on server 3 (ticket 2)::

    publisher 1: claim -> record (1, {a, b})
    publisher 2: claim -> record (2, {a, b, c}); it learns of b
    publisher 2: a remove (2), b remove (2), c upsert (2); settle -> record (2, {c})
    publisher 1: b upsert (1) -> refused: place (b, row) has seen 2.      a remove (1) -> refused
    publisher 1: settle -> the record bears 2, not 1: left alone

If a publisher dies between the steps, the record still names every topic that may hold the row, and
the next change of the row removes it there.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import BrokerUnavailable
from ..protocol.position import Position
from .base import Command, Outcome, Publish, Reset, Result, RowChange
from .redis_hosts import BUDGET, Layout
from .redis_link import Links
from .redis_scripts import Argument, milliseconds
from .seal import Kind, Seal

BATCH = 256
"""Commands that one script carries out, so that it does not hold the server up for long."""

_OUTCOMES = {b"A": Outcome.APPENDED, b"D": Outcome.DUPLICATE}
_REFUSED = Result(outcome=Outcome.REFUSED, positions={})


class Appender:
    """Spells commands for ``append.lua`` and sends them where they belong.

    Args:
        layout: which topic belongs to which server.
        links: the connections to each server, in the layout's order.
        seal: seals bodies.
    """

    def __init__(self, layout: Layout, links: Sequence[Links], seal: Seal) -> None:
        self._layout = layout
        self._links = links
        self._seal = seal

    def append(self, commands: Sequence[Command]) -> list[Result]:
        """See :meth:`..base.Broker.append`."""
        deadline = time.monotonic() + BUDGET
        if len(self._links) == 1:
            return self._run(0, commands, deadline)
        results: dict[int, Result] = {}
        waiting: dict[int, list[int]] = defaultdict(list)

        def flush() -> None:
            for index, numbers in waiting.items():
                some = [commands[number] for number in numbers]
                results.update(zip(numbers, self._run(index, some, deadline), strict=True))
            waiting.clear()

        for number, command in enumerate(commands):
            home = self._home(command)
            if home is not None:
                waiting[home].append(number)
                continue
            assert isinstance(command, RowChange)  # nothing else has several topics
            flush()
            results[number] = self._change_row_across_servers(command, deadline)
        flush()
        return [results[number] for number in range(len(commands))]

    def _home(self, command: Command) -> int | None:
        """The one server that a command concerns; ``None`` if there are several."""
        index = self._layout.index
        if not isinstance(command, RowChange):
            return index(command.topic)
        home = index(command.row)
        if all(index(topic) == home for topic in (*command.topics, *command.before)):
            return home
        return None

    def _run(self, index: int, commands: Sequence[Command], deadline: float) -> list[Result]:
        """Carry out, in order, commands that concern one server."""
        results: list[Result] = []
        remembered: frozenset[str] = frozenset()
        while len(results) < len(commands):
            arguments: list[Argument] = []
            spare = remembered
            for command in commands[len(results) : len(results) + BATCH]:
                self._spell(command, spare, arguments)
                spare = frozenset()
            for answer in self._ask(index, arguments, deadline):
                command = commands[len(results)]
                if answer[0] != b"N":
                    results.append(_result(command, answer))
                    remembered = frozenset()
                    continue
                # The row is remembered in topics whose removal was not sealed. Nothing after it
                # ran: go on from here.
                assert isinstance(command, RowChange)  # nothing else is answered so
                needed = [topic.decode() for topic in answer[1:]]
                if any(self._layout.index(topic) != index for topic in needed):
                    results.append(self._change_row_across_servers(command, deadline))
                    remembered = frozenset()
                else:
                    remembered = remembered.union(needed)
                break
        return results

    def _ask(self, index: int, arguments: Sequence[Argument], deadline: float) -> Sequence[Any]:
        if time.monotonic() >= deadline:
            raise BrokerUnavailable(
                f"{self._links[index].host.name} did not carry everything out within {BUDGET} s."
            )
        answers: Sequence[Any] = self._links[index].run("append", arguments, deadline)
        return answers

    # --- spelling ---

    def _spell(self, command: Command, spare: Iterable[str], into: list[Argument]) -> None:
        if isinstance(command, Publish):
            history = command.history
            into += (
                "P",
                command.topic,
                history.size,
                milliseconds(history.ttl),
                "" if command.key is None else _digest(command.topic, command.key),
                self._seal.close(Kind.ENTRY, command.topic, command.body),
            )
        elif isinstance(command, Reset):
            reason = self._seal.close(Kind.RESET, command.topic, command.reason.encode())
            life = milliseconds(command.history.ttl)
            into += ("R", command.topic, life, _ticket(command), reason)
        else:
            history = command.history
            into += (
                "W",
                command.row,
                _ticket(command),
                history.size,
                milliseconds(history.ttl),
            )
            self._spell_bodies(command.topics, into)
            left = command.before - command.topics.keys()
            self._spell_bodies(dict.fromkeys(left, command.remove), into)
            self._spell_bodies(dict.fromkeys(spare, command.remove), into)

    def _spell_bodies(self, bodies: Mapping[str, bytes], into: list[Argument]) -> None:
        into.append(len(bodies))
        for topic, body in bodies.items():
            into += (topic, self._seal.close(Kind.ENTRY, topic, body))

    # --- a row on several servers ---

    def _change_row_across_servers(self, command: RowChange, deadline: float) -> Result:
        home = self._layout.index(command.row)
        ticket, life = _ticket(command), milliseconds(command.history.ttl)
        concerned = sorted(command.before.union(command.topics))
        claim: list[Argument] = ["C", command.row, ticket, life, len(concerned), *concerned]
        [answer] = self._ask(home, claim, deadline)
        if answer[0] == b"X":
            return _REFUSED
        remembered = {topic.decode() for topic in answer[1:]}
        left = sorted(command.before.union(remembered) - command.topics.keys())
        bodies = {**dict.fromkeys(left, command.remove), **command.topics}
        by_server: dict[int, list[str]] = defaultdict(list)
        for topic in bodies:
            by_server[self._layout.index(topic)].append(topic)
        positions: dict[str, Position] = {}
        overtaken = False
        for index, topics in by_server.items():
            arguments: list[Argument] = []
            for topic in topics:
                sealed = self._seal.close(Kind.ENTRY, topic, bodies[topic])
                place = _digest(topic, command.row)
                arguments += ("T", topic, place, ticket, command.history.size, life, sealed)
            for topic, answer in zip(topics, self._ask(index, arguments, deadline), strict=True):
                overtaken = overtaken or answer[0] == b"F"
                if answer[0] == b"A":
                    positions[topic] = _position(answer[1], answer[2])
        settle: list[Argument] = ["S", command.row, ticket, life]
        self._ask(home, [*settle, len(command.topics), *command.topics], deadline)
        if overtaken or (bodies and not positions):
            return _REFUSED
        return Result(outcome=Outcome.APPENDED, positions=positions)


def _ticket(command: RowChange | Reset) -> Argument:
    return "" if command.ticket is None else command.ticket


def _digest(name: str, other: str) -> str:
    """A short name for two names; no other two have it."""
    raw = name.encode()
    digest = hashlib.blake2b(b"%d:%b" % (len(raw), raw), digest_size=16)
    digest.update(other.encode())
    return digest.hexdigest()


def _position(epoch: bytes, offset: int) -> Position:
    return Position(epoch=epoch.decode(), offset=offset)


def _result(command: Command, answer: Sequence[Any]) -> Result:
    if answer[0] == b"X":
        return _REFUSED
    if isinstance(command, RowChange):
        appended = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
        positions = {topic.decode(): _position(epoch, end) for topic, epoch, end in appended}
        return Result(outcome=Outcome.APPENDED, positions=positions)
    return Result(
        outcome=_OUTCOMES[answer[0]], positions={command.topic: _position(answer[1], answer[2])}
    )
