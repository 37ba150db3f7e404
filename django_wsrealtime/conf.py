"""The project's ``WSREALTIME`` setting as one typed, frozen object."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from .errors import ConfigurationError
from .protocol.limits import Limits
from .protocol.window import MARK_EVERY


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """Every key of ``settings.WSREALTIME`` with its default; keys are these names in capitals.

    Args:
        path: where the WebSocket is served.
        allowed_origins: origins beyond Django's own rule, as in ``CSRF_TRUSTED_ORIGINS``.
        allow_missing_origin: let native clients in that send no Origin but a token.
        authenticate_token: dotted path of a callable that takes the token of ``hello`` and returns
            a user or ``None``; sync or async.
        trusted_proxies: networks whose ``X-Forwarded-For`` is believed, in CIDR notation.
        replica_lag: seconds by which reads of this project may be behind its writes.
        limits: see :class:`~.protocol.limits.Limits`.
        threads: how many actions and rules may run at once in this process.
        ping_interval: seconds between two heartbeats of a quiet connection.
        broker: dotted path of a broker; by default the one that fits ``CHANNEL_LAYERS``.
        channel_layer: alias of the channel layer whose servers the broker uses.
        deployment: names this deployment on a shared store; by default taken from the
            channel layer's prefix.
    """

    path: str = "/realtime/ws/"
    allowed_origins: tuple[str, ...] = ()
    allow_missing_origin: bool = False
    authenticate_token: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    replica_lag: float = 0.0
    limits: Limits = Limits()
    threads: int = 16
    ping_interval: float = 25.0
    broker: str | None = None
    channel_layer: str = "default"
    deployment: str | None = None


KEYS = {field.name.upper(): field for field in dataclasses.fields(Conf)}
LIMITS = {field.name: field for field in dataclasses.fields(Limits)}


def problems(raw: Any) -> list[str]:
    """What is wrong with a ``WSREALTIME`` setting, one sentence each."""
    if not isinstance(raw, Mapping):
        return [f"WSREALTIME is a {type(raw).__name__}; expected a dict."]
    found = [
        f"WSREALTIME[{key!r}] is not a setting; the settings are {', '.join(sorted(KEYS))}."
        for key in raw
        if key not in KEYS
    ]
    limits = raw.get("LIMITS", {})
    if not isinstance(limits, Mapping):
        return [*found, f"WSREALTIME['LIMITS'] is a {type(limits).__name__}; expected a dict."]
    found += [
        f"WSREALTIME['LIMITS'][{key!r}] is not a limit; the limits are {', '.join(sorted(LIMITS))}."
        for key in limits
        if key not in LIMITS
    ]
    found += [
        f"WSREALTIME['LIMITS'][{key!r}] is {value!r}; expected a number that is not negative."
        for key, value in limits.items()
        if key in LIMITS
        and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0)
    ]
    window = limits.get("window_bytes", MARK_EVERY)
    if isinstance(window, int | float) and 0 <= window < MARK_EVERY:
        found.append(
            f"WSREALTIME['LIMITS']['window_bytes'] is {window!r}; expected at least {MARK_EVERY},"
            " the bytes between two marks: a reader could lag without a mark to answer."
        )
    for key in ("ALLOWED_ORIGINS", "TRUSTED_PROXIES"):
        if isinstance(raw.get(key), str):
            found.append(f"WSREALTIME[{key!r}] is a string; expected a list of strings.")
        elif key == "TRUSTED_PROXIES":
            found += filter(None, map(_network_fault, raw.get(key, ())))
    for key, least in (("PING_INTERVAL", 1), ("REPLICA_LAG", 0), ("THREADS", 1)):
        value = raw.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            found.append(
                f"WSREALTIME[{key!r}] is {value!r}; expected a number of at least {least}."
            )
    path = raw.get("PATH", "/")
    if not isinstance(path, str) or not path.startswith("/"):
        found.append(f"WSREALTIME['PATH'] is {path!r}; expected a path, as in '/realtime/ws/'.")
    return found


def _network_fault(network: Any) -> str | None:
    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        return f"WSREALTIME['TRUSTED_PROXIES'] has {network!r}: {error}. Write '10.0.0.0/8'."
    return None


@lru_cache(maxsize=1)
def conf() -> Conf:
    """The settings of this process.

    Raises:
        ConfigurationError: ``WSREALTIME`` has keys or values that mean nothing.
    """
    raw: Any = getattr(settings, "WSREALTIME", {})
    if found := problems(raw):
        raise ConfigurationError(" ".join(found))
    values: dict[str, Any] = {key.lower(): value for key, value in raw.items()}
    values["limits"] = Limits(**values.get("limits", {}))
    for key in ("allowed_origins", "trusted_proxies"):
        values[key] = tuple(values.get(key, ()))
    return Conf(**values)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "WSREALTIME":
        conf.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_wsrealtime.conf")
