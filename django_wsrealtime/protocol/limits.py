"""The bounds a peer must keep to, and the token bucket that measures rates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may ask for; the defaults are those of ``docs/reference/settings.md``.

    Args:
        message_bytes: largest inbound message, in bytes of UTF-8.
        depth: deepest nesting of arrays and objects in an inbound message.
        messages_per_second: sustained rate of inbound frames that count towards rates.
        burst: how many such frames may come at once.
        subscriptions: how many topics one connection may follow at a time.
        new_topics_per_second: topics per second and user that were not open before.
        connections_per_user: open connections of one signed-in user.
        connections_per_address: new connections per second and address, in one process;
            0 = unlimited.
        window_bytes: bytes on their way to one reader before it counts as lagging.
        hello_seconds: how long a client may take to say ``hello``.
        presence_per_second: presence updates of one connection.
        whispers_per_second: whispers of one connection.
        snapshot_rows: rows in one snapshot; longer ones are cut and say so.
        bulk_rows: changed rows per topic and transaction before they become one ``reset(bulk)``.
    """

    message_bytes: int = 65_536
    depth: int = 32
    messages_per_second: float = 20.0
    burst: int = 40
    subscriptions: int = 100
    new_topics_per_second: float = 10.0
    connections_per_user: int = 20
    connections_per_address: float = 0.0
    window_bytes: int = 262_144
    hello_seconds: float = 10.0
    presence_per_second: float = 10.0
    whispers_per_second: float = 10.0
    snapshot_rows: int = 5_000
    bulk_rows: int = 200


class TokenBucket:
    """A rate limit that allows bursts: ``rate`` tokens a second, at most ``burst`` saved up.

    Args:
        rate: tokens per second.
        burst: tokens available at once after a pause.
        now: the present, in seconds of any steady clock.
    """

    __slots__ = ("burst", "rate", "tokens", "updated")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = float(burst)
        self.updated = now

    def take(self, *, now: float) -> float:
        """Take a token; return 0 if there was one, else the seconds until there will be."""
        elapsed = max(0.0, now - self.updated)
        self.updated = now
        self.tokens = min(float(self.burst), self.tokens + elapsed * self.rate)
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        if self.rate <= 0.0:
            return 60.0
        return (1.0 - self.tokens) / self.rate


class TokenBuckets:
    """A token bucket for each of many keys; the keys used last are remembered.

    Args:
        most: how many keys are remembered at a time.
    """

    __slots__ = ("_buckets", "most")

    def __init__(self, *, most: int = 10_000) -> None:
        self.most = most
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, *, rate: float, burst: float, now: float) -> float:
        """Take a token of a key; return 0 if there was one, else the seconds until there will be.

        Args:
            key: whose bucket.
            rate: tokens per second, of a bucket that is not remembered.
            burst: tokens available at once, likewise.
            now: the present, in seconds of any steady clock.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(rate=rate, burst=burst, now=now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > self.most:
            self._buckets.popitem(last=False)
        return bucket.take(now=now)
