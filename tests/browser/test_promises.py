"""What is promised to a page, seen in Chromium: nothing is missed, repeated or forged."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.support.plugin import RunPython, StartServer
from tests.support.redis import RedisServer
from tests.testapp.models import Parcel

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FOLLOW = """
async (topic) => {
  window.heard = []
  const subscription = realtime.subscribe(topic)
  subscription.on("*", (data, meta) => heard.push(`${meta.epoch ?? ""}/${meta.offset}`))
  window.rows = realtime.collection(topic)
  window.loadedAt = performance.timeOrigin
  await window.rows.ready
}
"""
ROWS = "() => Object.fromEntries([...rows.values()].map(row => [row.id, row.label]))"


def stored(depot: int = 1) -> dict[str, str]:
    return {str(parcel.pk): parcel.label for parcel in Parcel.objects.filter(depot=depot)}


def wait_for_rows(page: Page, expected: dict[str, str], timeout: float = 30_000) -> None:
    page.wait_for_function(
        "expected => { const found = (" + ROWS + ")();"
        " return JSON.stringify(found) === JSON.stringify(expected) }",
        arg=dict(sorted(expected.items(), key=lambda item: int(item[0]))),
        timeout=timeout,
    )


def test_two_tabs_follow_another_process_and_outlive_their_server(
    browser_context: BrowserContext,
    server_process: StartServer,
    redis_server: RedisServer,
    run_python: RunPython,
) -> None:
    server = server_process("daphne", redis=redis_server)
    tabs = [browser_context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(server.url())
        tab.evaluate(FOLLOW, "depot/1")
    origins = [tab.evaluate("() => performance.timeOrigin") for tab in tabs]
    save = """
        from tests.testapp.models import Parcel
        for number in range({first}, {last}):
            Parcel.objects.create(depot=1, label=f"p{{number}}")
        parcel = Parcel.objects.order_by("pk").first()
        parcel.label += "x"
        parcel.save()
        Parcel.objects.order_by("pk").last().delete()
    """
    run_python(save.format(first=0, last=5), redis=redis_server)
    for tab in tabs:
        wait_for_rows(tab, stored())
    server.kill()
    for tab in tabs:
        expect(tab.locator("html")).not_to_have_attribute("data-realtime", "open")
    run_python(save.format(first=5, last=25), redis=redis_server)
    tabs[0].wait_for_timeout(5_000)  # the outage that is promised to be outlived
    server.start()
    for tab, origin in zip(tabs, origins, strict=True):
        wait_for_rows(tab, stored())
        heard = tab.evaluate("() => heard")
        assert len(heard) == len(set(heard))
        assert tab.evaluate("() => performance.timeOrigin") == origin


def test_what_changes_between_query_and_subscription_is_shown_100_of_100(
    page: Page, server_process: StartServer
) -> None:
    server = server_process("daphne")
    parcel = Parcel.objects.create(depot=2, label="start")
    shown: list[str] = []
    for number in range(100):
        page.goto(server.url(f"/depot/2/?late=late-{number}"))
        before = page.locator(f"[data-pk='{parcel.pk}']").inner_text()
        assert before != f"late-{number}"
        shown.append(
            page.evaluate(
                """() => new Promise((resolve) => {
                  realtime.subscribe("depot/2").on("upsert", (data) => resolve(data.row.label))
                  setTimeout(() => resolve("nothing came"), 5000)
                })"""
            )
        )
    assert shown == [f"late-{number}" for number in range(100)]


@pytest.mark.parametrize("event", ["upsert", "remove", "html"])
def test_members_cannot_forge_rows(page: Page, server_process: StartServer, event: str) -> None:
    server = server_process("daphne")
    page.goto(server.url())
    rows: Any = page.evaluate(
        """async (event) => {
          const topic = "site/forgery"
          const rows = realtime.collection(topic)
          const room = realtime.subscribe(topic)
          await room.ready
          const heard = new Promise((resolve) => room.on(event, (data, meta) => resolve(meta.kind)))
          await room.publish(event, {pk: 1, row: {id: 1, label: "forged"}}, {key: "1"})
          return [await heard, [...rows.values()].length]
        }""",
        event,
    )
    assert rows == ["client", 0]


def test_a_stranger_sees_no_difference_without_javascript(
    page: Page, server_process: StartServer
) -> None:
    Parcel.objects.create(depot=3, label="plain")
    server = server_process("daphne")
    page.route("**/*.js", lambda route: route.abort())
    page.goto(server.url("/depot/3/"))
    expect(page.get_by_text("plain")).to_be_visible()
