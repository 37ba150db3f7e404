"""The example project, clicked through in Chromium as a visitor would."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.processes import HOST, ChildProcess, accepts, free_port
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
MANAGE = ROOT / "example_project" / "manage.py"

Visit = Callable[..., Page]


class Site:
    """The example in a directory of its own, so that every test starts from the seeded data."""

    def __init__(self, directory: Path, redis_url: str = "") -> None:
        self.directory = directory
        self.processes: list[ChildProcess] = []
        self.address = ""
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "EXAMPLE_VAR_DIR": str(directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": redis_url,
        }

    def manage(self, *arguments: str) -> str:
        """Runs a management command to its end and returns what it printed."""
        done = subprocess.run(
            [sys.executable, str(MANAGE), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str) -> ChildProcess:
        name = f"manage.py {arguments[0]}"
        log = self.directory / f"{len(self.processes)}.log"
        command = [sys.executable, str(MANAGE), *arguments]
        process = ChildProcess(command, name=name, log=log, env=self.env)
        self.processes.append(process)
        return process

    def serve(self, command: str = "serve", *arguments: str) -> str:
        """Starts a server and returns its address once it accepts connections."""
        port = free_port()
        process = self.start(command, "--port", str(port), *arguments)
        process.wait_ready(lambda: accepts(port))
        return f"http://{HOST}:{port}"

    def open_orders(self, store: int = 1) -> list[tuple[int, str]]:
        """Number and status of the open orders, newest first, as the database has them."""
        with closing(sqlite3.connect(self.directory / "db.sqlite3")) as database:
            return database.execute(
                "SELECT number, status FROM dashboard_order "
                "WHERE store_id = ? AND NOT archived ORDER BY number DESC",
                [store],
            ).fetchall()

    def stop(self) -> None:
        for process in self.processes:
            process.terminate(timeout=10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The example with topics in memory: nothing runs yet."""
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.fixture
def redis_site(tmp_path: Path, redis_server: RedisServer) -> Iterator[Site]:
    """The example with topics in Redis: nothing runs yet."""
    site = Site(tmp_path, redis_server.url)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demonstration, seeded and served in one process, without a simulator."""
    site = Site(tmp_path_factory.mktemp("example"))
    site.address = site.serve("demo", "--rate", "0")
    yield site
    site.stop()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """``visit(address, "ada", path)``: a page in a browser session of its own, signed in.

    Fails the test if any of its pages has an uncaught error, a violated policy or anything else
    that the console calls an error, unless its text contains ``expected``.
    """
    contexts = []
    complaints: list[str] = []

    def open_page(
        address: str, name: str = "", path: str = "/", *, expected: str = "\0", **options: object
    ) -> Page:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda message: (
                complaints.append(f"{page.url}: {message.text}")
                if message.type == "error" and expected not in message.text
                else None
            ),
        )
        if name:
            page.goto(f"{address}/login/?next={path}")
            page.get_by_role("button", name=f"Enter as {name}").click()
        else:
            page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(autouse=True, scope="module")
def patience() -> Iterator[None]:
    """Pages get time on a machine that does much else."""
    expect.set_options(timeout=20_000)
    yield
    expect.set_options(timeout=5_000)


def live(page: Page) -> Page:
    """The page, once its connection is open."""
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")
    return page


def order(page: Page, number: int | str) -> Locator:
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=str(number)))


def shown_orders(page: Page) -> list[tuple[int, str]]:
    rows: list[list[str]] = page.locator("tbody").evaluate(
        "body => [...body.rows].map(row => "
        "[row.querySelector('[data-show=number]').textContent, row.dataset.status])"
    )
    return [(int(number), status) for number, status in rows]


# Dashboard ---------------------------------------------------------------------------------------


def test_two_browsers_follow_what_a_view_saves(demo: Site, visit: Visit) -> None:
    ada = live(visit(demo.address, "ada", "/dashboard/1/"))
    grace = live(visit(demo.address, "grace", "/dashboard/1/"))
    before = int(grace.locator("[data-total=count]").inner_text())

    ada.get_by_label("Customer").select_option(label="Kavya Iyer")
    ada.get_by_label("Total").fill("12.50")
    ada.get_by_label("Note").fill("with a ribbon")
    ada.get_by_role("button", name="Save the order").click()

    expect(ada.locator(".notice")).to_have_text(re.compile(r"Saved order \d+\."))
    newest, _ = demo.open_orders()[0]
    for page in (ada, grace):
        for shown in ("Kavya Iyer", "with a ribbon", "€12.50"):
            expect(order(page, newest)).to_contain_text(shown)
        expect(page.locator("[data-total=count]")).to_have_text(str(before + 1))
        assert shown_orders(page) == demo.open_orders()


def test_a_button_calls_an_action_and_the_other_browser_follows(demo: Site, visit: Visit) -> None:
    ada = live(visit(demo.address, "ada", "/dashboard/1/"))
    grace = live(visit(demo.address, "grace", "/dashboard/1/"))
    number = next(number for number, status in demo.open_orders() if status == "new")
    url = ada.url

    order(ada, number).get_by_role("button", name="Mark ready").click()
    for page in (ada, grace):
        expect(order(page, number)).to_have_attribute("data-status", "ready")
    expect(grace.locator("[data-status-line]")).to_have_text(f"ada marked order {number} as ready")

    order(grace, number).get_by_role("button", name="Deliver").click()
    for page in (ada, grace):
        expect(order(page, number)).to_have_count(0)
        assert shown_orders(page) == demo.open_orders()
    assert ada.url == url, "the action was a form post"


def test_a_renamed_customer_is_renamed_in_every_row(demo: Site, visit: Visit) -> None:
    grace = live(visit(demo.address, "grace", "/dashboard/1/"))
    ada = live(visit(demo.address, "ada", "/dashboard/1/"))
    name = grace.locator("tbody tr [data-show=customer]").first.inner_text()
    cells = grace.locator("tbody [data-show=customer]")
    rows = cells.filter(has_text=name).count()

    ada.locator("tbody tr").first.get_by_role("link").click()
    ada.get_by_role("link", name=f"Rename {name}").click()
    ada.get_by_label("Name").fill("Zelda Zimmermann")
    ada.get_by_role("button", name="Save").click()

    expect(cells.filter(has_text="Zelda Zimmermann")).to_have_count(rows)
    expect(cells.filter(has_text=name)).to_have_count(0)


def test_the_page_shows_who_else_is_here(demo: Site, visit: Visit) -> None:
    ada = live(visit(demo.address, "ada", "/dashboard/1/"))
    expect(ada.locator("[data-member]")).to_have_count(1)
    grace = live(visit(demo.address, "grace", "/dashboard/1/"))
    for page in (ada, grace):
        expect(page.locator("[data-member=ada]")).to_be_visible()
        expect(page.locator("[data-member=grace]")).to_be_visible()
    grace.goto(demo.address)
    expect(ada.locator("[data-member=grace]")).to_have_count(0)


def test_everyone_follows_the_prices_that_the_simulator_saves(site: Site, visit: Visit) -> None:
    address = site.serve("demo", "--rate", "20")
    stranger = live(visit(address))
    line = stranger.locator("[data-chart] polyline")
    first = line.get_attribute("points")
    expect(line).not_to_have_attribute("points", first or "")

    ada = live(visit(address, "ada", "/dashboard/1/?symbol=cocoa"))
    figure = ada.locator("[data-chart]")
    expect(figure.locator("[data-show=name]")).to_have_text("Cocoa")
    ada.get_by_role("link", name="Sugar").click()
    expect(figure.locator("[data-show=name]")).to_have_text("Sugar")
    figure.locator(".plot").hover()
    expect(figure.locator("output")).to_have_text(re.compile(r"€[\d.]+ · \d\d:\d\d:\d\d"))
    drawn = figure.locator("polyline").get_attribute("points")
    expect(figure.locator("polyline")).not_to_have_attribute("points", drawn or "")


def test_two_servers_show_what_a_third_process_saved(redis_site: Site, visit: Visit) -> None:
    redis_site.manage("migrate", "--verbosity", "0")
    redis_site.manage("seed")
    names = ("ada", "grace")
    pages = [live(visit(redis_site.serve(), name, "/dashboard/1/")) for name in names]
    before = redis_site.open_orders()
    redis_site.manage("simulate", "--rate", "60", "--seconds", "4", "--seed", "11")
    after = redis_site.open_orders()
    assert after != before
    for page in pages:
        wait_until(lambda page=page: shown_orders(page) == after, what="the saved rows")  # type: ignore[misc]


def test_a_killed_server_costs_no_row_and_no_reload(redis_site: Site, visit: Visit) -> None:
    redis_site.manage("migrate", "--verbosity", "0")
    redis_site.manage("seed")
    port = free_port()
    server = redis_site.start("serve", "--port", str(port))
    server.wait_ready(lambda: accepts(port))
    address = f"http://{HOST}:{port}"
    page = live(visit(address, "ada", "/dashboard/1/", expected="ERR_CONNECTION_REFUSED"))
    page.evaluate("window.sameDocument = true")
    server.kill()
    expect(page.locator("html")).to_have_attribute("data-realtime", "reconnecting")

    redis_site.manage("simulate", "--rate", "60", "--seconds", "2", "--seed", "5")
    after = redis_site.open_orders()
    assert shown_orders(page) != after
    server = redis_site.start("serve", "--port", str(port))
    server.wait_ready(lambda: accepts(port))

    expect(page.locator("html")).to_have_attribute("data-realtime", "open", timeout=30_000)
    wait_until(lambda: shown_orders(page) == after, what="the saved rows")
    assert page.evaluate("window.sameDocument")


def test_without_javascript_tables_are_there_and_forms_post(demo: Site, visit: Visit) -> None:
    page = visit(demo.address, "grace", "/dashboard/1/", java_script_enabled=False)
    assert page.locator("tbody tr").count() == len(demo.open_orders())
    expect(page.locator("[data-chart] polyline")).to_have_attribute("points", re.compile(r"\d"))
    number = next(number for number, status in demo.open_orders() if status == "new")
    order(page, number).get_by_role("button", name="Mark ready").click()
    expect(order(page, number).locator(".chip")).to_have_text("Ready")

    page.goto(f"{demo.address}/chat/lobby/")
    page.get_by_label("Message", exact=True).fill("said without a script")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".message").last).to_contain_text("said without a script")


# Chat --------------------------------------------------------------------------------------------


def test_a_message_is_seen_once_by_everyone_and_after_a_reload(demo: Site, visit: Visit) -> None:
    ada = live(visit(demo.address, "ada", "/chat/lobby/"))
    grace = live(visit(demo.address, "grace", "/chat/lobby/"))
    known = ada.locator(".message").count()

    ada.get_by_label("Message", exact=True).fill("Is the oven on?")
    ada.get_by_label("Message", exact=True).press("Enter")
    expect(grace.locator(".message").last).to_contain_text("Is the oven on?")
    grace.get_by_label("Message", exact=True).fill("Since <b>six</b>.")
    grace.get_by_role("button", name="Send").click()

    for page in (ada, grace):
        expect(page.locator(".message .text").last).to_have_text("Since <b>six</b>.")
        expect(page.locator(".message")).to_have_count(known + 2)
        expect(page.locator(".message.waiting")).to_have_count(0)
    expect(ada.locator(".message.mine").last).to_contain_text("Is the oven on?")
    live(ada).reload()
    expect(live(ada).locator(".message")).to_have_count(known + 2)


def test_typing_presence_and_cheers_go_from_member_to_member(demo: Site, visit: Visit) -> None:
    ada = live(visit(demo.address, "ada", "/chat/lobby/"))
    grace = live(visit(demo.address, "grace", "/chat/lobby/"))
    for page in (ada, grace):
        expect(page.locator("[data-member] .name")).to_have_text(["ada", "grace"])

    grace.get_by_label("Message", exact=True).press_sequentially("Hm")
    expect(ada.locator("[data-typing]")).to_have_text("grace is typing …")
    expect(ada.locator("[data-typing]")).to_have_text("")
    expect(grace.locator("[data-typing]")).to_have_text("")

    grace.get_by_role("button", name="a star").click()
    expect(ada.locator("svg.cheer[data-cheer=star]")).to_have_count(1)
    expect(ada.locator("svg.cheer")).to_have_count(0)


def test_members_may_cheer_and_nothing_else(demo: Site, visit: Visit) -> None:
    grace = live(visit(demo.address, "grace", "/chat/lobby/"))
    refused = "error => error.code"
    publish = "([event, data]) => realtime.subscribe('room/lobby').publish(event, data)"
    assert grace.evaluate(f"{publish[:-1]}).then(() => 'ok')", ["cheer", {"name": "cup"}]) == "ok"
    for event, data in (("message", {"text": "forged"}), ("cheer", {"name": "<img>"})):
        assert grace.evaluate(f"{publish[:-1]}).catch({refused})", [event, data]) == "forbidden"


def test_the_back_office_is_for_staff(demo: Site, visit: Visit) -> None:
    ada = live(visit(demo.address, "ada", "/chat/office/"))
    expect(ada.locator("[data-member=ada]")).to_be_visible()
    grace = live(visit(demo.address, "grace", "/chat/lobby/"))
    expect(grace.get_by_role("link", name="Back office")).to_have_count(0)
    for topic in ("room/office", "orders/2"):
        ready = f"realtime.subscribe('{topic}').ready.catch(error => error.code)"
        assert grace.evaluate(ready) == "forbidden"


# Echo --------------------------------------------------------------------------------------------


def test_text_and_bytes_come_back_as_they_were_sent(demo: Site, visit: Visit) -> None:
    page = visit(demo.address, path="/echo/")
    expect(page.locator("[data-current]")).to_have_text("1 open")
    page.get_by_label("Text").fill("Grüße 👋")
    page.get_by_role("button", name="Send text").click()
    expect(page.locator("[data-log] tr")).to_have_count(1)
    expect(page.locator("[data-log] tr")).to_contain_text("Grüße 👋")
    for size in ("16 B", "1 MiB"):
        page.get_by_label("Random bytes").select_option(label=size)
        page.get_by_role("button", name="Send bytes").click()
        expect(page.locator("[data-log] tr").first).to_contain_text(size)
    page.get_by_role("button", name="Flood").click()
    expect(page.locator("[data-number=back]")).to_have_text("67")
    expect(page.locator("[data-number=buffered]")).to_have_text("0 B")
    expect(page.locator("[data-number=peak]")).not_to_have_text("0 B")
    expect(page.locator("[data-log] tr[data-same=false]")).to_have_count(0)


def test_the_drop_in_comes_back_by_itself_unless_the_page_closed_it(
    demo: Site, visit: Visit
) -> None:
    page = visit(demo.address, path="/echo/")
    expect(page.locator("[data-number=opened]")).to_have_text("1 time")
    page.get_by_role("button", name="Let the server hang up").click()
    expect(page.locator("[data-number=opened]")).to_have_text("2 times")
    expect(page.locator("[data-current]")).to_have_text("1 open")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("[data-current]")).to_have_text("3 closed")
    page.get_by_role("button", name="Open again").click()
    expect(page.locator("[data-number=opened]")).to_have_text("3 times")


# The site ----------------------------------------------------------------------------------------


def test_the_policy_lets_no_inline_script_and_no_string_run(demo: Site, chromium: Browser) -> None:
    page = chromium.new_page()
    response = page.goto(demo.address)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "script-src 'nonce-" in policy
    assert "'unsafe" not in policy
    tried = page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.text = "window.ran = true"; } catch (error) { return error.name; }
        }"""
    )
    assert tried == "TypeError"
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["/dashboard/1/", "/chat/lobby/", "/echo/", "/"])
def test_no_page_is_wider_than_its_window(demo: Site, visit: Visit, path: str, width: int) -> None:
    page = live(visit(demo.address, "ada", path, viewport={"width": width, "height": 800}))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_django_finds_nothing_to_complain_about(site: Site) -> None:
    site.manage("check", "--fail-level", "WARNING")
    site.manage("makemigrations", "--check", "--dry-run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_ends_when_it_is_told_to(site: Site, number: signal.Signals) -> None:
    site.serve("demo", "--rate", "20")
    (demo,) = site.processes
    demo.signal(number)
    assert demo.wait(timeout=10) == 0, demo.log()
    said = [line.partition(" ")[0] for line in demo.log().splitlines() if line]
    assert said == ["Open", "Ctrl-C", "Serving"], demo.log()


def test_the_demo_on_redis_ends_its_three_processes(redis_site: Site) -> None:
    demo = redis_site.start("demo", "--port", str(free_port()))
    started = ("Serving http", "Serving http", "The simulator saves")
    demo.wait_ready(lambda: sum(map(demo.log().count, set(started))) == len(started))
    ports = [int(found) for found in re.findall(r"Serving http://[\d.]+:(\d+)/", demo.log())]
    # To the parent alone, as `kill` does; it has to end its children itself.
    os.kill(demo.pid, signal.SIGTERM)
    assert demo.wait(timeout=10) == 0, demo.log()
    assert "The simulator saved" in demo.log()
    assert not any(accepts(port) for port in ports)


def test_the_same_seed_makes_the_same_data(tmp_path: Path) -> None:
    def rows(name: str, env: Mapping[str, str]) -> list[tuple[object, ...]]:
        directory = tmp_path / name
        directory.mkdir()
        site = Site(directory)
        site.env.update(env)
        site.manage("migrate", "--verbosity", "0")
        site.manage("seed")
        with closing(sqlite3.connect(directory / "db.sqlite3")) as database:
            return database.execute(
                "SELECT number, store_id, customer_id, status, total, note FROM dashboard_order"
            ).fetchall()

    first = rows("one", {"PYTHONHASHSEED": "1"})
    assert len(first) == 24
    assert rows("other", {"PYTHONHASHSEED": "2"}) == first
