"""What every store does with Enqueue, apart from dedupe: fields, times, batches, refusals, idempotency keys."""

from __future__ import annotations

import pytest

from lmdbq import limits
from lmdbq.model import (
    Backoff,
    Call,
    Claim,
    Dedupe,
    Delete,
    Done,
    Encoding,
    Enqueue,
    Enqueued,
    Entry,
    Exponential,
    Filter,
    Intervals,
    Keep,
    Memo,
    OnDuplicate,
    Options,
    Outcome,
    Placed,
    Polynomial,
    Purge,
    QueuePut,
    QueueSettings,
    Refused,
    RetryStrategy,
    State,
    UniformEntries,
)
from tests.store_driver import Driver, S, entry


class EnqueueContract:
    """Enqueue without dedupe keys."""

    def test_a_plain_entry_is_ready_at_once(self, q: Driver):
        enqueued = q.enqueue(entry(payload=b'{"n":1}'))

        assert enqueued == Enqueued(q.now, enqueued.ids, {})
        task = q.task(enqueued.ids[0])
        assert (task.queue, task.type, task.payload, task.encoding) == ("default", "default", b'{"n":1}', Encoding.JSON)
        assert (task.state, task.priority, task.created_at, task.scheduled_at) == (State.READY, 0, q.now, q.now)
        assert (task.expires_at, task.due_at, task.deliveries, task.failures, task.attempts) == (0, 0, 0, 0, 0)
        assert task.max_attempts == limits.ATTEMPTS_DEFAULT

    @pytest.mark.parametrize("encoding", list(Encoding))
    def test_every_field_of_an_entry_is_kept(self, q: Driver, encoding: Encoding):
        given = entry(
            payload=b"\x01\x02\xff\x00",
            queue="mail",
            type="send/now:1",
            encoding=encoding,
            priority=limits.PRIORITY_MIN,
            scheduled_at=q.now + 5 * S,
            expires_at=q.now + 9 * S,
            keepalive_ns=7 * S,
            retry=RetryStrategy(max_attempts=3, backoff=Intervals((S,)), max_deliveries=6),
            keep=Keep(succeeded_ns=1, dead_ns=2, cancelled_ns=3),
            tags=("a", "ü"),
            metadata=b'{"k":[1]}',
        )

        task_id = q.enqueue(given).ids[0]

        task = q.task(task_id)
        assert task.options == given.options
        assert (task.queue, task.type, task.payload, task.encoding) == ("mail", "send/now:1", given.payload, encoding)
        assert (task.priority, task.scheduled_at, task.expires_at) == (-32_768, given.scheduled_at, given.expires_at)
        assert (task.state, task.due_at, task.max_attempts) == (State.SCHEDULED, given.scheduled_at, 3)

    @pytest.mark.parametrize("backoff", [Intervals((S, 2 * S)), Exponential(factor=1.5, jitter=0), Polynomial(3.0)])
    def test_each_kind_of_backoff_is_kept(self, q: Driver, backoff: Backoff):
        task_id = q.add(retry=RetryStrategy(backoff=backoff))

        assert q.task(task_id).options.retry == RetryStrategy(backoff=backoff)

    @pytest.mark.parametrize("payload", [b"", b"x" * limits.PAYLOAD_BYTES_MAX])
    def test_a_payload_may_be_empty_or_a_mebibyte(self, q: Driver, payload: bytes):
        task_id = q.add(payload=payload, encoding=Encoding.BYTES)

        assert q.task(task_id).payload == payload
        assert q.take().payload == payload

    def test_times_resolve_from_the_entry(self, q: Driver):
        past, late = q.now - 60 * S, q.now + 60 * S

        by_delay = q.task(q.add(delay_ns=2 * S, expires_in_ns=9 * S))
        by_past = q.task(q.add(scheduled_at=past))
        by_date = q.task(q.add(scheduled_at=late, expires_at=late + S))

        assert (by_delay.scheduled_at, by_delay.expires_at) == (q.now + 2 * S, q.now + 9 * S)
        assert (by_past.scheduled_at, by_past.state) == (q.now, State.READY)
        assert (by_date.scheduled_at, by_date.expires_at, by_date.due_at) == (late, late + S, late)

    def test_a_queue_decides_the_expiry_of_entries_that_say_none(self, q: Driver):
        q.put_queue(expires_in_ns=10 * S)

        by_queue, by_entry = q.enqueue(entry(delay_ns=S), entry(expires_in_ns=2 * S)).ids

        assert q.task(by_queue).expires_at == q.now + 11 * S
        assert q.task(by_entry).expires_at == q.now + 2 * S

    def test_odd_holds_exactly_the_entries_that_are_not_plain(self, q: Driver):
        enqueued = q.enqueue(entry(), entry(delay_ns=S), entry(expires_in_ns=S), entry(scheduled_at=q.now - S), entry())

        assert sorted(enqueued.odd) == [1, 2]
        delayed, expiring = enqueued.ids[1:3]
        assert enqueued.placed(1) == Placed(delayed, Outcome.ENQUEUED, State.SCHEDULED, q.now + S, 0)
        assert enqueued.placed(2) == Placed(expiring, Outcome.ENQUEUED, State.READY, q.now, q.now + S)
        assert enqueued.placed(4) == Placed(enqueued.ids[4], Outcome.ENQUEUED, State.READY, q.now, 0)

    def test_a_batch_may_name_several_queues_and_types(self, q: Driver):
        enqueued = q.enqueue(*(entry(queue=f"q{n % 3}", type=f"t{n % 2}", payload=b"%d" % n) for n in range(60)))

        assert len(set(enqueued.ids)) == 60
        assert [q.task(task_id).payload for task_id in enqueued.ids] == [b"%d" % n for n in range(60)]
        assert [view.name for view in q.store.queues()] == ["q0", "q1", "q2"]
        assert q.store.count(Filter(queue="q1", type="t0", states=(State.READY,))) == 10

    def test_ten_thousand_entries_are_one_call(self, q: Driver):
        ids = q.enqueue(*(entry(payload=b"%d" % n) for n in range(limits.ENTRIES_MAX))).ids

        assert ids == list(range(ids[0], ids[0] + limits.ENTRIES_MAX))
        assert q.number(State.READY) == limits.ENTRIES_MAX

    def test_an_unknown_queue_is_created_unless_that_is_forbidden(self, q: Driver):
        refused = q.refusal(Enqueue((entry(queue="no"), entry(queue="no")), create_queues=False))
        q.enqueue(entry(queue="yes"))
        accepted = q.enqueue(entry(queue="yes"), create_queues=False)

        assert refused.code == "queue_not_found"
        assert [problem.pointer for problem in refused.problems] == ["/entries/0/queue_name", "/entries/1/queue_name"]
        assert len(accepted.ids) == 1
        assert q.store.queue("no") is None

    def test_an_entry_that_would_expire_before_it_starts_refuses_the_call(self, q: Driver):
        bad = entry(delay_ns=5 * S, expires_in_ns=5 * S)

        refused = q.refusal(Enqueue((entry(), bad, entry(expires_at=q.now))))

        assert refused.code == "expires_too_early"
        assert [problem.pointer for problem in refused.problems] == ["/entries/1/expires_at", "/entries/2/expires_at"]

    def test_at_most_twenty_problems_are_told(self, q: Driver):
        refused = q.refusal(Enqueue(tuple(entry(expires_at=q.now) for _ in range(30))))

        assert [problem.pointer for problem in refused.problems] == [f"/entries/{n}/expires_at" for n in range(20)]

    def test_a_queue_holds_tasks_of_a_thousand_types(self, q: Driver):
        ids = q.enqueue(*(entry(type=f"t{n}") for n in range(limits.TYPES_PER_QUEUE_MAX))).ids

        refused = q.refusal(Enqueue((entry(type="t5"), entry(type="more"))))
        q.enqueue(entry(type="t7"), entry(queue="other", type="more"))
        q.delete(ids[3])
        q.add(type="more")

        assert (refused.code, refused.problems[0].pointer) == ("too_many_types", "/entries/1/type")
        assert q.refusal(Enqueue((entry(type="t3"),))).code == "too_many_types"

    def test_totals_count_what_was_enqueued(self, q: Driver):
        q.enqueue(entry(), entry(), entry(queue="other"))

        assert (q.totals().enqueued, q.totals("other").enqueued) == (2, 1)

    # --- a refused call leaves no trace

    def test_a_refused_call_gives_no_ids_and_no_queue(self, q: Driver):
        q.refusal(Enqueue((entry(queue="fresh"), entry(expires_at=q.now))))

        assert q.store.info().last_id == 0
        assert q.store.queues() == []

    @pytest.mark.parametrize("place", range(4))
    def test_whichever_op_of_a_call_is_refused_the_others_leave_no_trace(self, q: Driver, place: int):
        kept = q.add(dedupe="k", expires_in_ns=S)
        running = q.take()
        ready = q.add(type="other")
        q.clock.advance(2)
        ops = [Enqueue((entry(queue="fresh"), entry(dedupe="n"))), Delete((ready, kept)), Claim(("default",), limit=9)]
        ops.insert(place, Purge("unknown"))

        refused = q.refusal(*ops)

        assert (refused.code, refused.problems[0].pointer) == ("queue_not_found", "/name")
        assert q.state(kept) is State.RUNNING
        assert q.extend(running).outcome is Outcome.OK
        assert q.enqueue(entry(dedupe="n")).placed(0).outcome is Outcome.ENQUEUED

    def test_a_holder_that_a_refused_call_expired_is_still_there(self, q: Driver):
        holder = q.add(dedupe="k", expires_in_ns=S)
        q.clock.advance(2)

        q.refusal(Enqueue((entry(dedupe="k"), entry(expires_at=q.now))))

        assert q.state(holder) is State.READY
        assert q.totals().expired == 0

    def test_a_refused_call_does_not_harm_its_neighbours(self, q: Driver):
        good, bad = Call((Enqueue((entry(),)),)), Call((Purge("unknown"),))

        outcomes = q.apply(good, bad, good, bad).outcomes

        assert [isinstance(outcome, Done) for outcome in outcomes] == [True, False, True, False]
        assert q.number(State.READY) == 2

    # --- calls of one apply

    def test_calls_run_by_phase_and_are_answered_as_they_came(self, q: Driver):
        held = q.add()
        q.take()
        claim, put = Call((Claim(("default",), limit=5),)), Call((Enqueue((entry(),)),))

        claimed, enqueued, deleted = q.apply(claim, put, Call((Delete((held,)),))).outcomes

        assert [task.id for task in claimed.outcomes[0].tasks] == enqueued.outcomes[0].ids
        assert deleted.outcomes[0].outcomes[0].outcome is Outcome.OK

    def test_a_later_op_of_a_call_sees_the_earlier_ones(self, q: Driver):
        put, enqueued, claimed = q.do(
            QueuePut("new", QueueSettings(keepalive_ns=9 * S)), Enqueue((entry(queue="new"),)), Claim(("new",))
        )

        assert put.created
        assert [task.id for task in claimed.tasks] == enqueued.ids
        assert claimed.tasks[0].keepalive_ns == 9 * S

    def test_a_bug_in_one_call_is_told_to_its_caller_only(self, q: Driver):
        bad = Enqueue((entry(), Entry(options=None)))  # type: ignore[arg-type]
        q.enqueue(entry())

        before = q.image()
        alone = q.call(bad)
        unchanged = q.image() == before
        broken, fine = q.apply(Call((bad,)), Call((Enqueue((entry(),)),))).outcomes

        assert unchanged
        assert isinstance(alone, Refused) and alone.code == "internal"
        assert isinstance(broken, Refused) and broken.code == "internal"
        assert isinstance(fine, Done)
        assert q.number(State.READY) == 2

    # --- idempotency keys

    def test_the_same_key_and_body_answer_the_same_again(self, q: Driver):
        memo = Memo("key", b"hash")
        op = Enqueue((entry(), entry(delay_ns=S), entry(dedupe="d"), entry(dedupe="d")))

        first = q.call(op, memo=memo)
        q.clock.advance(10)
        second = q.call(op, memo=memo)

        assert isinstance(first, Done) and isinstance(second, Done)
        assert (first.replayed, second.replayed) == (False, True)
        assert second.outcomes == first.outcomes
        assert q.store.count(Filter()) == 3

    def test_two_calls_with_one_key_in_one_apply_are_one(self, q: Driver):
        call = Call((Enqueue((entry(),)),), Memo("key", b"hash"))

        first, second = q.apply(call, call).outcomes

        assert (first.replayed, second.replayed) == (False, True)
        assert first.outcomes == second.outcomes
        assert q.store.count(Filter()) == 1

    def test_the_same_key_with_another_body_is_refused(self, q: Driver):
        q.call(Enqueue((entry(),)), memo=Memo("key", b"one"))

        refused = q.call(Enqueue((entry(), entry())), memo=Memo("key", b"two"))

        assert isinstance(refused, Refused) and refused.code == "key_reused"
        assert q.store.count(Filter()) == 1

    def test_a_refused_call_is_not_remembered(self, q: Driver):
        refused = q.call(Purge("later"), memo=Memo("key", b"hash"))
        q.put_queue("later")

        again = q.call(Purge("later"), memo=Memo("key", b"hash"))

        assert isinstance(refused, Refused)
        assert isinstance(again, Done) and not again.replayed

    def test_a_key_is_forgotten_after_its_time(self, q: Driver):
        memo = Memo("key", b"hash", kept_ns=5 * S)
        q.call(Enqueue((entry(),)), memo=memo)

        q.clock.advance(4.999)
        within = q.call(Enqueue((entry(),)), memo=memo)
        q.clock.advance(0.001)
        after = q.call(Enqueue((entry(),)), memo=Memo("key", b"other"))

        assert isinstance(within, Done) and within.replayed
        assert isinstance(after, Done) and not after.replayed
        assert q.store.count(Filter()) == 2

    def test_a_rejected_duplicate_is_remembered_as_nothing(self, q: Driver):
        rule = Dedupe(key="d", on_duplicate=OnDuplicate.REJECT)
        holder = q.add(dedupe="d")
        refused = q.call(Enqueue((entry(dedupe=rule),)), memo=Memo("key", b"hash"))
        q.delete(holder)

        again = q.call(Enqueue((entry(dedupe=rule),)), memo=Memo("key", b"hash"))

        assert isinstance(refused, Refused)
        assert isinstance(again, Done) and not again.replayed


