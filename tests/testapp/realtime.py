"""Topics of the test site."""

from __future__ import annotations

from typing import Any

from django_wsrealtime import (
    History,
    ModelStream,
    Presence,
    Topic,
    action,
    disconnect,
    register,
)
from tests.testapp.models import Parcel


@register("site/<slug:slug>")
class Site(Topic):
    """Open to everybody; its actions publish from inside the server."""

    public = True
    publish_by = "subscribers"
    whisper_by = "subscribers"
    presence = Presence()
    history = History(size=1_000, ttl=600)

    @action
    def say(self, ctx: Any, event: str, data: Any, times: int = 1) -> int:
        for _ in range(times):
            self.publish(event, data)
        return times

    @action
    async def echo(self, ctx: Any, text: str) -> str:
        return text

    @action
    def throw_out(self, ctx: Any, user: str) -> None:
        disconnect(user)


@register("depot/<int:depot>")
class Depot(ModelStream):
    """The parcels of a depot, for everybody to see."""

    model = Parcel
    fields = ("id", "label", "weight")
    partition_by = {"depot": "depot"}
    history = History(size=500, ttl=600)
    public = True
