"""Saves rows for the dashboard until it is stopped."""

import signal
from argparse import ArgumentParser
from contextlib import suppress
from threading import Event
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dashboard.models import Store
from dashboard.simulator import Simulator


class Command(BaseCommand):
    help = (
        "Simulates customers, a kitchen and a market by saving real rows. Pages of other processes "
        "follow it over Redis (REDIS_URL); without Redis only the process that saves can tell them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rate", type=float, default=4.0, help="saves per second (default 4)")
        parser.add_argument("--seconds", type=float, help="stop after so many (default: never)")
        parser.add_argument("--seed", type=int, default=7, help="of the random choices (default 7)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["rate"] <= 200:
            raise CommandError(f"--rate is {options['rate']}: expected more than 0, at most 200.")
        if not Store.objects.exists():
            raise CommandError("There are no stores to simulate: run 'manage.py seed' first.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        simulator = Simulator(seed=options["seed"], rate=options["rate"])
        self.stdout.write(f"The simulator saves {options['rate']:g} times a second.")
        self.stdout.flush()
        with suppress(KeyboardInterrupt):
            simulator.run(Event(), seconds=options["seconds"])
        self.stdout.write(f"The simulator saved {simulator.saves} times.")
