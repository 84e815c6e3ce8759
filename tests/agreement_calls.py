"""Random calls for the agreement machine, drawn from small alphabets so that tasks, keys and queues collide.

Calls are drawn before anybody knows an id, so ids in them are symbols: n >= 0 is the task given n-th last, -1 an id
that was never given; in a Completion or an Extension n is the lease handed out n-th last, and its ``delivery`` is added
to the real one (0: that lease, -1: the one before). ``resolve`` puts the real ones in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.model import (
    DEFAULT_SETTINGS,
    NEW_SET,
    OVERWRITABLE,
    Call,
    Cancel,
    CatchUp,
    Claim,
    Completion,
    Condition,
    DaemonStart,
    Dedupe,
    Delete,
    Edit,
    Encoding,
    Enqueue,
    Entry,
    ErrorInfo,
    Expire,
    Exponential,
    Extend,
    Extension,
    Filter,
    Fire,
    Fold,
    GroupDelete,
    GroupPatch,
    GroupPut,
    GroupRule,
    GroupSettings,
    Intervals,
    Keep,
    Lapse,
    Memo,
    OnDuplicate,
    Op,
    Options,
    Order,
    Polynomial,
    Promote,
    Prune,
    Purge,
    QueueDelete,
    QueuePatch,
    QueuePut,
    QueueSettings,
    Rate,
    Refill,
    Report,
    Retry,
    RetryStrategy,
    RuleDelete,
    RulePut,
    Schedule,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    Scope,
    SetClose,
    SetDelete,
    SetMake,
    State,
    Status,
    TaskSet,
    TypePut,
    TypeSettings,
    UniformEntries,
    Until,
)

S = limits.SECOND_NS
START = ManualClock().wall_ns()
STRICT_KEY = "strict"  # always taken with the same rule, so that at most one waiting or running task can have it

GROUPS = ["g", "g", "g:1", "g:2", "h"]
QUEUES = st.sampled_from(["a", "a", "b", "a.x"])
ANY_QUEUE = st.sampled_from(["a", "a", "b", "a.x", "nowhere"])
TYPES = st.sampled_from(["t", "t", "u"])
SOON = st.sampled_from([0, 0, S, 3 * S, 60 * S])
FIELDS = st.lists(st.sampled_from(OVERWRITABLE), unique=True, max_size=4).map(tuple)


def weighted(*kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return one of ``kinds``, each as often as it is named (``one_of`` would count equal ones once)."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> Any:
        return draw(kinds[draw(st.integers(0, len(kinds) - 1))])

    return draw_one()


backoffs = st.sampled_from(
    [Intervals((0,)), Intervals((S, 5 * S)), Exponential(base_ns=S, cap_ns=3 * S, jitter=1.0), Polynomial(1.5, S, 0.0)]
)
retries = st.none() | st.builds(
    RetryStrategy,
    max_attempts=st.sampled_from([0, 1, 2, 3]),
    backoff=st.none() | backoffs,
    max_deliveries=st.sampled_from([0, 0, 1, 2]),
)
KEPT = st.sampled_from([None, 0, S, limits.HOUR_NS])
keeps = st.none() | st.builds(Keep, succeeded_ns=KEPT, dead_ns=KEPT, cancelled_ns=KEPT)
FOLDS = weighted(st.none(), st.none(), st.sampled_from(Fold))
strict_rules = st.builds(
    Dedupe,
    key=st.just(STRICT_KEY),
    scope=st.just(Scope.QUEUE),
    until=st.just(Until.FINISHED),
    on_duplicate=st.sampled_from([OnDuplicate.SKIP, OnDuplicate.OVERWRITE, OnDuplicate.OVERWRITE, OnDuplicate.REJECT]),
    overwrite=FIELDS,
    fold=FOLDS,
    max_wait_ns=st.sampled_from([0, 0, 2 * S]),
)
free_rules = st.builds(
    Dedupe,
    key=st.sampled_from(["k", "k", "k", "l" * 256, ""]),
    scope=st.sampled_from([None, None, None, *Scope]),
    until=st.sampled_from([None, None, *Until]),
    ttl_ns=st.sampled_from([0, 0, 0, 2 * S, 60 * S]),
    on_duplicate=st.sampled_from([None, None, None, *OnDuplicate]),
    overwrite=st.just(()) | FIELDS,
    fold=FOLDS,
    fold_max=st.sampled_from([0, 2]),
    max_wait_ns=st.sampled_from([0, 0, 0, 2 * S]),
)
templates = st.builds(  # of what follows a death
    Entry,
    payload=st.sampled_from([b"null", b"5"]),
    queue=st.sampled_from(["", "b"]),
    type=st.sampled_from(["t", "follows"]),
    priority=st.sampled_from([0, -1]),
    delay_ns=SOON,
    expires_in_ns=st.sampled_from([0, 0, 90 * S, 1000]),
    options=st.builds(Options, dedupe=weighted(st.none(), strict_rules), keep=keeps),
).filter(lambda one: not one.expires_in_ns or one.delay_ns < one.expires_in_ns)  # as the API has it
options = st.builds(
    Options,
    keepalive_ns=st.sampled_from([0, S, 4 * S]),
    retry=retries,
    keep=keeps,
    dedupe=weighted(st.none(), strict_rules, strict_rules, free_rules, free_rules),
    tags=st.sampled_from([(), ("x",), ("x", "ÿ")]),
    metadata=st.sampled_from([b"", b'{"m":1}']),
    on_dead=weighted(st.none(), st.none(), st.none(), templates),
    external_id=st.sampled_from(["", "", "", "", "e1", "e2"]),
)


@st.composite
def laned(draw: st.DrawFn, given: st.SearchStrategy[Options]) -> Options:
    """Return options with a thread or a group."""
    lane = draw(st.sampled_from([{"thread": "x"}, {"thread": "x"}, {"thread": "y"}, *({"group": g} for g in GROUPS)]))
    return replace(draw(given), rejoin="thread" in lane and draw(st.sampled_from([False, False, True])), **lane)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Return an entry; its start and its end are given as instants or as durations, or not at all."""
    start = draw(st.sampled_from(["", "", "", "", "scheduled_at", "delay_ns"]))
    end = draw(st.sampled_from(["", "", "", "", "expires_at", "expires_in_ns", "expires_in_ns"]))
    times: dict[str, int] = {}
    if start:
        times[start] = draw(SOON) + (START if start == "scheduled_at" else 0)
    if end:
        times[end] = draw(st.sampled_from([S, 4 * S, 4 * S, 90 * S])) + (START if end == "expires_at" else 0)
    return Entry(
        payload=draw(st.sampled_from([b"", b"1", b"22", b"\x00\xff" * 20])),
        queue=draw(QUEUES),
        type=draw(TYPES),
        encoding=draw(st.sampled_from(Encoding)),
        priority=draw(st.sampled_from([0, 0, 0, -1, 7])),
        options=draw(weighted(st.just(Options()), options, options, laned(st.just(Options())), laned(options))),
        **times,
    )


