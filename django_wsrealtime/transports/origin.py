"""Judge a WebSocket's Origin by the rule Django applies to unsafe requests.

Browsers send cookies with WebSocket handshakes to any site and apply no same-origin policy to them,
so the server has to (RFC 6455 section 10.2). The rule is ``CsrfViewMiddleware``'s: scheme, host and
port of the Origin equal those of the request, or it is one of ``CSRF_TRUSTED_ORIGINS``. The Host
itself is checked against ``ALLOWED_HOSTS``, which is what stops DNS rebinding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, parse_cookie
from django.utils.http import is_same_domain

from ..conf import conf
from ..errors import describe

_ORIGIN = re.compile(r"https?://[^/?#@\s\\]+", re.ASCII)
_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def request_of(scope: Mapping[str, Any]) -> HttpRequest:
    """A handshake as a Django request without body: headers, cookies, host.

    Args:
        scope: the ASGI scope of a WebSocket.
    """
    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = scope.get("path", "")
    meta: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        if b"_" in raw_name:
            continue  # it would pass for the header that has hyphens, which a proxy may vouch for
        name = raw_name.decode("latin1").upper().replace("-", "_")
        value = raw_value.decode("latin1")
        key = f"HTTP_{name}"
        separator = "; " if key == "HTTP_COOKIE" else ","
        meta[key] = f"{meta[key]}{separator}{value}" if key in meta else value
    server = scope.get("server") or ("unknown", 0)
    meta["SERVER_NAME"] = str(server[0])
    meta["SERVER_PORT"] = str(server[1] or 0)
    meta["REMOTE_ADDR"] = str((scope.get("client") or ("",))[0] or "")
    meta["wsgi.url_scheme"] = _SCHEMES.get(scope.get("scheme") or "", "")
    request.META.update(meta)
    request.COOKIES = parse_cookie(meta.get("HTTP_COOKIE", ""))
    request.headers  # noqa: B018  (cached now, from this META)
    return request


def refusal(scope: Mapping[str, Any]) -> str | None:
    """Why a handshake must be refused; ``None`` if its Origin may open a WebSocket.

    A missing Origin is judged by ``ALLOW_MISSING_ORIGIN``; such a client needs a token.
    """
    origins = [
        value.decode("latin1") for name, value in scope.get("headers", ()) if name == b"origin"
    ]
    if not origins:
        if conf().allow_missing_origin:
            return None
        return "no Origin header; browsers send one (ALLOW_MISSING_ORIGIN lets native clients in)"
    origin = origins[0]
    if len(origins) > 1 or not _well_formed(origin):
        return f"the Origin {describe(origin)} is not one scheme, host and port"
    request = request_of(scope)
    try:
        host = request.get_host()
    except DisallowedHost:
        return f"the Host {describe(request.META.get('HTTP_HOST', ''))} is not in ALLOWED_HOSTS"
    if origin in {f"{scheme}://{host}" for scheme in _schemes(request)}:
        return None
    allowed = conf().allowed_origins
    if "*" in allowed or _trusted(origin, [*settings.CSRF_TRUSTED_ORIGINS, *allowed]):
        return None
    return (
        f"the Origin {describe(origin)} is foreign to the host {describe(host)};"
        " if it is yours, add it to CSRF_TRUSTED_ORIGINS"
    )


def _well_formed(origin: str) -> bool:
    if not _ORIGIN.fullmatch(origin):
        return False
    try:
        urlsplit(origin)
    except ValueError:  # brackets that hold no address
        return False
    return True


def _schemes(request: HttpRequest) -> tuple[str, ...]:
    """The schemes that the page may have had."""
    if settings.SECURE_PROXY_SSL_HEADER:
        return ("https",) if _proxy_says_https(request) else ("http",)
    known = str(request.META["wsgi.url_scheme"])
    if known:
        return (known,)
    if settings.SECURE_SSL_REDIRECT or settings.SESSION_COOKIE_SECURE:
        return ("https",)
    return ("http", "https")


def _proxy_says_https(request: HttpRequest) -> bool:
    header, secure = settings.SECURE_PROXY_SSL_HEADER or ("", "")
    value = str(request.META.get(header, ""))
    return value.split(",", 1)[0].strip() == secure


def _trusted(origin: str, trusted: Iterable[str]) -> bool:
    parts = urlsplit(origin)
    for pattern in trusted:
        if pattern == origin:
            return True
        scheme, _, host = pattern.partition("://")
        if (
            "*" in host
            and scheme == parts.scheme
            and is_same_domain(parts.netloc, host.lstrip("*"))
        ):
            return True
    return False
