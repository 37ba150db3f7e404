"""Bytes to frames and frames to bytes, within limits on size and depth.

A pushed event is the same for everybody, so it is put together from parts that are encoded once::

    {"type":"event","topic":"orders/7","epoch":"9f…","offset":12,"time":1700000000000000,  <- head
     "kind":"row","event":"upsert","data":{…},"key":"5"}                                    <- body

The *body* is made by whoever publishes and travels through the broker's log as it is; the *head* is
added by the process that delivers. A body that begins with a byte below 0x20 is a binary one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import ErrorCode, ProtocolError, describe
from . import binary
from .frames import ClientFrame, Frame
from .limits import Limits

_decoder: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)
_encoder = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical")
_TYPES = tuple(
    sorted(str(kind.__struct_config__.tag) for kind in getattr(ClientFrame, "__args__", ()))
)
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LONG_NUMBER = re.compile(rb"\d{16}")
_SAFE_INTEGER = 2**53 - 1

Default = Callable[[Any], Any]
"""Turns a value that JSON does not know into one it does; raises ``TypeError`` otherwise."""


# --- what clients send -------------------------------------------------------------------------


class _Envelope(msgspec.Struct):
    type: Any = None
    id: Any = None
    topic: Any = None


_envelope = msgspec.json.Decoder(_Envelope)


def split(message: str | bytes, *, limits: Limits) -> list[bytes]:
    """Cut an inbound message into its lines, one frame each; blank lines are dropped.

    Raises:
        ProtocolError: the message is too large, or no UTF-8.
    """
    if isinstance(message, str):
        try:
            message = message.encode()
        except UnicodeEncodeError:
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE, "The message holds a lone surrogate; expected valid Unicode."
            ) from None
    if len(message) > limits.message_bytes:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"The message has {len(message)} bytes; at most {limits.message_bytes} are read.",
        )
    lines = [line for line in message.split(b"\n") if line.strip()]
    if not lines:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "The message is empty; expected a JSON object.")
    return lines


def decode(line: bytes, *, limits: Limits) -> ClientFrame:
    """Read one frame.

    Raises:
        ProtocolError: with the frame's ``id`` and ``topic`` where they could be read.
    """
    if line.count(b"[") + line.count(b"{") > limits.depth and _depth(line) > limits.depth:
        raise ProtocolError(
            ErrorCode.TOO_DEEP,
            f"The message nests deeper than {limits.depth} levels; send it flatter.",
        )
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise _explain(line, error) from None


def _depth(line: bytes) -> int:
    depth = deepest = 0
    for byte in _STRINGS.sub(b"", line):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _explain(line: bytes, error: Exception) -> ProtocolError:
    try:
        envelope = _envelope.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError):
        return ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"The message is not a JSON object: {_first_line(error)}.",
        )
    id = envelope.id
    if isinstance(id, bool) or not isinstance(id, int | str) or len(str(id)) > 64:
        id = None
    topic = envelope.topic
    if not isinstance(topic, str) or len(topic) > 200:
        topic = None
    if envelope.type not in _TYPES:
        return ProtocolError(
            ErrorCode.UNKNOWN_TYPE,
            f"A client sends no frame of type {describe(envelope.type)};"
            f" expected one of {', '.join(_TYPES)}.",
            id=id,
            topic=topic,
        )
    return ProtocolError(
        ErrorCode.BAD_MESSAGE,
        f"The {envelope.type} frame does not have the expected shape: {_first_line(error)}.",
        id=id,
        topic=topic,
    )


def _first_line(error: Exception) -> str:
    return describe(str(error).partition("\n")[0].rstrip("."), limit=160).strip("'\"")


# --- what the server sends ---------------------------------------------------------------------


def encode(frame: Frame) -> bytes:
    """Write a frame."""
    return _encoder.encode(frame)


def encode_data(value: Any, *, default: Default | None = None) -> bytes:
    """Write application data as JSON that every browser reads without loss.

    Decimals become strings, and so do integers beyond ±(2⁵³-1), which JavaScript would round
    (RFC 8259 section 6). ``NaN`` and infinities, which JSON does not have, become ``null``.

    Args:
        value: anything made of dicts, lists, strings, numbers, dates, UUIDs, enums, dataclasses.
        default: asked for every value of another type.

    Raises:
        TypeError: a value has no form in JSON and ``default`` knows none.
    """
    try:
        encoded = msgspec.json.encode(value, enc_hook=default)
    except OverflowError:
        encoded = b"0" * 16
    if _LONG_NUMBER.search(encoded) is None:
        return encoded
    return msgspec.json.encode(
        _safe_integers(
            msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=default, str_keys=True)
        )
    )


def _safe_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _safe_integers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe_integers(item) for item in value]
    if isinstance(value, int) and not -_SAFE_INTEGER <= value <= _SAFE_INTEGER:
        return str(value)
    return value


SNAPSHOT_CHUNK = 32_768
"""Bytes of JSON in one piece of a snapshot; a single item may be larger."""


def snapshot_chunks(snapshot: Mapping[str, Any], *, default: Default | None = None) -> list[bytes]:
    """Cut a snapshot into JSON objects of at most 32 KiB, at least one.

    The first holds every value that is no list, and each list's beginning, so that a reader knows
    all names at once. The lists go on in the next pieces, under the same names, one after another::

        {"rows": [1, 2, 3], "title": "x"}   ->   {"title":"x","rows":[1,2]}   {"rows":[3]}

    Args:
        snapshot: values by name; lists (tuples) at the top level may be cut.
        default: see :func:`encode_data`.

    Raises:
        TypeError: a value has no form in JSON.
    """
    chunks: list[bytes] = []
    values: list[bytes] = []
    lists: dict[bytes, list[bytes]] = {}
    for name, value in snapshot.items():
        label = _encoder.encode(str(name))
        if isinstance(value, list | tuple):
            lists[label] = []
        else:
            values.append(b"%b:%b" % (label, encode_data(value, default=default)))
    size = 2 + sum(len(value) + 1 for value in values) + sum(len(label) + 4 for label in lists)

    def cut() -> None:
        parts = [*values, *(b"%b:[%b]" % (label, b",".join(lists[label])) for label in lists)]
        chunks.append(b"{%b}" % b",".join(parts))
        values.clear()
        lists.clear()

    for name, value in snapshot.items():
        if not isinstance(value, list | tuple):
            continue
        label = _encoder.encode(str(name))
        for item in value:
            encoded = encode_data(item, default=default)
            if size + len(encoded) + 1 > SNAPSHOT_CHUNK and (values or lists):
                cut()
                size = 2
            if label not in lists:
                lists[label] = []
                size += len(label) + 4
            lists[label].append(encoded)
            size += len(encoded) + 1
    if values or lists or not chunks:
        cut()
    return chunks


# --- events ------------------------------------------------------------------------------------


class Kind:
    """Who made an event; set by the server, never by a client."""

    ROW = "row"
    HTML = "html"
    METRIC = "metric"
    APP = "app"
    CLIENT = "client"


KEYED_KINDS = frozenset({Kind.ROW, Kind.HTML, Kind.METRIC})
"""Kinds whose events replace the previous one of the same key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The member who published an event, as everybody sees it.

    Args:
        id: the user's primary key as a string, or an anonymous visitor's random id.
        name: how the user is called.
    """

    id: str
    name: str


def event_body(
    *,
    kind: str,
    event: str,
    data: bytes,
    key: str | None = None,
    origin: str | None = None,
    sender: Sender | None = None,
) -> bytes:
    """Put together the part of an event that its publisher knows.

    Args:
        kind: one of :class:`Kind`.
        event: the event's name.
        data: JSON, from :func:`encode_data`.
        key: what the event is about; see ``docs/reference/frames.md``.
        origin: the tab that caused it.
        sender: the member who published it.
    """
    parts = [
        b'"kind":',
        _encoder.encode(kind),
        b',"event":',
        _encoder.encode(event),
        b',"data":',
        data,
    ]
    if key is not None:
        parts += (b',"key":', _encoder.encode(key))
    if origin:
        parts += (b',"origin":', _encoder.encode(origin))
    if sender is not None:
        parts += (b',"from":', _encoder.encode(sender))
    return b"".join(parts)


def event_head(topic: str, epoch: str) -> bytes:
    """The beginning of every text event of one epoch; encode it once per topic."""
    return b'{"type":"event","topic":%b,"epoch":%b,' % (
        _encoder.encode(topic),
        _encoder.encode(epoch),
    )


def event_frame(head: bytes, *, offset: int, time: int, body: bytes) -> bytes:
    """Complete a text event: ``head`` of the log, then its position and time, then ``body``."""
    return b'%b"offset":%d,"time":%d,%b}' % (head, offset, time, body)


class BodyInfo(msgspec.Struct):
    """What the server itself wants to know of an event's body."""

    kind: str = Kind.APP
    event: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    key: str | None = None
    origin: str | None = None
    sender: Any = msgspec.field(default=None, name="from")
    payload: bytes | None = None
    """Of a binary event."""

    @property
    def value(self) -> Any:
        """What the application published: ``bytes``, or what the JSON says."""
        return msgspec.json.decode(self.data) if self.payload is None else self.payload


_body_info = msgspec.json.Decoder(BodyInfo)


def is_binary(body: bytes) -> bool:
    """Whether an event carries bytes instead of JSON."""
    return body[:1] < b" "


def read_body(body: bytes) -> BodyInfo:
    """Take an event's body apart again.

    Raises:
        ProtocolError: it is none.
    """
    if is_binary(body):
        kind, event, payload = binary.read_body(body)
        return BodyInfo(kind=kind, event=event, payload=payload)
    try:
        return _body_info.decode(b"{%b}" % body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE, f"An event's body cannot be read: {_first_line(error)}."
        ) from None


__all__ = [
    "KEYED_KINDS",
    "BodyInfo",
    "Kind",
    "Sender",
    "decode",
    "encode",
    "encode_data",
    "event_body",
    "event_frame",
    "event_head",
    "is_binary",
    "read_body",
    "snapshot_chunks",
    "split",
]
