"""What the publisher pays: publishing from sync code, and saving a row that has a stream.

    python -m tests.benchmarks.publish

Of one call: the time until it returns, and the CPU time of the whole process, its threads included.
Redis is on another core. The ways are measured in turn, round after round, so that a busy moment
meets them all.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import django

from tests.support.redis import RedisServer

from . import machine, report
from .payload import payload
from .sides import TOPIC

CALLS = 50
"""Calls of one way in one round; as many are handed to the publisher thread at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one call cost, in microseconds."""

    wall_us: float
    cpu_us: float


Way = Callable[[int], Cost]
"""Carries out so many calls."""


def timed(call: Callable[[], object]) -> Way:
    """The way that makes this call again and again."""

    def way(calls: int) -> Cost:
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            call()
        wall = time.perf_counter() - started
        return Cost(wall_us=wall / calls * 1e6, cpu_us=(time.process_time() - cpu) / calls * 1e6)

    return way


def publishing_ways() -> dict[str, Way]:
    """How a project can publish from sync code, and from a running loop."""
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    from django_wsrealtime.topics.publish import apublish, publish

    from .site.stock import GROUP

    layer = get_channel_layer()
    assert layer is not None

    def stock() -> None:
        message = {"type": "fanout.message", "payload": payload(1)}
        async_to_sync(layer.group_send)(GROUP, message)

    async def hand_off(calls: int) -> Cost:
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            publish(TOPIC, "order", payload(1))
        wall = time.perf_counter() - started
        await apublish(TOPIC, "order", payload(1))  # what was handed off is out after this
        cpu = time.process_time() - cpu
        return Cost(wall_us=wall / calls * 1e6, cpu_us=cpu / (calls + 1) * 1e6)

    return {
        "`async_to_sync(group_send)`": timed(stock),
        "`publish()`, acknowledged": timed(lambda: publish(TOPIC, "order", payload(1))),
        "`publish()` in a running loop, handed off": lambda calls: asyncio.run(hand_off(calls)),
    }


@contextmanager
def saving_ways() -> Iterator[dict[str, Way]]:
    """Saving a row without a stream and with one, over the memory broker and over Redis."""
    from django.db import connection

    from django_wsrealtime.brokers import get_broker, set_broker
    from django_wsrealtime.brokers.base import Broker
    from django_wsrealtime.brokers.memory import MemoryBroker

    from .site import models

    kinds = (models.PlainOrder, models.StreamedOrder, models.PartitionedOrder)
    with connection.schema_editor() as editor:
        for model in kinds:
            editor.create_model(model)
    memory, redis = MemoryBroker(), get_broker()
    memory.serves_browsers()

    def saving(model: type[models.OrderBase], broker: Broker) -> Way:
        row = model(number="2026-000001")
        row.save()
        way = timed(row.save)

        def over(calls: int) -> Cost:
            before = set_broker(broker)
            try:
                return way(calls)
            finally:
                set_broker(before)

        return over

    yield {
        "`save()`, no stream": saving(models.PlainOrder, memory),
        "`save()`, stream, memory": saving(models.StreamedOrder, memory),
        "`save()`, stream with `partition_by`, memory": saving(models.PartitionedOrder, memory),
        "`save()`, stream, Redis": saving(models.StreamedOrder, redis),
        "`save()`, stream with `partition_by`, Redis": saving(models.PartitionedOrder, redis),
    }


def measure(ways: Mapping[str, Way], *, rounds: int) -> dict[str, list[Cost]]:
    """What one call of each way cost, one figure for each round."""
    for way in ways.values():
        way(CALLS)
    found: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way(CALLS))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--record", action="store_true", help="put the tables into RESULTS.md")
    options = parser.parse_args()
    own_core, other_cores = machine.cores()
    with tempfile.TemporaryDirectory() as directory:
        os.sched_setaffinity(0, other_cores)
        redis = RedisServer(Path(directory))
        redis.start()
        try:
            os.environ["BENCHMARK_REDIS"] = redis.url
            os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.site.settings"
            os.sched_setaffinity(0, own_core)
            django.setup()
            published = measure(publishing_ways(), rounds=options.rounds)
            with saving_ways() as ways:
                saved = measure(ways, rounds=options.rounds)
        finally:
            redis.stop()
    command = " ".join(sys.argv[1:])
    markdown = report.calls([published, saved], command=command, rounds=options.rounds)
    print(markdown)
    if options.record:
        figures = {**published, **saved}
        rows = {name: [asdict(cost) for cost in costs] for name, costs in figures.items()}
        report.record("publish", markdown, rows)


if __name__ == "__main__":
    main()
