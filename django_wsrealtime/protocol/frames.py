"""The frames of the wire protocol, as types.

Field names are those on the wire. Whoever reads a frame ignores fields it does not know
(``docs/reference/frames.md``), so adding a field is never a breaking change.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

Id = int | Annotated[str, Meta(max_length=64)]
TopicName = Annotated[str, Meta(min_length=1, max_length=200)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Key = Annotated[str, Meta(max_length=200)]


class Frame(Struct, tag_field="type", omit_defaults=True):
    """Base of every frame: a JSON object whose ``type`` names its kind."""


# --- from the client ---------------------------------------------------------------------------


class WirePosition(Struct, omit_defaults=True):
    """``{epoch, offset}`` or ``{since}``; see :mod:`.position`."""

    epoch: Annotated[str, Meta(max_length=100)] | None = None
    offset: Annotated[int, Meta(ge=0)] | None = None
    since: str | int | None = None


class WireSubscription(Struct, omit_defaults=True):
    """One entry of ``hello.subscriptions``."""

    topic: TopicName
    grant: str | None = None
    position: WirePosition | None = None


class Hello(Frame, tag="hello"):
    v: int
    client: Annotated[str, Meta(max_length=100)] = ""
    tab: Annotated[str, Meta(max_length=64)] = ""
    token: Annotated[str, Meta(max_length=8192)] | None = None
    subscriptions: list[WireSubscription] = []


class Subscribe(Frame, tag="subscribe"):
    id: Id
    topic: TopicName
    grant: str | None = None
    position: WirePosition | None = None


class Unsubscribe(Frame, tag="unsubscribe"):
    id: Id
    topic: TopicName


class Call(Frame, tag="call"):
    id: Id
    topic: TopicName
    action: Name
    data: Any = None
    key: Key | None = None


class Publish(Frame, tag="publish"):
    id: Id
    topic: TopicName
    event: Name
    data: Any = None
    key: Key | None = None


class Whisper(Frame, tag="whisper"):
    topic: TopicName
    event: Name
    data: Any = None


class SetPresence(Frame, tag="presence"):
    id: Id
    topic: TopicName
    state: dict[str, Any]


class Ping(Frame, tag="ping"):
    ts: int | float | None = None


class Pong(Frame, tag="pong"):
    ts: int | float | None = None


class Ack(Frame, tag="ack"):
    n: Annotated[str, Meta(max_length=64)]


ClientFrame = (
    Hello | Subscribe | Unsubscribe | Call | Publish | Whisper | SetPresence | Ping | Pong | Ack
)


# --- from the server ---------------------------------------------------------------------------


class User(Struct):
    """Who the server takes the client for."""

    id: str
    name: str


class Welcome(Frame, tag="welcome", omit_defaults=False):
    sid: str
    v: int
    ping: int
    limits: dict[str, float]
    user: User | None


class Subscribed(Frame, tag="subscribed"):
    topic: str
    epoch: str
    offset: int
    id: Id | None = None
    recovered: bool | None = None
    snapshot: Raw | None = None
    more: bool = False
    events: list[Raw] | None = None
    after: int | None = None


class Snapshot(Frame, tag="snapshot", omit_defaults=False):
    topic: str
    items: Raw
    more: bool


class Reset(Frame, tag="reset"):
    topic: str
    epoch: str
    offset: int
    reason: str
    after: int | None = None
    snapshot: Raw | None = None
    more: bool = False


class WhisperOut(Frame, tag="whisper"):
    topic: str
    event: str
    data: Any = None
    sender: Any = msgspec.field(default=None, name="from")


class PresenceOut(Frame, tag="presence"):
    topic: str
    seq: int
    members: list[dict[str, Any]] | None = None
    join: list[dict[str, Any]] | None = None
    leave: list[str] | None = None
    state: list[dict[str, Any]] | None = None
    count: int | None = None


class Ok(Frame, tag="ok"):
    id: Id
    data: Any = None


class Error(Frame, tag="error"):
    code: str
    message: str
    id: Id | None = None
    topic: str | None = None
    retry_after: int | None = None


class Mark(Frame, tag="mark"):
    n: str


class Bye(Frame, tag="bye"):
    code: int
    reason: str
    reconnect: bool
    after: int | None = None


ServerFrame = (
    Welcome | Subscribed | Snapshot | Reset | WhisperOut | PresenceOut | Ok | Error | Mark | Bye
)
