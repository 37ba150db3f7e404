"""A grant opens one topic for one user and one session, and for nobody and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model, login, logout, update_session_auth_hash
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore
from django.core import signing
from django.test import RequestFactory, override_settings

from django_wsrealtime.topics import Topic, grants
from django_wsrealtime.topics.registry import registry

pytestmark = pytest.mark.django_db


@dataclass
class Holder:
    user: Any
    session: Any


@pytest.fixture(autouse=True)
def topics() -> Iterator[None]:
    with registry.isolated():

        @registry.register("board/<int:pk>")
        class Board(Topic):
            public = True

        yield


def signed_in(name: str = "ada") -> Any:
    """A request of a user who has just signed in."""
    user, _ = get_user_model().objects.get_or_create(username=name)
    request: Any = RequestFactory().get("/")
    request.session = SessionStore()
    request.user = AnonymousUser()
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()
    return request


def as_connection(request: Any) -> Holder:
    """The same user and session as a WebSocket finds them later: read anew."""
    user = get_user_model().objects.get(pk=request.user.pk)
    return Holder(user=user, session=SessionStore(request.session.session_key))


def sign(topic: str, holder: Any) -> str:
    grant = grants.sign(topic, holder)
    assert grant is not None
    return grant


def test_it_opens_its_topic_for_its_user() -> None:
    request = signed_in()
    assert grants.verify(sign("secret/7", request), "secret/7", as_connection(request))


def test_it_opens_no_other_topic() -> None:
    request = signed_in()
    assert not grants.verify(sign("secret/7", request), "secret/8", as_connection(request))


def test_it_opens_nothing_for_another_user() -> None:
    grant = sign("secret/7", signed_in("ada"))
    assert not grants.verify(grant, "secret/7", as_connection(signed_in("bob")))


def test_it_opens_nothing_for_a_visitor() -> None:
    request = signed_in()
    visitor = Holder(user=AnonymousUser(), session=request.session)
    assert not grants.verify(sign("secret/7", request), "secret/7", visitor)


def test_it_opens_nothing_in_another_session_of_its_user() -> None:
    grant = sign("secret/7", signed_in())
    assert not grants.verify(grant, "secret/7", as_connection(signed_in()))


def test_it_ends_with_the_session() -> None:
    request = signed_in()
    grant = sign("secret/7", request)
    holder = as_connection(request)
    logout(request)
    assert not grants.verify(grant, "secret/7", holder)


def test_it_ends_with_the_password() -> None:
    request = signed_in()
    grant = sign("secret/7", request)
    request.user.set_password("new")
    request.user.save()
    update_session_auth_hash(request, request.user)
    request.session.save()
    assert not grants.verify(grant, "secret/7", as_connection(request))


def test_it_ends_after_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    request = signed_in()
    grant = sign("secret/7", request)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + grants.LIFE - 10)
    assert grants.verify(grant, "secret/7", as_connection(request))
    monkeypatch.setattr(time, "time", lambda: now + grants.LIFE + 10)
    assert not grants.verify(grant, "secret/7", as_connection(request))


def test_it_survives_a_rotation_of_the_key_and_ends_with_the_old_one() -> None:
    request = signed_in()
    grant = sign("secret/7", request)
    holder = as_connection(request)
    with override_settings(SECRET_KEY="new" * 20, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert grants.verify(grant, "secret/7", holder)
    with override_settings(SECRET_KEY="new" * 20):
        assert not grants.verify(grant, "secret/7", holder)


def test_it_does_not_open_what_other_code_has_signed() -> None:
    request = signed_in()
    content = signing.loads(sign("secret/7", request), salt=grants.SALT)
    assert not grants.verify(signing.dumps(content), "secret/7", as_connection(request))


@pytest.mark.parametrize(
    "grant", ["", ":", "a:b:c", "é", "\ud800", "x" * 1_000_000, "e30:1:", "\x00"]
)
def test_garbage_opens_nothing(grant: str) -> None:
    assert not grants.verify(grant, "secret/7", as_connection(signed_in()))


def test_a_changed_character_opens_nothing() -> None:
    request = signed_in()
    grant, holder = sign("secret/7", request), as_connection(request)
    for at, character in enumerate(grant):
        changed = grant[:at] + ("A" if character != "A" else "B") + grant[at + 1 :]
        assert not grants.verify(changed, "secret/7", holder)


def test_a_visitor_is_granted_public_topics_alone() -> None:
    visitor = Holder(user=AnonymousUser(), session=None)
    assert grants.sign("secret/7", visitor) is None
    assert grants.sign("board/7", visitor) is not None
    assert grants.verify(sign("board/7", visitor), "board/7", visitor)


def test_a_visitors_grant_ends_when_the_topic_is_public_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visitor = Holder(user=AnonymousUser(), session=None)
    grant = sign("board/7", visitor)
    monkeypatch.setattr(registry.routes()[-1].topic_class, "public", False)
    assert not grants.verify(grant, "board/7", visitor)
    assert grants.renewable(grant, visitor) is None


def test_a_session_from_before_the_app_was_installed_gets_its_nonce_late() -> None:
    request = signed_in()
    del request.session[grants.NONCE]
    request.session.save()
    connection = as_connection(request)
    connection.session.get("anything")  # loaded before the page drew the nonce
    grant = sign("secret/7", request)
    request.session.save()
    assert grants.verify(grant, "secret/7", connection)


def test_a_login_signal_without_request_or_session_is_harmless() -> None:
    user = get_user_model().objects.create(username="token")
    user_logged_in.send(sender=type(user), request=None, user=user)
    user_logged_in.send(sender=type(user), request=object(), user=user)


def test_every_login_draws_a_nonce_of_its_own() -> None:
    assert signed_in().session[grants.NONCE] != signed_in().session[grants.NONCE]


def test_it_does_not_show_what_it_is_bound_to() -> None:
    request = signed_in()
    shown = str(signing.loads(sign("secret/7", request), salt=grants.SALT))
    assert request.user.get_session_auth_hash() not in shown
    assert request.session[grants.NONCE] not in shown
    assert request.session.session_key not in shown


def test_it_can_be_renewed_by_its_user_after_the_session_changed() -> None:
    request = signed_in()
    grant = sign("secret/7", request)
    assert grants.renewable(grant, as_connection(signed_in())) == "secret/7"
    assert grants.renewable(grant, as_connection(signed_in("bob"))) is None
    assert grants.renewable(grant, Holder(user=AnonymousUser(), session=None)) is None


def test_it_can_be_renewed_for_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    request = signed_in()
    grant = sign("secret/7", request)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + grants.RENEWABLE - 10)
    assert grants.renewable(grant, request) == "secret/7"
    monkeypatch.setattr(time, "time", lambda: now + grants.RENEWABLE + 10)
    assert grants.renewable(grant, request) is None
