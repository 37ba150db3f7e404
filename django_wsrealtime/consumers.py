"""A base for your own Channels consumers that follow topics beside their own protocol."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import AnonymousUser

from .instrumentation import count, logger
from .protocol.codec import Kind
from .protocol.position import Start
from .topics import access
from .topics.access import Identity
from .topics.base import Topic
from .topics.events import Event
from .topics.listen import asubscribe
from .topics.registry import registry
from .transports.origin import request_of


class TopicConsumer(AsyncJsonWebsocketConsumer):
    """A Channels consumer that receives the events of topics as method calls.

    For protocols of your own: what it sends is up to you. Groups, ``group_send`` and everything
    else of Channels works beside it::

        class Ticker(TopicConsumer):
            async def connect(self):
                await self.accept()
                await self.subscribe("quotes/ACME")

            async def on_price(self, event):             # events named "price"
                await self.send_json(event.data)

            async def on_reset(self, event):             # what was shown is stale
                await self.send_json({"reset": event.data})

    Methods are called for events that the *server* published. What members published goes to
    :meth:`on_member_event`, whatever they named it, so that nobody calls a method from outside.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sid = secrets.token_urlsafe(12)
        self._listening: dict[str, asyncio.Task[None]] = {}

    async def subscribe(self, topic: str | Topic, *, since: Start = None, ask: bool = True) -> None:
        """Receive a topic's events from now on.

        Args:
            topic: a topic or its name.
            since: where to begin; ``None``: now.
            ask: whether the topic's rule must allow ``scope["user"]``.

        Raises:
            UnknownTopic: no route matches.
            ProtocolError: the rule does not allow it, or the topic's snapshot failed.
        """
        source = registry.resolve(topic)
        if ask:
            await access.authorize(source, self.identity, grant=None)
        await self.unsubscribe(source)
        joined = asyncio.Event()
        task = asyncio.create_task(self._listen(source, since, joined))
        self._listening[source.name] = task
        task.add_done_callback(lambda _: joined.set())
        await joined.wait()
        if task.done():
            del self._listening[source.name]
            task.result()

    async def unsubscribe(self, topic: str | Topic) -> None:
        """Receive a topic's events no longer.

        Args:
            topic: a topic or its name; one that is not followed is no error.
        """
        task = self._listening.pop(str(topic), None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def identity(self) -> Identity:
        """Who is connected, as topics' rules see it."""
        return Identity.of(
            request_of(self.scope),
            user=self.scope.get("user") or AnonymousUser(),
            session=self.scope.get("session"),
            sid=self._sid,
        )

    async def on_reset(self, event: Event) -> None:
        """What is known of the topic is stale; ``event.data`` is the snapshot, if it has one."""

    async def on_member_event(self, event: Event) -> None:
        """A member published something."""

    async def on_event(self, event: Event) -> None:
        """The server published an event for which there is no method of its own."""

    async def websocket_disconnect(self, message: Any) -> None:
        """End every subscription, then what Channels does."""
        for topic in list(self._listening):
            await self.unsubscribe(topic)
        await super().websocket_disconnect(message)

    async def _listen(self, topic: Topic, since: Start, joined: asyncio.Event) -> None:
        events = asubscribe(topic, since=since, joined=joined.set)
        async with contextlib.aclosing(events):
            async for event in events:
                await self._dispatch(event)

    def _handler(self, event: str) -> Callable[[Event], Awaitable[None]]:
        """The method for an event's name; those that mean something else are none."""
        name = f"on_{event}"
        method = getattr(self, name, None)
        if hasattr(TopicConsumer, name) or not inspect.iscoroutinefunction(method):
            return self.on_event
        return method

    async def _dispatch(self, event: Event) -> None:
        handler: Callable[[Event], Awaitable[None]]
        if event.is_reset:
            handler = self.on_reset
        elif event.kind == Kind.CLIENT:
            handler = self.on_member_event
        else:
            handler = self._handler(event.event)
        try:
            await handler(event)
        except Exception:
            count("consumer.failed")
            logger.exception("%s failed in the event %r.", type(self).__name__, event.event)
            await self.close(code=1011)
