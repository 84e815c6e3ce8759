"""What Moab's users rely on, asked of both stores: its checks by their numbers, as ``peer_checks`` counts them.

What belongs to lanes, schedules, dead letters and dedupe keys stands with those; what is about the wire format stands
with its dialect. Where lmdbq means to differ, the test shows what it does, and ``peer_checks`` says why.
"""

from __future__ import annotations

import pytest

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.ids import format_id, parse_id
from lmdbq.model import (
    Completion,
    Dedupe,
    Delete,
    Enqueue,
    Expire,
    Filter,
    Intervals,
    Keep,
    Lapse,
    Outcome,
    Prune,
    Purge,
    QueueDelete,
    Report,
    RetryStrategy,
    State,
    Status,
)
from tests.store_driver import Driver, S, entry

DAY = 86_400
KEEP_DEAD = Keep(dead_ns=100 * S)


def intervals(*seconds: int) -> RetryStrategy:
    return RetryStrategy(backoff=Intervals(tuple(one * S for one in seconds)), max_attempts=len(seconds) + 1)


ONCE = RetryStrategy(max_attempts=1)

# --- enqueue and get ---


def test_moab_6_1_a_fresh_task_waits_with_no_attempts_and_no_lease(q: Driver):
    task = q.task(q.add())

    assert (task.state, task.attempts, task.lease_expires_at) == (State.READY, 0, 0)
    assert task.scheduled_at == task.created_at == q.now


def test_moab_6_2_ids_of_one_call_are_consecutive_and_counted(q: Driver):
    first, *rest = q.enqueue(entry(), entry(), entry()).ids

    assert rest == [first + 1, first + 2]
    assert q.number(State.READY) == 3


def test_moab_6_3_a_time_in_the_past_is_now(q: Driver):
    assert q.task(q.add(scheduled_at=q.now - 5 * S)).scheduled_at == q.now


def test_moab_6_4_the_queues_expiry_counts_from_the_scheduled_time(q: Driver):
    q.put_queue(expires_in_ns=DAY * S)

    task = q.task(q.add(delay_ns=3_600 * S))

    assert task.expires_at == q.now + (3_600 + DAY) * S


def test_moab_6_5_a_tasks_own_expiry_wins_over_the_queues_also_when_it_is_later(q: Driver):
    q.put_queue(expires_in_ns=DAY * S)

    earlier, later = (q.add(expires_in_ns=seconds * S) for seconds in (60, 2 * DAY))

    assert q.task(earlier).expires_at == q.now + 60 * S
    assert q.task(later).expires_at == q.now + 2 * DAY * S


def test_moab_6_6_a_task_may_be_scheduled_years_ahead(q: Driver):
    task_id = q.add(delay_ns=1_000 * DAY * S)
    q.clock.advance(1_000 * DAY)

    assert q.claim_ids() == [task_id]


def test_moab_6_7_a_call_takes_ten_thousand_entries(q: Driver):
    assert len(q.enqueue(*[entry()] * limits.ENTRIES_MAX).ids) == limits.ENTRIES_MAX


def test_moab_6_8_an_unknown_queue_is_told(q: Driver):
    unknown = entry(queue="nobody")

    assert q.refusal(Enqueue((unknown,), create_queues=False)).code == "queue_not_found"
    assert q.refusal(Purge("nobody")).code == "queue_not_found"
    assert q.store.queue("nobody") is None
    assert q.claim("nobody").tasks == []
    assert q.all_tasks(Filter(queue="nobody")) == []


def test_moab_6_9_an_unknown_id_is_told(q: Driver):
    assert q.state(q.add() + 1) is Outcome.NOT_FOUND


# --- order and caps ---


def test_moab_6_19_tasks_go_by_time_then_by_id(q: Driver):
    third, first, second, first_too = q.enqueue(entry(delay_ns=2 * S), entry(), entry(delay_ns=S), entry()).ids
    q.clock.advance(2)

    assert q.claim_ids() == [first, first_too, second, third]


def test_moab_6_20_a_task_is_not_given_before_its_time(q: Driver):
    task_id = q.add(delay_ns=10 * S)

    assert q.claim_ids() == []
    q.clock.advance(10)
    assert q.claim_ids() == [task_id]


