"""What every store does with Cancel, Edit, Delete, Retry and with queues, and what its reads tell."""

from __future__ import annotations

import pytest

from lmdbq import limits
from lmdbq.errors import StoreClosed
from lmdbq.model import (
    DEFAULT_SETTINGS,
    OVERWRITABLE,
    Call,
    Cancel,
    Changed,
    Claim,
    Dedupe,
    Delete,
    Edit,
    Encoding,
    Enqueue,
    Filter,
    Intervals,
    Keep,
    Op,
    Outcome,
    Purge,
    QueueChanged,
    QueueDelete,
    QueuePatch,
    QueueSettings,
    Retry,
    RetryStrategy,
    Scope,
    State,
    Totals,
    Until,
)
from tests.contract_dedupe import bring
from tests.store_driver import Driver, S, entry


def actions(task_id: int) -> list[Op]:
    return [Cancel((task_id,)), Edit(task_id, entry(), ("payload",)), Delete((task_id,)), Retry((task_id,))]


class TaskActionContract:
    """Cancel, Edit, Delete and Retry."""

    def test_an_id_that_is_not_stored_is_gone_if_it_was_given_once(self, q: Driver):
        q.add()
        last = q.add()
        q.delete(last)

        for op in actions(last):
            assert q.do(op).outcomes == [Changed(last, Outcome.GONE)]
        for op in actions(last + 1):
            assert q.do(op).outcomes == [Changed(last + 1, Outcome.NOT_FOUND)]
        assert (q.state(last), q.state(last + 1)) == (Outcome.GONE, Outcome.NOT_FOUND)

    # --- cancel

    @pytest.mark.parametrize("delay_ns", [0, 9 * S])
    def test_a_waiting_task_is_cancelled_at_once(self, q: Driver, delay_ns: int):
        task_id = q.add(delay_ns=delay_ns)

        changed = q.cancel(task_id)

        assert changed == Changed(task_id, Outcome.OK, State.CANCELLED)
        task = q.task(task_id)
        assert (task.reason, task.ended_at, task.due_at) == ("cancelled", q.now, 0)
        assert task.remove_at == q.now + limits.KEEP_CANCELLED_NS_DEFAULT
        assert q.totals().cancelled == 1
        q.clock.advance(60)
        assert q.claim_ids() == []

    def test_a_cancelled_task_that_is_not_kept_is_gone(self, q: Driver):
        task_id = q.add(keep=Keep(cancelled_ns=0))

        assert q.cancel(task_id) == Changed(task_id, Outcome.OK)
        assert q.state(task_id) is Outcome.GONE

    def test_a_running_task_is_asked_to_stop(self, q: Driver):
        task_id = q.add()
        q.take()

        changed = q.cancel(task_id)

        assert changed == Changed(task_id, Outcome.CANCEL_REQUESTED, State.RUNNING)
        assert q.task(task_id).cancel_requested
        assert q.totals().cancelled == 0
        assert q.cancel(task_id) == changed

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD, State.CANCELLED])
    def test_an_ended_task_cannot_be_cancelled(self, q: Driver, state: State):
        task_id = bring(q, state)
        before = q.image()

        assert q.cancel(task_id) == Changed(task_id, Outcome.CONFLICT, state)
        assert q.image() == before

    # --- edit

    @pytest.mark.parametrize("name", OVERWRITABLE)
    def test_an_edit_changes_exactly_the_named_field(self, q: Driver, name: str):
        task_id = q.add(delay_ns=9 * S, tags=("old",))
        before = q.task(task_id)

        changed = q.edit(
            task_id,
            name,
            payload=b"\x01",
            encoding=Encoding.BYTES,
            type="newer",
            priority=5,
            delay_ns=20 * S,
            expires_in_ns=30 * S,
            keepalive_ns=3 * S,
            retry=RetryStrategy(max_attempts=9),
            keep=Keep(dead_ns=0),
            tags=("new",),
            metadata=b"{}",
        )

        after = q.task(task_id)
        differs = {field for field in after.__struct_fields__ if getattr(after, field) != getattr(before, field)} - {
            "options",
            "encoding",
            "due_at",
            "max_attempts",
        }
        differs |= {
            field
            for field in after.options.__struct_fields__
            if getattr(after.options, field) != getattr(before.options, field)
        }
        shown = {"keepalive_timeout_in_seconds": "keepalive_ns", "retry_strategy": "retry"}.get(name, name)
        assert changed == Changed(task_id, Outcome.OK, State.SCHEDULED)
        assert differs == {shown}

    def test_an_edited_schedule_moves_the_task_between_scheduled_and_ready(self, q: Driver):
        task_id = q.add()

        put_off = q.edit(task_id, "scheduled_at", delay_ns=5 * S)
        waiting = q.task(task_id)
        brought_forward = q.edit(task_id, "scheduled_at")

        assert (put_off.state, waiting.due_at) == (State.SCHEDULED, q.now + 5 * S)
        assert (brought_forward.state, q.task(task_id).due_at) == (State.READY, 0)
        assert q.claim_ids() == [task_id]

    def test_an_edit_without_a_schedule_leaves_a_backoff_alone(self, q: Driver):
        task_id = q.add(retry=RetryStrategy(backoff=Intervals((50 * S,))))
        q.fail(q.take())
        due_at = q.task(task_id).due_at

        q.edit(task_id, "priority", "payload", priority=-3, payload=b"2")

        task = q.task(task_id)
        assert (task.state, task.due_at, task.failures, task.deliveries) == (State.SCHEDULED, due_at, 1, 1)

    def test_an_edit_can_set_and_clear_the_expiry(self, q: Driver):
        task_id = q.add()
        q.edit(task_id, "expires_at", expires_in_ns=5 * S)
        set_to = q.task(task_id).expires_at
        q.edit(task_id, "expires_at")
        q.clock.advance(10)

        assert set_to == q.now - 5 * S
        assert q.claim_ids() == [task_id]

    def test_an_edit_says_its_times_itself_and_asks_no_queue(self, q: Driver):
        q.put_queue(expires_in_ns=5 * S)
        task_id = q.add()
        by_queue = q.task(task_id).expires_at
        q.edit(task_id, "expires_at")

        assert (by_queue, q.task(task_id).expires_at) == (q.now + 5 * S, 0)

    def test_an_edit_to_impossible_times_refuses_the_call(self, q: Driver):
        task_id = q.add()
        given = entry(delay_ns=5 * S, expires_in_ns=5 * S)

        refused = q.refusal(Edit(task_id, given, ("scheduled_at", "expires_at")))

        assert (refused.code, refused.problems[0].pointer) == ("expires_too_early", "/expires_at")

    def test_an_edit_to_a_type_too_many_refuses_the_call(self, q: Driver):
        ids = q.enqueue(*(entry(type=f"t{n}") for n in range(limits.TYPES_PER_QUEUE_MAX)), entry(type="t0")).ids

        refused = q.refusal(Edit(ids[0], entry(type="more"), ("type",)))

        assert (refused.code, refused.problems[0].pointer) == ("too_many_types", "/type")
        assert q.edit(ids[0], "type", type="t5").outcome is Outcome.OK

    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED, State.DEAD, State.CANCELLED])
    def test_only_a_waiting_task_can_be_edited(self, q: Driver, state: State):
        task_id = bring(q, state)
        before = q.image()

        assert q.edit(task_id, "payload", payload=b"2") == Changed(task_id, Outcome.CONFLICT, state)
        assert q.image() == before

    def test_an_overdue_task_is_gone_when_it_is_edited(self, q: Driver):
        task_id = q.add(expires_in_ns=S)
        q.clock.advance(1)

        assert q.edit(task_id, "expires_at", expires_in_ns=9 * S) == Changed(task_id, Outcome.GONE)
        assert q.totals().expired == 1

    def test_an_edited_type_is_claimed_as_such(self, q: Driver):
        task_id = q.add(type="old")
        q.edit(task_id, "type", type="new")

        assert q.claim_ids(types=("old",)) == []
        assert q.claim_ids(types=("new",)) == [task_id]

    def test_an_edited_type_leaves_the_key_where_it_was_taken(self, q: Driver):
        rule = Dedupe(key="k", scope=Scope.TYPE)
        task_id = q.add(type="old", dedupe=rule)
        q.edit(task_id, "type", type="new")

        blocked = q.enqueue(entry(type="old", dedupe=rule)).placed(0)
        free = q.enqueue(entry(type="new", dedupe=rule)).placed(0)
        q.delete(task_id)
        freed = q.enqueue(entry(type="old", dedupe=rule)).placed(0)

        assert (blocked.outcome, free.outcome, freed.outcome) == (Outcome.SKIPPED, Outcome.ENQUEUED, Outcome.ENQUEUED)

    # --- delete

    @pytest.mark.parametrize("state", list(State))
    def test_a_task_in_any_state_can_be_deleted(self, q: Driver, state: State):
        task_id = bring(q, state)

        assert q.delete(task_id) == Changed(task_id, Outcome.OK)
        assert q.state(task_id) is Outcome.GONE
        assert q.store.count(Filter()) == 0
        assert q.totals().deleted == 1

    def test_one_op_may_name_many_ids_and_one_twice(self, q: Driver):
        ids = q.enqueue(entry(), entry()).ids

        outcomes = q.do(Delete((*ids, ids[0]))).outcomes

        assert [changed.outcome for changed in outcomes] == [Outcome.OK, Outcome.OK, Outcome.GONE]

    # --- retry by hand

    @pytest.mark.parametrize("state", [State.DEAD, State.CANCELLED])
    def test_a_dead_or_cancelled_task_can_be_tried_again(self, q: Driver, state: State):
        task_id = bring(q, state)
        before = q.task(task_id)
        q.clock.advance(1)

        changed = q.retry(task_id)

        assert changed == Changed(task_id, Outcome.OK, State.READY)
        task = q.task(task_id)
        assert (task.failures, task.attempts, task.reason, task.ended_at, task.remove_at) == (0, 0, "", 0, 0)
        assert (task.deliveries, task.errors) == (before.deliveries, before.errors)
        assert not task.cancel_requested
        assert q.take().deliveries == before.deliveries + 1

    def test_a_task_tried_again_has_all_its_attempts_before_it(self, q: Driver):
        task_id = q.add(retry=RetryStrategy(max_attempts=2, backoff=Intervals((0,))))
        for _ in range(2):
            for _ in range(2):
                q.fail(q.take())
            assert q.state(task_id) is State.DEAD
            q.retry(task_id)

        assert len(q.task(task_id).errors) == 4

    def test_a_cancel_that_was_asked_for_is_forgotten(self, q: Driver):
        task_id = q.add()
        task = q.take()
        q.cancel(task_id)
        q.fail(task)
        q.retry(task_id)

        again = q.take()
        assert not q.extend(again).cancel_requested
        assert q.fail(again, retry=False).state is State.DEAD

    @pytest.mark.parametrize("state", [State.SCHEDULED, State.READY, State.RUNNING, State.SUCCEEDED])
    def test_no_other_task_can_be_tried_again(self, q: Driver, state: State):
        task_id = bring(q, state)
        before = q.image()

        assert q.retry(task_id) == Changed(task_id, Outcome.CONFLICT, state)
        assert q.image() == before

    def test_an_expired_task_cannot_be_tried_again(self, q: Driver):
        task_id = q.add_dead(expires_in_ns=S)
        q.clock.advance(1)

        assert q.retry(task_id) == Changed(task_id, Outcome.EXPIRED, State.DEAD)

    def test_a_task_whose_key_another_holds_cannot_be_tried_again(self, q: Driver):
        dead = q.add_dead(dedupe="k")
        other = q.add(dedupe="k")

        refused = q.retry(dead)
        q.succeed(q.take())
        after = q.retry(dead)

        assert refused == Changed(dead, Outcome.DEDUPE_CONFLICT, State.DEAD)
        assert q.state(other) is Outcome.GONE
        assert after == Changed(dead, Outcome.OK, State.READY)
        assert q.enqueue(entry(dedupe="k")).placed(0).id == dead

    def test_a_task_tried_again_takes_its_key_now(self, q: Driver):
        dead = q.add_dead(dedupe="k")
        other = q.add_dead(dedupe="k")
        q.delete(other)
        q.clock.advance(10)
        q.retry(dead)

        newcomer = q.enqueue(entry(dedupe=Dedupe(key="k", ttl_ns=S))).placed(0)

        assert (newcomer.outcome, newcomer.id) == (Outcome.SKIPPED, dead)

    def test_a_task_tried_again_that_still_held_its_key_keeps_the_old_time(self, q: Driver):
        dead = q.add_dead(dedupe="k")
        q.clock.advance(10)
        q.retry(dead)

        newcomer = q.enqueue(entry(dedupe=Dedupe(key="k", ttl_ns=S))).placed(0)

        assert newcomer.outcome is Outcome.ENQUEUED

    def test_a_key_held_by_a_task_that_does_not_block_is_taken_back(self, q: Driver):
        rule = Dedupe(key="k", until=Until.STARTED)
        dead = q.add_dead(dedupe=rule)
        q.add(dedupe=rule)
        q.take()

        assert q.retry(dead).outcome is Outcome.OK
        assert q.enqueue(entry(dedupe=rule)).placed(0).id == dead

    def test_a_retry_asks_by_the_rules_of_now_for_the_key_of_then(self, q: Driver):
        dead = q.add_dead(dedupe="k")
        q.add(dedupe="k")
        q.take()
        q.put_queue(dedupe=Dedupe(scope=Scope.GLOBAL, until=Until.STARTED))

        assert q.retry(dead).outcome is Outcome.OK
        assert q.enqueue(entry(dedupe=Dedupe(key="k", scope=Scope.QUEUE))).placed(0).id == dead


