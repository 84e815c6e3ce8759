"""The results of storms as a file: one line of JSON for each run, appended, and the report that is printed from it.

A line says what was done, how much of it, by which seed and version, and what was counted; a run that found a fault has
its line, too. Of each storm the report shows the last run, and the sum of all: what takes hours can be done in several
sittings. A field that is added later must have a default, so that old lines stay readable.

The trap: a sum must not hide a fault that was found once and mended since. So what was found wrong is summed, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from lmdbq import __version__
from lmdbq.bench.procfs import revision
from lmdbq.storm.report import Report, figure

_HEAD: Final = """\
# What the storms have found

One line for each storm: its last run, and the sum of all that were recorded. Written by `lmdbq storm report`, from the
lines that `--record FILE` has appended; with the same seed a command asks the same again.

| storm | what it does | last run | found wrong | in all | found wrong | seeds | counted | command | seed | \
version | date |
|---|---|--:|--:|--:|--:|---|---|---|---|---|---|
"""
SEEDS_SHOWN: Final = 12


class Line(Struct, frozen=True, kw_only=True):
    """One run of a storm. what: in a sentence; tried, faulty: how many ``unit``, and how many of them are not as they
    must be; command: as it was typed, without its seed; revision: of the clone it ran in, "" elsewhere; date: in UTC.
    """

    storm: str
    what: str
    tried: int
    unit: str
    faulty: int
    figures: dict[str, int | float]
    seconds: float
    command: str
    seed: str
    version: str
    revision: str
    date: str


class AllRuns(Struct, frozen=True):
    """All recorded runs of a storm together. seeds: each once, in the order of their first runs; seconds: in all."""

    runs: int
    tried: int
    faulty: int
    seconds: float
    seeds: list[str]


class Row(Line, frozen=True, kw_only=True):
    """The last run of a storm, and all of them."""

    all_runs: AllRuns


def line_of(report: Report, what: str, command: str) -> Line:
    """Return the line of a run that ends now."""
    return Line(
        storm=report.storm,
        what=what,
        tried=report.tried,
        unit=report.unit,
        faulty=report.faulty,
        figures=report.figures,
        seconds=round(report.seconds, 1),
        command=command,
        seed=report.seed,
        version=__version__,
        revision=revision(),
        date=datetime.now(UTC).date().isoformat(),
    )


def append(line: Line, path: Path) -> None:
    """Append a line to a file; several may do so at once. Raises OSError."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def read(path: Path) -> list[Line]:
    """Return all lines of a file. Raises OSError, msgspec.DecodeError."""
    return [msgspec.json.decode(line, type=Line) for line in path.read_bytes().splitlines()]


def summed(lines: Iterable[Line], order: Sequence[str] = ()) -> list[Row]:
    """Return a row for each storm; those of ``order`` first, and as there."""
    runs: dict[str, list[Line]] = {}
    for line in lines:
        runs.setdefault(line.storm, []).append(line)
    known = [name for name in order if name in runs]
    return [_row(runs[name]) for name in [*known, *sorted(runs.keys() - set(known))]]


def _row(runs: Sequence[Line]) -> Row:
    all_runs = AllRuns(
        runs=len(runs),
        tried=sum(line.tried for line in runs),
        faulty=sum(line.faulty for line in runs),
        seconds=round(sum(line.seconds for line in runs), 1),
        seeds=list(dict.fromkeys(line.seed for line in runs)),
    )
    return Row(**asdict(runs[-1]), all_runs=all_runs)


def markdown(rows: Iterable[Row]) -> str:
    """Return the report."""
    return _HEAD + "".join(f"| {' | '.join(_cell(cell) for cell in _cells(row))} |\n" for row in rows)


def _cells(row: Row) -> tuple[str, ...]:
    everything, more = row.all_runs, len(row.all_runs.seeds) - SEEDS_SHOWN
    seeds = [*everything.seeds[:SEEDS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return (
        row.storm,
        row.what,
        f"{row.tried:,} {row.unit} in {_how_long(row.seconds)}",
        f"{row.faulty:,}",
        f"{everything.tried:,} {row.unit} in {_sittings(everything.runs)}, {_how_long(everything.seconds)}",
        f"{everything.faulty:,}",
        ", ".join(seeds),
        ", ".join(f"{name} {figure(value)}" for name, value in row.figures.items()),
        f"`{row.command}`",
        row.seed,
        f"{row.version} {row.revision}".rstrip(),
        row.date,
    )


def _sittings(number: int) -> str:
    return "1 sitting" if number == 1 else f"{number:,} sittings"


def _how_long(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