def test_moab_6_21_max_running_holds_over_claims_and_ends(q: Driver):
    q.put_queue(max_running=2)
    q.enqueue(*[entry()] * 5)

    running = q.claim(limit=5).tasks
    assert len(running) == 2
    assert q.claim(limit=5).tasks == []
    q.succeed(running[0])
    assert len(q.claim(limit=5).tasks) == 1


def test_moab_6_23_a_paused_queue_takes_tasks_and_gives_none(q: Driver):
    q.put_queue(paused=True)
    task_id = q.add()

    assert (q.claim().tasks, q.claim().reason) == ([], "paused")
    q.patch_queue(paused=False)
    assert q.claim_ids() == [task_id]


def test_moab_6_24_a_claim_removes_the_expired_task_it_meets_and_takes_the_next(q: Driver):
    gone = q.add(expires_in_ns=5 * S)
    live = q.add()
    q.clock.advance(6)

    assert q.claim_ids() == [live]
    assert q.state(gone) is Outcome.GONE
    assert q.totals().expired == 1


def test_moab_6_26_a_claims_lease_is_its_own_else_the_queues(q: Driver):
    q.put_queue(keepalive_ns=15 * S)
    q.enqueue(entry(), entry())

    assert q.take(keepalive_ns=30 * S).lease_expires_at == q.now + 30 * S
    assert q.take().lease_expires_at == q.now + 15 * S


# --- reports, leases, retries ---


def test_moab_6_27_a_succeeded_task_is_gone_and_counted(q: Driver):
    q.add()
    task = q.take()

    assert q.succeed(task).outcome is Outcome.OK
    assert q.state(task.id) is Outcome.GONE
    assert (q.totals().succeeded, q.number(State.RUNNING)) == (1, 0)
    assert q.succeed(task).outcome is Outcome.NOT_FOUND


def test_moab_6_28_a_failure_waits_its_interval_and_the_last_one_is_the_end(q: Driver):
    task_id = q.add(retry=intervals(10))
    q.fail(q.take())

    task = q.task(task_id)
    assert (task.state, task.due_at, task.attempts) == (State.SCHEDULED, q.now + 10 * S, 1)
    q.clock.advance(10)
    again = q.take()
    assert again.attempts == 2
    q.fail(again)
    assert q.state(task_id) is State.DEAD


def test_moab_6_29_two_intervals_are_three_attempts(q: Driver):
    task_id = q.add(retry=RetryStrategy(backoff=Intervals((10 * S, 20 * S))))
    waits = []
    while q.state(task_id) is not State.DEAD:
        before = q.now
        q.fail(q.take())
        if q.state(task_id) is State.SCHEDULED:
            waits.append(q.task(task_id).due_at - before)
            q.clock.advance(waits[-1] / S)

    assert waits == [10 * S, 20 * S]
    assert q.task(task_id).deliveries == 3


def test_moab_6_30_a_dead_task_is_kept_unless_its_queue_keeps_none(q: Driver):
    kept = q.add_dead(retry=ONCE)
    q.patch_queue(keep=Keep(dead_ns=0))
    not_kept = q.add(retry=ONCE)
    q.fail(q.take())

    assert q.state(kept) is State.DEAD
    assert q.state(not_kept) is Outcome.GONE
    assert q.totals().dead == 2


def test_moab_6_31_a_tasks_own_retry_wins_over_the_queues(q: Driver):
    q.put_queue(retry=intervals(5))
    task_id = q.add(retry=ONCE)
    q.fail(q.take())

    assert q.state(task_id) is State.DEAD


def test_moab_6_32_a_lapsed_lease_is_a_failure_with_its_backoff(q: Driver):
    task_id = q.add(retry=intervals(10), keepalive_ns=15 * S)
    q.take()
    q.clock.advance(15)

    assert q.claim_ids() == []
    assert q.task(task_id).due_at == q.now + 10 * S
    q.clock.advance(10)
    assert q.take().attempts == 2


def test_moab_6_33_the_claim_that_finds_a_lapsed_lease_may_take_the_task(q: Driver):
    task_id = q.add(retry=intervals(0), keepalive_ns=15 * S)
    q.take()
    q.clock.advance(15)

    again = q.take()

    assert (again.id, again.attempts) == (task_id, 2)


