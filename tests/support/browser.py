"""Chromium, driven through Playwright's synchronous API.

Playwright's synchronous API keeps an event loop running in the main thread for as long as it is
open. Two things follow. It is opened for one test module at a time, so that the coroutine tests of
other modules find a thread without a running loop; a module that uses it holds no coroutine tests.
And Django's guard against ORM calls inside an event loop is off meanwhile: the loop is
Playwright's, and it never runs while a test does.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from . import services

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A headless Chromium; raises ``ServiceMissing`` if there is none."""
    executable = services.locate("chromium")
    with sync_playwright() as playwright:
        before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        try:
            browser = playwright.chromium.launch(
                executable_path=executable, args=ARGUMENTS, headless=True
            )
            yield browser
            browser.close()
        finally:
            if before is None:
                del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
            else:
                os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before
