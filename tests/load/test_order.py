"""Many publishers, many subscribers, several servers: one order."""

import itertools
import json
import os
import time
from collections import Counter
from contextlib import ExitStack, closing

import pytest

from tests.benchmarks.crowd import Crowd, Reader
from tests.benchmarks.sides import ours
from tests.support.plugin import StartServer, server_environment
from tests.support.redis import RedisServer

from .publishers import publishers

TOPIC = "ordered/all"
PUBLISHERS = ("ada", "bob", "cyd", "dan")
EVENTS = 5_000
SUBSCRIBERS = 20
SECONDS = 100
APPLICATION = "tests.load.asgi:application"


@pytest.mark.timeout(150)
def test_every_subscriber_sees_the_same_order_without_gap_or_duplicate(
    server_process: StartServer, redis_server: RedisServer
) -> None:
    # Frames are the same for everybody, byte for byte: whoever is first says what the others must
    # hear next.
    order: list[bytes] = []
    heard: Counter[Reader] = Counter()

    def note(reader: Reader, event: bytes) -> None:
        place = heard[reader]
        heard[reader] += 1
        if place == len(order):
            order.append(event)
        assert event == order[place], f"as number {place} one heard {event!r}"

    side = ours(TOPIC, application=APPLICATION)
    servers = [
        server_process(kind, application=APPLICATION, redis=redis_server)
        for kind in ("daphne", "uvicorn")
    ]
    env = {**os.environ, **server_environment(redis=redis_server)}
    total = len(PUBLISHERS) * EVENTS
    with ExitStack() as stack:
        crowds = [
            stack.enter_context(
                closing(Crowd(side, port=server.port, size=SUBSCRIBERS // len(servers)))
            )
            for server in servers
        ]
        for crowd in crowds:
            crowd.each = note
        processes = stack.enter_context(publishers(TOPIC, *PUBLISHERS, size=50, env=env))
        for process in processes:
            process.grant(EVENTS)
        deadline = time.monotonic() + SECONDS
        while sum(crowd.received for crowd in crowds) < total * SUBSCRIBERS:
            assert time.monotonic() < deadline, {r.count for c in crowds for r in c.readers}
            for crowd in crowds:
                crowd.read(0.02)
        assert [crowd.resets for crowd in crowds] == [0] * len(crowds)

    assert list(heard.values()) == [total] * SUBSCRIBERS
    frames = [json.loads(event) for event in order]
    assert len({frame["epoch"] for frame in frames}) == 1
    assert [frame["offset"] for frame in frames] == list(range(1, total + 1))
    by = [frame["data"]["by"] for frame in frames]
    for name in PUBLISHERS:
        numbers = [frame["data"]["number"] for frame in frames if frame["data"]["by"] == name]
        assert numbers == list(range(EVENTS)), f"what {name} published is out of order"
    turns = sum(one != next_one for one, next_one in itertools.pairwise(by))
    assert turns > EVENTS // 10, "the publishers took turns too seldom to compete"
