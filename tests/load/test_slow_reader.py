"""A client that never reads costs a window, and the others nothing."""

import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest

from tests.benchmarks.crowd import Crowd, Reader
from tests.benchmarks.machine import resident_kib
from tests.benchmarks.sides import ours
from tests.support.plugin import StartServer, server_environment
from tests.support.redis import RedisServer
from tests.support.servers import ServerKind

from .publishers import Publisher, publishers

TOPIC = "wide/all"
EVENT_BYTES = 32_768
VOLUME = 200 * 1024 * 1024
WARM_UP = 16 * 1024 * 1024
READERS = 5
UNDER_WAY = 5
"""Events published and not yet read by everybody: less than a window."""
WINDOW = 262_144
MOST_GROWTH_KIB = 40_000_000 // 1024
SECONDS = 100
APPLICATION = "tests.load.asgi:application"


def _pass(
    events: int, *, publisher: Publisher, crowd: Crowd, deadline: float, look: Callable[[], None]
) -> None:
    """Let so many events pass, none before the readers have nearly all of those before it."""
    start = publisher.granted
    already = crowd.received
    while True:
        complete = (crowd.received - already) // READERS
        if complete == events:
            return
        assert time.monotonic() < deadline, f"only {complete} of {events} events have passed"
        granted = publisher.granted - start
        if (credits := min(events, complete + UNDER_WAY) - granted) > 0:
            publisher.grant(credits)
        crowd.read(0.1)
        if complete % 100 == 0:
            look()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_client_that_never_reads_costs_little_memory_and_nobody_anything(
    kind: ServerKind, server_process: StartServer, redis_server: RedisServer
) -> None:
    offsets: dict[Reader, list[int]] = defaultdict(list)

    def note(reader: Reader, event: bytes) -> None:
        start = event.index(b'"offset":') + 9
        offsets[reader].append(int(event[start : event.index(b",", start)]))

    side = ours(TOPIC, application=APPLICATION)
    server = server_process(kind, application=APPLICATION, redis=redis_server)
    env = {**os.environ, **server_environment(redis=redis_server)}
    deadline = time.monotonic() + SECONDS
    with ExitStack() as stack:
        crowd = stack.enter_context(closing(Crowd(side, port=server.port, size=READERS)))
        crowd.each = note
        (publisher,) = stack.enter_context(publishers(TOPIC, "only", size=EVENT_BYTES, env=env))

        def pass_on(volume: int, look: Callable[[], None]) -> None:
            _pass(
                volume // EVENT_BYTES,
                publisher=publisher,
                crowd=crowd,
                deadline=deadline,
                look=look,
            )

        pass_on(WARM_UP, lambda: None)
        before = most = resident_kib(server.pid)

        def look() -> None:
            nonlocal most
            most = max(most, resident_kib(server.pid))

        stalled = stack.enter_context(closing(Crowd(side, port=server.port, size=1)))
        pass_on(VOLUME, look)
        look()
        published = publisher.granted

        unread = _backlog(stalled)

    assert most - before <= MOST_GROWTH_KIB, f"the server grew by {most - before} KiB"
    assert crowd.resets == 0
    assert len(offsets) == READERS
    for reader, own in offsets.items():
        assert own == list(range(1, published + 1)), f"reader {reader.socket} missed events"
    assert EVENT_BYTES < unread <= WINDOW + 4 * EVENT_BYTES, "the window does not bound the backlog"


def _backlog(stalled: Crowd) -> int:
    """Bytes on their way to a client that never read; they come without an answer to any mark."""
    (reader,) = stalled.readers
    reader.socket.settimeout(1.0)
    size = 0
    while True:
        try:
            data = reader.socket.recv(65_536)
        except (TimeoutError, ConnectionResetError):
            return size  # nothing more comes; given up after 30 s, some servers reset
        if not data:
            return size
        size += len(data)
