"""Which topics there are: routes and the classes behind them."""

from __future__ import annotations

import difflib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from django.utils.module_loading import autodiscover_modules

from ..errors import ConfigurationError, UnknownTopic, describe
from .routes import Route, name_fault

if TYPE_CHECKING:
    from .base import Topic

MODULE = "realtime"
"""The module of every installed app in which topics are looked for."""

AnyTopic = TypeVar("AnyTopic", bound="type[Topic]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One registered topic class.

    Args:
        route: what its names look like.
        topic_class: the class.
        place: where it was registered, as in ``"/shop/realtime.py:12"``.
    """

    route: Route
    topic_class: type[Topic]
    place: str

    def __str__(self) -> str:
        kind = self.topic_class
        return f"{kind.__module__}.{kind.__qualname__} ({self.route.text!r}, {self.place})"


class Registry:
    """Routes and topic classes; the package's own is :data:`registry`."""

    def __init__(self) -> None:
        self._registrations: dict[str, Registration] = {}
        self._lock = threading.Lock()

    def register(self, route: str) -> Callable[[AnyTopic], AnyTopic]:
        """Class decorator: the topics of this class have names like ``route``.

        Args:
            route: as in ``urls.py``: ``"orders/<int:store_id>"``.

        Raises:
            ConfigurationError: the route or the class is registered already, or the class
                cannot have topics of such names.
        """
        caller = sys._getframe(1)
        place = f"{caller.f_code.co_filename}:{caller.f_lineno}"

        def decorate(topic_class: AnyTopic) -> AnyTopic:
            self._add(
                Registration(route=Route(route), topic_class=topic_class, place=place),
            )
            return topic_class

        return decorate

    def _add(self, new: Registration) -> None:
        with self._lock:
            for known in self._registrations.values():
                if known.topic_class is new.topic_class:
                    raise ConfigurationError(
                        f"The class of {new} is registered already as {known}."
                        " A class has one route; subclass it for another."
                    )
                if known.route.text == new.route.text:
                    raise ConfigurationError(
                        f"The route {new.route.text!r} of {new} is taken by {known}."
                    )
            new.topic_class.prepare(new.route)
            self._registrations[new.route.text] = new

    def routes(self) -> list[Registration]:
        """Everything that is registered, in the order of registration."""
        with self._lock:
            return list(self._registrations.values())

    def find(self, name: str) -> Topic | None:
        """The topic of this name, if there is one and the name is its canonical one."""
        if name_fault(name) is not None:
            return None
        for known in self.routes():
            if (params := known.route.match(name)) is not None:
                return known.topic_class.of(name=name, params=params)
        return None

    def resolve(self, name: str | Topic) -> Topic:
        """The topic of this name, for callers that are trusted with the list of routes.

        Args:
            name: the topic's name; a topic stands for itself.

        Raises:
            UnknownTopic: there is none; the message says which names there are.
        """
        if not isinstance(name, str):
            return name
        topic = self.find(name)
        if topic is None:
            raise UnknownTopic(self._explain(name))
        return topic

    def _explain(self, name: str) -> str:
        if (fault := name_fault(name)) is not None:
            return f"{describe(name)} cannot be a topic's name: {fault}."
        for known in self.routes():
            if (canonical := known.route.canonical(name)) is not None:
                return f"The topic {name!r} is called {canonical!r}; use that name."
        texts = [known.route.text for known in self.routes()]
        if not texts:
            return (
                f"There is no topic {name!r}: none is registered. Declare them in the module"
                f" {MODULE!r} of an installed app, with @register."
            )
        first = difflib.get_close_matches(
            name.partition("/")[0], {text.partition("/")[0] for text in texts}, n=3, cutoff=0.6
        )
        near = [text for text in texts if text.partition("/")[0] in first]
        if near:
            hint = f"did you mean {' or '.join(repr(text) for text in near)}?"
        else:
            hint = f"the routes are {', '.join(repr(text) for text in sorted(texts))}."
        return f"No route matches the topic {name!r}; {hint}"

    @contextmanager
    def isolated(self) -> Iterator[Registry]:
        """Forget afterwards what is registered within this context; for tests."""
        with self._lock:
            before = dict(self._registrations)
        try:
            yield self
        finally:
            with self._lock:
                self._registrations = before


registry = Registry()
register = registry.register
resolve = registry.resolve
routes = registry.routes


def autodiscover() -> None:
    """Import the module ``realtime`` of every installed app that has one.

    Raises:
        ConfigurationError: an ``@action`` names a type that does not exist.
    """
    autodiscover_modules(MODULE)
    for known in registry.routes():
        for action in known.topic_class.actions.values():
            action.check()