class QueueContract:
    """Queues, and what is read of them."""

    def test_a_queue_comes_into_being_by_put_or_by_its_first_task(self, q: Driver):
        put = q.put_queue("a", max_running=3)
        again = q.put_queue("a", keepalive_ns=9 * S)
        q.add(queue="b")

        assert (put, again) == (QueueChanged("a", created=True), QueueChanged("a", created=False))
        a, b = q.store.queues()
        assert (a.name, a.settings, a.counts, a.totals) == ("a", QueueSettings(keepalive_ns=9 * S), {}, Totals())
        assert (b.name, b.settings) == ("b", DEFAULT_SETTINGS)
        assert q.store.queue("a") == a
        assert q.store.queue("c") is None

    def test_a_patch_changes_only_the_named_fields(self, q: Driver):
        q.put_queue(max_running=3, keep=Keep(dead_ns=1), retry=RetryStrategy(max_attempts=2))

        changed = q.do(QueuePatch("default", QueueSettings(paused=True, max_running=9), ("paused", "keep")))

        view = q.store.queue("default")
        assert changed == QueueChanged("default")
        assert view is not None
        assert view.settings == QueueSettings(paused=True, max_running=3, retry=RetryStrategy(max_attempts=2))

    def test_settings_are_kept_whole(self, q: Driver):
        settings = QueueSettings(
            paused=True,
            max_running=7,
            keepalive_ns=9 * S,
            expires_in_ns=8 * S,
            retry=RetryStrategy(max_attempts=3, backoff=Intervals((S, 2 * S)), max_deliveries=9),
            keep=Keep(succeeded_ns=0, dead_ns=S),
            dedupe=Dedupe(scope=Scope.GLOBAL, until=Until.TTL, ttl_ns=S, overwrite=("payload",)),
        )
        q.put_queue("a", **{name: getattr(settings, name) for name in settings.__struct_fields__})

        view = q.store.queue("a")
        assert view is not None and view.settings == settings

    @pytest.mark.parametrize("op", [Purge("no"), QueueDelete("no"), QueuePatch("no", QueueSettings(), ("paused",))])
    def test_an_unknown_queue_refuses_the_call(self, q: Driver, op: Op):
        refused = q.refusal(op)

        assert (refused.code, [problem.pointer for problem in refused.problems]) == ("queue_not_found", ["/name"])

    def _fill(self, q: Driver) -> list[int]:
        ids = [q.add_dead(), q.add(delay_ns=9 * S), q.add(type="running")]
        q.take()
        return [*ids, q.add(), q.add()]

    def test_a_purge_removes_all_tasks_and_keeps_settings_and_totals(self, q: Driver):
        q.put_queue(max_running=5)
        ids = self._fill(q)
        other = q.add(queue="other")

        changed = q.do(Purge("default"))

        view = q.store.queue("default")
        assert changed == QueueChanged("default", tasks=5)
        assert view is not None
        assert (view.counts, view.settings.max_running) == ({}, 5)
        assert (view.totals.enqueued, view.totals.claimed, view.totals.deleted) == (5, 2, 5)
        assert {q.state(task_id) for task_id in ids} == {Outcome.GONE}
        assert [task.id for task in q.all_tasks()] == [other]
        assert q.store.count(Filter(queue="default")) == 0
        assert q.claim("default").tasks == []

    def test_a_purged_queue_works_on(self, q: Driver):
        q.put_queue(max_running=1)
        self._fill(q)
        q.do(Purge("default"))
        q.clock.advance(60)

        again = q.add()

        assert q.claim_ids() == [again]
        assert q.totals().deleted == 5

    def test_a_deleted_queue_is_gone_with_its_totals(self, q: Driver):
        q.put_queue(max_running=1)
        ids = self._fill(q)

        changed = q.do(QueueDelete("default"))

        assert changed == QueueChanged("default", tasks=5)
        assert q.store.queue("default") is None
        assert {q.state(task_id) for task_id in ids} == {Outcome.GONE}
        q.add()
        view = q.store.queue("default")
        assert view is not None
        assert (view.settings, view.totals) == (DEFAULT_SETTINGS, Totals(enqueued=1))

    def test_a_purge_and_what_follows_may_be_one_call(self, q: Driver):
        q.add()
        purged, enqueued, claimed = q.do(Purge("default"), Enqueue((entry(),)), Claim(("default",), limit=9))

        assert purged.tasks == 1
        assert [task.id for task in claimed.tasks] == enqueued.ids

    def test_settings_of_a_queue_stir_it(self, q: Driver):
        q.put_queue("a", paused=True)

        patched = q.apply(Call((QueuePatch("a", QueueSettings(), ("paused",)),)))

        assert patched.stirred == {"a"}

    # --- reads

    def test_counts_are_by_type_and_state(self, q: Driver):
        self._fill(q)

        view = q.store.queue("default")
        assert view is not None
        assert view.counts == {
            "default": {"dead": 1, "scheduled": 1, "ready": 2},
            "running": {"running": 1},
        }
        assert view.count(State.READY) == q.number(State.READY) == 2

    def test_a_view_tells_the_oldest_ready_task_the_next_due_one_and_what_blocks(self, q: Driver):
        q.put_queue(max_running=1)
        first = q.now
        q.add()
        q.clock.advance(1)
        q.enqueue(entry(), entry(delay_ns=9 * S), entry(delay_ns=5 * S))
        before = q.store.queue("default")
        q.take()
        full = q.store.queue("default")
        q.patch_queue(paused=True)
        paused = q.store.queue("default")

        assert before is not None and full is not None and paused is not None
        assert (before.oldest_ready_at, before.next_due_at, before.blocked_by) == (first, q.now + 5 * S, "")
        assert (full.oldest_ready_at, full.blocked_by) == (q.now, "max_running")
        assert paused.blocked_by == "paused"

    def test_tasks_are_listed_by_id_page_by_page(self, q: Driver):
        ids = q.enqueue(*(entry(queue=f"q{n % 2}") for n in range(25))).ids

        for limit in (1, 7, 25, 1000):
            assert [task.id for task in q.all_tasks(limit=limit)] == sorted(ids)

    @pytest.mark.parametrize(
        ("wanted", "payloads"),
        [
            (Filter(), b"012345"),
            (Filter(queue="a"), b"0134"),
            (Filter(type="t"), b"013"),
            (Filter(queue="a", type="t"), b"013"),
            (Filter(states=(State.SCHEDULED,)), b"3"),
            (Filter(states=(State.READY, State.RUNNING)), b"01245"),
            (Filter(queue="a", states=(State.RUNNING,)), b"4"),
            (Filter(tag="x"), b"12"),
            (Filter(tag="x", queue="b"), b"2"),
            (Filter(dedupe_key="k"), b"01"),
            (Filter(dedupe_key="k", tag="x"), b"1"),
            (Filter(queue="no"), b""),
            (Filter(type="no"), b""),
            (Filter(tag="no"), b""),
        ],
    )
    def test_a_filter_restricts_by_all_it_names(self, q: Driver, wanted: Filter, payloads: bytes):
        q.enqueue(
            entry(payload=b"0", queue="a", type="t", dedupe="k"),
            entry(payload=b"1", queue="a", type="t", tags=("x", "y"), dedupe=Dedupe(key="k", scope=Scope.GLOBAL)),
            entry(payload=b"2", queue="b", tags=("x",)),
            entry(payload=b"3", queue="a", type="t", delay_ns=S, tags=("y",)),
            entry(payload=b"4", queue="a", type="u", priority=-1),
            entry(payload=b"5", queue="b"),
        )
        q.take("a", types=("u",))

        found = q.all_tasks(wanted)

        assert sorted(task.payload for task in found) == [bytes([byte]) for byte in payloads]
        assert q.store.count(wanted) == len(found)

    def test_changed_differs_after_each_commit(self, q: Driver):
        before = q.store.changed()
        q.add()
        first = q.store.changed()
        q.take()

        assert len({before, first, q.store.changed()}) == 3

    def test_a_closed_store_says_so(self, q: Driver):
        q.add()
        assert q.store.check() == []
        q.store.close()
        q.store.close()

        for use in (
            lambda: q.store.apply([], q.clock),
            lambda: q.store.task(1, q.clock),
            lambda: q.store.tasks(Filter(), q.clock),
            lambda: q.store.count(Filter()),
            q.store.queues,
            lambda: q.store.queue("default"),
            lambda: q.store.due(q.clock),
            q.store.info,
            q.store.changed,
            q.store.check,
        ):
            with pytest.raises(StoreClosed):
                use()


