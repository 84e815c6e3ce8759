"""The life of a task: one table, and the pure rules that choose among its moves.

                 enqueue                    claim
    (nothing) ------------> SCHEDULED --> READY --------> RUNNING ---report succeeded---> SUCCEEDED (or removed)
                            ^  promote     ^  ^              |
                            |              |  '--released----+---failed, attempts left--> SCHEDULED (backoff)
                            '--edit--------'                 +---failed for the last time, max_deliveries--> DEAD
                                                             '---failed after a cancel was asked for--> CANCELLED
    cancel: SCHEDULED, READY -> CANCELLED.  retry by hand: DEAD, CANCELLED -> READY.
    expire: SCHEDULED, READY -> removed.   delete, purge: any -> removed.  prune: SUCCEEDED, DEAD, CANCELLED -> removed.

A move that is not in ``MOVES`` does not exist: an op that meets such a state answers a conflict and changes nothing.
``None`` stands for "not stored". Every function here is pure, so that all stores and all tests agree on it.
"""

from __future__ import annotations

import hashlib
from enum import Enum, auto
from typing import Final, NamedTuple

from lmdbq import limits
from lmdbq.model import (
    Backoff,
    Entry,
    Exponential,
    Fold,
    Intervals,
    Keep,
    OnDuplicate,
    Order,
    Problem,
    QueueSettings,
    RetryStrategy,
    Scope,
    State,
    Until,
)


class Event(Enum):
    """What can happen to a task."""

    ENQUEUE = auto()
    PROMOTE = auto()
    CLAIM = auto()
    SUCCEED = auto()
    FAIL = auto()
    RELEASE = auto()
    LAPSE = auto()
    CANCEL = auto()
    EDIT = auto()
    RETRY = auto()
    EXPIRE = auto()
    DELETE = auto()
    PRUNE = auto()


_S, _R, _X = State.SCHEDULED, State.READY, State.RUNNING
_OK, _DEAD, _CAN = State.SUCCEEDED, State.DEAD, State.CANCELLED
_AFTER_FAILURE: Final = frozenset({_S, _R, _DEAD, _CAN, None})

MOVES: Final[dict[tuple[State | None, Event], frozenset[State | None]]] = {
    (None, Event.ENQUEUE): frozenset({_S, _R}),
    (_S, Event.PROMOTE): frozenset({_R}),
    (_R, Event.CLAIM): frozenset({_X, _DEAD, None}),  # DEAD: max_deliveries; None: it had expired, or is not kept
    (_X, Event.SUCCEED): frozenset({_OK, None}),
    (_X, Event.FAIL): _AFTER_FAILURE,
    (_X, Event.LAPSE): _AFTER_FAILURE,
    (_X, Event.RELEASE): frozenset({_S, _R, _CAN, None}),
    (_S, Event.CANCEL): frozenset({_CAN, None}),
    (_R, Event.CANCEL): frozenset({_CAN, None}),
    (_X, Event.CANCEL): frozenset({_X}),
    (_S, Event.EDIT): frozenset({_S, _R}),
    (_R, Event.EDIT): frozenset({_S, _R}),
    (_DEAD, Event.RETRY): frozenset({_R}),
    (_CAN, Event.RETRY): frozenset({_R}),
    (_S, Event.EXPIRE): frozenset({None}),
    (_R, Event.EXPIRE): frozenset({None}),
    **{(state, Event.DELETE): frozenset({None}) for state in State},
    **{(state, Event.PRUNE): frozenset({None}) for state in (_OK, _DEAD, _CAN)},
}


def may(state: State, event: Event) -> bool:
    """Whether ``event`` can happen to a task in ``state`` at all."""
    return (state, event) in MOVES


# --- times ---


def resolve_times(entry: Entry, settings: QueueSettings, now_wall: int) -> tuple[int, int]:
    """Return (scheduled_at, expires_at) as accepted at ``now_wall``; expires_at 0 = never.

    scheduled_at is max(given, now), or now + delay. expires_at is as given, or now + expires_in, or scheduled_at +
    the queue's expires_in. Raises ExpiresTooEarly if the entry itself asks for an end at or before its start.
    """
    scheduled_at = max(entry.scheduled_at, now_wall) if not entry.delay_ns else now_wall + entry.delay_ns
    expires_at = entry.expires_at or (now_wall + entry.expires_in_ns if entry.expires_in_ns else 0)
    if expires_at:
        if expires_at <= scheduled_at:
            raise ExpiresTooEarly
    elif settings.expires_in_ns:
        expires_at = scheduled_at + settings.expires_in_ns
    return scheduled_at, expires_at


