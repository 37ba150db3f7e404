"""What processes tell each other about a topic beside its log; kept nowhere, it may be lost.

A signal is one JSON object. Its ``op`` says what it is, its ``frame`` is a finished frame that is
handed to connections as it is, so whoever sends it encodes it once for all processes::

    {"op":"whisper","skip":"5f…","frame":{"type":"whisper","topic":"room/a","event":"typing",…}}
    {"op":"presence","frame":null}
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import ErrorCode, ProtocolError
from . import codec
from .codec import Default, Sender
from .frames import WhisperOut

WHISPER = "whisper"
"""A member whispered: pass ``frame`` on."""
PRESENCE = "presence"
"""The list of those present has changed: read it."""


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message.

    Args:
        op: what to do.
        skip: id of the connection that must not be told.
        frame: what to send to the others; ``null`` if the ``op`` says it all.
    """

    op: str
    skip: str | None = None
    frame: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(Signal)


def encode(*, op: str, frame: bytes | None = None, skip: str | None = None) -> bytes:
    """Write a signal."""
    raw = msgspec.Raw(frame or b"null")
    return msgspec.json.encode(Signal(op=op, skip=skip, frame=raw))


def decode(payload: bytes) -> Signal:
    """Read a signal.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"A signal cannot be read: {error}.") from None


def encode_whisper(
    *,
    topic: str,
    event: str,
    data: Any,
    sender: Sender,
    sid: str,
    default: Default | None = None,
) -> bytes:
    """Write the signal of a whisper.

    Args:
        topic: where it was whispered.
        event: what.
        data: what came with it.
        sender: who whispered.
        sid: the connection it came from, which does not hear it.
        default: see :func:`.codec.encode_data`.
    """
    encoded = msgspec.Raw(codec.encode_data(data, default=default))
    frame = codec.encode(WhisperOut(topic=topic, event=event, data=encoded, sender=sender))
    return encode(op=WHISPER, frame=frame, skip=sid)


__all__ = ["PRESENCE", "WHISPER", "Signal", "decode", "encode", "encode_whisper"]
