"""Publishes one broadcast for each byte on its standard input: ``python -m … publisher SIDE``.

It says ``ready`` first. The load client gives a byte whenever a broadcast may be published, so that
it alone decides how many are under way. The stock side publishes from a running loop, on one warm
connection: the quickest way it has.
"""

import asyncio
import os
import sys

import django

from .payload import payload
from .sides import TOPIC

READY = b"ready"


def _say_ready() -> None:
    os.write(1, READY)


def _publish_ours() -> None:
    from django_wsrealtime import publish

    number = 0
    _say_ready()
    while credits := os.read(0, 4096):
        for _ in credits:
            number += 1
            publish(TOPIC, "order", payload(number))


async def _publish_stock() -> None:
    from channels.layers import get_channel_layer

    from .site.stock import GROUP

    layer = get_channel_layer()
    assert layer is not None
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    number = 0
    _say_ready()
    while credits := await reader.read(4096):
        for _ in credits:
            number += 1
            await layer.group_send(GROUP, {"type": "fanout.message", "payload": payload(number)})


def _publish_raw() -> None:
    import json

    import redis

    from .raw import CHANNEL

    client = redis.Redis.from_url(os.environ["BENCHMARK_REDIS"])
    number = 0
    _say_ready()
    while credits := os.read(0, 4096):
        for _ in credits:
            number += 1
            client.publish(CHANNEL, json.dumps(payload(number)))


def main(side: str) -> None:
    django.setup()
    if side == "ours":
        _publish_ours()
    elif side == "stock":
        asyncio.run(_publish_stock())
    else:
        _publish_raw()


if __name__ == "__main__":
    main(sys.argv[1])
