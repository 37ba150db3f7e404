"""What the tags write, seen in Chromium under a strict Content Security Policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth import get_user_model
from playwright.sync_api import Page, expect

from tests.support.plugin import StartServer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Open = Callable[[], None]


@pytest.fixture
def open_page(page: Page, server_process: StartServer) -> Open:
    """Sign in as Ada, then open the page; violations of the policy are collected."""
    get_user_model().objects.create(username="ada", first_name="Ada", last_name="Lovelace")
    server = server_process(
        application="tests.asgi:application",
        env={"DJANGO_SETTINGS_MODULE": "tests.edge.site.settings"},
    )
    page.add_init_script(
        "window.violations = [];"
        "addEventListener('securitypolicyviolation', event => violations.push(event.blockedURI))"
    )

    def open_page() -> None:
        page.goto(server.url("/login/ada/"))
        page.goto(server.url("/crowd/"))

    return open_page


def test_the_page_is_live_and_violates_nothing(page: Page, open_page: Open) -> None:
    open_page()
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")
    expect(page.locator("wsrealtime-connection")).to_have_text("On air")
    expect(page.locator("wsrealtime-presence")).to_contain_text("Ada Lovelace")
    assert page.evaluate("violations") == []


def test_what_violates_the_policy_would_be_seen(page: Page, open_page: Open) -> None:
    """The test above can fail."""
    open_page()
    page.evaluate("() => { new Image().src = '/static/django_wsrealtime/wsrealtime.js' }")
    page.wait_for_function("violations.length === 1")


def test_an_open_page_keeps_its_topic_over_a_change_of_password(
    page: Page, open_page: Open
) -> None:
    open_page()
    presence = page.locator("wsrealtime-presence")
    expect(presence).to_contain_text("Ada Lovelace")
    with page.expect_response("**/realtime/renew/") as renewal:
        page.evaluate(
            "async () => { await fetch('/password/'); realtime.close(); realtime.open() }"
        )
    (grant,) = renewal.value.json()["grants"]
    assert grant
    assert grant != presence.get_attribute("grant")
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")
    joined = page.evaluate(
        "() => realtime.subscribe('granted/7').ready.then(() => true, error => error.code)"
    )
    assert joined is True
