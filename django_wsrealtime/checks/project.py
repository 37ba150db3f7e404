"""Checks of how the project is put together: apps, ASGI application, middleware, URLs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.handlers.asgi import ASGIHandler
from django.urls import NoReverseMatch, Resolver404, reverse
from django.utils.module_loading import import_string

from .configuration import import_failure, known_conf

MIDDLEWARE = "django_wsrealtime.middleware.RealtimeMiddleware"
OURS = frozenset({"django_wsrealtime.asgi", "django_wsrealtime.transports.websocket"})
"""Modules whose ASGI applications serve the realtime WebSocket."""


def check_apps(**kwargs: Any) -> list[CheckMessage]:
    """``runserver`` is daphne's, which serves WebSockets."""
    names = [config.name for config in apps.get_app_configs()]
    ours = names.index("django_wsrealtime")
    if "daphne" not in names:
        return [
            Warning(
                "'daphne' is not in INSTALLED_APPS, so runserver serves no WebSockets.",
                hint="Add 'daphne' right after 'django_wsrealtime'. If you develop with another "
                "ASGI server, silence this check.",
                id="wsrealtime.W010",
            )
        ]
    late = [name for name in ("daphne", "django.contrib.staticfiles") if name in names[:ours]]
    if late:
        return [
            Warning(
                f"'django_wsrealtime' comes after {' and '.join(map(repr, late))} in "
                "INSTALLED_APPS.",
                hint="Put 'django_wsrealtime' first, 'daphne' second.",
                id="wsrealtime.W011",
            )
        ]
    return []


def check_application(**kwargs: Any) -> list[CheckMessage]:
    """``ASGI_APPLICATION`` serves the WebSocket where the pages look for it."""
    known = known_conf()
    path: str | None = getattr(settings, "ASGI_APPLICATION", None)
    if path is None:
        return [
            Error(
                "ASGI_APPLICATION is not set, so runserver serves no WebSockets.",
                hint="ASGI_APPLICATION = 'mysite.asgi.application', made by "
                "django_wsrealtime.asgi.get_asgi_application().",
                id="wsrealtime.E020",
            )
        ]
    if (failure := import_failure(path)) is not None:
        return [
            Error(
                f"ASGI_APPLICATION, {path!r}, cannot be imported: {failure}.",
                hint="Correct the path, or what the module imports.",
                id="wsrealtime.E021",
            )
        ]
    if known is None or _serves(import_string(path), known.path) is not False:
        return []
    return [
        Error(
            f"ASGI_APPLICATION, {path!r}, serves no realtime WebSocket at {known.path!r}, where "
            "every page looks for it.",
            hint="Make it with django_wsrealtime.asgi.get_asgi_application(), or add "
            "django_wsrealtime.urls.websocket_urlpatterns to your URLRouter.",
            id="wsrealtime.E022",
        )
    ]


def _serves(application: Any, path: str) -> bool | None:
    """Whether an ASGI application leads a WebSocket at ``path`` to ours; ``None``: cannot tell."""
    if getattr(application, "__module__", None) in OURS:
        return True
    if isinstance(application, ASGIHandler):
        return False
    if isinstance(application, ProtocolTypeRouter):
        inner = application.application_mapping.get("websocket")
        return False if inner is None else _serves(inner, path)
    if isinstance(application, URLRouter):
        return _route_serves(application, path.lstrip("/"))
    # Middleware, of Channels and of everybody else, keeps what it wraps under one of these names.
    for name in ("inner", "application", "app"):
        if (inner := getattr(application, name, None)) is not None:
            return _serves(inner, path)
    return None


def _route_serves(router: URLRouter, path: str) -> bool | None:
    routes: Sequence[Any] = router.routes
    for route in routes:
        try:
            match = route.pattern.match(path)
        except Resolver404:
            continue
        if match:
            return _serves(route.callback, match[0])
    return False


def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """The time of a page is taken before its first query."""
    middleware = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        return [
            Warning(
                "RealtimeMiddleware is missing, so nobody knows when a page was rendered: each of "
                "its subscriptions starts with a reset and loads everything again.",
                hint=f"Put {MIDDLEWARE!r} first in MIDDLEWARE.",
                id="wsrealtime.W030",
            )
        ]
    if middleware[0] != MIDDLEWARE:
        return [
            Warning(
                "RealtimeMiddleware is not first: what the middleware before it reads may be older "
                "than the time that the page is given, and its changes would be missed.",
                hint=f"Move {MIDDLEWARE!r} to the top of MIDDLEWARE.",
                id="wsrealtime.W031",
            )
        ]
    return []


def check_urls(**kwargs: Any) -> list[CheckMessage]:
    """The HTTP endpoints can be reached."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse("django_wsrealtime:renew")
    except NoReverseMatch:
        return [
            Warning(
                "The URLs of django_wsrealtime are not included, so grants cannot be renewed: "
                "pages that are open for long, or over a change of password, lose their topics.",
                hint="path('realtime/', include('django_wsrealtime.urls')) in your URLconf.",
                id="wsrealtime.W040",
            )
        ]
    return []
