"""HTTP endpoints for pages that are open: new grants for old ones, and the CSRF token.

Nothing secret stands in a URL. Bodies are bounded before they are read, and whatever is wrong with
one is answered by one ``error`` object, as on the WebSocket.
"""

from __future__ import annotations

import secrets
from typing import Annotated

import msgspec
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST
from msgspec import Meta, Struct

from .conf import conf
from .errors import ErrorCode, ProtocolError
from .protocol import codec
from .protocol.frames import Error
from .topics import access, grants
from .topics.access import Identity
from .topics.publish import tab_of


class Renewal(Struct):
    """The body of ``renew/``."""

    grants: list[Annotated[str, Meta(max_length=grants.MAX_LENGTH)]]


@require_GET
@csrf_protect
def csrf(request: HttpRequest) -> HttpResponse:
    """Tell the CSRF token and set its cookie, so that pages without a form stay cacheable."""
    return _private(JsonResponse({"token": get_token(request)}))


@require_POST
@csrf_protect
def renew(request: HttpRequest) -> HttpResponse:
    """Exchange grants: ``{"grants": […]}`` in, the same order out, ``null`` where refused."""
    try:
        wanted = _read(request)
    except ProtocolError as error:
        return _private(_refusal(error))
    identity = _identify(request)
    granted = [_renew(grant, request, identity) for grant in wanted.grants]
    return _private(JsonResponse({"grants": granted}))


def _renew(grant: str, request: HttpRequest, identity: Identity) -> str | None:
    topic = grants.renewable(grant, identity)
    renewed = None if topic is None else grants.sign(topic, request)
    if topic is None or renewed is None:
        return None
    try:
        async_to_sync(access.authorize)(access.find(topic), identity, grant=renewed)
    except ProtocolError:
        return None
    return renewed


def _read(request: HttpRequest) -> Renewal:
    most = conf().limits.subscriptions
    most_bytes = 1_000 + most * (grants.MAX_LENGTH + 3)
    if int(request.META.get("CONTENT_LENGTH") or 0) > most_bytes or len(request.body) > most_bytes:
        raise ProtocolError(ErrorCode.TOO_LARGE, f"The body has more than {most_bytes} bytes.")
    try:
        wanted = msgspec.json.decode(request.body, type=Renewal)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f'The body is not like {{"grants": ["…"]}}: {str(error)[:160]}.',
        ) from None
    if len(wanted.grants) > most:
        raise ProtocolError(
            ErrorCode.LIMIT_EXCEEDED,
            f"{len(wanted.grants)} grants came; at most {most} are renewed at once.",
        )
    return wanted


def _identify(request: HttpRequest) -> Identity:
    user = getattr(request, "user", None)
    return Identity.of(
        request,
        # Asked here, in the thread that may query: the request's user is lazy.
        user=user if user is not None and user.is_authenticated else AnonymousUser(),
        session=getattr(request, "session", None),
        sid=secrets.token_urlsafe(8),
        tab=tab_of(request) or "",
    )


def _refusal(error: ProtocolError) -> HttpResponse:
    frame = Error(code=error.name, message=error.message)
    return HttpResponse(codec.encode(frame), content_type="application/json", status=400)


def _private(response: HttpResponse) -> HttpResponse:
    add_never_cache_headers(response)
    patch_vary_headers(response, ["Cookie"])
    return response
