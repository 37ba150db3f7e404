"""The browser fixtures drive a real Chromium, and leave the thread free of its event loop."""

import pytest
from django.contrib.auth import get_user_model
from playwright.sync_api import Page


def test_page_runs_scripts(page: Page) -> None:
    page.set_content("<p id=a>hello</p>")
    assert page.evaluate("document.getElementById('a').textContent") == "hello"


@pytest.mark.django_db(transaction=True)
def test_models_work_beside_a_page(page: Page) -> None:
    user = get_user_model().objects.create(username="ann")
    page.set_content(f"<p id=a>{user.username}</p>")
    assert page.inner_text("#a") == get_user_model().objects.get().get_username()


def test_uncaught_errors_are_collected(page: Page, page_errors: list[str]) -> None:
    page.set_content("<script>throw new Error('on purpose')</script>")
    assert [error for error in page_errors if "on purpose" in error]
    page_errors.clear()
