"""Binary messages: application bytes, with the names and numbers that text messages have as JSON.

A message begins with a version and a kind; names are UTF-8 with their length before them, lengths
and offsets are LEB128 (https://en.wikipedia.org/wiki/LEB128#Unsigned_LEB128)::

    01 01 | 06 "room/a" | 02 "9f" | 06 "stroke" | 0c | payload     the server's event (kind 1)
          | topic       | epoch   | event       | offset

Kind 2 is a member's event, and kind 3 a member's publish, where ``epoch`` holds the request's id.
In the log an event's body is its kind, its name and the payload.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ErrorCode, ProtocolError
from .limits import Limits

KINDS = {"app": 1, "client": 2}
"""The kinds of events that can be binary, with their numbers."""
PUBLISH = 3
"""The kind of a member's publish."""
VERSION = 1

_NAMES = {number: kind for kind, number in KINDS.items()}


def encode_body(*, kind: str, event: str, payload: bytes) -> bytes:
    """The part of a binary event that its publisher knows."""
    return bytes((KINDS[kind],)) + _text(event) + payload


def read_body(body: bytes) -> tuple[str, str, bytes]:
    """Kind, name and payload in a binary event's body.

    Raises:
        ProtocolError: it is none.
    """
    event, start = _read_text(body, 1)
    return _kind(body[0]), event, body[start:]


def encode_frame(*, topic: str, epoch: str, offset: int, body: bytes) -> bytes:
    """Complete a binary event; ``offset`` 0 means that it is in no log."""
    name, start = _read_text(body, 1)
    return b"".join(
        (
            bytes((VERSION, body[0])),
            _text(topic),
            _text(epoch),
            _text(name),
            _varuint(offset),
            body[start:],
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryEvent:
    """What stands in a binary event's frame (kinds 1 and 2)."""

    topic: str
    epoch: str
    offset: int
    kind: str
    event: str
    payload: bytes


def read_frame(frame: bytes) -> BinaryEvent:
    """Take what :func:`encode_frame` put together apart again.

    Raises:
        ProtocolError: it is none.
    """
    topic, at = _read_text(frame, 2)
    epoch, at = _read_text(frame, at)
    event, at = _read_text(frame, at)
    offset, at = _read_varuint(frame, at)
    return BinaryEvent(
        topic=topic,
        epoch=epoch,
        offset=offset,
        kind=_kind(frame[1]),
        event=event,
        payload=frame[at:],
    )


def _kind(number: int) -> str:
    if number not in _NAMES:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"There is no binary event of kind {number}; expected one of {sorted(_NAMES)}.",
        )
    return _NAMES[number]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryPublish:
    """A member's publish of bytes (kind 3)."""

    id: str
    topic: str
    event: str
    payload: bytes


def decode(message: bytes, *, limits: Limits) -> BinaryPublish:
    """Read a client's binary message.

    Raises:
        ProtocolError: it is too large, or none that a client may send.
    """
    if len(message) > limits.message_bytes:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"The message has {len(message)} bytes; at most {limits.message_bytes} are read.",
        )
    if len(message) < 2 or message[0] != VERSION:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"A binary message begins with version {VERSION} and a kind.",
        )
    if message[1] != PUBLISH:
        raise ProtocolError(
            ErrorCode.UNKNOWN_TYPE,
            f"A client sends no binary message of kind {message[1]}; expected {PUBLISH} (publish).",
        )
    topic, at = _read_text(message, 2, most=200)
    id, at = _read_text(message, at, most=64)
    event, at = _read_text(message, at, most=100)
    offset, at = _read_varuint(message, at)
    if offset or not topic or not event or not id:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            "A binary publish names its topic, id and event, and has offset 0.",
            id=id or None,
            topic=topic or None,
        )
    return BinaryPublish(id=id, topic=topic, event=event, payload=message[at:])


def _varuint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varuint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(at + 8, len(message))):
        byte = message[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise ProtocolError(ErrorCode.BAD_MESSAGE, "A binary message ends inside a number.")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _varuint(len(encoded)) + encoded


def _read_text(message: bytes, at: int, *, most: int = 1_000) -> tuple[str, int]:
    length, at = _read_varuint(message, at)
    if length > most or at + length > len(message):
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "A binary message ends inside a name.")
    try:
        return message[at : at + length].decode(), at + length
    except UnicodeDecodeError:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE, "A name in a binary message is no UTF-8."
        ) from None
