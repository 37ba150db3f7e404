"""The project's ASGI application: Django for HTTP, topics and consumers for WebSockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import django
from django.core.asgi import get_asgi_application as get_django_application
from django.utils.module_loading import import_string

from .instrumentation import refuse

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def get_asgi_application(
    *, websocket_urlpatterns: Sequence[Any] | str | None = None
) -> Application:
    """Use this instead of ``django.core.asgi.get_asgi_application``.

    It serves topics at ``WSREALTIME["PATH"]``, your own consumers at ``websocket_urlpatterns`` and
    Django everywhere else. Your consumers get ``scope["user"]`` and ``scope["session"]`` from
    Channels' ``AuthMiddlewareStack``, and only handshakes that pass the same origin rule.

    Args:
        websocket_urlpatterns: URL patterns as for ``channels.routing.URLRouter``, or the dotted
            path of such a list, imported once Django is set up.

    Raises:
        ImportError: the dotted path leads nowhere.
    """
    http = get_django_application()
    django.setup(set_prefix=False)
    from channels.auth import AuthMiddlewareStack
    from channels.routing import ProtocolTypeRouter, URLRouter

    from .brokers import get_broker
    from .urls import websocket_urlpatterns as topics

    patterns: Any = websocket_urlpatterns or []
    if isinstance(patterns, str):
        patterns = import_string(patterns)
    own: Any = AuthMiddlewareStack(URLRouter(list(patterns)))
    routes: Any = topics
    websocket: Any = _WebSockets(URLRouter(routes), own)

    async def pages(scope: dict[str, Any], receive: Any, send: Any) -> None:
        # Said here, not above: system checks import this application in every process.
        get_broker().serves_browsers()
        await http(scope, receive, send)

    application: Any = ProtocolTypeRouter(
        {"http": pages, "websocket": websocket, "lifespan": _lifespan}
    )
    return cast(Application, application)


class _WebSockets:
    """Topics first, then the project's own consumers behind the origin rule."""

    def __init__(self, topics: Any, own: Application) -> None:
        self._topics = topics
        self._own = own

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        from .conf import conf
        from .transports.origin import refusal

        if scope["path"].removeprefix(scope.get("root_path", "")) == conf().path:
            await self._topics(scope, receive, send)
            return
        if (reason := refusal(scope)) is not None:
            refuse("origin", reason)
            await _close(receive, send)
            return
        try:
            await self._own(scope, receive, send)
        except ValueError as error:
            if not str(error).startswith("No route found"):
                raise
            refuse("path", f"no WebSocket is served at {scope['path']!r}")
            await _close(receive, send)


async def _close(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1000})


async def _lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """End what this event loop started, where the server tells of its end."""
    from .transports.local import get_local

    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await get_local().aclose()
            await send({"type": "lifespan.shutdown.complete"})
            return