settings = st.builds(
    QueueSettings,
    paused=st.sampled_from([False, False, False, True]),
    max_running=st.sampled_from([0, 0, 1, 3]),
    keepalive_ns=st.sampled_from([0, 2 * S]),
    expires_in_ns=st.sampled_from([0, 0, 5 * S]),
    retry=retries,
    keep=keeps,
    dedupe=st.none() | free_rules.map(lambda rule: replace(rule, key="")),
    rate=st.sampled_from([None, None, None, Rate(1, S), Rate(3, 2 * S, 2), Rate(7, 60 * S)]),
    weight=st.sampled_from([0, 0, 1, 3]),
    order=st.sampled_from([Order.STRICT, Order.FAIR, Order.AGEING]),
    ageing_ns=st.sampled_from([0, S]),
    max_dead=st.sampled_from([0, 0, 1, 3]),
    priority=st.sampled_from([0, 0, -1, 2]),
    on_dead=weighted(st.none(), st.none(), templates),
)

type_settings = st.builds(
    TypeSettings,
    keepalive_ns=st.sampled_from([0, 3 * S]),
    expires_in_ns=st.sampled_from([0, 0, 6 * S]),
    retry=retries,
    keep=keeps,
    dedupe=st.none() | free_rules.map(lambda rule: replace(rule, key="")),
)
type_changes = st.builds(
    TypePut, TYPES | st.just("yet unknown"), st.just(TypeSettings()) | type_settings, st.sampled_from([b"", b"{}"])
)

IDS = st.lists(st.sampled_from([*range(10), -1]), min_size=1, max_size=3).map(tuple)
LEASES = st.sampled_from([0, 0, 1, 2, 3, 4, -1])
DELIVERIES = st.sampled_from([0, 0, 0, 0, -1, 1])
LIMITS = st.sampled_from([1000, 1000, 1, 2])


def _between(low: int, high: int) -> st.SearchStrategy[tuple[int, int] | None]:
    ends = st.integers(low, high)
    return weighted(st.none(), st.none(), st.none(), st.tuples(ends, ends))


