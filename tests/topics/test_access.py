"""Nobody may do anything that a rule of the topic does not allow."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.utils.translation import get_language

from django_wsrealtime.errors import ActionError, ErrorCode, ProtocolError
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.topics import Topic, access, grants
from django_wsrealtime.topics.access import Identity
from django_wsrealtime.topics.registry import Registry

from .conftest import Clock, member, visitor

Declare = Callable[..., Topic]


@pytest.fixture
def declare(topics: Registry) -> Declare:
    """``declare(can_subscribe=…, public=True)``: a topic with these attributes."""

    def make(**attributes: Any) -> Topic:
        room: type[Topic] = topics.register("room/a")(type("Room", (Topic,), attributes))
        return room()

    return make


async def refused(attempt: Awaitable[None], code: ErrorCode = ErrorCode.FORBIDDEN) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        await attempt
    assert caught.value.code is code
    assert caught.value.topic == "room/a"
    return caught.value


def allow(self: Any, user: Any, *arguments: Any) -> bool:
    return True


def deny(self: Any, user: Any, *arguments: Any) -> bool:
    return False


# can_subscribe -------------------------------------------------------------------------------


async def test_a_topic_without_a_rule_is_closed_and_the_log_says_why(
    declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    error = await refused(access.authorize(declare(), member()))
    assert "Room has no can_subscribe() and is not public" in caplog.text
    assert "can_subscribe" not in error.message


async def test_a_public_topic_without_a_rule_is_open_to_everybody(declare: Declare) -> None:
    topic = declare(public=True)
    await access.authorize(topic, member())
    await access.authorize(topic, visitor())


async def test_a_rule_decides_about_users(declare: Declare) -> None:
    def only_the_first(self: Any, user: Any) -> bool:
        return bool(user.pk == 1)

    topic = declare(can_subscribe=only_the_first)
    await access.authorize(topic, member(1))
    await refused(access.authorize(topic, member(2)))


async def test_an_async_rule_runs_in_the_event_loop(declare: Declare) -> None:
    loops = []

    async def rule(self: Any, user: Any) -> bool:
        loops.append(asyncio.get_running_loop())
        return bool(user.pk == 1)

    topic = declare(can_subscribe=rule)
    await access.authorize(topic, member(1))
    await refused(access.authorize(topic, member(2)))
    assert loops == [asyncio.get_running_loop()] * 2


async def test_a_sync_rule_runs_in_a_thread_in_the_users_language(declare: Declare) -> None:
    seen = []

    def rule(self: Any, user: Any) -> bool:
        seen.append((threading.current_thread().name[:10], get_language()))
        return True

    await access.authorize(declare(can_subscribe=rule), member(language="de"))
    assert seen == [("wsrealtime", "de")]
    assert get_language() != "de"


async def test_visitors_are_not_asked_about_unless_the_topic_is_public(declare: Declare) -> None:
    def rule(self: Any, user: Any) -> bool:
        return bool(user.stores)  # AnonymousUser has none

    await refused(access.authorize(declare(can_subscribe=rule), visitor()))


async def test_the_rule_of_a_public_topic_is_asked_about_visitors_too(declare: Declare) -> None:
    await refused(access.authorize(declare(public=True, can_subscribe=deny), visitor()))


@pytest.mark.parametrize("answer", [1, [0], "yes"])
async def test_an_answer_counts_as_in_an_if(declare: Declare, answer: object) -> None:
    await access.authorize(declare(can_subscribe=lambda self, user: answer), member())


@pytest.mark.parametrize("answer", [0, [], ""])
async def test_an_empty_answer_is_a_no(declare: Declare, answer: object) -> None:
    await refused(access.authorize(declare(can_subscribe=lambda self, user: answer), member()))


@pytest.mark.parametrize("answer", [None, object()])
async def test_an_answer_that_is_neither_yes_nor_no_is_a_fault(
    declare: Declare, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    topic = declare(can_subscribe=lambda self, user: answer)
    await refused(access.authorize(topic, member()), ErrorCode.INTERNAL)
    assert "expected True or False" in caplog.text


async def test_a_coroutine_that_a_sync_rule_returns_is_no_yes(declare: Declare) -> None:
    async def ask(user: Any) -> bool:
        return False

    await refused(access.authorize(declare(can_subscribe=lambda self, user: ask(user)), member()))


@pytest.mark.django_db(transaction=True)
async def test_a_query_set_is_asked_in_the_thread(declare: Declare) -> None:
    topic = declare(can_subscribe=lambda self, user: User.objects.filter(username="nobody"))
    await refused(access.authorize(topic, member()))


async def test_a_rule_that_raises_refuses_and_is_logged_once(
    declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    def rule(self: Any, user: Any) -> bool:
        raise RuntimeError("secret")

    before = counters().get("rules.failed", 0)
    error = await refused(
        access.authorize(declare(can_subscribe=rule), member()), ErrorCode.INTERNAL
    )
    assert "secret" not in error.message
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.text.count("RuntimeError: secret") == 1
    assert counters()["rules.failed"] == before + 1


async def test_a_rule_may_refuse_by_raising(declare: Declare, topics: Registry) -> None:
    def denied(self: Any, user: Any) -> bool:
        raise PermissionDenied

    def explained(self: Any, user: Any) -> bool:
        raise ActionError("Pay first.", retry_after=1_000)

    await refused(access.authorize(declare(can_subscribe=denied), member()))
    topic = topics.register("room/<slug:x>")(type("Paid", (Topic,), {"can_subscribe": explained}))
    with pytest.raises(ProtocolError, match="Pay first") as caught:
        await access.authorize(topic(x="b"), member())
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert caught.value.retry_after == 1_000


# Grants --------------------------------------------------------------------------------------


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "verify", lambda grant, topic, holder: grant == f"for {topic}")


@pytest.mark.usefixtures("granted")
async def test_a_grant_opens_a_topic_without_a_rule(declare: Declare) -> None:
    topic = declare()
    await access.authorize(topic, member(), grant="for room/a")
    await refused(access.authorize(topic, member(), grant="for room/b"))
    await refused(access.authorize(topic, visitor(), grant="for room/a"))


@pytest.mark.usefixtures("granted")
async def test_a_grant_does_not_overrule_a_rule(declare: Declare) -> None:
    topic = declare(can_subscribe=deny)
    await refused(access.authorize(topic, member(), grant="for room/a"))


# What is remembered --------------------------------------------------------------------------


@pytest.fixture
def asked(declare: Declare) -> tuple[Topic, list[int]]:
    """A topic, and the users that its rule was asked about."""
    users: list[int] = []

    def rule(self: Any, user: Any) -> bool:
        users.append(user.pk)
        return bool(user.pk != 3)

    return declare(can_subscribe=rule), users


async def test_an_allowance_is_remembered_for_five_seconds(
    asked: tuple[Topic, list[int]], clock: Clock
) -> None:
    topic, users = asked
    await access.authorize(topic, member())
    clock.now += 4.9
    await access.authorize(topic, member(sid="another", tab="another"))
    assert users == [1]
    await access.authorize(topic, member(2))
    assert users == [1, 2]
    clock.now += 0.2
    await access.authorize(topic, member())
    assert users == [1, 2, 1]


async def test_a_refusal_is_not_remembered(asked: tuple[Topic, list[int]]) -> None:
    topic, users = asked
    await refused(access.authorize(topic, member(3)))
    await refused(access.authorize(topic, member(3)))
    assert users == [3, 3]


async def test_what_is_remembered_can_be_forgotten(asked: tuple[Topic, list[int]]) -> None:
    topic, users = asked
    await access.authorize(topic, member(1))
    await access.authorize(topic, member(2))
    access.forget(1)
    await access.authorize(topic, member(1))
    await access.authorize(topic, member(2))
    assert users == [1, 2, 1]
    access.forget()
    await access.authorize(topic, member(2))
    assert users == [1, 2, 1, 2]


async def test_not_more_is_remembered_than_the_bound(
    asked: tuple[Topic, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_REMEMBERED", 2)
    topic, users = asked
    for pk in (10, 11, 10, 12, 10, 11):
        await access.authorize(topic, member(pk))
    assert users == [10, 11, 12, 11]


async def test_visitors_are_told_apart_by_their_sessions(declare: Declare) -> None:
    asked = []

    def rule(self: Any, user: Any) -> bool:
        asked.append(user)
        return True

    topic = declare(public=True, can_subscribe=rule)
    await access.authorize(topic, visitor(session_key="a", sid="1"))
    await access.authorize(topic, visitor(session_key="a", sid="2"))
    assert len(asked) == 1
    await access.authorize(topic, visitor(session_key="b", sid="1"))
    await access.authorize(topic, visitor(sid="1"))
    await access.authorize(topic, visitor(sid="2"))
    assert len(asked) == 4


class Gate:
    """An async rule that waits until the test opens it."""

    def __init__(self) -> None:
        self.asked = 0
        self.opened = asyncio.Event()
        self.answer = True

    async def rule(self, user: Any) -> bool:
        self.asked += 1
        await self.opened.wait()
        return self.answer


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
def gated(declare: Declare, gate: Gate) -> Topic:
    async def rule(self: Any, user: Any) -> bool:
        return await gate.rule(user)

    return declare(can_subscribe=rule)


async def until_asked(gate: Gate, times: int) -> None:
    while gate.asked < times:
        await asyncio.sleep(0)


@pytest.mark.parametrize("answer", [True, False])
async def test_those_who_ask_the_same_at_once_share_one_answer(
    gated: Topic, gate: Gate, answer: bool
) -> None:
    gate.answer = answer
    asking = [asyncio.ensure_future(access.authorize(gated, member())) for _ in range(50)]
    await until_asked(gate, 1)
    gate.opened.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert gate.asked == 1
    assert all((result is None) is answer for result in results)


async def test_a_fault_is_shared_too(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    async def rule(self: Any, user: Any) -> bool:
        await asyncio.sleep(0)
        raise RuntimeError

    topic = declare(can_subscribe=rule)
    results = await asyncio.gather(
        *(access.authorize(topic, member()) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, ProtocolError) for result in results)
    assert len(caplog.records) == 1


async def test_if_the_one_who_asks_gives_up_another_one_asks(gated: Topic, gate: Gate) -> None:
    first = asyncio.ensure_future(access.authorize(gated, member()))
    await until_asked(gate, 1)
    second = asyncio.ensure_future(access.authorize(gated, member()))
    await asyncio.sleep(0)
    first.cancel()
    await until_asked(gate, 2)
    gate.opened.set()
    await second


async def test_an_answer_from_before_a_change_is_not_remembered(gated: Topic, gate: Gate) -> None:
    before = asyncio.ensure_future(access.authorize(gated, member()))
    await until_asked(gate, 1)
    access.forget(1)
    gate.opened.set()
    await before
    await access.authorize(gated, member())
    assert gate.asked == 2


async def test_whoever_asks_after_a_change_does_not_share_an_answer_from_before(
    gated: Topic, gate: Gate
) -> None:
    before = asyncio.ensure_future(access.authorize(gated, member()))
    await until_asked(gate, 1)
    access.forget(1)
    after = asyncio.ensure_future(access.authorize(gated, member()))
    await until_asked(gate, 2)
    gate.opened.set()
    await asyncio.gather(before, after)


# can_publish, can_whisper --------------------------------------------------------------------

MANNERS = pytest.mark.parametrize(
    ("ask", "by", "rule"),
    [
        (access.authorize_publish, "publish_by", "can_publish"),
        (access.authorize_whisper, "whisper_by", "can_whisper"),
    ],
)


@MANNERS
async def test_only_the_server_speaks_by_default(
    declare: Declare, ask: Any, by: str, rule: str
) -> None:
    topic = declare(**{"can_subscribe": allow, rule: allow})
    await refused(ask(topic, member(), "typing", {}))


@MANNERS
async def test_subscribers_speak_where_they_may(
    declare: Declare, ask: Any, by: str, rule: str
) -> None:
    await ask(declare(**{by: "subscribers", "can_subscribe": allow}), member(), "typing", {})


@MANNERS
async def test_who_may_not_subscribe_does_not_speak(
    declare: Declare, ask: Any, by: str, rule: str
) -> None:
    topic = declare(**{by: "subscribers", "can_subscribe": deny, rule: allow})
    await refused(ask(topic, member(), "typing", {}))


@MANNERS
async def test_a_rule_sees_what_is_said(declare: Declare, ask: Any, by: str, rule: str) -> None:
    def only_typing(self: Any, user: Any, event: str, data: Any) -> bool:
        return event == "typing" and data == {"on": True}

    topic = declare(**{by: "subscribers", "can_subscribe": allow, rule: only_typing})
    await ask(topic, member(), "typing", {"on": True})
    await refused(ask(topic, member(), "typing", {"on": False}))
    await refused(ask(topic, member(), "upsert", {"on": True}))


# Who -----------------------------------------------------------------------------------------


def test_a_peer_that_names_no_topic_learns_nothing_of_those_there_are(topics: Registry) -> None:
    topics.register("secret-plans/<int:pk>")(type("Plans", (Topic,), {}))
    for name in ("secret-plan/7", "secret-plans/007", "x" * 199):
        with pytest.raises(ProtocolError) as caught:
            access.find(name)
        assert caught.value.code is ErrorCode.UNKNOWN_TOPIC
        assert caught.value.topic == name
        assert "<int:pk>" not in caught.value.message
        assert len(caught.value.message) < 150
    assert access.find("secret-plans/7").name == "secret-plans/7"


def test_a_member_is_known_by_primary_key_and_name() -> None:
    identity = Identity(user=User(pk=7, username="ada"), sid="s")
    assert identity.member == "7"
    assert (identity.sender.id, identity.sender.name) == ("7", "ada")
    named = Identity(user=User(pk=7, username="ada", first_name="Ada", last_name="L"), sid="s")
    assert named.sender.name == "Ada L"


def test_a_visitor_is_one_member_in_all_tabs_and_the_session_stays_secret() -> None:
    one, same, other = (
        visitor(session_key=key, sid=sid) for key, sid in [("k", "1"), ("k", "2"), ("l", "1")]
    )
    assert one.member == same.member != other.member
    assert one.member.startswith("anon:")
    assert one.limits_key == one.member
    assert "k" not in one.member.removeprefix("anon:")
    assert visitor(sid="1").member != visitor(sid="2").member
    assert one.sender.name == ""


def test_a_user_and_a_visitor_never_share_limits() -> None:
    assert member(1).limits_key == "user:1"


def test_secrets_do_not_show_in_logs() -> None:
    shown = repr(visitor(session_key="hush", headers={"cookie": "hush"}))
    assert "hush" not in shown
