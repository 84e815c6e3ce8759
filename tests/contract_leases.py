"""What every store does with leases: Extend, Report, Lapse, and the boots between them."""

from __future__ import annotations

import pytest

from lmdbq import lifecycle, limits
from lmdbq.model import (
    ClaimedTask,
    Completion,
    DaemonStart,
    Encoding,
    ErrorInfo,
    Exponential,
    Extended,
    Failure,
    Filter,
    Intervals,
    Keep,
    Lapse,
    Outcome,
    Purge,
    Report,
    Reported,
    RetryStrategy,
    State,
    Status,
    Swept,
)
from tests.store_driver import Driver, S, entry

KEEP = Keep(succeeded_ns=50 * S, dead_ns=50 * S, cancelled_ns=50 * S)
TWICE = RetryStrategy(max_attempts=2, backoff=Intervals((5 * S,)))


def stale_and_live(q: Driver) -> tuple[ClaimedTask, ClaimedTask]:
    """Return an old and the present lease of one task."""
    q.add(keep=KEEP)
    old = q.take()
    q.release(old)
    return old, q.take()


class LeaseContract:
    """Fences, heartbeats and lapses."""

    # --- the fence

    @pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.RELEASED])
    def test_a_stale_lease_changes_nothing(self, q: Driver, status: Status):
        old, live = stale_and_live(q)
        before = q.image()

        reported = q.report(old, status, result=b"1", error=ErrorInfo("x"), delay_ns=S)
        extended = q.extend(old, keepalive_ns=9 * S, progress=0.5)

        assert reported == Reported(Outcome.STALE_LEASE)
        assert extended == Extended(Outcome.STALE_LEASE)
        assert q.image() == before
        assert q.succeed(live).outcome is Outcome.OK

    def test_a_lease_of_a_task_that_never_was_or_is_gone_is_not_found(self, q: Driver):
        q.add()
        task = q.take()
        q.delete(task.id)

        assert q.succeed(task) == Reported(Outcome.NOT_FOUND)
        assert q.extend(task) == Extended(Outcome.NOT_FOUND)
        unknown = Completion(task.id + 77, 1, Status.SUCCEEDED)
        assert q.do(Report((unknown,))).outcomes == [Reported(Outcome.NOT_FOUND)]

    def test_a_delivery_that_was_never_made_is_stale(self, q: Driver):
        task_id = q.add()

        reported = q.do(Report((Completion(task_id, 1, Status.SUCCEEDED),))).outcomes[0]

        assert reported.outcome is Outcome.STALE_LEASE

    def test_a_lease_of_a_task_that_does_not_run_is_not_running(self, q: Driver):
        q.add()
        task = q.take()
        q.release(task)

        assert q.extend(task) == Extended(Outcome.NOT_RUNNING)
        assert q.succeed(task) == Reported(Outcome.NOT_RUNNING)
        assert q.state(task.id) is State.READY

    def test_leases_of_a_purged_queue_are_not_found(self, q: Driver):
        q.add()
        task = q.take()
        q.do(Purge("default"))

        assert q.succeed(task).outcome is Outcome.NOT_FOUND

    # --- extend

    def test_extend_prolongs_by_the_given_length_else_by_the_leases_own(self, q: Driver):
        q.add(keepalive_ns=10 * S)
        task = q.take()
        q.clock.advance(4)

        by_own = q.extend(task)
        due_by_own = q.store.due(q.clock).lapse_in_ns  # a store may look earlier, never later
        by_given = q.extend(task, keepalive_ns=30 * S)
        q.clock.advance(1)
        by_new = q.extend(task)

        assert by_own == Extended(Outcome.OK, q.now - S + 10 * S)
        assert due_by_own is not None and due_by_own <= 10 * S
        assert by_given.lease_expires_at == q.now - S + 30 * S
        assert by_new.lease_expires_at == q.now + 30 * S == q.task(task.id).lease_expires_at

    def test_extend_may_shorten(self, q: Driver):
        q.add()
        task = q.take()
        q.extend(task, keepalive_ns=S)
        q.clock.advance(1)

        assert q.sweep(Lapse()).count == 1

    def test_progress_is_kept_while_the_lease_lives(self, q: Driver):
        q.add()
        task = q.take()
        none = q.task(task.id).progress
        q.extend(task, progress=0.4)
        q.extend(task)
        kept = q.task(task.id).progress
        q.release(task)
        after = q.task(task.id).progress
        q.take()

        assert (none, kept, after, q.task(task.id).progress) == (None, 0.4, None, None)

    def test_an_extended_lease_does_not_lapse_at_its_old_time(self, q: Driver):
        task_id = q.add(keepalive_ns=10 * S)
        task = q.take()
        for _ in range(5):
            q.clock.advance(9)
            assert q.extend(task).outcome is Outcome.OK
            assert q.sweep(Lapse()) == Swept(0)
            assert q.claim_ids() == []
        q.clock.advance(10)

        assert q.sweep(Lapse()) == Swept(1)
        assert q.task(task_id).failures == 1

    def test_extend_tells_of_a_cancel(self, q: Driver):
        q.add()
        task = q.take()
        before = q.extend(task).cancel_requested
        q.cancel(task.id)

        assert not before
        assert q.extend(task).cancel_requested

    # --- lapse

    def test_a_lease_past_its_deadline_is_valid_until_lapse_has_moved_it(self, q: Driver):
        q.add(keepalive_ns=S)
        task = q.take()
        q.clock.advance(100)

        assert q.extend(task).outcome is Outcome.OK
        q.clock.advance(100)
        assert q.succeed(task).outcome is Outcome.OK

    def test_a_lapse_is_a_failure(self, q: Driver):
        q.add(retry=TWICE, keepalive_ns=10 * S)
        task = q.take()
        q.clock.advance(9.999999)
        early = q.sweep(Lapse())
        q.clock.advance(0.000001)

        swept = q.sweep(Lapse())

        assert (early, swept) == (Swept(0), Swept(1))
        stored = q.task(task.id)
        assert (stored.state, stored.failures, stored.due_at) == (State.SCHEDULED, 1, q.now + 5 * S)
        assert stored.errors == (Failure(q.now, 1, type="lease_lapsed"),)
        assert (q.totals().lapsed, q.totals().failed) == (1, 0)
        assert (stored.lease_expires_at, stored.progress) == (0, None)

    def test_after_a_lapse_the_lease_is_not_running_and_then_stale(self, q: Driver):
        q.add(retry=RetryStrategy(backoff=Intervals((0,))), keepalive_ns=S)
        task = q.take()
        q.clock.advance(1)
        q.sweep(Lapse())

        assert q.fail(task) == Reported(Outcome.NOT_RUNNING)
        assert q.succeed(task) == Reported(Outcome.NOT_RUNNING)
        q.take()
        assert q.succeed(task) == Reported(Outcome.STALE_LEASE)

    def test_the_last_lapse_is_death(self, q: Driver):
        task_id = q.add(retry=RetryStrategy(max_attempts=1), keepalive_ns=S)
        q.take()
        q.clock.advance(1)
        q.sweep(Lapse())

        task = q.task(task_id)
        assert (task.state, task.reason, task.attempts) == (State.DEAD, "max_attempts", 1)
        assert (q.totals().lapsed, q.totals().dead) == (1, 1)

    def test_a_lapse_after_a_cancel_was_asked_for_cancels(self, q: Driver):
        task_id = q.add(keepalive_ns=S)
        q.take()
        q.cancel(task_id)
        q.clock.advance(1)

        assert q.sweep(Lapse()) == Swept(1)
        task = q.task(task_id)
        assert (task.state, task.reason, [failure.type for failure in task.errors]) == (
            State.CANCELLED,
            "cancelled",
            ["lease_lapsed"],
        )
        assert (q.totals().lapsed, q.totals().cancelled) == (0, 1)

    def test_lapse_takes_the_earliest_first_and_says_that_there_are_more(self, q: Driver):
        ids = []
        for seconds in (3, 1, 2):
            ids.append(q.add(keepalive_ns=seconds * S))
            q.take()
        q.clock.advance(10)

        swept = q.sweep(Lapse(limit=2))

        assert swept == Swept(2, more=True)
        assert [q.state(task_id) for task_id in ids] == [State.RUNNING, State.SCHEDULED, State.SCHEDULED]
        assert q.sweep(Lapse(limit=2)) == Swept(1)

    # --- report: succeeded

    def test_a_success_is_not_kept_unless_it_has_a_result(self, q: Driver):
        q.enqueue(entry(), entry())
        plain, fruitful = q.claim(limit=2).tasks

        first = q.succeed(plain)
        second = q.succeed(fruitful, result=b"\x01", result_encoding=Encoding.MSGPACK)

        assert (first, second) == (Reported(Outcome.OK, None), Reported(Outcome.OK, State.SUCCEEDED))
        assert q.state(plain.id) is Outcome.GONE
        task = q.task(fruitful.id)
        assert (task.result, task.result_encoding, task.reason) == (b"\x01", Encoding.MSGPACK, "")
        assert (task.ended_at, task.remove_at) == (q.now, q.now + limits.KEEP_RESULT_NS_DEFAULT)
        assert q.totals().succeeded == 2

    @pytest.mark.parametrize(("by_entry", "by_queue", "kept_ns"), [(9, 5, 9), (None, 5, 5), (0, 5, 0)])
    def test_how_long_a_success_is_kept_is_the_entrys_else_the_queues(
        self, q: Driver, by_entry: int | None, by_queue: int, kept_ns: int
    ):
        q.put_queue(keep=Keep(succeeded_ns=by_queue * S))
        q.add(keep=Keep(succeeded_ns=None if by_entry is None else by_entry * S))
        task = q.take()

        reported = q.succeed(task, result=b"1")

        assert reported.state is (State.SUCCEEDED if kept_ns else None)
        if kept_ns:
            assert q.task(task.id).remove_at == q.now + kept_ns * S

    # --- report: failed

    def test_a_failure_is_tried_again_after_its_backoff(self, q: Driver):
        task_id = q.add(retry=TWICE)
        scheduled_at = q.now
        q.clock.advance(1)

        reported = q.fail(q.take(), "boom")

        assert reported == Reported(Outcome.OK, State.SCHEDULED)
        task = q.task(task_id)
        assert (task.failures, task.attempts, task.due_at) == (1, 1, q.now + 5 * S)
        assert task.scheduled_at == scheduled_at
        assert task.errors == (Failure(q.now, 1, "boom", "Error", "trace"),)
        assert q.totals().failed == 1
        q.clock.advance(5)
        again = q.take()
        assert (again.deliveries, again.attempts, again.max_attempts) == (2, 2, 2)

    def test_the_last_failure_is_death(self, q: Driver):
        task_id = q.add(retry=TWICE)
        q.fail(q.take(), delay_ns=0)

        reported = q.fail(q.take())

        assert reported.state is State.DEAD
        task = q.task(task_id)
        assert (task.reason, task.ended_at, task.attempts) == ("max_attempts", q.now, 2)
        assert task.remove_at == q.now + limits.KEEP_DEAD_NS_DEFAULT
        assert len(task.errors) == 2
        assert (q.totals().failed, q.totals().dead) == (2, 1)

    def test_backoff_grows_and_is_the_same_in_every_store(self, q: Driver):
        backoff = Exponential(base_ns=S, factor=3, cap_ns=100 * S, jitter=0.5)
        task_id = q.add(retry=RetryStrategy(max_attempts=9, backoff=backoff))
        for failures in range(1, 5):
            q.fail(q.take())
            waits_ns = q.task(task_id).due_at - q.now
            assert waits_ns == lifecycle.backoff_ns(backoff, task_id, failures)
            q.clock.advance(waits_ns / S)

    def test_the_queues_strategy_holds_for_tasks_that_say_none(self, q: Driver):
        q.put_queue(retry=RetryStrategy(max_attempts=1))
        q.add()

        assert q.fail(q.take()).state is State.DEAD

    def test_the_strategy_is_asked_for_when_the_attempt_ends(self, q: Driver):
        q.add()
        task = q.take()
        q.put_queue(retry=RetryStrategy(max_attempts=1))

        assert q.fail(task).state is State.DEAD

    def test_a_worker_may_set_the_delay_or_forbid_the_retry(self, q: Driver):
        q.enqueue(entry(), entry(), entry())
        later, at_once, never = q.claim(limit=3).tasks

        states = [
            q.fail(later, delay_ns=77 * S).state,
            q.fail(at_once, delay_ns=0).state,
            q.fail(never, retry=False).state,
        ]

        assert states == [State.SCHEDULED, State.READY, State.DEAD]
        assert q.task(later.id).due_at == q.now + 77 * S
        assert q.task(at_once.id).due_at == 0
        assert q.task(never.id).reason == "no_retry"

    def test_a_retry_that_would_come_too_late_is_death_at_once(self, q: Driver):
        q.add(retry=TWICE, expires_in_ns=5 * S)

        assert q.fail(q.take()).state is State.DEAD
        assert q.all_tasks()[0].reason == "would_expire"

    def test_a_running_task_is_not_expired(self, q: Driver):
        task_id = q.add(expires_in_ns=S)
        task = q.take()
        q.clock.advance(5)
        q.claim()

        assert q.state(task_id) is State.RUNNING
        assert q.succeed(task).outcome is Outcome.OK

    def test_the_last_twenty_failures_are_kept(self, q: Driver):
        task_id = q.add(retry=RetryStrategy(max_attempts=99, backoff=Intervals((0,))))
        for number in range(25):
            q.fail(q.take(), str(number))

        task = q.task(task_id)
        assert [failure.message for failure in task.errors] == [str(number) for number in range(5, 25)]
        assert [failure.delivery for failure in task.errors] == list(range(6, 26))
        assert task.failures == 25

    def test_long_errors_are_kept_as_given(self, q: Driver):
        q.add()
        error = ErrorInfo("ü" * limits.ERROR_MESSAGE_CHARS_MAX, "T", "b" * limits.ERROR_BACKTRACE_CHARS_MAX)
        task = q.take()
        q.report(task, Status.FAILED, error=error)

        kept = q.task(task.id).errors[0]
        assert (kept.message, kept.type, kept.backtrace) == (error.message, error.type, error.backtrace)

    # --- report: released

    def test_a_release_counts_nothing_against_the_task(self, q: Driver):
        task_id = q.add()

        reported = q.release(q.take())

        assert reported == Reported(Outcome.OK, State.READY)
        task = q.task(task_id)
        assert (task.failures, task.attempts, task.errors, task.deliveries) == (0, 0, (), 1)
        totals = q.totals()
        assert (totals.released, totals.failed, totals.claimed) == (1, 0, 1)
        again = q.take()
        assert (again.deliveries, again.attempts) == (2, 1)

    def test_a_release_with_a_delay_is_scheduled(self, q: Driver):
        task_id = q.add()
        scheduled_at = q.now

        reported = q.release(q.take(), delay_ns=5 * S)

        assert reported.state is State.SCHEDULED
        task = q.task(task_id)
        assert (task.due_at, task.scheduled_at) == (q.now + 5 * S, scheduled_at)

    # --- report: after a cancel was asked for

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            (Status.SUCCEEDED, State.SUCCEEDED),
            (Status.FAILED, State.CANCELLED),
            (Status.RELEASED, State.CANCELLED),
        ],
    )
    def test_a_cancel_asked_for_turns_all_but_success_into_cancelled(self, q: Driver, status: Status, state: State):
        task_id = q.add(keep=KEEP)
        task = q.take()
        q.cancel(task_id)

        reported = q.report(task, status)

        assert reported == Reported(Outcome.OK, state)
        stored = q.task(task_id)
        totals = q.totals()
        assert stored.reason == ("" if state is State.SUCCEEDED else "cancelled")
        assert len(stored.errors) == (status is Status.FAILED)
        assert (totals.succeeded, totals.cancelled) == (int(state is State.SUCCEEDED), int(state is State.CANCELLED))
        assert (totals.failed, totals.released) == (0, 0)

    # --- report: repeats

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            (Status.SUCCEEDED, State.SUCCEEDED),
            (Status.FAILED, State.SCHEDULED),
            (Status.RELEASED, State.READY),
        ],
    )
    def test_the_same_report_again_is_ok_and_changes_nothing(self, q: Driver, status: Status, state: State):
        q.add(keep=KEEP, retry=TWICE)
        task = q.take()
        q.report(task, status)
        before = q.image()

        again = q.report(task, status)

        assert again == Reported(Outcome.OK, state)
        assert q.image() == before

    @pytest.mark.parametrize("first", [Status.SUCCEEDED, Status.FAILED, Status.RELEASED])
    @pytest.mark.parametrize("second", [Status.SUCCEEDED, Status.FAILED, Status.RELEASED])
    def test_another_report_for_the_same_lease_is_not_running(self, q: Driver, first: Status, second: Status):
        q.add(keep=KEEP)
        task = q.take()
        q.report(task, first)

        again = q.report(task, second)

        assert again.outcome is (Outcome.OK if first is second else Outcome.NOT_RUNNING)

    def test_a_repeat_tells_the_present_state(self, q: Driver):
        q.add()
        task = q.take()
        q.release(task)
        q.cancel(task.id)

        assert q.release(task) == Reported(Outcome.OK, State.CANCELLED)

    def test_a_repeat_for_a_task_that_is_not_kept_is_not_found(self, q: Driver):
        q.add()
        task = q.take()
        q.succeed(task)

        assert q.succeed(task) == Reported(Outcome.NOT_FOUND)

    def test_a_repeat_for_an_earlier_delivery_is_stale(self, q: Driver):
        old, _live = stale_and_live(q)

        assert q.release(old) == Reported(Outcome.STALE_LEASE)

    def test_one_report_may_end_many_attempts_and_name_one_twice(self, q: Driver):
        q.enqueue(*(entry(keep=KEEP) for _ in range(50)))
        tasks = q.claim(limit=50).tasks
        completions = [Completion(task.id, task.deliveries, Status.SUCCEEDED) for task in (*tasks, tasks[7])]

        outcomes = q.do(Report(completions)).outcomes

        assert outcomes == [Reported(Outcome.OK, State.SUCCEEDED)] * 51
        assert q.totals().succeeded == 50
        assert q.store.count(Filter(states=(State.SUCCEEDED,))) == 50

    # --- boots

    def test_after_a_reboot_leases_begin_again_and_do_not_lapse(self, q: Driver):
        task_id = q.add(keepalive_ns=10 * S)
        q.take()
        q.clock.advance(9)
        q.clock.reboot()

        rearmed = q.sweep(Lapse())
        q.clock.advance(9.999999)
        before = q.sweep(Lapse())
        q.clock.advance(0.000001)

        assert (rearmed, before) == (Swept(0), Swept(0))
        assert q.sweep(Lapse()) == Swept(1)
        assert q.task(task_id).failures == 1

    def test_a_claim_too_begins_leases_of_an_earlier_boot_again(self, q: Driver):
        q.add(keepalive_ns=10 * S)
        q.take()
        q.clock.reboot()
        q.claim()
        q.clock.advance(10)

        assert q.sweep(Lapse()).count == 1

    def test_a_lease_of_an_earlier_boot_may_be_extended_and_reported(self, q: Driver):
        q.enqueue(entry(keepalive_ns=10 * S), entry())
        first, second = q.claim(limit=2).tasks
        q.clock.reboot()

        extended = q.extend(first)
        reported = q.succeed(second)
        q.clock.advance(9)

        assert extended.lease_expires_at == q.now - 9 * S + 10 * S
        assert reported.outcome is Outcome.OK
        assert q.sweep(Lapse()).count == 0
        q.clock.advance(1)
        assert q.sweep(Lapse()).count == 1

    def test_a_new_boot_forgets_what_extend_said(self, q: Driver):
        task_id = q.add(keepalive_ns=10 * S)
        task = q.take(claim_id="c")
        q.extend(task, keepalive_ns=90 * S, progress=0.5)
        q.clock.reboot()
        before = q.task(task_id)
        again = q.take(claim_id="c")
        q.sweep(Lapse())
        q.clock.advance(10)

        assert (before.progress, before.lease_expires_at) == (None, q.now)
        assert again == task
        assert q.sweep(Lapse()) == Swept(1)

    def test_a_new_boot_has_the_next_number(self, q: Driver):
        first = q.do(DaemonStart()).boot_no
        same = q.do(DaemonStart()).boot_no
        q.clock.reboot()
        second = q.do(DaemonStart()).boot_no

        assert (first, same, second) == (1, 1, 2)
        assert q.store.info().boot_no == 2

    @pytest.mark.parametrize(("length", "grace"), [(1, 1), (3, 3), (60, 5)])
    def test_leases_that_came_due_while_no_daemon_ran_get_a_moment(self, q: Driver, length: int, grace: int):
        task_id = q.add(keepalive_ns=length * S)
        task = q.take()
        q.clock.advance(1000)
        q.do(DaemonStart())

        q.clock.advance(grace - 0.000001)
        early = q.sweep(Lapse())
        in_ns = q.store.due(q.clock).lapse_in_ns
        extended = q.extend(task)
        q.clock.advance(length)

        assert early == Swept(0)
        assert in_ns == 1000
        assert extended.outcome is Outcome.OK
        assert q.sweep(Lapse()) == Swept(1)
        assert q.task(task_id).failures == 1

    def test_after_the_moment_they_lapse(self, q: Driver):
        q.add(keepalive_ns=60 * S)
        q.take()
        q.clock.advance(1000)
        q.do(DaemonStart())
        q.clock.advance(5)

        assert q.sweep(Lapse()) == Swept(1)

    @pytest.mark.parametrize("seconds", [-3600, 7200, 86_400])
    def test_a_step_of_the_wall_clock_lapses_no_lease(self, q: Driver, seconds: int):
        task_id = q.add(keepalive_ns=10 * S)
        task = q.take()
        q.clock.step(seconds)

        assert q.sweep(Lapse()) == Swept(0)
        assert q.claim_ids() == []
        assert q.state(task_id) is State.RUNNING
        q.clock.advance(10)
        assert q.sweep(Lapse()) == Swept(1)
        assert q.fail(task).outcome is Outcome.NOT_RUNNING
