"""Which Redis servers the settings name, and how to connect to each of them.

The settings are those of channels_redis (``CHANNEL_LAYERS[alias]["CONFIG"]``), so that a project
writes its servers down once. Every key a server holds for us begins with :attr:`Layout.prefix`.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from channels_redis.utils import decode_hosts
from django.conf import settings

from ..conf import conf
from ..errors import BrokerError, ConfigurationError

BUDGET = 0.8
"""Seconds that one call may take in all, connecting included."""
MIN_VERSION = (6, 0)

# What belongs to channels_redis' clients or contradicts how this package uses its connections.
_IGNORED = frozenset(
    {
        "cache",
        "cache_config",
        "connection_class",
        "decode_responses",
        "health_check_interval",
        "max_connections",
        "parser_class",
        "protocol",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "single_connection_client",
        "socket_connect_timeout",
        "socket_timeout",
        "timeout",
    }
)
_ALWAYS: Mapping[str, Any] = {
    "decode_responses": False,
    "health_check_interval": 0,
    "protocol": 2,  # RESP3 mixes pushes into answers; nothing here needs it
    "retry": None,  # who retries an append may append twice
    "socket_connect_timeout": BUDGET,
}


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    run_id: str
    version: tuple[int, ...]
    version_text: str


class Host:
    """One Redis server (or the master that sentinels name) and how to connect to it.

    Args:
        options: one entry of channels_redis' ``hosts``, decoded.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        options = dict(options)
        self._address: str | None = options.pop("address", None)
        self._master: str | None = options.pop("master_name", None)
        self._sentinels = options.pop("sentinels", ())
        self._sentinel_kwargs = options.pop("sentinel_kwargs", None) or {}
        self._options = {key: value for key, value in options.items() if key not in _IGNORED}
        self._options.update(_ALWAYS)
        # The pools only interpret the options; connections are made and kept by redis_link.
        self._pool = self.make_pool(redis)
        self.db = int(self._pool.connection_kwargs.get("db") or 0)

    @property
    def name(self) -> str:
        """For messages; without secrets."""
        if self._master is not None:
            return f"Redis master {self._master!r}"
        kwargs = self._pool.connection_kwargs
        where = (
            kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        )
        return f"Redis at {where}/{self.db}"

    def make_pool(self, module: Any) -> Any:
        """What interprets the options: a pool of ``redis`` or of ``redis.asyncio``."""
        if self._address is not None:
            if urlsplit(self._address).scheme not in ("redis", "rediss", "unix"):
                raise ConfigurationError(
                    f"{self._address.split('@')[-1]!r} is no address of a Redis server; expected"
                    " redis://, rediss:// or unix://."
                )
            pool = module.ConnectionPool.from_url(self._address, **self._options)
            # What stands in the address's query comes after the keywords.
            pool.connection_kwargs.update(_ALWAYS)
            return pool
        if self._master is not None:
            timeouts = {"socket_timeout": BUDGET / 2, "socket_connect_timeout": BUDGET / 2}
            sentinel = module.sentinel.Sentinel(
                self._sentinels, sentinel_kwargs={**timeouts, **self._sentinel_kwargs}
            )
            return module.sentinel.SentinelConnectionPool(self._master, sentinel, **self._options)
        return module.ConnectionPool(**self._options)

    def connection(self) -> Any:
        """A connection for one thread at a time, not connected yet."""
        kwargs = {**self._pool.connection_kwargs, "socket_timeout": BUDGET}
        return self._pool.connection_class(**kwargs)

    def close(self) -> None:
        """Close what is connected to sentinels."""
        for sentinel in _sentinels(self._pool):
            sentinel.close()

    def fingerprint(self) -> str:
        """The same in all processes that mean the same server."""
        if self._master is not None:
            return f"sentinel/{self._master}/{self.db}"
        return self.name

    def identify(self, info: bytes) -> Server:
        """Read what ``INFO server`` answered.

        Raises:
            ConfigurationError: the server is a Redis Cluster, or too old.
            BrokerError: it does not say which run of it answers.
        """
        lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
        said = {key: value for key, colon, value in lines if colon}
        if said.get("redis_mode") == "cluster":
            raise ConfigurationError(
                f"{self.name} is a Redis Cluster, which is not supported: a row's topics would lie"
                " on several nodes. Use one server, sentinels, or several entries in `hosts`."
            )
        text = said.get("redis_version", "0")
        version = tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
        if version < MIN_VERSION:
            raise ConfigurationError(f"{self.name} is version {text}; expected 6.0 or later.")
        if not (run_id := said.get("run_id", "")):
            raise BrokerError(
                f"{self.name} answers INFO without a run_id, so a restart could not be noticed."
            )
        return Server(run_id=run_id, version=version, version_text=text)


