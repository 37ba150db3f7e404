"""What happens once when Django starts: topics are found, signals connected, checks registered."""

from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    """The app ``django_wsrealtime``. It has no models."""

    name = "django_wsrealtime"
    label = "django_wsrealtime"
    verbose_name = "Realtime"

    def ready(self) -> None:
        # Imported here: these import models, which exist only now.
        from . import checks, streams
        from .topics import autodiscover, grants

        grants.connect()
        streams.connect()
        autodiscover()
        checks.connect()