class IdCapability:
    """Ids: rising, never given twice, in an order that a claim keeps."""

    def test_ids_begin_with_the_time(self, q: Driver):
        assert q.add() == q.now // limits.MS_NS << 20

    def test_ids_of_a_call_are_consecutive_in_groups_of_queue_priority_and_rank(self, q: Driver):
        names = ["a", "b", "a", "a", "b"]
        priorities = [0, 0, 5, 0, 0]

        ids = q.enqueue(*(entry(queue=a, priority=p) for a, p in zip(names, priorities, strict=True))).ids

        first = min(ids)
        assert [task_id - first for task_id in ids] == [0, 2, 4, 1, 3]

    def test_types_do_not_part_a_group(self, q: Driver):
        ids = q.enqueue(*(entry(type=f"t{n % 2}") for n in range(4))).ids

        assert ids == list(range(ids[0], ids[0] + 4))

    def test_an_overwritten_newcomer_is_grouped_as_it_ends_up(self, q: Driver):
        rule = Dedupe(key="k", overwrite=("priority",))

        ids = q.enqueue(entry(dedupe=rule), entry(), entry(priority=9), entry(dedupe=rule, priority=9)).ids

        first = min(ids)
        assert [task_id - first for task_id in ids] == [0, 2, 1, 0]
        assert q.claim_ids() == [first + 2, first, first + 1]

    def test_ids_rise_though_the_clock_steps_back(self, q: Driver):
        first = q.add()
        q.clock.step(-3600)
        second = q.add()
        q.clock.step(7200)
        third = q.add()

        assert first + 1 == second < third
        assert third == q.now // limits.MS_NS << 20

    def test_ids_never_come_again_after_a_purge_and_a_step_back(self, q: Driver):
        given = set(q.enqueue(*(entry() for _ in range(10))).ids)
        q.do(Purge("default"))
        q.clock.step(-86_400)
        again = set(q.enqueue(*(entry() for _ in range(10))).ids)

        assert not given & again
        assert min(again) > max(given)
        assert {q.state(task_id) for task_id in given} == {Outcome.GONE}
        assert q.state(max(again) + 1) is Outcome.NOT_FOUND
        assert q.store.info().last_id == max(again)


