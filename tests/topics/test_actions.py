"""What a browser calls is carried out: with valid arguments, not too often, beside all others."""

import asyncio
import decimal
import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from django_wsrealtime.errors import ActionError, ErrorCode, ProtocolError
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.topics import Topic, action, actions
from django_wsrealtime.topics.access import Identity
from django_wsrealtime.topics.actions import Context, perform
from django_wsrealtime.topics.registry import Registry

from .conftest import Clock, member, visitor

Declare = Callable[..., Topic]


@pytest.fixture
def declare(topics: Registry) -> Declare:
    """``declare(method, …)``: a topic with these actions."""

    def make(*methods: Callable[..., Any]) -> Topic:
        attributes = {method.__name__: method for method in methods}
        board: type[Topic] = topics.register("board/<int:pk>")(type("Board", (Topic,), attributes))
        return board(pk=1)

    return make


async def call(
    topic: Topic, name: str = "go", data: Any = None, *, who: Identity | None = None
) -> Any:
    context = Context(identity=who or member(), key="k")
    return msgspec.json.decode(await perform(topic, name, data, context))


async def refused(
    topic: Topic, name: str = "go", data: Any = None, **options: Any
) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        await call(topic, name, data, **options)
    assert caught.value.topic == topic.name
    return caught.value


def written(method: Callable[..., Any], *, asynchronous: bool) -> Callable[..., Any]:
    """The same method, or one that is written with ``async def``."""

    async def go(self: Any, ctx: Context) -> Any:
        return method(self, ctx)

    return go if asynchronous else method


async def test_a_sync_action_runs_in_a_thread(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context, order_id: int, note: str = "") -> dict[str, Any]:
        return {"pk": self.pk, "order": order_id, "thread": threading.current_thread().name[:10]}

    assert await call(declare(go), data={"order_id": 5}) == {
        "pk": 1,
        "order": 5,
        "thread": "wsrealtime",
    }


async def test_an_async_action_runs_in_the_event_loop(declare: Declare) -> None:
    loops = []

    @action
    async def go(self: Any, ctx: Context, order_id: int) -> int:
        loops.append(asyncio.get_running_loop())
        return order_id

    assert await call(declare(go), data={"order_id": 5}) == 5
    assert loops == [asyncio.get_running_loop()]


async def test_an_action_knows_its_caller(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context) -> list[Any]:
        headers = dict(ctx.headers)
        return [ctx.user.pk, ctx.tab, ctx.key, headers, ctx.language, get_language(), ctx.session]

    who = member(7, language="de", headers={"user-agent": "x"})
    answer = await call(declare(go), who=who)
    assert answer == [7, "tab7", "k", {"user-agent": "x"}, "de", "de", None]
    assert get_language() != "de"


async def test_an_async_action_speaks_the_callers_language(declare: Declare) -> None:
    @action
    async def go(self: Any, ctx: Context) -> Any:
        await asyncio.sleep(0)
        return _("Yes")

    assert await call(declare(go), who=member(language="de")) == "Ja"


async def test_what_is_returned_may_be_what_django_users_return(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context) -> dict[str, Any]:
        return {"label": _("Yes"), "total": decimal.Decimal("1.50"), "id": 2**60}

    answer = await call(declare(go), who=member(language="fr"))
    assert answer == {"label": "Oui", "total": "1.50", "id": str(2**60)}


async def test_nothing_returned_is_null(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context) -> None: ...

    assert await call(declare(go)) is None


async def test_a_handler_that_blocks_delays_nobody_else(declare: Declare) -> None:
    release = threading.Event()

    @action
    def block(self: Any, ctx: Context) -> bool:
        return release.wait(3)

    @action
    def echo(self: Any, ctx: Context, number: int) -> int:
        return number

    topic = declare(block, echo)
    blocked = asyncio.ensure_future(call(topic, "block"))
    try:
        for number in range(50):
            assert await asyncio.wait_for(call(topic, "echo", {"number": number}), 1) == number
        assert not blocked.done()
    finally:
        release.set()
    assert await blocked


@pytest.mark.django_db(transaction=True)
async def test_no_transaction_is_opened(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context) -> bool:
        return bool(transaction.get_connection().in_atomic_block)

    assert await call(declare(go)) is False


# Refusals ------------------------------------------------------------------------------------


async def test_an_unknown_action_is_answered_with_those_there_are(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context) -> None: ...

    @action
    def come(self: Any, ctx: Context) -> None: ...

    def plain(self: Any, ctx: Context) -> None: ...

    topic = declare(go, come, plain)
    for name in ("plain", "publish", "__init__", "can_subscribe", "x" * 100, ""):
        error = await refused(topic, name)
        assert error.code is ErrorCode.UNKNOWN_ACTION
        assert "'come', 'go'" in error.message


