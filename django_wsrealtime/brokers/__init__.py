"""Where the logs of all topics are kept: one broker per process, chosen from the settings."""

from __future__ import annotations

import threading
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ..conf import conf
from .base import Broker, History

IN_MEMORY_LAYER = "channels.layers.InMemoryChannelLayer"
REDIS_LAYERS = (
    "channels_redis.core.RedisChannelLayer",
    "channels_redis.pubsub.RedisPubSubChannelLayer",
)

_lock = threading.Lock()
_broker: Broker | None = None


def broker_path() -> str:
    """The dotted path of the broker that fits the settings."""
    if (configured := conf().broker) is not None:
        return configured
    layers: dict[str, Any] = getattr(settings, "CHANNEL_LAYERS", None) or {}
    backend = layers.get(conf().channel_layer, {}).get("BACKEND", IN_MEMORY_LAYER)
    if backend == IN_MEMORY_LAYER:
        return "django_wsrealtime.brokers.memory.MemoryBroker"
    if backend in REDIS_LAYERS:
        return "django_wsrealtime.brokers.redis.RedisBroker"
    return "django_wsrealtime.brokers.channel_layer.ChannelLayerBroker"


def get_broker() -> Broker:
    """This process's broker; made when it is first asked for."""
    global _broker
    with _lock:
        if _broker is None:
            _broker = import_string(broker_path())()
        return _broker


def set_broker(broker: Broker | None) -> Broker | None:
    """Use another broker from now on (``None``: the settings' one); return the one before."""
    global _broker
    with _lock:
        before, _broker = _broker, broker
        return before


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("CHANNEL_LAYERS", "WSREALTIME") and (before := set_broker(None)) is not None:
        before.close()


setting_changed.connect(_forget, dispatch_uid="django_wsrealtime.brokers")

__all__ = ["Broker", "History", "broker_path", "get_broker", "set_broker"]
