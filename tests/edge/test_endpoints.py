"""The HTTP endpoints, as a page uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import signing
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import reverse

from django_wsrealtime.topics import Topic, access, grants
from django_wsrealtime.topics.registry import registry

pytestmark = pytest.mark.django_db

CSRF = "/realtime/csrf/"
RENEW = "/realtime/renew/"


@pytest.fixture(autouse=True)
def topics() -> Iterator[None]:
    access.forget()
    with registry.isolated():

        @registry.register("granted/<int:pk>")
        class Granted(Topic):
            """Without a rule: its page decides."""

        @registry.register("ruled/<int:pk>")
        class Ruled(Topic):
            def can_subscribe(self, user: Any) -> bool:
                return bool(self.pk == 7)

        @registry.register("board/<int:pk>")
        class Board(Topic):
            public = True

        yield
    access.forget()


def user(name: str = "ada") -> Any:
    return get_user_model().objects.get_or_create(username=name)[0]


class Browser(Client):
    """A browser that fetches its CSRF token as the client does."""

    def __init__(self) -> None:
        super().__init__(enforce_csrf_checks=True)

    def sign_in(self, name: str = "ada") -> Browser:
        self.force_login(user(name))
        return self

    def grant(self, topic: str) -> str:
        """What a page rendered for this browser holds."""

        class Page:
            session = self.session
            user = get_user_model().objects.get(pk=self.session["_auth_user_id"])

        grant = grants.sign(topic, Page)
        Page.session.save()
        assert grant is not None
        return grant

    def renew(self, body: Any, **headers: str) -> HttpResponse:
        token = self.get(CSRF).json()["token"]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer: Any = self.post(
            RENEW,
            content,
            content_type="application/json",
            headers={"X-CSRFToken": token, **headers},
        )
        return answer  # type: ignore[no-any-return]


def granted(response: Any) -> list[str | None]:
    assert response.status_code == 200, response.content
    found: list[str | None] = response.json()["grants"]
    return found


# --- the token ---------------------------------------------------------------------------------


def test_the_token_is_told_and_never_cached() -> None:
    response = Client().get(CSRF)
    assert set(response.json()) == {"token"}
    assert "no-store" in response["Cache-Control"]
    assert "Cookie" in response["Vary"]
    assert "csrftoken" in response.cookies


def test_the_token_is_read_with_get_only() -> None:
    assert Client().post(CSRF).status_code == 405


def test_the_token_is_good_without_the_middleware_too(settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
    browser = Browser().sign_in()
    assert granted(browser.renew({"grants": []})) == []
    assert browser.post(RENEW, b"{}", content_type="application/json").status_code == 403


# --- renewal -----------------------------------------------------------------------------------


def test_grants_are_renewed_in_their_order() -> None:
    browser = Browser().sign_in()
    old = [browser.grant("granted/1"), "garbage", browser.grant("granted/2")]
    first, second, third = granted(browser.renew({"grants": old}))
    assert second is None
    assert [signing.loads(grant, salt=grants.SALT)["t"] for grant in (first, third) if grant] == [
        "granted/1",
        "granted/2",
    ]


def test_a_renewed_grant_opens_its_topic_after_a_new_password() -> None:
    browser = Browser().sign_in()
    old = browser.grant("granted/1")
    changed = user()
    changed.set_password("new")
    changed.save()
    browser.force_login(changed)
    (new,) = granted(browser.renew({"grants": [old]}))

    class Connection:
        session = browser.session
        user = changed

    assert not grants.verify(old, "granted/1", Connection)
    assert new is not None
    assert grants.verify(new, "granted/1", Connection)


def test_the_rule_of_the_topic_is_asked_again() -> None:
    browser = Browser().sign_in()
    first, second = granted(
        browser.renew({"grants": [browser.grant("ruled/7"), browser.grant("ruled/8")]})
    )
    assert first is not None
    assert second is None


def test_a_topic_that_is_gone_is_refused() -> None:
    browser = Browser().sign_in()
    assert granted(browser.renew({"grants": [browser.grant("gone/7")]})) == [None]


def test_another_user_renews_nothing() -> None:
    grant = Browser().sign_in("ada").grant("granted/1")
    assert granted(Browser().sign_in("bob").renew({"grants": [grant]})) == [None]


def test_a_visitor_renews_public_topics_alone() -> None:
    class Visitor:
        session = None
        user = None

    private = Browser().sign_in().grant("granted/1")
    public = grants.sign("board/7", Visitor)
    first, second = granted(Browser().renew({"grants": [private, public]}))
    assert first is None
    assert second is not None


def test_renewal_needs_the_csrf_token() -> None:
    browser = Browser().sign_in()
    body = json.dumps({"grants": [browser.grant("granted/1")]})
    assert browser.post(RENEW, body, content_type="application/json").status_code == 403


def test_renewal_is_a_post_and_never_cached() -> None:
    browser = Browser().sign_in()
    assert browser.get(RENEW).status_code == 405
    assert "no-store" in browser.renew({"grants": []})["Cache-Control"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_message"),
        (b"null", "bad_message"),
        (b"[]", "bad_message"),
        (b"{}", "bad_message"),
        (b"\xff\xfe", "bad_message"),
        (b'{"grants": "x"}', "bad_message"),
        (b'{"grants": [1]}', "bad_message"),
        (b'{"grants": [null]}', "bad_message"),
        (b'{"grants": ["' + b"x" * 3_000 + b'"]}', "bad_message"),
        (b"[" * 100_000, "bad_message"),
        (b'{"grants": [' + b"[" * 100_000, "bad_message"),
        (b'{"a": ' + b"[" * 100_000, "bad_message"),
        (b'{"grants": [' + b",".join([b'"x"'] * 101) + b"]}", "limit_exceeded"),
        (b" " * 300_000, "too_large"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_a_bad_body_gets_one_structured_error(body: bytes, code: str) -> None:
    response = Browser().sign_in().renew(body)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/json"
    answer = json.loads(response.content)
    assert answer["type"] == "error"
    assert answer["code"] == code
    assert answer["message"]


def test_more_grants_are_renewed_where_more_topics_are_allowed() -> None:
    with override_settings(WSREALTIME={"LIMITS": {"subscriptions": 200}}):
        assert granted(Browser().sign_in().renew({"grants": ["x"] * 200})) == [None] * 200


def test_the_endpoints_have_names() -> None:
    assert reverse("django_wsrealtime:renew") == RENEW
    assert reverse("django_wsrealtime:csrf") == CSRF
