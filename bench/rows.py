"""The table: what must be reached, as data, and how it is printed from a result file.

A row divides one cell by another of the same group, round by round, and takes the median: both ran within seconds of
each other, so what the machine did meanwhile cancels out. Of several denominators the one that makes the row harder
counts. A row without one is a bound on a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final, NamedTuple

from bench.results import Cell, Result
from bench.targets.base import RATE


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


_RAW: Final = "raw py-lmdb"
_BATCH: Final = "enqueue 1,000"
_ONE: Final = "enqueue 1, 64 callers"
_LIFE: Final = "whole life 1,000"
_LIFE_8: Final = "whole life 1,000, eight priorities"
_REDIS: Final = "Redis always, LMOVE pipelined"
_BLMOVE: Final = "Redis always, BLMOVE"
_IDLE: Final = ("idle, 10 parked", "HTTP JSON")

ROWS: Final = (
    Row("batches", "embedded, 1,000 per transaction ÷ raw", 0.7, (_BATCH, "embedded"), ((_BATCH, _RAW),)),
    Row("batches", "HTTP JSON, 1,000 per POST, full answer ÷ raw", 0.4, (_BATCH, "HTTP JSON"), ((_BATCH, _RAW),)),
    Row("batches", "the same, `return_tasks: false` ÷ raw", 0.5, (_BATCH, "HTTP JSON, ids only"), ((_BATCH, _RAW),)),
    Row(
        "batches",
        "HTTP JSON, 1,000 per POST ÷ redis-py pipelined, appendfsync always",
        8,
        (_BATCH, "HTTP JSON"),
        ((_BATCH, "Redis always, pipelined"),),
    ),
    Row(
        "batches",
        "the same, appendfsync no",
        6,
        (_BATCH, "HTTP JSON"),
        ((_BATCH, "Redis no, pipelined"),),
    ),
    Row("life", "whole life in-process ÷ raw, one priority", 0.8, (_LIFE, "embedded"), ((_LIFE, _RAW),)),
    Row("life", "the same, eight random priorities", 0.5, (_LIFE_8, "embedded"), ((_LIFE_8, _RAW),)),
    Row(
        "singles",
        "HTTP, one task per POST, 64 connections ÷ no-op aiohttp",
        0.65,
        (_ONE, "HTTP JSON"),
        ((_ONE, "no-op aiohttp"),),
    ),
    Row(
        "singles",
        "the same ÷ redis-py, one per round trip, appendfsync always",
        1.8,
        (_ONE, "HTTP JSON"),
        ((_ONE, "Redis always, threads"), (_ONE, "Redis always, asyncio")),
    ),
    *(
        Row("workers", f"whole life over HTTP, two workers, {name}", asked, (cell, "HTTP JSON"), ((cell, peer),))
        for name, asked, cell, peer in (
            ("dequeue 10 ÷ Redis BLMOVE one by one", 3, "workers, 100 in, 10 out", _BLMOVE),
            ("100 ÷ Redis pipelined alike", 1.3, "workers, 100 in, 100 out", _REDIS),
            ("1,000 ÷ Redis pipelined alike", 2.5, "workers, 1,000 in, 1,000 out", _REDIS),
            ("one by one, report and dequeue in one ÷ Redis one by one", 0.8, "workers, 1 in, 1 out", _BLMOVE),
        )
    ),
    Row("idle", "idle daemon: anonymous memory", 40, _IDLE, metric="anonymous_mb", at_most=True, unit=" MB"),
    Row("idle", "CPU with 10 parked waiters", 0.2, _IDLE, metric="cpu_percent", at_most=True, unit=" %"),
    Row("idle", "bytes written when idle", 0, _IDLE, metric="written_bytes", at_most=True, unit=" B"),
    Row(
        "latency",
        "enqueue to start in a waiting worker, 1,000/s: p99",
        10,
        ("enqueue to start", "HTTP JSON"),
        metric="p99_ms",
        at_most=True,
        unit=" ms",
    ),
)

# Groups of which nothing is required, but which a reader will ask for.
BESIDE: Final = {
    "more batches": (
        (_BATCH, _RAW),
        (_BATCH, "HTTP JSON"),
        ("enqueue 1,000, four callers", "HTTP JSON"),
        (_BATCH, "HTTP MessagePack"),
        (_BATCH, "HTTP NDJSON"),
        (_BATCH, "Redis always, pipelined, two clients"),
        (_BATCH, "Redis no, pipelined, two clients"),
        ("enqueue 100", "Redis no, pipelined"),
        (_BATCH, "raw py-lmdb, unsynced"),
    ),
    "keys": (
        ("enqueue 1,000, random keys, 50 k waiting", "HTTP JSON"),
        ("enqueue 1,000, random keys, 50 k waiting", _RAW),
        ("enqueue 1,000, sequential keys", "HTTP JSON"),
        (_BATCH, "HTTP JSON"),
    ),
}


def groups() -> list[str]:
    """Return the names of the groups."""
    return list(dict.fromkeys([*(row.group for row in ROWS), *BESIDE]))


def cells_of(group: str) -> list[tuple[str, str]]:
    """Return the (workload, target) pairs that take turns in a group."""
    wanted: dict[tuple[str, str], None] = {}
    for row in ROWS:
        if row.group == group:
            wanted |= dict.fromkeys((*row.denominators, row.numerator))
    return list(wanted | dict.fromkeys(BESIDE.get(group, ())))


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


def table_of_rows(result: Result) -> str:
    """Return the Markdown table of what was asked and what was reached."""
    lines = ["| | asked | reached | rounds | |", "|---|---|---|---|---|"]
    for row in ROWS:
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
