"""What the file keeps of runs: a task that is removed leaves its run with its record, so that a run is cut only where a
task goes elsewhere, and goes with its last task. The outcomes are the contract's; here the keys are counted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.limits import SECOND_NS as S
from lmdbq.model import (
    Completion,
    Expire,
    Extend,
    Extension,
    Lapse,
    Outcome,
    Report,
    State,
    Status,
)
from lmdbq.store.lmdb import LmdbStore, open_store
from tests.store_driver import Driver, entry


@pytest.fixture
def q(tmp_path: Path) -> Iterator[Driver]:
    store = open_store(tmp_path / "q")
    yield Driver(store, ManualClock())
    assert store.check() == []
    store.close()


def keys(q: Driver, database: str) -> int:
    assert isinstance(q.store, LmdbStore)
    shared = q.store._environment()
    with shared.reading() as txn:
        return int(txn.stat(shared.databases[database])["entries"])


def enqueue(q: Driver, count: int, **fields: object) -> list[int]:
    return q.enqueue(*[entry(**fields) for _ in range(count)]).ids


def test_tasks_that_succeed_in_any_order_leave_one_lease_run_until_the_last(q: Driver):
    enqueue(q, 300)
    tasks = q.claim("default", limit=300).tasks
    random.Random(5).shuffle(tasks)
    for start in range(0, 300, 30):
        assert (keys(q, "lease"), keys(q, "deadline"), keys(q, "task")) == (1, 1, 300 - start)
        part = tasks[start : start + 30]
        report = Report([Completion(task.id, task.deliveries, Status.SUCCEEDED) for task in part])
        assert {reported.outcome for reported in q.do(report).outcomes} == {Outcome.OK}
        assert q.store.check() == []
    assert (keys(q, "lease"), keys(q, "deadline"), keys(q, "task")) == (0, 0, 0)


def test_a_task_that_is_gone_is_not_found_in_the_run_it_was_in(q: Driver):
    enqueue(q, 3)
    first, middle, last = q.claim("default", limit=3).tasks
    q.succeed(middle)
    assert keys(q, "lease") == 1
    assert q.succeed(middle).outcome is Outcome.NOT_FOUND
    assert q.fail(middle).outcome is Outcome.NOT_FOUND
    assert q.do(Extend((Extension(middle.id, 1),))).outcomes[0].outcome is Outcome.NOT_FOUND
    assert q.cancel(middle.id).outcome is Outcome.GONE
    assert q.do(Report([Completion(middle.id, 7, Status.SUCCEEDED)])).outcomes[0].outcome is Outcome.NOT_FOUND
    assert q.succeed(first).outcome is q.succeed(last).outcome is Outcome.OK
    assert keys(q, "lease") == 0


def test_what_fails_between_tasks_that_succeed_is_ready_again_as_one_run(q: Driver):
    ids = enqueue(q, 200)
    tasks = q.claim("default", limit=200).tasks
    q.do(
        Report(
            [
                Completion(task.id, 1, Status.FAILED if index % 2 else Status.SUCCEEDED, delay_ns=0)
                for index, task in enumerate(tasks)
            ]
        )
    )
    assert (keys(q, "ready"), keys(q, "lease")) == (1, 0)
    again = q.claim("default", limit=60).tasks
    assert [task.id for task in again] == ids[1:120:2]
    assert {(task.deliveries, task.attempts) for task in again} == {(2, 2)}
    assert (keys(q, "ready"), keys(q, "lease")) == (1, 1)
    assert q.store.check() == []
    rest = q.claim("default", limit=60).tasks
    assert [task.id for task in rest] == ids[121::2]
    assert keys(q, "ready") == 0


def test_what_fails_together_is_ready_again_in_its_own_place_and_cuts_around_what_still_runs(q: Driver):
    ids = q.enqueue(*[entry(priority=at // 50) for at in range(100)]).ids
    tasks = q.claim("default", limit=100).tasks
    assert keys(q, "lease") == 1
    failed = [task for task in tasks if task.id not in (ids[10], ids[90])]
    q.do(Report([Completion(task.id, 1, Status.FAILED, delay_ns=0) for task in failed]))
    assert (keys(q, "ready"), keys(q, "lease"), keys(q, "deadline")) == (4, 2, 2)
    assert q.claim_ids("default", limit=100) == [task.id for task in failed]
    assert q.store.check() == []
    q.do(Report([Completion(task.id, 2, Status.FAILED, delay_ns=S) for task in failed]))
    assert (keys(q, "ready"), keys(q, "scheduled")) == (0, 98)
    assert [failure.delivery for failure in q.task(ids[0]).errors] == [1, 2]


def test_a_run_is_cut_where_a_task_that_stays_stored_leaves_it(q: Driver):
    enqueue(q, 5)
    tasks = q.claim("default", limit=5).tasks
    q.succeed(tasks[1])
    q.fail(tasks[2], delay_ns=S)  # waits, and is stored
    assert keys(q, "lease") == 2  # the first; the last two
    q.succeed(tasks[0])
    assert keys(q, "lease") == 1
    assert q.task(tasks[2].id).state is State.SCHEDULED


def test_what_expires_leaves_one_ready_run_and_its_claim_one_lease_run(q: Driver):
    lives = [2 * S if index % 3 else 9 * S for index in range(90)]
    ids = q.enqueue(*[entry(expires_in_ns=life) for life in lives]).ids
    q.clock.advance(3)
    assert q.do(Expire()).count == 60
    assert (keys(q, "ready"), keys(q, "task"), keys(q, "expiry")) == (1, 30, 30)
    assert q.claim_ids("default") == ids[::3]
    assert (keys(q, "ready"), keys(q, "lease"), keys(q, "expiry")) == (0, 1, 0)


def test_a_ready_run_goes_with_the_last_task_that_expires(q: Driver):
    enqueue(q, 20, expires_in_ns=S)
    q.clock.advance(2)
    swept = q.do(Expire(limit=15))
    assert (swept.count, swept.more, keys(q, "ready")) == (15, True, 1)
    swept = q.do(Expire(limit=15))
    assert (swept.count, swept.more, keys(q, "ready")) == (5, False, 0)


def test_the_rest_of_a_run_lapses(q: Driver):
    enqueue(q, 6)
    tasks = q.claim("default", limit=6, keepalive_ns=10 * S).tasks
    for task in tasks[1::2]:
        q.succeed(task)
    q.clock.advance(11)
    assert q.do(Lapse(limit=2)).count == 2
    assert q.do(Lapse()).count == 1
    assert keys(q, "lease") == 0


def test_a_task_between_two_runs_keeps_them_apart(q: Driver):
    ids = enqueue(q, 3)
    first, middle, last = q.claim("default", limit=3).tasks
    q.do(Report([Completion(task.id, 1, Status.FAILED, delay_ns=0) for task in (first, last)]))
    assert keys(q, "ready") == 2  # the middle one still runs
    q.succeed(middle)
    assert [task.id for task in q.claim("default", limit=3).tasks] == [ids[0], ids[2]]
    assert keys(q, "lease") == 1
