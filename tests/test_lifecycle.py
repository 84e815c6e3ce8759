"""The rules of a task's life: backoff, what follows a failure, what is decided by whom, and the table of moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbq import lifecycle, limits
from lmdbq.clock import ManualClock
from lmdbq.lifecycle import AfterFailure, Event, ExpiresTooEarly, ResolvedDedupe, ResolvedRetry
from lmdbq.model import (
    DEFAULT_SETTINGS,
    ENDED,
    WAITING,
    Cancel,
    Claim,
    Completion,
    Dedupe,
    Delete,
    Edit,
    Entry,
    Expire,
    Exponential,
    Intervals,
    Keep,
    Lapse,
    OnDuplicate,
    Op,
    Options,
    Outcome,
    Polynomial,
    Promote,
    Prune,
    QueueSettings,
    Report,
    Retry,
    RetryStrategy,
    Scope,
    State,
    Status,
    Task,
    Until,
)
from tests.contract_dedupe import KEEP_ALL, bring
from tests.store_driver import Driver, S, entry
from tests.store_factories import FACTORIES

NOW = ManualClock().wall_ns()
ids = st.integers(0, 2**64 - 1)
failures = st.integers(1, 10_000)
shares = st.floats(0, 1)
exponentials = st.builds(
    Exponential,
    base_ns=st.integers(0, limits.DELAY_NS_MAX),
    factor=st.floats(1, 1e6),
    cap_ns=st.integers(0, limits.DELAY_NS_MAX),
    jitter=shares,
)
polynomials = st.builds(
    Polynomial, exponent=st.floats(0, 100), base_ns=st.integers(0, limits.DELAY_NS_MAX), jitter=shares
)

# --- backoff ---


@given(st.lists(st.integers(0, limits.DELAY_NS_MAX), min_size=1), ids, failures)
def test_intervals_are_taken_in_turn_and_the_last_repeats(intervals_ns: list[int], task_id: int, number: int):
    waits_ns = lifecycle.backoff_ns(Intervals(tuple(intervals_ns)), task_id, number)

    assert waits_ns == (intervals_ns[number - 1] if number <= len(intervals_ns) else intervals_ns[-1])


@given(exponentials | polynomials, ids, failures)
def test_jitter_only_shortens_and_by_its_share_at_most(backoff: Exponential | Polynomial, task_id: int, number: int):
    plain = type(backoff)(**{**_fields(backoff), "jitter": 0.0})
    longest_ns = lifecycle.backoff_ns(plain, task_id, number)

    waits_ns = lifecycle.backoff_ns(backoff, task_id, number)

    assert 0 <= waits_ns <= longest_ns <= limits.DELAY_NS_MAX
    assert waits_ns >= longest_ns * (1 - backoff.jitter) * (1 - 1e-9) - limits.US_NS
    assert waits_ns % limits.US_NS == 0
    assert waits_ns == lifecycle.backoff_ns(backoff, task_id, number)


def _fields(backoff: Exponential | Polynomial) -> dict[str, object]:
    return {name: getattr(backoff, name) for name in backoff.__struct_fields__}


@given(exponentials, ids, failures)
def test_an_exponential_backoff_never_exceeds_its_cap(backoff: Exponential, task_id: int, number: int):
    assert lifecycle.backoff_ns(backoff, task_id, number) <= backoff.cap_ns


def test_backoff_by_hand():
    doubling = Exponential(base_ns=S, factor=2.0, cap_ns=10 * S, jitter=0.0)
    square = Polynomial(exponent=2.0, base_ns=S, jitter=0.0)

    assert [lifecycle.backoff_ns(doubling, 1, n) // S for n in range(1, 6)] == [1, 2, 4, 8, 10]
    assert [lifecycle.backoff_ns(square, 1, n) // S for n in range(1, 5)] == [1, 4, 9, 16]


def test_jitter_spreads_tasks_and_failures():
    backoff = Exponential(base_ns=100 * S, factor=1.0, cap_ns=100 * S, jitter=1.0)

    waits_ns = [lifecycle.backoff_ns(backoff, task_id, n) for task_id in range(100) for n in range(1, 11)]

    assert len(set(waits_ns)) > 990
    assert 45 * S < sum(waits_ns) / len(waits_ns) < 55 * S


@pytest.mark.parametrize("backoff", [Exponential(factor=1e300), Polynomial(exponent=1e300, jitter=0.0)])
def test_a_backoff_beyond_all_numbers_is_the_longest_there_is(backoff: Exponential | Polynomial):
    cap_ns = backoff.cap_ns if isinstance(backoff, Exponential) else limits.DELAY_NS_MAX

    waits_ns = lifecycle.backoff_ns(backoff, 1, 1000)

    assert cap_ns * 0.7 < waits_ns <= cap_ns


# --- what follows a failure ---


def _after(**changes: object) -> AfterFailure:
    plain = {
        "task_id": 1,
        "failures": 1,
        "retry": ResolvedRetry(3, Intervals((5 * S,)), 12),
        "now_wall": NOW,
        "expires_at": 0,
        "cancel_requested": False,
    }
    return lifecycle.after_failure(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, AfterFailure(State.SCHEDULED, NOW + 5 * S, "")),
        ({"delay_ns": 2 * S}, AfterFailure(State.SCHEDULED, NOW + 2 * S, "")),
        ({"delay_ns": 0}, AfterFailure(State.READY, NOW, "")),
        ({"retry": ResolvedRetry(3, Intervals((0,)), 12)}, AfterFailure(State.READY, NOW, "")),
        ({"failures": 2}, AfterFailure(State.SCHEDULED, NOW + 5 * S, "")),
        ({"failures": 3}, AfterFailure(State.DEAD, 0, "max_attempts")),
        ({"failures": 4}, AfterFailure(State.DEAD, 0, "max_attempts")),
        ({"may_retry": False}, AfterFailure(State.DEAD, 0, "no_retry")),
        ({"expires_at": NOW + 5 * S}, AfterFailure(State.DEAD, 0, "would_expire")),
        ({"expires_at": NOW + 5 * S + 1000}, AfterFailure(State.SCHEDULED, NOW + 5 * S, "")),
        ({"expires_at": NOW - S, "delay_ns": 0}, AfterFailure(State.DEAD, 0, "would_expire")),
        ({"cancel_requested": True, "failures": 3}, AfterFailure(State.CANCELLED, 0, "cancelled")),
        ({"cancel_requested": True, "may_retry": False}, AfterFailure(State.CANCELLED, 0, "cancelled")),
    ],
)
def test_what_becomes_of_a_failed_attempt(changes: dict[str, object], expected: AfterFailure):
    assert _after(**changes) == expected


@given(st.sampled_from(State), st.integers(0, 50), st.integers(1, 20))
def test_attempts_count_the_running_one_and_never_exceed_the_maximum(state: State, failed: int, max_attempts: int):
    shown = lifecycle.attempts(state, failed, max_attempts)

    assert shown <= max_attempts
    assert shown == min(failed + 1 if state is State.RUNNING else failed, max_attempts)


# --- who decides ---


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((), (limits.ATTEMPTS_DEFAULT, Exponential(), limits.ATTEMPTS_DEFAULT * 4)),
        ((None, None), (limits.ATTEMPTS_DEFAULT, Exponential(), limits.ATTEMPTS_DEFAULT * 4)),
        ((RetryStrategy(max_attempts=2), RetryStrategy(max_attempts=9)), (2, Exponential(), 8)),
        ((None, RetryStrategy(max_attempts=9)), (9, Exponential(), 36)),
        ((RetryStrategy(backoff=Intervals((S, S))),), (3, Intervals((S, S)), 12)),
        ((RetryStrategy(max_attempts=9, backoff=Intervals((S, S))),), (9, Intervals((S, S)), 36)),
        ((RetryStrategy(max_attempts=2), RetryStrategy(backoff=Intervals((S,)))), (2, Intervals((S,)), 8)),
        ((RetryStrategy(backoff=Intervals((S,))), RetryStrategy(max_attempts=7)), (2, Intervals((S,)), 8)),
        ((RetryStrategy(backoff=Polynomial()), RetryStrategy(max_attempts=7)), (7, Polynomial(), 28)),
        (
            (RetryStrategy(max_deliveries=3), RetryStrategy(max_deliveries=5)),
            (limits.ATTEMPTS_DEFAULT, Exponential(), 3),
        ),
    ],
)
def test_each_part_of_a_retry_strategy_is_that_of_the_first_level_that_says_it(
    levels: tuple[RetryStrategy | None, ...], expected: tuple[object, ...]
):
    assert tuple(lifecycle.resolve_retry(*levels)) == expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((), 60 * S), ((0, 0, 0), 60 * S), ((0, 5, 7), 5), ((3, 5, 7), 3), ((0, 0, 7), 7)],
)
def test_the_length_of_a_lease_is_that_of_the_first_level_that_says_it(levels: tuple[int, ...], expected: int):
    assert lifecycle.resolve_keepalive(*levels) == expected


@pytest.mark.parametrize(
    ("state", "has_result", "levels", "expected"),
    [
        (State.SUCCEEDED, False, (), 0),
        (State.SUCCEEDED, True, (None, None), limits.HOUR_NS),
        (State.DEAD, False, (), 30 * limits.DAY_NS),
        (State.CANCELLED, False, (), limits.HOUR_NS),
        (State.SUCCEEDED, True, (Keep(succeeded_ns=0), Keep(succeeded_ns=5)), 0),
        (State.SUCCEEDED, False, (Keep(dead_ns=3), Keep(succeeded_ns=5)), 5),
        (State.DEAD, True, (Keep(succeeded_ns=3), Keep(cancelled_ns=5)), 30 * limits.DAY_NS),
        (State.CANCELLED, True, (None, Keep(cancelled_ns=5)), 5),
    ],
)
def test_how_long_an_ended_task_is_kept(state: State, has_result: bool, levels: tuple[Keep | None, ...], expected: int):
    assert lifecycle.resolve_keep(state, has_result, *levels) == expected


RULES = Dedupe(scope=Scope.GLOBAL, until=Until.TTL, ttl_ns=9, on_duplicate=OnDuplicate.REJECT)
OVERWRITING = Dedupe(on_duplicate=OnDuplicate.OVERWRITE, overwrite=("payload",))
SKIP, OVERWRITE = OnDuplicate.SKIP, OnDuplicate.OVERWRITE


@pytest.mark.parametrize(
    ("said", "base", "expected"),
    [
        (Dedupe(key="k"), None, (Scope.QUEUE, Until.FINISHED, 0, SKIP, ())),
        (Dedupe(key="k"), RULES, (Scope.GLOBAL, Until.TTL, 9, OnDuplicate.REJECT, ())),
        (Dedupe(key="k", ttl_ns=4), RULES, (Scope.GLOBAL, Until.TTL, 4, OnDuplicate.REJECT, ())),
        (Dedupe(key="k", until=Until.STARTED), RULES, (Scope.GLOBAL, Until.STARTED, 0, OnDuplicate.REJECT, ())),
        (Dedupe(key="k", scope=Scope.TYPE, on_duplicate=SKIP), RULES, (Scope.TYPE, Until.TTL, 9, SKIP, ())),
        (Dedupe(key="k", overwrite=("type",)), RULES, (Scope.GLOBAL, Until.TTL, 9, OVERWRITE, ("type",))),
        (Dedupe(key="k"), OVERWRITING, (Scope.QUEUE, Until.FINISHED, 0, OVERWRITE, ("payload",))),
        (Dedupe(key="k", overwrite=("type",)), OVERWRITING, (Scope.QUEUE, Until.FINISHED, 0, OVERWRITE, ("type",))),
        (Dedupe(key="k", on_duplicate=SKIP), OVERWRITING, (Scope.QUEUE, Until.FINISHED, 0, SKIP, ())),
    ],
)
def test_a_dedupe_rule_is_the_entrys_else_the_queues(said: Dedupe, base: Dedupe | None, expected: tuple[Any, ...]):
    rule = lifecycle.resolve_dedupe(Entry(options=Options(dedupe=said)), QueueSettings(dedupe=base))

    assert rule == ResolvedDedupe("k", *expected)


@pytest.mark.parametrize("said", [None, Dedupe(), Dedupe(key="", scope=Scope.GLOBAL)])
def test_an_empty_key_is_no_key(said: Dedupe | None):
    assert lifecycle.resolve_dedupe(Entry(options=Options(dedupe=said)), QueueSettings(dedupe=RULES)) is None


# --- times ---

instants = st.just(0) | st.integers(NOW - limits.DAY_NS, NOW + limits.DAY_NS)
durations = st.just(0) | st.integers(1, limits.DAY_NS)


@given(instants, instants, durations)
def test_a_task_never_starts_in_the_past_and_ends_after_it_starts(scheduled_at: int, expires_at: int, by_queue: int):
    given_entry = Entry(scheduled_at=scheduled_at, expires_at=expires_at)
    settings = QueueSettings(expires_in_ns=by_queue)

    try:
        start, end = lifecycle.resolve_times(given_entry, settings, NOW)
    except ExpiresTooEarly:
        assert 0 < expires_at <= max(scheduled_at, NOW)
        return

    assert start == max(scheduled_at, NOW)
    assert end == (expires_at or (start + by_queue if by_queue else 0))
    assert not end or end > start


@given(durations, durations)
def test_durations_count_from_the_moment_of_the_call(delay_ns: int, expires_in_ns: int):
    given_entry = Entry(delay_ns=delay_ns, expires_in_ns=expires_in_ns)

    try:
        start, end = lifecycle.resolve_times(given_entry, DEFAULT_SETTINGS, NOW)
    except ExpiresTooEarly:
        assert 0 < expires_in_ns <= delay_ns
        return

    assert (start, end) == (NOW + delay_ns, NOW + expires_in_ns if expires_in_ns else 0)


# --- the table of moves ---


def test_waiting_running_and_ended_are_all_states():
    assert {*WAITING, State.RUNNING, *ENDED} == set(State)


def test_every_state_can_be_reached_and_left():
    entered = {after for ends in lifecycle.MOVES.values() for after in ends}
    left = {before for before, _ in lifecycle.MOVES}

    assert entered == left == {*State, None}


def test_what_is_removed_can_only_be_enqueued():
    assert {event for before, event in lifecycle.MOVES if before is None} == {Event.ENQUEUE}


def test_a_success_is_final():
    leaving = {event for before, event in lifecycle.MOVES if before is State.SUCCEEDED}

    assert leaving == {Event.DELETE, Event.PRUNE}


@pytest.fixture(params=FACTORIES)
def q(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    store = FACTORIES[request.param](tmp_path / "store")
    yield Driver(store, ManualClock())
    assert store.check() == []
    store.close()


def _report(status: Status) -> Callable[[Task], Op]:
    return lambda task: Report((Completion(task.id, task.deliveries, status),))


DOING: dict[Event, Callable[[Task], Op]] = {
    Event.PROMOTE: lambda task: Promote(),
    Event.CLAIM: lambda task: Claim(("default",)),
    Event.SUCCEED: _report(Status.SUCCEEDED),
    Event.FAIL: _report(Status.FAILED),
    Event.RELEASE: _report(Status.RELEASED),
    Event.LAPSE: lambda task: Lapse(),
    Event.CANCEL: lambda task: Cancel((task.id,)),
    Event.EDIT: lambda task: Edit(task.id, entry(payload=b"2"), ("payload",)),
    Event.RETRY: lambda task: Retry((task.id,)),
    Event.EXPIRE: lambda task: Expire(),
    Event.DELETE: lambda task: Delete((task.id,)),
    Event.PRUNE: lambda task: Prune(),
}
WAITS_S = {Event.PROMOTE: 100, Event.LAPSE: 100, Event.EXPIRE: 2_000, Event.PRUNE: 2 * 86_400}


def test_every_event_but_enqueue_is_done_below():
    assert DOING.keys() == set(Event) - {Event.ENQUEUE}


@pytest.mark.parametrize("event", DOING)
@pytest.mark.parametrize("state", list(State))
def test_a_store_makes_exactly_the_moves_of_the_table(q: Driver, state: State, event: Event):
    task_id = bring(q, state, expires_in_ns=1_000 * S, keep=KEEP_ALL)
    q.clock.advance(WAITS_S.get(event, 0))
    before = q.task(task_id)

    q.do(DOING[event](before))

    after = q.state(task_id)
    moved_to = None if after is Outcome.GONE else after
    if lifecycle.may(state, event):
        assert moved_to in lifecycle.MOVES[state, event]
        assert q.store.task(task_id, q.clock) != before
    else:
        assert q.store.task(task_id, q.clock) == before
