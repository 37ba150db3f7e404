"""How the dashboard writes amounts and changes."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def money(amount: Decimal) -> str:
    """€1,234.50, as `money()` in `format.js` writes it."""
    return f"€{amount:,.2f}"


@register.filter
def percent(value: Decimal) -> str:
    """+1.20 %, as `percent()` in `format.js` writes it."""
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{abs(value):.2f} %"
