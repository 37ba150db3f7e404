"""Redis goes away, comes back, forgets, stalls: a reset or an error, never a silent hole."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from django_wsrealtime.brokers import breaker, redis_pubsub
from django_wsrealtime.brokers.redis import RedisBroker
from django_wsrealtime.errors import BrokerUnavailable
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.protocol.position import Position, Since
from tests.support.plugin import RedisServerFactory
from tests.support.redis import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

from .redis_tools import (
    KEPT,
    Sentinel,
    broker_on,
    client_of,
    ears_on,
    publish,
    publish_when_possible,
    seconds_until_refused,
    topic_on,
)


def assert_reset(broker: RedisBroker, topic: str, position: Position, since: Since) -> None:
    """Whoever stands at a position or a time from before gets a reset, and a new epoch."""
    for start in (position, since):
        page = broker.read(topic, start, history=KEPT)
        assert not page.recovered
        assert not page.entries
        assert page.position.epoch != position.epoch


def past(broker: RedisBroker, topic: str) -> tuple[Position, Since]:
    """A position and a time in a topic, both of which are good now, and something after them."""
    publish(broker, topic, b"first")
    end = broker.read(topic, None, history=KEPT).position
    wait_until(
        lambda: broker.read(topic, broker.now(), history=KEPT).recovered,
        what="the store to vouch for the present",
    )
    since = broker.now()
    publish(broker, topic, b"after")
    for start in (end, since):
        assert [e.body for e in broker.read(topic, start, history=KEPT).entries][-1:] == [b"after"]
    return end, since


class TestTheStoreForgets:
    def test_restarted_empty(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            position, since = past(broker, "t")
            server.restart()
            publish_when_possible(broker, "t", b"new")
            assert_reset(broker, "t", position, since)

    def test_restarted_with_all_its_data(self, redis_server_factory: RedisServerFactory) -> None:
        """Even a log that came back whole may lack what was acknowledged and not yet on disk."""
        server = redis_server_factory({"appendonly": "yes", "appendfsync": "always"})
        with broker_on(server) as broker, client_of(server) as client:
            position, since = past(broker, "t")
            server.restart()
            assert wait_until(lambda: client.dbsize() > 0)
            publish_when_possible(broker, "t", b"new")
            assert_reset(broker, "t", position, since)

    def test_restored_from_an_older_snapshot(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker, client_of(server) as client:
            publish(broker, "t", b"1")
            client.save()
            [result] = publish(broker, "t", b"2")
            position, since = result.positions["t"], broker.now()
            server.restart()
            assert client.exists(broker.links[0].prefix + "log:t")
            # The same offset is given out again, for something else.
            publish_when_possible(broker, "t", b"another 2")
            assert_reset(broker, "t", position, since)

    def test_flushed(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            position, since = past(broker, "t")
            ticket = broker.ticket()
            server.flush()
            assert broker.ticket() > ticket
            assert_reset(broker, "t", position, since)

    def test_flushed_log_is_not_vouched_for_by_a_topic_that_is_new(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            _, since = past(broker, "t")
            server.flush()
            # Nobody knows what was published here before the flush.
            assert not broker.read("never used", since, history=KEPT).recovered

    def test_entries_were_evicted(self, redis_server: RedisServer) -> None:
        with broker_on(redis_server) as broker, client_of(redis_server) as client:
            position, since = past(broker, "t")
            client.delete(broker.links[0].prefix + "entries:t")
            for start in (position, since):
                page = broker.read("t", start, history=KEPT)
                assert (page.recovered, page.reason) == (False, "trimmed")
            [result] = publish(broker, "t", b"next")
            assert result.positions["t"] == Position(epoch=position.epoch, offset=3)
            assert not broker.read("t", since, history=KEPT).recovered

    def test_whole_logs_were_evicted(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory({"maxmemory-policy": "allkeys-random"})
        with broker_on(server) as broker, client_of(server) as client:
            position, since = past(broker, "t")
            key = broker.links[0].prefix + "log:t"
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
            filler = 0
            while client.exists(key):
                client.set(f"filler {filler}", b"x" * 10_000)
                filler += 1
            client.config_set("maxmemory", 0)
            assert_reset(broker, "t", position, since)

    def test_scripts_were_flushed(self, redis_server: RedisServer) -> None:
        with (
            broker_on(redis_server) as broker,
            client_of(redis_server) as client,
            ears_on(broker, "t") as ears,
        ):
            publish(broker, "t", b"1")
            client.script_flush()
            publish(broker, "t", b"2")
            client.script_flush()
            page = ears.do(ears.listener.read("t", None, history=KEPT))
            assert page.position.offset == 2


class TestTheStoreIsAway:
    def test_only_the_first_waits_and_not_for_long(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            publish(broker, "t", b"1")
            server.pause()
            assert seconds_until_refused(broker) <= 1.0
            later = sorted(seconds_until_refused(broker) for _ in range(21))
            assert later[10] <= 0.005  # the median: another process may have the processor

    def test_who_never_reached_it_waits_no_longer(
        self, redis_server: RedisServer, tcp_proxy: Callable[[int], TcpProxy]
    ) -> None:
        proxy = tcp_proxy(redis_server.port)
        proxy.blackhole()
        broker = RedisBroker(hosts=[f"redis://{proxy.host}/0"])
        assert seconds_until_refused(broker) <= 1.0
        assert seconds_until_refused(broker) <= 0.02
        broker.close()

    def test_a_slow_handshake_is_not_waited_for_step_by_step(
        self, redis_server: RedisServer, tcp_proxy: Callable[[int], TcpProxy]
    ) -> None:
        proxy = tcp_proxy(redis_server.port)
        proxy.delay(0.25)  # each of half a dozen answers comes half a second late
        broker = RedisBroker(hosts=[f"redis://{proxy.host}/0"])
        assert seconds_until_refused(broker) <= 1.0
        broker.close()

    def test_a_refused_connection_fails_at_once(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            server.kill()
            assert seconds_until_refused(broker) <= 0.5

    def test_every_method_fails_alike(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker, ears_on(broker, "t") as ears:
            server.kill()
            listener = ears.listener
            for ask in (
                lambda: broker.ticket(),
                lambda: broker.read("t", None, history=KEPT),
                lambda: broker.read_all("t", history=KEPT),
                lambda: broker.signal("t", b""),
                lambda: broker.present("t"),
                lambda: broker.claim("n", "v", ttl=1.0),
                lambda: ears.do(listener.subscribe(["other"])),
                lambda: ears.do(listener.read("t", None, history=KEPT)),
                lambda: ears.do(listener.heads({"t": KEPT})),
                lambda: ears.do(listener.signal("t", b"")),
                lambda: ears.do(listener.present("t")),
                lambda: ears.do(listener.claim("n", "v", ttl=1.0)),
            ):
                started = time.monotonic()
                with pytest.raises(BrokerUnavailable):
                    ask()
                assert time.monotonic() - started <= 1.0

    def test_the_time_is_the_beginning_of_time_if_the_store_was_never_seen(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        server.kill()
        with broker_on(server) as broker:
            assert broker.now() == Since(time=0)

    def test_who_waits_is_called_when_it_is_back(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        called: list[str] = []
        with broker_on(server) as broker:
            server.pause()
            seconds_until_refused(broker)
            broker.when_back(lambda: called.append(str(publish(broker, "t", b"announced"))))
            assert called == []
            server.resume()
            wait_until(lambda: called, 3.0)
            assert len(called) == 1
            assert broker.read_all("t", history=KEPT)[-1].body == b"announced"

    def test_who_waits_for_several_servers_is_called_when_all_are_back(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        servers = [redis_server_factory(), redis_server_factory()]
        called: list[bool] = []
        with broker_on(*servers) as broker:
            topics = [topic_on(broker, number) for number in (0, 1)]
            for server, topic in zip(servers, topics, strict=True):
                server.kill()
                seconds_until_refused(broker, topic)
            broker.when_back(lambda: called.append(True))
            servers[0].start()
            publish_when_possible(broker, topics[0], b"1")
            assert called == []
            servers[1].start()
            wait_until(lambda: called, 3.0)

    def test_a_full_store_is_away_until_it_can_be_written(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        called: list[bool] = []
        with broker_on(server) as broker, client_of(server) as client:
            publish(broker, "t", b"1")
            client.config_set("maxmemory", "1mb")
            seconds_until_refused(broker)
            broker.when_back(lambda: called.append(True))
            probed = client.info("stats")["total_connections_received"] + 3
            wait_until(lambda: client.info("stats")["total_connections_received"] >= probed)
            assert called == []
            client.config_set("maxmemory", 0)
            wait_until(lambda: called, 3.0)
            publish(broker, "t", b"2")

    def test_a_restart_between_two_publications_is_no_failure(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            publish(broker, "t", b"1")
            server.restart()
            assert publish(broker, "t", b"2")[0].positions["t"].offset == 1


class TestAReplicaTakesOver:
    def test_by_order_of_the_sentinel(
        self, redis_server_factory: RedisServerFactory, tmp_path: Path
    ) -> None:
        master, replica = redis_server_factory(), redis_server_factory()
        with client_of(replica) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", master.port)  # type: ignore[no-untyped-call]
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        sentinel = Sentinel(master, tmp_path)
        broker = RedisBroker(
            hosts=[{"sentinels": [("127.0.0.1", sentinel.port)], "master_name": "mymaster"}]
        )
        try:
            with ears_on(broker, "t") as ears:
                position, since = past(broker, "t")
                sentinel.fail_over()
                publish_when_possible(broker, "t", b"new")
                wait_until(lambda: ("doubt", None) in ears.heard)
                publish_when_possible(broker, "t", b"newer")
                wait_until(lambda: b"newer" in [entry.body for entry in ears.entries("t")])
                assert_reset(broker, "t", position, since)
            with client_of(replica) as client:
                assert client.exists(broker.links[0].prefix + "log:t")
        finally:
            broker.close()
            sentinel.stop()


class TestTheBellIsLost:
    def test_killed_again_and_again(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker, client_of(server) as client, ears_on(broker, "t") as ears:
            for number in range(5):
                assert client.client_kill_filter(_type="pubsub") == 1
                wait_until(
                    lambda: sum(told[0] == "doubt" for told in ears.heard) > number,  # noqa: B023
                    what="the listener to doubt",
                )
                # Told to doubt, it hears again: what comes from now on is not missed.
                publish(broker, "t", b"%d" % number)
                wait_until(lambda: b"%d" % number in [e.body for e in ears.entries("t")])  # noqa: B023
            assert {told for told in ears.heard if told[0] == "doubt"} == {("doubt", None)}

    def test_live_again_soon_after_the_store_is_back(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker, ears_on(broker, "t") as ears:
            server.kill()
            wait_until(lambda: broker.links[0].breaker.is_open)
            server.start()
            back = time.monotonic()
            wait_until(lambda: ("doubt", None) in ears.heard)
            publish_when_possible(broker, "t", b"new")
            ears.wait_for_entries("t", 1)
            assert time.monotonic() - back <= 3.0

    def test_who_is_told_to_doubt_may_ask_the_logs(
        self, redis_server_factory: RedisServerFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bell may be back before the breaker has noticed."""
        monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.6)
        server = redis_server_factory()
        with broker_on(server) as broker, ears_on(broker, "t") as ears:
            away: list[bool] = []
            monkeypatch.setattr(
                ears, "on_doubt", lambda topics: away.append(broker.links[0].breaker.is_open)
            )
            broker.links[0].breaker.trip(BrokerUnavailable("tripped by the test"))
            with client_of(server) as client:
                client.client_kill_filter(_type="pubsub")
            wait_until(lambda: away)
            assert away == [False]

    def test_a_silent_link_is_noticed(
        self,
        redis_server: RedisServer,
        tcp_proxy: Callable[[int], TcpProxy],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert redis_pubsub.PING_EVERY * redis_pubsub.SILENT_PINGS <= 10.0
        monkeypatch.setattr(redis_pubsub, "PING_EVERY", 0.1)
        proxy = tcp_proxy(redis_server.port)
        broker = RedisBroker(hosts=[f"redis://{proxy.host}/0"])
        with broker_on(redis_server) as publisher, ears_on(broker, "t") as ears:
            silences = counters().get("bus.silent", 0)
            proxy.blackhole()
            publish(publisher, "t", b"unheard")
            wait_until(lambda: counters().get("bus.silent", 0) > silences)
            proxy.resume()
            wait_until(lambda: ("doubt", None) in ears.heard)
            publish(publisher, "t", b"heard")
            wait_until(lambda: b"heard" in [entry.body for entry in ears.entries("t")])
        broker.close()

    def test_topics_subscribed_while_it_is_away_are_refused_and_not_heard_later(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker, ears_on(broker, "t") as ears:
            server.kill()
            with pytest.raises(BrokerUnavailable):
                ears.do(ears.listener.subscribe(["refused"]))
            server.start()
            publish_when_possible(broker, "refused", b"x")
            wait_until(lambda: ("doubt", None) in ears.heard)
            publish(broker, "refused", b"x")
            publish(broker, "t", b"x")
            ears.wait_for_entries("t", 1)
            assert ears.entries("refused") == []

    def test_a_burst_arrives_whole(self, redis_server: RedisServer) -> None:
        with broker_on(redis_server) as broker, ears_on(broker, "t") as ears:
            for start in range(0, 10_000, 250):
                publish(broker, "t", *(b"%d" % i for i in range(start, start + 250)))
            entries = ears.wait_for_entries("t", 10_000)
            assert [entry.offset for entry in entries] == list(range(1, 10_001))
