"""What every store does with threads and groups. Tests named after a check of another system hold that check."""

from __future__ import annotations

from typing import Any

import pytest

from lmdbq.model import (
    Completion,
    Dedupe,
    Delete,
    Filter,
    Intervals,
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

AT_ONCE = RetryStrategy(max_attempts=9, backoff=Intervals((0,)))
IN_A_MINUTE = RetryStrategy(max_attempts=9, backoff=Intervals((60 * S,)))


def thread(q: Driver, name: str, number: int, **said: Any) -> list[int]:
    """Enqueue ``number`` tasks of one thread; return their ids."""
    return [q.add(thread=name, **said) for _ in range(number)]


def _oldest(q: Driver) -> int:
    view = q.store.queue("default")
    assert view is not None
    return view.oldest_ready_at


class ThreadContract:
    """Threads: strict order, one in flight."""

    def test_moab_6_49_of_a_thread_one_task_is_handed_out_at_a_time_in_order(self, q: Driver):
        a, b, c = thread(q, "x", 3)

        assert q.claim_ids(limit=10) == [a]
        assert q.claim_ids(limit=10) == []
        q.finish(a)
        assert q.claim_ids(limit=10) == [b]
        q.finish(b)
        assert q.claim_ids(limit=10) == [c]

    def test_threads_and_plain_tasks_of_a_queue_go_side_by_side(self, q: Driver):
        x = thread(q, "x", 2)
        plain = q.add()
        y = thread(q, "y", 2)

        assert q.claim_ids(limit=10) == [x[0], plain, y[0]]

    def test_a_thread_is_of_one_queue(self, q: Driver):
        one, other = q.add(thread="x"), q.add(queue="other", thread="x")

        assert q.claim_ids("default", "other", limit=9) == [one, other]

    def test_a_thread_keeps_its_order_over_types_and_priorities(self, q: Driver):
        a = q.add(thread="x", type="a", priority=9)
        b = q.add(thread="x", type="b", priority=-9)

        assert q.claim_ids(types=("b",)) == []
        assert q.claim_ids() == [a]
        q.finish(a)
        assert q.claim_ids(types=("b",)) == [b]

    def test_the_first_of_a_thread_stands_in_the_queue_by_its_own_priority(self, q: Driver):
        late = q.add(thread="x", priority=5)
        plain = q.add(priority=1)
        early = q.add(thread="y", priority=-1)

        assert q.claim_ids(limit=9) == [early, plain, late]

    def test_moab_6_50_a_scheduled_task_blocks_nobody_that_is_earlier(self, q: Driver):
        later = q.add(thread="x", delay_ns=100 * S)
        sooner = q.add(thread="x", delay_ns=50 * S)
        q.clock.advance(50)

        assert q.claim_ids() == [sooner]
        q.clock.advance(50)
        assert q.claim_ids() == [], "the thread is held"
        q.finish(sooner)
        assert q.claim_ids() == [later]

    def test_a_head_that_is_to_be_tried_again_keeps_its_place(self, q: Driver):
        a, b = thread(q, "x", 2, retry=IN_A_MINUTE)
        q.fail(q.take())

        assert q.claim_ids() == []
        assert q.task(b).waiting_for.startswith("thread 'x', behind tsk_")
        q.clock.advance(60)
        assert q.claim_ids() == [a]

    def test_a_head_that_is_ready_again_at_once_keeps_its_place(self, q: Driver):
        a, _ = thread(q, "x", 2, retry=AT_ONCE)
        q.clock.advance(1)
        q.fail(q.take())

        assert q.claim_ids() == [a]

    def test_moab_6_51_a_head_that_rejoins_is_tried_again_behind_the_next(self, q: Driver):
        a, b = thread(q, "x", 2, retry=IN_A_MINUTE, rejoin=True)
        q.fail(q.take())

        assert q.claim_ids() == [b]
        q.clock.advance(59)
        q.finish(b)
        assert q.claim_ids() == []
        q.clock.advance(1)
        assert q.claim_ids() == [a]

    @pytest.mark.parametrize("delay_ns", [0, 60 * S])
    def test_a_head_that_is_released_keeps_its_place(self, q: Driver, delay_ns: int):
        a, _ = thread(q, "x", 2)
        q.release(q.take(), delay_ns=delay_ns)

        assert q.claim_ids() == ([] if delay_ns else [a])
        q.clock.advance(60)
        assert q.claim_ids() == ([a] if delay_ns else [])

    def test_a_lapsed_head_keeps_its_place(self, q: Driver):
        a, _ = thread(q, "x", 2, retry=AT_ONCE, keepalive_ns=S)
        q.take()
        q.clock.advance(1)

        assert q.claim_ids() == [a]

    def test_moab_6_52_the_next_is_there_at_once_when_the_head_dies(self, q: Driver):
        _, b = thread(q, "x", 2)
        q.fail(q.take(), retry=False)

        assert q.claim_ids() == [b]

    def test_moab_6_52_the_next_is_there_at_once_when_the_head_is_deleted_while_it_runs(self, q: Driver):
        a, b = thread(q, "x", 2)
        lease = q.take()
        q.delete(a)

        assert q.claim_ids() == [b]
        assert q.succeed(lease).outcome is Outcome.NOT_FOUND

    @pytest.mark.parametrize("how", ["delete", "cancel", "expire"])
    def test_moab_6_52_the_next_is_there_at_once_when_a_head_that_waits_goes(self, q: Driver, how: str):
        a = q.add(thread="x", retry=IN_A_MINUTE, expires_in_ns=90 * S)
        b = q.add(thread="x")
        q.fail(q.take(), delay_ns=80 * S)
        if how == "expire":
            q.clock.advance(90)
        else:
            getattr(q, how)(a)

        assert q.claim_ids() == [b]

    def test_the_next_is_there_at_once_when_a_running_head_is_cancelled_and_ends(self, q: Driver):
        a, b = thread(q, "x", 2)
        lease = q.take()
        q.cancel(a)
        assert q.claim_ids() == []
        q.fail(lease)

        assert q.claim_ids() == [b]

    def test_moab_6_53_a_task_that_is_moved_forward_becomes_the_head(self, q: Driver):
        a = q.add(thread="x", delay_ns=50 * S)
        b = q.add(thread="x", delay_ns=100 * S)
        q.edit(b, "scheduled_at", delay_ns=10 * S)
        q.clock.advance(100)

        assert q.claim_ids() == [b]
        q.finish(b)
        assert q.claim_ids() == [a]

    def test_moab_6_53_a_duplicate_that_moves_a_task_back_leaves_the_head_as_it_was(self, q: Driver):
        a = q.add(thread="x")
        b = q.add(thread="x", dedupe="k")
        q.enqueue(entry(thread="x", dedupe=Dedupe("k", overwrite=("scheduled_at",)), delay_ns=5 * S))
        q.clock.advance(5)

        assert q.claim_ids() == [a]
        assert q.claim_ids() == []
        q.finish(a)
        assert q.claim_ids() == [b]

    def test_a_holder_that_is_given_another_time_gives_up_the_head(self, q: Driver):
        a, b = thread(q, "x", 2, retry=IN_A_MINUTE)
        q.fail(q.take())
        q.edit(a, "scheduled_at", delay_ns=500 * S)

        assert q.claim_ids() == [b]

    def test_an_edit_of_something_else_leaves_the_holder_where_it_is(self, q: Driver):
        a, _ = thread(q, "x", 2, retry=AT_ONCE)
        q.fail(q.take())
        q.edit(a, "payload", "priority", "type", payload=b"2", priority=7, type="other")

        assert q.claim_ids() == [a]

    def test_moab_6_54_threads_with_like_names_are_apart(self, q: Driver):
        one = q.add(thread="thread-7-1")
        two = thread(q, "thread-7-10", 2)

        assert q.claim_ids(limit=9) == [one, two[0]]
        q.finish(one)
        assert [view.name for view in q.store.threads("default")] == ["thread-7-10"]
        q.finish(two[0])
        assert q.claim_ids(limit=9) == [two[1]]

    def test_moab_6_55_the_age_of_a_queue_is_that_of_what_may_start(self, q: Driver):
        thread(q, "x", 2)
        q.take()
        q.clock.advance(5)

        assert _oldest(q) == 0
        q.add(thread="y")
        assert _oldest(q) == q.now

    def test_moab_6_56_an_empty_claim_in_between_hides_no_task(self, q: Driver):
        a, b = thread(q, "x", 2)
        q.take()
        q.clock.advance(1)
        assert q.claim_ids() == []
        q.finish(a)

        assert q.claim_ids() == [b]

    def test_moab_6_57_an_expired_head_makes_room_for_the_next_and_for_new_ones(self, q: Driver):
        q.add(thread="x", type="a", expires_in_ns=S)
        b = q.add(thread="x", type="b")
        q.clock.advance(1)

        assert q.claim_ids() == [b]
        c = q.add(thread="x")
        q.finish(b)
        assert q.claim_ids() == [c]

    def test_moab_6_47_a_dead_task_that_is_retried_by_hand_joins_its_thread_again(self, q: Driver):
        dead = q.add_dead(thread="x")
        later = q.add(thread="x", delay_ns=10 * S)
        q.retry(dead)
        q.clock.advance(10)

        assert q.claim_ids() == [dead]
        assert q.claim_ids() == []
        q.finish(dead)
        assert q.claim_ids() == [later]

    def test_moab_3_2_2_a_task_enqueued_after_an_empty_claim_is_delivered_whatever_the_clock_says(self, q: Driver):
        a = q.add(thread="x")
        q.take()
        assert q.claim_ids() == []
        q.clock.step(-60)
        b = q.add(thread="x")
        q.finish(a)

        assert q.claim_ids() == [b]

    def test_moab_3_2_5_a_lapsed_head_frees_its_thread_while_its_queue_is_paused(self, q: Driver):
        a, b = thread(q, "x", 2, keepalive_ns=S, retry=RetryStrategy(max_attempts=1))
        q.take()
        q.put_queue(paused=True)
        q.clock.advance(1)
        q.sweep(Lapse())

        assert q.task(a).state is State.DEAD
        q.put_queue(paused=False)
        assert q.claim_ids() == [b]

    def test_moab_3_2_4_a_late_report_of_a_purged_queue_ends_nothing_of_the_new_one(self, q: Driver):
        thread(q, "x", 1)
        old = q.take()
        q.do(Purge("default"))
        fresh = thread(q, "x", 2)
        lease = q.take()

        assert lease.id == fresh[0], "what runs of a purged queue holds no thread"
        assert q.succeed(old).outcome is Outcome.NOT_FOUND
        assert q.claim_ids() == []
        q.succeed(lease)
        assert q.claim_ids() == [fresh[1]]

    def test_moab_3_2_8_dead_tasks_are_no_members_of_their_thread(self, q: Driver):
        q.add_dead(thread="x")

        assert q.store.threads("default") == []
        again = q.add(thread="x")
        assert q.claim_ids() == [again]

    def test_moab_3_2_18_an_expired_head_holds_neither_its_key_nor_its_thread(self, q: Driver):
        q.add(thread="x", dedupe="k", expires_in_ns=S)
        q.clock.advance(1)
        again = q.add(thread="x", dedupe="k")

        assert q.claim_ids() == [again]

    def test_moab_3_2_21_one_odd_lease_in_a_report_spoils_none_of_the_others(self, q: Driver):
        a, b = thread(q, "x", 2)
        q.take()

        done = q.do(Report([Completion(*lease, Status.SUCCEEDED) for lease in ((a, 7), (b, 1), (a, 1))]))
        assert [one.outcome for one in done.outcomes] == [Outcome.STALE_LEASE, Outcome.STALE_LEASE, Outcome.OK]
        assert q.claim_ids() == [b]

    def test_moab_3_2_24_a_name_of_128_bytes_will_do(self, q: Driver):
        longest = q.add(thread="ä" * 64)
        assert q.claim_ids() == [longest]

    def test_moab_3_2_29_lists_and_counts_hold_all_members(self, q: Driver):
        ids = thread(q, "x", 3)

        assert [task.id for task in q.all_tasks(Filter(states=(State.READY,)))] == ids
        assert q.number(State.READY) == 3
        assert [task.id for task in q.all_tasks(Filter(thread="x"))] == ids
        assert q.store.count(Filter(thread="y")) == 0

    def test_a_task_behind_its_thread_says_so(self, q: Driver):
        a, b, c = thread(q, "x", 3)

        assert [q.task(task_id).waiting_for[:10] for task_id in (a, b, c)] == ["", "thread 'x'", "thread 'x'"]
        q.take()
        assert q.task(c).waiting_for == q.task(b).waiting_for
        assert q.claim().reason == "thread"

    def test_why_nothing_is_given_is_not_told_of_a_group_that_only_waits_in_a_paused_queue(self, q: Driver):
        """Nothing holds up that group itself, so it has no word for it."""
        q.add(queue="b", group="g")
        q.put_queue("b", paused=True, priority=2)
        q.add(queue="a", thread="t")
        q.add(queue="a", thread="t")
        assert len(q.claim("a", "b", limit=9).tasks) == 1
        assert q.claim("a", "b").reason == "thread"

    def test_the_view_of_a_thread(self, q: Driver):
        a, b = thread(q, "x", 2, retry=IN_A_MINUTE)
        assert [(view.holder, view.head, view.ready) for view in q.store.threads("default")] == [(0, a, 2)]
        q.fail(q.take())

        (view,) = q.store.threads("default")
        assert (view.name, view.queue, view.holder, view.state, view.head, view.ready) == (
            "x", "default", a, State.SCHEDULED, 0, 1)  # fmt: skip
        assert b > a
        assert q.store.threads("nowhere") == []

    def test_threads_are_listed_by_name_a_page_at_a_time(self, q: Driver):
        q.enqueue(*(entry(thread=name) for name in "cab"))

        assert [view.name for view in q.store.threads("default", limit=2)] == ["a", "b"]
        assert [view.name for view in q.store.threads("default", after="b")] == ["c"]

    def test_what_is_enqueued_in_one_call_is_one_thread(self, q: Driver):
        done = q.enqueue(*(entry(thread="x", payload=b"%d" % number) for number in range(3)))

        assert [q.claim_ids() and q.finish(task_id).outcome for task_id in done.ids] == [Outcome.OK] * 3

    def test_a_deleted_queue_leaves_no_thread(self, q: Driver):
        thread(q, "x", 3)
        q.take()
        q.do(QueueDelete("default"))
        q.do(Prune())
        fresh = thread(q, "x", 1)

        assert q.claim_ids() == fresh

    def test_purged_members_are_drained(self, q: Driver):
        q.enqueue(*(entry(thread=f"t{number % 50}") for number in range(1200)))
        q.do(Purge("default"))
        for _ in range(3):
            q.do(Prune())

        assert q.store.threads("default") == []
        assert q.store.due(q.clock).prune_at == 0

    def test_deleting_members_of_a_thread_leaves_the_others_in_order(self, q: Driver):
        a, b, c, d = thread(q, "x", 4)
        q.do(Delete((a, c)))

        assert q.claim_ids() == [b]
        q.finish(b)
        assert q.claim_ids() == [d]
