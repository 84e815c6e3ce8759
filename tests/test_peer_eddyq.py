"""What eddyq's users rely on, asked of both stores: its checks by their numbers, as ``peer_checks`` counts them.

Handlers, time-outs and shutdown are asked in ``test_peer_eddyq_work``; groups, schedules and dedupe keys stand with
their own tests. Where lmdbq means to differ, the test shows what it does, and ``peer_checks`` says why.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.errors import InvalidInput
from lmdbq.model import (
    Call,
    Cancel,
    Dedupe,
    Done,
    Encoding,
    Enqueue,
    Filter,
    GroupPut,
    GroupSettings,
    Intervals,
    Keep,
    Lapse,
    Outcome,
    Prune,
    Rate,
    RetryStrategy,
    Scope,
    State,
    Status,
)
from lmdbq.store.lmdb import open_store
from lmdbq.wire import requests
from lmdbq.wire.problems import JSON_CODEC
from tests.store_driver import Driver, S, entry

BY_TYPE = Dedupe("u", scope=Scope.TYPE)
KEEP = Keep(succeeded_ns=3_600 * S, dead_ns=3_600 * S, cancelled_ns=3_600 * S)


def refused_codes(body: bytes) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        requests.read_enqueue(body, JSON_CODEC)
    return {problem.code for problem in caught.value.problems}


# --- enqueue ---


def test_eddyq_7_1_a_task_is_stored_with_its_defaults_when_the_call_returns(q: Driver):
    task = q.task(q.add(type="k", payload=b'{"a":1}'))

    assert (task.state, task.queue, task.priority, task.attempts) == (State.READY, "default", 0, 0)
    assert task.max_attempts == limits.ATTEMPTS_DEFAULT
    assert (task.options.tags, task.options.metadata, task.errors, task.result) == ((), b"", (), None)


def test_eddyq_7_2_without_a_key_the_same_call_makes_another_task(q: Driver):
    assert q.add(payload=b"1") != q.add(payload=b"1")


def test_eddyq_7_3_ids_rise(q: Driver):
    ids = []
    for step in (0, -3_600, 5):
        q.clock.step(step)
        ids.append(q.add())

    assert ids == sorted(set(ids))


def test_eddyq_7_4_a_delayed_task_is_claimable_when_its_delay_is_over_and_not_before(q: Driver):
    task_id = q.add(delay_ns=60 * S)
    q.clock.advance(59.999)

    assert q.claim_ids() == []
    q.clock.advance(0.001)
    assert q.claim_ids() == [task_id]


def test_eddyq_7_5_a_future_task_is_scheduled_and_counted_there(q: Driver):
    assert q.state(q.add(delay_ns=S)) is State.SCHEDULED
    assert (q.number(State.SCHEDULED), q.number(State.READY)) == (1, 0)


def test_eddyq_7_6_a_delay_beside_an_instant_is_refused():
    body = b'{"entries": [{"delay_in_seconds": 5, "scheduled_at": "2030-01-01T00:00:00Z"}]}'

    assert refused_codes(body)


def test_eddyq_7_7_a_task_of_the_past_runs_before_one_that_is_due_later(q: Driver):
    later = q.add(delay_ns=S)
    past = q.add(scheduled_at=q.now - 60 * S)
    q.clock.advance(1)

    assert q.claim_ids() == [past, later]


def test_eddyq_7_8_no_attempts_at_all_are_refused():
    assert refused_codes(b'{"entries": [{"retry_strategy": {"max_attempts": 0}}]}')


@pytest.mark.parametrize("priority", [-32_769, 32_768])
def test_eddyq_7_9_a_priority_is_a_signed_number_of_16_bits(priority: int):
    assert refused_codes(b'{"entries": [{"priority": %d}]}' % priority)


def test_eddyq_7_10_a_payload_of_null_is_handed_out_as_null(q: Driver):
    q.add(payload=b"null")

    assert q.take().payload == b"null"


def test_eddyq_7_11_tags_and_metadata_come_back_as_given(q: Driver):
    task_id = q.add(tags=("a", "b"), metadata=b'{"trace":"x"}')

    options = q.task(task_id).options
    assert (options.tags, options.metadata) == (("a", "b"), b'{"trace":"x"}')
    assert q.take().options == options


def test_eddyq_7_12_an_unknown_field_is_refused_by_its_name():
    with pytest.raises(InvalidInput) as caught:
        requests.read_enqueue(b'{"entries": [{"delai_in_seconds": 5}]}', JSON_CODEC)
    assert "delai_in_seconds" in caught.value.problems[0].detail


# --- many at once ---


def test_eddyq_7_24_outcomes_come_back_in_input_order(q: Driver):
    q.add(type="b", queue="two", dedupe="held")
    outcome = q.enqueue(
        entry(type="a"), entry(type="b", queue="two", dedupe="held"), entry(type="c", delay_ns=S, queue="three")
    )

    assert [outcome.placed(index).deduped for index in range(3)] == [False, True, False]
    assert [q.task(task_id).type for task_id in outcome.ids] == ["a", "b", "c"]


def test_eddyq_7_25_the_first_of_each_key_in_a_call_wins(q: Driver):
    keys = ["a", "b", "a", "c", "d", "b", "e", "f", "a", "c"]

    outcome = q.enqueue(*[entry(dedupe=key, payload=b"%d" % index) for index, key in enumerate(keys)])

    placed = [outcome.placed(index) for index in range(10)]
    assert sum(one.outcome is Outcome.ENQUEUED for one in placed) == 6
    assert {q.task(one.id).payload for one in placed} == {b"0", b"1", b"3", b"4", b"6", b"7"}


def test_eddyq_7_26_half_of_a_batch_may_be_known(q: Driver):
    q.enqueue(*[entry(dedupe=f"k{number}") for number in range(300)])

    q.enqueue(*[entry(dedupe=f"k{number}") for number in range(250, 350)])

    assert (q.totals().enqueued, q.totals().deduplicated) == (350, 50)


def test_eddyq_7_27_one_bad_entry_refuses_the_call_and_leaves_no_trace(q: Driver):
    good = [entry() for _ in range(99)]

    refused = q.refusal(Enqueue((*good, entry(expires_at=q.now))))

    assert (refused.code, refused.problems[0].pointer) == ("expires_too_early", "/entries/99/expires_at")


def test_eddyq_7_29_more_entries_than_a_call_may_have_are_refused_with_the_limit():
    body = msgspec.json.encode({"entries": [{}] * (limits.ENTRIES_MAX + 1)})

    with pytest.raises(InvalidInput) as caught:
        requests.read_enqueue(body, JSON_CODEC)
    assert "10,000" in caught.value.problems[0].detail or "10000" in caught.value.problems[0].detail


def test_eddyq_7_30_each_entry_keeps_what_is_its_own(q: Driver):
    first, second = q.enqueue(
        entry(delay_ns=S, tags=("x",), priority=-5), entry(metadata=b'{"n":2}', priority=7, queue="other")
    ).ids

    assert (q.task(first).state, q.task(first).options.tags, q.task(first).priority) == (State.SCHEDULED, ("x",), -5)
    assert (q.task(second).queue, q.task(second).options.metadata, q.task(second).priority) == ("other", b'{"n":2}', 7)


# --- claims ---


def test_eddyq_7_40_order_is_priority_then_time_then_id(q: Driver):
    late, low, high, normal = q.enqueue(
        entry(delay_ns=S), entry(priority=5), entry(priority=-5), entry(scheduled_at=q.now)
    ).ids
    q.clock.advance(1)

    assert q.claim_ids() == [high, normal, late, low]


def test_eddyq_7_42_a_worker_takes_only_the_types_it_names(q: Driver):
    q.add(type="other")
    mine = q.add(type="mine")

    assert q.claim_ids(types=("mine",)) == [mine]


def test_eddyq_7_43_a_worker_takes_only_the_queues_it_names(q: Driver):
    q.add()
    urgent = q.add(queue="urgent")

    assert q.claim_ids("urgent") == [urgent]


def test_eddyq_7_44_a_task_is_given_once_while_its_lease_lasts(q: Driver):
    q.enqueue(*[entry() for _ in range(10)])

    first, second = q.claim_ids(limit=6), q.claim_ids(limit=6)

    assert len(first) == 6 and len(second) == 4
    assert not set(first) & set(second)


def test_eddyq_7_48_no_more_are_handed_out_than_were_asked_for(q: Driver):
    q.enqueue(*[entry() for _ in range(10)])

    assert len(q.claim(limit=3).tasks) == 3
    assert q.number(State.RUNNING) == 3


# --- retries and errors ---


def test_eddyq_7_49_a_task_that_fails_twice_and_then_succeeds_shows_both_errors(q: Driver):
    task_id = q.add(retry=RetryStrategy(max_attempts=5, backoff=Intervals((0,))), keep=KEEP)
    for _ in range(2):
        q.fail(q.take())
    last = q.take()
    assert last.attempts == 3
    q.succeed(last)

    assert (q.state(task_id), len(q.task(task_id).errors)) == (State.SUCCEEDED, 2)


def test_eddyq_7_50_the_default_backoff_doubles_and_jitter_only_shortens(q: Driver):
    task_id = q.add()
    for failures in range(1, limits.ATTEMPTS_DEFAULT):
        q.fail(q.take())
        wait = (q.task(task_id).due_at - q.now) / S
        assert 0.75 * 2 ** (failures - 1) <= wait <= 2 ** (failures - 1)
        q.clock.advance(wait)


def test_eddyq_7_51_the_last_failure_is_the_end(q: Driver):
    task_id = q.add(retry=RetryStrategy(max_attempts=1))
    q.fail(q.take())

    task = q.task(task_id)
    assert (task.state, task.ended_at, task.reason) == (State.DEAD, q.now, "max_attempts")
    q.clock.advance(3_600)
    assert q.claim_ids() == []


def test_eddyq_7_52_a_failure_may_name_its_own_delay(q: Driver):
    task_id = q.add()
    q.fail(q.take(), delay_ns=60 * S)

    assert (q.state(task_id), q.task(task_id).due_at) == (State.SCHEDULED, q.now + 60 * S)


def test_eddyq_7_53_a_delay_on_the_last_attempt_does_not_revive(q: Driver):
    task_id = q.add(retry=RetryStrategy(max_attempts=1))
    q.fail(q.take(), delay_ns=60 * S)

    assert q.state(task_id) is State.DEAD


def test_eddyq_7_54_a_failure_that_must_not_be_retried_is_the_only_attempt(q: Driver):
    task_id = q.add(retry=RetryStrategy(max_attempts=5))
    q.fail(q.take(), message="x", retry=False)

    task = q.task(task_id)
    assert (task.state, task.attempts, task.reason) == (State.DEAD, 1, "no_retry")
    assert task.errors[0].message == "x"


def test_eddyq_7_55_an_error_has_its_time_its_class_its_message_and_its_trace(q: Driver):
    q.add()
    task = q.take()
    q.fail(task, message="boom")

    failure = q.task(task.id).errors[0]
    assert (failure.at, failure.delivery) == (q.now, 1)
    assert (failure.type, failure.message, failure.backtrace) == ("Error", "boom", "trace")


def test_eddyq_7_57_a_result_is_kept_with_its_task(q: Driver):
    task_id = q.add()
    q.succeed(q.take(), result=b'{"n":1}')

    assert (q.task(task_id).result, q.task(task_id).result_encoding) == (b'{"n":1}', Encoding.JSON)


def test_eddyq_7_58_attempts_count_from_one_to_the_last(q: Driver):
    q.add(retry=RetryStrategy(max_attempts=3, backoff=Intervals((0,))))
    seen = []
    while tasks := q.claim().tasks:
        seen.append((tasks[0].attempts, tasks[0].max_attempts))
        q.fail(tasks[0])

    assert seen == [(1, 3), (2, 3), (3, 3)]


# --- cancelling ---


@pytest.mark.parametrize("delay_ns", [0, S])
def test_eddyq_7_64_a_waiting_task_is_cancelled_once(q: Driver, delay_ns: int):
    task_id = q.add(delay_ns=delay_ns)

    assert q.cancel(task_id).outcome is Outcome.OK
    assert q.state(task_id) is State.CANCELLED
    assert q.cancel(task_id).outcome is Outcome.CONFLICT


def test_eddyq_7_65_a_running_task_is_asked_to_stop_and_may_still_finish(q: Driver):
    q.enqueue(entry(keep=KEEP), entry(keep=KEEP))
    stops, finishes = q.claim(limit=2).tasks
    q.do(Cancel((stops.id, finishes.id)))

    assert q.extend(stops).cancel_requested
    q.fail(stops)
    q.succeed(finishes)
    assert (q.state(stops.id), q.state(finishes.id)) == (State.CANCELLED, State.SUCCEEDED)
    assert q.task(finishes.id).cancel_requested


def test_eddyq_7_66_what_has_ended_or_never_was_cannot_be_cancelled(q: Driver):
    dead = q.add_dead()

    assert q.cancel(dead).outcome is Outcome.CONFLICT
    assert q.cancel(dead + 50).outcome is Outcome.NOT_FOUND


def test_eddyq_7_68_a_task_that_is_handed_back_has_lost_no_attempt(q: Driver):
    q.add()
    task = q.take()
    q.release(task)

    assert (q.state(task.id), q.task(task.id).attempts) == (State.READY, 0)
    assert q.take().attempts == 1


# --- lost workers ---


def test_eddyq_7_73_the_task_of_a_dead_worker_comes_back_with_an_error(q: Driver):
    task_id = q.add(keepalive_ns=10 * S, retry=RetryStrategy(max_attempts=3, backoff=Intervals((0,))))
    q.take()
    q.clock.advance(10)
    q.sweep(Lapse())

    assert q.task(task_id).errors[0].type == "lease_lapsed"
    assert q.take().id == task_id


def test_eddyq_7_74_the_last_attempt_of_a_dead_worker_is_the_end(q: Driver):
    task_id = q.add(keepalive_ns=10 * S, retry=RetryStrategy(max_attempts=1))
    q.take()
    q.clock.advance(10)
    q.sweep(Lapse())

    assert q.state(task_id) is State.DEAD


def test_eddyq_7_75_a_lapse_frees_the_place_it_held(q: Driver):
    q.put_queue(max_running=1)
    q.enqueue(entry(keepalive_ns=10 * S), entry(keepalive_ns=10 * S))
    first = q.take()
    assert q.claim().reason == "max_running"
    q.clock.advance(10)

    assert q.take().id == first.id + 1
    assert q.number(State.RUNNING) == 1


def test_eddyq_7_76_a_worker_that_lost_its_lease_changes_nothing(q: Driver):
    q.add(keepalive_ns=10 * S, retry=RetryStrategy(backoff=Intervals((0,))))
    lost = q.take()
    q.clock.advance(10)
    held = q.take()

    assert q.succeed(lost).outcome is Outcome.STALE_LEASE
    assert q.state(held.id) is State.RUNNING


def test_eddyq_7_77_a_task_whose_heart_beats_never_lapses(q: Driver):
    q.add(keepalive_ns=10 * S)
    task = q.take()
    for _ in range(30):
        q.clock.advance(9)
        assert q.extend(task).outcome is Outcome.OK
        assert q.sweep(Lapse()).count == 0

    assert q.succeed(task).outcome is Outcome.OK


def test_eddyq_7_78_a_lease_is_kept_to_less_than_a_second(q: Driver):
    q.add()
    q.take(keepalive_ns=S + S // 2)
    q.clock.advance(1.499)
    assert q.sweep(Lapse()).count == 0
    q.clock.advance(0.001)

    assert q.sweep(Lapse()).count == 1


# --- keeping and counting ---


def test_eddyq_7_107_what_has_ended_is_removed_in_time_and_nothing_else(q: Driver):
    old = [q.add_dead(keep=KEEP, queue="old") for _ in range(3)]
    q.clock.advance(1_800)
    young = q.add_dead(keep=KEEP, queue="young")
    waiting = q.add()
    q.clock.advance(1_800)
    q.sweep(Prune())

    assert [q.state(task_id) for task_id in old] == [Outcome.GONE] * 3
    assert (q.state(young), q.state(waiting)) == (State.DEAD, State.READY)


def test_eddyq_7_108_counts_are_exact_by_queue_and_state(q: Driver):
    q.enqueue(entry(), entry(), entry(queue="other"), entry(queue="other", delay_ns=S))
    q.take()

    views = {view.name: [view.count(state) for state in State] for view in q.store.queues()}
    assert views == {"default": [0, 1, 1, 0, 0, 0], "other": [1, 1, 0, 0, 0, 0]}


def test_eddyq_7_109_filters_are_joined_by_and(q: Driver):
    wanted = q.add(queue="a", type="t", tags=("x",))
    for fields in ({"queue": "b"}, {"type": "u"}, {"tags": ("y",)}, {"delay_ns": S}):
        q.add(**{"queue": "a", "type": "t", "tags": ("x",), **fields})

    found = q.all_tasks(Filter(queue="a", type="t", states=(State.READY,), tag="x"))
    assert [task.id for task in found] == [wanted]
    assert q.store.count(Filter(queue="a", type="t", states=(State.READY,), tag="x")) == 1


# --- unique keys: eddyq's is (kind, key), which is scope "type" here ---


def duplicate_of(q: Driver, **fields: object) -> int | None:
    """Return the id of the task that a newcomer is a duplicate of; None if it is enqueued."""
    placed = q.enqueue(entry(**{"type": "k", "dedupe": BY_TYPE, **fields})).placed(0)
    return placed.id if placed.deduped else None


def test_eddyq_7_13_an_active_key_answers_the_task_that_has_it(q: Driver):
    assert duplicate_of(q) is None
    assert duplicate_of(q) == q.all_tasks()[0].id


def test_eddyq_7_14_another_kind_has_keys_of_its_own(q: Driver):
    duplicate_of(q)

    assert duplicate_of(q, type="k2") is None


def test_eddyq_7_15_a_key_of_a_kind_holds_in_every_queue(q: Driver):
    first = q.add(type="k", dedupe=BY_TYPE, queue="a")

    assert duplicate_of(q, queue="b") == first


def test_eddyq_7_16_a_running_task_holds_its_key(q: Driver):
    first = q.add(type="k", dedupe=BY_TYPE)
    q.take()

    assert duplicate_of(q) == first


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.CANCELLED, State.DEAD])
def test_eddyq_7_17_an_ended_task_holds_no_key(q: Driver, end: State):
    first = q.add(type="k", dedupe=BY_TYPE, keep=KEEP)
    if end is State.CANCELLED:
        q.cancel(first)
    else:
        q.report(q.take(), Status.SUCCEEDED if end is State.SUCCEEDED else Status.FAILED, retry=False)

    assert q.state(first) is end
    assert duplicate_of(q) is None


def test_eddyq_7_18_a_task_that_waits_for_its_retry_holds_its_key(q: Driver):
    first = q.add(type="k", dedupe=BY_TYPE)
    q.fail(q.take())

    assert duplicate_of(q) == first


def test_eddyq_7_19_a_scheduled_task_holds_its_key_and_its_time(q: Driver):
    first = q.add(type="k", dedupe=BY_TYPE, delay_ns=3_600 * S)

    assert duplicate_of(q) == first
    assert q.task(first).due_at == q.now + 3_600 * S


def test_eddyq_7_20_a_duplicate_leaves_the_task_as_it_is_and_stirs_nobody(q: Driver):
    first = q.add(type="k", dedupe=BY_TYPE, payload=b"1")
    before = q.task(first)

    applied = q.apply(Call((Enqueue((entry(type="k", dedupe=BY_TYPE, payload=b"2", priority=-9),)),)))

    assert q.task(first) == before
    assert applied.stirred == frozenset()


def test_eddyq_7_22_of_many_callers_one_enqueues_and_all_hear_the_same_id(q: Driver):
    calls = [Call((Enqueue((entry(type="k", dedupe=BY_TYPE),)),)) for _ in range(50)]

    outcomes = [done.outcomes[0] for done in q.apply(*calls).outcomes if isinstance(done, Done)]

    assert len({outcome.ids[0] for outcome in outcomes}) == 1
    assert [outcome.placed(0).deduped for outcome in outcomes] == [False] + [True] * 49


# --- what outlives a restart ---


def test_eddyq_7_96_limits_pauses_and_tokens_outlive_the_process(tmp_path: Path):
    clock = ManualClock()
    store = open_store(tmp_path / "q")
    q = Driver(store, clock)
    q.do(GroupPut("g", GroupSettings(max_running=7, rate=Rate(tokens=2, period_ns=3_600 * S))))
    q.put_queue("held", paused=True)
    q.enqueue(*[entry(group="g") for _ in range(3)])
    assert len(q.claim(limit=3).tasks) == 2
    before = store.groups(clock)
    store.close()

    again = open_store(tmp_path / "q")
    assert again.groups(clock) == before
    assert Driver(again, clock).claim(limit=3).reason == "rate_limited"
    held = again.queue("held")
    assert held is not None and held.settings.paused
    assert again.check() == []
    again.close()
