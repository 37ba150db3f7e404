"""The ASGI application: pages, topics and one plain Channels consumer."""

import os

from django_wsrealtime.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = get_asgi_application(websocket_urlpatterns="echo.routing.websocket_urlpatterns")
