"""What every store does with one report of many: to each task what a report of that task alone does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lmdbq import lifecycle
from lmdbq.model import (
    ClaimedTask,
    Completion,
    Dedupe,
    ErrorInfo,
    Exponential,
    Filter,
    Intervals,
    Keep,
    Lapse,
    Outcome,
    Report,
    Reported,
    RetryStrategy,
    State,
    Status,
    Task,
)
from tests.store_driver import Driver, S, entry

RETRY = RetryStrategy(max_attempts=3, backoff=Intervals((5 * S, 0)))
KINDS: list[dict[str, Any]] = [
    {},
    {},
    {},
    {"priority": 3},
    {"expires_in_ns": 4 * S},
    {"expires_in_ns": 90 * S},
    {"tags": ("slow",)},
    {"keep": Keep(succeeded_ns=60 * S, dead_ns=60 * S)},
]
ERRORS = [None, ErrorInfo("no"), ErrorInfo("the host did not answer", "TimeoutError", "line 1")]


def completion_of(task: ClaimedTask, chance: random.Random) -> Completion | None:
    """Return how an attempt ends, None if it goes on."""
    status = chance.choice([Status.FAILED] * 5 + [Status.SUCCEEDED] * 2 + [Status.RELEASED, None])
    if status is None:
        return None
    delay_ns = None if status is Status.SUCCEEDED else chance.choice([None, 0, 0, 2 * S])
    return Completion(
        task.id,
        task.deliveries + (chance.random() < 0.05),
        status,
        result=b"1" if status is Status.SUCCEEDED and chance.random() < 0.2 else None,
        error=chance.choice(ERRORS) if status is Status.FAILED else None,
        delay_ns=delay_ns,
        retry=chance.random() > 0.1,
    )


def facts(task: Task) -> tuple[object, ...]:
    """Return what is known of a task but for its id and its queue."""
    return (
        *(task.payload, task.state, task.priority, task.deliveries, task.failures, task.due_at, task.expires_at),
        *(task.errors, task.result, task.reason, task.ended_at, task.remove_at, task.cancel_requested),
    )


class BatchContract:
    """One report of many tasks."""

    @pytest.mark.parametrize("seed", range(4))
    def test_a_report_of_many_does_to_each_what_a_report_of_that_one_does(self, q: Driver, seed: int):
        chance = random.Random(seed)
        kinds = [chance.choice(KINDS) for _ in range(120)]
        for queue in ("one", "many"):
            q.put_queue(queue, retry=RETRY, max_dead=1_000)
            said = [
                {**kind, "dedupe": Dedupe(f"{queue}{at}")} if not at % 11 else kind for at, kind in enumerate(kinds)
            ]
            q.enqueue(*[entry(payload=b"%d" % at, queue=queue, **kind) for at, kind in enumerate(said)])
        for _ in range(4):
            limit = chance.randrange(40, 121)
            singles, manies = (q.claim(queue, limit=limit).tasks for queue in ("one", "many"))
            assert [task.payload for task in singles] == [task.payload for task in manies]
            for at in chance.sample(range(len(singles)), len(singles) // 9):
                assert {q.cancel(tasks[at].id).outcome for tasks in (singles, manies)} == {Outcome.CANCEL_REQUESTED}
            seeds = [chance.random() for _ in singles]
            ends, batch = (
                [completion_of(task, random.Random(one)) for task, one in zip(tasks, seeds, strict=True)]
                for tasks in (singles, manies)
            )
            order = chance.sample(range(len(singles)), len(singles)) if seed % 2 else range(len(singles))
            wanted = [q.do(Report((end,))).outcomes[0] for at in order if (end := ends[at]) is not None]
            found: list[Reported] = q.do(Report([end for at in order if (end := batch[at]) is not None])).outcomes
            assert found == wanted
            assert {one.outcome for one in found} <= {Outcome.OK, Outcome.STALE_LEASE}
            left = [[facts(task) for task in q.all_tasks(Filter(queue))] for queue in ("one", "many")]
            assert left[0] == left[1]
            assert q.totals("one") == q.totals("many")
            assert [q.number(state, "one") for state in State] == [q.number(state, "many") for state in State]
            q.clock.advance(chance.choice([0.0, 1.0, 3.0, 70.0]))
            q.sweep(Lapse())

    def test_those_that_fail_alike_wait_each_as_it_must(self, q: Driver):
        q.put_queue("even", retry=RETRY)
        q.enqueue(*[entry(queue="even", **kind) for kind in ({}, {"expires_in_ns": 4 * S}, {}, {})])
        q.enqueue(*[entry(queue="uneven") for _ in range(20)])
        even, uneven = (q.claim(queue, limit=20).tasks for queue in ("even", "uneven"))
        ends = [Completion(task.id, 1, Status.FAILED, error=ErrorInfo("no")) for task in [*even, *uneven]]

        outcomes = q.do(Report(ends)).outcomes

        waits, dies = State.SCHEDULED, State.DEAD
        assert [one.state for one in outcomes] == [waits, dies, waits, waits, *[waits] * 20]
        assert {q.task(task.id).due_at for task in even} == {0, q.now + 5 * S}
        dues = [q.task(task.id).due_at - q.now for task in uneven]
        assert dues == [lifecycle.backoff_ns(Exponential(), task.id, 1) for task in uneven]
