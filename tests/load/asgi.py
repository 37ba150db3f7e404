"""The ASGI application of the load tests: the test site, with their topics."""

from django_wsrealtime.asgi import get_asgi_application

application = get_asgi_application()

from . import topics  # noqa: E402, F401  registered once Django is set up
