"""The server's drawing of a price chart, so that the page stands without JavaScript."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from dashboard.models import Tick

WIDTH, HEIGHT = 600, 200
POINTS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One symbol's newest prices; `points` are those of an SVG polyline, as `chart.js` draws it."""

    symbol: str
    name: str
    price: Decimal | None
    change: Decimal
    low: Decimal
    high: Decimal
    start: datetime | None
    end: datetime | None
    points: str

    @property
    def direction(self) -> str:
        return "up" if self.change > 0 else "down" if self.change < 0 else "flat"


def chart_of(symbol: Tick.Symbol) -> Chart:
    """Reads the newest `POINTS` ticks of a symbol; `change` is in percent of the first of them."""
    newest = Tick.objects.filter(symbol=symbol).order_by("-pk")[:POINTS]
    ticks = list(newest)[::-1]
    prices = [tick.price for tick in ticks]
    low, high = (min(prices), max(prices)) if prices else (Decimal(0), Decimal(0))
    spread = (high - low) or Decimal(1)
    step = Decimal(WIDTH) / (max(len(prices), 2) - 1)
    points = " ".join(
        f"{index * step:.1f},{HEIGHT - (price - low) / spread * HEIGHT:.1f}"
        for index, price in enumerate(prices)
    )
    return Chart(
        symbol=symbol.value,
        name=symbol.label,
        price=prices[-1] if prices else None,
        change=(prices[-1] - prices[0]) / prices[0] * 100 if prices else Decimal(0),
        low=low,
        high=high,
        start=ticks[0].time if ticks else None,
        end=ticks[-1].time if ticks else None,
        points=points,
    )
