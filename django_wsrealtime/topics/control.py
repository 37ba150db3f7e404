"""Tell every process to end a user's connections, or to ask their permissions again."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from ..brokers import Broker, get_broker
from ..errors import BrokerUnavailable
from ..instrumentation import count, logger
from ..protocol import signals
from ..publishing import in_event_loop

CONTROL = "\x00control"
"""A topic that no route can match; every hub hears it."""
DISCONNECT = "disconnect"
RECHECK = "recheck"
MAX_WAITING = 32
"""Orders of event loops that may wait for the broker, each in a thread of its own."""

_room = threading.BoundedSemaphore(MAX_WAITING)


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be done with one user's connections.

    Args:
        user: the user's primary key, as a string.
        topic: only this subscription.
        reconnect: whether the clients may come back by themselves.
    """

    user: str
    topic: str = ""
    reconnect: bool = False

    @classmethod
    def read(cls, signal: signals.Signal) -> Order:
        """Read an order from a signal."""
        return msgspec.json.decode(signal.frame, type=cls)


def disconnect(user: Any, *, reason: str = "", reconnect: bool = False) -> None:
    """Close every connection of a user, in every process.

    Args:
        user: a user, or a user's primary key.
        reason: for the log.
        reconnect: ``True`` closes with 4102, so that clients come back and are asked again;
            ``False`` with 4502, so that they stay away until the page is loaded anew.
    """
    logger.info("Disconnecting user %s. %s", _key(user), reason)
    _order(DISCONNECT, Order(user=_key(user), reconnect=reconnect))


def end_subscription(user: Any, topic: str) -> None:
    """End a user's subscriptions to one topic, in every process."""
    _order(DISCONNECT, Order(user=_key(user), topic=topic))


def recheck(user: Any) -> None:
    """Ask again, now and in every process, whether a user may have what they are subscribed to.

    Args:
        user: a user, or a user's primary key.
    """
    _order(RECHECK, Order(user=_key(user)))


def _key(user: Any) -> str:
    return str(getattr(user, "pk", user))


def _order(op: str, order: Order) -> None:
    broker = get_broker()
    if not broker.blocking or not in_event_loop():
        _give(broker, op, order)
    elif _room.acquire(blocking=False):
        # No daemon: a process that ends right away still gives its order.
        threading.Thread(
            target=_give_and_make_room, args=(broker, op, order), name="wsrealtime-order"
        ).start()
    else:
        _lost(op, order, f"{MAX_WAITING} orders wait for the broker already")


def _give_and_make_room(broker: Broker, op: str, order: Order) -> None:
    try:
        _give(broker, op, order)
    finally:
        _room.release()


def _give(broker: Broker, op: str, order: Order) -> None:
    payload = signals.encode(op=op, frame=msgspec.json.encode(order))
    try:
        broker.signal(CONTROL, payload)
    except BrokerUnavailable as error:
        _lost(op, order, str(error))


def _lost(op: str, order: Order, why: str) -> None:
    count("control.lost")
    logger.error("The order to %s user %s was lost: %s", op, order.user, why)
