"""The rule for origins, asked directly: what it says, and that it never fails instead."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from django_wsrealtime.transports.origin import refusal, request_of


def handshake(*headers: tuple[str, str], scheme: str = "ws") -> dict[str, Any]:
    pairs = [(name.encode(), value.encode("latin1")) for name, value in headers]
    return {"type": "websocket", "path": "/", "scheme": scheme, "headers": pairs}


@pytest.mark.parametrize(
    "origin",
    ["http://[", "http://[::1", "http://[x]", "https://a]", "http://[]:80", "http://\xbd.example"],
)
@override_settings(CSRF_TRUSTED_ORIGINS=["https://*.example.com"])
def test_what_no_browser_sends_is_refused_without_an_exception(origin: str) -> None:
    assert refusal(handshake(("host", "testserver"), ("origin", origin))) is not None


@override_settings(CSRF_TRUSTED_ORIGINS=["https://*.example.com"])
def test_trusted_origins_may_have_wildcards() -> None:
    for origin, refused in (
        ("https://a.example.com", False),
        ("http://a.example.com", True),
        ("https://aexample.com", True),
        ("https://[::1]", True),
    ):
        found = refusal(handshake(("host", "testserver"), ("origin", origin)))
        assert (found is not None) is refused, origin


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_a_header_with_underscores_does_not_pass_for_the_proxys() -> None:
    spoofed = (("host", "testserver"), ("x_forwarded_proto", "https"))
    assert refusal(handshake(*spoofed, ("origin", "https://testserver"))) is not None
    request = request_of(handshake(*spoofed, ("x-forwarded-proto", "http")))
    assert request.META["HTTP_X_FORWARDED_PROTO"] == "http"
