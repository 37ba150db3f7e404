"""The code of the how-tos on consumers, ASGI and testing does what the pages say."""

from __future__ import annotations

import re
import sys
import unittest
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import override_settings

from django_wsrealtime import ModelStream, Presence, Topic, apublish, html, register
from django_wsrealtime.asgi import get_asgi_application
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.templatetags import wsrealtime
from django_wsrealtime.testing import ConnectionClosed, RealtimeClient
from django_wsrealtime.topics.registry import registry
from django_wsrealtime.transports.local import get_local
from tests.docs.markdown import DOCS, blocks
from tests.testapp import models

LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

Load = Callable[..., None]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """``load("testing")``: the modules that a page shows can be imported."""
    before = set_broker(MemoryBroker())
    for package in ("shop", "shop.tests", "mysite"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, "shop.models", models)

    def put(name: str, code: str) -> None:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, name, "exec"), vars(module))

    def load_page(page: str, *, first: tuple[str, ...] = ()) -> None:
        shown = {
            block.file.removesuffix(".py").replace("/", "."): block.code
            for block in blocks(DOCS / "how-to" / f"{page}.md")
            if block.file is not None and block.language == "python"
        }
        for name in (*first, *(name for name in shown if name not in first)):
            put(name, shown[name])

    with registry.isolated():
        yield load_page
    set_broker(before)


@pytest.fixture
def quotes(load: Load) -> None:
    @register("quotes/<slug:symbol>")
    class Quotes(Topic):
        public = True
        publish_by = "subscribers"

    @register("secret")
    class Secret(Topic):
        pass


# --- consumers -----------------------------------------------------------------------------------


async def test_a_consumer_beside_topics(load: Load, quotes: None) -> None:
    with override_settings(CHANNEL_LAYERS=LAYERS):
        load("channels-consumers", first=("shop.consumers", "shop.routing"))
        application = vars(sys.modules["mysite.asgi"])["application"]
        headers = [(b"host", b"testserver"), (b"origin", b"http://testserver")]
        ticker = WebsocketCommunicator(application, "/ws/ticker/", headers=headers)
        connected, _ = await ticker.connect(timeout=10)
        assert connected

        async def answer() -> Any:
            return await ticker.receive_json_from(timeout=10)

        # Messages are taken one after the other: with the answer to this one, connect() has ended.
        await ticker.send_json_to({"topic": "secret"})
        assert await answer() == {"error": "The topic's rules do not allow this."}
        await apublish("quotes/ACME", "price", 12.5)
        assert await answer() == {"price": 12.5}
        await apublish("quotes/ACME", "closed")
        assert await answer() == {"other": "closed"}

        from channels.layers import get_channel_layer

        layer = get_channel_layer()
        assert layer is not None
        await layer.group_send("shouts", {"type": "shout", "text": "hi"})
        assert await answer() == {"shout": "hi"}

        async with RealtimeClient(application) as member:
            await member.subscribe("quotes/ACME")
            await member.publish("quotes/ACME", "price", 0)
            assert await answer() == {"member": "price"}
            await ticker.disconnect()
        await get_local().aclose()


async def test_handshakes_of_consumers_are_judged_like_those_of_topics(
    load: Load, quotes: None
) -> None:
    load("channels-consumers", first=("shop.consumers", "shop.routing"))
    application = vars(sys.modules["mysite.asgi"])["application"]
    headers = [(b"host", b"testserver"), (b"origin", b"http://evil.example")]
    ticker = WebsocketCommunicator(application, "/ws/ticker/", headers=headers)
    connected, _ = await ticker.connect(timeout=10)
    assert not connected


# --- ASGI ----------------------------------------------------------------------------------------


async def test_a_router_of_ones_own(
    load: Load, quotes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    routing: Any = ModuleType("shop.routing")
    routing.websocket_urlpatterns = []
    monkeypatch.setitem(sys.modules, "shop.routing", routing)
    load("own-asgi")
    application = vars(sys.modules["mysite.asgi"])["application"]
    async with RealtimeClient(application) as client:
        topic = await client.subscribe("quotes/ACME")
        await apublish("quotes/ACME", "price", 1)
        assert (await topic.next_event())["data"] == 1


# --- testing -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_tests_of_the_page_pass(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    @register("orders/<int:store_id>")
    class Orders(ModelStream):
        model = models.Order
        fields = ("number", "status", "total")
        partition_by = {"store_id": "store_id"}
        presence = Presence()

        def can_subscribe(self, user: Any) -> bool:
            return bool(user.is_staff)

    asgi: Any = ModuleType("mysite.asgi")
    asgi.application = get_asgi_application()
    monkeypatch.setitem(sys.modules, "mysite.asgi", asgi)
    load("testing")
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromModule(sys.modules[f"shop.tests.{name}"])
        for name in ("test_publishing", "test_following")
    )
    result = unittest.TestResult()
    suite.run(result)
    problems = [text for _, text in (*result.errors, *result.failures)]
    assert not problems, "\n".join(problems)
    assert result.testsRun == 8


# --- clients without a browser -------------------------------------------------------------------


class Native(RealtimeClient):
    """A client that sends a token and no origin."""

    def __init__(self, application: Any, token: str | None) -> None:
        super().__init__(application, origin=None)
        self._token = token

    def send(self, **frame: Any) -> None:
        if frame["type"] == "hello" and self._token is not None:
            frame["token"] = self._token
        super().send(**frame)


@pytest.mark.django_db(transaction=True)
async def test_a_token_lets_a_client_in(load: Load) -> None:
    load("native-clients", first=("shop.auth",))
    auth, settings = vars(sys.modules["shop.auth"]), vars(sys.modules["mysite.settings"])
    ada = await User.objects.acreate(username="ada")
    application: Any = get_asgi_application()
    with override_settings(WSREALTIME=settings["WSREALTIME"]):
        async with Native(application, auth["token_for"](ada)) as client:
            assert client.welcome is not None
            assert client.welcome["user"] == {"id": str(ada.pk), "name": "ada"}
        await User.objects.filter(pk=ada.pk).aupdate(is_active=False)
        for token in (auth["token_for"](ada), "forged", None):
            with pytest.raises(ConnectionClosed) as refused:
                await Native(application, token).open()
            assert refused.value.code == 4401
    # Without the settings there is no WebSocket at all.
    refusing = Native(application, auth["token_for"](ada))
    with pytest.raises(ConnectionClosed):
        await refusing.open()
    assert not refusing.frames


# --- template tags -------------------------------------------------------------------------------


def test_every_tag_is_explained_with_its_attributes() -> None:
    page = (DOCS / "reference" / "templates.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^## `(\w+)`$", page) == list(wsrealtime.register.tags)
    script = html.script(src="s", path="p", prefix="x", since=1, nonce="n")
    attributes = set(re.findall(r" ([\w-]+)=", script)) - {"type"}
    assert attributes == set(re.findall(r"(?m)^\| `([\w-]+)` \|", page))
    for state in wsrealtime.LABELS:
        assert f"`{state}`" in page
