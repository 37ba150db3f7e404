"""System checks: every known way to set this package up wrongly, with a reason and the fix.

``manage.py check`` reads settings and declarations only. ``manage.py check --deploy`` also asks the
broker, so it may use the network. Each id is explained in ``docs/reference/checks.md``.
"""

from __future__ import annotations

from django.core.checks import register

from . import configuration, declarations, deployment, project

TAG = "wsrealtime"


def connect() -> None:
    """Register the checks."""
    for check in (
        configuration.check_settings,
        configuration.check_origins,
        project.check_apps,
        project.check_application,
        project.check_middleware,
        project.check_urls,
        declarations.check_topics,
        deployment.check_versions,
        deployment.check_broker,
    ):
        register(check, TAG)
    for check in (deployment.check_processes, deployment.check_servers):
        register(check, TAG, deploy=True)


__all__ = ["TAG", "connect"]