class CountCapability:
    """Counts are exact at any time."""

    def test_counts_equal_a_recount_through_a_whole_life(self, q: Driver):
        def assert_counts() -> None:
            for view in q.store.queues():
                tasks = q.all_tasks(Filter(queue=view.name))
                recount: dict[str, dict[str, int]] = {}
                for task in tasks:
                    by_state = recount.setdefault(task.type, {})
                    by_state[task.state.word] = by_state.get(task.state.word, 0) + 1
                assert view.counts == recount

        q.enqueue(*(entry(type=f"t{n % 3}", delay_ns=(n % 2) * S, keep=Keep(succeeded_ns=S)) for n in range(12)))
        assert_counts()
        q.clock.advance(1)
        tasks = q.claim(limit=8).tasks
        assert_counts()
        for task, end in zip(tasks, [q.succeed, q.fail, q.release, q.succeed], strict=False):
            end(task)
            assert_counts()
        q.cancel(tasks[6].id)
        q.edit(q.claim(limit=1).tasks[0].id, "type", type="t9")
        q.delete(tasks[7].id)
        assert_counts()

    def test_totals_tell_what_happened(self, q: Driver):
        q.enqueue(*(entry() for _ in range(6)), entry(dedupe="k"), entry(dedupe="k"), entry(expires_in_ns=S))
        tasks = q.claim(limit=6).tasks
        q.succeed(tasks[0])
        q.fail(tasks[1])
        q.fail(tasks[2], retry=False)
        q.release(tasks[3])
        q.cancel(tasks[3].id)
        q.delete(tasks[4].id)
        q.clock.advance(60)
        q.claim(types=("none",))

        assert q.totals() == Totals(
            enqueued=8,
            deduplicated=1,
            claimed=6,
            succeeded=1,
            failed=2,
            released=1,
            lapsed=1,
            dead=1,
            cancelled=1,
            expired=1,
            deleted=1,
        )
