"""What every store does with Claim, and what a store with a strict order does besides."""

from __future__ import annotations

import pytest

from lmdbq import limits
from lmdbq.model import (
    PLAIN,
    Call,
    ClaimedTask,
    Encoding,
    Enqueue,
    Intervals,
    Keep,
    Outcome,
    Purge,
    RetryStrategy,
    State,
)
from tests.store_driver import Driver, S, entry

AT_ONCE = RetryStrategy(max_attempts=99, backoff=Intervals((0,)), max_deliveries=3)


class ClaimContract:
    """Claims."""

    def test_a_claimed_task_has_all_its_worker_needs(self, q: Driver):
        created_at = q.now
        task_id = q.add(
            payload=b"\x01", encoding=Encoding.BYTES, type="t", priority=3, delay_ns=S, expires_in_ns=99 * S
        )
        q.clock.advance(5)

        task = q.take()

        assert task == ClaimedTask(
            id=task_id,
            queue="default",
            type="t",
            payload=b"\x01",
            encoding=Encoding.BYTES,
            priority=3,
            created_at=created_at,
            scheduled_at=created_at + S,
            expires_at=created_at + 99 * S,
            deliveries=1,
            attempts=1,
            max_attempts=limits.ATTEMPTS_DEFAULT,
            keepalive_ns=limits.KEEPALIVE_NS_DEFAULT,
            lease_expires_at=q.now + limits.KEEPALIVE_NS_DEFAULT,
            options=PLAIN,
        )
        stored = q.task(task_id)
        assert (stored.state, stored.attempts, stored.deliveries) == (State.RUNNING, 1, 1)
        assert stored.lease_expires_at == task.lease_expires_at
        assert q.totals().claimed == 1

    def test_no_task_is_handed_out_twice(self, q: Driver):
        ids = q.enqueue(*(entry() for _ in range(10))).ids

        taken = q.claim_ids(limit=4) + q.claim_ids(limit=4) + q.claim_ids(limit=4)

        assert sorted(taken) == ids
        assert q.claim_ids() == []

    def test_a_claim_takes_at_most_limit_tasks(self, q: Driver):
        q.enqueue(*(entry() for _ in range(5)))

        assert len(q.claim(limit=3).tasks) == 3
        assert q.number(State.READY) == 2

    def test_a_claim_names_its_queues_and_types(self, q: Driver):
        q.enqueue(*(entry(queue=a, type=t) for a in "xyz" for t in "rs"))

        claimed = q.claim("x", "nowhere", "z", types=("s", "unknown"), limit=9).tasks

        assert {(task.queue, task.type) for task in claimed} == {("x", "s"), ("z", "s")}

    def test_a_queue_named_twice_is_one_queue(self, q: Driver):
        q.enqueue(entry(), entry())

        assert len(q.claim_ids("default", "default", limit=9)) == 2

    def test_payloads_end_a_claim_before_they_exceed_bytes_max(self, q: Driver):
        q.enqueue(*(entry(payload=b"x" * 10) for _ in range(5)))

        assert len(q.claim_ids(bytes_max=30)) == 3
        assert len(q.claim_ids(bytes_max=19)) == 1

    def test_the_first_task_is_taken_whatever_its_size(self, q: Driver):
        q.enqueue(entry(payload=b"x" * 10), entry(payload=b""))

        assert len(q.claim_ids(bytes_max=1)) == 1

    def test_the_length_of_a_lease_is_the_claims_else_the_entrys_else_the_queues(self, q: Driver):
        q.enqueue(entry(keepalive_ns=2 * S), entry(keepalive_ns=2 * S))
        by_claim = q.take(keepalive_ns=S)
        by_entry = q.take()
        q.put_queue(keepalive_ns=3 * S)
        q.add()
        by_queue = q.take()

        assert [task.keepalive_ns for task in (by_claim, by_entry, by_queue)] == [S, 2 * S, 3 * S]
        assert by_queue.lease_expires_at == q.now + 3 * S

    def test_max_attempts_is_the_entrys_else_the_queues(self, q: Driver):
        q.put_queue(retry=RetryStrategy(max_attempts=7))
        q.enqueue(entry(), entry(retry=RetryStrategy(backoff=Intervals((S, S)))))

        assert sorted(task.max_attempts for task in q.claim(limit=9).tasks) == [3, 7]

    # --- what is not ready

    def test_an_empty_claim_tells_when_to_come_again(self, q: Driver):
        unknown = q.claim("nowhere")
        q.enqueue(entry(delay_ns=9 * S), entry(delay_ns=5 * S, type="other"), entry(queue="else", delay_ns=S))

        empty = q.claim("default", types=("default",))

        assert (unknown.tasks, unknown.reason, unknown.retry_at) == ([], "empty", 0)
        assert (empty.tasks, empty.reason, empty.retry_at) == ([], "empty", q.now + 5 * S)

    def test_a_scheduled_task_is_never_handed_out_early(self, q: Driver):
        task_id = q.add(delay_ns=5 * S)

        q.clock.advance(4.999999)
        early = q.claim_ids()
        q.clock.advance(0.000001)

        assert early == []
        assert q.claim_ids() == [task_id]

    def test_an_expired_task_is_never_handed_out(self, q: Driver):
        ids = q.enqueue(entry(expires_in_ns=5 * S), entry(expires_in_ns=5 * S), entry(expires_in_ns=6 * S)).ids

        q.clock.advance(4.999999)
        in_time = q.claim_ids(limit=1)
        q.clock.advance(0.000001)

        assert in_time == ids[:1]
        assert q.claim_ids() == ids[2:]
        assert q.state(ids[1]) is Outcome.GONE
        assert q.totals().expired == 1

    def test_a_task_that_expired_before_it_was_due_is_never_handed_out(self, q: Driver):
        q.put_queue(paused=True)
        task_id = q.add(delay_ns=S, expires_in_ns=2 * S)
        q.clock.advance(3)
        q.patch_queue(paused=False)

        assert q.claim_ids() == []
        assert q.state(task_id) is Outcome.GONE

    def test_a_paused_queue_gives_nothing_and_says_so(self, q: Driver):
        q.put_queue(paused=True)
        task_id = q.add()

        paused = q.claim()
        q.patch_queue(paused=False)

        assert (paused.tasks, paused.reason) == ([], "paused")
        assert q.claim_ids() == [task_id]

    def test_a_paused_queue_without_ready_tasks_of_the_wanted_types_is_empty(self, q: Driver):
        q.put_queue(paused=True)
        q.add()

        assert q.claim(types=("other",)).reason == "empty"

    def test_max_running_bounds_how_many_run(self, q: Driver):
        q.put_queue(max_running=2)
        q.enqueue(*(entry() for _ in range(4)))

        first = q.claim(limit=9).tasks
        full = q.claim(limit=9)
        q.succeed(first[0])
        after = q.claim(limit=9).tasks

        assert len(first) == 2
        assert (full.tasks, full.reason) == ([], "max_running")
        assert len(after) == 1

    def test_a_full_queue_does_not_hold_up_the_others(self, q: Driver):
        q.put_queue("narrow", max_running=1)
        q.enqueue(*(entry(queue="narrow", priority=-5) for _ in range(3)), entry(queue="wide"), entry(queue="wide"))

        taken = q.claim("narrow", "wide", limit=9).tasks

        assert [task.queue for task in taken] == ["narrow", "wide", "wide"]

    def test_the_reason_is_that_of_the_first_named_queue_with_ready_tasks(self, q: Driver):
        q.put_queue("idle", paused=True)
        q.put_queue("full", max_running=1)
        q.put_queue("held", paused=True)
        q.enqueue(entry(queue="full"), entry(queue="full"), entry(queue="held"))
        q.take("full")

        assert q.claim("idle", "full", "held").reason == "max_running"
        assert q.claim("idle", "held", "full").reason == "paused"

    def test_more_places_than_before_are_used_at_once(self, q: Driver):
        q.put_queue(max_running=1)
        q.enqueue(*(entry() for _ in range(3)))
        q.take()
        q.patch_queue(max_running=0)

        assert len(q.claim_ids()) == 2

    # --- a claim sweeps its queues

    def test_a_claim_promotes_lapses_and_expires_in_its_own_queues_only(self, q: Driver):
        at_once = RetryStrategy(backoff=Intervals((0,)))
        for name in ("mine", "yours"):
            q.add(queue=name, retry=at_once, type="lapsing")
            q.take(name, keepalive_ns=S)
            q.enqueue(entry(queue=name, delay_ns=S), entry(queue=name, expires_in_ns=S))
        q.clock.advance(1)

        taken = q.claim("mine", limit=9).tasks

        assert sorted(task.type for task in taken) == ["default", "lapsing"]
        assert (q.totals("mine").lapsed, q.totals("mine").expired) == (1, 1)
        assert (q.totals("yours").lapsed, q.totals("yours").expired) == (0, 0)
        assert q.number(State.SCHEDULED, "yours") == 1

    # --- claim_id

    def test_a_claim_id_answers_the_same_leases_again(self, q: Driver):
        q.enqueue(*(entry(priority=n % 3) for n in range(6)))
        first = q.claim(limit=4, claim_id="c").tasks
        q.clock.advance(5)

        again = q.claim(limit=4, claim_id="c").tasks

        assert again == first
        assert q.number(State.RUNNING) == 4
        assert q.totals().claimed == 4

    def test_a_claim_id_extends_nothing(self, q: Driver):
        q.add(keepalive_ns=10 * S)
        q.take(claim_id="c")
        q.clock.advance(9)
        q.take(claim_id="c")

        assert q.store.due(q.clock).lapse_in_ns == S

    def test_a_claim_id_answers_only_what_still_runs_under_that_delivery(self, q: Driver):
        q.enqueue(*(entry() for _ in range(4)))
        first = q.claim(limit=3, claim_id="c").tasks
        q.succeed(first[0])
        q.release(first[1])
        q.take(limit=1)

        again = q.claim(limit=3, claim_id="c").tasks

        assert [task.id for task in again] == [first[2].id]

    def test_a_claim_id_whose_tasks_are_all_done_is_a_new_claim(self, q: Driver):
        ids = q.enqueue(entry(), entry()).ids
        q.succeed(q.take(claim_id="c"))

        second = q.take(claim_id="c")
        again = q.take(claim_id="c")

        assert second.id == again.id == ids[1]

    def test_a_claim_id_is_forgotten_after_an_hour(self, q: Driver):
        ids = q.enqueue(*(entry(keepalive_ns=limits.KEEPALIVE_NS_MAX) for _ in range(2))).ids
        q.take(claim_id="c")
        q.clock.advance(3599.999999)
        within = q.take(claim_id="c").id
        q.clock.advance(0.000001)

        assert within == ids[0]
        assert q.take(claim_id="c").id == ids[1]

    def test_a_claim_id_does_not_bring_back_purged_tasks(self, q: Driver):
        q.add()
        q.take(claim_id="c")
        q.do(Purge("default"))

        assert q.claim(claim_id="c").tasks == []

    # --- max_deliveries

    def test_a_task_that_came_back_too_often_is_dead_when_it_is_met(self, q: Driver):
        task_id = q.add(retry=AT_ONCE)
        for _ in range(3):
            q.release(q.take())

        assert q.claim_ids() == []
        task = q.task(task_id)
        assert (task.state, task.reason, task.deliveries, task.ended_at) == (State.DEAD, "max_deliveries", 3, q.now)
        assert task.remove_at == q.now + limits.KEEP_DEAD_NS_DEFAULT
        assert q.totals().dead == 1

    def test_a_release_with_a_delay_does_not_count(self, q: Driver):
        """Somebody has asked for it: a handler that snoozes is no handler that kills its workers."""
        task_id = q.add(retry=AT_ONCE)
        for _ in range(9):
            q.release(q.take(), delay_ns=S)
            q.clock.advance(1)
        q.release(q.take())
        q.release(q.take())
        q.release(q.take(), delay_ns=S)
        q.clock.advance(1)
        q.release(q.take())
        assert q.claim_ids() == []
        assert (q.task(task_id).reason, q.task(task_id).deliveries) == ("max_deliveries", 13)
        q.retry(task_id)
        for _ in range(3):
            q.release(q.take())
        assert q.claim_ids() == [], "a retry by hand begins anew"

    def test_one_that_is_not_kept_is_gone(self, q: Driver):
        task_id = q.add(retry=AT_ONCE, keep=Keep(dead_ns=0))
        for _ in range(3):
            q.release(q.take())
        q.claim()

        assert q.state(task_id) is Outcome.GONE
        assert q.totals().dead == 1

    def test_a_task_that_comes_back_too_often_does_not_hold_up_the_next(self, q: Driver):
        q.add(retry=AT_ONCE, priority=-1)
        for _ in range(3):
            q.release(q.take())
        following = q.add()

        assert q.claim_ids(limit=1) == [following]

    def test_retry_by_hand_gives_all_deliveries_anew(self, q: Driver):
        task_id = q.add(retry=AT_ONCE)
        for _ in range(3):
            q.release(q.take())
        q.claim()

        q.retry(task_id)

        assert [q.release(q.take()).outcome for _ in range(3)] == [Outcome.OK] * 3
        assert q.claim_ids() == []
        assert q.task(task_id).deliveries == 6

    # --- stirred

    def test_stirred_names_the_queues_in_which_a_claim_may_find_more(self, q: Driver):
        q.put_queue("still")
        enqueued = q.apply(Call((Enqueue((entry(queue="a"), entry(queue="b"), entry(queue="c", delay_ns=S))),)))

        assert {"a", "b"} <= enqueued.stirred
        assert "still" not in enqueued.stirred