class AsyncHost:
    """The same server for one event loop: what it keeps for itself belongs to that loop."""

    def __init__(self, host: Host) -> None:
        self._pool = host.make_pool(redis.asyncio)
        self.identify = host.identify

    def connection(self) -> Any:
        """A connection, not connected yet; its reads have no time limit."""
        kwargs = {**self._pool.connection_kwargs, "socket_timeout": None}
        return self._pool.connection_class(**kwargs)

    async def has_moved(self, connection: Any) -> bool:
        """Whether the sentinels name another master than the one this connection leads to.

        Raises:
            redis.RedisError: no sentinel knows.
        """
        if not _sentinels(self._pool):
            return False
        address = await self._pool.get_master_address()
        return tuple(address) != (connection.host, connection.port)

    async def aclose(self) -> None:
        """Close what is connected to sentinels."""
        for sentinel in _sentinels(self._pool):
            await sentinel.aclose()


def _sentinels(pool: Any) -> Sequence[Any]:
    manager = getattr(pool, "sentinel_manager", None)
    return () if manager is None else manager.sentinels


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the settings say about the servers of this deployment.

    Args:
        hosts: the servers; a name belongs to one of them by its hash.
        deployment: part of every key.
        encryption_keys: as in channels_redis.
    """

    hosts: tuple[Host, ...]
    deployment: str
    encryption_keys: tuple[str | bytes, ...]

    def prefix(self, host: Host) -> str:
        """What every key and channel begins with: channels know no database numbers."""
        return f"wsrealtime:{quote(self.deployment, safe='')}:{host.db}:"

    def fingerprint(self) -> str:
        """Names the list of servers; processes with another list disagree where a topic is."""
        listed = "\n".join(host.fingerprint() for host in self.hosts)
        digest = hashlib.blake2b(listed.encode(), digest_size=8).hexdigest()
        return f"{len(self.hosts)} servers, list {digest}"

    def index(self, name: str) -> int:
        """Which host a name belongs to, by the hash that channels_redis uses."""
        size = len(self.hosts)
        if size == 1:
            return 0
        return int((binascii.crc32(name.encode()) & 0xFFF) / (4096 / size))


def read_layout(
    *,
    hosts: Sequence[Any] | None = None,
    deployment: str | None = None,
    encryption_keys: Sequence[str | bytes] | None = None,
) -> Layout:
    """The layout that fits the settings; arguments replace what stands there.

    Raises:
        ConfigurationError: the settings name no usable servers.
    """
    alias = conf().channel_layer
    layers: Mapping[str, Any] = getattr(settings, "CHANNEL_LAYERS", None) or {}
    config: Mapping[str, Any] = layers.get(alias, {}).get("CONFIG", {})
    if hosts is None:
        hosts = config.get("hosts")
    try:
        decoded = decode_hosts(hosts)
    except ValueError as error:
        raise ConfigurationError(f"CHANNEL_LAYERS[{alias!r}]: {error}") from error
    if encryption_keys is None:
        encryption_keys = config.get("symmetric_encryption_keys") or ()
    if isinstance(encryption_keys, str | bytes):
        raise ConfigurationError("symmetric_encryption_keys is a string; expected a list of keys.")
    return Layout(
        hosts=tuple(Host(options) for options in decoded),
        deployment=deployment or conf().deployment or config.get("prefix") or "asgi",
        encryption_keys=tuple(encryption_keys),
    )
