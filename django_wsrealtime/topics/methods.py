"""Which methods of a topic browsers may call, and what arguments they take.

Only what is decorated with :func:`action` can be called, under the method's own name. Arguments are
read by the annotations of its parameters, so a handler never sees a string where it declared an
``int``; see :mod:`.actions` for how a call is carried out.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import msgspec

from ..errors import ConfigurationError, ErrorCode, ProtocolError, describe

Method = TypeVar("Method", bound=Callable[..., Any])
Permission = str | Callable[[Any], Any]

_MARK = "_wsrealtime_action"
_PERIODS = {"s": 1, "m": 60, "h": 3_600}
_THROTTLE = re.compile(r"([1-9][0-9]{0,5})/([smh])")
_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """How often one person may call an action.

    Args:
        calls: how many, at once too.
        period: in how many seconds.
    """

    calls: int
    period: int

    @classmethod
    def parse(cls, text: str) -> Throttle:
        """Read ``"5/s"``, ``"30/m"`` or ``"100/h"``.

        Raises:
            ConfigurationError: it says something else.
        """
        found = _THROTTLE.fullmatch(text)
        if found is None:
            raise ConfigurationError(
                f"The throttle {text!r} cannot be read; write a number of calls per second,"
                " minute or hour, as in '5/s', '30/m' or '100/h'."
            )
        return cls(calls=int(found[1]), period=_PERIODS[found[2]])

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in _PERIODS.items() if seconds == self.period)
        return f"{self.calls}/{unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    throttle: Throttle | None
    permission: Permission | None


@overload
def action(method: Method, /) -> Method: ...


@overload
def action(
    *, throttle: str | None = None, permission: Permission | None = None
) -> Callable[[Method], Method]: ...


def action(
    method: Callable[..., Any] | None = None,
    /,
    *,
    throttle: str | None = None,
    permission: Permission | None = None,
) -> Any:
    """Let those who may subscribe to a topic call this method of it from the browser.

    The method takes ``self``, ``ctx`` (a :class:`~.actions.Context`) and its arguments, each with
    an annotation. It may be sync, then it runs in a thread of our own pool, or async, then it runs
    in the event loop. No transaction is opened for it. What it returns goes to the caller as JSON.
    To refuse with a message of its own it raises :class:`~django_wsrealtime.errors.ActionError`.

    Args:
        throttle: calls per user: ``"5/s"``, ``"30/m"``, ``"100/h"``. So many may come at once.
        permission: of Django's auth, as in ``"shop.change_order"``, or a function that takes the
            user and tells whether it may.

    Raises:
        ConfigurationError: the method cannot be called from a browser as it is declared.
    """
    options = _Options(
        throttle=None if throttle is None else Throttle.parse(throttle), permission=permission
    )

    def mark(method: Method) -> Method:
        if not inspect.isfunction(method) or inspect.isasyncgenfunction(method):
            raise ConfigurationError(
                f"@action is for methods that are written with def or async def, got {method!r}."
                " Put it below other decorators, and return a list instead of yielding."
            )
        setattr(method, _MARK, options)
        return method

    return mark if method is None else mark(method)


class Action:
    """One callable method of one topic class.

    Args:
        owner: the topic class, as in ``"shop.realtime.Orders"``.
        name: the method's.
        method: the function.
        options: from the decorator.
    """

    def __init__(
        self, *, owner: str, name: str, method: Callable[..., Any], options: _Options
    ) -> None:
        self.owner = owner
        self.name = name
        self.method = method
        self.throttle = options.throttle
        self.permission = options.permission
        self.is_async = inspect.iscoroutinefunction(method)
        if name.startswith("_"):
            raise self._wrong("has a private name; browsers call public ones only")
        parameters = list(_signature(method).parameters.values())
        first = parameters[:2]
        if len(first) < 2 or any(
            parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            for parameter in first
        ):
            raise self._wrong("must take (self, ctx, …)")
        self._parameters = {parameter.name: parameter for parameter in parameters[2:]}
        for parameter in self._parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise self._wrong(
                    f"takes {str(parameter)!r}; declare each argument by its name instead"
                )
            if parameter.annotation is parameter.empty:
                raise self._wrong(
                    f"does not say what type {parameter.name!r} has; annotate it,"
                    f" as in '{parameter.name}: int'"
                )
        # A name that is not there yet is looked up again when all modules are imported.
        with contextlib.suppress(NameError):
            self.arguments  # noqa: B018

    @functools.cached_property
    def arguments(self) -> Mapping[str, Any]:
        """The type of each argument.

        Raises:
            ConfigurationError: an annotation is no type that JSON can be read as.
            NameError: an annotation names something that does not exist (yet).
        """
        arguments = _types(self.method, list(self._parameters))
        for name, kind in arguments.items():
            try:
                msgspec.json.schema(kind)
            except TypeError as error:
                raise self._wrong(
                    f"declares {name!r} as {_spell(kind)}, which cannot be read from JSON:"
                    f" {str(error).splitlines()[0]}"
                ) from error
        return arguments

    def check(self) -> None:
        """Make sure that the arguments can be read, now that all modules are imported.

        Raises:
            ConfigurationError: an annotation names something that does not exist.
        """
        try:
            self.arguments  # noqa: B018
        except NameError as error:
            raise self._wrong(f"has an annotation that cannot be looked up: {error}") from error

    def read(self, data: Any) -> dict[str, Any]:
        """The arguments in what a caller sent.

        Raises:
            ProtocolError: something is missing, unknown or of another type.
        """
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise self._invalid(
                f"The data is {describe(data)}; expected an object with {self._wanted()}."
            )
        if unknown := [name for name in data if name not in self.arguments]:
            raise self._invalid(
                f"There is no argument {describe(unknown[0])}; expected {self._wanted()}."
            )
        arguments = {}
        for name, kind in self.arguments.items():
            if name in data:
                arguments[name] = self._convert(name, data[name], kind)
            elif self._parameters[name].default is inspect.Parameter.empty:
                raise self._invalid(f"The argument {name!r} is missing; expected {_spell(kind)}.")
        return arguments

    def _convert(self, name: str, value: Any, kind: Any) -> Any:
        if isinstance(value, str) and _is_big_integer(value) and _takes_only_int(kind):
            value = int(value)
        try:
            return msgspec.convert(value, kind, strict=True)
        except (msgspec.ValidationError, RecursionError) as error:
            raise self._invalid(
                f"The argument {name!r} is {describe(value)}; expected {_spell(kind)}"
                f" ({str(error).splitlines()[0]})."
            ) from None

    def _wanted(self) -> str:
        names = ", ".join(f"{name!r}: {_spell(kind)}" for name, kind in self.arguments.items())
        return names or "no arguments"

    def _invalid(self, message: str) -> ProtocolError:
        return ProtocolError(ErrorCode.INVALID_DATA, message)

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"The action {self.owner}.{self.name} {what}.")


def collect(topic_class: type) -> dict[str, Action]:
    """The actions of a topic class, those it inherits included.

    Raises:
        ConfigurationError: one of them cannot be called as it is declared.
    """
    owner = f"{topic_class.__module__}.{topic_class.__qualname__}"
    found = {}
    for name in dir(topic_class):
        method = inspect.getattr_static(topic_class, name)
        options = getattr(method, _MARK, None)
        if isinstance(options, _Options):
            found[name] = Action(owner=owner, name=name, method=method, options=options)
    return found


def _signature(method: Callable[..., Any]) -> inspect.Signature:
    """A signature whose annotations may name what is only imported for type checkers."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(method, annotation_format=Format.FORWARDREF)
    return inspect.signature(method)


def _types(method: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """The types of some parameters; the others' may be unknown, that of ``ctx`` often is."""
    parameters = _signature(method).parameters

    def holder() -> None: ...

    holder.__annotations__ = {name: parameters[name].annotation for name in names}
    namespace = getattr(inspect.unwrap(method), "__globals__", {})
    return typing.get_type_hints(holder, globalns=namespace, include_extras=True)


def _spell(kind: Any) -> str:
    # Python 3.10 takes list[int] for a type.
    if isinstance(kind, type) and typing.get_origin(kind) is None:
        return kind.__name__
    return str(kind).replace("typing.", "")


def _is_big_integer(text: str) -> bool:
    """Whether this is an integer that has to travel as a string: JavaScript would round it."""
    digits = text.removeprefix("-")
    return (
        len(digits) <= 40
        and digits.isascii()
        and digits.isdigit()
        and abs(int(text)) > _SAFE_INTEGER
    )


def _takes_only_int(kind: Any) -> bool:
    options = typing.get_args(kind) or (kind,)
    if typing.get_origin(kind) is typing.Annotated:
        options = (typing.get_args(kind)[0],)
    return int in options and str not in options
