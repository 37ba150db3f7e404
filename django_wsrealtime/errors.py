"""Every exception, error code and close code of the package, in one catalogue.

Nothing here imports Django or Channels: the protocol, the servers and the tests share it.
Error codes travel in ``error`` frames, close codes in ``bye`` frames and WebSocket close frames
(RFC 6455 section 7.4; 4000-4999 are private use).
"""

from __future__ import annotations

import enum
from typing import Any


class ErrorCode(str, enum.Enum):
    """Why a request was not fulfilled; the ``code`` of an ``error`` frame."""

    BAD_MESSAGE = "bad_message"
    """The message is not what the protocol allows: not JSON, a wrong type, a missing field."""
    TOO_LARGE = "too_large"
    """The message exceeds ``message_bytes``."""
    TOO_DEEP = "too_deep"
    """The message nests deeper than ``depth``."""
    UNKNOWN_TYPE = "unknown_type"
    """The frame's ``type`` is none that a client may send."""
    UNEXPECTED = "unexpected"
    """The frame is legal, but not in this state (a second ``hello``, a frame before ``hello``)."""
    UNKNOWN_TOPIC = "unknown_topic"
    """No registered route matches the topic's name, or the name is not canonical."""
    NOT_SUBSCRIBED = "not_subscribed"
    """The request needs a subscription to its topic first."""
    FORBIDDEN = "forbidden"
    """The topic's rules do not allow this user to do this."""
    UNKNOWN_ACTION = "unknown_action"
    """The topic has no ``@action`` of that name."""
    INVALID_DATA = "invalid_data"
    """The data does not have the declared shape; the message names the argument."""
    RATE_LIMITED = "rate_limited"
    """Too many in too short a time; ``retry_after`` tells when to try again."""
    LIMIT_EXCEEDED = "limit_exceeded"
    """A bound on a number of things was reached (subscriptions, state size)."""
    UNAVAILABLE = "unavailable"
    """The broker or the thread pool cannot serve this now; trying later may help."""
    INTERNAL = "internal"
    """The application's code failed; the log of the server has the traceback."""


class CloseCode(enum.IntEnum):
    """Why a connection ended; the ``code`` of a ``bye`` frame and of the close frame."""

    NORMAL = 1000
    GOING_AWAY = 1001
    SLOW_CONSUMER = 4001
    NO_HEARTBEAT = 4002
    STATE_LOST = 4003
    HELLO_TIMEOUT = 4008
    RESTARTING = 4012
    OVERLOADED = 4013
    TOO_MANY_CONNECTIONS = 4029
    SESSION_CHANGED = 4101
    PERMISSION_CHANGED = 4102
    NOT_AUTHENTICATED = 4401
    FORBIDDEN = 4403
    DISCONNECTED = 4502
    PROTOCOL_ERROR = 4503
    CLIENT_TOO_OLD = 4504

    @property
    def reconnect(self) -> bool:
        """Whether a client may dial again by itself (the ranges of ``protocol.md``)."""
        return self < 4400 and self is not CloseCode.NORMAL

    @property
    def reason(self) -> str:
        """The reason as it stands in ``bye`` and, where the server sends it, the close frame."""
        return self.name.lower().replace("_", " ")


class RealtimeError(Exception):
    """Base of everything the package raises on purpose."""


class ConfigurationError(RealtimeError):
    """The project's settings or declarations contradict themselves."""


class ProtocolError(RealtimeError):
    """A peer sent what the protocol does not allow.

    Args:
        code: what kind of fault; travels to the peer. One of :class:`ErrorCode`, or an
            application's own.
        message: one sentence: what came, what was expected.
        id: the ``id`` of the faulty frame, where it could be read.
        topic: the topic of the faulty frame, where it could be read.
        retry_after: milliseconds until trying again may succeed.
        fatal: the close code if the connection cannot go on.
    """

    def __init__(
        self,
        code: ErrorCode | str,
        message: str,
        *,
        id: int | str | None = None,
        topic: str | None = None,
        retry_after: int | None = None,
        fatal: CloseCode | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
        self.topic = topic
        self.retry_after = retry_after
        self.fatal = fatal

    @property
    def name(self) -> str:
        """The code as it travels."""
        return self.code.value if isinstance(self.code, ErrorCode) else self.code


class ActionError(RealtimeError):
    """Raise it in an ``@action`` (or a rule) to answer the caller with a message of your own.

    Args:
        message: shown to the caller as it is; keep secrets out of it.
        code: any short identifier; default ``"invalid_data"``.
        retry_after: milliseconds until trying again may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = ErrorCode.INVALID_DATA.value,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after = retry_after


class UnknownTopic(RealtimeError, LookupError):
    """No registered route matches a topic name."""


class BrokerError(RealtimeError):
    """A broker could not do what was asked."""


class BrokerUnavailable(BrokerError):
    """The broker's store cannot be reached now; nothing is known about what was sent last."""


class NotSupported(BrokerError):
    """The broker lacks a capability that the call needs; its capability flags say so."""


def describe(value: Any, *, limit: int = 60) -> str:
    """A short, safe picture of a peer's value for an error message."""
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