class OrderCapability:
    """Strict order: priority, then rank, then id, over all queues and types of a claim."""

    def test_lower_priority_runs_sooner_then_the_older_task(self, q: Driver):
        ids = q.enqueue(*(entry(priority=p) for p in (5, 0, -5, 0, 32_767, -32_768))).ids

        assert q.claim_ids() == [ids[5], ids[2], ids[1], ids[3], ids[0], ids[4]]

    def test_the_order_runs_through_queues_and_types(self, q: Driver):
        ids = [q.add(queue=f"q{n % 3}", type=f"t{n % 4}", priority=-(n % 2)) for n in range(24)]

        taken = [task_id for _ in range(8) for task_id in q.claim_ids("q2", "q0", "q1", limit=3)]

        assert taken == ids[1::2] + ids[0::2]

    def test_a_batch_is_handed_out_in_its_order(self, q: Driver):
        ids = q.enqueue(*(entry(type=f"t{n % 3}") for n in range(50))).ids

        assert q.claim_ids(limit=20) + q.claim_ids(limit=40) == ids

    def test_a_scheduled_task_stands_at_its_time(self, q: Driver):
        later = q.add(delay_ns=5 * S)
        q.clock.advance(3)
        before = q.add()
        q.clock.advance(3)
        after = q.add()

        assert q.claim_ids() == [before, later, after]

    def test_a_time_in_the_past_gives_no_place_in_front(self, q: Driver):
        first = q.add()
        q.clock.advance(1)
        second = q.add(scheduled_at=q.now - 9 * S)

        assert q.claim_ids() == [first, second]

    def test_a_release_without_delay_keeps_the_place(self, q: Driver):
        ids = q.enqueue(entry(), entry(), entry()).ids
        first = q.take()
        q.clock.advance(1)
        q.release(first)

        assert q.claim_ids() == ids

    def test_a_release_with_delay_and_a_failure_stand_at_their_due_time(self, q: Driver):
        released = q.add()
        failed = q.add(retry=RetryStrategy(backoff=Intervals((4 * S,))))
        tasks = q.claim(limit=2).tasks
        q.release(tasks[0], delay_ns=2 * S)
        q.fail(tasks[1])
        q.clock.advance(1)
        before = q.add()
        q.clock.advance(2)
        between = q.add()
        q.clock.advance(3)

        assert q.claim_ids() == [before, released, between, failed]

    def test_a_failure_that_is_tried_at_once_goes_to_the_back(self, q: Driver):
        failed = q.add(retry=RetryStrategy(backoff=Intervals((0,))))
        task = q.take()
        other = q.add()
        q.clock.advance(1)
        q.fail(task)

        assert q.claim_ids() == [other, failed]

    def test_an_edited_priority_keeps_the_rank(self, q: Driver):
        ids = q.enqueue(entry(), entry(), entry(), entry(priority=4)).ids
        q.clock.advance(1)
        q.edit(ids[1], "priority", priority=4)

        assert q.claim_ids() == [ids[0], ids[2], ids[1], ids[3]]

    def test_an_edited_schedule_gives_a_new_rank(self, q: Driver):
        ids = q.enqueue(entry(), entry()).ids
        q.clock.advance(1)
        q.edit(ids[0], "scheduled_at")

        assert q.claim_ids() == [ids[1], ids[0]]

    def test_a_retry_by_hand_goes_to_the_back(self, q: Driver):
        dead = q.add_dead()
        other = q.add()
        q.clock.advance(1)
        q.retry(dead)

        assert q.claim_ids() == [other, dead]

    @pytest.mark.parametrize("gap", range(5))
    def test_holes_in_a_row_of_ids_do_not_change_the_order(self, q: Driver, gap: int):
        ids = q.enqueue(*(entry() for _ in range(5))).ids
        q.delete(ids.pop(gap))

        assert q.claim_ids(limit=2) + q.claim_ids() == ids

    def test_a_task_that_returns_into_the_middle_of_a_row_finds_its_place(self, q: Driver):
        ids = q.enqueue(*(entry() for _ in range(6))).ids
        tasks = q.claim(limit=5).tasks
        for n in (3, 1, 2):
            q.release(tasks[n])

        assert q.claim_ids() == [ids[1], ids[2], ids[3], ids[5]]
