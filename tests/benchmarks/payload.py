"""What is broadcast: about 200 bytes of JSON, as a row of an orders table would be."""

import time
from typing import Any

_STAMP = b'"at":'


def payload(number: int) -> dict[str, Any]:
    """The ``number``-th broadcast, stamped with the clock that all processes share."""
    return {
        "at": time.monotonic_ns(),
        "pk": number,
        "number": f"2026-{number:06d}",
        "status": "ready for pickup",
        "total": "129.90",
        "customer": "Ada Lovelace",
        "note": "leave it with the neighbour, second floor, name on the door",
        "items": [3, 14, 15, 92],
    }


def age(event: bytes) -> int:
    """Nanoseconds since the broadcast that an event carries was published."""
    at = event.index(_STAMP) + len(_STAMP)
    return time.monotonic_ns() - int(event[at : event.index(b",", at)])
