"""Pages of the tags' site, and the topic they show."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.template import engines

from django_wsrealtime.topics import Presence, Topic
from django_wsrealtime.topics.registry import registry

PAGE = """{% load wsrealtime %}<!doctype html>
<html lang="en">
<head>
  <title>Crowd</title>
  <link rel="icon" href="data:,">
  {% realtime_script %}
</head>
<body>
  {% live_connection open="On air" %}
  {% live_presence "granted" pk=7 %}
</body>
</html>"""

POLICY = (
    "default-src 'none'; script-src 'nonce-{}'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; require-trusted-types-for 'script'"
)


@registry.register("granted/<int:pk>")
class Granted(Topic):
    """Without a rule of its own: only a page's grant opens it."""

    presence = Presence()


def crowd(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


def change_password(request: Any) -> HttpResponse:
    request.user.set_password(secrets.token_urlsafe())
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that allows one nonce and nothing else."""

    def middleware(request: Any) -> HttpResponse:
        request.csp_nonce = secrets.token_urlsafe(16)
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY.format(request.csp_nonce)
        return response

    return middleware
