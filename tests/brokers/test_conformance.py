"""Every broker keeps the contract."""

import pytest

from django_wsrealtime.brokers.base import Broker
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.brokers.redis import RedisBroker
from django_wsrealtime.testing.conformance import BrokerConformance
from tests.support.redis import RedisServer


class TestMemory(BrokerConformance):
    def make_broker(self) -> Broker:
        return MemoryBroker()


class TestRedis(BrokerConformance):
    @pytest.fixture
    def store_of_backend(self, redis_server: RedisServer) -> RedisServer:
        return redis_server

    def make_broker(self) -> Broker:
        return RedisBroker(hosts=[self.store.url])
