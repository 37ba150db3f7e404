"""What happens once when Django starts: topics are found, signals connected, checks registered."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    """The app ``django_wsrealtime``. It has no models."""

    name = "django_wsrealtime"
    label = "django_wsrealtime"
    verbose_name = "Realtime"

    def ready(self) -> None:
        # Imported here: they import models, which exist only now.
        for module, function in (
            ("topics.grants", "connect"),
            ("topics.registry", "autodiscover"),
            ("streams", "connect"),
            ("checks", "connect"),
        ):
            spec = find_spec(f"{self.name}.{module}")
            if spec is not None and spec.loader is not None and spec.origin is not None:
                getattr(import_module(f"{self.name}.{module}"), function)()