SPANS = weighted(
    st.none(),
    st.none(),
    st.none(),
    st.tuples(st.sampled_from([0, START, START + 2 * S]), st.sampled_from([START + S, START + 90 * S, 1 << 62])),
)
filters = st.builds(
    Filter,
    queue=st.sampled_from(["", "a", "b", "nowhere"]),
    type=st.sampled_from(["", "", "t", "u"]),
    states=st.lists(st.sampled_from(State), unique=True, max_size=3).map(tuple),
    tag=st.sampled_from(["", "", "x", "ÿ"]),
    dedupe_key=st.sampled_from(["", "", "", "k", STRICT_KEY, "u3"]),
    thread=st.sampled_from(["", "", "", "x"]),
    group=st.sampled_from(["", "", "", "g"]),
    external_id=st.sampled_from(["", "", "", "", "e1"]),
    reason=st.sampled_from(["", "", "", "max_attempts", "cancelled"]),
    priority=_between(-2, 8),
    attempts=_between(0, 3),
    created=SPANS,
    scheduled=SPANS,
    ended=SPANS,
)
wheres = weighted(st.just(Filter()), filters)
enqueues = st.builds(
    Enqueue,
    st.lists(entries(), min_size=1, max_size=5),
    st.sampled_from([True] * 7 + [False]),
)
plain_enqueues = st.builds(lambda number: Enqueue([Entry(queue="a")] * number), st.integers(1, 12))
uniform_enqueues = st.builds(  # with keys: enough for the short way, of which a few may be held
    lambda number, first: Enqueue(
        UniformEntries(
            [b"%d" % (each % 3) for each in range(number)],
            "a",
            keys=[] if first is None else [f"u{each}" for each in range(first, first + number)],
        )
    ),
    st.integers(1, 10),
    st.none() | st.integers(0, 60),
)
duplicates = st.builds(
    Enqueue,
    st.lists(
        st.builds(
            Entry,
            queue=st.just("a"),
            payload=st.sampled_from([b"1", b"22"]),
            priority=st.sampled_from([0, 3]),
            delay_ns=SOON,
            expires_in_ns=st.sampled_from([0, 0, 90 * S]),
            options=st.builds(Options, dedupe=strict_rules | free_rules, tags=st.sampled_from([(), ("x",)])),
        ),
        min_size=1,
        max_size=4,
    ),
)
claims = st.builds(
    Claim,
    queues=st.lists(ANY_QUEUE, min_size=1, max_size=3).map(tuple),
    types=st.sampled_from([(), (), (), ("t",), ("u", "t"), ("unknown",)]),
    limit=st.sampled_from([1, 2, 3, 50]),
    keepalive_ns=st.sampled_from([0, 0, S]),
    claim_id=st.sampled_from(["", "", "c", "d"]),
    bytes_max=st.sampled_from([limits.CLAIM_BYTES_MAX] * 3 + [3, 0]),
)
completions = st.builds(
    Completion,
    id=LEASES,
    delivery=DELIVERIES,
    status=st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.RELEASED]),
    result=st.sampled_from([None, b"7"]),
    result_encoding=st.sampled_from(Encoding),
    error=st.sampled_from([None, ErrorInfo("m", "T", "b")]),
    delay_ns=st.sampled_from([None, None, None, 0, 2 * S]),
    retry=st.sampled_from([True, True, True, False]),
)
extensions = st.builds(
    Extension,
    id=LEASES,
    delivery=DELIVERIES,
    keepalive_ns=st.sampled_from([0, S, 9 * S]),
    progress=st.sampled_from([None, 0.5]),
)
setting_fields = st.lists(st.sampled_from(DEFAULT_SETTINGS.__struct_fields__), unique=True, max_size=3).map(tuple)
changes = st.one_of(
    st.builds(Cancel, IDS, wheres),
    st.builds(Edit, st.integers(0, 9), entries(), FIELDS, wheres),
    st.builds(Delete, IDS, wheres),
    st.builds(Retry, IDS, st.sampled_from(["", "", "a", "b", "nowhere"]), wheres),
)
sweeps = st.one_of(
    st.builds(Promote, LIMITS), st.builds(Lapse, LIMITS), st.builds(Expire, LIMITS), st.just(Prune()),
    st.just(DaemonStart()),
)  # fmt: skip
queue_settings = st.one_of(
    st.builds(QueuePut, QUEUES, settings), st.builds(QueuePatch, QUEUES, settings, setting_fields)
)
SCHEDULES = st.sampled_from(["s", "s", "v"])
schedules = st.builds(
    Schedule,
    cron=st.sampled_from(["* * * * * *", "*/20 * * * * *", "* * * * *", "0 * * * *", "0 2 * * *", "bad"]),
    entry=st.builds(
        Entry,
        queue=QUEUES,
        type=TYPES,
        delay_ns=SOON,
        options=st.builds(Options, dedupe=weighted(st.none(), strict_rules, free_rules)),
    ),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Mars/Phobos"]),
    catch_up=st.sampled_from(CatchUp),
    paused=st.sampled_from([False, False, True]),
)
schedule_fields = st.lists(st.sampled_from(Schedule.__struct_fields__), unique=True, max_size=3).map(tuple)
schedule_changes = weighted(
    *[st.builds(SchedulePut, SCHEDULES, schedules, st.booleans(), st.sampled_from([True, True, False]))] * 3,
    st.builds(SchedulePatch, SCHEDULES, schedules, schedule_fields),
    st.builds(ScheduleDelete, SCHEDULES),
)
fires = st.builds(Fire, st.sampled_from([32, 32, 1, 3]))
rates = st.none() | st.builds(
    Rate,
    tokens=st.sampled_from([1, 2, 3]),
    period_ns=st.sampled_from([S, 7 * S, 60 * S]),
    burst=st.sampled_from([0, 0, 1, 5]),
)
group_settings = st.builds(
    GroupSettings,
    paused=st.sampled_from([False, False, False, True]),
    max_running=st.sampled_from([None, None, 0, 1, 2]),
    rate=rates,
    weight=st.sampled_from([0, 0, 1, 3]),
)
group_names = st.sampled_from(GROUPS)
group_enqueues = st.builds(
    lambda queue, made: Enqueue([Entry(queue=queue, type=t, priority=p, options=Options(group=g)) for t, p, g in made]),
    QUEUES,
    st.lists(st.tuples(TYPES, st.sampled_from([0, 0, 0, 4]), st.sampled_from([*GROUPS, ""])), min_size=2, max_size=9),
)
patterns = st.sampled_from(["g*", "g:*", "?", "h", "never"])
group_fields = st.lists(st.sampled_from(GroupSettings.__struct_fields__), unique=True, max_size=3).map(tuple)
group_changes: st.SearchStrategy[Op] = st.one_of(
    st.builds(GroupPut, group_names, group_settings),
    st.builds(GroupPatch, group_names, group_settings, group_fields),
    st.builds(GroupDelete, group_names),
    st.builds(RulePut, st.builds(GroupRule, patterns, group_settings, st.sampled_from([0, 0, 1]))),
    st.builds(RuleDelete, patterns),
    st.just(Refill()),
)
lane_enqueues = st.builds(
    lambda queue, made: Enqueue([Entry(queue=queue, type=each[0], priority=each[1], options=each[2]) for each in made]),
    QUEUES,
    st.lists(
        st.tuples(TYPES, st.sampled_from([0, 0, 4]), laned(st.builds(Options, retry=retries))), min_size=1, max_size=5
    ),
)
SETS = st.sampled_from([1, 1, 1, 2, 3])  # symbols: the set that was made n-th last
SOME_SETS = st.sampled_from([1, 1, 2, 3, 9])
followers = st.none() | st.builds(  # of sets; nothing of it overwrites another task
    Entry,
    payload=st.sampled_from([b"null", b"5"]),
    queue=st.sampled_from(["a", "b"]),
    type=st.sampled_from(["t", "follows"]),
    delay_ns=SOON,
    options=st.sampled_from(
        [Options(), Options(), Options(dedupe=Dedupe(STRICT_KEY, Scope.QUEUE, Until.FINISHED, 0, OnDuplicate.REJECT))]
    ),
)
task_sets = st.builds(
    TaskSet,
    condition=st.sampled_from(Condition),
    callback=followers,
    on_unmet=followers,
    keep_ns=st.sampled_from([0, S, limits.DAY_NS]),
)


