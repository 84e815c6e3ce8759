"""The clock is set under a daemon that is used, and nothing comes early, late or twice; planted faults are found."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from lmdbq.storm import clock_steps
from lmdbq.storm.clock_cron import Active, expected
from lmdbq.storm.clock_rig import Claims, Rig, Stalls
from lmdbq.storm.fake_clock import Span, WallClock
from lmdbq.storm.report import Report
from lmdbq.storm.served import Caller


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
    assert report.figures["instants that must be"] > 0


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
    clock.seen(os.getpid())
    begun = clock.spans()[0].begin
    instant = clock.now() + 1800
    clock.step(3600)
    ahead_at = clock.spans()[1].begin
    clock.step(-3600)
    back_at = clock.spans()[1].end
    clock.unseen()
    clock.step(3600)
    clock.seen(os.getpid())
    again_at = clock.spans()[-1].begin
    until = again_at + 10
    assert list(clock.due(instant, begun, until)) == [(ahead_at, back_at), (again_at, until)]
    assert list(clock.due(instant, begun, ahead_at)) == []
    assert clock.latest(begun, ahead_at - 1e-9) < instant
    assert clock.latest(begun, back_at) > instant + 1700
    assert clock.latest(begun - 10, begun - 5) == -math.inf


def test_what_starts_may_see_the_clock_before_it_is_seen_to_be_ready(tmp_path: Path):
    clock = WallClock(tmp_path)
    clock.starting()
    begun = time.monotonic()
    instant = clock.wall(begun, 0.0)
    assert clock.latest(begun, begun + 0.1) > instant
    assert list(clock.due(instant, begun, begun + 1)) == []
    clock.seen(os.getpid())
    ready = clock.spans()[0].begin
    assert clock.latest(begun, ready) > instant
    assert list(clock.due(instant, begun, ready + 1)) == [(ready, ready + 1)], "late is what it could give and did not"


def test_a_dequeue_whose_answer_was_lost_is_asked_again_by_its_claim_id():
    asked: list[tuple[str, float]] = []

    class Losing:
        def post(self, caller: object, path: str, value: dict[str, Any]) -> dict[str, Any] | None:
            asked.append((value["claim_id"], value["wait_in_seconds"]))
            return None if len(asked) == 2 else {"tasks": [len(asked)]}

    claims, caller = Claims(cast(Rig, Losing()), "q", 7), cast(Caller, None)
    began = time.monotonic()
    assert claims.take(caller, 5.0) is not None
    assert claims.take(caller, 5.0) is None
    lost_at = time.monotonic()
    taken = claims.take(caller, 1.0)
    assert taken is not None
    assert began <= taken.asked_at <= lost_at <= taken.given_at
    assert asked == [("q 1", 5.0), ("q 2", 5.0), ("q 2", 5.0)]


def test_nothing_is_left_of_a_clock_whose_process_was_killed(tmp_path: Path):
    with WallClock(tmp_path) as clock:
        with subprocess.Popen(
            [sys.executable, "-c", "input(print('ready', flush=True))"],
            env=os.environ | clock.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            clock.seen(process.pid)
            process.kill()
        assert list(Path("/dev/shm").glob(f"*faketime_*_{process.pid}"))
    assert not list(Path("/dev/shm").glob(f"*faketime_*_{process.pid}"))


def test_what_a_process_had_no_core_excuses_its_being_late():
    """Two who work on one core: each waits while the other has it."""
    busy = ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-I", "-S", "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(subprocess.Popen(busy)) for _ in range(2))
        stack.callback(lambda: [process.kill() for process in (one, other)])
        began = time.monotonic()
        with Stalls(lambda: one.pid) as watching, Stalls(lambda: 0) as not_watching:
            while watching.seconds(began, time.monotonic()) < not_watching.seconds(began, time.monotonic()) + 0.2:
                assert one.poll() is None
                assert time.monotonic() < began + 60
                time.sleep(0.01)
        assert watching.seconds(began - 20, began - 10) == 0


def asked_for(spans: list[tuple[float, float, float]], *active: Active) -> list[tuple[int, float, bool]]:
    """Which instants must have come of a clock that began at 0, from when on, and whether as the next of all."""
    seen = [Span(begin, end, ahead, begin) for begin, end, ahead in spans]
    wanted = expected(seen, active, lambda steady, ahead: steady + ahead, lambda since, until: 0.0)
    return [(one.instant, one.begin, one.is_next) for one in wanted]


def test_which_instants_a_schedule_must_give():
    first = [(1, 1.0, False), (2, 2.0, False)]  # it may think that they were passed over
    back = [(0.5, 4.0, 0.0), (4.0, 8.0, -3_600.0), (8.0, 10.5, 0.0)]
    again = [(instant, 8.0, True) for instant in (5, 6, 7, 8)]
    assert asked_for(back, Active(0.6, 10.5)) == [*first, *again, (9, 9.0, True)]
    assert asked_for(back, Active(0.6, 5.0), Active(7.0, 10.5)) == [*first, (9, 9.0, False)], "it began after a pause"
    away = [(0.5, 4.0, 0.0), (4.0, 6.0, 7_200.0), (6.5, 9.0, -86_400.0), (9.0, 13.5, 7_200.0)]
    came = [(7_210, 10.0), (7_211, 11.0), (7_212, 12.0)]
    again = [(instant, 9.0, True) for instant in (7_207, 7_208, 7_209)]
    assert asked_for(away, Active(0.6, 13.5)) == [*first, *again, *((*one, True) for one in came)]
    assert asked_for(away, Active(6.6, 13.5)) == [(*one, one[1] > 11.0) for one in came], "began before what it passed"
