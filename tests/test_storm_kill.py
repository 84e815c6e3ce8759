"""The storm of kills: nothing is lost in it; its judge sees each kind of fault, and the storm each that is put in."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmdbq.bench.procfs import NoCore, waited_ns
from lmdbq.demo.children import Interrupts
from lmdbq.storm import kill, kill_caller, kill_judge, kill_round
from lmdbq.storm.kill_cast import ROLES, Cast, EndedByItself
from lmdbq.storm.kill_judge import Judge, Life, Stored
from lmdbq.storm.kill_lanes import Lanes, Part
from lmdbq.storm.kill_plants import PLANTS
from lmdbq.storm.report import Report

SECOND = 1_000_000_000
KILLS = 24
# What a fault is found by, at least.
SIGNS = {
    "answer-early": "lost|resurrected",
    "skip-an-index-delete": "check: K5",
    "ignore-the-fence": "stale reports accepted|finished twice|resurrected",
    "forget-a-wake-up": "not worked off|back too late",
}


def silence(*_: Any) -> None:
    return


def storm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmdbq", "storm", "kill", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)


# --- the storm ---


def test_a_storm_of_kills_loses_nothing_and_does_nothing_twice():
    ended = storm("--kills", str(KILLS), "--seed", "of the tests", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = json.loads(ended.stdout)
    figures = said["figures"]
    assert (said["tried"], said["seed"], said["passed"]) == (KILLS, "of the tests", True)
    assert {kind: figures[kind] for kind in Judge.KINDS} == dict.fromkeys(Judge.KINDS, 0)
    assert sum(figures[f"{who} killed"] for who in ("daemon", "library", "producer", "worker")) == KILLS
    assert figures["enqueues told"] > KILLS / 4
    assert figures["completions accepted"] > KILLS / 4
    assert figures["asked and not told"] + figures["started twice"] > 0, "nobody was killed at work: it was no storm"


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(plant: str):
    """The test of the test."""
    kills = 4 if plant == "forget-a-wake-up" else 30  # that one shows when the killing is over
    report = kill.run("a fault", silence, kills, plant=plant)
    assert not report.passed
    signs = SIGNS[plant].split("|")
    problems = [problem for fault in report.faults for problem in fault.problems]
    assert any(problem.startswith(sign) for problem in problems for sign in signs), problems


def test_the_seed_decides_who_is_killed():
    strikes = list(kill_round.strikes("seed", 200))
    assert strikes == list(kill_round.strikes("seed", 200))
    assert strikes != list(kill_round.strikes("other", 200))
    killed = [role for strike in strikes for role in strike.roles]
    assert len(killed) == 200
    assert set(killed) == set(ROLES)
    assert max(len(strike.roles) for strike in strikes) == len(ROLES), "all at once was never drawn"


def test_what_is_played_side_by_side_follows_from_the_seed(monkeypatch: pytest.MonkeyPatch):
    """Three rounds in two lanes: who is killed in each is what its own seed says."""
    monkeypatch.setattr(kill, "KILLS_PER_ROUND", 4)
    told: list[tuple[int, int, str]] = []
    report = kill.run("side by side", lambda *what: told.append(what), 10, lanes=2)
    assert (report.tried, report.faulty, report.faults) == (10, 0, [])
    rounds = [kill_round.strikes(f"side by side/{number}", kills) for number, kills in enumerate((4, 4, 2))]
    struck = [role for strikes in rounds for strike in strikes for role in strike.roles]
    killed = {who: sum(role.startswith(who) for role in struck) for who in ("daemon", "library", "producer", "worker")}
    assert {who: report.figures.get(f"{who} killed", 0) for who in killed} == killed
    assert [event for _, _, event in told if event] == [
        f"round side by side/{number}, durability {durability}"
        for number, durability in enumerate(("full", "batch", "full"))
    ]
    assert told[-1][:2] == (10, 10)


@pytest.fixture
def storm_with_a_lane(tmp_path: Path) -> Iterator[tuple[Lanes, Iterator[Report | str]]]:
    """A storm in the middle of its only round."""
    with Interrupts() as interrupts, Lanes(1, tmp_path, "") as lanes:
        events = lanes.play(iter([Part("seed", "0", "full", 1_000, None)]), interrupts)
        assert [next(events), next(events)] == ["round seed, durability full", ""]
        yield lanes, events


def test_a_lane_that_ends_by_itself_is_seen(storm_with_a_lane: tuple[Lanes, Iterator[Report | str]]):
    lanes, events = storm_with_a_lane
    lane = lanes._lanes[0]
    assert lane.process.pid is not None
    os.kill(lane.process.pid, signal.SIGSTOP)  # from here on it neither starts anybody nor kills
    os.waitid(os.P_PID, lane.process.pid, os.WSTOPPED | os.WNOWAIT)
    orphans = children_of(lane.process.pid)
    lane.process.kill()
    with pytest.raises(RuntimeError, match="a lane of the storm ended by itself with -9"):
        list(events)
    for orphan in orphans:
        with contextlib.suppress(ProcessLookupError):  # it had ended, and was only waited for
            os.kill(orphan, signal.SIGKILL)


def test_a_lane_whose_storm_has_gone_ends_its_processes(storm_with_a_lane: tuple[Lanes, Iterator[Report | str]]):
    lane = storm_with_a_lane[0]._lanes[0]
    while len(theirs := children_of(lane.process.pid)) < len(ROLES) - 1:  # some may just be replaced
        assert lane.process.is_alive()
    lane.connection.close()
    lane.process.join()
    assert lane.process.exitcode == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in theirs)


def children_of(parent: int | None) -> list[int]:
    """Return the processes that a process has started, and not yet seen the end of."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def test_a_process_that_ends_by_itself_is_a_fault(tmp_path: Path):
    with Interrupts() as interrupts, Cast(tmp_path, "full", "seed", "", interrupts.check) as cast:
        for role in ("daemon", "worker-1"):
            cast.start(role)
        os.kill(cast._players["worker-1"].process.pid, signal.SIGILL)
        cast._players["worker-1"].process.wait()
        with pytest.raises(EndedByItself, match="worker-1 ended by itself with -4"):
            cast.kill("worker-1")
        daemon = cast._players["daemon"].process
    assert daemon.poll() == -signal.SIGKILL, "somebody was left behind"


