"""The ASGI application of the other side, as the documentation of Channels says."""

import os
from typing import Any

import django
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.benchmarks.site.settings")
django.setup()

GROUP = "fanout"


class FanoutConsumer(AsyncJsonWebsocketConsumer):
    """Joins a group and passes on what is sent to it."""

    async def connect(self) -> None:
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def fanout_message(self, event: dict[str, Any]) -> None:
        await self.send_json(event["payload"])


consumer: Any = FanoutConsumer.as_asgi()
patterns: list[Any] = [path("fanout/", consumer)]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(patterns))),
    }
)
