"""The ASGI application of our side, as the README says."""

import os

from django_wsrealtime.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.benchmarks.site.settings")
application = get_asgi_application()
