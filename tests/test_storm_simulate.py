"""The simulation: it finds nothing in the engine as it is, and each fault that is put in; a seed repeats its run."""

from __future__ import annotations

import asyncio
import random

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from lmdbq.cli.storm_simulate import command
from lmdbq.clock import ManualClock
from lmdbq.lifecycle import Event
from lmdbq.model import (
    Applied,
    Call,
    Claim,
    Claimed,
    Completion,
    Done,
    Enqueue,
    Enqueued,
    Entry,
    Report,
    ReportDone,
    Reported,
    State,
    Status,
    Task,
)
from lmdbq.model import Outcome as Said
from lmdbq.store.memory import MemoryStore
from lmdbq.storm import simulate
from lmdbq.storm.sim_judge import Judge
from lmdbq.storm.sim_life import Fault, Life
from lmdbq.storm.sim_plants import PLANTS
from lmdbq.storm.virtual_loop import Process, VirtualLoop
from tests.store_driver import Driver


def ignore(*_: object) -> None:
    return


# --- what it says of the engine ---


@pytest.mark.parametrize("store", simulate.STORES)
def test_the_engine_passes(store: str):
    report = simulate.run("of the tests", ignore, 4_000, stores=(store,))
    assert report.passed, report.faults
    assert report.tried >= 4_000
    assert report.figures["crashes"] > 2
    assert report.figures["reports accepted"] > 100


@pytest.mark.parametrize("plant", [name for name in PLANTS if name])
def test_a_planted_fault_is_found(plant: str):
    report = simulate.run("of the tests", ignore, 60_000, plant=plant)
    assert report.faulty == 1
    problem, title, *history = report.faults[0].problems
    assert title == "its history:"
    assert 0 < len(history) <= 40
    expected = {
        "forget-a-wakeup": "waits for it",
        "ignore-the-fence": "delivery ",
        "answer-before-commit": "no commit",
        "lose-a-claim": "nobody was given it",
        "two-of-a-thread": "which holds its thread",
        "forget-a-cap": "may",
        "spend-no-token": "had no token",
        "leave-a-lane-shut": "which does not hold it",
        "an-instant-twice": "were enqueued by schedules",
        "an-instant-lost": "gave no task for",
        "lose-a-fold": "it was given with",
        "let-a-duplicate-in": "it was let in beside",
        "forget-an-edit": "it was ",
        "take-the-last": "whose turn it was",
        "forget-a-weight": "had something to give",
        "forget-a-death": "and was followed",
    }
    assert expected[plant] in problem


def test_a_seed_repeats_its_run_and_another_does_not():
    def history(seed: str) -> list[tuple[float, str, frozenset[str]]]:
        run = simulate.Run(seed, MemoryStore(), None)
        run.live(500)
        assert run.fault is None
        return list(run.world.history)

    assert history("one/0") == history("one/0")
    assert history("one/0") != history("one/1")


def test_a_run_is_asked_for_by_its_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simulate, "STEPS_PER_RUN", 300)
    first, alone = simulate.run("several/0", ignore, 1), simulate.run("several/1", ignore, 1)
    both = simulate.run("several", ignore, first.tried + 1)
    assert both.tried == first.tried + alone.tried
    assert (alone.figures["runs"], both.figures["runs"]) == (1, 2)


# --- its loop ---


def test_time_jumps_and_a_killed_process_does_nothing_more():
    loop = VirtualLoop(random.Random(1))  # type: ignore[abstract]
    seen: list[str] = []

    async def tick(name: str) -> None:
        while True:
            seen.append(f"{name} {loop.time():.0f}")
            await asyncio.sleep(10)

    one, two = Process("one"), Process("two")
    loop.start(one, tick("one"))
    loop.start(two, tick("two"))
    loop.later(loop.outside, 15, one.kill)
    loop.run(25)
    loop.end()
    assert sorted(seen) == ["one 0", "one 10", "two 0", "two 10", "two 20"]
    assert loop.failures == []


