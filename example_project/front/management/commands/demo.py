"""Prepares the example, serves it, and keeps its rows moving."""

import signal
import socket
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from front.seed import PASSWORD, PEOPLE, seed_once

HOST = "127.0.0.1"
PORTS_TRIED = 50
SECONDS_TO_END = 4


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(first: int, count: int) -> list[int]:
    """The first `count` ports from `first` on that nothing listens on."""
    found = [port for port in range(first, first + PORTS_TRIED) if is_free(port)]
    if len(found) < count:
        raise CommandError(f"No free port from {first} on: name another one with --port.")
    return found[:count]


@contextmanager
def processes(*commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs management commands beside each other and ends whatever still runs at the end."""
    manage = Path(settings.BASE_DIR) / "manage.py"
    running: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for command in commands:
            # A session of its own: Ctrl-C reaches this process alone, which then ends the others.
            running.append(
                subprocess.Popen([sys.executable, str(manage), *command], start_new_session=True)
            )
        yield running
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Command(BaseCommand):
    help = (
        "Migrates and seeds an SQLite database, starts a simulator and serves the example. "
        "With REDIS_URL: two server processes and the simulator in a third one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the next free one is taken")
        parser.add_argument(
            "--rate", type=float, default=4.0, help="simulated saves per second, 0: none"
        )
        parser.add_argument("--seed", type=int, default=7, help="of all random data (default 7)")
        parser.add_argument("--fresh", action="store_true", help="forget the data of earlier runs")

    def handle(self, *args: Any, **options: Any) -> None:
        self.prepare(fresh=options["fresh"], seed=options["seed"])
        simulated = ["--rate", str(options["rate"]), "--seed", str(options["seed"])]
        if settings.REDIS_URL:
            ports = free_ports(options["port"], 2)
            self.announce(ports)
            commands = [["serve", "--port", str(port)] for port in ports]
            if options["rate"]:
                commands.append(["simulate", *simulated])
            with processes(*commands) as running:
                self.wait_for_any(running)
        else:
            ports = free_ports(options["port"], 1)
            self.announce(ports)
            call_command("serve", "--port", str(ports[0]), *simulated)

    def prepare(self, *, fresh: bool, seed: int) -> None:
        database = Path(settings.DATABASES["default"]["NAME"])
        database.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            for ending in ("", "-wal", "-shm"):
                Path(f"{database}{ending}").unlink(missing_ok=True)
        call_command("migrate", verbosity=0)
        seed_once(seed)

    def announce(self, ports: list[int]) -> None:
        addresses = " and ".join(f"http://{HOST}:{port}/" for port in ports)
        names = " or ".join(PEOPLE)
        self.stdout.write(f"Open {addresses} and enter as {names} (password: {PASSWORD}).")
        if len(ports) > 1:
            self.stdout.write("Two server processes over one Redis: watch one page on each.")
        self.stdout.write("Ctrl-C ends it.")
        self.stdout.flush()

    def wait_for_any(self, running: list[subprocess.Popen[bytes]]) -> None:
        """Returns on Ctrl-C or SIGTERM; raises if a process ends before that."""
        for process in cycle(running):
            try:
                status = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            except KeyboardInterrupt:
                return
            command = " ".join(map(str, process.args))  # type: ignore[arg-type]
            raise CommandError(f"'{command}' ended with status {status}; see its output above.")