async def test_a_wrong_argument_reaches_no_method(declare: Declare) -> None:
    called = []

    @action
    def go(self: Any, ctx: Context, order_id: int) -> None:
        called.append(order_id)

    error = await refused(declare(go), data={"order_id": "5"})
    assert error.code is ErrorCode.INVALID_DATA
    assert "'order_id'" in error.message
    assert not called


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ActionError("Too late."), "invalid_data", "Too late."),
        (ActionError("Sold.", code="sold_out"), "sold_out", "Sold."),
        (PermissionDenied("Not yours."), "forbidden", "Not yours."),
        (PermissionDenied(), "forbidden", "You may not do this."),
        (Http404("No such order."), "invalid_data", "No such order."),
    ],
)
async def test_a_method_may_refuse(
    declare: Declare,
    caplog: pytest.LogCaptureFixture,
    raised: Exception,
    code: str,
    message: str,
    asynchronous: bool,
) -> None:
    def go(self: Any, ctx: Context) -> None:
        raise raised

    error = await refused(declare(action(written(go, asynchronous=asynchronous))))
    assert (str(getattr(error.code, "value", error.code)), error.message) == (code, message)
    assert not caplog.records


async def test_a_refusal_may_say_when_to_try_again(declare: Declare) -> None:
    @action
    def go(self: Any, ctx: Context) -> None:
        raise ActionError("Later.", retry_after=2_000)

    assert (await refused(declare(go))).retry_after == 2_000


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_method_that_fails_is_logged_once_and_tells_nothing(
    declare: Declare, caplog: pytest.LogCaptureFixture, asynchronous: bool
) -> None:
    def go(self: Any, ctx: Context) -> None:
        raise RuntimeError("secret")

    before = counters().get("actions.failed", 0)
    error = await refused(declare(action(written(go, asynchronous=asynchronous))))
    assert error.code is ErrorCode.INTERNAL
    assert "secret" not in error.message
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.text.count("RuntimeError: secret") == 1
    assert counters()["actions.failed"] == before + 1


async def test_a_result_that_json_cannot_say_is_a_fault_of_the_server(
    declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    @action
    def go(self: Any, ctx: Context) -> Any:
        return object()

    assert (await refused(declare(go))).code is ErrorCode.INTERNAL
    assert "the result of" in caplog.text
    assert "has no form in JSON" in caplog.text


# Permissions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        ("shop.may", True),
        ("shop.other", False),
        (lambda user: user.pk == 1, True),
        (lambda user: user.pk == 2, False),
    ],
)
async def test_a_permission_is_asked_for(
    declare: Declare, permission: Any, allowed: bool, asynchronous: bool
) -> None:
    called = []

    def go(self: Any, ctx: Context) -> None:
        called.append(1)

    topic = declare(action(permission=permission)(written(go, asynchronous=asynchronous)))
    if allowed:
        await call(topic)
        assert called
    else:
        assert (await refused(topic)).code is ErrorCode.FORBIDDEN
        assert not called


# Throttles -----------------------------------------------------------------------------------


@pytest.fixture
def throttled(declare: Declare) -> Topic:
    @action(throttle="2/m")
    def go(self: Any, ctx: Context) -> None: ...

    @action(throttle="1/s")
    def come(self: Any, ctx: Context) -> None: ...

    return declare(go, come)


async def test_a_throttle_lets_its_number_through_at_once_and_then_one_by_one(
    throttled: Topic, clock: Clock
) -> None:
    await call(throttled)
    await call(throttled)
    error = await refused(throttled)
    assert error.code is ErrorCode.RATE_LIMITED
    assert "2/m" in error.message
    assert error.retry_after == 30_000
    clock.now += 29
    assert (await refused(throttled)).retry_after == 1_000
    clock.now += 1
    await call(throttled)
    await refused(throttled)


async def test_a_throttle_counts_one_person_and_one_action(throttled: Topic) -> None:
    await call(throttled)
    await call(throttled)
    await refused(throttled)
    await call(throttled, "come")
    await call(throttled, who=member(2))
    await call(throttled, who=visitor())


async def test_a_throttle_counts_all_tabs_and_all_topics_of_a_person(throttled: Topic) -> None:
    await call(throttled, who=member(1, sid="a", tab="a"))
    await call(type(throttled)(pk=2), who=member(1, sid="b", tab="b"))
    assert (await refused(throttled)).code is ErrorCode.RATE_LIMITED


async def test_invalid_calls_count_too(throttled: Topic) -> None:
    for _number in range(2):
        assert (await refused(throttled, data={"x": 1})).code is ErrorCode.INVALID_DATA
    assert (await refused(throttled, data={"x": 1})).code is ErrorCode.RATE_LIMITED


async def test_not_more_rates_are_measured_than_the_bound(
    throttled: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions._throttles._buckets, "most", 2)
    for pk in (1, 2, 3):
        await call(throttled, "come", who=member(pk))
    await refused(throttled, "come", who=member(3))
    await call(throttled, "come", who=member(1))
