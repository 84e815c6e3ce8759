"""The tables that are printed from a result: what rows of ratios come to, and every cell.

A row divides one cell by another of the same group, round by round, and takes the median: both ran within seconds of
each other, so what the machine did meanwhile cancels out. Of several denominators the one that makes the row harder
counts. A row without one is a bound on a value. Which rows there are is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from lmdbq.bench.results import Cell, Result
from lmdbq.bench.targets.base import RATE


class Row(NamedTuple):
    """One thing that is asked. numerator, denominators: (workload, target). at_most: less is better, for bounds."""

    group: str
    title: str
    asked: float
    numerator: tuple[str, str]
    denominators: tuple[tuple[str, str], ...] = ()
    metric: str = RATE
    at_most: bool = False
    unit: str = ""


class Reached(NamedTuple):
    """What a row comes to: the median and the extremes of its rounds."""

    value: float
    low: float
    high: float


def reached(row: Row, result: Result) -> Reached | None:
    """Return what a result says of a row; None if it says nothing."""
    above = result.cell(row.group, *row.numerator)
    if above is None or not above.rounds:
        return None
    found = list(_against(row, above, result))
    if row.denominators and not found:
        return None
    return min(found) if found else _spread(above.values(row.metric))


def _against(row: Row, above: Cell, result: Result) -> Iterator[Reached]:
    for denominator in row.denominators:
        below = result.cell(row.group, *denominator)
        if below is not None and below.rounds:
            pairs = zip(above.values(row.metric), below.values(row.metric), strict=True)
            yield _spread([one / other for one, other in pairs])


def _spread(values: Sequence[float]) -> Reached:
    return Reached(median(values), min(values), max(values))


# --- printing ---------------------------------------------------------------------------------------------------------


def table_of_rows(rows: Iterable[Row], result: Result) -> str:
    """Return the Markdown table of what was asked and what was reached."""
    lines = ["| | asked | reached | rounds | |", "|---|---|---|---|---|"]
    for row in rows:
        found = reached(row, result)
        sign = "≤" if row.at_most else "≥"
        asked = f"{sign} {row.asked:g}{row.unit}"
        if found is None:
            lines.append(f"| {row.title} | {asked} | not measured | | |")
            continue
        enough = found.value <= row.asked if row.at_most else found.value >= row.asked
        shown = f"{_short(found.value)}{row.unit} | {_short(found.low)}-{_short(found.high)}"
        lines.append(f"| {row.title} | {asked} | {shown} | {'yes' if enough else '**no**'} |")
    return "\n".join(lines) + "\n"


def table_of_cells(result: Result) -> str:
    """Return the Markdown table of everything that was measured."""
    lines = [
        "| workload | target | durability | median | rounds | syncs per 1,000 tasks, seen |",
        "|---|---|---|---|---|---|",
    ]
    for cell in result.cells:
        name = f"| {cell.workload.name} | {cell.target} | {cell.durability} |"
        if cell.absent:
            lines.append(f"{name} absent: {cell.absent} | | |")
            continue
        syncs = "" if cell.syncs_per_1000 is None else f"{cell.syncs_per_1000:,.3g}"
        for metric in cell.rounds[0]:
            values = cell.values(metric)
            words = "tasks/s" if metric == RATE else metric.replace("_", " ")
            spread = f"{_short(min(values))}-{_short(max(values))}"
            lines.append(f"{name} {_short(median(values))} {words} | {spread} | {syncs if metric == RATE else ''} |")
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    """Return a value with three digits or more.

    >>> _short(0.71234), _short(12.34), _short(523456.0)
    ('0.71', '12.3', '523,456')
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
