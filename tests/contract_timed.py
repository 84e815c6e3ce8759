"""What every store does when time passes: Promote, Expire, Prune, ``due``, and steps of the wall clock."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from lmdbq import limits
from lmdbq.model import (
    Call,
    Claim,
    Due,
    Enqueue,
    Expire,
    Filter,
    Intervals,
    Keep,
    Lapse,
    Memo,
    Outcome,
    Promote,
    Prune,
    RetryStrategy,
    State,
    Swept,
)
from tests.store_driver import Driver, S, entry


class TimedContract:
    """Timed ops."""

    def test_promote_makes_due_tasks_ready_and_no_other(self, q: Driver):
        ids = q.enqueue(entry(delay_ns=S), entry(delay_ns=2 * S), entry(queue="other", delay_ns=S)).ids
        q.clock.advance(0.999999)
        early = q.sweep(Promote())
        q.clock.advance(0.000001)

        swept = q.sweep(Promote())

        assert (early, swept) == (Swept(0), Swept(2))
        assert [q.state(task_id) for task_id in ids] == [State.READY, State.SCHEDULED, State.READY]
        assert q.task(ids[0]).due_at == 0

    def test_promote_takes_a_backoff_that_is_over(self, q: Driver):
        task_id = q.add(retry=RetryStrategy(backoff=Intervals((5 * S,))))
        q.fail(q.take())
        q.clock.advance(5)

        assert q.sweep(Promote()).count == 1
        assert q.state(task_id) is State.READY

    @pytest.mark.parametrize(("op", "field"), [(Promote(limit=2), "delay_ns"), (Expire(limit=2), "expires_in_ns")])
    def test_a_timed_op_takes_the_earliest_first_and_says_that_there_are_more(
        self, q: Driver, op: Promote | Expire, field: str
    ):
        ids = q.enqueue(*(entry(**{field: n * S}, queue=f"q{n % 2}") for n in (4, 1, 3, 2))).ids
        before = [q.state(task_id) for task_id in ids]
        q.clock.advance(10)

        first = q.sweep(op)
        moved = [q.state(task_id) != state for task_id, state in zip(ids, before, strict=True)]
        second = q.sweep(op)

        assert (first, moved) == (Swept(2, more=True), [False, True, False, True])
        assert second == Swept(2)
        assert q.sweep(op) == Swept(0)

    def test_expire_removes_waiting_tasks_whose_time_is_over(self, q: Driver):
        ids = q.enqueue(
            entry(expires_in_ns=5 * S), entry(delay_ns=S, expires_in_ns=5 * S), entry(expires_in_ns=6 * S), entry()
        ).ids
        q.clock.advance(4.999999)
        early = q.sweep(Expire())
        q.clock.advance(0.000001)

        swept = q.sweep(Expire())

        assert (early, swept) == (Swept(0), Swept(2))
        assert [q.state(task_id) for task_id in ids] == [Outcome.GONE, Outcome.GONE, State.READY, State.READY]
        assert q.totals().expired == 2

    def test_expire_leaves_running_and_ended_tasks_alone(self, q: Driver):
        dead = q.add_dead(expires_in_ns=S)
        running = q.add(expires_in_ns=S)
        q.take()
        q.clock.advance(5)

        assert q.sweep(Expire()) == Swept(0)
        assert (q.state(dead), q.state(running)) == (State.DEAD, State.RUNNING)

    def test_an_overdue_task_is_expired_after_it_comes_back(self, q: Driver):
        task_id = q.add(expires_in_ns=S)
        task = q.take()
        q.clock.advance(5)
        q.release(task)

        assert q.sweep(Expire()).count == 1
        assert q.state(task_id) is Outcome.GONE

    def test_prune_removes_ended_tasks_when_they_were_kept_for_long_enough(self, q: Driver):
        ids = []
        for seconds in (3, 1, 2):
            ids.append(q.add(keep=Keep(cancelled_ns=seconds * S)))
            q.cancel(ids[-1])
        q.clock.advance(0.999999)
        early = q.sweep(Prune())
        q.clock.advance(1.000001)

        assert early.count == 0
        assert q.sweep(Prune()).count == 2
        assert [q.state(task_id) for task_id in ids] == [State.CANCELLED, Outcome.GONE, Outcome.GONE]
        assert q.totals().cancelled == 3
        assert q.totals().deleted == 0

    def test_prune_takes_the_earliest_first(self, q: Driver):
        ids = []
        for seconds in (3, 1, 2):
            ids.append(q.add(keep=Keep(cancelled_ns=seconds * S)))
            q.cancel(ids[-1])
        q.clock.advance(5)

        swept = q.sweep(Prune(limit=2))

        assert swept == Swept(2, more=True)
        assert [q.state(task_id) for task_id in ids] == [State.CANCELLED, Outcome.GONE, Outcome.GONE]

    def test_prune_bounds_how_many_ended_tasks_a_queue_keeps(self, q: Driver, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "ENDED_PER_QUEUE_MAX", 3)
        dead = [q.add_dead(keep=Keep(dead_ns=(9 - n) * limits.DAY_NS)) for n in range(5)]
        other = q.add_dead(queue="other")
        cancelled = q.add()
        q.cancel(cancelled)

        assert q.sweep(Prune()).count == 2
        assert [q.state(task_id) for task_id in dead] == [State.DEAD] * 3 + [Outcome.GONE] * 2
        assert (q.state(other), q.state(cancelled)) == (State.DEAD, State.CANCELLED)

    def test_prune_does_not_count_what_is_no_task(self, q: Driver):
        q.call(Enqueue((entry(),)), memo=Memo("key", b"hash", kept_ns=S))
        q.take(claim_id="c")
        q.clock.advance(4000)

        assert q.sweep(Prune()).count == 0
        assert q.store.due(q.clock).prune_at == 0

    # --- due

    def test_an_idle_store_waits_for_nothing(self, q: Driver):
        q.add()

        assert q.store.due(q.clock) == Due()

    def test_due_tells_the_next_moment_of_each_timed_op(self, q: Driver):
        q.enqueue(entry(delay_ns=9 * S, expires_in_ns=60 * S), entry(delay_ns=5 * S, queue="b", expires_in_ns=50 * S))
        q.add(expires_in_ns=S, keepalive_ns=7 * S)
        q.take()
        q.add(queue="b", keepalive_ns=8 * S)
        q.take("b")
        q.cancel(q.add(keep=Keep(cancelled_ns=3 * S)))
        q.clock.advance(2)
        start = q.now - 2 * S

        assert q.store.due(q.clock) == Due(
            promote_at=start + 5 * S, expire_at=start + 50 * S, prune_at=start + 3 * S, lapse_in_ns=5 * S
        )

    def test_due_says_now_for_leases_of_an_earlier_boot(self, q: Driver):
        q.add()
        q.take()
        q.clock.reboot()
        before = q.store.due(q.clock).lapse_in_ns
        q.sweep(Lapse())

        assert before is not None and before <= 0
        assert q.store.due(q.clock).lapse_in_ns == limits.KEEPALIVE_NS_DEFAULT

    # --- steps of the wall clock

    @pytest.mark.parametrize("seconds", [-3600, 7200, 86_400])
    def test_a_step_of_the_wall_clock_loses_no_schedule(self, q: Driver, seconds: int):
        at = q.now + 60 * S
        task_id = q.add(scheduled_at=at)
        q.clock.step(seconds)

        taken = q.claim_ids()
        q.clock.advance(max(0, at - q.now) / S)
        taken += q.claim_ids()

        assert taken == [task_id]

    def test_a_step_back_makes_a_schedule_wait_again_and_a_step_forward_makes_it_due(self, q: Driver):
        task_id = q.add(delay_ns=60 * S)
        q.clock.step(-3600)
        q.clock.advance(60)
        early = q.claim_ids()
        q.clock.step(3600)

        assert early == []
        assert q.claim_ids() == [task_id]

    def test_a_ready_task_stays_ready_when_the_clock_steps_back(self, q: Driver):
        task_id = q.add()
        q.clock.step(-86_400)

        assert q.claim_ids() == [task_id]

    # --- the call itself

    def test_the_gate_is_entered_and_left_once_for_each_apply(self, q: Driver):
        seen: list[str] = []

        @contextmanager
        def gate():
            seen.append("in")
            yield
            seen.append("out")

        q.store.apply([Call((Enqueue((entry(),)),)), Call((Claim(("default",)),))], q.clock, gate())

        assert seen == ["in", "out"]
        assert q.store.count(Filter(states=(State.RUNNING,))) == 1

    def test_an_apply_without_calls_does_nothing(self, q: Driver):
        applied = q.apply()

        assert applied.outcomes == []
        assert applied.stirred == frozenset()
