"""The runs of the failing-call storm: which failures are tried, two at a time, and what they add up to.

The first few of any number show something of every call and every way to fail; with no limit, all of them are tried, of
a session with durability ``full`` and then of one with ``batch``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from lmdbq.storm.child import EXIT_REFUSED, EXIT_UNKNOWN, GO_ON
from lmdbq.storm.fail_call import STEPS, Ended, Failure, Reference, disturb, reference, shuffled
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory

AT_ONCE: Final = 2
DURABILITIES: Final = ("full", "batch")
ENDINGS: Final = {0: "went on", EXIT_REFUSED: "refused to open", EXIT_UNKNOWN: "stopped"}


def run(
    seed: str, tell: Tell, runs_max: int = 0, minutes: float = 0.0, *, steps: int = STEPS, plant: str = ""
) -> Report:
    """Try ``runs_max`` failures, 0 = all; or as many as fit into ``minutes``.

    plant: child.GO_ON, or "". Raises trace.Unclear, KeyError (plant).
    """
    if plant not in ("", GO_ON):
        raise KeyError(plant)
    report = Report("fail-call", seed, "runs")
    started = time.monotonic()
    with scratch_directory() as scratch:
        for turn, durability in enumerate(DURABILITIES, 1):
            until = started + minutes * 60 * turn / len(DURABILITIES) if minutes else None
            undisturbed = reference(seed, durability, scratch, steps)
            wanted = shuffled(undisturbed, random.Random(seed))
            if runs_max:
                wanted = wanted[: runs_max // len(DURABILITIES) + runs_max % len(DURABILITIES)]
            total = runs_max or len(DURABILITIES) * len(undisturbed.failures)
            tell(report.tried, total, f"session {seed}, durability {durability}: {len(wanted)} failures")
            for ended in _disturbed(undisturbed, wanted, scratch, plant, until):
                _take(report, ended, undisturbed)
                report.seconds = time.monotonic() - started
                tell(report.tried, total, "")
    return report


def _take(report: Report, ended: Ended, undisturbed: Reference) -> None:
    report.tried += 1
    report.count(ENDINGS.get(ended.status, "ended otherwise"))
    if ended.problems:
        where = f"session {undisturbed.seed}, durability {undisturbed.durability}, {ended.failure}"
        report.blame(f"{where}, exit status {ended.status}", ended.problems)


def _disturbed(
    undisturbed: Reference, wanted: list[Failure], scratch: Path, plant: str, until: float | None
) -> Iterator[Ended]:
    """Yield how each disturbed session ended, as they end."""
    left = iter(wanted)
    running: set[Future[Ended]] = set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            while len(running) < AT_ONCE and (until is None or time.monotonic() < until):
                failure = next(left, None)
                if failure is None:
                    break
                running.add(pool.submit(disturb, undisturbed, failure, scratch, plant))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
