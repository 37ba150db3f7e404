"""Checks of the ``WSREALTIME`` setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from ..brokers import broker_path
from ..conf import Conf, conf, problems
from ..instrumentation import logger


def known_conf() -> Conf | None:
    """The settings; ``None`` while :func:`check_settings` finds them faulty."""
    return None if problems(getattr(settings, "WSREALTIME", {})) else conf()


def import_failure(path: str) -> str | None:
    """Why a dotted path cannot be imported; ``None`` if it can."""
    try:
        import_string(path)
    except ImportError as error:
        return str(error)
    except Exception as error:
        # Whatever the project's module does when it is imported, a check must not end the command.
        logger.exception("Importing %s failed.", path)
        return repr(error)
    return None


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """``WSREALTIME`` has known keys, and what it names exists."""
    if faults := problems(getattr(settings, "WSREALTIME", {})):
        return [
            Error(fault, hint="Correct it; every key is optional.", id="wsrealtime.E001")
            for fault in faults
        ]
    found: list[CheckMessage] = []
    for key, path in (("BROKER", broker_path()), ("AUTHENTICATE_TOKEN", conf().authenticate_token)):
        if path is None or (failure := import_failure(path)) is None:
            continue
        how = ": python -m pip install 'django-wsrealtime[redis]'" if "redis" in path else ""
        found.append(
            Error(
                f"{path!r} (WSREALTIME[{key!r}]) cannot be imported: {failure}.",
                hint=f"Correct the path, or install what it needs{how}.",
                id="wsrealtime.E002",
            )
        )
    layers: Mapping[str, Any] = getattr(settings, "CHANNEL_LAYERS", None) or {}
    alias = conf().channel_layer
    if alias != "default" and alias not in layers:
        found.append(
            Error(
                f"WSREALTIME['CHANNEL_LAYER'] is {alias!r}, which CHANNEL_LAYERS does not have; "
                "topics would never leave this process.",
                hint=f"Name one of {', '.join(map(repr, sorted(layers))) or 'the layers you add'}.",
                id="wsrealtime.E003",
            )
        )
    return found


def check_origins(**kwargs: Any) -> list[CheckMessage]:
    """Who may connect is not left open by accident."""
    found: list[CheckMessage] = []
    if (known := known_conf()) is None:
        return found
    if known.allow_missing_origin and known.authenticate_token is None:
        found.append(
            Error(
                "ALLOW_MISSING_ORIGIN lets clients in that must bring a token, but nothing reads "
                "tokens, so none of them can ever connect.",
                hint="Set WSREALTIME['AUTHENTICATE_TOKEN'], or remove ALLOW_MISSING_ORIGIN.",
                id="wsrealtime.E004",
            )
        )
    for origin in known.allowed_origins:
        if origin != "*" and "://" not in origin:
            found.append(
                Error(
                    f"WSREALTIME['ALLOWED_ORIGINS'] has {origin!r}, which no Origin equals: an "
                    "Origin has a scheme.",
                    hint=f"Write 'https://{origin}'.",
                    id="wsrealtime.E005",
                )
            )
    if settings.DEBUG:
        return found
    if "*" in settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                "ALLOWED_HOSTS is ['*'] and DEBUG is off: a foreign site whose name resolves to "
                "this server (DNS rebinding) may open WebSockets as your users.",
                hint="List the host names of this site.",
                id="wsrealtime.W006",
            )
        )
    if "*" in known.allowed_origins:
        found.append(
            Warning(
                "WSREALTIME['ALLOWED_ORIGINS'] holds '*' and DEBUG is off: every site on the web "
                "may open WebSockets with the cookies of your users.",
                hint="List the origins that need it, as in 'https://app.example.com'.",
                id="wsrealtime.W007",
            )
        )
    return found
