"""System checks that ask the Redis servers themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable

from django.core.checks import CheckMessage, Error, Warning

from ..errors import BrokerUnavailable, ConfigurationError
from .redis_hosts import BUDGET
from .redis_link import Links

HINT = "See docs/how-to/redis.md."


def check_servers(servers: Iterable[Links]) -> list[CheckMessage]:
    """What is wrong with these servers; reaches each of them once."""
    found: list[CheckMessage] = []
    for links in servers:
        found += _check_server(links)
    return found


def _check_server(links: Links) -> list[CheckMessage]:
    name = links.host.name
    try:
        memory = links.command("INFO", "memory", deadline=time.monotonic() + BUDGET)
    except ConfigurationError as error:
        return [Error(str(error), hint=HINT, id="wsrealtime.E201")]
    except BrokerUnavailable as error:
        return [Error(str(error), hint="Start it, or correct `hosts`.", id="wsrealtime.E202")]
    said = dict(line.split(":", 1) for line in memory.decode().splitlines() if ":" in line)
    policy = said.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return []
    limited = said.get("maxmemory", "0") != "0"
    message = (
        f"{name} has the maxmemory-policy {policy!r}: when its memory is full it drops keys, and"
        " with them the logs of topics; their readers are reset."
    )
    hint = f"Set `maxmemory-policy noeviction`. {HINT}"
    if limited:
        return [Error(message, hint=hint, id="wsrealtime.E203")]
    return [Warning(message, hint=hint, id="wsrealtime.W203")]
