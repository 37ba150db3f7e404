"""What the Redis broker does beyond the contract of all brokers."""

import multiprocessing
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_wsrealtime.brokers import redis_clock
from django_wsrealtime.brokers.base import (
    Attendance,
    History,
    Outcome,
    Publish,
    Reset,
    RowChange,
)
from django_wsrealtime.brokers.redis import RedisBroker
from django_wsrealtime.brokers.redis_hosts import read_layout
from django_wsrealtime.errors import BrokerUnavailable, ConfigurationError
from tests.support.plugin import RedisServerFactory
from tests.support.processes import free_port
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

from .redis_tools import KEPT, Sentinel, broker_on, client_of, counted, ears_on, publish, topic_on


@pytest.fixture
def broker(redis_server: RedisServer) -> Iterator[RedisBroker]:
    with broker_on(redis_server) as broker:
        yield broker


def connections(server: RedisServer) -> int:
    """How many clients the server has, without the one that asks."""
    with client_of(server) as client:
        return len(client.client_list()) - 1


class TestConnections:
    def test_a_thread_uses_one(self, broker: RedisBroker, redis_server: RedisServer) -> None:
        before = connections(redis_server)
        for number in range(10):
            publish(broker, "t", b"%d" % number)
            broker.ticket()
            broker.signal("t", b"")
        assert connections(redis_server) == before + 1

    def test_threads_use_one_each_at_most_and_leave_them_to_others(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        before = connections(redis_server)
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda i: publish(broker, "t", b"%d" % i), range(100)))
        assert before < connections(redis_server) <= before + 4

    def test_a_connection_that_the_server_closed_is_replaced_before_it_is_used(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        publish(broker, "t", b"1")
        with client_of(redis_server) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        assert publish(broker, "t", b"2")[0].positions["t"].offset == 2

    def test_closing_gives_them_back(self, broker: RedisBroker, redis_server: RedisServer) -> None:
        before = connections(redis_server)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: publish(broker, "t", b"%d" % i), range(20)))
        broker.close()
        wait_until(lambda: connections(redis_server) == before)

    def test_a_forked_child_publishes_on_its_own(self, broker: RedisBroker) -> None:
        publish(broker, "t", b"parent")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                publish(broker, "t", *(b"child" for _ in range(50)))
                os.write(write, b"ok")
            finally:
                os._exit(0)
        for _ in range(50):
            publish(broker, "t", b"parent")
        assert os.read(read, 2) == b"ok"
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
        entries = broker.read_all("t", history=KEPT)
        assert [entry.offset for entry in entries] == list(range(1, 102))
        assert sum(entry.body == b"child" for entry in entries) == 50
        publish(broker, "t", b"the parent's connection still works")

    def test_a_child_of_a_parent_that_lost_the_store_tries_for_itself(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker:
            publish(broker, "t", b"1")
            server.pause()
            with pytest.raises(BrokerUnavailable):
                publish(broker, "t", b"2")
            server.resume()
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    publish(broker, "t", b"3")
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_processes_and_threads_leave_one_order(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        with ears_on(broker, "t") as ears:
            context = multiprocessing.get_context("fork")
            processes = [
                context.Process(target=_publish_many, args=(redis_server.url, number))
                for number in range(4)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            entries = ears.wait_for_entries("t", 1_000)
        assert [entry.offset for entry in entries] == list(range(1, 1_001))
        for number in range(4):
            own = [entry.body for entry in entries if entry.body.startswith(b"%d:" % number)]
            assert own == [b"%d:%d" % (number, i) for i in range(250)]

    def test_an_append_is_one_round_trip(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        def commands() -> int:
            with client_of(redis_server) as client:
                stats = client.info("commandstats")
            return int(stats["cmdstat_evalsha"]["calls"])

        publish(broker, "t", b"1")
        before = commands()
        publish(broker, "t", *(b"%d" % i for i in range(100)))
        assert commands() == before + 1


def _publish_many(url: str, number: int) -> None:
    broker = RedisBroker(hosts=[url])
    for i in range(250):
        publish(broker, "t", b"%d:%d" % (number, i))
    broker.close()


class TestSeals:
    def test_a_forged_entry_in_the_log_is_no_silent_hole(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        [first, *_] = publish(broker, "t", b"1", b"2", b"3")
        key = broker.links[0].prefix + "entries:t"
        with client_of(redis_server) as client:
            sealed = client.lindex(key, 1)
            assert isinstance(sealed, bytes)
            client.lset(key, 1, sealed[:-1] + b"X")  # type: ignore[arg-type]
        with counted("bus.rejected"):
            page = broker.read("t", first.positions["t"], history=KEPT)
        assert (page.recovered, page.reason, page.entries) == (False, "lost", ())
        assert [entry.body for entry in broker.read_all("t", history=KEPT)] == [b"1", b"3"]

    def test_an_entry_copied_to_another_topic_does_not_verify(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        publish(broker, "public", b"1")
        publish(broker, "secret", b"2")
        prefix = broker.links[0].prefix
        with client_of(redis_server) as client:
            stolen = client.lindex(prefix + "entries:secret", 0)
            assert isinstance(stolen, bytes)
            client.lset(prefix + "entries:public", 0, stolen)  # type: ignore[arg-type]
        assert broker.read_all("public", history=KEPT) == []

    @pytest.mark.parametrize(
        "forged",
        [
            b"",
            b"garbage",
            b"Eabc:1:0000000000000001no seal",
            b"Eabc:x:" + b"0" * 40,
            b"E:1:" + b"0" * 40,
            b"R" + b"0" * 20,
            b"S" + b"0" * 20,
            b"\xff\xfe",
        ],
    )
    def test_a_forged_ring_is_counted_and_skipped(
        self, broker: RedisBroker, redis_server: RedisServer, forged: bytes
    ) -> None:
        with ears_on(broker, "t") as ears, client_of(redis_server) as client:
            with counted("bus.rejected"):
                client.publish(broker.links[0].prefix + "bell:t", forged)
                publish(broker, "t", b"true")
                ears.wait_for_entries("t", 1)
            assert [told[0] for told in ears.heard] == ["entry"]

    def test_an_entry_does_not_pass_as_a_signal(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        publish(broker, "t", b"1")
        prefix = broker.links[0].prefix
        with ears_on(broker, "t") as ears, client_of(redis_server) as client:
            entry = client.lindex(prefix + "entries:t", 0)
            assert isinstance(entry, bytes)
            client.publish(prefix + "bell:t", b"S" + entry[16:])
            publish(broker, "t", b"2")
            ears.wait_for_entries("t", 1)
            assert [told[0] for told in ears.heard] == ["entry"]

    def test_forged_presence_and_claims_are_skipped(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        one = Attendance(sid="s", member="m", info=b"{}")
        with ears_on(broker) as ears:
            ears.do(ears.listener.attend("t", [one], ttl=60.0))
        prefix = broker.links[0].prefix
        with client_of(redis_server) as client:
            known = client.hget(prefix + "present:t", "s")
            assert isinstance(known, bytes)
            client.hset(prefix + "present:t", "forged", known)
            client.set(prefix + "claim:n", "forged")
        assert list(broker.present("t")) == [one]
        assert broker.claim("n", "mine", ttl=1.0) == "mine"

    def test_an_old_secret_verifies_while_it_is_a_fallback(
        self, broker: RedisBroker, redis_server: RedisServer, settings: Any
    ) -> None:
        publish(broker, "t", b"old")
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another secret"
        with broker_on(redis_server) as other:
            publish(other, "t", b"new")
            assert [e.body for e in other.read_all("t", history=KEPT)] == [b"old", b"new"]
        settings.SECRET_KEY_FALLBACKS = []
        with broker_on(redis_server) as other:
            assert [e.body for e in other.read_all("t", history=KEPT)] == [b"new"]

    def test_deployments_share_a_server_and_nothing_else(self, redis_server: RedisServer) -> None:
        with (
            broker_on(redis_server, deployment="a") as one,
            broker_on(redis_server, deployment="a:0:log") as other,
            ears_on(one, "t") as ears,
        ):
            publish(other, "t", b"other's")
            publish(one, "t", b"one's")
            assert [entry.body for entry in ears.wait_for_entries("t", 1)] == [b"one's"]
            assert [entry.body for entry in other.read_all("t", history=KEPT)] == [b"other's"]

    def test_databases_share_a_server_and_no_rings(self, redis_server: RedisServer) -> None:
        address = redis_server.url.rpartition("/")[0]
        one = RedisBroker(hosts=[f"{address}/1"])
        other = RedisBroker(hosts=[f"{address}/2"])
        with ears_on(one, "t") as ears:
            publish(other, "t", b"other's")
            publish(one, "t", b"one's")
            assert [entry.body for entry in ears.wait_for_entries("t", 1)] == [b"one's"]
        one.close()
        other.close()

    def test_with_encryption_keys_nothing_is_legible(self, redis_server: RedisServer) -> None:
        broker = RedisBroker(hosts=[redis_server.url], encryption_keys=["k2", "k1"])
        old = RedisBroker(hosts=[redis_server.url], encryption_keys=["k1"])
        publish(old, "t", b"legible")
        publish(broker, "t", b"legible")
        with client_of(redis_server) as client:
            raw = client.lrange(broker.links[0].prefix + "entries:t", 0, -1)
        assert raw
        assert all(b"legible" not in one for one in raw)
        assert [e.body for e in broker.read_all("t", history=KEPT)] == [b"legible", b"legible"]
        with counted("bus.rejected"):
            assert [e.body for e in old.read_all("t", history=KEPT)] == [b"legible"]
        broker.close()
        old.close()


class TestClock:
    def test_asking_for_the_time_costs_no_round_trip(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        publish(broker, "t", b"1")
        with client_of(redis_server) as client:
            before = client.info("stats")["total_commands_processed"]
            for _ in range(100):
                broker.now()
            assert client.info("stats")["total_commands_processed"] == before + 1

    def test_the_time_is_never_ahead_of_the_server_and_hardly_behind(
        self, broker: RedisBroker, redis_server: RedisServer
    ) -> None:
        with client_of(redis_server) as client:
            for _ in range(50):
                since = broker.now().time
                seconds, micros = client.time()
                lag = seconds * 1_000_000 + micros - since
                assert 0 <= lag < 1_000_000

    def test_an_older_comparison_counts_for_less(self, monkeypatch: pytest.MonkeyPatch) -> None:
        local = 1_000.0
        monkeypatch.setattr("time.monotonic", lambda: local)
        clock = redis_clock.Clock()
        assert clock.floor() is None
        clock.note(5_000_000)
        assert clock.floor() == 5_000_000
        local += 100.0
        assert clock.floor() == 5_000_000 + 99_900_000
        local += 300.0
        assert clock.floor() is None

    def test_an_old_comparison_is_repeated_aside(
        self, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(broker, "t", b"1")
        monkeypatch.setattr("django_wsrealtime.brokers.redis.FRESH", 0.05)
        clock = broker.links[0].clock
        wait_until(lambda: clock.age > 0.05)
        before = broker.now()
        wait_until(lambda: clock.age < 0.05)
        assert broker.now().time > before.time

    def test_a_listener_keeps_the_comparison_fresh(self, redis_server: RedisServer) -> None:
        with broker_on(redis_server) as broker, ears_on(broker):
            wait_until(lambda: broker.links[0].clock.floor() is not None)


class TestServers:
    def test_another_list_of_servers_is_noticed(
        self,
        broker: RedisBroker,
        redis_server: RedisServer,
        redis_server_factory: RedisServerFactory,
    ) -> None:
        publish(broker, "t", b"1")
        other = redis_server_factory()
        with counted("bus.hosts_differ"), broker_on(redis_server, other) as different:
            publish(different, topic_on(different, 0), b"1")

    def test_a_cluster_is_refused(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory({"cluster-enabled": "yes", "cluster-port": str(free_port())})
        with broker_on(server) as broker:
            with pytest.raises(ConfigurationError, match="Redis Cluster"):
                publish(broker, "t", b"1")
            assert [message.id for message in broker.check(deploy=True)] == ["wsrealtime.E201"]

    def test_checks(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory()
        with broker_on(server) as broker, client_of(server) as client:
            assert broker.check(deploy=True) == []
            client.config_set("maxmemory-policy", "allkeys-lru")
            assert [message.id for message in broker.check(deploy=True)] == ["wsrealtime.W203"]
            client.config_set("maxmemory", "1gb")
            assert [message.id for message in broker.check(deploy=True)] == ["wsrealtime.E203"]
            assert broker.check() == []
            server.kill()
            assert [message.id for message in broker.check(deploy=True)] == ["wsrealtime.E202"]

    def test_a_password_and_a_database(self, redis_server_factory: RedisServerFactory) -> None:
        server = redis_server_factory()
        with client_of(server) as client:
            client.config_set("requirepass", "secret")
        with pytest.raises(BrokerUnavailable), broker_on(server) as broker:
            publish(broker, "t", b"1")
        port = server.port
        for host in (
            f"redis://:secret@127.0.0.1:{port}/3",
            {"host": "127.0.0.1", "port": port, "password": "secret", "db": 3},
            {"address": f"redis://127.0.0.1:{port}/3", "password": "secret"},
        ):
            broker = RedisBroker(hosts=[host])
            assert broker.layout.hosts[0].db == 3
            assert "secret" not in broker.layout.hosts[0].name
            with ears_on(broker, "t") as ears:
                publish(broker, "t", b"1")
                ears.wait_for_entries("t", 1)
            broker.close()

    def test_a_user_who_may_do_no_more_than_is_documented(
        self, redis_server_factory: RedisServerFactory
    ) -> None:
        page = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"
        allowed = re.findall(r"\+[a-z|]+", page.read_text().partition("ACL needs")[2])
        server = redis_server_factory()
        with client_of(server) as client:
            client.acl_setuser(
                "app",
                enabled=True,
                passwords=["+pw"],
                commands=allowed,
                keys=["wsrealtime:*"],
                channels=["wsrealtime:*"],
            )
        broker = RedisBroker(hosts=[f"redis://app:pw@127.0.0.1:{server.port}/0"])
        one = Attendance(sid="s", member="m", info=b"{}")
        with ears_on(broker, "t") as ears:
            listener = ears.listener
            [result] = publish(broker, "t", b"1")
            broker.append(
                [
                    Publish(topic="t", body=b"2", history=History(size=1), key="k"),
                    _change("row", broker.ticket(), {"t": b"3"}, ["u"]),
                    Reset(topic="u", reason="bulk", history=KEPT),
                ]
            )
            broker.read("t", result.positions["t"], history=KEPT)
            broker.read("t", broker.now(), history=KEPT)
            broker.claim("n", "v", ttl=1.0)
            broker.claim("n", "v", ttl=1.0)
            broker.signal("t", b"")
            ears.do(listener.attend("t", [one], ttl=1.0))
            ears.do(listener.attend("t", [one], ttl=0.001))
            ears.do(listener.heads({"t": KEPT}))
            ears.wait_for_entries("t", 3)
            wait_until(lambda: not broker.present("t") or ears.do(listener.leave("t", ["s"])))
            ears.do(listener.unsubscribe(["t"]))
        broker.close()

    def test_sentinels_name_the_master(
        self, redis_server_factory: RedisServerFactory, tmp_path: Path
    ) -> None:
        server = redis_server_factory()
        sentinel = Sentinel(server, tmp_path)
        try:
            broker = RedisBroker(
                hosts=[
                    {
                        "sentinels": [("127.0.0.1", sentinel.port)],
                        "master_name": "mymaster",
                        "db": 2,
                    }
                ]
            )
            with ears_on(broker, "t") as ears:
                publish(broker, "t", b"1")
                ears.wait_for_entries("t", 1)
            broker.close()
        finally:
            sentinel.stop()

    @override_settings(
        CHANNEL_LAYERS={
            "default": {
                "BACKEND": "channels_redis.core.RedisChannelLayer",
                "CONFIG": {
                    "hosts": [("a", 1), "redis://b:2/5", {"host": "c", "db": 7}],
                    "prefix": "shop",
                    "capacity": 5,
                    "symmetric_encryption_keys": ["k"],
                },
            }
        }
    )
    def test_the_channel_layer_s_settings_are_used(self) -> None:
        layout = read_layout()
        assert [host.name for host in layout.hosts] == [
            "Redis at a:1/0",
            "Redis at b:2/5",
            "Redis at c:6379/7",
        ]
        assert layout.deployment == "shop"
        assert layout.encryption_keys == ("k",)
        assert layout.prefix(layout.hosts[1]) == "wsrealtime:shop:5:"

    @pytest.mark.parametrize("hosts", ["redis://a", ["http://a"]])
    def test_hosts_that_mean_nothing_are_refused(self, hosts: Any) -> None:
        with pytest.raises(ConfigurationError):
            read_layout(hosts=hosts)


class TestRowsOnSeveralServers:
    """A row's topics on three servers; publishers are held between the steps of a change."""

    @pytest.fixture
    def servers(self, redis_server: RedisServer) -> list[str]:
        address = redis_server.url.rpartition("/")[0]
        return [f"{address}/{number}" for number in (1, 2, 3)]

    def test_whatever_the_interleaving_the_row_is_in_one_topic(self, servers: list[str]) -> None:
        """Two movers; the first one is held before its n-th request while the second one runs."""
        for held_at in range(1, 8):
            one, two = RedisBroker(hosts=servers), RedisBroker(hosts=servers)
            name = f"{held_at}-{time.time_ns()}"
            a, b, c = (topic_on(one, index, name) for index in (0, 1, 2))
            row = f"row/{name}"
            one.append([_change(row, None, {a: b"in a"}, [])])
            gate = _Gate(one, held_at)
            first = _change(row, one.ticket(), {b: b"in b"}, [a])
            second = _change(row, one.ticket(), {c: b"in c"}, [a])
            thread = threading.Thread(target=one.append, args=([first],))
            thread.start()
            gate.wait()
            [result] = two.append([second])
            assert result.outcome is Outcome.APPENDED
            gate.open()
            thread.join()
            last = {
                topic: [e.body for e in two.read_all(topic, history=KEPT)][-1:] or [b"remove"]
                for topic in (a, b, c)
            }
            assert last == {a: [b"remove"], b: [b"remove"], c: [b"in c"]}, held_at
            # Settled: the next change removes it from there and nowhere else.
            [result] = two.append([_change(row, one.ticket(), {}, [])])
            assert set(result.positions) == {c}, held_at
            one.close()
            two.close()

    @pytest.mark.parametrize("requests", [1, 2, 3])
    def test_what_a_publisher_that_died_left_behind_is_removed_by_the_next(
        self, servers: list[str], requests: int
    ) -> None:
        """It died after so many requests: the claim, then one for each server."""
        broker = RedisBroker(hosts=servers)
        name = str(time.time_ns())
        a, b, c = (topic_on(broker, index, name) for index in (0, 1, 2))
        # On the server of `a`, so that a move to `b` is one across servers from its first request.
        row = topic_on(broker, 0, f"row/{name}")
        broker.append([_change(row, None, {a: b"in a"}, [])])
        dying = RedisBroker(hosts=servers)
        left = iter(range(requests + 1))

        def die(index: int, arguments: Any, deadline: float) -> Any:
            if next(left) == requests:
                raise BrokerUnavailable("died")
            return ask(index, arguments, deadline)

        ask, dying._appender._ask = dying._appender._ask, die  # type: ignore[method-assign]
        with pytest.raises(BrokerUnavailable):
            dying.append([_change(row, broker.ticket(), {b: b"in b"}, [])])
        broker.append([_change(row, broker.ticket(), {c: b"in c"}, [])])
        for topic in (a, b):
            assert broker.read_all(topic, history=KEPT)[-1].body == b"remove"
        assert broker.read_all(c, history=KEPT)[-1].body == b"in c"
        broker.close()
        dying.close()


def _change(row: str, ticket: int | None, topics: dict[str, bytes], before: list[str]) -> RowChange:
    return RowChange(
        row=row,
        ticket=ticket,
        topics=topics,
        remove=b"remove",
        before=frozenset(before),
        history=KEPT,
    )


class _Gate:
    """Holds a broker before its n-th request for appending, or at its end if it makes fewer."""

    def __init__(self, broker: RedisBroker, number: int) -> None:
        self._reached = threading.Event()
        self._go_on = threading.Event()
        self._left = number
        self._ask = broker._appender._ask
        broker._appender._ask = self._wait_and_ask  # type: ignore[method-assign]
        self._append = broker._appender.append
        broker._appender.append = self._append_and_tell  # type: ignore[method-assign]

    def _wait_and_ask(self, index: int, arguments: Any, deadline: float) -> Any:
        self._left -= 1
        if self._left == 0:
            self._reached.set()
            self._go_on.wait(10)
        return self._ask(index, arguments, time.monotonic() + 1)

    def _append_and_tell(self, commands: Any) -> Any:
        try:
            return self._append(commands)
        finally:
            self._reached.set()

    def wait(self) -> None:
        assert self._reached.wait(10)

    def open(self) -> None:
        self._go_on.set()
