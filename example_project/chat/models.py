"""Rooms and what was said in them."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from django_wsrealtime import publish


class RoomQuerySet(models.QuerySet["Room"]):
    def open_to(self, user: Any) -> "RoomQuerySet":
        """The rooms a user may enter: staff every room, others those that are not for staff."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_staff else self.filter(staff_only=False)


class Room(models.Model):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=40)
    about = models.CharField(max_length=120, blank=True)
    staff_only = models.BooleanField(default=False)

    objects = RoomQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("chat:room", args=[self.slug])

    def say(self, *, author: Any, text: str, key: str = "") -> "Message":
        """Saves a message once per `key` and publishes it to everyone in the room."""
        message, created = self.messages.get_or_create(
            key=key or uuid.uuid4().hex, defaults={"author": author, "text": text}
        )
        if created:
            publish(f"room/{self.slug}", "message", message.as_event(), key=message.key)
        return message


class Message(models.Model):
    MAX_LENGTH = 500

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.CharField(max_length=MAX_LENGTH)
    key = models.CharField(max_length=64)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["room", "key"], name="said_once_per_key")]

    def __str__(self) -> str:
        return self.text

    def as_event(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "author": self.author.get_username(),
            "text": self.text,
            "time": self.created.isoformat(),
        }
