"""What browsers may follow and do in a chat room."""

from typing import Any

from django.contrib.auth.models import User

from chat.models import Message, Room
from django_wsrealtime import ActionError, History, Presence, Topic, action, register

CHEERS = ("heart", "star", "cup")


@register("room/<slug:slug>")
class ChatRoom(Topic):
    """One room: messages are saved by the server, cheers go from member to member."""

    history = History(size=200, ttl=600)
    presence = Presence()
    publish_by = "subscribers"
    whisper_by = "subscribers"

    def can_subscribe(self, user: User) -> bool:
        return Room.objects.open_to(user).filter(slug=self.slug).exists()

    def can_publish(self, user: User, event: str, data: Any) -> bool:
        return event == "cheer" and data in [{"name": name} for name in CHEERS]

    def can_whisper(self, user: User, event: str, data: Any) -> bool:
        return event == "typing" and data == {}

    def snapshot(self) -> dict[str, Any]:
        messages = Message.objects.filter(room__slug=self.slug).select_related("author")
        return {"messages": [message.as_event() for message in messages.order_by("-pk")[:50]][::-1]}

    @action(throttle="3/s")
    def say(self, ctx: Any, text: str) -> dict[str, Any]:
        text = text.strip()[: Message.MAX_LENGTH]
        if not text:
            raise ActionError("An empty message was not sent.")
        room = Room.objects.get(slug=self.slug)
        return {"key": room.say(author=ctx.user, text=text, key=ctx.key or "").key}
