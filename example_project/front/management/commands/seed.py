"""Fills an empty database with the example's data."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from front.seed import seed_once


class Command(BaseCommand):
    help = "Fills an empty database with the example's people, stores, orders, prices and rooms."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=7, help="of the random data (default 7)")

    def handle(self, *args: Any, **options: Any) -> None:
        filled = seed_once(options["seed"])
        self.stdout.write("The data is in place." if filled else "There is data already: kept.")
