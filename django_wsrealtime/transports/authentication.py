"""Find out who opened a connection: by Django's session, or by a token.

Sessions and users are read in this package's threads, not by Channels' ``AuthMiddleware``, which
does it in one thread for the whole process. Where a project's own middleware has put a user into
the scope, that user stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from channels.auth import UserLazyObject
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty
from django.utils.module_loading import import_string

from ..conf import conf
from ..errors import CloseCode, ErrorCode, ProtocolError
from ..topics import threads
from ..topics.access import Identity
from .origin import request_of


async def identify(scope: Mapping[str, Any], *, sid: str, tab: str, token: str | None) -> Identity:
    """Who is there.

    Args:
        scope: of the handshake.
        sid: the connection's id.
        tab: the browser tab's id.
        token: from ``hello``.

    Raises:
        ProtocolError: fatal; the token names nobody, or there is neither Origin nor token.
    """
    request = request_of(scope)
    if token is not None and conf().authenticate_token is not None:
        user = await _user_of(token)
        session = None
    elif "HTTP_ORIGIN" not in request.META:
        raise _not_authenticated("A client without an Origin sends a valid token in hello.")
    elif (known := await _user_in(scope)) is not None:
        user, session = known, scope.get("session")
    else:
        user, session = await threads.run(_user_and_session, request)
    return Identity.of(request, user=user, session=session, sid=sid, tab=tab)


async def reload(user: Any) -> Any | None:
    """A user as the database has it now, without the permissions that the object remembers.

    Returns:
        ``None`` if the account is gone or was deactivated; a user that is in no database as it is.
    """
    if not isinstance(user, Model) or user._state.adding:
        return user

    def read() -> Any | None:
        model = user.__class__  # of what is wrapped, where the user is lazy
        return model._base_manager.using(user._state.db).filter(pk=user.pk).first()

    fresh = await threads.run(read)
    was_active = getattr(user, "is_active", True)
    return fresh if getattr(fresh, "is_active", True) or not was_active else None


async def _user_in(scope: Mapping[str, Any]) -> Any | None:
    """The user that a middleware of the project found, not lazy any more."""
    user = scope.get("user")
    if not isinstance(user, LazyObject):
        return user
    known = user.__dict__.get("_wrapped")
    if known is not empty:
        return known
    # Channels' own cannot be asked, its middleware has yet to fill it in. (And isinstance() would
    # ask a lazy object for its class.)
    return None if type(user) is UserLazyObject else await threads.run(_unwrap, user)


def _unwrap(user: Any) -> Any:
    user._setup()
    return user._wrapped


def _user_and_session(request: HttpRequest) -> tuple[Any, SessionBase | None]:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if key is None:
        return AnonymousUser(), None
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    session = store(key)
    request.session = session
    user: Any = get_user(request)
    session.accessed = False
    return user, session if session.session_key else None


async def _user_of(token: str) -> Any:
    path = conf().authenticate_token
    assert path is not None
    authenticate = import_string(path)
    if inspect.iscoroutinefunction(authenticate):
        user = await authenticate(token)
    else:
        user = await threads.run(authenticate, token)
    if user is None:
        raise _not_authenticated("The token is not valid, or no longer; get a new one.")
    return user


def _not_authenticated(message: str) -> ProtocolError:
    return ProtocolError(ErrorCode.FORBIDDEN, message, fatal=CloseCode.NOT_AUTHENTICATED)
