"""The runner: cells take turns, round after round, each in a fresh directory with its servers started anew.

Taking turns is the method: a machine that slows down for a second slows down one round of every cell alike, and ratios
are taken inside a round. Every other round goes backwards, so that no cell always follows the same one. After each
measurement the target is asked how many tasks it holds, and that must be what it acknowledged: a figure for tasks that
are not there is an error, not a result. Old files are removed and the disk is settled before the next one starts.
"""

from __future__ import annotations

import datetime as dt
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct, structs

from lmdbq.bench import procfs, syncs
from lmdbq.bench.backlogs import Backlogs, fresh_directory
from lmdbq.bench.processes import Failed
from lmdbq.bench.results import Cell, Part, Result
from lmdbq.bench.targets import TARGETS, Sample, Session, servers
from lmdbq.bench.targets.base import can
from lmdbq.bench.watching import Watcher
from lmdbq.bench.workloads import ENQUEUE, WORKLOADS, Workload

Pair = tuple[str, str]  # the names of a workload and a target
BUSY_PERCENT_MAX: Final = 10.0
_SAID_CHARS_MAX: Final = 2_000
SYNC_SECONDS: Final = 0.5  # of an extra run that is looked at with strace


class Plan(Struct, frozen=True):
    """How to measure. rounds: how often each cell has its turn. seconds: how long it is then timed, after warm-up.

    directory: where files are made, on the disk that is to be measured; None: the working directory. patience_seconds:
    how long a turn waits for others to leave the machine to it; how busy they were then stands beside its figures.
    small: backlogs are short, for a first look.
    """

    rounds: int = 5
    warm_seconds: float = 0.5
    seconds: float = 2.0
    count_syncs: bool = True
    directory: Path | None = None
    patience_seconds: float = 10.0
    small: bool = False


class WrongCount(Exception):
    """A target does not hold the tasks that it acknowledged."""