class UniformEntriesContract:
    """Entries that travel as lists of payloads and keys are what a list of entries would be."""

    N = 10

    def uniform(self, *numbers: int, payload: bytes = b"{}", priority: int = 3) -> UniformEntries:
        return UniformEntries(
            [payload] * len(numbers), "a", "t", Encoding.JSON, priority, [f"k{number}" for number in numbers]
        )

    def test_free_keys_are_taken_and_hold(self, q: Driver):
        q.add(queue="a", type="t")
        keyed = self.uniform(*range(self.N))

        done = q.do(Enqueue(keyed))
        again = q.do(Enqueue(keyed))

        assert done.odd == {}
        assert done.ids == list(range(done.ids[0], done.ids[0] + self.N))
        assert [again.placed(index).outcome for index in range(self.N)] == [Outcome.SKIPPED] * self.N
        assert again.ids == done.ids
        for number, task_id in enumerate(done.ids):
            task = q.task(task_id)
            assert (task.queue, task.type, task.priority, task.payload) == ("a", "t", 3, b"{}")
            assert task.options == Options(dedupe=Dedupe(f"k{number}"))

    def test_held_and_repeated_keys_are_duplicates_and_the_rest_is_new(self, q: Driver):
        q.add(queue="a", type="t")
        held = q.do(Enqueue(self.uniform(*range(100, 100 + self.N)))).ids

        done = q.do(Enqueue(self.uniform(*range(self.N), 3, 105, 200)))

        outcomes = [done.placed(index).outcome for index in range(self.N + 3)]
        assert outcomes == [Outcome.ENQUEUED] * self.N + [Outcome.SKIPPED] * 2 + [Outcome.ENQUEUED]
        assert done.ids[self.N : self.N + 2] == [done.ids[3], held[5]]
        assert done.ids[-1] == done.ids[self.N - 1] + 1

    @pytest.mark.parametrize("number", [100, 115, 116, 139])
    def test_one_held_key_of_many_harms_no_other(self, q: Driver, number: int):
        holder = q.add(queue="a", type="t", dedupe=f"k{number}")

        done = q.do(Enqueue(self.uniform(*range(100, 140))))

        outcomes = {each: done.placed(each - 100).outcome for each in range(100, 140)}
        assert {each for each, outcome in outcomes.items() if outcome is Outcome.SKIPPED} == {number}
        assert done.ids[number - 100] == holder
        new = done.ids[: number - 100] + done.ids[number - 99 :]
        assert new == list(range(new[0], new[0] + 39))

    def test_calls_of_one_apply_see_each_others_keys(self, q: Driver):
        q.add(queue="a", type="t")
        first = Call((Enqueue([entry(queue="a", type="t", dedupe="k5")]),))
        keyed, again = (Call((Enqueue(self.uniform(*range(at, at + self.N))),)) for at in (0, 9))
        last = Call((Enqueue([entry(queue="a", type="t", dedupe="k18")]),))

        done = [outcome.outcomes[0] for outcome in q.apply(first, keyed, again, last).outcomes]

        assert done[1].ids[5] == done[0].ids[0]
        assert done[2].ids[0] == done[1].ids[9]
        assert done[3].ids[0] == done[2].ids[9]
        assert len({task_id for each in done for task_id in each.ids}) == 1 + 9 + 9

    def test_a_key_is_free_again_once_its_task_is_gone(self, q: Driver):
        q.add(queue="a", type="t")
        ids = q.do(Enqueue(self.uniform(*range(self.N)))).ids
        for task_id in ids:
            q.delete(task_id)

        assert q.do(Enqueue(self.uniform(*range(self.N)))).odd == {}

    def test_the_rules_of_the_queue_hold_for_them(self, q: Driver):
        q.put_queue("a", dedupe=Dedupe(on_duplicate=OnDuplicate.REJECT))
        q.add(queue="a", type="t")
        q.do(Enqueue(self.uniform(*range(self.N))))

        refused = q.refusal(Enqueue(self.uniform(*range(9, 9 + self.N))))

        assert [problem.pointer for problem in refused.problems] == ["/entries/0/dedupe_key"]

    def test_in_the_order_of_priority_and_time(self, q: Driver):
        q.add(queue="a", type="t", priority=4)
        later = q.do(Enqueue(self.uniform(*range(self.N), priority=3))).ids
        sooner = q.do(Enqueue(self.uniform(*range(20, 20 + self.N), priority=2))).ids

        assert q.claim_ids("a", limit=2 * self.N) == sooner + later
