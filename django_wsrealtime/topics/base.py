"""The base of everything a browser can follow."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from django.db.models import Model

from ..brokers import get_broker
from ..brokers.base import History
from ..errors import ConfigurationError
from ..presence import Member, Presence, group
from ..protocol import codec
from . import serialize, threads
from .events import Event
from .methods import Action, collect
from .routes import Route

if TYPE_CHECKING:
    from typing_extensions import Self

    from .publish import Origin

By = Literal["server", "subscribers"]


class Topic:
    """One topic; its class declares the rules for all topics of a route.

    Subclass it in the module ``realtime`` of an app, and register the subclass::

        @register("room/<slug:slug>")
        class Room(Topic):
            history = History(size=100, ttl=300)

            def can_subscribe(self, user):
                return user.rooms.filter(slug=self.slug).exists()

    ``Room(slug="lobby")`` is the topic ``room/lobby``. Two instances of one name are equal.

    Args:
        params: one value for each parameter of the route; they become attributes.

    Raises:
        ConfigurationError: the class is not registered.
        TypeError: a parameter is missing or unknown.
        ValueError: a parameter's value cannot stand in a name.
    """

    history: ClassVar[History] = History()
    """How much is kept for those who come back."""
    presence: ClassVar[Presence | None] = None
    """Whether there is a list of who is here."""
    publish_by: ClassVar[By] = "server"
    """Who may publish: the server alone, or subscribers too (see :meth:`can_publish`)."""
    whisper_by: ClassVar[By] = "server"
    """Who may whisper; see :meth:`can_whisper`."""
    public: ClassVar[bool] = False
    """Whether visitors who are not signed in may come. Without :meth:`can_subscribe`: anyone."""
    keyed: ClassVar[bool] = False
    """Whether an event replaces earlier ones of its key, so that the latest of each are enough."""
    revalidate_on: ClassVar[Sequence[type[Model]]] = ()
    """Models whose changes concern :meth:`can_subscribe`.

    This version does not act on it, and a system check says so: call ``recheck(user)``."""

    route: ClassVar[Route | None] = None
    """What the names of these topics look like; set by :func:`~.registry.register`."""

    actions: ClassVar[Mapping[str, Action]] = MappingProxyType({})
    """What browsers may call, by name; see :func:`~.methods.action`."""

    name: str
    """The canonical name: the topic's identity."""
    params: Mapping[str, Any]
    """The route's parameters, as their converters read them from the name."""

    def __init__(self, **params: Any) -> None:
        route = self._own_route()
        name = route.reverse(params)
        self._become(name, route.match(name) or {})

    @classmethod
    def of(cls, *, name: str, params: Mapping[str, Any]) -> Self:
        """The topic whose canonical name and parameters are known already."""
        topic = cls.__new__(cls)
        topic._become(name, params)
        return topic

    def _become(self, name: str, params: Mapping[str, Any]) -> None:
        self.__dict__.update(params)
        self.name = name
        self.params = MappingProxyType(dict(params))

    @classmethod
    def _own_route(cls) -> Route:
        route = cls.__dict__.get("route")
        if route is None:
            raise ConfigurationError(
                f"{cls.__module__}.{cls.__qualname__} has no route;"
                " decorate it with @register('…/<int:id>')."
            )
        return cast(Route, route)

    @classmethod
    def prepare(cls, route: Route) -> None:
        """Called once, when the class is registered; subclasses check their declarations here.

        Raises:
            ConfigurationError: something in the class contradicts itself.
        """
        name = f"{cls.__module__}.{cls.__qualname__}"
        for parameter in route.parameters:
            if parameter in _RESERVED or _is_ours(cls, parameter):
                raise ConfigurationError(
                    f"The route {route.text!r} of {name} has a parameter {parameter!r}, but that"
                    " is the name of something that every topic has; choose another."
                )
        for option in ("publish_by", "whisper_by"):
            if (value := getattr(cls, option)) not in ("server", "subscribers"):
                raise ConfigurationError(
                    f"{name}.{option} is {value!r}; expected 'server' or 'subscribers'."
                )
        cls.actions = MappingProxyType(collect(cls))
        cls.route = route

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The route's parameters."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topic) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{type(self).__name__}({params})"

    # --- rules: override them; sync or async ---

    def can_subscribe(self, user: Any) -> bool | Awaitable[bool]:
        """Whether this user may follow the topic.

        Without an override nobody may, unless the class is ``public``. Visitors who are not
        signed in are asked about only if the class is ``public``.
        """
        return False

    def can_publish(self, user: Any, event: str, data: Any) -> bool | Awaitable[bool]:
        """Whether this subscriber may publish this; asked if ``publish_by = "subscribers"``.

        Without an override every subscriber may. ``data`` is what came from the browser:
        anything that JSON can say, or ``bytes``.
        """
        return True

    def can_whisper(self, user: Any, event: str, data: Any) -> bool | Awaitable[bool]:
        """Whether this subscriber may whisper this; asked if ``whisper_by = "subscribers"``."""
        return True

    def snapshot(self) -> Any:
        """What a new subscriber starts from: a mapping of lists or values; sync or async.

        Items with the ``key`` of their event are not shown twice.
        """
        raise NotImplementedError

    # --- what server code does with a topic ---

    def publish(
        self,
        event: str,
        data: Any = None,
        *,
        using: str | None = None,
        on_commit: bool = True,
        origin: Origin = None,
        key: str | None = None,
    ) -> None:
        """Append an event to the log; see :func:`~.publish.publish`."""
        from .publish import publish

        publish(self, event, data, using=using, on_commit=on_commit, origin=origin, key=key)

    async def apublish(
        self, event: str, data: Any = None, *, origin: Origin = None, key: str | None = None
    ) -> None:
        """Append an event to the log; see :func:`~.publish.apublish`."""
        from .publish import apublish

        await apublish(self, event, data, origin=origin, key=key)

    def members(self) -> list[Member]:
        """Who is present, in all processes; whoever came first stands first.

        Raises:
            NotSupported: the broker keeps no presence.
            BrokerUnavailable: the broker cannot be reached.
        """
        return group(get_broker().present(self.name))

    async def amembers(self) -> list[Member]:
        """Like :meth:`members`, from a coroutine."""
        return await threads.run(self.members)

    def read_history(self) -> list[Event]:
        """The events that are kept, oldest first.

        Raises:
            NotSupported: the broker keeps no history.
            BrokerUnavailable: the broker cannot be reached.
        """
        entries = get_broker().read_all(self.name, history=self.history)
        return [Event.of(self.name, entry) for entry in entries]

    async def aread_history(self) -> list[Event]:
        """Like :meth:`read_history`, from a coroutine."""
        return await threads.run(self.read_history)

    def disconnect(self, user: Any) -> None:
        """End a user's subscriptions to this topic, in all processes.

        It does not keep the user from coming back; change what ``can_subscribe`` looks at first.

        Args:
            user: a user, or a user's primary key.
        """
        from .control import end_subscription

        end_subscription(user, self.name)

    # --- what the hub asks ---

    @property
    def has_snapshot(self) -> bool:
        """Whether new subscribers start from a state."""
        return type(self).snapshot is not Topic.snapshot

    async def make_snapshot(self) -> list[bytes]:
        """The snapshot as JSON objects of at most 32 KiB, computed off the event loop."""
        if inspect.iscoroutinefunction(self.snapshot):
            return self._cut(await self.snapshot())
        return await threads.run(lambda: self._cut(self.snapshot()))

    def _cut(self, snapshot: Any) -> list[bytes]:
        if not isinstance(snapshot, Mapping):
            raise TypeError(
                f"{type(self).__name__}.snapshot() returned a {type(snapshot).__name__};"
                " expected a dict, as in {'messages': [...]}."
            )
        return codec.snapshot_chunks(snapshot, default=serialize.default)


_RESERVED = frozenset({"name", "params", "self"})


def _is_ours(cls: type[Topic], attribute: str) -> bool:
    return any(
        attribute in vars(base)
        for base in cls.__mro__
        if base.__module__.partition(".")[0] == __name__.partition(".")[0]
    ) or callable(getattr(cls, attribute, None))
