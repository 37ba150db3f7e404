"""How the pages show people."""

from django import template

register = template.Library()

SHADES = 6


@register.filter
def shade(name: str) -> int:
    """The same colour for the same name, as `shadeOf()` in `people.js` chooses it."""
    return sum(map(ord, name)) % SHADES


@register.inclusion_tag("front/_face.html")
def face(name: str) -> dict[str, str]:
    """A coloured circle with the first letter of a name."""
    return {"name": name}
