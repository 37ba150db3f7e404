"""Checks of what the project declares: topics, their rules and their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations, islice, product
from typing import Any
from uuid import UUID

from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from ..brokers import broker_path
from ..streams import check_streams
from ..topics.base import Topic
from ..topics.registry import registry
from ..topics.routes import Route
from .configuration import import_failure, known_conf


def check_topics(**kwargs: Any) -> list[CheckMessage]:
    """Every topic says who may follow it, and no two of them share a name."""
    found: list[CheckMessage] = []
    for registration in registry.routes():
        kind = registration.topic_class
        if not kind.public and kind.can_subscribe is Topic.can_subscribe:
            found.append(
                Error(
                    f"{registration} has no rule, so nobody can subscribe to it.",
                    hint="Define can_subscribe(self, user), or set public = True for everyone.",
                    obj=kind,
                    id="wsrealtime.E050",
                )
            )
        if kind.revalidate_on:
            models = ", ".join(model._meta.label for model in kind.revalidate_on)
            found.append(
                Warning(
                    f"{registration} declares revalidate_on, which this version does not act on: "
                    f"a change of {models} ends no subscription that is open.",
                    hint="Call recheck(user) where these change.",
                    obj=kind,
                    id="wsrealtime.W053",
                )
            )
    return [*found, *_overlaps(), *_beyond_broker(), *check_streams()]


def _overlaps() -> Iterable[CheckMessage]:
    """Routes that share a name, so that the order of registration would decide."""
    for one, other in combinations(registry.routes(), 2):
        if (name := common_name(one.route, other.route)) is not None:
            yield Error(
                f"The name {name!r} is one of both {one} and {other}.",
                hint="Give one of them another first word, as in 'orders/<int:store_id>' and "
                "'order/<int:pk>'.",
                obj=other.topic_class,
                id="wsrealtime.E051",
            )


SAMPLES: tuple[object, ...] = (7, "7", "a", "ab-c", "a/b", "7/a", UUID(int=7))
"""Values to try for a parameter; together they fit every converter of Django."""
MOST_TRIED = 5_000


def common_name(one: Route, other: Route) -> str | None:
    """A name that both routes match, if one is found.

    Regular expressions cannot be intersected with what Python has, so names are tried: those of
    each route whose parameters are usual values or pieces of the other route.
    """
    for route, others in ((one, other), (other, one)):
        for name in _names(route, hints=_pieces(others)):
            if others.match(name) is not None:
                return name
    return None


def _names(route: Route, *, hints: Iterable[str]) -> Iterator[str]:
    values = [*hints, *SAMPLES]
    for chosen in islice(product(values, repeat=len(route.parameters)), MOST_TRIED):
        try:
            yield route.reverse(dict(zip(route.parameters, chosen, strict=True)))
        except (TypeError, ValueError):
            continue


def _pieces(route: Route) -> list[str]:
    """A route's words and what follows each of its slashes, with ``7`` for its parameters."""
    words = re.sub("<[^>]*>", "7", route.text).split("/")
    return list(dict.fromkeys([*words, *("/".join(words[at:]) for at in range(len(words)))]))


def _beyond_broker() -> Iterable[CheckMessage]:
    """Declarations that the broker cannot keep."""
    if known_conf() is None or import_failure(path := broker_path()) is not None:
        return
    able = import_string(path).capabilities
    for registration in registry.routes():
        if registration.topic_class.presence is not None and not able.presence:
            yield Warning(
                f"{registration} declares presence, but {path} keeps none: its list stays empty.",
                hint="Use channels_redis in CHANNEL_LAYERS.",
                obj=registration.topic_class,
                id="wsrealtime.W052",
            )
