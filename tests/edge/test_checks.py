"""Each system check speaks when it should, and is silent when it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.asgi import get_asgi_application as django_application
from django.core.checks import CheckMessage, Error, Warning, run_checks
from django.urls import path

import django_wsrealtime
from django_wsrealtime import urls
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.base import Capabilities
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.checks import TAG, configuration, declarations, deployment, project
from django_wsrealtime.checks.declarations import common_name
from django_wsrealtime.errors import ConfigurationError
from django_wsrealtime.streams import ModelStream
from django_wsrealtime.topics import Presence, Topic
from django_wsrealtime.topics.registry import registry
from django_wsrealtime.topics.routes import Route
from tests.testapp.models import Order

HERE = __name__


def ids(messages: Sequence[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("wsrealtime.") for message in messages]


# --- all together ------------------------------------------------------------------------------


def test_the_test_site_passes_every_check() -> None:
    assert run_checks(tags=[TAG], include_deployment_checks=True) == []


def test_every_message_has_a_hint(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WSREALTIME = {"ALLOW_MISSING_ORIGIN": True, "ALLOWED_ORIGINS": ["*", "example.com"]}
    settings.MIDDLEWARE = []
    settings.ASGI_APPLICATION = None
    messages = run_checks(tags=[TAG])
    assert len(messages) >= 5
    for message in messages:
        assert message.hint
        assert re.fullmatch(r"wsrealtime\.[EW]\d{3}", str(message.id))
        assert isinstance(message, Error if ".E" in str(message.id) else Warning)


# --- configuration -----------------------------------------------------------------------------


def test_e001_an_unknown_setting(settings: Any) -> None:
    assert ids(configuration.check_settings()) == []
    settings.WSREALTIME = {"PAHT": "/ws/", "LIMITS": {"bursts": 1}}
    assert ids(configuration.check_settings()) == ["E001", "E001"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"PATH": "realtime/ws/"},
        {"PATH": None},
        {"THREADS": 0},
        {"THREADS": "16"},
        {"PING_INTERVAL": 0},
        {"REPLICA_LAG": -1},
        {"TRUSTED_PROXIES": "10.0.0.0/8"},
        {"TRUSTED_PROXIES": ["10.0.0.1/8"]},
        {"TRUSTED_PROXIES": ["proxy.example.com"]},
        {"LIMITS": {"burst": -1}},
    ],
    ids=str,
)
def test_e001_a_value_that_means_nothing(settings: Any, wrong: dict[str, Any]) -> None:
    settings.WSREALTIME = wrong
    [message] = configuration.check_settings()
    assert ids([message]) == ["E001"]
    assert next(iter(wrong)) in message.msg


def test_settings_that_mean_nothing_break_no_other_check(settings: Any) -> None:
    settings.WSREALTIME = {"PAHT": "/ws/"}
    assert ids(run_checks(tags=[TAG], include_deployment_checks=True)) == ["E001"]


@pytest.mark.parametrize("key", ["BROKER", "AUTHENTICATE_TOKEN"])
def test_e002_a_path_that_cannot_be_imported(settings: Any, key: str) -> None:
    settings.WSREALTIME = {key: "django_wsrealtime.brokers.memory.MemoryBroker"}
    assert ids(configuration.check_settings()) == []
    settings.WSREALTIME = {key: "nowhere.Broker"}
    (message,) = configuration.check_settings()
    assert ids([message]) == ["E002"]
    assert "nowhere" in message.msg
    assert key in message.msg


def test_e003_a_channel_layer_that_does_not_exist(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"live": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.WSREALTIME = {"CHANNEL_LAYER": "live"}
    assert ids(configuration.check_settings()) == []
    settings.WSREALTIME = {"CHANNEL_LAYER": "lvie"}
    (message,) = configuration.check_settings()
    assert ids([message]) == ["E003"]
    assert "'live'" in str(message.hint)


def test_e004_native_clients_without_a_way_to_read_their_token(settings: Any) -> None:
    settings.WSREALTIME = {
        "ALLOW_MISSING_ORIGIN": True,
        "AUTHENTICATE_TOKEN": "django.contrib.auth.get_user",
    }
    assert ids(configuration.check_origins()) == []
    settings.WSREALTIME = {"ALLOW_MISSING_ORIGIN": True}
    assert ids(configuration.check_origins()) == ["E004"]


def test_e005_an_origin_without_scheme(settings: Any) -> None:
    settings.WSREALTIME = {"ALLOWED_ORIGINS": ["https://*.example.com"]}
    assert ids(configuration.check_origins()) == []
    settings.WSREALTIME = {"ALLOWED_ORIGINS": ["example.com"]}
    (message,) = configuration.check_origins()
    assert ids([message]) == ["E005"]
    assert "https://example.com" in str(message.hint)


def test_w006_any_host_outside_of_debug(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    assert ids(configuration.check_origins()) == []
    settings.ALLOWED_HOSTS = ["*"]
    assert ids(configuration.check_origins()) == ["W006"]
    settings.DEBUG = True
    assert ids(configuration.check_origins()) == []


def test_w007_any_origin_outside_of_debug(settings: Any) -> None:
    settings.WSREALTIME = {"ALLOWED_ORIGINS": ["https://example.com"]}
    assert ids(configuration.check_origins()) == []
    settings.WSREALTIME = {"ALLOWED_ORIGINS": ["*"]}
    assert ids(configuration.check_origins()) == ["W007"]
    settings.DEBUG = True
    assert ids(configuration.check_origins()) == []


# --- the project -------------------------------------------------------------------------------


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    class App:
        def __init__(self, name: str) -> None:
            self.name = name

    monkeypatch.setattr(apps, "get_app_configs", lambda: [App(name) for name in names])
    return ids(project.check_apps())


def test_w010_daphne_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed(monkeypatch, "django_wsrealtime", "daphne") == []
    assert installed(monkeypatch, "django_wsrealtime") == ["W010"]


def test_w011_the_app_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    static = "django.contrib.staticfiles"
    assert installed(monkeypatch, "django_wsrealtime", "daphne", static) == []
    assert installed(monkeypatch, "shop", "django_wsrealtime", "daphne", static) == []
    assert installed(monkeypatch, "daphne", "django_wsrealtime", static) == ["W011"]
    assert installed(monkeypatch, static, "django_wsrealtime", "daphne") == ["W011"]


def test_e020_no_application(settings: Any) -> None:
    assert ids(project.check_application()) == []
    settings.ASGI_APPLICATION = None
    assert ids(project.check_application()) == ["E020"]


@pytest.mark.parametrize("name", ["nowhere.application", f"{HERE}.no_such_application"])
def test_e021_an_application_that_cannot_be_imported(settings: Any, name: str) -> None:
    settings.ASGI_APPLICATION = name
    assert ids(project.check_application()) == ["E021"]


def test_e021_an_application_whose_module_fails(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_asgi.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    settings.ASGI_APPLICATION = "broken_asgi.application"
    (message,) = project.check_application()
    assert ids([message]) == ["E021"]
    assert "ZeroDivisionError" in message.msg


async def somebodys_consumer(scope: Any, receive: Any, send: Any) -> None:
    """Not ours."""


def wrapped_by_something(application: Any) -> Any:
    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)

    return wrapper


def websockets(*patterns: Any) -> Any:
    return URLRouter([*patterns])


THEIRS: Any = path("chat/", somebodys_consumer)  # type: ignore[arg-type]
APPLICATIONS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "django alone": (lambda: django_application(), ["E022"]),
    "no websocket": (lambda: ProtocolTypeRouter({"http": django_application()}), ["E022"]),
    "others alone": (lambda: ProtocolTypeRouter({"websocket": websockets(THEIRS)}), ["E022"]),
    "another at our path": (
        lambda: ProtocolTypeRouter(
            {"websocket": websockets(path("realtime/ws/", somebodys_consumer))}  # type: ignore[arg-type]
        ),
        [],  # it cannot be told what that does with it
    ),
    "ours among others": (
        lambda: ProtocolTypeRouter(
            {
                "websocket": AllowedHostsOriginValidator(
                    AuthMiddlewareStack(websockets(THEIRS, *urls.websocket_urlpatterns))
                )
            }
        ),
        [],
    ),
    "wrapped in what nobody can see through": (
        lambda: wrapped_by_something(ProtocolTypeRouter({})),
        [],
    ),
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_e022_an_application_without_our_websocket(
    settings: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make, expected = APPLICATIONS[name]
    monkeypatch.setattr(f"{HERE}.application", make(), raising=False)
    settings.ASGI_APPLICATION = f"{HERE}.application"
    assert ids(project.check_application()) == expected


def test_e022_our_websocket_at_another_path(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ProtocolTypeRouter({"websocket": websockets(*urls.websocket_urlpatterns)})
    monkeypatch.setattr(f"{HERE}.application", made, raising=False)
    settings.ASGI_APPLICATION = f"{HERE}.application"
    assert ids(project.check_application()) == []
    settings.WSREALTIME = {"PATH": "/elsewhere/"}
    assert ids(project.check_application()) == ["E022"]


def test_w030_the_middleware_is_missing(settings: Any) -> None:
    assert ids(project.check_middleware()) == []
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    assert ids(project.check_middleware()) == ["W030"]


def test_w031_the_middleware_is_not_first(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[1:], settings.MIDDLEWARE[0]]
    assert ids(project.check_middleware()) == ["W031"]


class NoUrls:
    urlpatterns: ClassVar[list[Any]] = []


def test_w040_the_urls_are_not_included(settings: Any) -> None:
    assert ids(project.check_urls()) == []
    settings.ROOT_URLCONF = NoUrls
    assert ids(project.check_urls()) == ["W040"]


# --- topics ------------------------------------------------------------------------------------


@pytest.fixture
def topics() -> Iterator[Any]:
    """A registry without the topics of the test site."""
    with registry.isolated() as isolated:
        isolated._registrations = {}
        yield isolated


def test_e050_a_topic_without_a_rule(topics: Any) -> None:
    @topics.register("ruled")
    class Ruled(Topic):
        def can_subscribe(self, user: Any) -> bool:
            return True

    @topics.register("public")
    class Public(Topic):
        public = True

    assert ids(declarations.check_topics()) == []

    @topics.register("unruled")
    class Unruled(Topic):
        pass

    (message,) = declarations.check_topics()
    assert ids([message]) == ["E050"]
    assert message.obj is Unruled
    assert "unruled" in message.msg


def test_e050_a_rule_may_be_inherited(topics: Any) -> None:
    class Base(Topic):
        def can_subscribe(self, user: Any) -> bool:
            return True

    @topics.register("inherited")
    class Inherited(Base):
        pass

    assert ids(declarations.check_topics()) == []


def test_e051_routes_that_share_a_name(topics: Any) -> None:
    @topics.register("orders/<int:pk>")
    class Orders(Topic):
        public = True

    @topics.register("order/<int:pk>")
    class SingleOrder(Topic):
        public = True

    assert ids(declarations.check_topics()) == []

    @topics.register("orders/<slug:title>")
    class Named(Topic):
        public = True

    (message,) = declarations.check_topics()
    assert ids([message]) == ["E051"]
    assert "'orders/7'" in message.msg


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("a/<int:x>", "b/<int:x>", False),
        ("a/<int:x>", "a/<int:y>", True),
        ("a/<int:x>", "a/<int:x>/b", False),
        ("a/new", "a/<slug:x>", True),
        ("a/<slug:x>", "a/new", True),
        ("a/<str:x>/b", "a/c/<str:y>", True),
        ("a/<path:x>", "a/b/c/<int:y>", True),
        ("a/<uuid:x>", "a/<int:y>", False),
        ("a/<uuid:x>", "a/<slug:y>", True),
        ("<slug:x>/a", "b/<slug:y>", True),
        ("a-<int:x>", "a-<slug:y>", True),
        ("a/<int:x>-<int:y>", "a/<slug:z>", True),
        ("a", "b", False),
    ],
)
def test_routes_that_share_a_name_are_found(one: str, other: str, common: bool) -> None:
    for first, second in ((one, other), (other, one)):
        name = common_name(Route(first), Route(second))
        assert (name is not None) is common
        if name is not None:
            assert Route(first).match(name) is not None
            assert Route(second).match(name) is not None


def test_the_checks_of_streams_are_among_those_of_topics(topics: Any) -> None:
    @topics.register("orders")
    class Orders(ModelStream):
        model = Order
        fields = ("number",)
        public = True

    assert ids(declarations.check_topics()) == []

    @topics.register("users")
    class Users(ModelStream):
        model = User
        fields = ("username", "password")
        public = True

    assert ids(declarations.check_topics()) == ["E104"]


class PoorBroker(MemoryBroker):
    capabilities = Capabilities(history=False, cluster=True, presence=False, idempotency=False)


def test_w052_presence_that_the_broker_cannot_keep(topics: Any, settings: Any) -> None:
    @topics.register("crowd")
    class Crowd(Topic):
        public = True
        presence = Presence()

    assert ids(declarations.check_topics()) == []
    settings.WSREALTIME = {"BROKER": f"{HERE}.PoorBroker"}
    assert ids(declarations.check_topics()) == ["W052"]


def test_w053_a_declaration_that_nothing_acts_on(topics: Any) -> None:
    @topics.register("members")
    class Members(Topic):
        public = True
        revalidate_on = [Session]

    [message] = declarations.check_topics()
    assert message.id == "wsrealtime.W053"
    assert "sessions.Session" in message.msg
    assert "recheck(user)" in (message.hint or "")


# --- the deployment ----------------------------------------------------------------------------


def versions(monkeypatch: pytest.MonkeyPatch, **installed: str) -> list[str]:
    monkeypatch.setattr(deployment, "version", lambda name: installed[name])
    return ids(deployment.check_versions())


def test_w060_a_daphne_with_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions(monkeypatch, daphne="4.2.3", redis="7.0.0") == []
    assert versions(monkeypatch, daphne="4.10", redis="7.0.0") == []
    assert versions(monkeypatch, daphne="4.2.2", redis="7.0.0") == ["W060"]


CORE = "channels_redis.core.RedisChannelLayer"
URL = "redis://localhost"


@pytest.mark.parametrize(
    ("redis", "backend", "config", "expected"),
    [
        ("8.0.0", CORE, {"hosts": [URL]}, ["W061"]),
        ("8.0.0", CORE, {}, ["W061"]),
        ("8.0.0", CORE, {"hosts": [("localhost", 6379)]}, ["W061"]),
        ("8.0.0", CORE, {"hosts": [{"address": URL, "socket_timeout": 5}]}, ["W061"]),
        ("8.0.0", CORE, {"hosts": [{"address": URL, "socket_timeout": None}]}, []),
        ("7.4.0", CORE, {"hosts": [URL]}, []),
        ("8.0.0", "channels_redis.pubsub.RedisPubSubChannelLayer", {"hosts": [URL]}, []),
    ],
)
def test_w061_redis_py_8_ends_idle_consumers_of_the_core_layer(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    redis: str,
    backend: str,
    config: dict[str, Any],
    expected: list[str],
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    assert versions(monkeypatch, daphne="4.2.3", redis=redis) == expected


@pytest.mark.parametrize(
    ("processes", "broker", "expected"),
    [
        ("4", "django_wsrealtime.brokers.memory.MemoryBroker", ["E070"]),
        ("1", "django_wsrealtime.brokers.memory.MemoryBroker", []),
        ("", "django_wsrealtime.brokers.memory.MemoryBroker", []),
        ("many", "django_wsrealtime.brokers.memory.MemoryBroker", []),
        ("4", f"{HERE}.PoorBroker", []),
    ],
)
def test_e070_several_processes_that_share_nothing(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    processes: str,
    broker: str,
    expected: list[str],
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", processes)
    settings.WSREALTIME = {"BROKER": broker}
    assert ids(deployment.check_processes()) == expected


class BadBroker(MemoryBroker):
    def __init__(self) -> None:
        super().__init__()
        if django_settings.CHANNEL_LAYERS:
            raise ConfigurationError("The hosts are no list.")


def test_e071_a_broker_that_the_settings_do_not_fit(settings: Any) -> None:
    settings.WSREALTIME = {"BROKER": f"{HERE}.BadBroker"}
    assert ids(run_checks(tags=[TAG], include_deployment_checks=True)) == []
    settings.CHANNEL_LAYERS = {"default": {"CONFIG": {"hosts": 7}}}
    assert ids(run_checks(tags=[TAG], include_deployment_checks=True)) == ["E071"]


class TalkativeBroker(MemoryBroker):
    def check(self, **kwargs: Any) -> list[CheckMessage]:
        found: list[CheckMessage] = [Warning("The name is odd.", id="wsrealtime.W998")]
        if kwargs.get("deploy"):
            found.append(Error("The store forgets.", id="wsrealtime.E999"))
        return found


def test_the_brokers_servers_are_asked_by_check_deploy_alone() -> None:
    before = set_broker(TalkativeBroker())
    try:
        assert ids(run_checks(tags=[TAG])) == ["W998"]
        assert ids(run_checks(tags=[TAG], include_deployment_checks=True)) == ["W998", "E999"]
    finally:
        set_broker(before)


# --- the reference -----------------------------------------------------------------------------


def test_the_reference_explains_every_id_and_no_other() -> None:
    package = Path(django_wsrealtime.__file__).parent
    in_code = {
        found
        for source in package.rglob("*.py")
        for found in re.findall(r'"(wsrealtime\.[EW]\d{3})"', source.read_text(encoding="utf-8"))
    }
    page = package.parent / "docs" / "reference" / "checks.md"
    explained = re.findall(r"(?m)^### `(wsrealtime\.[EW]\d{3})`", page.read_text(encoding="utf-8"))
    assert sorted(explained) == sorted(in_code)
    assert len(in_code) > 15


def test_the_app_has_no_models() -> None:
    config: AppConfig = apps.get_app_config("django_wsrealtime")
    assert list(config.get_models()) == []
