"""Medians, spreads and ratios of measurements, as Markdown."""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import machine
from .sides import SIDES

Row = Mapping[str, Any]

RESULTS = Path(__file__).with_name("RESULTS.md")


def record(name: str, tables: str, raw: object) -> None:
    """Put a benchmark's tables into its section of ``RESULTS.md``, its figures into a JSON file.

    The remarks outside of the sections are written by hand: read them again after each record.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    before, _, rest = RESULTS.read_text().partition(begin)
    _, _, after = rest.partition(end)
    RESULTS.write_text(f"{before}{begin}\n{tables}\n{end}{after}")
    figures = RESULTS.parent / "results" / f"{name}.json"
    figures.write_text(json.dumps({"machine": machine.describe(), "figures": raw}, indent=1) + "\n")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """``median (least–most)``"""
    least, most = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} ({least:,.{digits}f}–{most:,.{digits}f})"


def fanout(rows: Sequence[Row], *, command: str) -> str:
    """The report of :mod:`.fanout`."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["server"], row["side"]].append(row)
    lines = [
        f"Command: `{f'python -m tests.benchmarks.fanout {command}'.rstrip()}`",
        "",
        (
            f"{rows[0]['subscribers']} subscribers, {max(row['run'] for row in rows)} runs;"
            " each cell: median (least–most) of the runs."
        ),
        "",
        (
            "| server | side | µs CPU per delivery, 20 under way | of stock | deliveries/s"
            " | µs CPU per delivery, 10 broadcasts/s | of stock | p50 ms | p99 ms |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (server, side), some in groups.items():
        cells = [
            server,
            SIDES[side].label,
            spread([row["cpu_us"] for row in some]),
            _of_stock(rows, server, side, "cpu_us"),
            spread([row["per_second"] for row in some], 0),
            spread([row["cpu_us_steady"] for row in some]),
            _of_stock(rows, server, side, "cpu_us_steady"),
            spread([row["p50_ms"] for row in some]),
            spread([row["p99_ms"] for row in some]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        (
            "| server | side | server's core | other core | kept up at 10/s | KiB/connection"
            " | lost | repeated | resets |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (server, side), some in groups.items():
        cells = [
            server,
            SIDES[side].label,
            f"{statistics.median(row['server_busy'] for row in some):.0%}",
            f"{statistics.median(row['others_busy'] for row in some):.0%}",
            f"{sum(1 for row in some if row['kept_up'])} of {len(some)}",
            spread([row["kib_per_connection"] for row in some]),
            _total(some, "lost"),
            _total(some, "repeated"),
            str(sum(row["resets"] for row in some)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_machine()])


def calls(tables: Sequence[Mapping[str, Sequence[Any]]], *, command: str, rounds: int) -> str:
    """The report of :mod:`.publish`; in each table the others are compared with the first."""
    lines = [
        f"Command: `{f'python -m tests.benchmarks.publish {command}'.rstrip()}`",
        "",
        f"{rounds} rounds; each cell: median (least–most) of the rounds.",
    ]
    for table in tables:
        (_, first), *_ = table.items()
        lines += [
            "",
            "| one call | µs until it returns | of the first | µs CPU | of the first |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, costs in table.items():
            cells = [name]
            for field in ("wall_us", "cpu_us"):
                own = [getattr(cost, field) for cost in costs]
                base = [getattr(cost, field) for cost in first]
                ratios = [one / other for one, other in zip(own, base, strict=True)]
                cells += [spread(own), spread(ratios, 2)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_machine()])


def _machine() -> list[str]:
    described = [f"- {name}: {value}" for name, value in machine.describe().items()]
    return ["", "Machine and versions:", "", *described, ""]


def _total(rows: Sequence[Row], name: str) -> str:
    return f"{sum(row[name] for row in rows):,} of {sum(row['deliveries'] for row in rows):,}"


def _of_stock(rows: Sequence[Row], server: str, side: str, name: str) -> str:
    """The ratio to the stock side within each run, in which they followed each other."""
    cost = {(row["run"], row["server"], row["side"]): row[name] for row in rows}
    ratios = [
        cost[run, server, "stock"] / own
        for (run, where, who), own in cost.items()
        if where == server and who == side and (run, server, "stock") in cost
    ]
    if not ratios or side == "stock":
        return ""
    return f"1/{spread(ratios)}"
