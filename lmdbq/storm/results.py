"""The results of storms as a file: one line of JSON for each run, appended, and the report that is printed from it.

A line says what was done, how much of it, by which seed and version, and what was counted; a run that found a fault has
its line, too. The last line of each storm is the one that counts. A field that is added later must have a default, so
that old lines stay readable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from lmdbq import __version__
from lmdbq.bench.procfs import revision
from lmdbq.storm.report import Report, figure

_HEAD: Final = """\
# What the storms have found

One line for each storm: its last long run. Written by `lmdbq storm report`, from the lines that `--record FILE` has
appended; with the same seed a command asks the same again.

| storm | what it does | how many | found wrong | counted | command | seed | version | date |
|---|---|--:|--:|---|---|---|---|---|
"""


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


def latest(lines: Iterable[Line], order: Sequence[str] = ()) -> list[Line]:
    """Return the last line of each storm; those of ``order`` first, and as there."""
    last = {line.storm: line for line in lines}
    known = [name for name in order if name in last]
    return [last[name] for name in [*known, *sorted(last.keys() - set(known))]]


def markdown(lines: Iterable[Line]) -> str:
    """Return the report."""
    return _HEAD + "".join(f"| {' | '.join(_cell(cell) for cell in _row(line))} |\n" for line in lines)


def _row(line: Line) -> tuple[str, ...]:
    counted = ", ".join(f"{name} {figure(value)}" for name, value in line.figures.items())
    how_long = f"{line.seconds:.0f} s" if line.seconds < 600 else f"{line.seconds / 60:.0f} min"
    return (
        line.storm,
        line.what,
        f"{line.tried:,} {line.unit} in {how_long}",
        f"{line.faulty:,}",
        counted,
        f"`{line.command}`",
        line.seed,
        f"{line.version} {line.revision}".rstrip(),
        line.date,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
