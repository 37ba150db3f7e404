"""The example's first data, the same for the same seed."""

from random import Random

from django.contrib.auth import get_user_model
from django.db import transaction

from chat import seed as chat
from dashboard import seed as dashboard
from django_wsrealtime import suppress_publishing

# Shown on the login page: this project is a demonstration on the reader's own machine.
PASSWORD = "demo"
PEOPLE = {
    "ada": "Runs both stores; staff, so the back office is open to her",
    "grace": "Works at Harbour Street",
}


@transaction.atomic
def seed_once(seed: int = 7) -> bool:
    """Fills an empty database; returns whether it was empty."""
    users = get_user_model().objects
    if users.exists():
        return False
    people = [users.create_user(name, password=PASSWORD, is_staff=name == "ada") for name in PEOPLE]
    with suppress_publishing():  # nobody is watching yet
        dashboard.seed(Random(seed), people)
        chat.seed(people)
    return True
