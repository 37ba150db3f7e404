"""Publishes one event for each byte on its standard input: ``… publisher TOPIC NAME BYTES``.

It says ``ready`` first. Each event names its publisher and its number there, and carries so many
bytes of padding.
"""

import os
import sys

import django


def main(topic: str, name: str, size: int) -> None:
    django.setup()
    from django_wsrealtime.topics.publish import publish

    from . import topics  # noqa: F401  registered here too

    os.write(1, b"ready")
    padding, number = "x" * size, 0
    while credits := os.read(0, 4096):
        for _ in credits:
            publish(topic, "load", {"by": name, "number": number, "padding": padding})
            number += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
