"""The words of lmdbq: what a task, an op and an outcome are. Data only; no I/O, no clock, no store.

An *op* is one change. A *call* is one caller's ordered list of ops, and it commits whole or leaves no trace. A store
answers each call of ``apply`` with ``Done`` (one outcome per op) or ``Refused`` (why, and where). Everything here is
in engine units: instants are Unix nanoseconds (whole microseconds, 0 = not given), durations nanoseconds, payloads
bytes with the encoding they came in. ``wire.py`` translates from and to what travels over HTTP.

How the pieces fit:  Entry --Enqueue--> Task --Claim--> ClaimedTask --Report--> gone, scheduled again, or ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Final, overload

from msgspec import Raw, Struct

from lmdbq import limits


class State(IntEnum):
    """Where a task is in its life. The numbers are part of the file format."""

    SCHEDULED = 0
    READY = 1
    RUNNING = 2
    SUCCEEDED = 3
    DEAD = 4
    CANCELLED = 5

    @property
    def word(self) -> str:
        """The state's name on the wire and in the CLI."""
        return self.name.lower()


WAITING: Final = (State.SCHEDULED, State.READY)
ENDED: Final = (State.SUCCEEDED, State.DEAD, State.CANCELLED)


class Encoding(IntEnum):
    """How a payload's or result's bytes are to be read. The numbers are part of the file format."""

    JSON = 0
    MSGPACK = 1
    BYTES = 2


class Scope(IntEnum):
    """Among which tasks a dedupe key is unique: those of the queue, of the type in any queue, of the whole file."""

    QUEUE = 0
    TYPE = 1
    GLOBAL = 2


class Until(IntEnum):
    """How long the last taker of a dedupe key stands in a newcomer's way (see ``lifecycle.blocks``)."""

    STARTED = 0
    FINISHED = 1
    DELETED = 2
    TTL = 3


class OnDuplicate(IntEnum):
    """What becomes of a newcomer whose dedupe key is taken."""

    SKIP = 0
    OVERWRITE = 1
    REJECT = 2


class Fold(IntEnum):
    """How a duplicate's payload is joined to that of a waiting holder. The numbers are part of the file format."""

    APPEND = 0
    CONCAT = 1
    MERGE = 2
    SUM = 3
    MAX = 4
    REPLACE = 5


class Condition(IntEnum):
    """When a set is met: when all its members have succeeded, one has, or all are over. The numbers are in the file."""

    ALL = 0
    ANY = 1
    FINISHED = 2


class SetState(IntEnum):
    """Where a set is in its life (see ``sets``). The numbers are part of the file format."""

    OPEN = 0
    CLOSED = 1
    MET = 2
    UNMET = 3

    @property
    def word(self) -> str:
        """The state's name on the wire and in the CLI."""
        return self.name.lower()


# --- what a producer says ---


class Intervals(Struct, frozen=True, tag="intervals", tag_field="kind"):
    """Backoff by list: the n-th failure waits ``intervals_ns[n-1]``; the last one repeats. At least one interval."""

    intervals_ns: tuple[int, ...]


class Exponential(Struct, frozen=True, omit_defaults=True, tag="exponential", tag_field="kind"):
    """Backoff ``min(cap, base * factor ** (failures - 1))``, spread by ``jitter`` (0..1, a share of the delay)."""

    base_ns: int = limits.BACKOFF_BASE_NS_DEFAULT
    factor: float = limits.BACKOFF_FACTOR_DEFAULT
    cap_ns: int = limits.BACKOFF_CAP_NS_DEFAULT
    jitter: float = limits.BACKOFF_JITTER_DEFAULT


class Polynomial(Struct, frozen=True, omit_defaults=True, tag="polynomial", tag_field="kind"):
    """Backoff ``base * failures ** exponent``, spread by ``jitter`` (0..1, a share of the delay)."""

    exponent: float = 2.0
    base_ns: int = limits.BACKOFF_BASE_NS_DEFAULT
    jitter: float = limits.BACKOFF_JITTER_DEFAULT


Backoff = Intervals | Exponential | Polynomial


class RetryStrategy(Struct, frozen=True, omit_defaults=True):
    """How often a task is tried and how long it waits in between; 0 and None mean: not said here, ask the next level.

    With ``Intervals`` and no ``max_attempts``, N intervals mean N + 1 attempts.
    """

    max_attempts: int = 0
    backoff: Backoff | None = None
    max_deliveries: int = 0


class Keep(Struct, frozen=True, omit_defaults=True):
    """How long (ns) an ended task is kept, by how it ended. None: not said here; 0: removed at once."""

    succeeded_ns: int | None = None
    dead_ns: int | None = None
    cancelled_ns: int | None = None


