"""The pytest plugin of this suite: fixtures, and which tests run on which database."""

import inspect
import itertools
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections
from django.test import TransactionTestCase

from . import services, summary
from .postgres import PostgresServer
from .processes import remove_databases_of_the_dead
from .redis import RedisServer
from .servers import ROOT, ServerKind, ServerProcess
from .tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

_servers_key = pytest.StashKey[list[ServerProcess]]()
_started_key = pytest.StashKey[float]()

_DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server"}
_MARKER_OF_FIXTURE = {
    "redis_server": "redis",
    "redis_server_factory": "redis",
    "chromium": "browser",
}
_MARKER_OF_DIRECTORY = {"browser": "browser", "faults": "load", "load": "load"}


# Which tests run -----------------------------------------------------------------------------


def _uses_database(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    case = getattr(item, "cls", None)
    return (
        item.get_closest_marker("django_db") is not None
        or bool(fixtures & _DATABASE_FIXTURES)
        or (case is not None and issubclass(case, TransactionTestCase))
    )


def _belongs(item: pytest.Item) -> bool:
    """SQLite runs everything but ``postgres``; PostgreSQL what a database can change."""
    needs_postgres = item.get_closest_marker("postgres") is not None
    if settings.TEST_DATABASE == "sqlite":
        return not needs_postgres
    elsewhere = any(item.get_closest_marker(name) for name in ("browser", "load", "packaging"))
    return needs_postgres or (_uses_database(item) and not elsewhere)


def _refuse_coroutines_beside_browser(items: Sequence[pytest.Item]) -> None:
    with_browser = {item.path for item in items if "chromium" in getattr(item, "fixturenames", ())}
    for item in items:
        function = getattr(item, "function", None)
        if item.path in with_browser and inspect.iscoroutinefunction(function):
            raise pytest.UsageError(
                f"{item.nodeid} is a coroutine in a module that drives a browser; Playwright keeps "
                "an event loop running there. Move it to a module of its own."
            )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in _MARKER_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
        for directory, marker in _MARKER_OF_DIRECTORY.items():
            if directory in item.path.parts:
                item.add_marker(marker)
    _refuse_coroutines_beside_browser(items)
    deselected = [item for item in items if not _belongs(item)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if _belongs(item)]


# What a run tells ----------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_started_key] = time.monotonic()
    remove_databases_of_the_dead(settings.SQLITE_DIR)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = os.environ.get("TEST_SUMMARY_FILE")
    if not path:
        return
    counts = {name: len(terminalreporter.stats.get(name, ())) for name in summary.OUTCOMES}
    seconds = time.monotonic() - config.stash[_started_key]
    summary.append(Path(path), counts=counts, seconds=seconds)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the servers it started have logged."""
    report = yield
    if report.failed:
        for server in item.stash.get(_servers_key, []):
            title = f"Log of {server.kind} on {server.port}"
            report.sections.append((title, server.log()))
    return report


def _needs(name: str) -> None:
    """Skip the test if the service is missing; fail it under ``CI``."""
    try:
        services.locate(name)
    except services.ServiceMissing as error:
        if services.in_ci():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


# Databases -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this run's own."""
    _needs("postgresql")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _asgiref_thread_without_connections() -> Iterator[None]:
    """Close what a test has opened in the thread that ``sync_to_async`` shares.

    Channels looks at that thread's connections on every message; one that is left from a test with
    a database would be looked at in a test without one, and fail it.
    """
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """With ``TEST_DATABASE=postgres``: start it before Django creates the test databases."""
    if settings.TEST_DATABASE != "postgres":
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    for alias in connections:
        connections[alias].settings_dict["PORT"] = str(server.port)
        connections.settings[alias]["PORT"] = str(server.port)


# Redis ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _shared_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    _needs("redis")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(_shared_redis_server: RedisServer) -> RedisServer:
    """A running, empty redis-server, shared by tests that do it no harm."""
    _shared_redis_server.flush()
    return _shared_redis_server


class RedisServerFactory(Protocol):
    """``factory(options)``: a started redis-server of the test's own."""

    def __call__(self, options: Mapping[str, str] | None = None) -> RedisServer: ...


@pytest.fixture
def redis_server_factory(tmp_path: Path) -> Iterator[RedisServerFactory]:
    """Starts redis-servers for tests that kill, pause or restart them."""
    _needs("redis")
    servers: list[RedisServer] = []

    def start(options: Mapping[str, str] | None = None) -> RedisServer:
        directory = tmp_path / f"redis-{len(servers)}"
        directory.mkdir()
        server = RedisServer(directory, options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        if server.alive:
            server.resume()
            server.stop()


# The network ---------------------------------------------------------------------------------


@pytest.fixture
def tcp_proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """``tcp_proxy(target_port)``: a running :class:`TcpProxy` before that port."""
    with ExitStack() as stack:
        yield lambda target_port: stack.enter_context(TcpProxy(target_port))


# ASGI servers --------------------------------------------------------------------------------


class StartServer(Protocol):
    """``server_process("daphne")``: a started server; see the fixture."""

    def __call__(
        self,
        kind: ServerKind = "daphne",
        *,
        application: str = "tests.asgi:application",
        redis: RedisServer | None = None,
        realtime: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        arguments: Sequence[str] = (),
    ) -> ServerProcess: ...


def server_environment(
    *, redis: RedisServer | None = None, realtime: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The environment in which a process is of this test site and sees this run's databases."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": settings.TEST_DATABASE,
    }
    for alias in connections:
        database = connections[alias].settings_dict
        environment[f"TEST_DATABASE_{alias.upper()}"] = str(database["NAME"])
        if settings.TEST_DATABASE == "postgres":
            environment["TEST_DATABASE_HOST"] = str(database["HOST"])
            environment["TEST_DATABASE_PORT"] = str(database["PORT"])
    if redis is not None:
        environment["TEST_CHANNEL_LAYERS"] = json.dumps(redis.channel_layers)
    if realtime is not None:
        environment["TEST_WSREALTIME"] = json.dumps(realtime)
    return environment


@pytest.fixture
def server_process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartServer]:
    """Starts ASGI servers that see the test's databases, and ends them after the test.

    The test needs ``django_db(transaction=True)`` for its rows to be seen by another process.
    ``redis``: the channel layer to configure; ``realtime``: the ``WSREALTIME`` setting;
    ``env``: further environment variables.
    """
    servers: list[ServerProcess] = request.node.stash.setdefault(_servers_key, [])
    numbers = itertools.count()

    def start(
        kind: ServerKind = "daphne",
        *,
        application: str = "tests.asgi:application",
        redis: RedisServer | None = None,
        realtime: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        arguments: Sequence[str] = (),
    ) -> ServerProcess:
        server = ServerProcess(
            kind,
            application=application,
            log=tmp_path / f"{kind}-{next(numbers)}.log",
            env={**server_environment(redis=redis, realtime=realtime), **(env or {})},
            port=port,
            arguments=arguments,
        )
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(timeout=5)


class RunPython(Protocol):
    """``run_python("...")``: what the code printed; see the fixture."""

    def __call__(
        self,
        code: str,
        *,
        redis: RedisServer | None = None,
        realtime: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> str: ...


@pytest.fixture
def run_python() -> RunPython:
    """Runs code in another process of the test site, with Django set up, to its end.

    A worker, a shell or a cron job: it has the test's databases (see ``server_process``) and no
    browsers. Returns what it printed; fails with its traceback. ``timeout`` is in seconds.
    """

    def run(
        code: str,
        *,
        redis: RedisServer | None = None,
        realtime: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **server_environment(redis=redis, realtime=realtime),
        }
        finished = subprocess.run(
            [sys.executable, "-c", f"import django\ndjango.setup()\n{textwrap.dedent(code)}"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if finished.returncode:
            pytest.fail(f"{finished.stdout}{finished.stderr}", pytrace=False)
        return finished.stdout

    return run


# Browsers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A headless Chromium for this module's tests, which are no coroutines."""
    _needs("chromium")
    from .browser import open_chromium

    with open_chromium() as browser:
        yield browser


@pytest.fixture
def browser_context(chromium: "Browser") -> Iterator["BrowserContext"]:
    """A browser session without cookies; two tabs of one user are two pages of one context."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def page_errors() -> list[str]:
    """Uncaught errors of the ``page`` fixture; a test that expects some empties it."""
    return []


@pytest.fixture
def page(browser_context: "BrowserContext", page_errors: list[str]) -> Iterator["Page"]:
    """A tab in a session of its own. An uncaught error in the page fails the test."""
    page = browser_context.new_page()
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    yield page
    if page_errors:
        pytest.fail(f"uncaught in the page: {page_errors}", pytrace=False)
