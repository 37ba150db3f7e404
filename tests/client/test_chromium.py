"""The built client in a real Chromium, with a small server of its own: what only browsers have."""

import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.support import services
from tests.support.browser import ARGUMENTS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

STATIC = Path(__file__).parents[2] / "django_wsrealtime" / "static" / "django_wsrealtime"
POLICY = (
    "default-src 'none'; script-src 'nonce-n1' 'strict-dynamic'; connect-src 'self';"
    " require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'"
)
TAG = (
    '<script type="module" src="/wsrealtime.js" nonce="n1" data-wsrealtime'
    ' data-path="/realtime/ws/" data-prefix="/realtime" data-since="1700"></script>'
)
CONNECTION = (
    '<wsrealtime-connection role="status" data-connecting="Connecting…" data-open="Live"'
    ' data-reconnecting="Coming back…" data-offline="Offline" data-closed="Gone">'
    "</wsrealtime-connection>"
)
PRESENCE = '<wsrealtime-presence topic="room/a" grant="g1" since="1699"></wsrealtime-presence>'


class Server:
    """Serves pages, the client, and its protocol as far as these tests go."""

    def __init__(self) -> None:
        self.body = ""
        self.frames: list[dict[str, Any]] = []
        self.connections: list[ServerConnection] = []
        self._server = serve(
            self._talk,
            "127.0.0.1",
            0,
            process_request=self._serve,
            subprotocols=["wsrealtime.v1.json"],  # type: ignore[list-item]
        )
        self._server_thread = threading.Thread(target=self._server.serve_forever)
        self._server_thread.start()
        self.address = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server_thread.join()

    @property
    def open(self) -> list[ServerConnection]:
        return [one for one in self.connections if one.close_code is None]

    def hellos(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == "hello"]

    def say(self, **frame: Any) -> None:
        for connection in self.open:
            connection.send(json.dumps(frame))

    def _serve(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/realtime/ws/":
            return None
        kind, content = "text/html; charset=utf-8", self.body.encode()
        if path.endswith((".js", ".map")):
            kind, content = "text/javascript", (STATIC / path[1:]).read_bytes()
        elif path != "/":
            content = b"<p>elsewhere"
        headers = Headers(
            {
                "Content-Type": kind,
                "Content-Length": str(len(content)),
                "Content-Security-Policy": POLICY,
                "Connection": "close",
            }
        )
        return Response(HTTPStatus.OK, "OK", headers, content)

    def _talk(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            for message in connection:
                self._answer(connection, json.loads(message))
        except ConnectionClosed:
            return

    def _answer(self, connection: ServerConnection, frame: dict[str, Any]) -> None:
        self.frames.append(frame)

        def send(**answer: Any) -> None:
            connection.send(json.dumps(answer))

        if frame["type"] == "hello":
            send(type="welcome", sid="s", v=1, ping=25000, limits={}, user=None)
            for wanted in frame["subscriptions"]:
                send(type="subscribed", topic=wanted["topic"], epoch="e", offset=0, recovered=True)
        elif frame["type"] == "subscribe":
            send(
                type="subscribed",
                id=frame["id"],
                topic=frame["topic"],
                epoch="e",
                offset=0,
                recovered=True,
            )
        elif frame["type"] == "ping":
            send(type="pong", ts=frame.get("ts"))
        elif frame["type"] == "call":
            send(type="ok", id=frame["id"], data=frame["data"])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def page(chromium: Browser, server: Server) -> Iterator[Page]:
    """A page that may neither raise, nor violate its policy, nor complain to the console."""
    context = chromium.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.add_init_script(
        "window.seen = [];"
        "document.addEventListener('securitypolicyviolation',"
        " event => console.error(`policy: ${event.violatedDirective} ${event.sourceFile}`));"
        "for (const name of ['open', 'close', 'reconnecting', 'event', 'reset', 'state'])"
        " document.addEventListener(`realtime:${name}`,"
        " event => seen.push([name, event.detail]));"
    )
    yield page
    context.close()
    assert complaints == []


def visit(page: Page, server: Server, *body: str) -> None:
    server.body = f"<!doctype html><html><title>t</title><body>{''.join(body)}</html>"
    page.goto(server.address)
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")


def test_a_strict_policy_with_trusted_types_is_kept(page: Page, server: Server) -> None:
    visit(page, server, TAG, CONNECTION, PRESENCE)
    server.say(
        type="presence",
        topic="room/a",
        seq=1,
        members=[{"id": "1", "name": "<img src=x onerror=alert(1)>"}],
        count=1,
    )
    expect(page.locator("wsrealtime-presence li")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0
    assert page.evaluate("realtime.subscribe('room/a').call('echo', {a: 1})") == {"a": 1}


def test_settings_come_from_the_tag(page: Page, server: Server) -> None:
    visit(page, server, TAG, PRESENCE)
    (hello,) = server.hellos()
    assert hello["subscriptions"] == [
        {"topic": "room/a", "grant": "g1", "position": {"since": "1699"}}
    ]
    page.evaluate("realtime.subscribe('room/b').ready.then(() => 0)")
    assert server.frames[-1]["position"] == {"since": "1700"}


def test_the_state_is_in_the_document(page: Page, server: Server) -> None:
    visit(page, server, TAG, CONNECTION)
    element = page.locator("wsrealtime-connection")
    expect(element).to_have_text("Live")
    expect(element).to_have_attribute("data-state", "open")
    server.open[0].socket.close()
    wait_until(lambda: len(server.hellos()) == 2, what="a second hello")
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")
    page.evaluate("realtime.close()")
    expect(element).to_have_text("Gone")
    expect(element).to_have_attribute("data-state", "closed")
    states = [detail for name, detail in page.evaluate("seen") if name == "state"]
    assert states[0] == "connecting"
    assert states[-1] == "closed"
    assert "reconnecting" in states
    assert {"open", "close", "reconnecting"} <= {name for name, _ in page.evaluate("seen")}


def test_events_are_events_of_the_document(page: Page, server: Server) -> None:
    visit(page, server, TAG)
    page.evaluate("realtime.subscribe('room/a').ready.then(() => 0)")
    event = {"topic": "room/a", "epoch": "e", "offset": 1, "time": 1, "kind": "app"}
    server.say(type="event", event="message", data={"text": "hi"}, **event)
    page.wait_for_function("seen.some(([name]) => name === 'event')")
    detail = next(detail for name, detail in page.evaluate("seen") if name == "event")
    assert (detail["topic"], detail["event"], detail["data"]) == (
        "room/a",
        "message",
        {"text": "hi"},
    )


def test_loading_it_twice_changes_nothing(page: Page, server: Server) -> None:
    visit(page, server, TAG, TAG, TAG.replace("/wsrealtime.js", "/wsrealtime.js?other"), CONNECTION)
    expect(page.locator("wsrealtime-connection")).to_have_text("Live")
    same = "import('/wsrealtime.js?third').then(m => m.realtime === window.realtime)"
    assert page.evaluate(same)
    assert len(server.hellos()) == 1


def test_an_element_called_realtime_is_in_nobodys_way(page: Page, server: Server) -> None:
    visit(page, server, '<p id="realtime">x</p>', TAG)
    assert page.evaluate("typeof realtime.subscribe") == "function"


def test_a_moved_element_keeps_its_subscription_a_removed_one_ends_it(
    page: Page, server: Server
) -> None:
    visit(page, server, TAG, PRESENCE, "<main></main>")
    server.say(
        type="presence", topic="room/a", seq=1, members=[{"id": "1", "name": "Ada"}], count=1
    )
    expect(page.locator("wsrealtime-presence li")).to_have_text("Ada")
    page.evaluate("document.querySelector('main').append(document.querySelector('[topic]'))")
    expect(page.locator("main li")).to_have_text("Ada")
    expect(page.locator("[topic]")).to_have_attribute("data-count", "1")
    assert not [frame for frame in server.frames if frame["type"] == "unsubscribe"]
    page.evaluate("document.querySelector('[topic]').remove()")
    wait_until(
        lambda: [frame for frame in server.frames if frame["type"] == "unsubscribe"],
        what="an unsubscribe",
    )


def test_without_a_tag_it_opens_when_it_is_first_used(page: Page, server: Server) -> None:
    server.body = "<!doctype html><title>t</title><script nonce=n1>0</script>"
    page.goto(server.address)
    page.evaluate(
        "import('/wsrealtime.js')"
        ".then(({realtime}) => realtime.subscribe('room/a', {since: null}).ready).then(() => 0)"
    )
    assert server.hellos()[0]["subscriptions"] == [{"topic": "room/a"}]


def test_bytes_in_a_browser(page: Page, server: Server) -> None:
    visit(page, server, TAG)
    page.evaluate(
        "window.room = realtime.subscribe('room/a');"
        "room.on('stroke', (data) => { window.bytes = [...new Uint8Array(data)] });"
        "room.ready.then(() => 0)"
    )
    server.open[0].send(
        bytes([1, 2, 6]) + b"room/a" + bytes([1]) + b"e" + bytes([6]) + b"stroke" + bytes([1, 7, 8])
    )
    page.wait_for_function("window.bytes")
    assert page.evaluate("bytes") == [7, 8]


def test_a_page_in_the_back_forward_cache_has_no_connection_and_gets_one_again(
    chromium: Browser, server: Server
) -> None:
    # Playwright turns this cache off unless told not to.
    browser = chromium.browser_type.launch(
        executable_path=services.locate("chromium"),
        args=ARGUMENTS,
        ignore_default_args=["--disable-back-forward-cache"],
    )
    page = browser.new_page()
    visit(page, server, TAG)
    page.evaluate("window.sameDocument = true")
    page.goto(f"{server.address}/elsewhere")
    wait_until(lambda: not server.open, what="the connection to be closed")
    page.go_back(wait_until="commit")
    wait_until(lambda: len(server.open) == 1, what="a new connection")
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")
    assert page.evaluate("window.sameDocument")
    assert len(server.hellos()) == 2
    browser.close()


def test_offline_is_noticed_and_online_too(page: Page, server: Server) -> None:
    visit(page, server, TAG)
    page.evaluate(
        "Object.defineProperty(navigator, 'onLine', {get: () => !window.gone, configurable: true})"
    )
    page.evaluate("realtime.on('close', () => 0); window.gone = true")
    server.open[0].close(1001)
    expect(page.locator("html")).to_have_attribute("data-realtime", "offline")
    page.evaluate("window.gone = false; window.dispatchEvent(new Event('online'))")
    expect(page.locator("html")).to_have_attribute("data-realtime", "open")


def test_a_laptop_that_slept_for_an_hour_asks_first(page: Page, server: Server) -> None:
    page.clock.install()
    visit(page, server, TAG)
    before = len([frame for frame in server.frames if frame["type"] == "ping"])
    page.clock.fast_forward("01:00:00")
    wait_until(
        lambda: len([frame for frame in server.frames if frame["type"] == "ping"]) == before + 1,
        what="a probe",
    )
    page.wait_for_function("realtime.latency >= 0")
    page.clock.run_for(10_000)
    assert page.evaluate("realtime.state") == "open"
    assert len(server.hellos()) == 1