def test_ctrl_c_leaves_nobody_behind(tmp_path: Path):
    place = tmp_path / "python"  # the children's command lines name it, and so can be told from others
    place.symlink_to(sys.executable)
    command = [str(place), "-m", "lmdbq", "storm", "kill", "--kills", "1000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert "round" in process.stderr.readline()
        while len(running(place)) < len(ROLES):
            assert process.poll() is None
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait() == 130
    assert running(place) == []


def running(place: Path) -> list[str]:
    """Return the command lines of processes that were started with the program ``place``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0] == os.fsencode(place):
                found.append(str(words))
    return found


def test_a_fault_that_does_not_exist_is_a_wrong_use():
    assert storm("--plant", "nothing").returncode == 2


@pytest.mark.parametrize("module", [kill_caller, kill_judge])
def test_the_ledger_and_its_judge_import_nothing_of_lmdbq(module: Any):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert len(names) >= 4
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


# --- its judge: a round that is well, and what makes it bad ---


class Notes:
    """Notes as a producer, two workers and a second producer might have written them; times in seconds."""

    def __init__(self) -> None:
        self.died_at: dict[str, float] = {}
        self.lines: dict[str, list[list[Any]]] = {"producer-1.1": [], "worker-1.1": [], "worker-2.1": []}
        self.served = [(0.0, 0.0)]
        self.stalls: list[tuple[int, float]] = []
        self.waits: list[tuple[int, float]] = []

    def note(self, who: str, at: float, *said: Any) -> None:
        self.lines[who].append([round(at * SECOND), *said])

    def enqueue(self, task_id: str, at: float, key: str = "", outcome: str = "enqueued", number: str = "") -> None:
        number = number or f"number of {task_id}"
        self.note("producer-1.1", at, "ask", f"producer-1.1/{number} at {at}", [[number, key, 0]])
        self.note("producer-1.1", at + 0.01, "told", f"producer-1.1/{number} at {at}", [[outcome, task_id]])

    def give(self, who: str, at: float, task_id: str, delivery: int, *, asked: float = -1.0, number: str = "") -> None:
        claim_id = f"{who}/{at}"
        self.note(who, asked if asked >= 0 else at, "dequeue", claim_id, 5)
        self.note(who, at, "given", claim_id, [[task_id, delivery, number or f"number of {task_id}"]])

    def report(
        self, who: str, at: float, task_id: str, delivery: int, status: str = "succeeded", outcome: str = "ok"
    ) -> None:
        self.note(who, at, "report", task_id, delivery, status)
        self.note(who, at + 0.01, "reported", task_id, delivery, status, outcome)

    def problems(self, *stored: tuple[str, str, int], totals: dict[str, int] | None = None) -> dict[str, list[str]]:
        """Judge, and return the faults. stored: (id, state, deliveries)."""
        lives = [
            Life(name, round(self.died_at.get(name, 0) * SECOND), sorted(lines, key=lambda line: line[0]))
            for name, lines in self.lines.items()
        ]
        judge = Judge(
            lives,
            [(round(start * SECOND), round(end * SECOND)) for start, end in self.served],
            1,
            self.stalls,
            self.waits,
        )
        known = {task_id: Stored(f"number of {task_id}", state, deliveries) for task_id, state, deliveries in stored}
        everything = {**judge._tasks, **known}
        judge.judge(known, totals or {"enqueued": len(everything), "succeeded": len(everything), "cancelled": 0})
        return {kind: problems for kind, problems in judge.problems.items() if problems}


@pytest.fixture
def notes() -> Notes:
    """One task that was enqueued, given and finished, and is kept."""
    made = Notes()
    made.enqueue("t", 1)
    made.give("worker-1.1", 2, "t", 1)
    made.report("worker-1.1", 3, "t", 1)
    return made


KEPT = ("t", "succeeded", 1)


def test_a_round_that_is_well_has_no_faults(notes: Notes):
    assert notes.problems(KEPT) == {}


def test_a_task_that_was_accepted_and_is_not_there_is_lost(notes: Notes):
    assert list(notes.problems()) == ["lost"]


def test_a_request_that_is_never_answered_is_lost(notes: Notes):
    notes.note("producer-1.1", 4, "ask", "producer-1.1/9", [["nine", "", 0]])
    assert list(notes.problems(KEPT)) == ["lost"]


@pytest.mark.parametrize("now", [("t", "ready", 1), ("t", "succeeded", 2), ("t", "cancelled", 1)])
def test_what_was_finished_and_is_otherwise_is_resurrected(notes: Notes, now: tuple[str, str, int]):
    assert list(notes.problems(now)) == ["resurrected"]


def test_what_is_given_after_its_end_is_resurrected(notes: Notes):
    notes.give("worker-2.1", 4, "t", 2)
    assert list(notes.problems(KEPT)) == ["resurrected"]


def test_what_was_cancelled_and_is_given_to_a_later_request_is_resurrected(notes: Notes):
    notes.enqueue("c", 4)
    notes.note("producer-1.1", 5, "cancel", "c")
    notes.note("producer-1.1", 6, "cancelled", "c", "ok")
    assert notes.problems(KEPT, ("c", "cancelled", 0)) == {}
    notes.give("worker-2.1", 8, "c", 1, asked=7)
    assert list(notes.problems(KEPT, ("c", "cancelled", 1))) == ["resurrected"]


def test_what_still_waits_is_not_worked_off(notes: Notes):
    notes.enqueue("w", 4)
    found = notes.problems(KEPT, ("w", "ready", 0), totals={"enqueued": 2, "succeeded": 2, "cancelled": 0})
    assert list(found) == ["not worked off"]


def test_two_who_hold_one_key_at_a_time_are_found(notes: Notes):
    for task_id, begins, ends in (("a", 10, 20), ("b", 15, 30)):
        notes.enqueue(task_id, begins, key="key")
        notes.give("worker-1.1", ends - 1, task_id, 1)
        notes.report("worker-1.1", ends, task_id, 1)
    assert list(notes.problems(KEPT)) == ["two holders of a slot"]


def test_one_who_ended_before_the_other_began_is_no_second_holder(notes: Notes):
    for task_id, begins, ends in (("a", 10, 20), ("b", 21, 30)):
        notes.enqueue(task_id, begins, key="key")
        notes.give("worker-1.1", ends - 1, task_id, 1)
        notes.report("worker-1.1", ends, task_id, 1)
    assert notes.problems(KEPT) == {}


def test_a_key_that_is_taken_by_one_who_had_ended_is_found(notes: Notes):
    notes.enqueue("t", 4, outcome="skipped", number="other")
    assert list(notes.problems(KEPT)) == ["slots that stay taken"]


def test_two_ends_of_one_delivery_are_found(notes: Notes):
    notes.report("worker-1.1", 4, "t", 1, "failed")
    assert list(notes.problems(KEPT)) == ["finished twice"]


def test_a_late_report_that_is_accepted_is_found(notes: Notes):
    notes.enqueue("s", 10)
    notes.give("worker-1.1", 11, "s", 1)
    notes.give("worker-2.1", 12, "s", 2)
    notes.report("worker-1.1", 13, "s", 1, "failed")
    notes.report("worker-2.1", 14, "s", 2)
    assert list(notes.problems(KEPT, ("s", "succeeded", 2))) == ["stale reports accepted"]


def test_one_delivery_to_two_callers_is_found(notes: Notes):
    notes.give("worker-2.1", 2.5, "t", 1)
    assert list(notes.problems(KEPT)) == ["given twice"]


def test_one_number_with_two_ids_and_one_that_nobody_asked_for_are_found(notes: Notes):
    notes.give("worker-2.1", 4, "u", 1, number="number of t")
    notes.report("worker-2.1", 5, "u", 1)
    notes.give("worker-2.1", 6, "v", 1, number="nobody's")
    notes.report("worker-2.1", 7, "v", 1)
    found = notes.problems(KEPT)
    assert len(found["accepted twice"]) == 2


def held_by_a_dead(notes: Notes, back_at: float, *, asked: float) -> None:
    """At 10 a worker dies with a task; ``back_at`` another is given it, who has asked at ``asked``."""
    notes.enqueue("d", 8)
    notes.give("worker-1.1", 9.5, "d", 1)
    notes.died_at["worker-1.1"] = 10
    notes.give("worker-2.1", back_at, "d", 2, asked=asked)
    notes.report("worker-2.1", back_at + 0.1, "d", 2)


@pytest.mark.parametrize(("back_at", "faults"), [(11.9, []), (12.1, ["back too late"])])
def test_what_the_dead_held_is_back_within_its_lease_and_a_second(notes: Notes, back_at: float, faults: list[str]):
    held_by_a_dead(notes, back_at, asked=9)
    assert list(notes.problems(KEPT, ("d", "succeeded", 2))) == faults


def test_the_time_counts_from_the_last_start_of_the_daemon(notes: Notes):
    notes.served = [(0, 10.5), (11.5, 0)]
    held_by_a_dead(notes, 13.4, asked=9)
    assert notes.problems(KEPT, ("d", "succeeded", 2)) == {}


@pytest.mark.parametrize(("back_at", "faults"), [(12.4, []), (12.6, ["back too late"])])
def test_what_the_machine_stood_still_is_added(notes: Notes, back_at: float, faults: list[str]):
    notes.stalls = [(round(9 * SECOND), 5.0), (round(11 * SECOND), 0.5)]
    notes.waits = [(round(11 * SECOND), 0.4)]  # the same half second, as the daemon saw it
    held_by_a_dead(notes, back_at, asked=9)
    assert list(notes.problems(KEPT, ("d", "succeeded", 2))) == faults


@pytest.mark.parametrize(("back_at", "faults"), [(12.4, []), (12.6, ["back too late"])])
def test_what_the_daemon_had_no_core_is_added(notes: Notes, back_at: float, faults: list[str]):
    notes.waits = [(round(9 * SECOND), 5.0), (round(11 * SECOND), 0.3), (round(11.5 * SECOND), 0.2)]
    held_by_a_dead(notes, back_at, asked=9)
    assert list(notes.problems(KEPT, ("d", "succeeded", 2))) == faults


def test_the_kernel_counts_how_long_a_process_had_no_core(tmp_path: Path):
    """Three who work on one core: each waits while the others have it."""
    core = str(min(os.sched_getaffinity(0)))
    busy = ["taskset", "-c", core, sys.executable, "-I", "-S", "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(subprocess.Popen(busy)) for _ in range(3)]
        stack.callback(lambda: [process.kill() for process in crowd])
        no_core, told = NoCore(), {process.pid: 0.0 for process in crowd}
        while min(told.values()) < 0.05:
            assert all(process.poll() is None for process in crowd)
            for pid in told:
                told[pid] += no_core.seconds(pid)
            time.sleep(0.01)
        assert all(round(told[pid] * SECOND) <= waited_ns(pid) for pid in told), "no moment counts twice"
    assert no_core.seconds(2**22 + 1) == 0, "of a process that there is not, nothing"


def test_late_is_only_what_somebody_asked_for_in_vain(notes: Notes):
    held_by_a_dead(notes, 15, asked=14.9)
    assert notes.problems(KEPT, ("d", "succeeded", 2)) == {}
    notes.note("worker-2.1", 13, "dequeue", "in vain", 5)
    notes.note("worker-2.1", 13.1, "given", "in vain", [])
    assert list(notes.problems(KEPT, ("d", "succeeded", 2))) == ["back too late"]


def test_totals_that_do_not_add_up_and_odd_answers_are_found(notes: Notes):
    notes.note("worker-1.1", 5, "odd", "/v1/report", 500, {"code": "internal"})
    found = notes.problems(KEPT, totals={"enqueued": 2, "succeeded": 1, "cancelled": 0})
    assert len(found["other faults"]) == 2
