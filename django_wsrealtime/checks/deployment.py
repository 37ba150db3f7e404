"""Checks of what is installed, and of how the project is deployed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string
from django.utils.version import get_version_tuple

from ..brokers import Broker, broker_path, get_broker
from ..errors import ConfigurationError
from .configuration import import_failure, known_conf

CORE_LAYER = "channels_redis.core.RedisChannelLayer"
DAPHNE = (4, 2, 3)
"""The oldest daphne without known faults."""


def check_versions(**kwargs: Any) -> list[CheckMessage]:
    """No version with a known fault is installed."""
    found: list[CheckMessage] = []
    if (daphne := _version("daphne")) is not None and daphne < DAPHNE:
        found.append(
            Warning(
                f"daphne {'.'.join(map(str, daphne))} has faults with WebSockets that close while "
                "they open, mended in 4.2.3.",
                hint="python -m pip install 'daphne>=4.2.3'",
                id="wsrealtime.W060",
            )
        )
    redis = _version("redis")
    if redis is not None and redis >= (8,):
        layers: Mapping[str, Any] = getattr(settings, "CHANNEL_LAYERS", None) or {}
        found += [
            Warning(
                f"CHANNEL_LAYERS[{alias!r}] is {CORE_LAYER} on redis-py 8, whose "
                "default socket_timeout ends every idle consumer after five seconds.",
                hint="Give each host {'address': 'redis://…', 'socket_timeout': None}, or use "
                "channels_redis.pubsub.RedisPubSubChannelLayer. Topics are not affected.",
                id="wsrealtime.W061",
            )
            for alias, layer in layers.items()
            if layer.get("BACKEND") == CORE_LAYER and _has_timeout(layer.get("CONFIG", {}))
        ]
    return found


def _has_timeout(config: Mapping[str, Any]) -> bool:
    hosts = config.get("hosts") or [{}]
    return not all(
        isinstance(host, Mapping) and host.get("socket_timeout", 0) is None for host in hosts
    )


def _version(package: str) -> tuple[int, ...] | None:
    try:
        installed = version(package)
    except PackageNotFoundError:
        return None
    return get_version_tuple(installed)


def check_processes(**kwargs: Any) -> list[CheckMessage]:
    """Several processes share their topics."""
    processes = os.environ.get("WEB_CONCURRENCY", "")
    if known_conf() is None or not processes.isdecimal() or int(processes) < 2:
        return []
    if (
        import_failure(path := broker_path()) is not None
        or import_string(path).capabilities.cluster
    ):
        return []
    return [
        Error(
            f"WEB_CONCURRENCY is {processes}, but {path} keeps topics within one process: what one "
            "process publishes, browsers of the others never see.",
            hint="Set CHANNEL_LAYERS to channels_redis, or run one process.",
            id="wsrealtime.E070",
        )
    ]


def check_broker(**kwargs: Any) -> list[CheckMessage]:
    """The broker can be made of the settings, and has nothing to say against them."""
    broker, found = _make_broker()
    return found if broker is None else broker.check()


def check_servers(**kwargs: Any) -> list[CheckMessage]:
    """What the broker finds when it asks its servers."""
    broker, _ = _make_broker()
    if broker is None:
        return []
    said_already = broker.check()
    return [message for message in broker.check(deploy=True) if message not in said_already]


def _make_broker() -> tuple[Broker | None, list[CheckMessage]]:
    """The broker, or why there is none that has not been said by another check."""
    if known_conf() is None or import_failure(broker_path()) is not None:
        return None, []
    try:
        return get_broker(), []
    except ConfigurationError as error:
        return None, [
            Error(
                f"The broker {broker_path()!r} cannot be made: {error}",
                hint="Correct CHANNEL_LAYERS or WSREALTIME.",
                id="wsrealtime.E071",
            )
        ]
