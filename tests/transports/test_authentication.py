"""Who opened a connection, where a project's middleware has put a user into the scope."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.auth import UserLazyObject
from django.contrib.auth import get_user_model
from django.utils.functional import SimpleLazyObject

from django_wsrealtime.transports.authentication import identify

User = get_user_model()


def scope(user: Any) -> dict[str, Any]:
    return {"type": "websocket", "headers": [(b"origin", b"http://testserver")], "user": user}


async def test_a_lazy_user_is_looked_up_in_a_thread_that_may_query() -> None:
    def look_up() -> Any:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return User(pk=5, username="ada")

    identity = await identify(scope(SimpleLazyObject(look_up)), sid="s", tab="", token=None)
    assert type(identity.user) is User


@pytest.mark.parametrize("lazy", [False, True])
async def test_a_user_that_is_known_stands(lazy: bool) -> None:
    user: Any = User(pk=5, username="ada")
    if lazy:
        user = UserLazyObject()
        user._wrapped = User(pk=5, username="ada")
    identity = await identify(scope(user), sid="s", tab="", token=None)
    assert type(identity.user) is User
    assert identity.member == "5"


async def test_a_user_that_channels_has_not_found_yet_is_found_by_the_session() -> None:
    identity = await identify(scope(UserLazyObject()), sid="s", tab="", token=None)
    assert identity.is_anonymous
