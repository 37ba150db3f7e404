"""The WebSocket route of the echo."""

from django.urls import path

from echo.consumers import EchoConsumer

websocket_urlpatterns = [path("echo/ws/", EchoConsumer.as_asgi())]
