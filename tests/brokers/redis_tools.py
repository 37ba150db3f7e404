"""What the tests of the Redis broker share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from django_wsrealtime.brokers.base import History, Publish, Result
from django_wsrealtime.brokers.redis import RedisBroker
from django_wsrealtime.errors import BrokerUnavailable
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.testing.conformance import Ears
from tests.support import services
from tests.support.processes import ChildProcess, accepts, free_port
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

KEPT = History(size=1_000, ttl=60.0)


@contextmanager
def client_of(server: RedisServer, db: int = 0) -> Iterator[redis.Redis]:
    """A client of the test's own, to look into the server or to do it harm."""
    client = redis.Redis.from_url(server.url.rpartition("/")[0] + f"/{db}")
    try:
        yield client
    finally:
        client.close()


@contextmanager
def broker_on(*servers: RedisServer, deployment: str | None = None) -> Iterator[RedisBroker]:
    """A broker on these servers."""
    broker = RedisBroker(hosts=[server.url for server in servers], deployment=deployment)
    try:
        yield broker
    finally:
        broker.close()


@contextmanager
def ears_on(broker: RedisBroker, *topics: str) -> Iterator[Ears]:
    """A listener that is subscribed to these topics."""
    ears = Ears(broker)
    try:
        ears.do(ears.listener.subscribe(topics))
        yield ears
    finally:
        ears.close()


def publish(broker: RedisBroker, topic: str, *bodies: bytes) -> list[Result]:
    return broker.append([Publish(topic=topic, body=body, history=KEPT) for body in bodies])


def topic_on(broker: RedisBroker, index: int, name: str = "topic") -> str:
    """A topic that lives on this server."""
    names = (f"{name}/{number}" for number in range(1_000))
    return next(topic for topic in names if broker.layout.index(topic) == index)


def publish_when_possible(broker: RedisBroker, topic: str, body: bytes) -> Result:
    """Publish as soon as the store is back."""

    def attempt() -> list[Result]:
        try:
            return publish(broker, topic, body)
        except BrokerUnavailable:
            return []

    [result] = wait_until(attempt, what="the store to be back")
    return result


def seconds_until_refused(broker: RedisBroker, topic: str = "t") -> float:
    """Publish, which must fail; how long that took."""
    started = time.monotonic()
    try:
        publish(broker, topic, b"lost")
    except BrokerUnavailable:
        return time.monotonic() - started
    raise AssertionError("publishing succeeded; expected BrokerUnavailable")


@contextmanager
def counted(name: str, at_least: int = 1) -> Iterator[None]:
    """A counter rises by this much or more."""
    before = counters().get(name, 0)
    yield
    risen = counters().get(name, 0) - before
    assert risen >= at_least, f"{name} rose by {risen}; expected {at_least} or more"


class Sentinel:
    """A sentinel that watches one master."""

    def __init__(self, server: RedisServer, directory: Path) -> None:
        self.port = free_port()
        config = directory / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor mymaster 127.0.0.1 {server.port} 1\n"
        )
        self._process = ChildProcess(
            [str(services.locate("redis")), str(config), "--sentinel"],
            name="sentinel",
            log=directory / "sentinel.log",
        )
        self._process.wait_ready(lambda: accepts(self.port))

    def stop(self) -> None:
        self._process.terminate()

    def fail_over(self) -> None:
        """Have the replica take over; returns when it is the master."""
        with redis.Redis(port=self.port) as client:
            # It learns of the replica from the master, every ten seconds.
            wait_until(lambda: client.sentinel_slaves("mymaster"), 20.0)
            before = client.sentinel_get_master_addr_by_name("mymaster")
            wait_until(lambda: _ordered(client), 20.0)
            wait_until(lambda: client.sentinel_get_master_addr_by_name("mymaster") != before, 20.0)


def _ordered(client: redis.Redis) -> bool:
    try:
        client.sentinel_failover("mymaster")
    except redis.ResponseError:  # no replica that is good enough yet
        return False
    return True
