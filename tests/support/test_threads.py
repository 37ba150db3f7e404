"""A test's connections in the thread of ``sync_to_async`` end with it."""

import pytest
from asgiref.sync import sync_to_async
from channels.db import aclose_old_connections
from django.contrib.auth import get_user_model


@pytest.mark.django_db(transaction=True)
async def test_a_connection_is_opened_in_the_shared_thread() -> None:
    assert await sync_to_async(get_user_model().objects.count)() == 0


async def test_a_test_without_database_finds_none_there() -> None:
    await aclose_old_connections()