def _with_bytes(session: Session, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
    """Measure, and say how many bytes were written for each task, if that can be known."""
    before = procfs.written_by(session.pids)
    sample = session.measure(workload, warm_seconds, seconds)
    after = procfs.written_by(session.pids)
    tasks = sample.left if workload.kind == ENQUEUE else sample.tasks
    if before is None or after is None or tasks <= 0:
        return sample
    return structs.replace(sample, values={**sample.values, "written_bytes_per_task": (after - before) / tasks})


def measure_once(cell: Cell, plan: Plan, backlogs: Backlogs, *, count_syncs: bool = False) -> tuple[Sample, int]:
    """Measure a cell once, in a directory of its own; return the sample and the syncs that were seen.

    Raises WrongCount, or Failed if a server or driver did not start or ended.
    """
    target, workload = TARGETS[cell.target], cell.workload
    with backlogs.place(target, workload) as directory, _said_by(directory), target.open(directory) as session:
        before = session.stored()
        gc.collect()
        counted = syncs.Counted()
        if count_syncs:
            with syncs.counting(session.pids, directory) as counted:
                sample = session.measure(workload, 0.0, min(plan.seconds, SYNC_SECONDS))
        else:
            sample = _with_bytes(session, workload, plan.warm_seconds, plan.seconds)
        after = session.stored()
        if after is not None and before is not None and after - before != sample.left:
            raise WrongCount(
                f"{cell.target}, {workload.name}: it acknowledged {sample.left} tasks and holds {after - before}"
            )
    return sample, counted.syncs


@contextmanager
def _said_by(directory: Path) -> Iterator[None]:
    """Put what a server has said last to an error: its log goes with the directory."""
    try:
        yield
    except Exception as error:
        log = directory / "server.log"
        said = log.read_text(encoding="utf-8", errors="replace")[-_SAID_CHARS_MAX:].strip() if log.exists() else ""
        if said:
            error.add_note(f"The server said: {said}")
        raise


def run_group(group: str, plan: Plan, watcher: Watcher, pairs: Iterable[Pair], backlogs: Backlogs) -> list[Cell]:
    """Measure cells in turns."""
    cells = [empty_cell(group, *pair, small=plan.small) for pair in pairs]
    present = [cell for cell in cells if not cell.absent]
    for number in range(plan.rounds):
        for cell in present if number % 2 == 0 else reversed(present):
            watcher.doing(f"round {number + 1}/{plan.rounds}  {cell.workload.name}  ·  {cell.target}")
            busy = procfs.wait_until_quiet(BUSY_PERCENT_MAX, plan.patience_seconds)
            sample, _ = measure_once(cell, plan, backlogs)
            cell.rounds.append(sample.values)
            cell.busy_before_percent.append(busy)
            shown = "  ".join(f"{name} {value:,.6g}" for name, value in sample.values.items())
            watcher.done(shown + _warning(busy))
    if plan.count_syncs and not syncs.absent():
        return [_with_syncs(cell, plan, watcher, backlogs) for cell in cells]
    return cells


def _warning(busy: float) -> str:
    return f"  (others kept the machine {busy:.0f} % busy)" if busy > BUSY_PERCENT_MAX else ""


def empty_cell(group: str, workload: str, target: str, *, small: bool = False) -> Cell:
    """Return a cell that has not had its turn yet."""
    chosen, what = TARGETS[target], WORKLOADS[workload]
    assert can(chosen, what), f"{target} cannot do {workload}"
    return Cell(group, what.small() if small else what, target, chosen.durability, [], [], chosen.absent())


def counts_syncs(cell: Cell) -> bool:
    """Whether syncs of a cell are counted: where tasks are enqueued, and kept."""
    return not cell.absent and cell.workload.kind == ENQUEUE and bool(TARGETS[cell.target].durability)


def _with_syncs(cell: Cell, plan: Plan, watcher: Watcher, backlogs: Backlogs) -> Cell:
    if not counts_syncs(cell):
        return cell
    watcher.doing(f"syncs of {cell.workload.name}  ·  {cell.target}")
    try:
        sample, seen = measure_once(cell, plan, backlogs, count_syncs=True)
    except (OSError, Failed) as why:
        watcher.done(f"not counted: {why}")
        return cell
    per_1000 = 1_000 * seen / sample.left if sample.left else 0.0
    watcher.done(f"{per_1000:,.3g} per 1,000 tasks")
    return structs.replace(cell, syncs_per_1000=per_1000)


Groups = Mapping[str, tuple[Plan, Sequence[Pair]]]


def run(groups: Groups, directory: Path | None, watcher: Watcher, keep: Callable[[Result], None]) -> Result:
    """Measure groups of cells, each by its plan, and return the result; ``keep`` gets what there is after each."""
    with fresh_directory(directory) as place:
        machine = {**procfs.facts(place), "servers": servers()}
        result = Result(_now(), machine, "", [])
        backlogs = Backlogs(place, watcher.note)
        for group, (plan, pairs) in groups.items():
            how = "not counted" if not plan.count_syncs else syncs.absent() or syncs.HOW
            part = Part(_now(), plan.rounds, plan.warm_seconds, plan.seconds, machine["revision"], machine["command"])
            cells = run_group(group, plan, watcher, pairs, backlogs)
            result = structs.replace(
                result, syncs_how=how, cells=[*result.cells, *cells], parts={**result.parts, group: part}
            )
            keep(result)
    return result


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def turns_of(groups: Groups) -> int:
    """Return how many turns a run has, those for syncs with them."""
    turns = 0
    for group, (plan, pairs) in groups.items():
        cells = [empty_cell(group, *pair) for pair in pairs]
        turns += plan.rounds * sum(not cell.absent for cell in cells)
        turns += sum(map(counts_syncs, cells)) if plan.count_syncs and not syncs.absent() else 0
    return turns


_TURN_SECONDS: Final = 1.5  # to start and to stop servers and drivers, and to settle the disk
_FILL_SECONDS: Final = {"": 2e-6, "sequential": 6e-6, "random": 12e-6}  # a task


def seconds_of(groups: Groups) -> float:
    """Return about how many seconds a run takes on a machine that is left alone."""
    seconds = 0.0
    fills: set[tuple[str, int]] = set()
    for group, (plan, pairs) in groups.items():
        turn = plan.warm_seconds + plan.seconds + _TURN_SECONDS
        seconds += turn * turns_of({group: (plan, pairs)})
        found = [empty_cell(group, *pair, small=plan.small) for pair in pairs]
        fills |= {(cell.workload.keys, cell.workload.backlog) for cell in found if not cell.absent}
    return seconds + sum(_FILL_SECONDS[keys] * backlog for keys, backlog in fills)
