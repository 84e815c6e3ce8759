"""What every store does with types: they decide for their tasks where those say nothing, before their queue does."""

from __future__ import annotations

from typing import Any

import pytest

from lmdbq import limits
from lmdbq.model import (
    Dedupe,
    Enqueue,
    Exponential,
    Intervals,
    Keep,
    Lapse,
    OnDuplicate,
    Outcome,
    Purge,
    QueueDelete,
    RetryStrategy,
    State,
    TypeChanged,
    TypePut,
    TypeSettings,
    TypeView,
)
from tests.store_driver import Driver, S, entry

KEPT = Keep(succeeded_ns=50 * S, dead_ns=50 * S)


def put_type(q: Driver, name: str = "t", schema: bytes = b"", **settings: Any) -> TypeChanged:
    told = q.do(TypePut(name, TypeSettings(**settings), schema))
    assert isinstance(told, TypeChanged)
    return told


class TypeContract:
    """TypePut, and the precedence of what it says."""

    def test_what_is_known_of_types_is_listed_by_name(self, q: Driver):
        assert q.store.types() == []
        assert put_type(q, "t", b'{"type": "object"}', keepalive_ns=9 * S) == TypeChanged("t", changed=True)
        assert put_type(q, "a/b:c", retry=RetryStrategy(max_attempts=2)).changed
        assert q.store.types() == [
            TypeView("a/b:c", TypeSettings(retry=RetryStrategy(max_attempts=2)), b""),
            TypeView("t", TypeSettings(keepalive_ns=9 * S), b'{"type": "object"}'),
        ]

    def test_the_same_again_changes_nothing(self, q: Driver):
        put_type(q, keepalive_ns=9 * S)
        assert put_type(q, keepalive_ns=9 * S) == TypeChanged("t", changed=False)
        assert put_type(q, keepalive_ns=8 * S).changed
        assert put_type(q).changed, "one that says nothing removes it"
        assert not put_type(q).changed
        assert not put_type(q, "unknown").changed
        assert q.store.types() == []

    def test_a_replacement_is_whole(self, q: Driver):
        put_type(q, "t", b"{}", keepalive_ns=9 * S)
        put_type(q, "t", keep=KEPT)
        assert q.store.types() == [TypeView("t", TypeSettings(keep=KEPT), b"")]

    @pytest.mark.parametrize(
        ("said", "of_type", "of_queue", "claimed", "length"),
        [(9, 8, 7, 6, 6), (9, 8, 7, 0, 9), (0, 8, 7, 0, 8), (0, 0, 7, 0, 7), (0, 0, 0, 0, 60)],
    )
    def test_leases(self, q: Driver, said: int, of_type: int, of_queue: int, claimed: int, length: int):
        q.put_queue(keepalive_ns=of_queue * S)
        put_type(q, keepalive_ns=of_type * S)
        q.add(type="t", keepalive_ns=said * S)
        q.add(type="other")
        task = q.take(types=("t",), keepalive_ns=claimed * S)
        assert task.keepalive_ns == length * S
        other = q.take(types=("other",))
        assert other.keepalive_ns == (of_queue or 60) * S

    def test_neighbours_of_a_type_get_its_lease(self, q: Driver):
        put_type(q, keepalive_ns=8 * S)
        q.enqueue(*[entry(type="t")] * 3, *[entry(type="u")] * 3)
        assert [task.keepalive_ns // S for task in q.claim(limit=6).tasks] == [8, 8, 8, 60, 60, 60]

    def test_expiry_is_decided_when_it_is_enqueued(self, q: Driver):
        q.put_queue(expires_in_ns=50 * S)
        before = q.add(type="t")
        put_type(q, expires_in_ns=5 * S)
        plain, given, other = q.add(type="t"), q.add(type="t", expires_in_ns=9 * S), q.add(type="u")
        batch = q.enqueue(*[entry(type="t")] * 40)
        left = {task_id: (q.task(task_id).expires_at - q.now) // S for task_id in (before, plain, given, other)}
        assert list(left.values()) == [50, 5, 9, 50]
        assert (q.task(batch.ids[-1]).expires_at - q.now) // S == 5

    def test_retries_are_decided_when_the_attempt_ends(self, q: Driver):
        q.put_queue(retry=RetryStrategy(max_attempts=7, backoff=Exponential(base_ns=9 * S, jitter=0.0)))
        task_id = q.add(type="t")
        task = q.take()
        assert task.max_attempts == 7
        put_type(q, retry=RetryStrategy(backoff=Intervals((2 * S, 3 * S))))
        q.fail(task)
        found = q.task(task_id)
        assert (found.max_attempts, found.due_at - q.now) == (3, 2 * S), "two intervals are three attempts"
        put_type(q, retry=RetryStrategy(max_attempts=1))
        q.clock.advance(2)
        q.fail(q.take())
        assert q.state(task_id) is State.DEAD

    def test_what_a_type_leaves_open_its_queue_decides(self, q: Driver):
        q.put_queue(retry=RetryStrategy(max_attempts=4, max_deliveries=2, backoff=Intervals((7 * S,))))
        put_type(q, retry=RetryStrategy(backoff=Exponential(base_ns=2 * S, jitter=0.0)))
        task_id = q.add(type="t")
        q.fail(q.take())
        assert (q.task(task_id).max_attempts, q.task(task_id).due_at - q.now) == (4, 2 * S)
        q.clock.advance(2)
        q.fail(q.take(), delay_ns=0)
        assert q.claim().tasks == []
        assert q.task(task_id).reason == "max_deliveries"

    def test_a_task_s_own_rules_come_first(self, q: Driver):
        put_type(q, retry=RetryStrategy(max_attempts=9, backoff=Intervals((5 * S,))))
        task_id = q.add(type="t", retry=RetryStrategy(max_attempts=2))
        q.fail(q.take())
        assert (q.task(task_id).max_attempts, q.task(task_id).due_at - q.now) == (2, 5 * S)

    def test_retention_is_decided_when_it_ends(self, q: Driver):
        q.put_queue(keep=Keep(succeeded_ns=0, dead_ns=20 * S))
        put_type(q, keep=Keep(succeeded_ns=30 * S))
        kept, removed, dead = q.add(type="t"), q.add(type="u"), q.add(type="t")
        q.succeed(q.take())
        q.succeed(q.take())
        q.fail(q.take(), retry=False)
        assert (q.task(kept).remove_at - q.now, q.task(dead).remove_at - q.now) == (30 * S, 20 * S)
        assert q.state(removed) is Outcome.GONE

    def test_dedupe_rules(self, q: Driver):
        q.put_queue(dedupe=Dedupe(on_duplicate=OnDuplicate.REJECT))
        put_type(q, dedupe=Dedupe(on_duplicate=OnDuplicate.OVERWRITE, overwrite=("payload",)))
        first = q.add(type="t", payload=b"1", dedupe=Dedupe("k"))
        second = q.enqueue(entry(type="t", payload=b"2", dedupe=Dedupe("k")))
        assert second.placed(0).outcome is Outcome.OVERWRITTEN
        assert q.task(first).payload == b"2"
        assert q.refusal(Enqueue([entry(type="u", dedupe=Dedupe("k"))])).code == "duplicate"
        skipped = q.enqueue(entry(type="t", dedupe=Dedupe("k", on_duplicate=OnDuplicate.SKIP)))
        assert skipped.placed(0).outcome is Outcome.SKIPPED

    def test_a_lapse_counts_by_the_type_s_rules(self, q: Driver):
        put_type(q, keepalive_ns=2 * S, retry=RetryStrategy(max_attempts=1))
        task_id = q.add(type="t")
        q.take()
        q.clock.advance(3)
        assert q.sweep(Lapse()).count == 1
        assert q.state(task_id) is State.DEAD

    def test_types_outlive_their_queues(self, q: Driver):
        put_type(q, keepalive_ns=8 * S)
        q.add(type="t")
        q.do(Purge("default"))
        q.do(QueueDelete("default"))
        q.add(type="t")
        assert q.take().keepalive_ns == 8 * S

    def test_a_refused_call_registers_nothing(self, q: Driver):
        assert q.refusal(TypePut("t", TypeSettings(keepalive_ns=8 * S)), Purge("nowhere")).code == "queue_not_found"
        assert q.store.types() == []
        q.add(type="t")
        assert q.take().keepalive_ns == limits.KEEPALIVE_NS_DEFAULT

    def test_one_call_registers_and_enqueues(self, q: Driver):
        q.add(type="t")
        q.do(TypePut("t", TypeSettings(expires_in_ns=5 * S)), Enqueue([entry(type="t"), entry(type="yet unknown")]))
        assert [bool(task.expires_at) for task in q.all_tasks()] == [False, True, False]
