"""Whoever follows the tutorial to the letter has what it promises, part by part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.docs.tutorial import PARTS, PASSWORD, Project, build
from tests.support.processes import HOST, ChildProcess, accepts, free_port
from tests.support.redis import RedisServer

pytestmark = pytest.mark.timeout(300)

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def part_1(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return build(tmp_path_factory.mktemp("tutorial-1"), parts=1)


@pytest.fixture(scope="module")
def part_2(part_1: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_of(part_1, tmp_path_factory.mktemp("tutorial-2"))
    project.follow(PARTS[1])
    return project


@pytest.fixture
def part_3(part_2: Project, tmp_path: Path) -> Project:
    return copy_of(part_2, tmp_path / "tutorial-3")


def copy_of(project: Project, directory: Path) -> Project:
    shutil.copytree(project.directory, directory, dirs_exist_ok=True)
    return Project(directory)


@contextmanager
def runserver(
    project: Project, port: int | None = None, *, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The address of the project's ``runserver``."""
    port = port or free_port()
    process = ChildProcess(
        [project.python, "manage.py", "runserver", str(port), "--noreload"],
        name="runserver of the tutorial",
        log=project.directory / f"runserver-{port}.log",
        cwd=project.directory,
        env=project.environment(env),
    )
    try:
        process.wait_ready(lambda: accepts(port), timeout=60)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate(timeout=5)


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """``visit(address, "ada")``: a tab of a browser in which ada has signed in to the admin."""
    contexts = []
    complaints: list[str] = []

    def open_page(address: str, name: str) -> Page:
        context = chromium.new_context()
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.goto(f"{address}/admin/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(autouse=True, scope="module")
def patience() -> Iterator[None]:
    """Pages get time on a machine that does much else."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


def add_store(page: Page, address: str, name: str) -> None:
    page.goto(f"{address}/admin/shop/store/add/")
    page.get_by_label("Name").fill(name)
    for members in page.locator("select[name=members]").all():
        members.select_option(label=["ada", "grace"])
    save(page)


def add_order(page: Page, address: str, store: str, number: str) -> None:
    page.goto(f"{address}/admin/shop/order/add/")
    page.locator("select[name=store]").select_option(label=store)
    page.get_by_label("Number").fill(number)
    page.get_by_label("Total").fill("9.50")
    save(page)


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()


def second_tab(page: Page, url: str) -> Page:
    """A store's page beside the first tab, once it is live."""
    tab = page.context.new_page()
    tab.goto(url)
    expect(tab.get_by_role("status").first).to_have_text("Live")
    return tab


def line(page: Page, number: str) -> Any:
    return page.locator("#orders tbody tr").filter(has_text=number)


def test_part_1_the_table_follows_the_admin(part_1: Project, visit: Visit, tmp_path: Path) -> None:
    with runserver(copy_of(part_1, tmp_path / "project")) as address:
        admin = visit(address, "ada")
        add_store(admin, address, "Harbour Street")
        add_store(admin, address, "Old Mill")
        store = second_tab(admin, f"{address}/stores/1/")

        add_order(admin, address, "Harbour Street", "A-1")
        expect(line(store, "A-1")).to_have_text("A-1new9.50")

        admin.get_by_role("link", name="A-1").first.click()
        admin.locator("select[name=status]").select_option("ready")
        save(admin)
        expect(line(store, "A-1")).to_have_text("A-1ready9.50")

        admin.get_by_role("link", name="A-1").first.click()
        admin.locator("select[name=store]").select_option(label="Old Mill")
        save(admin)
        expect(line(store, "A-1")).to_have_count(0)


def test_part_1_a_page_misses_nothing_while_there_is_no_server(
    part_1: Project, visit: Visit, tmp_path: Path
) -> None:
    project, port = copy_of(part_1, tmp_path / "project"), free_port()
    with runserver(project, port) as address:
        admin = visit(address, "ada")
        add_store(admin, address, "Harbour Street")
        store = second_tab(admin, f"{address}/stores/1/")
        add_order(admin, address, "Harbour Street", "A-1")
        expect(line(store, "A-1")).to_have_count(1)
    expect(store.get_by_role("status").first).to_have_text("Reconnecting…")
    with runserver(project, port):
        add_order(admin, address, "Harbour Street", "A-2")
        expect(line(store, "A-2")).to_have_count(1)
        expect(line(store, "A-1")).to_have_count(1)


def test_part_2_people_act_and_see_each_other(
    part_2: Project, visit: Visit, tmp_path: Path
) -> None:
    with runserver(copy_of(part_2, tmp_path / "project")) as address:
        ada, grace = visit(address, "ada"), visit(address, "grace")
        add_store(ada, address, "Harbour Street")
        url = f"{address}/stores/1/"
        hers, his = second_tab(ada, url), second_tab(grace, url)
        for page in (hers, his):
            expect(page.locator("wsrealtime-presence li")).to_have_count(2)

        add_order(ada, address, "Harbour Street", "B-1")
        line(hers, "B-1").get_by_role("button", name="Ready").click()
        for page in (hers, his):
            expect(line(page, "B-1")).to_have_text("B-1ready9.50")
        expect(his.locator("#flash")).to_have_text("ada marked B-1 as ready")
        expect(hers.locator("#flash")).to_have_text("")

        codes = his.evaluate(
            """async (name) => {
                const topic = realtime.subscribe(name);
                const code = (promise) => promise.then(() => "none", (error) => error.code);
                return [
                  await code(topic.call("mark_ready", { order_id: "5" })),
                  await code(topic.call("mark_ready", { order_id: 999 })),
                  await code(topic.call("delete_everything")),
                  await code(realtime.subscribe("orders/999").ready),
                ];
            }""",
            "orders/1",
        )
        assert codes == ["invalid_data", "no_such_order", "unknown_action", "forbidden"]

        other = second_tab(his, url)
        his.get_by_role("button", name="Leave this store").click()
        expect(his.get_by_role("heading", name="Site administration")).to_be_visible()
        expect(other.locator("#orders tbody tr")).to_have_count(0)
        expect(hers.locator("wsrealtime-presence li")).to_have_count(1)
        expect(hers.locator("#orders tbody tr")).to_have_count(1)


SESSION = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.http import HttpRequest
from shop.models import Store
user = get_user_model().objects.get(username="ada")
Store.objects.create(pk=50, name="Fifty").members.add(user)
request = HttpRequest()
request.session = import_module(settings.SESSION_ENGINE).SessionStore()
login(request, user, backend="django.contrib.auth.backends.ModelBackend")
request.session.save()
print("session:", request.session.session_key)
"""


@contextmanager
def follower(address: str, session: str) -> Iterator[ClientConnection]:
    """A client that follows store 50."""
    with connect(
        f"{address.replace('http', 'ws')}/realtime/ws/",
        origin=Origin(address),
        subprotocols=[Subprotocol("wsrealtime.v1.json")],
        additional_headers={"Cookie": f"sessionid={session}"},
        open_timeout=30,
    ) as client:
        hello = {"type": "hello", "v": 1, "subscriptions": [{"topic": "orders/50"}]}
        client.send(json.dumps(hello))
        assert frame_of(client, "subscribed")["snapshot"] == {"rows": []}
        yield client


def frame_of(client: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        for text in str(client.recv(timeout=30)).splitlines():
            frame: dict[str, Any] = json.loads(text)
            assert frame["type"] not in ("error", "bye"), frame
            if frame["type"] == kind:
                return frame


def test_part_3_a_shell_is_heard_through_both_servers(
    part_3: Project, redis_server: RedisServer
) -> None:
    environment = {
        "REDIS_URL": redis_server.url,
        "SECRET_KEY": "a-key-of-fifty-characters-or-more-0123456789-abcdefgh",
        "ALLOWED_HOSTS": "shop.example",
    }
    printed = part_3.follow(PARTS[2], env=environment)
    tested = next(text for command, text in printed.items() if command.endswith("manage.py test"))
    assert "Ran 5 tests" in tested
    deployed = next(text for command, text in printed.items() if "check --deploy" in command)
    assert "wsrealtime." not in deployed, deployed
    assert (part_3.directory / "collected" / "staticfiles.json").is_file()

    def shell(code: str) -> str:
        return part_3.run("python manage.py shell", env=environment, stdin=code)

    _, _, session = shell(SESSION).partition("session: ")
    with (
        runserver(part_3, env=environment) as one,
        runserver(part_3, env=environment) as two,
        follower(one, session.split()[0]) as ada,
        follower(two, session.split()[0]) as grace,
    ):
        shell(
            "from shop.models import Store\n"
            'Store.objects.get(pk=50).orders.create(number="A-100", total="9.50")\n'
        )
        events = [frame_of(client, "event") for client in (ada, grace)]
    assert events[0] == events[1]
    assert events[0]["data"]["row"] == {"number": "A-100", "status": "new", "total": "9.50"}
