"""The tables that are printed from a result: what rows of ratios come to, and every cell.

A row divides one cell by another of the same group, round by round, and takes the median: both ran within seconds of
each other, so what the machine did meanwhile cancels out. Of several denominators the one that makes the row harder
counts. A row without one is a bound on a value. Which rows there are is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from lmdbq.bench.results import Cell, Result
from lmdbq.bench.targets.base import RATE


class Row(NamedTuple):
    """One thing that is asked. numerator, denominators: (workload, target). at_most: less is better, for bounds.

    minus: the row is a difference, not a ratio. over: the ratio is divided by that of these two cells, to see by how
    much more one thing changes than another.
    """

    group: str
    title: str
    asked: float
    numerator: tuple[str, str]
    denominators: tuple[tuple[str, str], ...] = ()
    metric: str = RATE
    at_most: bool = False
    unit: str = ""
    minus: bool = False
    over: tuple[tuple[str, str], tuple[str, str]] | None = None


class Reached(NamedTuple):
    """What a row comes to: the median and the extremes of its rounds."""

    value: float
    low: float
    high: float


def reached(row: Row, result: Result) -> Reached | None:
    """Return what a result says of a row; None if it says nothing."""
    above = _values(row, row.numerator, result)
    if not above:
        return None
    found = [_spread(values) for below in row.denominators if (values := _against(row, above, below, result))]
    if row.denominators and not found:
        return None
    harder = max if row.at_most else min
    return harder(found) if found else _spread(above)


def _values(row: Row, pair: tuple[str, str], result: Result) -> list[float]:
    cell = result.cell(row.group, *pair)
    return [values[row.metric] for values in cell.rounds if row.metric in values] if cell is not None else []


def _against(row: Row, above: list[float], below: tuple[str, str], result: Result) -> list[float]:
    """Return the ratio, or the difference, of each round; [] if there are none. A round of a peer that finished nothing
    in its time is no ratio."""
    others = _values(row, below, result)
    if row.minus:
        return [one - other for one, other in zip(above, others, strict=False)]
    ratios = [one / other for one, other in zip(above, others, strict=False) if other]
    if row.over is None:
        return ratios
    over = zip(_values(row, row.over[0], result), _values(row, row.over[1], result), strict=False)
    return [ratio / (one / other) for ratio, (one, other) in zip(ratios, over, strict=False)]


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
        shown = f"{short(found.value)}{row.unit} | {short(found.low)}-{short(found.high)}"
        lines.append(f"| {row.title} | {asked} | {shown} | {'yes' if enough else '**no**'} |")
    return "\n".join(lines) + "\n"


def table_of_cells(result: Result) -> str:
    """Return the Markdown table of everything that was measured."""
    lines = [
        "| workload | target | durability | median | rounds | beside it | syncs per 1,000 tasks, seen |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in result.cells:
        name = f"| {cell.workload.name} | {cell.target} | {cell.durability} |"
        if cell.absent:
            lines.append(f"{name} absent: {cell.absent} | | | |")
        elif cell.rounds:
            lines.append(f"{name} {_of_cell(cell)}")
    return "\n".join(lines) + "\n"


def _of_cell(cell: Cell) -> str:
    first, *others = cell.rounds[0]
    values = cell.values(first)
    beside = ", ".join(f"{words(metric)} {short(cell.median(metric))}" for metric in others)
    syncs = "" if cell.syncs_per_1000 is None else f"{cell.syncs_per_1000:,.3g}"
    spread = f"{short(min(values))}-{short(max(values))}"
    return f"{short(median(values))} {words(first)} | {spread} | {beside} | {syncs} |"


def words(metric: str) -> str:
    """Return the name of a metric as people have it.

    >>> words("tasks_per_second"), words("call_p99_ms")
    ('tasks/s', 'call p99 ms')
    """
    return "tasks/s" if metric == RATE else metric.replace("_", " ")


def short(value: float) -> str:
    """Return a value with three digits or more.

    >>> short(0.71234), short(12.34), short(523456.0)
    ('0.71', '12.3', '523,456')
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