class ExpiresTooEarly(Exception):
    """An entry would expire at or before the moment it may start; becomes the problem ``expires_too_early``."""


def expires_too_early(pointer: str) -> Problem:
    """Return the problem for an entry that raised ExpiresTooEarly; ``pointer`` is the entry's, e.g. /entries/3."""
    return Problem(
        code="expires_too_early",
        pointer=f"{pointer}/expires_at",
        detail="expires_at must be later than scheduled_at and than now; leave it out for a task that never expires",
    )


# --- retry and backoff ---


class ResolvedRetry(NamedTuple):
    """A retry strategy with nothing left open."""

    max_attempts: int
    backoff: Backoff
    max_deliveries: int


_BUILT_IN_BACKOFF: Final = Exponential()


def attempts_said(level: RetryStrategy) -> int:
    """Return the attempts that one level says, 0 if it leaves them open: N intervals mean N + 1."""
    if not level.max_attempts and isinstance(level.backoff, Intervals):
        return len(level.backoff.intervals_ns) + 1
    return level.max_attempts


def resolve_retry(*levels: RetryStrategy | None) -> ResolvedRetry:
    """Return the strategy that the levels (most specific first) and the built-in default give together.

    Each field comes from the first level that says it. A level with ``Intervals`` and no max_attempts says N + 1.
    max_deliveries defaults to 4 x max_attempts.
    """
    attempts = 0
    deliveries = 0
    backoff: Backoff | None = None
    for level in levels:
        if level is None:
            continue
        attempts = attempts or attempts_said(level)
        deliveries = deliveries or level.max_deliveries
        backoff = backoff or level.backoff
    attempts = attempts or limits.ATTEMPTS_DEFAULT
    return ResolvedRetry(
        attempts, backoff or _BUILT_IN_BACKOFF, deliveries or attempts * limits.DELIVERIES_PER_ATTEMPT_DEFAULT
    )


def backoff_ns(backoff: Backoff, task_id: int, failures: int) -> int:
    """Return how long (ns, whole microseconds) a task waits after its ``failures``-th failure (>= 1).

    Jitter only shortens: delay x (1 - jitter x u), u in [0, 1) from BLAKE2b of (task id, failures), so that a cap is
    never exceeded and every store computes the same. The result is at most limits.DELAY_NS_MAX.
    """
    if isinstance(backoff, Intervals):
        return backoff.intervals_ns[min(failures, len(backoff.intervals_ns)) - 1]
    longest = float(limits.DELAY_NS_MAX)
    try:
        if isinstance(backoff, Exponential):
            delay = min(backoff.base_ns * backoff.factor ** (failures - 1), float(backoff.cap_ns), longest)
        else:
            delay = min(backoff.base_ns * float(failures) ** backoff.exponent, longest)
    except OverflowError:
        delay = min(float(backoff.cap_ns), longest) if isinstance(backoff, Exponential) else longest
    seed = task_id.to_bytes(8, "big") + failures.to_bytes(4, "big")
    share = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big") / 2**64
    return int(delay * (1.0 - backoff.jitter * share)) // limits.US_NS * limits.US_NS


class AfterFailure(NamedTuple):
    """What follows a failure. due_at: when it is tried again (SCHEDULED, READY). reason: why it is DEAD, CANCELLED."""

    state: State
    due_at: int
    reason: str


def after_failure(
    *,
    task_id: int,
    failures: int,
    retry: ResolvedRetry,
    now_wall: int,
    expires_at: int,
    cancel_requested: bool,
    may_retry: bool = True,
    delay_ns: int | None = None,
) -> AfterFailure:
    """Return what becomes of a running task whose attempt failed or lapsed; ``failures`` includes this failure."""
    if cancel_requested:
        return AfterFailure(State.CANCELLED, 0, "cancelled")
    if not may_retry:
        return AfterFailure(State.DEAD, 0, "no_retry")
    if failures >= retry.max_attempts:
        return AfterFailure(State.DEAD, 0, "max_attempts")
    delay = backoff_ns(retry.backoff, task_id, failures) if delay_ns is None else delay_ns
    due_at = now_wall + delay
    if expires_at and due_at >= expires_at:
        return AfterFailure(State.DEAD, 0, "would_expire")
    return AfterFailure(State.SCHEDULED if delay else State.READY, due_at, "")


