"""One broadcast to many subscribers: a stock consumer and ours, side by side.

    python -m tests.benchmarks.fanout --subscribers 500 --runs 5

For each run, server and side a fresh server is started on a core of its own. Two measurements:

* *closed loop*: 20 broadcasts are under way at any time. CPU time of the server divided by
  deliveries, and deliveries per second.
* *steady*: 10 broadcasts per second. Time from publishing to reading, of every delivery.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.processes import ChildProcess, accepts, free_port
from tests.support.redis import RedisServer
from tests.support.servers import ROOT, ServerKind, ServerProcess

from . import machine, report
from .crowd import Crowd, Driver
from .payload import age
from .publisher import READY
from .sides import SIDES, Side

OUTSTANDING = 20
RATE = 10.0
WARM_UP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One side on one server, once."""

    run: int
    server: str
    side: str
    subscribers: int
    cpu_us: float
    """Microseconds of server CPU per delivery, closed loop."""
    per_second: float
    """Deliveries per second, closed loop."""
    server_busy: float
    """Share of its core that the server used."""
    others_busy: float
    """Share of the other cores that was busy: load client, publisher, Redis and strangers."""
    cpu_us_steady: float
    p50_ms: float
    p99_ms: float
    kept_up: bool
    """Whether the last steady broadcast was read less than a second after it was due."""
    lost: int
    repeated: int
    resets: int
    kib_per_connection: float
    deliveries: int


@contextmanager
def serving(kind: str, side: Side, *, redis: str, directory: Path) -> Iterator[tuple[int, int]]:
    """A server on the server's core; yields its process id and its port."""
    env = {"DJANGO_SETTINGS_MODULE": "tests.benchmarks.site.settings", "BENCHMARK_REDIS": redis}
    server_core, other_cores = machine.cores()
    log = directory / f"{kind}-{side.name}.log"
    os.sched_setaffinity(0, server_core)  # inherited by what is started now
    try:
        if side.application:
            server = ServerProcess(_kind(kind), application=side.application, log=log, env=env)
            server.start()
            pid, port, process = server.pid, server.port, server.process
        else:
            port = free_port()
            process = ChildProcess(
                [sys.executable, "-m", "tests.benchmarks.raw", str(port)],
                name=side.name,
                log=log,
                env={**os.environ, **env},
                cwd=ROOT,
            )
            process.wait_ready(lambda: accepts(port))
            pid = process.pid
    finally:
        os.sched_setaffinity(0, other_cores)
    try:
        yield pid, port
    finally:
        process.kill()


def _kind(name: str) -> ServerKind:
    if name == "daphne":
        return "daphne"
    if name == "uvicorn":
        return "uvicorn"
    return "hypercorn"


@contextmanager
def publishing(side: Side, *, redis: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that publishes a broadcast for each byte it is sent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.publisher", side.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.site.settings",
            "BENCHMARK_REDIS": redis,
        },
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.read(len(READY)) != READY:
            raise RuntimeError(f"the publisher ended with {process.wait(5)}")
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(
    kind: str, side: Side, *, run: int, options: argparse.Namespace, redis: str, directory: Path
) -> Measurement:
    """Start a server and a publisher, open the subscriptions, and measure both loads."""
    with (
        serving(kind, side, redis=redis, directory=directory) as (pid, port),
        publishing(side, redis=redis) as publisher,
    ):
        one = Crowd(side, port=port, size=1)  # the first connection imports things
        memory = machine.resident_kib(pid)
        crowd = Crowd(side, port=port, size=options.subscribers)
        memory = machine.resident_kib(pid) - memory
        one.close()
        stdin = publisher.stdin
        assert stdin is not None

        def grant(credits: int) -> None:
            stdin.write(bytes(credits))
            stdin.flush()

        driver = Driver(crowd, grant)
        driver.closed_loop(outstanding=OUTSTANDING, seconds=WARM_UP)

        _, other_cores = machine.cores()
        cpu, busy = machine.cpu_seconds(pid), machine.busy_seconds()
        began = time.monotonic()
        took = driver.closed_loop(outstanding=OUTSTANDING, seconds=options.seconds)
        wall = time.monotonic() - began
        cpu = machine.cpu_seconds(pid) - cpu
        after = machine.busy_seconds()
        deliveries, lost, repeated = crowd.received, driver.lost, driver.repeated
        resets = crowd.resets
        others = sum(after[core] - busy[core] for core in other_cores) / len(other_cores)

        stamps: list[int] = []
        crowd.each = lambda _, event: stamps.append(age(event))
        steady_cpu = machine.cpu_seconds(pid)
        steady_took = driver.steady(rate=RATE, seconds=options.steady)
        steady_cpu = machine.cpu_seconds(pid) - steady_cpu
        crowd.close()
    stamps.sort()
    return Measurement(
        run=run,
        server=kind,
        side=side.name,
        subscribers=options.subscribers,
        cpu_us=cpu / deliveries * 1e6,
        per_second=deliveries / took,
        server_busy=cpu / took,
        others_busy=others / wall,
        cpu_us_steady=steady_cpu / len(stamps) * 1e6,
        p50_ms=stamps[len(stamps) // 2] / 1e6,
        p99_ms=stamps[len(stamps) * 99 // 100] / 1e6,
        kept_up=steady_took < options.steady + 1.0,
        lost=lost + driver.lost,
        repeated=repeated + driver.repeated,
        resets=resets + crowd.resets,
        kib_per_connection=memory / options.subscribers,
        deliveries=deliveries + len(stamps),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--server", nargs="+", default=["daphne", "uvicorn"])
    parser.add_argument("--side", nargs="+", default=["stock", "ours"], choices=list(SIDES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the closed loop")
    parser.add_argument("--steady", type=float, default=4.0, help="seconds at 10 broadcasts/s")
    parser.add_argument("--record", action="store_true", help="put the tables into RESULTS.md")
    options = parser.parse_args()
    if options.steady <= 0 or options.seconds <= 0:
        parser.error("--seconds and --steady are longer than nothing")

    pairs = [
        (kind, SIDES[name])
        for name in options.side
        for kind in (options.server if SIDES[name].application else ["asyncio"])
    ]
    found: list[Measurement] = []
    _, other_cores = machine.cores()
    os.sched_setaffinity(0, other_cores)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        server = RedisServer(directory)
        server.start()
        try:
            for run in range(1, options.runs + 1):
                for kind, side in pairs:
                    server.flush()
                    found.append(
                        measure(
                            kind,
                            side,
                            run=run,
                            options=options,
                            redis=server.url,
                            directory=directory,
                        )
                    )
                    print(json.dumps(asdict(found[-1])), file=sys.stderr, flush=True)
        finally:
            server.stop()
    markdown = report.fanout([asdict(one) for one in found], command=" ".join(sys.argv[1:]))
    print(markdown)
    if options.record:
        report.record("fanout", markdown, [asdict(one) for one in found])


if __name__ == "__main__":
    main()
