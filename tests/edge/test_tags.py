"""What the template tags write into pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, ClassVar

import django
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine, TemplateSyntaxError, engines
from django.test import Client, RequestFactory, override_settings
from django.urls import path, set_script_prefix
from django.utils.functional import SimpleLazyObject
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_cookie

from django_wsrealtime.errors import ConfigurationError, UnknownTopic
from django_wsrealtime.protocol.position import Since
from django_wsrealtime.topics import Presence, Topic, grants
from django_wsrealtime.topics.registry import registry

LIBRARIES = {"wsrealtime": "django_wsrealtime.templatetags.wsrealtime"}


@pytest.fixture(autouse=True)
def topics() -> Iterator[None]:
    with registry.isolated():

        @registry.register("crowd/<int:pk>")
        class Crowd(Topic):
            presence = Presence()

        @registry.register("square/<int:pk>")
        class Square(Topic):
            presence = Presence()
            public = True

        @registry.register("quiet/<int:pk>")
        class Quiet(Topic):
            pass

        yield


class Elements(HTMLParser):
    """The start tags of a page with their attributes."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def render(source: str, request: Any = None, **context: Any) -> str:
    return str(
        engines["django"].from_string("{% load wsrealtime %}" + source).render(context, request)
    )


def attributes(source: str, request: Any = None, **context: Any) -> dict[str, str | None]:
    """The attributes of the one element that a tag makes."""
    ((_, found),) = Elements(render(source, request, **context)).found
    return found


def a_request(since: int | None = 1_700_000_000_000_000) -> Any:
    request: Any = RequestFactory().get("/")
    request.user = AnonymousUser()
    request.session = SessionStore()
    if since is not None:
        request.realtime_since = Since(time=since)
    return request


# --- the script --------------------------------------------------------------------------------


def test_the_script_knows_where_and_since_when() -> None:
    assert attributes("{% realtime_script %}", a_request()) == {
        "type": "module",
        "src": "/static/django_wsrealtime/wsrealtime.js",
        "data-wsrealtime": None,
        "data-path": "/realtime/ws/",
        "data-prefix": "/realtime",
        "data-since": "1700000000000000",
    }


def test_the_script_is_one_element_without_content() -> None:
    assert re.fullmatch(r"<script [^>]*></script>", render("{% realtime_script %}", a_request()))


def test_the_path_is_the_settings() -> None:
    with override_settings(WSREALTIME={"PATH": "/live/"}):
        assert attributes("{% realtime_script %}", a_request())["data-path"] == "/live/"


def test_a_project_below_a_prefix_keeps_it() -> None:
    set_script_prefix("/shop/")
    try:
        found = attributes("{% realtime_script %}", a_request())
    finally:
        set_script_prefix("/")
    assert found["data-path"] == "/shop/realtime/ws/"
    assert found["data-prefix"] == "/shop/realtime"


class NoUrls:
    urlpatterns: list[Any] = []


def test_without_the_urls_there_is_no_prefix() -> None:
    with override_settings(ROOT_URLCONF=NoUrls):
        assert "data-prefix" not in attributes("{% realtime_script %}", a_request())


@pytest.mark.parametrize(
    "request_", [a_request(since=None), None], ids=["no middleware", "no request"]
)
def test_a_page_whose_time_is_unknown_starts_with_a_reset(request_: Any) -> None:
    assert attributes("{% realtime_script %}", request_)["data-since"] == "0"


# --- nonces ------------------------------------------------------------------------------------


class LazyNonce(SimpleLazyObject):  # type: ignore[type-arg]
    """As in Django 6 and django-csp: false until somebody has used it."""

    def __init__(self) -> None:
        super().__init__(lambda: "bm9uY2U=")

    def __bool__(self) -> bool:
        return False


def test_the_nonce_of_the_context_is_used() -> None:
    found = attributes("{% realtime_script %}", a_request(), csp_nonce=LazyNonce())
    assert found["nonce"] == "bm9uY2U="


def test_the_nonce_of_django_csp_is_used() -> None:
    request = a_request()
    request.csp_nonce = LazyNonce()
    assert attributes("{% realtime_script %}", request)["nonce"] == "bm9uY2U="


def test_without_a_policy_there_is_no_nonce() -> None:
    assert "nonce" not in attributes("{% realtime_script %}", a_request())
    assert "nonce" not in attributes("{% realtime_script %}", a_request(), csp_nonce="")
    assert "nonce" not in attributes("{% realtime_script %}", a_request(), csp_nonce=None)


if django.VERSION >= (6, 0):  # which has a CSP middleware of its own

    def test_the_nonce_of_django_is_used_and_is_in_the_policy(
        client: Client, settings: Any
    ) -> None:
        from django.utils.csp import CSP  # type: ignore[import-not-found,unused-ignore]

        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.middleware.csp.ContentSecurityPolicyMiddleware",
        ]
        settings.SECURE_CSP = {"script-src": [CSP.NONCE]}
        response = client.get("/")
        ((_, found),) = [
            each for each in Elements(response.content.decode()).found if each[0] == "script"
        ]
        assert found["nonce"]
        assert f"'nonce-{found['nonce']}'" in response["Content-Security-Policy"]


# --- the state of the connection ---------------------------------------------------------------


