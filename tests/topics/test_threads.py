"""Sync code runs in threads of our own, beside each other, with clean connections."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils.translation import get_language, override

from django_wsrealtime.conf import conf
from django_wsrealtime.errors import ErrorCode, ProtocolError
from django_wsrealtime.instrumentation import counters
from django_wsrealtime.topics import threads


async def test_the_result_and_the_exception_come_back() -> None:
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)


async def test_context_variables_and_the_language_are_the_callers() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("here")
    with override("de"):
        assert await threads.run(lambda: (variable.get(), get_language())) == ("here", "de")
    assert await threads.run(get_language) == get_language() != "de"


async def test_one_call_that_blocks_delays_no_other(settings: Any) -> None:
    settings.WSREALTIME = {"THREADS": 2}
    release = threading.Event()
    blocked = asyncio.ensure_future(threads.run(release.wait, 10))
    try:
        for _ in range(20):
            await asyncio.wait_for(threads.run(threading.get_ident), 2)
        assert not blocked.done()
    finally:
        release.set()
    assert await blocked


async def test_as_many_run_at_once_as_the_settings_say(settings: Any) -> None:
    settings.WSREALTIME = {"THREADS": 3}
    together = threading.Barrier(3)
    await asyncio.gather(*(threads.run(together.wait, 5) for _ in range(3)))


async def test_more_than_can_wait_are_refused_and_counted(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WSREALTIME = {"THREADS": 1}
    monkeypatch.setattr(threads, "MAX_WAITING", 2)
    before = counters().get("threads.refused", 0)
    release = threading.Event()
    waiting = [asyncio.ensure_future(threads.run(release.wait, 10)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ProtocolError) as caught:
        await threads.run(release.wait, 10)
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert caught.value.retry_after
    assert counters()["threads.refused"] == before + 1
    release.set()
    assert all(await asyncio.gather(*waiting))
    assert await threads.run(lambda: 1) == 1


async def test_a_call_that_nobody_waits_for_any_more_does_not_begin(settings: Any) -> None:
    settings.WSREALTIME = {"THREADS": 1}
    release, begun = threading.Event(), threading.Event()
    first = asyncio.ensure_future(threads.run(release.wait, 10))
    second = asyncio.ensure_future(threads.run(begun.set))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    release.set()
    await first
    assert await threads.run(lambda: True)
    assert not begun.is_set()


@pytest.mark.django_db(transaction=True)
async def test_a_connection_that_is_too_old_is_replaced_before_the_next_call(
    settings: Any,
) -> None:
    settings.WSREALTIME = {"THREADS": 1}

    def keep() -> object:
        connection.ensure_connection()
        connection.close_at = None
        return connection.connection

    def opened() -> object:
        connection.ensure_connection()
        return connection.connection

    def age() -> None:
        connection.close_at = 0.0

    kept = await threads.run(keep)
    assert await threads.run(opened) is kept
    await threads.run(age)
    assert await threads.run(opened) is not kept


@pytest.mark.django_db(transaction=True)
async def test_a_call_leaves_no_connection_open() -> None:
    def opened() -> object:
        connection.ensure_connection()
        return connection.connection

    def is_open() -> bool:
        return connection.connection is not None

    await threads.run(opened)
    assert not await threads.run(is_open)


async def test_connections_are_looked_at_before_and_after_each_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    monkeypatch.setattr(threads, "close_old_connections", lambda: done.append("look"))
    await threads.run(done.append, "call")
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    assert done == ["look", "call", "look", "look", "look"]


async def test_a_test_may_have_the_code_run_in_its_own_thread() -> None:
    here = await sync_to_async(threading.get_ident)()
    with threads.share_thread():
        assert await threads.run(threading.get_ident) == here
    assert await threads.run(threading.get_ident) != here


def test_the_number_of_threads_has_a_default() -> None:
    assert conf().threads == 16
