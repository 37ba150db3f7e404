"""Publishing processes that a test lets publish as much as it wants."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.servers import ROOT


class Publisher:
    """A process that publishes into one topic.

    Args:
        topic: where.
        name: told in each of its events.
        size: bytes of padding in each.
        env: its environment.
    """

    def __init__(self, topic: str, name: str, *, size: int, env: Mapping[str, str]) -> None:
        self.name = name
        self.granted = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.publisher", topic, name, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=dict(env),
        )

    def wait_ready(self) -> None:
        """Wait until it would publish at once."""
        assert self._process.stdout is not None
        said = self._process.stdout.read(5)
        assert said == b"ready", f"the publisher {self.name} ended with {self._process.wait(5)}"

    def grant(self, events: int) -> None:
        """Let it publish so many more."""
        assert self._process.stdin is not None
        self._process.stdin.write(bytes(events))
        self._process.stdin.flush()
        self.granted += events

    def close(self) -> None:
        """End it once it has published what it was granted."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def publishers(
    topic: str, *names: str, size: int, env: Mapping[str, str]
) -> Iterator[list[Publisher]]:
    """Processes that are ready to publish into a topic."""
    started = [Publisher(topic, name, size=size, env=env) for name in names]
    try:
        for publisher in started:
            publisher.wait_ready()
        yield started
    finally:
        for publisher in started:
            publisher.close()
