"""Serves the example with daphne, static files included."""

from argparse import ArgumentParser
from contextlib import nullcontext
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.management.base import BaseCommand

from dashboard.simulator import Simulator, SimulatorThread
from django_wsrealtime.brokers import get_broker
from mysite.asgi import application


class Command(BaseCommand):
    help = "Serves the example on daphne in this one process, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--rate", type=float, default=0.0, help="simulated saves per second")
        parser.add_argument("--seed", type=int, default=7, help="of the simulator (default 7)")

    def handle(self, *args: Any, **options: Any) -> None:
        server = Server(
            ASGIStaticFilesHandler(application),
            endpoints=build_endpoint_description_strings(
                host=options["host"], port=options["port"]
            ),
            server_name="example",
            ready_callable=lambda: self.tell(
                f"Serving http://{options['host']}:{options['port']}/"
            ),
        )
        simulator = (
            SimulatorThread(Simulator(seed=options["seed"], rate=options["rate"]))
            if options["rate"]
            else nullcontext()
        )
        # The simulator may publish before the first page is asked for.
        get_broker().serves_browsers()
        with simulator:
            server.run()

    def tell(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
