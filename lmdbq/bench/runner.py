"""The runner: cells take turns, round after round, each in a fresh directory with its servers started anew.

Taking turns is the method: a machine that slows down for a second slows down one round of every cell alike, and ratios
are taken inside a round. Every other round goes backwards, so that no cell always follows the same one. After each
measurement the target is asked how many tasks it holds, and that must be what it acknowledged: a figure for tasks that
are not there is an error, not a result. Old files are removed and the disk is settled before the next one starts.
"""

from __future__ import annotations

import datetime as dt
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct, structs

from lmdbq.bench import procfs, syncs
from lmdbq.bench.processes import Failed
from lmdbq.bench.results import Cell, Result
from lmdbq.bench.targets import TARGETS, Sample
from lmdbq.bench.workloads import ENQUEUE, WORKLOADS

Say = Callable[[str], None]
Pair = tuple[str, str]  # the names of a workload and a target


class Plan(Struct, frozen=True):
    """How to measure. rounds: how often each cell has its turn. seconds: how long it is then timed, after warm-up.

    directory: where files are made, on the disk that is to be measured; None: the working directory. patience_seconds:
    how long a turn waits for others to leave the machine to it; how busy they were then stands beside its figures.
    """

    rounds: int = 5
    warm_seconds: float = 0.5
    seconds: float = 2.0
    count_syncs: bool = True
    directory: Path | None = None
    patience_seconds: float = 10.0


BUSY_PERCENT_MAX: Final = 10.0


class WrongCount(Exception):
    """A target does not hold the tasks that it acknowledged."""


@contextmanager
def _fresh_directory(plan: Plan) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=".bench-", dir=plan.directory or Path.cwd()))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        os.sync()  # or the next cell pays for freeing this one's blocks


def measure_once(cell: Cell, plan: Plan, *, count_syncs: bool = False) -> tuple[Sample, int]:
    """Measure a cell once, in a directory of its own; return the sample and the syncs that were seen.

    Raises WrongCount, or Failed if a server or driver did not start or ended.
    """
    target = TARGETS[cell.target]
    with _fresh_directory(plan) as directory, target.open(directory / "target") as session:
        session.fill(cell.workload)
        before = session.stored()
        gc.collect()
        if count_syncs:
            with syncs.counting(session.pids, directory) as counted:
                sample = session.measure(cell.workload, 0.0, min(plan.seconds, 1.0))
        else:
            counted = syncs.Counted()
            sample = session.measure(cell.workload, plan.warm_seconds, plan.seconds)
        after = session.stored()
        if after is not None and before is not None and after - before != sample.left:
            raise WrongCount(
                f"{cell.target}, {cell.workload.name}: it acknowledged {sample.left} tasks and holds {after - before}"
            )
    return sample, counted.syncs


def run_group(group: str, plan: Plan, say: Say, pairs: Iterable[Pair]) -> list[Cell]:
    """Measure cells in turns."""
    cells = [_empty(group, *pair) for pair in pairs]
    present = [cell for cell in cells if not cell.absent]
    for number in range(plan.rounds):
        for cell in present if number % 2 == 0 else reversed(present):
            busy = procfs.wait_until_quiet(BUSY_PERCENT_MAX, plan.patience_seconds)
            sample, _ = measure_once(cell, plan)
            cell.rounds.append(sample.values)
            cell.busy_before_percent.append(busy)
            shown = "  ".join(f"{name} {value:,.6g}" for name, value in sample.values.items())
            say(
                f"round {number + 1}/{plan.rounds}  {cell.workload.name}  ·  {cell.target}  ·  {shown}" + _warning(busy)
            )
    if plan.count_syncs and not syncs.absent():
        return [_with_syncs(cell, plan, say) for cell in cells]
    return cells


def _warning(busy: float) -> str:
    return f"  (others kept the machine {busy:.0f} % busy)" if busy > BUSY_PERCENT_MAX else ""


def _empty(group: str, workload: str, target: str) -> Cell:
    chosen = TARGETS[target]
    assert WORKLOADS[workload].kind in chosen.kinds, f"{target} cannot do {workload}"
    return Cell(group, WORKLOADS[workload], target, chosen.durability, [], [], chosen.absent())


def _with_syncs(cell: Cell, plan: Plan, say: Say) -> Cell:
    if cell.absent or cell.workload.kind != ENQUEUE or not TARGETS[cell.target].durability:
        return cell
    try:
        sample, seen = measure_once(cell, plan, count_syncs=True)
    except (OSError, Failed) as why:
        say(f"syncs of {cell.target} were not counted: {why}")
        return cell
    per_1000 = 1_000 * seen / sample.left if sample.left else 0.0
    say(f"{cell.workload.name}  ·  {cell.target}  ·  {per_1000:,.3g} syncs per 1,000 tasks")
    return structs.replace(cell, syncs_per_1000=per_1000)


def run(groups: Mapping[str, Sequence[Pair]], plan: Plan, say: Say, keep: Callable[[Result], None]) -> Result:
    """Measure groups of cells and return the result; ``keep`` gets what there is after each group."""
    with _fresh_directory(plan) as directory:
        machine = procfs.facts(directory)
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    how = "not counted" if not plan.count_syncs else syncs.absent() or syncs.HOW
    result = Result(at, plan.rounds, plan.warm_seconds, plan.seconds, machine, how, [])
    for group, pairs in groups.items():
        result.cells.extend(run_group(group, plan, say, pairs))
        keep(result)
    return result
