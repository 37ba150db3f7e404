"""The project's settings: those of `startproject`, and the lines of the quick start."""

from mysite.startproject_settings import *  # noqa: F403
from mysite.startproject_settings import BASE_DIR, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = ["django_wsrealtime", "daphne", *INSTALLED_APPS, "shop"]
MIDDLEWARE = ["django_wsrealtime.middleware.RealtimeMiddleware", *MIDDLEWARE]
ASGI_APPLICATION = "mysite.asgi.application"

# As deployed: static files carry hashes in their names, collected by `collectstatic`.
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "collected"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
    },
}
