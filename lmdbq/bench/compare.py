"""Whether two results differ: cell by cell, with the interval in which the ratio of the two lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from lmdbq.bench.results import Result
from lmdbq.bench.stats import Interval, ratio_interval
from lmdbq.bench.targets.base import RATE

ROUNDS_MIN: Final = 3  # with fewer, an interval says nothing
COMPARED: Final = (RATE, "p99_ms", "ready_ms", "anonymous_mb")  # the first of them that a cell has


class Difference(NamedTuple):
    """One value that both results have: AFTER ÷ BEFORE, and what to say of it."""

    workload: str
    target: str
    metric: str
    found: Interval
    verdict: str


def differences(before: Result, after: Result, confidence: float) -> Iterator[Difference]:
    """Yield a difference for each cell that both results have, of its rate or else of what it was measured for."""
    for cell in after.cells:
        old = before.cell(cell.group, cell.workload.name, cell.target)
        if old is None or not old.rounds or not cell.rounds or old.workload != cell.workload:
            continue
        metric = next((name for name in COMPARED if name in cell.rounds[0] and name in old.rounds[0]), "")
        if metric and all(old.values(metric)):
            found = ratio_interval(cell.values(metric), old.values(metric), confidence=confidence)
            enough = min(len(old.rounds), len(cell.rounds)) >= ROUNDS_MIN
            verdict = _verdict(found, more_is_better=metric == RATE) if enough else "too few rounds"
            yield Difference(cell.workload.name, cell.target, metric, found, verdict)


def _verdict(found: Interval, *, more_is_better: bool) -> str:
    if not found.differs:
        return "no difference shown"
    return "better" if (found.ratio > 1) == more_is_better else "worse"