def attempts(state: State, failures: int, max_attempts: int) -> int:
    """Return how many attempts a task shows: its failures and the running one, never above max_attempts."""
    return min(failures + (state is State.RUNNING), max_attempts)


# --- order ---


def place_of(settings: QueueSettings, priority: int, rank: int) -> tuple[int, int]:
    """Return where a ready task stands among those of a claim, before its id: (priority, rank) as its queue orders.

    Where priorities age, a point of priority is worth a stretch of time: what waits for so much longer goes first.
    A queue whose order is fair has one task that is next; that one stands among those of other queues as in STRICT.

    >>> place_of(QueueSettings(order=Order.AGEING, ageing_ns=60), -2, 1_000)
    (0, 880)
    """
    if settings.order is Order.AGEING:
        return 0, rank + priority * (settings.ageing_ns or limits.AGEING_NS_DEFAULT)
    return priority, rank


# --- leases and retention ---


def resolve_keepalive(*levels_ns: int) -> int:
    """Return the length of a lease (ns): the first level that says one, else the built-in 60 s."""
    for level in levels_ns:
        if level:
            return level
    return limits.KEEPALIVE_NS_DEFAULT


def resolve_keep(state: State, has_result: bool, *levels: Keep | None) -> int:
    """Return how long (ns) a task that ended in ``state`` is kept; 0 = removed at once.

    A succeeded task is kept 0 s unless somebody says otherwise, and 1 h if it has a result;
    dead 30 days, cancelled 1 h.
    """
    for level in levels:
        if level is None:
            continue
        said = {
            State.SUCCEEDED: level.succeeded_ns,
            State.DEAD: level.dead_ns,
            State.CANCELLED: level.cancelled_ns,
        }[state]
        if said is not None:
            return said
    if state is State.SUCCEEDED:
        return limits.KEEP_RESULT_NS_DEFAULT if has_result else limits.KEEP_SUCCEEDED_NS_DEFAULT
    return limits.KEEP_DEAD_NS_DEFAULT if state is State.DEAD else limits.KEEP_CANCELLED_NS_DEFAULT


def ended_max(state: State, settings: QueueSettings) -> int:
    """Return how many tasks that ended in ``state`` a queue keeps."""
    return (settings.max_dead if state is State.DEAD else 0) or limits.ENDED_PER_QUEUE_MAX


# --- dedupe ---


class ResolvedDedupe(NamedTuple):
    """A dedupe rule with nothing left open."""

    key: str
    scope: Scope
    until: Until
    ttl_ns: int
    on_duplicate: OnDuplicate
    overwrite: tuple[str, ...]
    fold: Fold | None = None
    fold_max: int = 0
    max_wait_ns: int = 0


def resolve_dedupe(entry: Entry, settings: QueueSettings) -> ResolvedDedupe | None:
    """Return the dedupe rule of an entry: what it says, else its queue, else (queue, finished, skip). None = no key."""
    said = entry.options.dedupe
    if said is None or not said.key:
        return None
    base = settings.dedupe
    scope, until, on_duplicate = said.scope, said.until, said.on_duplicate
    ttl_ns, overwrite = said.ttl_ns, said.overwrite
    fold, fold_max = said.fold, said.fold_max
    if base is not None:
        scope = base.scope if scope is None else scope
        if until is None:
            until = base.until
            ttl_ns = ttl_ns or base.ttl_ns
        if on_duplicate is None and not overwrite and fold is None:
            on_duplicate, overwrite = base.on_duplicate, base.overwrite
            fold, fold_max = base.fold, base.fold_max
    if fold is not None and "payload" not in overwrite:
        overwrite = ("payload", *overwrite)
    if on_duplicate is None:
        on_duplicate = OnDuplicate.OVERWRITE if overwrite else OnDuplicate.SKIP
    if until is None:
        until = Until.FINISHED if fold is None else Until.STARTED
    return ResolvedDedupe(
        said.key,
        Scope.QUEUE if scope is None else scope,
        until,
        ttl_ns,
        on_duplicate,
        overwrite,
        fold,
        fold_max,
        said.max_wait_ns or (base.max_wait_ns if base is not None else 0),
    )
