"""A result: everything that one run of the harness has measured, as a file of JSON.

A file says what was done, where, and what every single round gave, so that whoever doubts a figure can look, and any
two files can be compared. The newest fields are optional: old results stay readable.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from msgspec import Struct

from lmdbq.bench.targets.base import RATE
from lmdbq.bench.workloads import Workload


class Cell(Struct, frozen=True):
    """What one target did with one workload, in a group of cells that took turns.

    rounds: the values of each round, in order; a round of one cell ran beside the same round of the others in its
    group. busy_before_percent: how busy others kept the machine when each round began. absent: why there are none.
    syncs_per_1000: as seen, None if nobody looked.
    """

    group: str
    workload: Workload
    target: str
    durability: str
    rounds: list[dict[str, float]] = []
    busy_before_percent: list[float] = []
    absent: str = ""
    syncs_per_1000: float | None = None

    def values(self, metric: str = RATE) -> list[float]:
        """Return one value of each round."""
        return [values[metric] for values in self.rounds]

    def median(self, metric: str = RATE) -> float:
        return median(self.values(metric))


class Part(Struct, frozen=True):
    """How the cells of one group were measured: when, how often, for how long, of which revision, by what command."""

    at: str
    rounds: int
    warm_seconds: float
    seconds: float
    revision: str
    command: str


class Result(Struct, frozen=True):
    """One run, or several whose groups were put together. machine: see ``procfs.facts``. syncs_how: how syncs were
    counted, or why not. parts: by group."""

    at: str
    machine: dict[str, Any]
    syncs_how: str
    cells: list[Cell]
    parts: dict[str, Part] = {}

    def cell(self, group: str, workload: str, target: str) -> Cell | None:
        """Return a cell, None if it was not measured."""
        for cell in self.cells:
            if (cell.group, cell.workload.name, cell.target) == (group, workload, target):
                return cell
        return None


SAME: Final = ("processor", "cores", "file_system", "python", "lmdb_engine")  # of the machines of one file


def merged(old: Result, new: Result) -> Result:
    """Return a result with the groups of both; a group that both have is that of ``new``.

    Raises ValueError if they are of different machines.
    """
    for fact in SAME:
        if old.machine.get(fact) != new.machine.get(fact):
            raise ValueError(
                f"the file has {fact} {old.machine.get(fact)!r} and this run {new.machine.get(fact)!r}: "
                "results of different machines need files of their own"
            )
    kept = [cell for cell in old.cells if cell.group not in new.parts]
    return Result(new.at, new.machine, new.syncs_how, [*kept, *new.cells], {**old.parts, **new.parts})


def save(result: Result, path: Path) -> None:
    """Write a result, to be read by people, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(result))), indent=1)
    path.write_bytes(text + b"\n")


def load(path: Path) -> Result:
    """Read a result. Raises msgspec.ValidationError for a file that is none."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def _rounded(value: Any) -> Any:
    """Return a value with floats of five digits: more would only look like knowledge."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
