"""What every store does with a dedupe key: who blocks whom, for how long, and what becomes of the newcomer."""

from __future__ import annotations

import pytest

from lmdbq import limits
from lmdbq.model import (
    OVERWRITABLE,
    Dedupe,
    Delete,
    Encoding,
    Enqueue,
    Intervals,
    Keep,
    OnDuplicate,
    Outcome,
    Placed,
    Prune,
    Purge,
    QueueDelete,
    RetryStrategy,
    Scope,
    State,
    Task,
    Until,
)
from tests.store_driver import Driver, S, entry

KEEP_ALL = Keep(succeeded_ns=limits.DAY_NS, dead_ns=limits.DAY_NS, cancelled_ns=limits.DAY_NS)


def bring(q: Driver, state: State | None, **fields: object) -> int:
    """Enqueue a task with dedupe key k and lead it to ``state`` (None: no longer stored)."""
    delay = {"delay_ns": 50 * S} if state is State.SCHEDULED else {}
    task_id = q.add(**{"dedupe": "k", "keep": KEEP_ALL, **delay, **fields})
    if state is None:
        q.delete(task_id)
    elif state is State.CANCELLED:
        q.cancel(task_id)
    elif state not in (State.READY, State.SCHEDULED):
        task = q.take()
        if state is State.SUCCEEDED:
            q.succeed(task)
        elif state is State.DEAD:
            q.fail(task, retry=False)
    assert q.state(task_id) is (state if state is not None else Outcome.GONE)
    return task_id


def is_blocked(q: Driver, **rule: object) -> bool:
    """Whether a newcomer with key k would be blocked; the question changes nothing."""
    fields = {"key": "k", "on_duplicate": OnDuplicate.REJECT, **rule}
    before = q.image()
    op = Enqueue((entry(dedupe=Dedupe(**fields)), entry(expires_at=q.now)))  # type: ignore[arg-type]
    codes = [problem.code for problem in q.refusal(op).problems]
    assert q.image() == before
    return codes == ["duplicate", "expires_too_early"]


