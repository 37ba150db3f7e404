"""Users' own Channels consumers beside topics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.test import override_settings

from django_wsrealtime import Topic, TopicConsumer, apublish, register
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.errors import ProtocolError
from django_wsrealtime.topics.registry import registry
from django_wsrealtime.transports.local import get_local

LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


class Ticker(TopicConsumer):
    """The consumer of the how-to page."""

    async def connect(self) -> None:
        assert self.channel_layer is not None
        await self.channel_layer.group_add("shouts", self.channel_name)
        await self.accept()
        await self.subscribe("quotes/ACME")

    async def on_price(self, event: Any) -> None:
        await self.send_json({"price": event.data})

    async def on_event(self, event: Any) -> None:
        await self.send_json({"other": event.event})

    async def on_member_event(self, event: Any) -> None:
        await self.send_json({"member": event.event})

    async def on_reset(self, event: Any) -> None:
        await self.send_json({"reset": event.event})

    async def shout(self, message: dict[str, Any]) -> None:
        await self.send_json({"shout": message["text"]})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        try:
            await self.subscribe(content["topic"])
        except ProtocolError as error:
            await self.send_json({"error": error.name})


@pytest.fixture
async def ticker() -> AsyncIterator[WebsocketCommunicator]:
    before = set_broker(MemoryBroker())
    with registry.isolated(), override_settings(CHANNEL_LAYERS=LAYERS):
        set_broker(MemoryBroker())

        @register("quotes/<slug:symbol>")
        class Quotes(Topic):
            public = True
            publish_by = "subscribers"

        @register("secret")
        class Secret(Topic):
            pass

        communicator = WebsocketCommunicator(Ticker.as_asgi(), "/")
        connected, _ = await communicator.connect()
        assert connected
        yield communicator
        await communicator.disconnect()
        await get_local().aclose()
    set_broker(before)


async def test_events_are_method_calls(ticker: WebsocketCommunicator) -> None:
    await apublish("quotes/ACME", "price", 12.5)
    assert await ticker.receive_json_from() == {"price": 12.5}
    await apublish("quotes/ACME", "halted")
    assert await ticker.receive_json_from() == {"other": "halted"}


async def test_members_cannot_name_methods(ticker: WebsocketCommunicator) -> None:
    from django.contrib.auth.models import AnonymousUser

    from django_wsrealtime.topics.access import Identity
    from django_wsrealtime.topics.publish import member_publish

    for event in ("price", "reset", "member_event", "event"):
        identity = Identity(user=AnonymousUser(), sid="s")
        await member_publish(registry.resolve("quotes/ACME"), identity, event, 1)
        assert await ticker.receive_json_from() == {"member": event}


@pytest.mark.parametrize("event", ["reset", "member_event", "event"])
async def test_server_events_do_not_run_into_the_base_class(
    ticker: WebsocketCommunicator, event: str
) -> None:
    await apublish("quotes/ACME", event)
    assert await ticker.receive_json_from() == {"other": event}


async def test_group_send_works_beside_it(ticker: WebsocketCommunicator) -> None:
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send("shouts", {"type": "shout", "text": "hi"})
    assert await ticker.receive_json_from() == {"shout": "hi"}


async def test_rules_are_asked(ticker: WebsocketCommunicator) -> None:
    await ticker.send_json_to({"topic": "secret"})
    assert await ticker.receive_json_from() == {"error": "forbidden"}


async def test_a_discontinuity_is_told(ticker: WebsocketCommunicator) -> None:
    from django_wsrealtime.brokers import get_broker
    from django_wsrealtime.brokers.base import History, Reset

    get_broker().append([Reset(topic="quotes/ACME", reason="lost", history=History())])
    assert await ticker.receive_json_from() == {"reset": "lost"}


async def test_a_snapshot_that_fails_is_told_to_whoever_subscribes(
    ticker: WebsocketCommunicator,
) -> None:
    @register("broken")
    class Broken(Topic):
        public = True

        def snapshot(self) -> Any:
            raise LookupError("no table")

    await ticker.send_json_to({"topic": "broken"})
    assert await ticker.receive_json_from() == {"error": "internal"}