def test_what_a_task_raises_and_nobody_hears_is_a_failure():
    loop = VirtualLoop(random.Random(1))  # type: ignore[abstract]

    async def fail() -> None:
        raise ValueError("unheard")

    loop.start(Process("one"), fail())
    loop.run(1)
    assert len(loop.failures) == 1
    assert "unheard" in loop.failures[0]


# --- its judge ---

WALL = 10**18


def enqueued(judge: Judge, task_id: int = 1) -> None:
    call = Call((Enqueue([Entry(queue="q")]),))
    judge.hear([call], Applied([Done((Enqueued(WALL, [task_id], {}),))], frozenset()), WALL, 0)


def reported(judge: Judge, delivery: int, said: Said, state: State | None, status: Status = Status.SUCCEEDED) -> None:
    call = Call((Report([Completion(1, delivery, status)]),))
    judge.hear([call], Applied([Done((ReportDone([Reported(said, state)]),))], frozenset()), WALL, 0)


def judge_of_a_running_task() -> Judge:
    judge = Judge(ignore)
    enqueued(judge)
    life = judge.lives[1]
    life.move(Event.CLAIM, State.RUNNING, "a claim")
    life.delivery, life.deadline = 1, 10**9
    return judge


def test_the_judge_takes_one_end_of_a_delivery_and_its_repetition():
    judge = judge_of_a_running_task()
    reported(judge, 1, Said.OK, None)
    reported(judge, 1, Said.OK, None)
    assert judge.accepted == 1
    with pytest.raises(Fault, match="two reports"):
        reported(judge, 1, Said.OK, None, Status.FAILED)


@pytest.mark.parametrize(
    ("delivery", "said", "match"),
    [
        (2, Said.OK, "was accepted; it is at 1"),
        (1, Said.NOT_FOUND, "the task is running"),
        (1, Said.NOT_RUNNING, "the task is running"),
        (1, Said.STALE_LEASE, "the task is running"),
    ],
)
def test_the_judge_knows_a_wrong_answer_to_a_report(delivery: int, said: Said, match: str):
    with pytest.raises(Fault, match=match):
        reported(judge_of_a_running_task(), delivery, said, None)


def test_the_judge_lets_a_lease_lapse_when_it_is_over_and_not_before():
    judge = judge_of_a_running_task()
    ready = State.READY
    with pytest.raises(Fault, match="it can only be running"):
        judge.compare([_task(1, ready)], WALL, 10**9 - 1)
    judge = judge_of_a_running_task()
    judge.compare([_task(1, ready)], WALL, 10**9)
    assert judge.lives[1].possible == {ready}


def test_the_judge_knows_what_nobody_enqueued_and_what_is_enqueued_twice():
    judge = Judge(ignore)
    with pytest.raises(Fault, match="nobody has ever"):
        reported(judge, 1, Said.OK, None)
    enqueued(judge)
    with pytest.raises(Fault, match="given twice"):
        enqueued(judge)


def test_the_judge_misses_a_task_that_is_lost():
    judge = Judge(ignore)
    enqueued(judge)
    with pytest.raises(Fault, match="it is gone; it can only be ready"):
        judge.compare([], WALL, 0)


def test_what_could_not_be_given_back_is_excused():
    judge = judge_of_a_running_task()
    judge.unclaimed[1, 1] = Claimed([])
    judge.excuse([Call((Report([Completion(1, 1, Status.RELEASED)]),))])
    assert judge.unclaimed == {}


def test_a_claim_that_no_commit_gave_is_known():
    judge = Judge(ignore)
    with pytest.raises(Fault, match="no commit gave it"):
        judge.given(Claim(("q",)), Claimed([]))
    assert Life(1, "q", "x", State.READY).words() == "ready"


def _task(task_id: int, state: State) -> Task:
    driver = Driver(MemoryStore(), ManualClock())
    return replace(driver.task(driver.add()), id=task_id, state=state)


def test_the_command_says_what_it_has_done():
    ended = CliRunner().invoke(command, ["--steps", "500", "--seed", "of the command"], standalone_mode=False)
    assert ended.return_value == 0, ended.output
    assert "simulate: " in ended.output
    assert "all is there" in ended.output