def test_moab_6_34_a_lapsed_lease_that_nobody_has_looked_at_may_still_be_extended(q: Driver):
    q.add(keepalive_ns=15 * S)
    task = q.take()
    q.clock.advance(16)

    assert q.extend(task, keepalive_ns=20 * S).lease_expires_at == q.now + 20 * S
    assert q.sweep(Lapse()).count == 0


def test_moab_6_35_a_heartbeat_prolongs_by_what_it_says_else_by_the_leases_length(q: Driver):
    q.put_queue(keepalive_ns=15 * S)
    q.enqueue(entry(), entry())
    said, unsaid = q.claim(limit=2).tasks

    assert q.extend(said, keepalive_ns=40 * S).lease_expires_at == q.now + 40 * S
    assert q.extend(unsaid).lease_expires_at == q.now + 15 * S


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.RELEASED])
def test_moab_6_36_a_report_of_an_earlier_delivery_is_stale(q: Driver, status: Status):
    q.add()
    old = q.take()
    q.release(old)
    q.take()
    before = q.image()

    assert q.report(old, status).outcome is Outcome.STALE_LEASE
    assert q.extend(old).outcome is Outcome.STALE_LEASE
    assert q.image() == before


def test_moab_6_37_a_report_on_a_task_that_does_not_run_is_told(q: Driver):
    q.add()
    waiting = q.take()
    q.release(waiting)
    q.add_dead(queue="dead")
    dead = q.all_tasks(Filter(queue="dead"))[0]

    assert q.succeed(waiting).outcome is Outcome.NOT_RUNNING
    ended = q.do(Report((Completion(dead.id, dead.deliveries, Status.SUCCEEDED),))).outcomes[0]
    assert ended.outcome is Outcome.NOT_RUNNING


def test_moab_6_38_a_batch_is_answered_one_by_one_in_its_order(q: Driver):
    q.enqueue(entry(), entry())
    stale, valid = q.claim(limit=2).tasks
    q.release(stale)
    q.take()
    said = [(stale.id, 1), (valid.id, 1), (valid.id + 9, 1)]

    outcomes = q.do(Report(tuple(Completion(*lease, Status.SUCCEEDED) for lease in said))).outcomes

    assert [one.outcome for one in outcomes] == [Outcome.STALE_LEASE, Outcome.OK, Outcome.NOT_FOUND]
    assert q.state(valid.id) is Outcome.GONE


def test_moab_6_40_a_running_task_outlives_its_expiry_until_it_ends(q: Driver):
    q.enqueue(entry(expires_in_ns=5 * S), entry(expires_in_ns=5 * S, keep=KEEP_DEAD))
    succeeds, fails = q.claim(limit=2).tasks
    q.clock.advance(6)
    q.sweep(Expire())

    assert q.state(succeeds.id) is State.RUNNING
    assert q.succeed(succeeds).outcome is Outcome.OK
    q.fail(fails)
    assert (q.state(fails.id), q.task(fails.id).reason) == (State.DEAD, "would_expire")


def test_moab_6_41_a_task_that_waits_for_its_retry_expires_as_any_other(q: Driver):
    task_id = q.add(expires_in_ns=60 * S, retry=intervals(30, 30))
    q.fail(q.take())
    q.clock.advance(61)
    q.sweep(Expire())

    assert q.state(task_id) is Outcome.GONE


# --- dead tasks ---


def test_moab_6_42_a_dead_task_is_removed_when_its_time_of_keeping_is_over(q: Driver):
    task_id = q.add_dead(keep=KEEP_DEAD)

    assert q.task(task_id).remove_at == q.now + 100 * S
    q.clock.advance(101)
    q.sweep(Prune())
    assert q.state(task_id) is Outcome.GONE


def test_moab_6_44_a_dead_task_that_is_retried_begins_anew_under_its_id(q: Driver):
    task_id = q.add_dead(retry=ONCE)
    created_at = q.task(task_id).created_at
    q.clock.advance(5)

    assert q.retry(task_id).outcome is Outcome.OK
    task = q.task(task_id)
    assert (task.state, task.attempts, task.created_at) == (State.READY, 0, created_at)
    assert (q.number(State.DEAD), q.number(State.READY)) == (0, 1)
    assert q.take().attempts == 1


