"""Fixtures of the streams' tests: a broker in memory, streams of the test's own, what they sent."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from django_wsrealtime import publishing, streams
from django_wsrealtime.brokers import set_broker
from django_wsrealtime.brokers.base import Command, Outcome, Reset, Result, RowChange
from django_wsrealtime.brokers.memory import MemoryBroker
from django_wsrealtime.protocol import codec
from django_wsrealtime.streams import ModelStream
from django_wsrealtime.topics.registry import registry

Event = tuple[str, str, Any]
"""``(topic, "upsert" | "remove" | "reset", pk or reason)``."""


class Bus:
    """The broker of a test, and a record of what it took."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.events: list[Event] = []
        self.rows: list[dict[str, Any]] = []

    def note(self, commands: Sequence[Command], results: Sequence[Result]) -> None:
        for command, result in zip(commands, results, strict=True):
            if result.outcome is not Outcome.APPENDED:
                continue
            if isinstance(command, Reset):
                self.events.append((command.topic, "reset", command.reason))
            elif isinstance(command, RowChange):
                for topic in result.positions:
                    self._note_row(topic, command.topics.get(topic, command.remove))

    def _note_row(self, topic: str, body: bytes) -> None:
        info = codec.read_body(body)
        assert info.kind == "row"
        data = msgspec.json.decode(info.data)
        assert info.key == str(data["pk"])
        self.events.append((topic, info.event, data["pk"]))
        if info.event == "upsert":
            self.rows.append(data["row"])

    def take(self) -> list[Event]:
        """The events since the last look, sorted by topic; in order within each."""
        events, self.events = self.events, []
        self.rows = []
        return sorted(events, key=lambda event: event[0])

    def row(self) -> dict[str, Any]:
        """The values in the last event."""
        return self.rows[-1]

    def collections(self) -> dict[str, dict[str, Any]]:
        """What a browser would hold that has followed every topic from the start."""
        held: dict[str, dict[str, Any]] = {}
        for topic in list(self.broker._logs):
            rows: dict[str, Any] = {}
            for entry in self.broker.read_all(topic, history=HISTORY):
                info = codec.read_body(entry.body)
                data = msgspec.json.decode(info.data)
                if info.event == "upsert":
                    rows[data["pk"]] = data["row"]
                else:
                    rows.pop(data["pk"], None)
            if rows:
                held[topic] = rows
        return held


HISTORY = streams.ModelStream.history


@pytest.fixture
def bus() -> Iterator[Bus]:
    """This process's broker during the test."""
    bus = Bus()
    before = set_broker(bus.broker)
    with publishing.observed(bus.note):
        yield bus
    set_broker(before)


Declare = Callable[..., type[ModelStream]]


@pytest.fixture
def declare() -> Iterator[Declare]:
    """``declare(route, model=…, fields=…)``: a registered stream; forgotten after the test."""
    streams.disconnect()
    with registry.isolated():
        streams.connect()

        def declare(
            route: str, *, bases: tuple[type, ...] = (ModelStream,), **attributes: Any
        ) -> type[ModelStream]:
            stream = type("Stream", bases, {"__module__": __name__, **attributes})
            return registry.register(route)(stream)

        yield declare
    streams.disconnect()
    streams.connect()
