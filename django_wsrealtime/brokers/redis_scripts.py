"""The Lua scripts of ``brokers/lua``: loads them, and spells their arguments and answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from ..protocol.position import Position, Since, Start
from .base import Attendance, Entry, History, Page
from .seal import Kind, Seal

STAMP = 16
"""Digits of a time before a sealed body."""
HEADS_AT_ONCE = 500
"""Logs that one script looks at, so that none holds the server up for long."""

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the name under which a server caches it."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script ``brokers/lua/<name>.lua``, with ``log.lua`` before it."""
    folder = resources.files(__package__) / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text() for part in ("log", name))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one."""
    return max(1, math.ceil(seconds * 1000))


def read_arguments(topic: str, start: Start, history: History) -> list[Argument]:
    """What ``read.lua`` takes."""
    arguments: list[Argument] = [topic, history.size, milliseconds(history.ttl)]
    if isinstance(start, Since):
        arguments += ["S", start.time]
    elif isinstance(start, Position):
        arguments += ["P", start.epoch, start.offset]
    return arguments


def entry(seal: Seal, topic: str, epoch: str, offset: int, stamped: bytes) -> Entry | None:
    """An entry as it lies in a log or rings; ``None`` if it does not verify."""
    body = seal.open(Kind.ENTRY, topic, stamped[STAMP:])
    if body is None:
        return None
    try:
        time = int(stamped[:STAMP])
    except ValueError:
        seal.reject(topic)
        return None
    return Entry(epoch=epoch, offset=offset, time=time, body=body)


def page(seal: Seal, topic: str, answer: Sequence[Any]) -> Page:
    """What ``read.lua`` answered. Entries that do not verify would be a hole: not recovered."""
    raw_epoch, offset, reason, first, stamped = answer
    epoch = raw_epoch.decode()
    end = Position(epoch=epoch, offset=offset)
    if reason:
        return Page(position=end, recovered=False, reason=reason.decode())
    entries = [entry(seal, topic, epoch, first + i, one) for i, one in enumerate(stamped)]
    verified = [one for one in entries if one is not None]
    if len(verified) < len(entries):
        return Page(position=end, recovered=False, reason="lost")
    return Page(position=end, entries=verified)


def all_entries(seal: Seal, topic: str, answer: Sequence[Any]) -> list[Entry]:
    """Like :func:`page`, without those that do not verify."""
    raw_epoch, _, _, first, stamped = answer
    epoch = raw_epoch.decode()
    entries = (entry(seal, topic, epoch, first + i, one) for i, one in enumerate(stamped))
    return [one for one in entries if one is not None]


def heads_arguments(topics: Mapping[str, History]) -> Iterable[tuple[list[str], list[Argument]]]:
    """What ``heads.lua`` takes, in portions: the topics of each, and its arguments."""
    names = list(topics)
    for start in range(0, len(names), HEADS_AT_ONCE):
        some = names[start : start + HEADS_AT_ONCE]
        arguments: list[Argument] = []
        for name in some:
            arguments += [name, milliseconds(topics[name].ttl)]
        yield some, arguments


def heads(topics: Sequence[str], answer: Sequence[Any]) -> dict[str, Position]:
    """What ``heads.lua`` answered."""
    ends = zip(topics, answer[::2], answer[1::2], strict=True)
    return {
        topic: Position(epoch=epoch.decode(), offset=offset)
        for topic, epoch, offset in ends
        if epoch
    }


def attend_arguments(
    seal: Seal, topic: str, attendance: Sequence[Attendance], ttl: float
) -> list[Argument]:
    """What ``attend.lua`` takes; the member's name stands before its info."""
    arguments: list[Argument] = [topic, milliseconds(ttl)]
    for one in attendance:
        member = one.member.encode()
        data = b"%d:%b%b" % (len(member), member, one.info)
        arguments += [one.sid, seal.close(Kind.ATTENDANCE, f"{topic}\0{one.sid}", data)]
    return arguments


def attendances(seal: Seal, topic: str, answer: Sequence[bytes]) -> list[Attendance]:
    """What ``present.lua`` answered, oldest first."""
    found = []
    for key, sealed in sorted(zip(answer[::2], answer[1::2], strict=True)):
        sid = key[STAMP:].decode()
        data = seal.open(Kind.ATTENDANCE, f"{topic}\0{sid}", sealed)
        if data is not None:
            length, _, rest = data.partition(b":")
            size = int(length)
            found.append(Attendance(sid=sid, member=rest[:size].decode(), info=rest[size:]))
    return found


def claim_arguments(seal: Seal, name: str, value: str, ttl: float) -> list[Argument]:
    """What ``claim.lua`` takes."""
    return [name, seal.close(Kind.CLAIM, name, value.encode()), milliseconds(ttl)]


def claimed(seal: Seal, name: str, answer: bytes, value: str) -> str:
    """What ``claim.lua`` answered; what does not verify binds nobody."""
    known = seal.open(Kind.CLAIM, name, answer)
    return value if known is None else known.decode()