def test_moab_6_45_only_what_is_dead_or_cancelled_can_be_retried(q: Driver):
    waiting = q.add(queue="other")
    gone = q.add_dead(keep=Keep(dead_ns=5 * S))
    q.clock.advance(6)
    q.sweep(Prune())

    assert q.retry(waiting).outcome is Outcome.CONFLICT
    assert q.retry(gone).outcome is Outcome.GONE
    assert q.retry(gone + 99).outcome is Outcome.NOT_FOUND


# --- queues, purge, lists ---


def test_moab_6_60_a_queue_made_anew_knows_nothing_of_the_old_one(q: Driver):
    task_id = q.add()
    q.do(QueueDelete("default"))
    q.put_queue()

    assert q.state(task_id) is Outcome.GONE
    assert q.totals().enqueued == 0
    assert q.all_tasks() == []


def test_moab_6_61_a_purge_keeps_the_queue_and_takes_its_tasks_at_once(q: Driver):
    q.put_queue(max_running=3)
    q.enqueue(*[entry()] * 20)
    q.take()
    q.do(Purge("default"))
    new = q.add()
    q.sweep(Prune())

    view = q.store.queue("default")
    assert view is not None and view.settings.max_running == 3
    assert [task.id for task in q.all_tasks()] == [new]
    assert q.claim_ids() == [new]


def test_moab_6_62_a_purged_queue_is_drained_in_steps_that_touch_nothing_else(q: Driver):
    q.enqueue(*[entry() for _ in range(30)])
    q.do(Purge("default"))
    new = q.enqueue(*[entry() for _ in range(3)]).ids
    for _ in range(40):
        if not q.sweep(Prune(limit=7)).more:
            break

    assert [task.id for task in q.all_tasks()] == new
    assert q.store.check() == []


def test_moab_6_64_deleting_takes_any_state_and_forgives_what_is_missing(q: Driver):
    q.enqueue(entry(), entry())
    running = q.take()
    ready = running.id + 1

    outcomes = q.do(Delete((running.id, ready, ready + 7))).outcomes

    assert [one.outcome for one in outcomes] == [Outcome.OK, Outcome.OK, Outcome.NOT_FOUND]
    assert q.all_tasks() == []
    assert q.totals().succeeded == q.totals().expired == 0


def test_moab_6_66_pages_hold_each_task_once(q: Driver):
    ids = q.enqueue(*[entry() for _ in range(5)]).ids
    sizes, found, after = [], [], 0
    while True:
        page = q.store.tasks(Filter(), q.clock, after, 2)
        sizes.append(len(page.tasks))
        found += [task.id for task in page.tasks]
        after = page.after
        if not after:
            break

    assert found == ids
    assert [size for size in sizes if size] == [2, 2, 1]


def test_moab_6_68_expiry_is_inclusive_bounded_and_leaves_what_runs(q: Driver):
    q.enqueue(*[entry(expires_in_ns=5 * S) for _ in range(4)])
    running = q.take()
    q.clock.advance(5)

    assert q.sweep(Expire(limit=2)).count == 2
    assert q.sweep(Expire(limit=2)).count == 1
    assert [task.id for task in q.all_tasks()] == [running.id]


def test_moab_6_69_succeeded_counts_successes_and_expired_removals_by_time(q: Driver):
    q.enqueue(entry(), entry(retry=ONCE), entry(expires_in_ns=S))
    first, second = q.claim(limit=2).tasks
    q.succeed(first)
    q.fail(second)
    q.clock.advance(2)
    q.claim()

    totals = q.totals()
    assert (totals.succeeded, totals.dead, totals.expired) == (1, 1, 1)


# --- ids, and what must not come back ---


def test_moab_6_80_a_printed_id_is_read_back_and_nothing_else_is():
    clock = ManualClock()
    for number in (1, clock.wall_ns(), 2**64 - 1):
        assert parse_id(format_id(number)) == number
    for text in ("", "tsk_", "job_00000000001", "tsk_0000000000", "tsk_0000000000é", "tsk_zzzzzzzzzzz"):
        with pytest.raises(ValueError):
            parse_id(text)


def test_moab_6_85_a_late_report_of_a_purged_task_does_not_touch_the_new_one(q: Driver):
    q.add(dedupe=Dedupe("k"))
    old = q.take()
    q.do(Purge("default"))
    q.add(dedupe=Dedupe("k"))
    new = q.take()

    assert q.succeed(old).outcome is Outcome.NOT_FOUND
    assert q.state(new.id) is State.RUNNING


