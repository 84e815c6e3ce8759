"""The simulation: it finds nothing in the engine as it is, and each fault that is put in; a seed repeats its run."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from lmdbq.cli.storm_simulate import command
from lmdbq.clock import ManualClock
from lmdbq.lifecycle import Event
from lmdbq.model import (
    NEW_SET,
    Applied,
    Call,
    Claim,
    Claimed,
    Completion,
    Condition,
    Done,
    Enqueue,
    Enqueued,
    Entry,
    Memo,
    Options,
    Prune,
    Purge,
    Rate,
    Report,
    ReportDone,
    Reported,
    SetChanged,
    SetClose,
    SetDelete,
    SetMake,
    SetState,
    SetView,
    State,
    Status,
    Swept,
    Task,
    TaskSet,
)
from lmdbq.model import Outcome as Said
from lmdbq.store.memory import MemoryStore
from lmdbq.storm import simulate
from lmdbq.storm.sim_answers import Answers
from lmdbq.storm.sim_fair import Shares
from lmdbq.storm.sim_judge import Judge
from lmdbq.storm.sim_life import Fault, Life
from lmdbq.storm.sim_plants import PLANTS
from lmdbq.storm.sim_rules import Tokens
from lmdbq.storm.sim_spawned import HOME
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
    expected: dict[str, str | tuple[str, ...]] = {
        "forget-a-wakeup": "waits for it",
        "ignore-the-fence": "delivery ",
        "answer-before-commit": "no commit",
        "lose-a-claim": "nobody was given it",
        "two-of-a-thread": "which holds its thread",
        "forget-a-cap": "may",
        "spend-no-token": "had no token",
        "leave-a-lane-shut": "whose turn it was",
        "an-instant-twice": "were enqueued by schedules",
        "an-instant-lost": "gave no task for",
        "lose-a-fold": "it was given with",
        "let-a-duplicate-in": "it was let in beside",
        "forget-an-edit": "it was ",
        "take-the-last": "whose turn it was",
        "forget-a-weight": "had something to give",
        "forget-to-age": "whose turn it was",
        "pass-a-group-over": "whose turn it was",
        "first-come-first-served": "waited in",
        "forget-a-share": "waited in",
        "forget-a-death": "and was followed",
        "miscount-an-end": "; they are ",
        "count-a-report-twice": "; they are ",
        "decide-too-early": ("which it cannot ", "a set is gone, and its time was not over"),
        "follow-a-set-twice": "was followed by 2 tasks",
        "forget-a-set": "was followed by 0 tasks",
        "leave-a-deleted-set": " any more",
        "leave-a-set-open": "somebody was told otherwise",
        "wake-nobody-for-a-set": "waits for it",
    }
    texts = expected[plant]
    assert any(text in problem for text in ((texts,) if isinstance(texts, str) else texts))


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
    judge.answers.excuse([Call((Report([Completion(1, 1, Status.RELEASED)]),))])
    assert judge.unclaimed == {}


def test_a_claim_that_no_commit_gave_is_known():
    judge = Judge(ignore)
    with pytest.raises(Fault, match="no commit gave it"):
        judge.answers.given(Claim(("q",)), Claimed([]))
    assert Life(1, "q", "x", State.READY).words() == "ready"


# --- its judges of sets and shares ---


def judge_of_a_set(members: int, condition: Condition = Condition.ALL) -> Judge:
    """Return a judge of a set with running members, which is closed: set 9, tasks 1 and up."""
    judge = Judge(ignore)
    said = TaskSet(condition, callback=Entry(queue=HOME), on_unmet=None)
    ops = [SetMake(said), Enqueue([Entry(queue="q", options=Options(set_id=NEW_SET))] * members), SetClose(NEW_SET)]
    ids = [*range(1, members + 1)]
    outcomes = (SetChanged(9, SetState.OPEN), Enqueued(WALL, ids, {}), SetChanged(9, SetState.CLOSED))
    judge.hear([Call(tuple(ops))], Applied([Done(outcomes)], frozenset()), WALL, 0)
    for life in judge.lives.values():
        life.move(Event.CLAIM, State.RUNNING, "a claim")
        life.delivery, life.deadline = 1, 10**9
    return judge


def view(state: SetState, **counts: int) -> SetView:
    return SetView(9, TaskSet(callback=Entry(queue=HOME)), state, remove_at=2 * WALL, **counts)


def follow(judge: Judge, state: SetState, **counts: int) -> None:
    names = ("members", "succeeded", "dead", "cancelled", "expired", "deleted")
    told = {"set_id": "set_00000000009", "state": state.word} | {name: counts.get(name, 0) for name in names}
    judge.sets.born(77, 9, json.dumps(told).encode())


def test_the_judge_takes_a_set_whose_members_have_ended_and_what_follows_it():
    judge = judge_of_a_set(1)
    judge.sets.compare([view(SetState.CLOSED, members=1, pending=1)])
    reported(judge, 1, Said.OK, None)
    with pytest.raises(Fault, match="have ended"):
        judge.sets.compare([view(SetState.CLOSED, members=1, pending=1)])
    follow(judge, SetState.MET, members=1, succeeded=1)
    judge.sets.compare([view(SetState.MET, members=1, succeeded=1)])
    with pytest.raises(Fault, match="has changed"):
        judge.sets.compare([view(SetState.MET, members=1, dead=1)])
    with pytest.raises(Fault, match="followed by 2 tasks"):
        judge.sets.born(
            78, 9, b'{"state":"met","members":1,"succeeded":1,"dead":0,"cancelled":0,"expired":0,"deleted":0}'
        )


def test_the_judge_knows_a_set_that_was_decided_before_its_members_ended():
    judge = judge_of_a_set(2)
    reported(judge, 1, Said.OK, None)
    with pytest.raises(Fault, match="which it cannot have been"):
        follow(judge, SetState.MET, members=2, succeeded=2)
    with pytest.raises(Fault, match="which it cannot be"):
        judge.sets.compare([view(SetState.MET, members=2, succeeded=2)])


def test_the_judge_knows_a_member_that_is_counted_twice_and_one_that_nobody_follows():
    judge = judge_of_a_set(1, Condition.FINISHED)
    reported(judge, 1, Said.OK, None)
    with pytest.raises(Fault, match="says 2 are succeeded; they are 1 to 1"):
        judge.sets.compare([view(SetState.MET, members=1, succeeded=2)])
    with pytest.raises(Fault, match="followed by 0"):
        judge.sets.compare([view(SetState.MET, members=1, succeeded=1)])


def test_a_member_that_expired_before_its_queue_was_purged_counts_as_one_or_the_other():
    judge = judge_of_a_set(1)
    life = judge.lives[1]
    life.possible, life.expires_at = {State.READY}, WALL
    purged = Applied([Done((Swept(1, False),))], frozenset())
    judge.hear([Call((Purge("q"),))], purged, WALL, 0)
    assert life.tallies == {"expired", "deleted", "pending"}
    judge.hear([Call((Prune(),))], purged, WALL, 0)
    judge.sets.compare([view(SetState.UNMET, members=1, expired=1)])


def test_the_judge_lets_nothing_follow_a_set_that_was_deleted():
    judge = judge_of_a_set(1)
    deleted = Applied([Done((SetChanged(9, None),))], frozenset())
    judge.hear([Call((SetDelete(9),))], deleted, WALL, 0)
    with pytest.raises(Fault, match="no set_00000000009 any more"):
        judge.sets.compare([view(SetState.CLOSED, members=1, pending=1)])
    reported(judge, 1, Said.OK, None)
    with pytest.raises(Fault, match="cannot have been"):
        follow(judge, SetState.MET, members=1, succeeded=1)


def test_tokens_that_came_in_before_a_boot_are_there_after_it_and_none_of_the_time_between():
    tokens, rate = Tokens(), Rate(1, 10**9)
    assert tokens.spend("g", rate, 5 * 10**9)
    tokens.settle(6 * 10**9)
    tokens.rearm(10**9)
    assert tokens.spend("g", rate, 10**9)
    assert not tokens.spend("g", rate, 10**9)


def test_a_call_is_carried_out_once_under_its_key():
    answers = Answers()
    call = Call((Enqueue([Entry()]),), Memo("key", b""))
    done = Done((Enqueued(WALL, [1], {}),))
    answers.committed(call, done, WALL, WALL)
    answers.committed(call, replace(done, replayed=True), WALL, WALL)
    with pytest.raises(Fault, match="carried out twice"):
        answers.committed(call, Done((Enqueued(WALL, [2], {}),)), WALL, WALL)


WAITS = {"a": frozenset({(1, 0)}), "b": frozenset({(2, 0)})}


def test_a_party_is_passed_over_as_often_as_weights_say_and_once_for_the_turn_that_was_being_had():
    shares = Shares()
    weights = {"a": 1, "b": 3}
    for name in "a" + 7 * "b" + "a" + 3 * "b":  # b: at most 3 * (the turns of a, and one) and one
        shares.served("q", name, WAITS, weights)
    with pytest.raises(Fault, match="group a waited in q, had 2 turns, and b 11: weights 1 and 3"):
        shares.served("q", "b", WAITS, weights)


def test_a_party_that_may_have_been_without_tasks_or_held_up_is_counted_anew():
    shares = Shares()
    others = {"b": WAITS["b"]}
    for number in range(20):
        shares.served("q", "b", {**others, "a": frozenset({(number, 0)})}, {"a": 1, "b": 1})
    assert shares.judged == 20
    for _ in range(20):
        shares.served("q", "b", others, {"a": 1, "b": 1})
    assert shares.judged == 20


# --- its command ---


def _task(task_id: int, state: State) -> Task:
    driver = Driver(MemoryStore(), ManualClock())
    return replace(driver.task(driver.add()), id=task_id, state=state)


def test_the_command_says_what_it_has_done():
    ended = CliRunner().invoke(command, ["--steps", "500", "--seed", "of the command"], standalone_mode=False)
    assert ended.return_value == 0, ended.output
    assert "simulate: " in ended.output
    assert "all is there" in ended.output
