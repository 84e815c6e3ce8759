"""Why something does not run: each reason, asked of a task, of its queue and of a worker, over a store's own views."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

import lmdbq
from lmdbq.client import claims
from lmdbq.model import GroupPut, GroupSettings, QueueView
from lmdbq.testing import MemoryClient
from lmdbq.wire.why import REASONS, in_words, why
from tests.store_driver import Driver, S

UNSAID = ("t",)  # the type of every task here: nobody asks for it


class Case(NamedTuple):
    """How to bring it about, and what a task and its queue then say."""

    arrange: Callable[[Driver], int]
    task: str
    queue: str
    detail: str
    unconsumed: tuple[str, ...] = ()
    draining: bool = False


def add(q: Driver, **fields: object) -> int:
    return q.add(type="t", **fields)


def paused(q: Driver) -> int:
    q.put_queue(paused=True)
    return add(q)


def failed(q: Driver) -> int:
    task_id = add(q)
    q.fail(q.take())
    return task_id


def behind_its_thread(q: Driver) -> int:
    add(q, thread="x")
    task_id = add(q, thread="x")
    q.take()
    return task_id


def in_a_paused_group(q: Driver) -> int:
    q.do(GroupPut("g", GroupSettings(paused=True)))
    return add(q, group="g")


def beside_a_running_one(q: Driver) -> int:
    q.put_queue(max_running=1)
    add(q)
    q.take()
    return add(q)


CASES = {
    "draining": Case(add, "draining", "draining", "stopping", draining=True),
    "paused": Case(paused, "paused", "paused", "/v1/queues/default/resume"),
    "scheduled": Case(lambda q: add(q, delay_ns=S), "scheduled", "scheduled", "may start at due_at"),
    "retry": Case(failed, "retry", "scheduled", "attempt 1 failed"),
    "thread": Case(behind_its_thread, "thread", "group", "thread 'x', behind tsk_"),
    "group": Case(in_a_paused_group, "group", "group", "group 'g', which is paused"),
    "max_running": Case(beside_a_running_one, "max_running", "max_running", "max_running allows"),
    "no_consumer": Case(add, "no_consumer", "no_consumer", "nobody asks for type 't' of queue default", UNSAID),
    "ready": Case(add, "ready", "ready", "when its turn comes"),
}


def view(q: Driver, name: str = "default") -> QueueView:
    found = q.store.queue(name)
    assert found is not None
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_task_and_its_queue_say_why(q: Driver, case: Case):
    task = q.task(case.arrange(q))
    said = why(view(q), task=task, unconsumed=case.unconsumed, draining=case.draining)
    of_queue = why(view(q), unconsumed=case.unconsumed, draining=case.draining)

    assert said is not None and of_queue is not None
    assert (said.reason, of_queue.reason) == (case.task, case.queue)
    assert case.detail in said.detail


def test_a_time_is_said_where_one_is_known(q: Driver):
    task = q.task(add(q, delay_ns=5 * S))

    said, of_queue = why(view(q), task=task), why(view(q))
    assert said is not None and said.until == q.now + 5 * S
    assert of_queue is not None and of_queue.until == q.now + 5 * S


def test_a_queue_whose_rate_is_spent_says_so(q: Driver):
    task = q.task(add(q))
    spent = replace(view(q), blocked_by="rate_limited")

    for said in (why(spent, task=task), why(spent)):
        assert said is not None and said.reason == "rate_limited"


def test_a_worker_hears_that_what_is_ready_is_not_what_it_asks_for(q: Driver):
    add(q)

    said = why(view(q), types=("other",))

    assert said is not None and said.reason == "other_types"
    assert "'t'" in said.detail


def test_an_empty_queue_says_that_nothing_waits(q: Driver):
    q.put_queue()

    said = why(view(q))
    assert said is not None and said.reason == "empty"


def test_what_runs_or_has_ended_and_a_queue_that_is_not_known_have_no_reason(q: Driver):
    running, dead = add(q), add(q, queue="dead")
    q.take()
    q.fail(q.take("dead"), retry=False)

    assert why(view(q), task=q.task(running)) is None
    assert why(view(q, "dead"), task=q.task(dead)) is None
    assert why(None) is None


def test_every_reason_has_a_test_and_words():
    asked = {case.task for case in CASES.values()} | {"rate_limited", "other_types", "empty", "quarantined"}

    assert asked == REASONS
    assert "lmdbq check" in in_words("quarantined", "q")
    assert in_words("what a newer daemon says", "q") == "what a newer daemon says"


def test_a_worker_that_finds_nothing_says_why_in_its_log_and_says_it_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.01)
    tasks = lmdbq.Tasks()

    @tasks.task()
    def nothing() -> None:
        return None

    with MemoryClient() as client, caplog.at_level(logging.INFO, logger="lmdbq"):
        job = client.enqueue(nothing.using(keep=60))
        client.queue("default").pause()
        with lmdbq.Worker(client, tasks):
            while "nothing to claim" not in caplog.text:
                client.queue("default").info()
            client.queue("default").resume()
            client.wait([job], timeout=30)

    said = [record.getMessage() for record in caplog.records if "nothing to claim" in record.getMessage()]
    assert said == ["nothing to claim: queue default is paused; resume it with POST /v1/queues/default/resume"]