def test_moab_6_86_a_lease_lapses_in_a_paused_queue_too(q: Driver):
    task_id = q.add(keepalive_ns=15 * S, retry=intervals(0, 0))
    q.take()
    q.patch_queue(paused=True)
    q.clock.advance(16)

    assert q.sweep(Lapse()).count == 1
    assert q.state(task_id) is State.READY


# --- dedupe keys ---


def test_moab_6_10_a_duplicate_changes_nothing(q: Driver):
    task_id = q.add(dedupe="k", payload=b"1")
    before = q.task(task_id)

    placed = q.enqueue(entry(dedupe="k", payload=b"2")).placed(0)

    assert (placed.outcome, placed.id) == (Outcome.SKIPPED, task_id)
    assert q.task(task_id) == before


def test_moab_6_11_a_duplicate_may_bring_a_new_payload_and_nothing_else(q: Driver):
    task_id = q.add(dedupe="k", payload=b"1", priority=3)

    placed = q.enqueue(entry(dedupe=Dedupe("k", overwrite=("payload",)), payload=b"2", priority=9)).placed(0)

    assert (placed.outcome, placed.id) == (Outcome.OVERWRITTEN, task_id)
    assert (q.task(task_id).payload, q.task(task_id).priority) == (b"2", 3)


def test_moab_6_12_a_duplicate_may_postpone_the_one_that_waits(q: Driver):
    task_id = q.add(dedupe="k")
    q.enqueue(entry(dedupe=Dedupe("k", overwrite=("scheduled_at",)), delay_ns=60 * S))

    assert q.claim_ids() == []
    q.clock.advance(60)
    assert q.claim_ids() == [task_id]


def test_moab_6_13_a_new_expiry_takes_the_place_of_the_old_one(q: Driver):
    task_id = q.add(dedupe="k", expires_in_ns=10 * S)
    q.enqueue(entry(dedupe=Dedupe("k", overwrite=("expires_at",)), expires_in_ns=100 * S))
    q.clock.advance(20)
    q.sweep(Expire())

    assert q.state(task_id) is State.READY
    assert q.task(task_id).expires_at == q.now + 80 * S


def test_moab_6_14_a_running_task_is_not_changed_by_a_duplicate(q: Driver):
    task_id = q.add(dedupe="k", payload=b"1")
    q.take()

    placed = q.enqueue(entry(dedupe=Dedupe("k", overwrite=("payload",)), payload=b"2")).placed(0)

    assert (placed.outcome, placed.id, placed.reason) == (Outcome.SKIPPED, task_id, "running")
    assert q.task(task_id).payload == b"1"


@pytest.mark.parametrize("end", ["succeeded", "deleted", "dead", "expired", "expired, not yet swept"])
def test_moab_6_15_a_key_is_free_when_its_task_has_ended(q: Driver, end: str):
    first = q.add(dedupe="k", expires_in_ns=5 * S if "expired" in end else 0)
    if end == "deleted":
        q.delete(first)
    elif "expired" in end:
        q.clock.advance(6)
        if end == "expired":
            q.sweep(Expire())
    else:
        q.report(q.take(), Status.SUCCEEDED if end == "succeeded" else Status.FAILED, retry=False)

    assert q.add(dedupe="k") != first


def test_moab_6_16_a_key_twice_in_a_call_is_one_task(q: Driver):
    first, second = q.enqueue(entry(dedupe="k"), entry(dedupe="k")).ids

    assert first == second
    assert q.number(State.READY) == 1


def test_moab_6_18_an_expired_holder_that_nobody_has_swept_is_no_holder(q: Driver):
    first = q.add(dedupe="k", expires_in_ns=5 * S)
    q.clock.advance(6)

    assert q.add(dedupe="k") != first
    assert q.state(first) is Outcome.GONE


def test_moab_6_46_a_dead_task_whose_key_is_taken_again_waits_for_it(q: Driver):
    dead = q.add_dead(dedupe="k")
    q.add(dedupe="k")

    assert q.retry(dead).outcome is Outcome.DEDUPE_CONFLICT
    q.succeed(q.take())
    assert q.retry(dead).outcome is Outcome.OK
    assert q.enqueue(entry(dedupe="k")).placed(0).id == dead