@st.composite
def members(draw: st.DrawFn, sets: st.SearchStrategy[int]) -> Enqueue:
    """Return an Enqueue of members of a set, of a few others, perhaps with the lease of a task that runs."""
    made = draw(st.lists(entries(), min_size=1, max_size=3))
    named = [draw(st.sampled_from([0, 1, 1, 1])) and draw(sets) for _ in made]
    lease = draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (2, 0), (1, 1)]))
    joined = [
        replace(one, options=replace(one.options, set_id=set_id)) for one, set_id in zip(made, named, strict=True)
    ]
    return Enqueue(joined, lease=lease)


whole_sets = st.builds(
    lambda task_set, enqueue, closed: (SetMake(task_set), enqueue, SetClose(NEW_SET))[: 3 if closed else 2],
    task_sets,
    members(st.just(NEW_SET)),
    st.booleans(),
)
set_changes = weighted(
    *[st.builds(SetClose, SETS)] * 3,
    st.builds(SetMake, task_sets),
    st.builds(SetDelete, SOME_SETS),
    st.builds(SetClose, SOME_SETS),
)
removals = st.one_of(st.builds(Purge, ANY_QUEUE), st.builds(QueueDelete, ANY_QUEUE))
reports = st.builds(Report, st.lists(completions, min_size=1, max_size=3))
heartbeats = st.builds(Extend, st.lists(extensions, min_size=1, max_size=2).map(tuple))
_edits = (
    changes,
    changes,
    heartbeats,
    sweeps,
    queue_settings,
    type_changes,
    group_changes,
    removals,
    schedule_changes,
    fires,
    set_changes,
    members(SETS),
)
ops: st.SearchStrategy[Op] = weighted(
    *[enqueues] * 4, *[claims] * 4, *[reports] * 3, plain_enqueues, uniform_enqueues, lane_enqueues, *_edits
)
memos = st.builds(
    Memo,
    key=st.sampled_from(["m", "n"]),
    body_hash=st.sampled_from([b"1", b"1", b"2"]),
    kept_ns=st.sampled_from([S, limits.HOUR_NS]),
)
calls = st.builds(
    Call,
    ops=st.one_of(st.tuples(ops), st.tuples(ops, ops), st.tuples(ops, ops, ops), whole_sets),
    memo=weighted(st.none(), st.none(), memos),
)
# --- symbols ---


