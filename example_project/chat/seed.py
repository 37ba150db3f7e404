"""The chat's first rooms and messages."""

from collections.abc import Sequence
from typing import Any

from chat.models import Message, Room

LOBBY = (
    (0, "Morning! The new arabica has landed, two sacks."),
    (1, "Great, I'll roast a small batch before we open."),
    (0, "Keep a cup for me. How does the dashboard look?"),
    (1, "Orders move by themselves now. Nobody has to press reload any more."),
    (0, "Open it next to mine and mark something ready, I'll see it here."),
)
KITCHEN = (
    (1, "Oven two is slow today, give pastries five more minutes."),
    (0, "Noted. I'll tell the counter."),
)


def seed(users: Sequence[Any]) -> None:
    """Two rooms for everyone and one for staff."""
    lobby = Room.objects.create(slug="lobby", name="Lobby", about="Everyone, about everything")
    kitchen = Room.objects.create(slug="kitchen", name="Kitchen", about="What is in the oven")
    Room.objects.create(
        slug="office", name="Back office", about="Only staff may enter", staff_only=True
    )
    for room, said in ((lobby, LOBBY), (kitchen, KITCHEN)):
        for number, (author, text) in enumerate(said):
            Message.objects.create(room=room, author=users[author], text=text, key=f"seed-{number}")
