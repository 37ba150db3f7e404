"""Template tags: ``{% load wsrealtime %}``."""

from __future__ import annotations

from typing import Any

import django
from django import template
from django.http import HttpRequest
from django.template import Context
from django.templatetags.static import static
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from .. import html
from ..conf import conf
from ..errors import ConfigurationError, UnknownTopic
from ..instrumentation import warn_once
from ..middleware import BEGINNING
from ..topics import grants
from ..topics.registry import registry

register = template.Library()

SCRIPT = "django_wsrealtime/wsrealtime.js"

LABELS = {
    "connecting": _("Connecting…"),
    "open": _("Live"),
    "reconnecting": _("Reconnecting…"),
    "offline": _("Offline"),
    "closed": _("Disconnected"),
}


@register.simple_tag(takes_context=True)
def realtime_script(context: Context) -> SafeString:
    """Load the browser client; once per page, best in ``<head>``."""
    request = _request(context)
    return html.script(
        src=static(SCRIPT),
        path=get_script_prefix().removesuffix("/") + conf().path,
        prefix=_prefix(),
        since=_since(request),
        nonce=_nonce(context, request),
    )


@register.simple_tag
def live_connection(**labels: Any) -> SafeString:
    """Show the state of the connection.

    Args:
        labels: other texts for the states ``connecting``, ``open``, ``reconnecting``, ``offline``
            and ``closed``.
    """
    if unknown := sorted(labels.keys() - LABELS.keys()):
        raise template.TemplateSyntaxError(
            f"live_connection was given {', '.join(unknown)}; the states are {', '.join(LABELS)}."
        )
    return html.connection(labels=LABELS | labels)


@register.simple_tag(takes_context=True)
def live_presence(context: Context, topic: str, **params: Any) -> SafeString:
    """Show who is present in a topic.

    Args:
        topic: the topic's name, as in ``"orders/7"``, or its route up to the first parameter.
        params: the route's parameters, as in ``"orders" store_id=7``.

    Raises:
        UnknownTopic: there is no such topic.
        ConfigurationError: the topic declares no presence.
    """
    request = _request(context)
    found = registry.resolve(_name(topic, params) if params else topic)
    if found.presence is None:
        kind = type(found)
        raise ConfigurationError(
            f"live_presence shows nobody in {found.name!r}, because {kind.__module__}."
            f"{kind.__qualname__} declares no presence; add presence = Presence() to it."
        )
    return html.presence(topic=found.name, grant=_grant(request, found.name), since=_since(request))


def _name(prefix: str, params: dict[str, Any]) -> str:
    for known in registry.routes():
        if known.route.prefix == prefix and set(known.route.parameters) == params.keys():
            return known.route.reverse(params)
    raise UnknownTopic(
        f"No route begins with {prefix!r} and has the parameters {', '.join(params)}; the routes "
        f"are {', '.join(repr(known.route.text) for known in registry.routes()) or 'none'}."
    )


def _request(context: Context) -> HttpRequest | None:
    request = context.get("request") or getattr(context, "request", None)
    return request if isinstance(request, HttpRequest) else None


def _since(request: HttpRequest | None) -> int:
    since = getattr(request, "realtime_since", None)
    if since is None:
        # A time taken now would be later than the view's queries: a hole that nobody sees.
        warn_once(
            "since:middleware",
            "A page was rendered without the time its request began, so its subscriptions start "
            "with a reset. Put django_wsrealtime.middleware.RealtimeMiddleware first in MIDDLEWARE "
            "and render with the request.",
        )
        since = BEGINNING
    return int(since.time)


def _prefix() -> str | None:
    try:
        return reverse("django_wsrealtime:renew").removesuffix("/renew/")
    except NoReverseMatch:
        return None


def _nonce(context: Context, request: HttpRequest | None) -> str | None:
    """The page's CSP nonce, from the middleware of Django 6 or django-csp.

    Theirs are lazy, false until somebody uses them, and only then part of the policy.
    """
    nonce: object = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(request, "csp_nonce", None)
    if nonce is None and request is not None and django.VERSION >= (6, 0):
        from django.middleware.csp import get_nonce

        nonce = get_nonce(request)
    return None if nonce is None else str(nonce) or None


def _grant(request: Any, topic: str) -> str | None:
    if request is None:
        return None
    request.realtime_vary = True
    return grants.sign(topic, request)