def resolve(call: Call, ids: Sequence[int], leases: Sequence[tuple[int, int]], sets: Sequence[int]) -> Call:
    """Return ``call`` with real ids and deliveries; ``ids``, ``leases`` and ``sets`` are those given so far, newest
    last."""
    return replace(call, ops=tuple(_resolve_set(_resolve_op(op, ids, leases), leases, sets) for op in call.ops))


def _real_set(symbol: int, sets: Sequence[int]) -> int:
    return symbol if symbol <= 0 else sets[-symbol] if symbol <= len(sets) else 3


def _resolve_set(op: Op, leases: Sequence[tuple[int, int]], sets: Sequence[int]) -> Op:
    if isinstance(op, SetClose | SetDelete):
        return replace(op, id=_real_set(op.id, sets))
    if not isinstance(op, Enqueue) or isinstance(op.entries, UniformEntries):
        return op
    named = [
        replace(one, options=replace(one.options, set_id=_real_set(one.options.set_id, sets)))
        if one.options.set_id
        else one
        for one in op.entries
    ]
    symbol, delivery = op.lease
    return replace(op, entries=named, lease=_real_lease(symbol - 1, delivery, leases) if symbol else (0, 0))


def _real_id(symbol: int, ids: Sequence[int]) -> int:
    if symbol < 0 or not ids:
        return max(ids, default=1 << 40) + 1_000_000
    return ids[-1 - symbol % len(ids)]


def _real_lease(symbol: int, delivery: int, leases: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if symbol < 0 or not leases:
        return 7, 1
    task_id, real = leases[-1 - symbol % len(leases)]
    return task_id, max(real + delivery, 0)


def _resolve_op(op: Op, ids: Sequence[int], leases: Sequence[tuple[int, int]]) -> Op:
    if isinstance(op, Cancel | Delete | Retry):
        return replace(op, ids=tuple(_real_id(symbol, ids) for symbol in op.ids))
    if isinstance(op, Edit):
        return replace(op, id=_real_id(op.id, ids))
    if isinstance(op, Report):
        pairs = [_real_lease(said.id, said.delivery, leases) for said in op.completions]
        said_all = zip(op.completions, pairs, strict=True)
        return Report([replace(said, id=task_id, delivery=delivery) for said, (task_id, delivery) in said_all])
    if isinstance(op, Extend):
        pairs = [_real_lease(said.id, said.delivery, leases) for said in op.extensions]
        said_too = zip(op.extensions, pairs, strict=True)
        return Extend(tuple(replace(said, id=task_id, delivery=delivery) for said, (task_id, delivery) in said_too))
    return op