def test_the_connection_has_a_text_for_each_state() -> None:
    found = attributes("{% live_connection %}")
    assert found == {
        "role": "status",
        "data-connecting": "Connecting…",
        "data-open": "Live",
        "data-reconnecting": "Reconnecting…",
        "data-offline": "Offline",
        "data-closed": "Disconnected",
    }


def test_texts_can_be_replaced_and_are_escaped() -> None:
    found = attributes("{% live_connection open=text %}", text='<b>"up"</b>')
    assert found["data-open"] == '<b>"up"</b>'
    assert html.escape('<b>"up"</b>') in render(
        "{% live_connection open=text %}", text='<b>"up"</b>'
    )


def test_a_literal_with_quotes_stays_inside_its_attribute() -> None:
    assert attributes("""{% live_connection open='"up"' %}""")["data-open"] == '"up"'


def test_a_state_that_does_not_exist_is_an_error_that_lists_them() -> None:
    with pytest.raises(TemplateSyntaxError, match="opened; the states are connecting, open"):
        render("{% live_connection opened='up' %}")


# --- presence ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_presence_is_granted_to_the_user_of_the_page() -> None:
    request = a_request()
    request.realtime_vary = False
    request.user = get_user_model().objects.create(username="ada")
    found = attributes('{% live_presence "crowd/7" %}', request)
    assert set(found) == {"topic", "grant", "since"}
    assert found["topic"] == "crowd/7"
    assert found["since"] == "1700000000000000"
    grant = found["grant"]
    assert grant is not None
    assert grants.verify(grant, "crowd/7", request)
    assert request.realtime_vary is True


@pytest.mark.django_db
def test_the_topic_can_be_named_by_its_route_and_parameters() -> None:
    request = a_request()
    found = attributes('{% live_presence "crowd" pk=pk %}', request, pk=7)
    assert found["topic"] == "crowd/7"


@pytest.mark.django_db
def test_a_visitor_is_granted_public_topics_alone() -> None:
    assert "grant" not in attributes('{% live_presence "crowd/7" %}', a_request())
    assert "grant" in attributes('{% live_presence "square/7" %}', a_request())


@pytest.mark.django_db
def test_a_visitors_page_varies_too_because_a_user_would_see_another() -> None:
    request = a_request()
    request.realtime_vary = False
    render('{% live_presence "square/7" %}', request)
    assert request.realtime_vary is True


def test_without_a_request_nothing_is_granted() -> None:
    assert attributes('{% live_presence "crowd/7" %}') == {"topic": "crowd/7", "since": "0"}


def test_an_unknown_topic_is_an_error_that_says_so() -> None:
    with pytest.raises(UnknownTopic, match="crowds"):
        render('{% live_presence "crowds/7" %}')


def test_a_topic_without_presence_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"presence = Presence\(\)"):
        render('{% live_presence "quiet/7" %}')


# --- whole pages -------------------------------------------------------------------------------


def everybody(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render("{% realtime_script %}{% live_connection %}", request))


def crowd(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render('{% realtime_script %}{% live_presence "crowd/7" %}', request))


class Urls:
    urlpatterns: ClassVar[list[Any]] = [
        path("", everybody),
        path("crowd/", crowd),
        path("cached/", cache_page(60)(vary_on_cookie(crowd))),
    ]


@pytest.mark.django_db
def test_a_page_for_one_user_varies_on_the_cookie_and_no_other_does(
    client: Client, settings: Any
) -> None:
    settings.ROOT_URLCONF = Urls
    client.force_login(get_user_model().objects.create(username="ada"))
    assert "Cookie" not in client.get("/").get("Vary", "")
    response = client.get("/crowd/")
    assert "Cookie" in response["Vary"]
    assert b"grant=" in response.content


CACHED = (
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
)


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["/crowd/", "/cached/"])
def test_a_cache_keeps_one_page_for_each_user(settings: Any, url: str) -> None:
    settings.ROOT_URLCONF = Urls
    if url == "/crowd/":
        settings.MIDDLEWARE = [
            settings.MIDDLEWARE[0],
            CACHED[0],
            *settings.MIDDLEWARE[1:],
            CACHED[1],
        ]
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": f"test_tags{url}",
        }
    }

    def shown_to(client: Client) -> list[dict[str, str | None]]:
        found = Elements(client.get(url).content.decode()).found
        return [attributes for _, attributes in found]

    ada, bob = Client(), Client()
    for client, name in ((ada, "ada"), (bob, "bob")):
        client.force_login(get_user_model().objects.create(username=name))
    seen = shown_to(ada)
    assert shown_to(ada) == seen  # it came from the cache, its time included
    assert shown_to(bob)[-1]["grant"] != seen[-1]["grant"]


@pytest.mark.django_db
def test_a_page_of_a_session_that_predates_the_app_stores_its_nonce(
    client: Client, settings: Any
) -> None:
    settings.ROOT_URLCONF = Urls
    client.force_login(get_user_model().objects.create(username="ada"))
    session = client.session
    del session[grants.NONCE]
    session.save()
    client.get("/crowd/")
    assert client.session[grants.NONCE]


def test_the_tags_need_no_context_processor() -> None:
    source = "{% load wsrealtime %}{% realtime_script %}"
    markup = (
        Engine(libraries=LIBRARIES).from_string(source).render(Context({"request": a_request()}))
    )
    assert 'data-since="1700000000000000"' in markup
