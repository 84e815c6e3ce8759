"""What zizq's users rely on, asked of both stores: its checks by their numbers, as ``peer_checks`` counts them.

What belongs to dedupe keys, batches, bulk changes and schedules stands with those; what is about zizq's wire format
stands with its dialect. Where lmdbq means to differ, the test shows what it does, and ``peer_checks`` says why.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.model import (
    Dedupe,
    Enqueue,
    Filter,
    Intervals,
    Keep,
    Outcome,
    Polynomial,
    Prune,
    RetryStrategy,
    Scope,
    State,
    Until,
)
from lmdbq.store.lmdb import open_store
from tests.store_driver import Driver, S, entry

KEEP = Keep(succeeded_ns=60 * S, dead_ns=60 * S, cancelled_ns=60 * S)
AT_ONCE = RetryStrategy(max_attempts=9, backoff=Intervals((0,)))

# --- enqueue ---


def test_zizq_6_23_a_task_of_the_future_is_scheduled_and_one_of_the_past_ready(q: Driver):
    assert q.state(q.add(scheduled_at=q.now + 60 * S)) is State.SCHEDULED
    assert q.state(q.add(scheduled_at=q.now - 60 * S)) is State.READY


def test_zizq_6_27_later_ids_sort_behind_earlier_ones(q: Driver):
    assert q.add() < q.add()


def test_zizq_6_28_ids_of_one_call_rise_in_its_order(q: Driver):
    ids = q.enqueue(entry(), entry(), entry()).ids

    assert ids == sorted(ids)


def test_zizq_6_29_one_bad_task_of_a_call_stores_none_of_it(q: Driver):
    refused = q.refusal(Enqueue((entry(), entry(expires_at=q.now), entry())))

    assert refused.problems[0].pointer.startswith("/entries/1/")


@pytest.mark.parametrize("payload", [b"9007199254740993", b"1.5", '"é"'.encode(), b"[]", b"{}", b"null"])
def test_zizq_6_31_a_payload_comes_back_byte_for_byte(q: Driver, payload: bytes):
    task_id = q.add(payload=payload)

    assert q.task(task_id).payload == payload == q.take().payload


# --- order ---


def test_zizq_6_34_the_lower_priority_number_goes_first_then_the_earlier_id(q: Driver):
    last = q.add(priority=10)
    first, second = q.add(priority=5), q.add(priority=5)

    assert q.claim_ids() == [first, second, last]


def test_zizq_6_35_a_claim_of_two_queues_never_takes_of_a_third(q: Driver):
    wanted = [q.add(queue=name) for name in ("a", "b")]
    q.add(queue="c")

    assert q.claim_ids("a", "b") == wanted


def test_zizq_6_44_a_scheduled_task_is_given_when_its_time_has_come(q: Driver):
    task_id = q.add(delay_ns=3 * S)
    assert q.claim().retry_at == q.now + 3 * S
    q.clock.advance(3)

    assert q.claim_ids() == [task_id]


def test_zizq_6_45_one_task_goes_to_one_of_two(q: Driver):
    q.add()

    assert sorted((len(q.claim().tasks), len(q.claim().tasks))) == [0, 1]


def test_zizq_6_46_a_limit_of_one_holds_for_all_workers_together(q: Driver):
    q.put_queue(max_running=1)
    q.enqueue(entry(), entry())

    assert len(q.claim(limit=1).tasks) == 1
    assert q.claim(limit=1).tasks == []


def test_zizq_6_47_a_failed_task_may_come_back_at_once(q: Driver):
    task_id = q.add()
    q.fail(q.take(), delay_ns=0)

    again = q.take()
    assert (again.id, q.task(task_id).failures) == (task_id, 1)


def test_zizq_6_48_deleting_a_running_task_frees_its_place(q: Driver):
    q.put_queue(max_running=1)
    _, second = q.enqueue(entry(), entry()).ids
    q.delete(q.take().id)

    assert q.claim_ids() == [second]


# --- how an attempt ends ---


def test_zizq_6_51_a_task_that_succeeded_is_gone_unless_it_is_to_be_kept(q: Driver):
    task_id = q.add()
    q.succeed(q.take())

    assert q.state(task_id) is Outcome.GONE


def test_zizq_6_52_a_second_success_of_a_kept_task_is_ok_and_of_a_gone_one_not_found(q: Driver):
    q.enqueue(entry(keep=KEEP), entry())
    kept, gone = q.claim(limit=2).tasks
    q.succeed(kept)
    q.succeed(gone)

    assert q.succeed(kept).outcome is Outcome.OK
    assert q.succeed(gone).outcome is Outcome.NOT_FOUND
    assert q.totals().succeeded == 2


def test_zizq_6_53_a_ready_task_cannot_succeed(q: Driver):
    q.add()
    task = q.take()
    q.release(task)

    assert q.succeed(task).outcome is Outcome.NOT_RUNNING
    assert q.state(task.id) is State.READY


def test_zizq_6_54_a_kept_task_says_when_it_ended_and_when_it_goes(q: Driver):
    task_id = q.add(keep=KEEP)
    q.succeed(q.take())

    task = q.task(task_id)
    assert (task.state, task.ended_at, task.remove_at) == (State.SUCCEEDED, q.now, q.now + 60 * S)


def test_zizq_6_58_no_retries_is_one_attempt(q: Driver):
    task_id = q.add(retry=RetryStrategy(max_attempts=1))
    q.fail(q.take())

    assert q.state(task_id) is State.DEAD


def test_zizq_6_59_a_failure_that_is_final_kills_whatever_is_left(q: Driver):
    task_id = q.add(retry=AT_ONCE)
    q.fail(q.take(), retry=False)

    assert (q.state(task_id), q.task(task_id).reason) == (State.DEAD, "no_retry")


def test_zizq_6_60_a_dead_task_that_is_not_to_be_kept_is_gone(q: Driver):
    task_id = q.add(keep=Keep(dead_ns=0))

    assert q.fail(q.take(), retry=False).state is None
    assert q.state(task_id) is Outcome.GONE


def test_zizq_6_61_a_polynomial_backoff_grows_with_its_exponent(q: Driver):
    task_id = q.add(retry=RetryStrategy(max_attempts=5, backoff=Polynomial(2.0, S, 0.0)))
    waits = []
    for _ in range(3):
        q.fail(q.take())
        waits.append(q.task(task_id).due_at - q.now)
        q.clock.advance(waits[-1] / S)

    assert waits == [S, 4 * S, 9 * S]


def test_zizq_6_62_every_failure_is_kept_in_its_order(q: Driver):
    task_id = q.add(retry=AT_ONCE)
    for number in range(3):
        q.fail(q.take(), message=f"m{number}")

    assert [(one.delivery, one.message) for one in q.task(task_id).errors] == [(1, "m0"), (2, "m1"), (3, "m2")]


def test_zizq_6_63_a_task_that_never_failed_has_no_errors(q: Driver):
    assert q.task(q.add()).errors == ()


# --- queries and edits ---


def test_zizq_6_65_pages_of_two_hold_five_tasks_once(q: Driver):
    ids = q.enqueue(*[entry() for _ in range(5)]).ids

    assert [task.id for task in q.all_tasks(limit=2)] == ids


def test_zizq_6_71_ranges_hold_both_of_their_ends(q: Driver):
    ids = {number: q.add(priority=number) for number in (99, 100, 200, 201)}
    failed = q.add(priority=-1)
    q.fail(q.take())

    assert [task.id for task in q.all_tasks(Filter(priority=(100, 200)))] == [ids[100], ids[200]]
    assert [task.id for task in q.all_tasks(Filter(attempts=(1, 99)))] == [failed]


def test_zizq_6_73_a_count_is_the_length_of_the_list(q: Driver):
    q.enqueue(*[entry(queue=name, tags=tags) for name in "ab" for tags in ((), ("x",))])

    for wanted in (Filter(), Filter(queue="a"), Filter(tag="x"), Filter(queue="b", tag="x")):
        assert q.store.count(wanted) == len(q.all_tasks(wanted)) > 0


def test_zizq_6_76_a_task_is_deleted_once(q: Driver):
    task_id = q.add()

    assert [q.delete(task_id).outcome for _ in range(2)] == [Outcome.OK, Outcome.GONE]


def test_zizq_6_78_an_edited_priority_decides_the_next_claim(q: Driver):
    first, second = q.add(), q.add()
    q.edit(second, "priority", priority=-1)

    assert q.claim_ids() == [second, first]


def test_zizq_6_80_an_edit_may_postpone_a_ready_task_and_bring_it_back(q: Driver):
    task_id = q.add()
    q.edit(task_id, "scheduled_at", delay_ns=60 * S)
    assert q.state(task_id) is State.SCHEDULED
    q.edit(task_id, "scheduled_at")

    assert q.state(task_id) is State.READY


def test_zizq_6_83_what_has_ended_cannot_be_edited(q: Driver):
    dead = q.add_dead()

    assert q.edit(dead, "priority", priority=1).outcome is Outcome.CONFLICT
    assert q.edit(dead + 9, "priority", priority=1).outcome is Outcome.NOT_FOUND


# --- the process ---


def test_zizq_6_103_everything_is_there_after_a_restart(tmp_path: Path):
    clock = ManualClock()
    store = open_store(tmp_path / "q")
    q = Driver(store, clock)
    q.add_dead(keep=KEEP)
    q.add(keep=KEEP)
    q.succeed(q.take(), result=b"1")
    q.add()
    q.add(delay_ns=60 * S)
    before = q.all_tasks()
    store.close()

    again = open_store(tmp_path / "q")
    found = Driver(again, clock).all_tasks()

    assert found == before and {task.state for task in found} >= {State.DEAD, State.SUCCEEDED, State.SCHEDULED}
    assert again.check() == []
    again.close()


def test_zizq_6_107_what_is_past_its_time_of_keeping_leaves_the_store(q: Driver):
    q.add_dead(keep=Keep(dead_ns=S))
    q.clock.advance(1)

    assert q.sweep(Prune()).count == 1
    assert q.all_tasks() == []


def test_zizq_6_108_tasks_taken_five_at_a_time_are_each_given_once(q: Driver):
    ids = q.enqueue(*[entry() for _ in range(20)]).ids
    given: list[int] = []
    while tasks := q.claim(limit=5).tasks:
        given += [task.id for task in tasks]
        for task in tasks:
            q.succeed(task)

    assert given == ids
    assert q.number(State.RUNNING) == 0


# --- unique keys ---


def unique(until: Until) -> Dedupe:
    return Dedupe("k", scope=Scope.GLOBAL, until=until)


def test_zizq_6_85_a_key_in_use_answers_the_task_that_has_it(q: Driver):
    task_id = q.add(dedupe=unique(Until.FINISHED))

    placed = q.enqueue(entry(dedupe=unique(Until.FINISHED))).placed(0)

    assert (placed.id, placed.deduped) == (task_id, True)
    assert q.number(State.READY) == 1


@pytest.mark.parametrize(("until", "is_new"), [(Until.STARTED, True), (Until.FINISHED, False)])
def test_zizq_6_86_a_running_task_holds_its_key_until_it_is_finished_if_asked_to(q: Driver, until: Until, is_new: bool):
    q.add(dedupe=unique(until))
    q.take()

    assert q.enqueue(entry(dedupe=unique(until))).placed(0).deduped is not is_new


@pytest.mark.parametrize(("until", "is_new"), [(Until.FINISHED, True), (Until.DELETED, False)])
def test_zizq_6_87_a_kept_task_holds_its_key_until_it_is_deleted_if_asked_to(q: Driver, until: Until, is_new: bool):
    first = q.add(dedupe=unique(until), keep=KEEP)
    q.succeed(q.take())

    assert q.enqueue(entry(dedupe=unique(until), queue="other")).placed(0).deduped is not is_new
    q.delete(first)
    if not is_new:
        assert not q.enqueue(entry(dedupe=unique(until))).placed(0).deduped


def test_zizq_6_88_the_second_of_a_call_is_a_duplicate_of_its_first(q: Driver):
    outcome = q.enqueue(*[entry(dedupe=unique(Until.FINISHED))] * 2)
    again = q.enqueue(*[entry(dedupe=unique(Until.FINISHED))] * 2)

    assert [outcome.placed(index).deduped for index in range(2)] == [False, True]
    assert set(again.ids) == set(outcome.ids)


def test_zizq_6_89_a_global_key_is_the_same_in_every_queue(q: Driver):
    task_id = q.add(queue="a", dedupe=unique(Until.FINISHED))

    assert q.enqueue(entry(queue="b", dedupe=unique(Until.FINISHED))).placed(0).id == task_id
