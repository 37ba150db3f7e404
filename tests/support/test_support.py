"""The fixtures keep their promises: what they start runs, misbehaves on demand and ends."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import redis
from django.contrib.auth import get_user_model
from django.db import connection, connections

from tests.support import services, summary
from tests.support.plugin import RedisServerFactory
from tests.support.processes import (
    HOST,
    accepts,
    free_port,
    remove_databases_of_the_dead,
)
from tests.support.redis import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import Timeout, await_until, wait_until

Proxy = Callable[[int], TcpProxy]


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A TCP server that sends back what it hears."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            Thread(target=echo, args=(client,), daemon=True).start()

    def echo(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                return

    listener = socket.create_server((HOST, 0))
    thread = Thread(target=serve, args=(listener,), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=5)


def test_wait_until_returns_what_became_true() -> None:
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers)) == 7


def test_wait_until_names_what_it_waited_for() -> None:
    with pytest.raises(Timeout, match="the moon"):
        wait_until(lambda: None, 0.01, what="the moon")


async def test_await_until_lets_the_loop_run() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, event.set)
    assert await await_until(event.is_set)


def test_proxy_forwards(echo_port: int, tcp_proxy: Proxy) -> None:
    proxy = tcp_proxy(echo_port)
    with connect(proxy.port) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert proxy.connections == 1
    wait_until(lambda: proxy.connections == 0)
    assert (proxy.bytes_up, proxy.bytes_down) == (5, 5)


def test_proxy_resets(echo_port: int, tcp_proxy: Proxy) -> None:
    proxy = tcp_proxy(echo_port)
    with connect(proxy.port) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert proxy.reset_all() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_proxy_is_silent_and_delivers_later(echo_port: int, tcp_proxy: Proxy) -> None:
    proxy = tcp_proxy(echo_port)
    with connect(proxy.port) as client:
        proxy.blackhole()
        client.sendall(b"hello")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        proxy.resume()
        client.settimeout(5)
        assert client.recv(100) == b"hello"


def test_proxy_refuses_and_returns(echo_port: int, tcp_proxy: Proxy) -> None:
    proxy = tcp_proxy(echo_port)
    proxy.refuse()
    assert not accepts(proxy.port)
    proxy.resume()
    with connect(proxy.port) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_proxy_delays_both_ways(echo_port: int, tcp_proxy: Proxy) -> None:
    proxy = tcp_proxy(echo_port)
    with connect(proxy.port) as client:
        proxy.delay(0.1)
        begun = time.monotonic()
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert time.monotonic() - begun >= 0.2


def test_proxy_resets_clients_of_a_dead_target(tcp_proxy: Proxy) -> None:
    proxy = tcp_proxy(free_port())
    # The reset may come while connecting still.
    with pytest.raises(ConnectionResetError), connect(proxy.port) as client:
        client.recv(100)


def test_redis_is_empty_and_does_not_evict(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.dbsize() == 0
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("left", "behind")


def test_redis_is_empty_again(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.dbsize() == 0


def test_redis_dies_and_returns_empty_on_the_same_port(
    redis_server_factory: RedisServerFactory,
) -> None:
    server = redis_server_factory({"maxmemory": "50mb"})
    with redis.Redis.from_url(server.url) as client:
        client.set("a", "1")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        server.restart()
        assert client.get("a") is None
        assert client.config_get("maxmemory") == {"maxmemory": str(50 * 1024 * 1024)}


def test_redis_pauses(redis_server_factory: RedisServerFactory) -> None:
    server = redis_server_factory()
    with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        client.set("a", "1")
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        server.resume()
        assert client.get("a") == b"1"


@pytest.mark.django_db(databases=["default", "other"])
def test_both_databases_are_there() -> None:
    users = get_user_model().objects
    users.using("other").create(username="elsewhere")
    assert not users.filter(username="elsewhere").exists()
    assert connections["other"].vendor == connection.vendor


@pytest.mark.django_db(transaction=True)
def test_threads_see_the_same_rows() -> None:
    get_user_model().objects.create(username="seen")
    seen: list[bool] = []

    def look() -> None:
        seen.append(get_user_model().objects.filter(username="seen").exists())
        connection.close()

    thread = Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]


@pytest.mark.postgres
@pytest.mark.django_db
def test_postgres_is_postgres() -> None:
    from tests.testapp.postgres_models import Booking

    assert connection.vendor == "postgresql"
    booking = Booking.objects.create(labels=["a", "b"])
    booking.refresh_from_db()
    assert booking.labels == ["a", "b"]


def test_only_databases_of_the_dead_are_removed(tmp_path: Path) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    kept = [tmp_path / f"{os.getpid()}-default.sqlite3", tmp_path / "unrelated.sqlite3"]
    gone = [tmp_path / f"{finished.pid}-default.sqlite3{end}" for end in ("", "-wal", "-shm")]
    for path in kept + gone:
        path.touch()
    remove_databases_of_the_dead(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_services_are_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = services.Service(find=lambda: None, apt=("an-apt-package",), brew="a-formula")
    monkeypatch.setattr(services, "SERVICES", {"thing": missing})
    with pytest.raises(services.ServiceMissing, match="apt-get install an-apt-package"):
        services.locate("thing")


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("false", 0), ("1", 1), ("true", 1)])
def test_only_ci_fails_without_a_service(
    monkeypatch: pytest.MonkeyPatch, ci: str, status: int
) -> None:
    missing = services.Service(find=lambda: None, apt=("an-apt-package",), brew="a-formula")
    monkeypatch.setattr(services, "SERVICES", {"thing": missing})
    monkeypatch.setenv("CI", ci)
    assert services.main(["find", "thing"]) == status


def test_summaries_add_up(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "summary.jsonl"
    assert summary.combine(path) == "no tests ran in 0.00s"
    summary.append(path, counts={"passed": 3, "skipped": 1}, seconds=1.5)
    summary.append(path, counts={"passed": 4, "failed": 2}, seconds=2.0)
    assert summary.combine(path) == "2 failed, 7 passed, 1 skipped in 3.50s"
