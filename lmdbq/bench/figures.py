"""The figures for a README, as Markdown: who does how many tasks a second, and what a backlog changes.

Made from a result file and nothing else, so that every figure can be traced to its rounds, its machine and its command.
Of the ways in which a client can use a peer the fastest stands for it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from lmdbq.bench.results import Cell, Result
from lmdbq.bench.tables import short
from lmdbq.bench.targets.base import RATE
from lmdbq.bench.workloads import BACKLOGS, ENQUEUE, growth_name

COLUMNS: Final = {
    "one per call, one caller": "enqueue 1, one caller",
    "one per call, 64 callers": "enqueue 1, 64 callers",
    "1,000 per call": "enqueue 1,000",
    "whole life, two workers": "workers, 100 in, 10 out",
}
PEERS: Final = "peers"  # the group, or the suite, in which all of them take turns
_OURS: Final = {"embedded": "**lmdbq**, in the process", "HTTP JSON": "**lmdbq**, over HTTP"}
_REDIS: Final = re.compile(r"(Redis (?:always|everysec|no|in memory)), .*")
_LIMITS: Final = ("raw py-lmdb", "raw py-lmdb, unsynced", "no-op aiohttp")
_UNSAID: Final = "-"
_WIDTH: Final = 120


def family(target: str) -> str:
    """Return the row in which a target stands.

    >>> family("Redis always, asyncio"), family("RQ, Redis always"), family("HTTP JSON")
    ('Redis always', 'RQ, Redis always', '**lmdbq**, over HTTP')
    """
    found = _REDIS.fullmatch(target)
    return found[1] if found else _OURS.get(target, target)


def _rows(result: Result) -> dict[str, list[Cell]]:
    """Return the cells of the columns by row: ours first; those that took turns with each other, if there are such."""
    rows: dict[str, list[Cell]] = {family(name): [] for name in _OURS}
    for cell in [cell for cell in result.cells if cell.group == PEERS] or result.cells:
        ours = family(cell.target) in rows and cell.target in _OURS
        other = not cell.target.startswith(("HTTP", "embedded", "Client")) and cell.target not in _LIMITS
        if cell.workload.name in COLUMNS.values() and cell.rounds and (ours or other):
            rows.setdefault(family(cell.target), []).append(cell)
    return {name: cells for name, cells in rows.items() if cells}


def _best(cells: Sequence[Cell], workload: str) -> Cell | None:
    """Return the fastest of the cells; where one was measured in several groups, the last of them counts."""
    latest = {cell.target: cell for cell in cells if cell.workload.name == workload}
    return max(latest.values(), key=lambda cell: cell.median(), default=None)


def rates(result: Result) -> str:
    """Return the table of tasks per second."""
    lines = [
        f"| tasks per second | {' | '.join(COLUMNS)} | promised | syncs seen per 1,000 tasks, one by one |",
        "|---|" + "--:|" * len(COLUMNS) + "---|--:|",
    ]
    for name, cells in _rows(result).items():
        found = [_best(cells, workload) for workload in COLUMNS.values()]
        values = " | ".join(short(cell.median(RATE)) if cell else _UNSAID for cell in found)
        lines.append(f"| {name} | {values} | {_promised(cells)} | {_syncs(found[0])} |")
    return "\n".join(lines) + "\n"


def _promised(cells: Sequence[Cell]) -> str:
    said = cells[-1].durability
    return "synced before every answer" if said == "full" else said


def _syncs(cell: Cell | None) -> str:
    seen = cell.syncs_per_1000 if cell is not None and cell.workload.kind == ENQUEUE else None
    return _UNSAID if seen is None else f"{seen:,.0f}"


def growth(result: Result) -> str:
    """Return the table of what a backlog changes; "" if the result says nothing of it."""
    lines = []
    for backlog in BACKLOGS:
        cell = _anywhere(result, growth_name(backlog, ""), "embedded")
        if cell is None:
            continue
        costs = " | ".join(f"{1e6 / cell.median(f'{verb}_per_second'):.1f}" for verb in ("enqueue", "claim", "report"))
        lines.append(f"| {backlog:,} | {costs} |")
    if not lines:
        return ""
    return "\n".join(["| waiting tasks | enqueue, µs a task | dequeue | report |", "|--:|--:|--:|--:|", *lines]) + "\n"


def _anywhere(result: Result, workload: str, target: str) -> Cell | None:
    found = [cell for cell in result.cells if (cell.workload.name, cell.target) == (workload, target) and cell.rounds]
    return found[-1] if found else None


def _sentences(result: Result) -> Iterator[str]:
    """Yield what else is worth a line, if it was measured."""
    none, full = (_anywhere(result, f"start, {many} waiting", "HTTP JSON") for many in ("none", "10 M"))
    if none is not None and full is not None:
        yield (
            f"With 10 million tasks waiting the daemon is ready {full.median('ready_ms'):.0f} ms after its start and "
            f"has {full.median('anonymous_mb'):.0f} MB of its own; with none, {none.median('ready_ms'):.0f} ms and "
            f"{none.median('anonymous_mb'):.0f} MB."
        )
    late = _anywhere(result, "enqueue to start", "HTTP JSON")
    if late is not None:
        yield (
            f"From enqueue to start in a waiting worker, at {late.workload.rate:,} tasks a second: median "
            f"{late.median('p50_ms'):.1f} ms, p99 {late.median('p99_ms'):.1f} ms."
        )
    idle = _anywhere(result, "idle, 10 parked", "HTTP JSON")
    if idle is not None:
        yield (
            f"Idle, with ten workers waiting: {idle.median('cpu_percent'):.2f} % of a core, "
            f"{idle.median('written_bytes'):.0f} bytes written."
        )
    single, many = (_anywhere(result, f"written, {kind}", "HTTP JSON") for kind in ("1 by 1", "1,000 per call"))
    if single is not None and many is not None:
        yield (
            f"A task's life (enqueue, dequeue, report) writes {single.median('life_bytes') / 1024:.0f} KiB one by one, "
            f"{many.median('life_bytes') / 1024:.1f} KiB at 1,000 per call."
        )


def machine(result: Result) -> str:
    """Return in a line where this was measured."""
    said = result.machine
    return (
        f"{said['cores']} cores ({said['processor']}), {said['file_system']}, a 4 kB fsync takes "
        f"{said['fsync_4kb_ms']} ms; {said['kernel']}, {said['python']}, LMDB {said['lmdb_engine']}. Clients, workers "
        "and servers share the cores."
    )


def markdown(result: Result) -> str:
    """Return all of it."""
    said = [textwrap.fill(text, _WIDTH) + "\n" for text in (machine(result), " ".join(_sentences(result)))]
    parts = [said[0], rates(result), growth(result), said[1]]
    return "\n".join(part for part in parts if part.strip())
