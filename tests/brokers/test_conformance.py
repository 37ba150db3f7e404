"""Every broker keeps the contract."""

import asyncio
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from django_wsrealtime.brokers.base import Broker, History, Publish
from django_wsrealtime.brokers.channel_layer import ChannelLayerBroker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.brokers.redis import RedisBroker
from django_wsrealtime.testing.conformance import BrokerConformance
from tests.support.redis import RedisServer


class TestMemory(BrokerConformance):
    capabilities = MemoryBroker.capabilities

    def make_broker(self) -> Broker:
        return MemoryBroker()


class OnRedis(BrokerConformance):
    capabilities = RedisBroker.capabilities

    @pytest.fixture
    def store_of_backend(self, redis_server: RedisServer) -> RedisServer:
        return redis_server


class TestRedis(OnRedis):
    def make_broker(self) -> Broker:
        return RedisBroker(hosts=[self.store.url])


class TestRedisOnSeveralServersEncrypted(OnRedis):
    """Three databases of one server stand for three servers."""

    def make_broker(self) -> Broker:
        address = self.store.url.rpartition("/")[0]
        return RedisBroker(
            hosts=[f"{address}/{number}" for number in (1, 2, 3)],
            encryption_keys=["new key", "old key"],
        )


class OtherLayer(InMemoryChannelLayer):
    """A layer whose channels may be received in another loop than that of whoever sends."""

    async def receive(self, channel: str) -> Any:
        while (queue := self.channels.get(channel)) is None or queue.empty():
            await asyncio.sleep(0.001)
        _, message = queue.get_nowait()
        return message


class TestAnotherLayer(BrokerConformance):
    capabilities = ChannelLayerBroker.capabilities

    def make_broker(self) -> Broker:
        return ChannelLayerBroker(layer=OtherLayer(capacity=1_000))


class TestPubSubLayer(OnRedis):
    """The layer of channels_redis that the Redis broker would replace, taken as any layer."""

    capabilities = ChannelLayerBroker.capabilities

    def make_broker(self) -> Broker:
        return ChannelLayerBroker(layer=RedisPubSubChannelLayer(hosts=[self.store.url]))


async def test_a_ring_that_cannot_be_handled_costs_no_other_ring() -> None:
    told: list[str] = []

    class Handler:
        def on_entry(self, topic: str, entry: Any) -> None:
            told.append(topic)
            if topic == "a":
                raise LookupError("broken")

        def on_reset(self, topic: str, reason: str) -> None: ...

        def on_doubt(self, topics: Any) -> None:
            told.append("doubt")

        def on_signal(self, topic: str, payload: bytes) -> None: ...

    broker = MemoryBroker()
    listener = broker.listen(Handler())
    await listener.subscribe(["a", "b"])
    history = History()
    broker.append([Publish(topic=topic, body=b"x", history=history) for topic in "ab"])
    while len(told) < 3:
        await asyncio.sleep(0)
    await listener.aclose()
    assert told == ["a", "b", "doubt"]