class DedupeContract:
    """Dedupe keys."""

    # --- who is in the way

    @pytest.mark.parametrize("until", [None, Until.STARTED, Until.FINISHED, Until.DELETED])
    @pytest.mark.parametrize("state", [*State, None])
    def test_the_newcomers_until_says_in_which_states_a_holder_blocks(
        self, q: Driver, until: Until | None, state: State | None
    ):
        waiting = {State.SCHEDULED, State.READY}
        blocking = {
            Until.STARTED: waiting,
            Until.FINISHED: waiting | {State.RUNNING},
            None: waiting | {State.RUNNING},
            Until.DELETED: set(State),
        }[until]
        bring(q, state)

        assert is_blocked(q, until=until) == (state in blocking)

    @pytest.mark.parametrize("until", [Until.STARTED, Until.FINISHED, Until.DELETED])
    def test_a_newcomers_ttl_bounds_how_long_a_holder_blocks(self, q: Driver, until: Until):
        bring(q, State.READY)

        q.clock.advance(9.999999)
        before = is_blocked(q, until=until, ttl_ns=10 * S)
        q.clock.advance(0.000001)

        assert before
        assert not is_blocked(q, until=until, ttl_ns=10 * S)
        assert is_blocked(q, until=until)

    @pytest.mark.parametrize("state", [*State, None])
    def test_a_key_taken_until_ttl_blocks_everybody_for_exactly_that_time(self, q: Driver, state: State | None):
        bring(q, state, dedupe=Dedupe(key="k", until=Until.TTL, ttl_ns=10 * S))

        assert is_blocked(q)
        assert is_blocked(q, until=Until.STARTED, ttl_ns=1)
        assert is_blocked(q, until=Until.TTL, ttl_ns=1)
        q.clock.advance(9.999999)
        assert is_blocked(q)
        q.clock.advance(0.000001)
        assert not is_blocked(q)
        assert not is_blocked(q, until=Until.DELETED)
        assert not is_blocked(q, until=Until.TTL, ttl_ns=99 * S)

    @pytest.mark.parametrize("state", list(State))
    def test_a_newcomer_until_ttl_asks_only_when_the_key_was_taken(self, q: Driver, state: State):
        bring(q, state)

        q.clock.advance(5)
        assert is_blocked(q, until=Until.TTL, ttl_ns=5 * S + 1000)
        assert not is_blocked(q, until=Until.TTL, ttl_ns=5 * S)

    def test_a_slot_without_a_ttl_goes_with_its_task(self, q: Driver):
        bring(q, None)

        assert not is_blocked(q, until=Until.TTL, ttl_ns=limits.DAY_NS)

    def test_prune_leaves_a_slot_whose_ttl_goes_on(self, q: Driver):
        bring(q, None, dedupe=Dedupe(key="k", until=Until.TTL, ttl_ns=100 * S))
        q.clock.advance(99)
        q.do(Prune())
        held = is_blocked(q)
        q.clock.advance(1)
        q.do(Prune())

        assert held
        assert not is_blocked(q, until=Until.TTL, ttl_ns=limits.DAY_NS)

    def test_a_newer_task_takes_the_key_and_then_blocks(self, q: Driver):
        bring(q, State.DEAD)
        newer = q.add(dedupe="k")

        refused = q.refusal(Enqueue((entry(dedupe=Dedupe(key="k", on_duplicate=OnDuplicate.REJECT)),)))

        assert refused.problems[0].holder == newer

    def test_the_end_of_an_older_taker_does_not_free_a_newer_ones_key(self, q: Driver):
        older = bring(q, State.DEAD)
        q.add(dedupe="k")
        q.delete(older)

        assert is_blocked(q)

    def test_an_overdue_holder_is_expired_and_does_not_block(self, q: Driver):
        holder = bring(q, State.READY, expires_in_ns=S)
        q.clock.advance(1)

        newcomer = q.add(dedupe=Dedupe(key="k", until=Until.DELETED))

        assert q.state(holder) is Outcome.GONE
        assert q.state(newcomer) is State.READY
        assert q.totals().expired == 1

    def test_an_overdue_holder_takes_its_slot_with_it_whatever_the_newcomer_asks(self, q: Driver):
        holder = bring(q, State.READY, expires_in_ns=S)
        q.clock.advance(2)
        done = q.enqueue(entry(dedupe=Dedupe(key="k", until=Until.TTL, ttl_ns=9 * S)))
        assert done.placed(0).outcome is Outcome.ENQUEUED
        assert [task.id for task in q.all_tasks()] == [done.ids[0]] != [holder]
        assert (q.totals().expired, q.totals().deduplicated) == (1, 0)

    def test_a_retry_expires_an_overdue_holder_first_also_one_with_a_ttl(self, q: Driver):
        cancelled = bring(q, State.CANCELLED)
        q.clock.advance(1)
        short = q.add(dedupe=Dedupe(key="k", until=Until.TTL, ttl_ns=S), expires_in_ns=9 * S)
        q.delete(short)
        q.clock.advance(1)
        q.add(dedupe=Dedupe(key="k", until=Until.TTL, ttl_ns=50 * S), expires_in_ns=S)
        q.clock.advance(2)
        assert q.retry(cancelled).outcome is Outcome.DEDUPE_CONFLICT  # the ttl goes on without its task
        assert [task.id for task in q.all_tasks()] == [cancelled]
        assert q.totals().expired == 1

    def test_an_overdue_holder_of_a_ttl_is_expired_and_still_blocks(self, q: Driver):
        holder = bring(q, State.READY, expires_in_ns=S, dedupe=Dedupe(key="k", until=Until.TTL, ttl_ns=9 * S))
        q.clock.advance(1)

        placed = q.enqueue(entry(dedupe="k")).placed(0)

        assert placed == Placed(holder, Outcome.SKIPPED, None, 0, 0, deduped=True, reason="ttl")
        assert q.state(holder) is Outcome.GONE
        assert (q.totals().expired, q.totals().deduplicated) == (1, 1)

    # --- scopes

    @pytest.mark.parametrize(
        ("scope", "queue", "type_", "blocks"),
        [
            (Scope.QUEUE, "default", "other", True),
            (Scope.QUEUE, "other", "default", False),
            (Scope.TYPE, "other", "default", True),
            (Scope.TYPE, "default", "other", False),
            (Scope.GLOBAL, "other", "other", True),
        ],
    )
    def test_a_scope_says_among_which_tasks_a_key_is_unique(
        self, q: Driver, scope: Scope, queue: str, type_: str, blocks: bool
    ):
        rule = Dedupe(key="k", scope=scope)
        q.add(dedupe=rule)

        placed = q.enqueue(entry(dedupe=rule, queue=queue, type=type_)).placed(0)

        assert placed.outcome is (Outcome.SKIPPED if blocks else Outcome.ENQUEUED)
        assert q.store.queue(queue) is not None

    def test_scopes_are_worlds_of_their_own(self, q: Driver):
        for scope in Scope:
            q.add(dedupe=Dedupe(key="k", scope=scope))

        assert q.number(State.READY) == 3

    def test_a_duplicate_counts_in_the_newcomers_queue(self, q: Driver):
        rule = Dedupe(key="k", scope=Scope.GLOBAL)

        q.enqueue(entry(dedupe=rule), entry(dedupe=rule, queue="other"))

        assert (q.totals().deduplicated, q.totals("other").deduplicated) == (0, 1)

    def test_long_keys_differ_though_they_begin_alike(self, q: Driver):
        long = "k" * 255
        wide = "ü" * 255

        ids = q.enqueue(
            *(entry(dedupe=key) for key in (long + "a", long + "b", wide + "a", wide + "b", wide + "a"))
        ).ids

        assert len(set(ids)) == 4
        assert ids[2] == ids[4]

    def test_a_queue_supplies_the_rules_an_entry_leaves_open(self, q: Driver):
        q.put_queue(dedupe=Dedupe(scope=Scope.TYPE, until=Until.DELETED, on_duplicate=OnDuplicate.OVERWRITE,
                                  overwrite=("payload",)))  # fmt: skip
        holder = q.add(dedupe="k")

        by_queue = q.enqueue(entry(dedupe="k", payload=b"1")).placed(0)
        by_entry = q.enqueue(entry(dedupe=Dedupe(key="k", scope=Scope.QUEUE))).placed(0)

        assert (by_queue.id, by_queue.outcome) == (holder, Outcome.OVERWRITTEN)
        assert by_entry.outcome is Outcome.ENQUEUED

    # --- what becomes of the newcomer

    def test_skip_is_the_default_and_changes_nothing(self, q: Driver):
        holder = q.add(dedupe="k", delay_ns=S, expires_in_ns=9 * S, payload=b"1")
        before = q.task(holder)

        enqueued = q.enqueue(entry(dedupe="k", payload=b"2"))

        expected = Placed(holder, Outcome.SKIPPED, State.SCHEDULED, q.now + S, q.now + 9 * S, deduped=True)
        assert enqueued.ids == [holder]
        assert enqueued.placed(0) == expected
        assert q.task(holder) == before
        assert (q.totals().enqueued, q.totals().deduplicated) == (1, 1)

    @pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED, State.DEAD, State.CANCELLED])
    @pytest.mark.parametrize("on_duplicate", [OnDuplicate.SKIP, OnDuplicate.OVERWRITE])
    def test_a_holder_that_no_longer_waits_is_skipped_and_its_state_told(
        self, q: Driver, state: State, on_duplicate: OnDuplicate
    ):
        holder = bring(q, state)
        before = q.task(holder)
        rule = Dedupe(key="k", until=Until.DELETED, on_duplicate=on_duplicate, overwrite=("payload", "priority"))

        placed = q.enqueue(entry(dedupe=rule, payload=b"2", priority=5)).placed(0)

        assert (placed.id, placed.outcome, placed.state, placed.reason) == (holder, Outcome.SKIPPED, state, state.word)
        assert placed.deduped
        assert q.task(holder) == before

    def test_reject_refuses_the_call_and_names_the_holder(self, q: Driver):
        holder = q.add(dedupe="k")
        rule = Dedupe(key="k", on_duplicate=OnDuplicate.REJECT)

        refused = q.refusal(Enqueue((entry(), entry(dedupe=rule), entry(dedupe=rule))))

        assert refused.code == "duplicate"
        assert [(problem.pointer, problem.holder) for problem in refused.problems] == [
            ("/entries/1/dedupe_key", holder),
            ("/entries/2/dedupe_key", holder),
        ]

    def test_all_problems_of_a_batch_are_told_and_the_first_gives_the_code(self, q: Driver):
        q.add(dedupe="k")
        rule = Dedupe(key="k", on_duplicate=OnDuplicate.REJECT)

        refused = q.refusal(Enqueue((entry(expires_at=q.now), entry(dedupe=rule), entry(), entry(expires_at=q.now))))

        assert refused.code == "expires_too_early"
        assert [problem.code for problem in refused.problems] == ["expires_too_early", "duplicate", "expires_too_early"]

    def test_a_rejected_entry_takes_no_slot(self, q: Driver):
        reject = Dedupe(key="n", on_duplicate=OnDuplicate.REJECT)

        refused = q.refusal(Enqueue((entry(dedupe=reject, expires_at=q.now), entry(dedupe=reject))))

        assert [problem.code for problem in refused.problems] == ["expires_too_early"]

    # --- overwrite

    def _fields(self, task: Task) -> dict[str, object]:
        return {
            "payload": (task.payload, task.encoding),
            "type": task.type,
            "priority": task.priority,
            "scheduled_at": (task.scheduled_at, task.state, task.due_at),
            "expires_at": task.expires_at,
            "keepalive_timeout_in_seconds": task.options.keepalive_ns,
            "retry_strategy": task.options.retry,
            "keep": task.options.keep,
            "tags": task.options.tags,
            "metadata": task.options.metadata,
        }

    def _newer(self, rule: Dedupe, **more: object) -> dict[str, object]:
        return {
            "dedupe": rule,
            "payload": b"\x93\x01\x02\x03",
            "encoding": Encoding.MSGPACK,
            "type": "newer",
            "priority": -7,
            "delay_ns": 20 * S,
            "expires_in_ns": 80 * S,
            "keepalive_ns": 5 * S,
            "retry": RetryStrategy(max_attempts=2, backoff=Intervals((S,))),
            "keep": KEEP_ALL,
            "tags": ("new",),
            "metadata": b'{"new":1}',
            **more,
        }

    @pytest.mark.parametrize("name", OVERWRITABLE)
    @pytest.mark.parametrize("delay_ns", [0, 10 * S])
    def test_overwrite_changes_exactly_the_listed_field(self, q: Driver, name: str, delay_ns: int):
        holder = q.add(dedupe="k", delay_ns=delay_ns, tags=("old",))
        before = self._fields(q.task(holder))
        rule = Dedupe(key="k", overwrite=(name,))

        placed = q.enqueue(entry(**self._newer(rule))).placed(0)

        after = self._fields(q.task(holder))
        assert (placed.id, placed.outcome, placed.deduped, placed.reason) == (holder, Outcome.OVERWRITTEN, True, "")
        assert {field for field in after if after[field] != before[field]} == {name}
        assert placed.state is q.task(holder).state
        assert (placed.scheduled_at, placed.expires_at) == (q.task(holder).scheduled_at, q.task(holder).expires_at)

    def test_overwrite_of_all_fields_makes_the_holder_the_newcomer(self, q: Driver):
        holder = q.add(dedupe="k")
        newer = self._newer(Dedupe(key="k", overwrite=OVERWRITABLE))

        q.enqueue(entry(**newer))
        other = q.add(**{**newer, "dedupe": "other"})

        assert self._fields(q.task(holder)) == self._fields(q.task(other))
        assert q.task(holder).id == holder

    def test_overwrite_leaves_history_and_creation_alone(self, q: Driver):
        holder = q.add(dedupe="k", retry=RetryStrategy(backoff=Intervals((50 * S,))))
        q.fail(q.take())
        q.clock.advance(1)
        before = q.task(holder)

        q.enqueue(entry(dedupe=Dedupe(key="k", overwrite=("scheduled_at", "payload")), payload=b"2"))

        after = q.task(holder)
        assert (after.state, after.due_at, after.scheduled_at) == (State.READY, 0, q.now)
        assert (after.failures, after.deliveries, after.errors) == (before.failures, before.deliveries, before.errors)
        assert after.created_at == before.created_at

    def test_overwrite_can_bring_forward_and_put_off(self, q: Driver):
        holder = q.add(dedupe="k", delay_ns=99 * S)
        rule = Dedupe(key="k", overwrite=("scheduled_at",))

        sooner = q.enqueue(entry(dedupe=rule)).placed(0)
        taken_first = q.state(holder)
        later = q.enqueue(entry(dedupe=rule, delay_ns=5 * S)).placed(0)

        assert (sooner.state, sooner.scheduled_at, taken_first) == (State.READY, q.now, State.READY)
        assert (later.state, later.scheduled_at) == (State.SCHEDULED, q.now + 5 * S)
        assert q.claim_ids() == []

    def test_overwrite_does_not_take_the_key_anew(self, q: Driver):
        q.add(dedupe="k")
        q.clock.advance(5)
        q.enqueue(entry(dedupe=Dedupe(key="k", overwrite=("payload",)), payload=b"2"))

        assert not is_blocked(q, ttl_ns=5 * S)

    # --- within a batch

    def test_a_later_entry_of_a_batch_sees_the_earlier(self, q: Driver):
        enqueued = q.enqueue(*(entry(dedupe=key, payload=b"%d" % n) for n, key in enumerate("abab")))

        assert enqueued.ids[:2] == enqueued.ids[2:]
        assert [enqueued.placed(n).outcome for n in range(4)] == [Outcome.ENQUEUED] * 2 + [Outcome.SKIPPED] * 2
        assert [enqueued.placed(n).state for n in range(4)] == [State.READY] * 4
        assert sorted(enqueued.odd) == [2, 3]
        assert [task.payload for task in q.all_tasks()] == [b"0", b"1"]

    def test_an_earlier_entry_shows_what_a_later_one_made_of_its_task(self, q: Driver):
        rule = Dedupe(key="k", overwrite=("scheduled_at", "expires_at"))

        enqueued = q.enqueue(entry(dedupe=rule), entry(dedupe=rule, delay_ns=5 * S, expires_in_ns=9 * S))

        task_id = enqueued.ids[0]
        expected = Placed(task_id, Outcome.ENQUEUED, State.SCHEDULED, q.now + 5 * S, q.now + 9 * S)
        assert enqueued.placed(0) == expected
        assert enqueued.placed(1).outcome is Outcome.OVERWRITTEN
        assert (q.state(task_id), q.task(task_id).due_at) == (State.SCHEDULED, q.now + 5 * S)

    def test_a_thousand_entries_of_one_key_are_one_task(self, q: Driver):
        rule = Dedupe(key="k", overwrite=("payload",))

        enqueued = q.enqueue(*(entry(dedupe=rule, payload=b"%d" % n) for n in range(1000)))

        assert len(set(enqueued.ids)) == 1
        assert q.task(enqueued.ids[0]).payload == b"999"
        assert (q.totals().enqueued, q.totals().deduplicated) == (1, 999)

    def test_a_reject_in_a_batch_meets_the_task_of_an_earlier_entry(self, q: Driver):
        refused = q.refusal(
            Enqueue((entry(dedupe="k"), entry(dedupe=Dedupe(key="k", on_duplicate=OnDuplicate.REJECT))))
        )

        assert (refused.code, refused.problems[0].pointer) == ("duplicate", "/entries/1/dedupe_key")

    def test_a_newcomers_expired_ttl_lets_a_batch_take_the_key_twice(self, q: Driver):
        rule = Dedupe(key="k", until=Until.TTL, ttl_ns=S)
        q.add(dedupe="k")
        q.clock.advance(2)

        enqueued = q.enqueue(entry(dedupe=rule), entry(dedupe=rule))

        assert [enqueued.placed(n).outcome for n in range(2)] == [Outcome.ENQUEUED, Outcome.SKIPPED]

    # --- queues that are emptied

    @pytest.mark.parametrize("op", [Purge("default"), QueueDelete("default")])
    @pytest.mark.parametrize("scope", list(Scope))
    @pytest.mark.parametrize("until", [Until.FINISHED, Until.TTL])
    def test_a_purged_queue_frees_its_keys(self, q: Driver, op: Purge | QueueDelete, scope: Scope, until: Until):
        rule = Dedupe(key="k", scope=scope, until=until, ttl_ns=99 * S)
        q.add(dedupe=rule)
        q.do(op)

        again = q.add(dedupe=rule)

        assert q.state(again) is State.READY

    def test_a_deleted_task_frees_its_key(self, q: Driver):
        holder = q.add(dedupe="k")
        q.do(Delete((holder,)))

        assert q.state(q.add(dedupe="k")) is State.READY
