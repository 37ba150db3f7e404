"""From a topic's name to its parameters and back, with the path converters of Django's URLs.

A name is a topic's identity: two names are two logs. So each topic has exactly one name, the
*canonical* one, and no other spelling of it is accepted::

    >>> orders = Route("orders/<int:store_id>")
    >>> orders.reverse({"store_id": 7})
    'orders/7'
    >>> orders.match("orders/7")
    {'store_id': 7}
    >>> orders.match("orders/007") is None
    True
    >>> orders.canonical("orders/007")
    'orders/7'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls.resolvers import RoutePattern

from ..errors import ConfigurationError, describe

MAX_NAME_BYTES = 200

# Control, format (bidirectional marks among them), surrogate, line and paragraph separator.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def name_fault(name: str) -> str | None:
    """Why a string cannot be the name of any topic; ``None`` if it can."""
    if not name:
        return "it is empty"
    for character in name:
        if not " " <= character <= "~" and unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            return f"it holds the character U+{ord(character):04X}, which cannot be seen"
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return f"it has {size} bytes in UTF-8; at most {MAX_NAME_BYTES} are allowed"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode normalisation form C"
    return None


class Route:
    """The pattern of a topic's names, written as in ``urls.py``.

    Args:
        text: as in ``"orders/<int:store_id>"``.

    Raises:
        ConfigurationError: the route is malformed or uses an unknown converter.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        opened = text.count("<")
        if not text or text.startswith(("/", "^")) or text.endswith("$"):
            raise ConfigurationError(
                f"The route {text!r} must be like 'orders/<int:store_id>': not empty, without a"
                " leading '/', no regular expression."
            )
        try:
            self._pattern = RoutePattern(text, is_endpoint=True)
        except ImproperlyConfigured as error:
            raise ConfigurationError(f"The route {text!r} cannot be used: {error}") from error
        if opened != text.count(">") or opened != len(self._pattern.converters):
            raise ConfigurationError(
                f"The route {text!r} has a bracket without its partner, or a parameter twice."
            )
        self.converters: Mapping[str, Any] = self._pattern.converters
        self.parameters = tuple(self.converters)
        if (fault := name_fault(re.sub("<[^>]*>", "", text) or "x")) is not None:
            raise ConfigurationError(f"The route {text!r} matches no valid name: {fault}.")

    @property
    def prefix(self) -> str:
        """The route up to its first parameter, without a trailing ``/``: ``"orders"``."""
        return self.text.partition("<")[0].rstrip("/")

    @property
    def regex(self) -> str:
        """The regular expression that names match before they are checked for being canonical."""
        return str(self._pattern.regex.pattern)

    def match(self, name: str) -> dict[str, Any] | None:
        """The parameters in a name; ``None`` if it is no canonical name of this route."""
        params = self._read(name)
        if params is None or self._write(params) != name:
            return None
        return params

    def canonical(self, name: str) -> str | None:
        """The canonical spelling of a name that this route matches, else ``None``."""
        params = self._read(name)
        return None if params is None else self._write(params)

    def reverse(self, params: Mapping[str, Any]) -> str:
        """The canonical name for some parameters.

        Raises:
            TypeError: a parameter is missing or unknown.
            ValueError: a parameter's value cannot stand in a name.
        """
        if unknown := [name for name in params if name not in self.converters]:
            raise TypeError(
                f"The route {self.text!r} has no parameter {_listed(unknown)};"
                f" it takes {_listed(self.parameters) or 'none'}."
            )
        if missing := [name for name in self.parameters if name not in params]:
            raise TypeError(
                f"The route {self.text!r} needs {_listed(self.parameters)};"
                f" {_listed(missing)} is missing."
            )
        values = {name: self._convert(name, value) for name, value in params.items()}
        name = self._write(values)
        if (fault := name_fault(name)) is not None:
            raise ValueError(f"The route {self.text!r} gives the name {name!a}, but {fault}.")
        if (read := self._read(name)) != values:
            raise ValueError(
                f"The route {self.text!r} gives the name {name!r} for {dict(params)!r}, but reads"
                f" it as {read!r}; use converters that tell the parameters apart."
            )
        return name

    def _convert(self, name: str, value: Any) -> Any:
        """A parameter as it would be read from a name, so that ``"7"`` and ``7`` are one."""
        converter = self.converters[name]
        try:
            text = str(converter.to_url(value))
        except (TypeError, ValueError) as error:
            raise self._unfit(name, value, str(error)) from error
        if re.fullmatch(converter.regex, text) is None:
            raise self._unfit(name, value, f"expected something like {converter.regex!r}")
        try:
            return converter.to_python(text)
        except ValueError as error:
            raise self._unfit(name, value, str(error)) from error

    def _unfit(self, name: str, value: Any, why: str) -> ValueError:
        return ValueError(
            f"The parameter {name!r} of the route {self.text!r} cannot be {describe(value)}: {why}."
        )

    def _read(self, name: str) -> dict[str, Any] | None:
        found = self._pattern.match(name)
        return None if not found else dict(found[2])

    def _write(self, params: Mapping[str, Any]) -> str:
        # Literal text between parameters is kept as it stands; names are never percent-encoded.
        return re.sub(
            r"<(?:[^>:]+:)?([^>]+)>",
            lambda found: str(self.converters[found[1]].to_url(params[found[1]])),
            self.text,
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Route({self.text!r})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
