"""Find out from which address a client comes, through the proxies that are trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ..conf import conf
from .origin import request_of

IPV6_PREFIX = 64
"""Bits of an IPv6 address that tell one customer from another; the others are the customer's."""


def client_address(scope: Mapping[str, Any]) -> str:
    """Whom a handshake's rate is counted for: an IPv4 address, or an IPv6 network of 64 bits.

    Each proxy appends the address it was called from to ``X-Forwarded-For``. So the list is read
    from its end, and only as long as whoever wrote an entry is one of ``TRUSTED_PROXIES``: what
    stands before that is the client's own claim (RFC 7239 section 8.1).

    Args:
        scope: the ASGI scope of a WebSocket.
    """
    peer = str((scope.get("client") or ("",))[0] or "")
    proxies = [ipaddress.ip_network(network) for network in conf().trusted_proxies]
    forwarded = request_of(scope).META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    address = _parse(peer)
    while address is not None and any(address in proxy for proxy in proxies) and forwarded:
        claimed = _parse(forwarded.pop())
        if claimed is None:
            break
        address = claimed
    if address is None:
        return peer  # a Unix socket, for instance
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
