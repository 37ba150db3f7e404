"""Whose rate a handshake is counted for."""

from __future__ import annotations

from typing import Any

import pytest

from django_wsrealtime.transports.address import client_address


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy: its own claim
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("", ["198.51.100.1"], ""),  # a Unix socket
    ],
)
def test_the_nearest_address_that_is_no_trusted_proxy(
    settings: Any, peer: str, forwarded: list[str], expected: str
) -> None:
    settings.WSREALTIME = {"TRUSTED_PROXIES": ["10.0.0.0/8", "fd00::/8"]}
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    client = [peer, 5_000] if peer else None
    scope = {"type": "websocket", "client": client, "headers": headers}
    assert client_address(scope) == expected