class Dedupe(Struct, frozen=True, omit_defaults=True):
    """A dedupe key and its rules. None: not said here, ask the queue, then the built-in (queue, finished, skip).

    key: 1..256 characters in an entry; "" in a queue's setting, which only supplies rules. overwrite: the fields (of
    ``OVERWRITABLE``) that a duplicate overwrites; a non-empty list implies ``OnDuplicate.OVERWRITE``. fold: how it
    overwrites the payload (implies that it does); the built-in until is then STARTED. fold_max: items that a folded
    list or object may have, 0 = no limit; beyond it the newcomer is a new task. max_wait_ns: an overwritten
    scheduled_at is at most so long after the holder was accepted, 0 = no limit.
    """

    key: str = ""
    scope: Scope | None = None
    until: Until | None = None
    ttl_ns: int = 0
    on_duplicate: OnDuplicate | None = None
    overwrite: tuple[str, ...] = ()
    fold: Fold | None = None
    fold_max: int = 0
    max_wait_ns: int = 0


OVERWRITABLE: Final = (
    "payload",
    "type",
    "priority",
    "scheduled_at",
    "expires_at",
    "keepalive_timeout_in_seconds",
    "retry_strategy",
    "keep",
    "tags",
    "metadata",
)


class Options(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an entry says beyond the plain fields; most entries say nothing of it and share ``PLAIN``.

    keepalive_ns: length of a lease, 0 = not said. metadata: a JSON object as UTF-8 bytes, b"" = none.
    thread, group: the lane it waits in (1..128 bytes, "" = none; one of them at most). rejoin: a task of a thread that
    is to be tried again does not keep its place at the head. on_dead: what is enqueued when the task dies (see
    ``store.base``, Death); its times are relative. external_id: another system's name for the task, 1..128 bytes, which
    no other stored task of the namespace has (1 is lmdbq's own namespace). set_id: the set that it
    is a member of, 0 = none; NEW_SET = the one that the call has made. callback_of: the set that it follows, which the
    store alone says.
    """

    keepalive_ns: int = 0
    retry: RetryStrategy | None = None
    keep: Keep | None = None
    dedupe: Dedupe | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes = b""
    thread: str = ""
    group: str = ""
    rejoin: bool = False
    on_dead: Entry | None = None
    external_id: str = ""
    namespace_no: int = 1
    set_id: int = 0
    callback_of: int = 0


NEW_SET: Final = -1
PLAIN: Final = Options()


class Entry(Struct, frozen=True, omit_defaults=True, gc=False):
    """One task as its producer asks for it.

    scheduled_at / expires_at are Unix ns, 0 = not given; delay_ns / expires_in_ns count from the moment of the
    transaction and are given instead of them, never beside them.
    """

    payload: bytes = b"null"
    queue: str = "default"
    type: str = "default"
    encoding: Encoding = Encoding.JSON
    priority: int = 0
    scheduled_at: int = 0
    delay_ns: int = 0
    expires_at: int = 0
    expires_in_ns: int = 0
    options: Options = PLAIN


class UniformEntries(Sequence[Entry]):
    """Entries that share queue, type, encoding and priority and say nothing else but a payload, or that and a dedupe
    key: most large batches.

    They travel from the wire to the store as lists of payloads and keys; an Entry is made only of one that is asked
    for. A payload may be a ``msgspec.Raw``, which is the bytes where they stand in the request's body. keys: one per
    payload, or none.
    """

    __slots__ = ("encoding", "keys", "payloads", "priority", "queue", "type")

    def __init__(
        self,
        payloads: Sequence[bytes | Raw],
        queue: str = "default",
        type: str = "default",
        encoding: Encoding = Encoding.JSON,
        priority: int = 0,
        keys: Sequence[str] = (),
    ) -> None:
        self.payloads = payloads
        self.queue = queue
        self.type = type
        self.encoding = encoding
        self.priority = priority
        self.keys = keys

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> UniformEntries: ...
    def __getitem__(self, index: int | slice) -> Entry | UniformEntries:
        place = (self.queue, self.type, self.encoding, self.priority)
        if isinstance(index, slice):
            return UniformEntries(self.payloads[index], *place, self.keys[index])
        options = Options(dedupe=Dedupe(self.keys[index])) if self.keys else PLAIN
        return Entry(bytes(self.payloads[index]), *place, options=options)

    def size_bytes(self) -> int:
        """Return how many bytes the payloads have."""
        return sum(map(len, self.payloads))


class Rate(Struct, frozen=True, omit_defaults=True):
    """A token bucket: ``tokens`` (1..1,000,000) come in each ``period_ns`` (1 ms .. 1 day), evenly; a claim spends one.

    burst: how many it can hold (it starts full), 0 = ``tokens``.
    """

    tokens: int
    period_ns: int
    burst: int = 0

    @property
    def capacity(self) -> int:
        """How many tokens the bucket can hold."""
        return self.burst or self.tokens


class Order(IntEnum):
    """In what order a queue's tasks are taken. The numbers are part of the file format.

    STRICT: by (priority, rank, id). FAIR: by priority, then the groups take turns by their weights, and those that have
    no group as one of weight 1; within a group by (rank, id). AGEING: by (rank + priority x ageing_ns, id), so that who
    waits for long is taken before who is more urgent and came later.
    """

    STRICT = 0
    FAIR = 1
    AGEING = 2


class QueueSettings(Struct, frozen=True, omit_defaults=True):
    """What a queue decides for its tasks where they say nothing; 0 and None mean the built-in default.

    max_running: how many may run at once, 0 = no limit. expires_in_ns counts from a task's scheduled_at. rate: how fast
    tasks may be taken. weight: its share (1..1,000) among the queues of a claim, 0 = not said. order, ageing_ns: see
    Order; ageing_ns 0 = limits.AGEING_NS_DEFAULT. max_dead: how many dead tasks are kept, 0 = 100,000. priority: when
    it is drained by a claim of its parent, lower sooner. on_dead: as in ``Options``, for tasks that say none.
    """

    paused: bool = False
    max_running: int = 0
    keepalive_ns: int = 0
    expires_in_ns: int = 0
    retry: RetryStrategy | None = None
    keep: Keep | None = None
    dedupe: Dedupe | None = None
    rate: Rate | None = None
    weight: int = 0
    order: Order = Order.STRICT
    ageing_ns: int = 0
    max_dead: int = 0
    priority: int = 0
    on_dead: Entry | None = None


DEFAULT_SETTINGS: Final = QueueSettings()


class TypeSettings(Struct, frozen=True, omit_defaults=True):
    """What a type decides for its tasks where they say nothing, before their queue does; 0 and None: not said here."""

    keepalive_ns: int = 0
    expires_in_ns: int = 0
    retry: RetryStrategy | None = None
    keep: Keep | None = None
    dedupe: Dedupe | None = None


NO_TYPE_SETTINGS: Final = TypeSettings()


class CatchUp(IntEnum):
    """What becomes of a schedule's instants that were missed. The numbers are part of the file format.

    NONE: nothing. ONE: a single task, for the latest instant, stands for all that have come meanwhile. ALL: a task for
    each, at most for the latest limits.CATCH_UP_INSTANTS_MAX.
    """

    NONE = 0
    ONE = 1
    ALL = 2


class Schedule(Struct, frozen=True, omit_defaults=True):
    """A task that is enqueued again and again: ``entry`` at each instant that ``cron`` names in ``timezone``.

    The entry's times are relative (delay_ns, expires_in_ns). See ``schedules`` for the rules, ``cron`` for instants.
    """

    cron: str
    entry: Entry
    timezone: str = "UTC"
    catch_up: CatchUp = CatchUp.ONE
    paused: bool = False


class TaskSet(Struct, frozen=True, omit_defaults=True):
    """What a set is to wait for, and what is enqueued once when it is decided: ``callback`` if it is met, ``on_unmet``
    if it is not. Their times are relative. keep_ns: for how long it can be read after that."""

    condition: Condition = Condition.ALL
    callback: Entry | None = None
    on_unmet: Entry | None = None
    keep_ns: int = limits.KEEP_SET_NS_DEFAULT


class GroupSettings(Struct, frozen=True, omit_defaults=True):
    """What a group, or a rule for groups, says; None and 0 mean "not said here".

    max_running: how many of the group may run at once in all queues together; 0 = none may start. weight: its share
    in a queue whose order is fair, 1 if nobody says it.
    """

    paused: bool = False
    max_running: int | None = None
    rate: Rate | None = None
    weight: int = 0


class GroupRule(Struct, frozen=True, omit_defaults=True):
    """Settings of every group whose name ``pattern`` matches: ``*`` any characters, ``?`` one, all else as it is.

    Of several that match, the one of the highest priority holds, then the one with the longest pattern.
    """

    pattern: str
    settings: GroupSettings
    priority: int = 0


# --- ops ---


class Filter(Struct, frozen=True):
    """Which tasks to list, count or change; what is empty does not restrict.

    dedupe_key: tasks that hold this key, in any scope: each the last that took it. external_id: in any namespace.
    set_id: members of that set. reason: why they are dead or cancelled. priority, attempts: (least, most), both
    included. created, scheduled, ended: (from, before) in wall ns, of created_at, scheduled_at and ended_at; ended
    restricts to tasks that have ended.
    """

    queue: str = ""
    type: str = ""
    states: tuple[State, ...] = ()
    tag: str = ""
    dedupe_key: str = ""
    thread: str = ""
    group: str = ""
    external_id: str = ""
    set_id: int = 0
    reason: str = ""
    priority: tuple[int, int] | None = None
    attempts: tuple[int, int] | None = None
    created: tuple[int, int] | None = None
    scheduled: tuple[int, int] | None = None
    ended: tuple[int, int] | None = None


EVERY_TASK: Final = Filter()


class Enqueue(Struct, frozen=True, tag=True):
    """Accept ``entries`` (1..10,000). create_queues False: an unknown queue refuses the call.

    lease: (id, delivery) of the running task whose worker asks, which may add to its set when that is closed; (0, 0):
    none. spawned: the store itself says it (see ``store.base``, Spawned); never a caller.
    """

    entries: Sequence[Entry]
    create_queues: bool = True
    spawned: bool = False
    lease: tuple[int, int] = (0, 0)


class Claim(Struct, frozen=True, tag=True):
    """Lease up to ``limit`` ready tasks of ``queues`` (of all types if ``types`` is empty), the first in order first.

    keepalive_ns: length of the leases, 0 = each task's own. claim_id: asked again with the same one, the tasks that
    still run under those leases are answered again, and nothing new is claimed.
    """

    queues: tuple[str, ...]
    types: tuple[str, ...] = ()
    limit: int = 1
    keepalive_ns: int = 0
    claim_id: str = ""
    bytes_max: int = limits.CLAIM_BYTES_MAX


class Extension(Struct, frozen=True):
    """One lease to prolong: it then ends ``keepalive_ns`` from now (0 = the length it has)."""

    id: int
    delivery: int
    keepalive_ns: int = 0
    progress: float | None = None


class Extend(Struct, frozen=True, tag=True):
    """Prolong leases."""

    extensions: tuple[Extension, ...]


class Status(IntEnum):
    """How an attempt ended. The numbers are part of the file format; the last two are never reported by a worker."""

    SUCCEEDED = 0
    FAILED = 1
    RELEASED = 2
    LAPSED = 3
    CANCELLED = 4


class ErrorInfo(Struct, frozen=True, omit_defaults=True, gc=False):
    """What went wrong in an attempt, in the worker's words (bounded: see limits)."""

    message: str = ""
    type: str = ""
    backtrace: str = ""


class Completion(Struct, frozen=True, gc=False):
    """The end of one attempt: SUCCEEDED, FAILED or RELEASED.

    delay_ns: for FAILED instead of the backoff, for RELEASED until it is ready again; None = not given.
    retry False with FAILED: dead at once. result: bytes in ``result_encoding``, None = none.
    """

    id: int
    delivery: int
    status: Status
    result: bytes | None = None
    result_encoding: Encoding = Encoding.JSON
    error: ErrorInfo | None = None
    delay_ns: int | None = None
    retry: bool = True


class Report(Struct, frozen=True, tag=True):
    """Say how attempts ended."""

    completions: tuple[Completion, ...] | list[Completion]


class Cancel(Struct, frozen=True, tag=True):
    """Cancel waiting tasks; ask running ones to stop. where: only those that match it then; any other is a conflict."""

    ids: tuple[int, ...]
    where: Filter = EVERY_TASK


class Edit(Struct, frozen=True, tag=True):
    """Overwrite ``fields`` (of ``OVERWRITABLE``) of a waiting task with the values that ``entry`` has for them.

    where: as in Cancel.
    """

    id: int
    entry: Entry
    fields: tuple[str, ...]
    where: Filter = EVERY_TASK


class Delete(Struct, frozen=True, tag=True):
    """Remove tasks in any state; the lease of a running one then answers not_found. where: as in Cancel."""

    ids: tuple[int, ...]
    where: Filter = EVERY_TASK


class Retry(Struct, frozen=True, tag=True):
    """Make dead and cancelled tasks ready again, with all their attempts before them; in ``queue``, "" = their own.

    where: as in Cancel.
    """

    ids: tuple[int, ...]
    queue: str = ""
    where: Filter = EVERY_TASK


class Purge(Struct, frozen=True, tag=True):
    """Remove every task of a queue, running ones too; its settings stay."""

    queue: str


class QueuePut(Struct, frozen=True, tag=True):
    """Create a queue, or replace all its settings."""

    queue: str
    settings: QueueSettings


class QueuePatch(Struct, frozen=True, tag=True):
    """Replace the named ``fields`` of an existing queue's settings (pause and resume are this)."""

    queue: str
    settings: QueueSettings
    fields: tuple[str, ...]


class QueueDelete(Struct, frozen=True, tag=True):
    """Remove a queue and every task of it."""

    queue: str


class SchedulePut(Struct, frozen=True, tag=True):
    """Create a schedule, or replace it. keep_paused: whether it is paused stays as it is, if it exists.

    create_queues False: its entry's queue must exist.
    """

    name: str
    schedule: Schedule
    keep_paused: bool = False
    create_queues: bool = True


class SchedulePatch(Struct, frozen=True, tag=True):
    """Replace the named ``fields`` of an existing schedule (pause and resume are this)."""

    name: str
    schedule: Schedule
    fields: tuple[str, ...]


class ScheduleDelete(Struct, frozen=True, tag=True):
    """Remove a schedule; the tasks that it enqueued stay."""

    name: str


class SetMake(Struct, frozen=True, tag=True):
    """Make a set, open and empty. In the ops behind it in its call NEW_SET stands for its id."""

    set: TaskSet = TaskSet()


class SetClose(Struct, frozen=True, tag=True):
    """Say that no more members come; a set that is closed already stays so."""

    id: int


class SetDelete(Struct, frozen=True, tag=True):
    """Forget a set, in any state; its members stay, and nothing is enqueued for it."""

    id: int


class Fire(Struct, frozen=True, tag=True):
    """Timed: schedules whose next instant has come enqueue their tasks, at most ``limit``, and move on."""

    limit: int = limits.FIRE_TASKS_MAX


class TypePut(Struct, frozen=True, tag=True):
    """Replace what is known of a type. schema: JSON Schema of its payloads as UTF-8 bytes, b"" = not known."""

    name: str
    settings: TypeSettings = NO_TYPE_SETTINGS
    schema: bytes = b""


class GroupPut(Struct, frozen=True, tag=True):
    """Give a group settings of its own, in place of all that it had."""

    group: str
    settings: GroupSettings


class GroupPatch(Struct, frozen=True, tag=True):
    """Replace the named ``fields`` of a group's own settings (pause and resume are this); it need not have any."""

    group: str
    settings: GroupSettings
    fields: tuple[str, ...]


class GroupDelete(Struct, frozen=True, tag=True):
    """Take a group's own settings away; its tasks stay."""

    group: str


class RulePut(Struct, frozen=True, tag=True):
    """Make a rule for groups, or replace the one with its pattern."""

    rule: GroupRule


class RuleDelete(Struct, frozen=True, tag=True):
    """Remove the rule with this pattern."""

    pattern: str


class Refill(Struct, frozen=True, tag=True):
    """Timed: groups that waited for a token, or for a changed rule to reach them, let their tasks start."""

    limit: int = limits.SWEEP_MAX


class Promote(Struct, frozen=True, tag=True):
    """Timed: scheduled tasks that are due become ready."""

    limit: int = limits.SWEEP_MAX


class Lapse(Struct, frozen=True, tag=True):
    """Timed: leases past their deadline end as a failure of type ``lease_lapsed``; an earlier boot's are re-armed."""

    limit: int = limits.SWEEP_MAX


class Expire(Struct, frozen=True, tag=True):
    """Timed: waiting tasks at or past their expires_at are removed."""

    limit: int = limits.SWEEP_MAX


class Prune(Struct, frozen=True, tag=True):
    """Timed: ended tasks past their retention, graves of purged queues, old memos and dedupe slots are removed."""

    limit: int = limits.SWEEP_MAX


class DaemonStart(Struct, frozen=True, tag=True):
    """A daemon begins to serve: leases that came due while none ran get a moment (limits.DAEMON_START_GRACE_NS)."""


Op = (
    Enqueue
    | Claim
    | Extend
    | Report
    | Cancel
    | Edit
    | Delete
    | Retry
    | Purge
    | QueuePut
    | QueuePatch
    | QueueDelete
    | TypePut
    | SchedulePut
    | SchedulePatch
    | ScheduleDelete
    | SetMake
    | SetClose
    | SetDelete
    | Fire
    | GroupPut
    | GroupPatch
    | GroupDelete
    | RulePut
    | RuleDelete
    | Refill
    | Promote
    | Lapse
    | Expire
    | Prune
    | DaemonStart
)


class Memo(Struct, frozen=True):
    """An Idempotency-Key and the hash of the body it came with; kept ``kept_ns`` (1 s .. 24 h) after the call."""

    key: str
    body_hash: bytes
    kept_ns: int = limits.MEMO_KEPT_NS


class Call(Struct, frozen=True):
    """One caller's ordered ops: committed whole, or no trace of them."""

    ops: tuple[Op, ...]
    memo: Memo | None = None


# --- outcomes ---


class Outcome(StrEnum):
    """What became of one entry, lease or task. Not every word can follow every op: see the outcome structs."""

    ENQUEUED = "enqueued"
    SKIPPED = "skipped"
    OVERWRITTEN = "overwritten"
    OK = "ok"
    NOT_FOUND = "not_found"
    GONE = "gone"
    NOT_RUNNING = "not_running"
    STALE_LEASE = "stale_lease"
    CANCEL_REQUESTED = "cancel_requested"
    CONFLICT = "conflict"
    DEDUPE_CONFLICT = "dedupe_conflict"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"


class Placed(Struct, frozen=True, gc=False):
    """What became of one entry: enqueued, skipped or overwritten.

    id: of the new task, or of the holder of its dedupe key. state: of that task after the call, None if it is no
    longer stored. scheduled_at / expires_at: as stored after the call (0 if it is no longer stored; expires_at 0 =
    never). reason: "external_id" for SKIPPED by a task with that external id; for SKIPPED by a holder that is neither
    scheduled nor ready, its state ("running", "dead", ...), or "ttl" if it is no longer stored; else "".
    """

    id: int
    outcome: Outcome
    state: State | None
    scheduled_at: int
    expires_at: int
    deduped: bool = False
    reason: str = ""


class Enqueued(Struct, frozen=True, tag=True):
    """Outcome of Enqueue. ``ids[i]`` belongs to ``entries[i]``; ``odd`` has what is not the plain case.

    The plain case: newly enqueued, ready, scheduled_at = now, never expires. ``placed(i)`` answers for any entry.
    """

    now: int
    ids: list[int]
    odd: dict[int, Placed]

    def placed(self, index: int) -> Placed:
        """Return what became of entry ``index``."""
        known = self.odd.get(index)
        return known or Placed(self.ids[index], Outcome.ENQUEUED, State.READY, self.now, 0)


class ClaimedTask(Struct, frozen=True, gc=False):
    """A task as its worker gets it. ``attempts`` counts this one. lease_expires_at is wall time, an estimate."""

    id: int
    queue: str
    type: str
    payload: bytes
    encoding: Encoding
    priority: int
    created_at: int
    scheduled_at: int
    expires_at: int
    deliveries: int
    attempts: int
    max_attempts: int
    keepalive_ns: int
    lease_expires_at: int
    options: Options


class Claimed(Struct, frozen=True, tag=True):
    """Outcome of Claim. reason, when there are no tasks: "empty", "paused", "max_running", "rate_limited" or "thread"
    (see store.base).

    retry_at: when the next scheduled task of these queues is due, or a token comes in (wall ns), 0 = none known.
    token_in_ns: how long it is until a queue that had no token left for a ready task has one, 0 = none had too few.
    """

    tasks: list[ClaimedTask]
    reason: str = ""
    retry_at: int = 0
    token_in_ns: int = 0


class Extended(Struct, frozen=True):
    """Outcome of one extension: OK, NOT_FOUND, NOT_RUNNING or STALE_LEASE; the rest is said for OK only."""

    outcome: Outcome
    lease_expires_at: int = 0
    cancel_requested: bool = False


class ExtendDone(Struct, frozen=True, tag=True):
    """Outcome of Extend, one per extension."""

    outcomes: list[Extended]


class Reported(Struct, frozen=True, gc=False):
    """Outcome of one completion: OK, NOT_FOUND, NOT_RUNNING or STALE_LEASE. state: after OK, None if not stored."""

    outcome: Outcome
    state: State | None = None


class ReportDone(Struct, frozen=True, tag=True):
    """Outcome of Report, one per completion."""

    outcomes: list[Reported]


class Changed(Struct, frozen=True, gc=False):
    """Outcome of Cancel, Edit, Delete or Retry for one task.

    OK, NOT_FOUND (never given), GONE (given, no longer stored), CONFLICT (its state does not allow it),
    CANCEL_REQUESTED (running), DEDUPE_CONFLICT and EXPIRED (Retry). state: after the op, None if not stored.
    """

    id: int
    outcome: Outcome
    state: State | None = None


class ChangeDone(Struct, frozen=True, tag=True):
    """Outcome of Cancel, Edit, Delete and Retry, one per task."""

    outcomes: list[Changed]


class QueueChanged(Struct, frozen=True, tag=True):
    """Outcome of QueuePut, QueuePatch, QueueDelete and Purge. tasks: how many were removed."""

    queue: str
    created: bool = False
    tasks: int = 0


class ScheduleChanged(Struct, frozen=True, tag=True):
    """Outcome of SchedulePut, SchedulePatch and ScheduleDelete."""

    name: str
    created: bool = False


class SetChanged(Struct, frozen=True, tag=True):
    """Outcome of SetMake, SetClose and SetDelete. state: after the op, None if it was deleted."""

    id: int
    state: SetState | None


class TypeChanged(Struct, frozen=True, tag=True):
    """Outcome of TypePut. changed False: it was known so already, and nothing was written."""

    name: str
    changed: bool


class GroupChanged(Struct, frozen=True, tag=True):
    """Outcome of GroupPut, GroupPatch and GroupDelete. created: it had no settings of its own before."""

    group: str
    created: bool = False


class RuleChanged(Struct, frozen=True, tag=True):
    """Outcome of RulePut and RuleDelete. created: there was no such rule before."""

    pattern: str
    created: bool = False


class Swept(Struct, frozen=True, tag=True):
    """Outcome of a timed op: how many tasks (or old keys) it moved or enqueued, and whether more are due."""

    count: int
    more: bool = False


class Started(Struct, frozen=True, tag=True):
    """Outcome of DaemonStart."""

    boot_no: int


OpOutcome = (
    Enqueued
    | Claimed
    | ExtendDone
    | ReportDone
    | ChangeDone
    | QueueChanged
    | TypeChanged
    | ScheduleChanged
    | SetChanged
    | GroupChanged
    | RuleChanged
    | Swept
    | Started
)


class Problem(Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a request: where (an RFC 6901 pointer), and what to do about it.

    code: a stable word. holder: the id of the task that stands in the way, for duplicates; else 0.
    """

    code: str
    pointer: str
    detail: str
    holder: int = 0


class Done(Struct, frozen=True):
    """A call that was committed, one outcome per op. replayed: answered from its Idempotency-Key."""

    outcomes: tuple[OpOutcome, ...]
    replayed: bool = False


class Refused(Struct, frozen=True):
    """A call that changed nothing. code: duplicate, queue_not_found, group_not_found, rule_not_found, too_many_rules,
    too_many_types, expires_too_early, set_not_found, set_closed, set_decided, key_reused, full, not_committed (calls
    before it were), or internal (a bug: its problem names the exception)."""

    code: str
    problems: tuple[Problem, ...]


CallOutcome = Done | Refused


class Applied(Struct, frozen=True):
    """What one ``apply`` did. outcomes: as the calls came. stirred: queues in which a claim may now find more.

    wrote False: nothing was committed, so that ``changed()`` is what it was. (True is always safe to say.)
    """

    outcomes: list[CallOutcome]
    stirred: frozenset[str]
    wrote: bool = True


# --- what readers see ---


class Failure(Struct, frozen=True, omit_defaults=True, gc=False):
    """One failed attempt in a task's history. type "lease_lapsed" is the store's own."""

    at: int
    delivery: int
    message: str = ""
    type: str = ""
    backtrace: str = ""


class Task(Struct, frozen=True):
    """Everything stored about one task.

    due_at: when a scheduled task becomes ready (its scheduled_at, or the end of its backoff); 0 in other states.
    failures: failed attempts since it was enqueued or retried by hand. attempts = failures + the running one.
    lease_expires_at: wall ns, an estimate, 0 unless running. reason: why it is dead or cancelled ("max_attempts",
    "no_retry", "would_expire", "max_deliveries", "cancelled"). waiting_for: why its lane does not let a ready task
    start, in words; "" if it does.
    """

    id: int
    queue: str
    type: str
    payload: bytes
    encoding: Encoding
    priority: int
    created_at: int
    scheduled_at: int
    expires_at: int
    options: Options
    state: State
    deliveries: int
    failures: int
    attempts: int
    max_attempts: int
    due_at: int = 0
    lease_expires_at: int = 0
    cancel_requested: bool = False
    progress: float | None = None
    errors: tuple[Failure, ...] = ()
    result: bytes | None = None
    result_encoding: Encoding = Encoding.JSON
    ended_at: int = 0
    remove_at: int = 0
    reason: str = ""
    waiting_for: str = ""


class Page(Struct, frozen=True):
    """A page of tasks by rising id. after: pass it to get the next page; 0 = that was all. May be short, even empty."""

    tasks: list[Task]
    after: int = 0


class Totals(Struct, frozen=True):
    """How often each thing happened in a queue since it was created (they survive purge)."""

    enqueued: int = 0
    deduplicated: int = 0
    claimed: int = 0
    succeeded: int = 0
    failed: int = 0
    released: int = 0
    lapsed: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    deleted: int = 0


class QueueView(Struct, frozen=True):
    """A queue: its settings, its tasks by type and state, its totals.

    counts[type][state.word] holds non-zero counts only. oldest_ready_at: the least rank among the heads of its ready
    lists (wall ns), 0 = none ready; of a thread or group only tasks that it let start when it was last looked at.
    blocked_by: "paused", "max_running" or "".
    no_token_until: steady ns at which a queue whose rate has no token left gets one, 0 = it has some (see
    ``sharing.seen_at``).
    """

    name: str
    settings: QueueSettings
    counts: dict[str, dict[str, int]]
    totals: Totals
    oldest_ready_at: int = 0
    next_due_at: int = 0
    blocked_by: str = ""
    no_token_until: int = 0

    def count(self, state: State) -> int:
        """Return how many tasks of the queue are in ``state``."""
        return sum(by_state.get(state.word, 0) for by_state in self.counts.values())


class ScheduleView(Struct, frozen=True):
    """A schedule and where it stands.

    next_at: its next instant (wall ns), 0 while it is paused, or if none is left. last_at: the last instant that gave
    a task, 0 = none did. fired: how many tasks it has enqueued. reason: why the store has paused it, "" if it has not.
    """

    name: str
    schedule: Schedule
    created_at: int
    next_at: int
    last_at: int = 0
    fired: int = 0
    reason: str = ""


class SetView(Struct, frozen=True, omit_defaults=True):
    """A set: what it waits for, and how its members stand; once it is decided, how they stood then.

    members = pending + succeeded + dead + cancelled + expired + deleted; the last counts also those that were purged,
    or found damaged. pending: stored and not ended. ended_at: when it was decided, 0 = it is not. remove_at: when it is
    forgotten. reason: why it was decided without its condition, "" if it was not.
    """

    id: int
    set: TaskSet
    state: SetState = SetState.OPEN
    members: int = 0
    pending: int = 0
    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    deleted: int = 0
    created_at: int = 0
    ended_at: int = 0
    remove_at: int = 0
    reason: str = ""


class TypeView(Struct, frozen=True):
    """A type of which something is known, see TypePut."""

    name: str
    settings: TypeSettings
    schema: bytes


class GroupView(Struct, frozen=True):
    """A group: its own settings (None: it has none), the rule that holds beside them ("" = none), and what both give.

    ready and running count its tasks in all queues. tokens: whole ones that a claim could spend now, None = no rate.
    token_in_ns: until the next one comes in, if there is none. blocked_by: "paused", "max_running", "rate_limited" or
    "": why no more of its tasks may start.
    """

    name: str
    settings: GroupSettings | None
    rule: str
    limits: GroupSettings
    ready: int
    running: int
    tokens: int | None = None
    token_in_ns: int = 0
    blocked_by: str = ""


class ThreadView(Struct, frozen=True):
    """A thread with ready tasks or a holder (see store.base): the task that runs or will be tried again, 0 = none.

    head: the task that may start next, 0 = none. state: the holder's.
    """

    name: str
    queue: str
    ready: int
    holder: int = 0
    state: State | None = None
    head: int = 0


class Due(Struct, frozen=True):
    """When each timed op has something to do next: wall ns for all but lapse, 0 = nothing is waiting.

    lapse_in_ns: nanoseconds of steady time until the first lease may come up (<= 0: now), None = no lease. It may be
    too early (a file counts an extended lease at its old deadline until a Lapse looks at it), never too late.
    refill_in_ns: the same, until Refill has something to do.
    """

    promote_at: int = 0
    expire_at: int = 0
    prune_at: int = 0
    lapse_in_ns: int | None = None
    fire_at: int = 0
    refill_in_ns: int | None = None


class StoreInfo(Struct, frozen=True):
    """Facts about the file. used_bytes: pages in use; file_bytes: what the disk holds; limit_bytes: 0 = the disk."""

    kind: str
    format: int
    engine: str
    path: str
    created_at: int
    boot_no: int
    last_id: int
    used_bytes: int = 0
    file_bytes: int = 0
    limit_bytes: int = 0
    quarantined: int = 0
    low_space: bool = False
