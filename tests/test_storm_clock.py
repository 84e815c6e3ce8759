"""The clock is set under a daemon that is used, and nothing comes early, late or twice; planted faults are found."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lmdbq.storm import clock_steps
from lmdbq.storm.fake_clock import WallClock
from lmdbq.storm.report import Report


def storm(seed: str, steps: int, plant: str = "", kinds: tuple[str, ...] = tuple(clock_steps.KINDS)) -> Report:
    return clock_steps.run(seed, lambda done, of, event: None, steps, plant=plant, kinds=kinds)


def said(report: Report) -> str:
    return "\n".join(problem for fault in report.faults for problem in fault.problems)


def test_each_kind_of_step_once():
    report = storm("of the tests", len(clock_steps.KINDS))
    assert report.passed, said(report)
    assert report.tried == len(clock_steps.KINDS)
    assert report.figures["leases kept"] > 0
    assert report.figures["leases lapsed"] > 0
    assert report.figures["scheduled"] > 50
    assert report.figures["instants that must be"] > 10


@pytest.mark.parametrize(
    ("plant", "kind", "found"),
    [
        ("leases-by-wall", "a day ahead", "must hold"),
        ("nobody-looks", "two hours ahead", "was not given for"),
        ("ids-by-clock", "an hour back", "given"),
        ("instants-again", "stopped", "for the instant"),
        ("instants-forgotten", "stopped", "gave no task"),
    ],
)
def test_a_planted_fault_is_found(plant: str, kind: str, found: str):
    report = storm("quiet", 1, plant, (kind,))
    assert report.faulty > 0
    assert found in said(report)


def test_what_the_process_saw_of_an_instant(tmp_path: Path):
    """The judge's own clock: an hour ahead, then back before the process is stopped for a while."""
    clock = WallClock(tmp_path)
    clock.seen()
    begun = clock.spans()[0].begin
    instant = clock.now() + 1800
    clock.step(3600)
    ahead_at = clock.spans()[1].begin
    clock.step(-3600)
    back_at = clock.spans()[1].end
    clock.unseen()
    clock.step(3600)
    clock.seen()
    again_at = clock.spans()[-1].begin
    until = again_at + 10
    assert list(clock.due(instant, begun, until)) == [(ahead_at, back_at), (again_at, until)]
    assert list(clock.due(instant, begun, ahead_at)) == []
    assert clock.latest(begun, ahead_at - 1e-9) < instant
    assert clock.latest(begun, back_at) > instant + 1700
    assert clock.latest(begun - 10, begun - 5) == -math.inf
