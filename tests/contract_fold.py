"""What every store does with duplicates that are folded, put off or coalesced."""

from __future__ import annotations

from typing import Any

import pytest

from lmdbq import limits
from lmdbq.model import Dedupe, Encoding, Enqueue, Fold, OnDuplicate, Options, Outcome, State, Until
from tests.store_driver import Driver, Entry, S, entry


def send(q: Driver, rule: Dedupe, payload: bytes, **fields: Any) -> Any:
    return q.enqueue(entry(payload=payload, dedupe=rule, **fields)).placed(0)


def payloads(q: Driver) -> list[bytes]:
    return [task.payload for task in q.all_tasks()]


class FoldContract:
    """Fold: the payload of a waiting holder takes in that of the newcomer."""

    @pytest.mark.parametrize(
        ("fold", "sent", "held"),
        [
            (Fold.APPEND, [b"1", b'{"a":2}', b"[3]"], b'[1,{"a":2},[3]]'),
            (Fold.CONCAT, [b"[1]", b"[2,3]", b"[4]"], b"[1,2,3,4]"),
            (Fold.CONCAT, [b'"a"', b'"b"'], b'"ab"'),
            (Fold.MERGE, [b'{"a":1,"b":{"x":1}}', b'{"b":{"y":2},"c":3}'], b'{"a":1,"b":{"y":2},"c":3}'),
            (Fold.SUM, [b"1", b"2", b"3.5"], b"6.5"),
            (Fold.SUM, [b'{"a":1,"b":2}', b'{"b":3,"c":4}'], b'{"a":1,"b":5,"c":4}'),
            (Fold.MAX, [b"3", b"9", b"4"], b"9"),
            (Fold.MAX, [b'{"a":5}', b'{"a":3,"b":1}'], b'{"a":5,"b":1}'),
            (Fold.REPLACE, [b'"old"', b'"new"'], b'"new"'),
        ],
    )
    def test_folds(self, q: Driver, fold: Fold, sent: list[bytes], held: bytes):
        rule = Dedupe("k", fold=fold)
        first = send(q, rule, sent[0])
        q.clock.advance(1)
        for payload in sent[1:]:
            again = send(q, rule, payload)
            assert (again.id, again.outcome, again.deduped) == (first.id, Outcome.OVERWRITTEN, True)

        assert payloads(q) == [held]
        assert q.totals().deduplicated == len(sent) - 1

    def test_entries_of_one_call_are_folded_in_order(self, q: Driver):
        rule = Dedupe("k", fold=Fold.APPEND)
        q.enqueue(*(entry(payload=b"%d" % number, dedupe=rule) for number in range(4)))

        assert payloads(q) == [b"[0,1,2,3]"]

    def test_bytes_and_messagepack_keep_their_encoding(self, q: Driver):
        raw, packed = Dedupe("r", fold=Fold.CONCAT), Dedupe("p", fold=Fold.SUM)
        send(q, raw, b"\x00", encoding=Encoding.BYTES)
        send(q, raw, b"\xff", encoding=Encoding.BYTES)
        send(q, packed, b"\x01", encoding=Encoding.MSGPACK)
        send(q, packed, b"2")

        found = [(task.payload, task.encoding) for task in q.all_tasks()]
        assert found == [(b"\x00\xff", Encoding.BYTES), (b"\x03", Encoding.MSGPACK)]

    def test_zizq_6_90_a_batched_job_takes_in_the_next_one(self, q: Driver):
        rule = Dedupe("k", fold=Fold.CONCAT)
        send(q, rule, b"[1]")
        send(q, rule, b"[2]")

        assert payloads(q) == [b"[1,2]"]

    def test_zizq_6_91_a_full_batch_is_sealed_and_the_next_folds_go_to_the_new_one(self, q: Driver):
        rule = Dedupe("k", fold=Fold.APPEND, fold_max=2)
        placed = [send(q, rule, b"%d" % number) for number in range(4)]

        assert [one.outcome for one in placed] == [Outcome.ENQUEUED, Outcome.OVERWRITTEN] * 2
        assert payloads(q) == [b"[0,1]", b"[2,3]"]

    def test_zizq_6_92_a_batch_that_was_taken_takes_in_nothing_more(self, q: Driver):
        rule = Dedupe("k", fold=Fold.APPEND)
        send(q, rule, b"1")
        q.take()

        assert send(q, rule, b"2").outcome is Outcome.ENQUEUED
        assert payloads(q) == [b"[1]", b"[2]"]

    def test_a_payload_that_would_be_too_large_is_a_task_of_its_own(self, q: Driver):
        rule = Dedupe("k", fold=Fold.CONCAT)
        half = b'"' + b"x" * (limits.PAYLOAD_BYTES_MAX // 2) + b'"'
        assert [send(q, rule, half).outcome for _ in range(2)] == [Outcome.ENQUEUED] * 2

    @pytest.mark.parametrize(
        ("fold", "held", "new"),
        [
            (Fold.CONCAT, b"[1]", b"2"),
            (Fold.MERGE, b"{}", b"[]"),
            (Fold.SUM, b"1", b"true"),
            (Fold.SUM, b"1", b'"2"'),
            (Fold.SUM, b"1e308", b"1e308"),
            (Fold.SUM, b"18446744073709551615", b"1"),
            (Fold.MAX, b'{"a":1}', b'{"a":null}'),
        ],
    )
    def test_what_cannot_be_folded_refuses_its_call_alone(self, q: Driver, fold: Fold, held: bytes, new: bytes):
        rule = Dedupe("k", fold=fold)
        send(q, rule, held)

        refused = q.refusal(Enqueue((entry(), entry(payload=new, dedupe=rule))))

        assert (refused.code, refused.problems[0].pointer) == ("fold_failed", "/entries/1/payload")
        assert payloads(q) == [held]

    def test_what_follows_a_death_is_never_refused_for_a_fold(self, q: Driver):
        rule = Options(dedupe=Dedupe("k", fold=Fold.SUM))
        for payload in (b"1", b'"x"', b"2"):
            q.add_dead(on_dead=Entry(payload, "alerts", options=rule))

        assert [task.payload for task in q.all_tasks() if task.queue == "alerts"] == [b"3"]

    def test_a_queue_may_say_how_its_duplicates_are_folded(self, q: Driver):
        q.put_queue(dedupe=Dedupe(fold=Fold.SUM, until=Until.STARTED))
        send(q, Dedupe("k"), b"1")
        send(q, Dedupe("k"), b"2")

        assert payloads(q) == [b"3"]
        assert send(q, Dedupe("k", on_duplicate=OnDuplicate.SKIP), b"4").outcome is Outcome.SKIPPED


class MaxWaitContract:
    """Debounce: each duplicate puts the start off, but not for ever."""

    RULE = Dedupe("k", until=Until.STARTED, overwrite=("payload", "scheduled_at"), max_wait_ns=5 * S)

    def test_a_debounced_task_starts_after_the_last_call(self, q: Driver):
        first = send(q, self.RULE, b"1", delay_ns=2 * S)
        q.clock.advance(1)
        send(q, self.RULE, b"2", delay_ns=2 * S)
        q.clock.advance(1.5)
        assert q.claim_ids() == []
        q.clock.advance(0.5)

        task = q.take()
        assert (task.id, task.payload) == (first.id, b"2")

    def test_a_start_is_put_off_no_further_than_max_wait(self, q: Driver):
        begun = q.now
        task_id = send(q, self.RULE, b"0", delay_ns=2 * S).id
        for number in range(1, 5):
            q.clock.advance(1)
            send(q, self.RULE, b"%d" % number, delay_ns=2 * S)

        assert q.task(task_id).due_at == begun + 5 * S
        q.clock.advance(1)
        late = send(q, self.RULE, b"9", delay_ns=2 * S)
        assert (late.id, late.state) == (task_id, State.READY)
        assert q.take().payload == b"9"

    def test_the_next_call_after_the_start_is_a_new_task_that_may_wait_as_long(self, q: Driver):
        send(q, self.RULE, b"1")
        q.take()
        again = send(q, self.RULE, b"2", delay_ns=2 * S)

        assert (again.outcome, again.scheduled_at) == (Outcome.ENQUEUED, q.now + 2 * S)


class CoalesceContract:
    """Coalesce: one waits behind the one that runs."""

    def test_one_waits_behind_the_one_that_runs_and_has_the_latest_payload(self, q: Driver):
        fields: dict[str, Any] = {
            "dedupe": Dedupe("k", until=Until.STARTED, overwrite=("payload",)),
            "thread": "k",
        }
        q.enqueue(entry(payload=b"1", **fields))
        running = q.take()
        waiting = q.enqueue(entry(payload=b"2", **fields)).placed(0)
        assert q.enqueue(entry(payload=b"3", **fields)).placed(0).id == waiting.id
        assert q.claim_ids() == []
        q.succeed(running)

        last = q.take()
        assert (last.id, last.payload) == (waiting.id, b"3")
