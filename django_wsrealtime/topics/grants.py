"""Signed permissions that a page carries from the view that rendered it to the subscription.

A view that shows a user something live has decided that this user may see it. The grant brings that
decision to the WebSocket, so it must be good for nothing else: it names the topic and the user and
is bound to the session's authentication hash, which ends with the password, and to a nonce drawn at
login, which ends with the session. A grant that somebody else gets hold of opens nothing.

A grant lasts :data:`LIFE`. After that, or when the session has changed (a new password, another
``SECRET_KEY``), the page has it renewed: its signature must be good, it must be no older than
:data:`RENEWABLE`, and its user must be the one who asks, with a session that is valid now.
Grants travel in request bodies and frames only, never in a URL, and why one was refused is told to
nobody.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any, Protocol

from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.utils.crypto import constant_time_compare

from ..instrumentation import count
from .registry import registry

LIFE = 24 * 60 * 60
"""Seconds in which a grant can be used: a working day, and a laptop's night, without a renewal."""
RENEWABLE = 7 * 24 * 60 * 60
"""Seconds after its signing in which a grant can be renewed: a page left open over a holiday."""
MAX_LENGTH = 2_000
"""Characters; what is longer was never a grant. A topic's name has 200 bytes at most."""

NONCE = "_wsrealtime_nonce"
SALT = "django_wsrealtime.grants"


class Holder(Protocol):
    """Whose grant it is: a request, or the identity of a connection."""

    @property
    def user(self) -> Any: ...

    @property
    def session(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a grant says.

    Args:
        topic: the topic's name.
        user: primary key of the user; ``None`` in an anonymous grant.
        binding: digest of what ends with the session; empty in an anonymous grant.
    """

    topic: str
    user: str | None
    binding: str


def sign(topic: str, holder: Holder) -> str | None:
    """Permit a topic to the holder's user.

    Reads the session, and writes a nonce to it if its user signed in before this app was installed.

    Args:
        topic: the topic's canonical name.
        holder: the request that the page is rendered for.

    Returns:
        The grant; ``None`` for an anonymous user, unless the topic is public.
    """
    user = _user(holder)
    if user is None:
        if not _is_public(topic):
            return None
        content = {"t": topic, "u": None, "b": ""}
    else:
        nonce = _nonce(holder) or _draw_nonce(holder)
        binding = _digest(user, user.get_session_auth_hash(), nonce)
        content = {"t": topic, "u": str(user.pk), "b": binding}
    return signing.dumps(content, salt=SALT)


def verify(grant: str, topic: str, holder: Holder) -> bool:
    """Whether a grant permits a topic to the holder, now.

    The session must be loaded already, or the caller in a thread that may query.
    """
    content = _open(grant, max_age=LIFE)
    permitted = content is not None and content.topic == topic and _is_bound(content, holder)
    if not permitted:
        count("grants.refused")
    return permitted


def renewable(grant: str, holder: Holder) -> str | None:
    """The topic for which the holder may be given a new grant in place of this one.

    The caller has yet to ask the topic's own rule. ``None``: refused.
    """
    content = _open(grant, max_age=RENEWABLE)
    if content is not None:
        user = _user(holder)
        if content.user is None:
            if _is_public(content.topic):
                return content.topic
        elif user is not None and constant_time_compare(content.user, str(user.pk)):
            return content.topic
    count("grants.refused")
    return None


def connect() -> None:
    """Draw a nonce at every login from now on."""
    user_logged_in.connect(_on_login, dispatch_uid="django_wsrealtime.topics.grants")


def _on_login(*, request: Any = None, **kwargs: Any) -> None:
    session = getattr(request, "session", None)
    if session is not None:
        session[NONCE] = secrets.token_urlsafe(16)


def _open(grant: str, *, max_age: int) -> _Content | None:
    if len(grant) > MAX_LENGTH or not grant.isascii():
        return None
    try:
        content = signing.loads(grant, salt=SALT, max_age=max_age)
    except signing.BadSignature:
        return None
    return _Content(topic=content["t"], user=content["u"], binding=content["b"])


def _is_bound(content: _Content, holder: Holder) -> bool:
    if content.user is None:
        return _is_public(content.topic)
    user = _user(holder)
    if user is None:
        return False
    nonce = _nonce(holder) or _stored_nonce(holder)
    if nonce is None:
        return False
    # After SECRET_KEY was changed, the hash under the old key counts as long as the key does.
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    # A sum, not any(): every candidate is compared, so that the time taken tells nothing.
    bindings = [_digest(user, session_hash, nonce) for session_hash in hashes]
    return sum(constant_time_compare(content.binding, binding) for binding in bindings) > 0


def _digest(user: Any, session_hash: str, nonce: str) -> str:
    what = json.dumps([str(user.pk), session_hash, nonce])
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _user(holder: Holder) -> Any | None:
    """The holder's user, if there is one who has signed in."""
    user = getattr(holder, "user", None)
    return user if user is not None and user.is_authenticated else None


def _nonce(holder: Holder) -> str | None:
    session = getattr(holder, "session", None)
    return None if session is None else session.get(NONCE)


def _stored_nonce(holder: Holder) -> str | None:
    """The nonce that a page drew after the holder's connection had loaded its session."""
    session = getattr(holder, "session", None)
    key = getattr(session, "session_key", None)
    if session is None or key is None:
        return None
    nonce: str | None = type(session)(key).get(NONCE)
    return nonce


def _draw_nonce(holder: Holder) -> str:
    nonce = secrets.token_urlsafe(16)
    session = getattr(holder, "session", None)
    if session is not None:
        session[NONCE] = nonce
    return nonce


def _is_public(topic: str) -> bool:
    found = registry.find(topic)
    return found is not None and found.public


__all__ = ["LIFE", "RENEWABLE", "Holder", "connect", "renewable", "sign", "verify"]
