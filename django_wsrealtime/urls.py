"""Where the package's HTTP endpoints and its WebSocket are.

``path("realtime/", include("django_wsrealtime.urls"))`` serves the endpoints. The patterns in
``websocket_urlpatterns`` are for projects with a ``ProtocolTypeRouter`` of their own; they are made
when they are first asked for, so that a WSGI project that includes these URLs imports no transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import URLPattern, path

from . import views
from .conf import conf

if TYPE_CHECKING:
    websocket_urlpatterns: list[URLPattern]

app_name = "django_wsrealtime"

urlpatterns = [
    path("renew/", views.renew, name="renew"),
    path("csrf/", views.csrf, name="csrf"),
]


def _websocket_urlpatterns() -> list[URLPattern]:
    from .transports.websocket import RealtimeWebSocket

    application: Any = RealtimeWebSocket.as_asgi()  # no view, which is what path() is typed for
    return [path(conf().path.removeprefix("/"), application, name="websocket")]


def __getattr__(name: str) -> Any:
    if name == "websocket_urlpatterns":
        return _websocket_urlpatterns()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
