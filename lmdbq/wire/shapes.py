"""What callers may send: one Struct per request body, with its limits where a schema can say them.

Every shape refuses fields it does not know, so that a typing error is an error. A field that is left out, or null, was
not said; only a payload may be null and mean it. What no schema can say (units, names, fields that exclude each other)
is checked in ``requests``. The client encodes the same Structs, so defaults are left out when one is written.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lmdbq import limits

QUEUE_PATTERN: Final = r"^[-_.0-9A-Za-z]{1,128}$"
TYPE_PATTERN: Final = r"^[-_.:/0-9A-Za-z]{1,128}$"

QueueName = Annotated[str, Meta(max_length=limits.NAME_BYTES_MAX, extra_json_schema={"pattern": QUEUE_PATTERN})]
TypeName = Annotated[str, Meta(max_length=limits.NAME_BYTES_MAX, extra_json_schema={"pattern": TYPE_PATTERN})]
Seconds = Annotated[float, Meta(ge=0, description="A duration in seconds.")]
InstantNumber = Annotated[int, Meta(ge=0, le=limits.INSTANT_NS_MAX, description="Unix time in nanoseconds; 0: none.")]
InstantText = Annotated[str, Meta(max_length=64, description="An RFC 3339 date and time with its offset.")]
Instant = InstantNumber | InstantText
Priority = Annotated[int, Meta(ge=limits.PRIORITY_MIN, le=limits.PRIORITY_MAX, description="Lower runs sooner.")]
AttemptsNumber = Annotated[int, Meta(ge=0, le=limits.DELIVERIES_MAX)]
LeaseText = Annotated[str, Meta(max_length=64, description="What dequeue answered as `lease`.")]
Tag = Annotated[str, Meta(min_length=1, max_length=limits.TAG_BYTES_MAX)]
LaneName = Annotated[str, Meta(max_length=limits.NAME_BYTES_MAX)]
SetId = Annotated[str, Meta(max_length=64, description="What POST /v1/sets answered as `id`.")]
ExternalId = Annotated[str, Meta(min_length=1, max_length=limits.NAME_BYTES_MAX)]
Tags = Annotated[list[Tag], Meta(max_length=limits.TAGS_MAX)]

ScopeWord = Literal["queue", "type", "global"]
UntilWord = Literal["started", "finished", "deleted", "ttl"]
FoldWord = Literal["append", "concat", "merge", "sum", "max", "replace"]
OnDuplicateWord = Literal["skip", "overwrite", "reject"]
StateWord = Literal["scheduled", "ready", "running", "succeeded", "dead", "cancelled"]
OverwriteWord = Literal[
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
]
StatusWord = Literal["succeeded", "failed", "released"]
ActionWord = Literal["cancel", "delete", "retry", "edit"]
PayloadWord = Literal["none", "head", "full"]
OrderWord = Literal["strict", "fair", "ageing"]
OnErrorWord = Literal["continue", "stop"]


class Shape(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What all request shapes share."""


class IntervalsBackoff(Shape, frozen=True, kw_only=True, tag="intervals", tag_field="kind"):
    """The n-th failure waits the n-th interval; the last one repeats."""

    intervals_in_seconds: Annotated[list[Seconds], Meta(min_length=1, max_length=limits.INTERVALS_MAX)]


class ExponentialBackoff(Shape, frozen=True, kw_only=True, tag="exponential", tag_field="kind"):
    """base x factor ** (failures - 1), at most cap; jitter is the share (0..1) by which a delay may be shortened."""

    base_in_seconds: Seconds | None = None
    factor: Annotated[float, Meta(ge=1, le=1000)] | None = None
    cap_in_seconds: Seconds | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | None = None


class PolynomialBackoff(Shape, frozen=True, kw_only=True, tag="polynomial", tag_field="kind"):
    """base x failures ** exponent; jitter as in exponential."""

    exponent: Annotated[float, Meta(ge=0, le=100)] | None = None
    base_in_seconds: Seconds | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | None = None


class RetryStrategyBody(Shape, frozen=True, kw_only=True):
    """How often a task is tried and how long it waits in between. N intervals alone mean N + 1 attempts.

    retry_intervals_in_seconds is short for a backoff of kind intervals.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=limits.ATTEMPTS_MAX)] | None = None
    max_deliveries: Annotated[int, Meta(ge=1, le=limits.DELIVERIES_MAX)] | None = None
    backoff: IntervalsBackoff | ExponentialBackoff | PolynomialBackoff | None = None
    retry_intervals_in_seconds: Annotated[list[Seconds], Meta(max_length=limits.INTERVALS_MAX)] | None = None


class KeepBody(Shape, frozen=True, kw_only=True):
    """How long an ended task is kept, by how it ended; 0 removes it at once."""

    succeeded_in_seconds: Seconds | None = None
    dead_in_seconds: Seconds | None = None
    cancelled_in_seconds: Seconds | None = None


class TaskFields(Shape, frozen=True, kw_only=True):
    """The fields of a task that may be changed while it waits; the body of PATCH /v1/tasks/{id}."""

    type: TypeName | None = None
    payload: Raw | UnsetType = UNSET
    payload_base64: str | None = None
    priority: Priority | None = None
    scheduled_at: Instant | None = None
    delay_in_seconds: Seconds | None = None
    expires_at: Instant | None = None
    expires_in_seconds: Seconds | None = None
    keepalive_timeout_in_seconds: Seconds | None = None
    retry_strategy: RetryStrategyBody | None = None
    keep: KeepBody | None = None
    tags: Tags | None = None
    metadata: Raw | UnsetType = UNSET


class DebounceBody(Shape, frozen=True, kw_only=True):
    """Run once for many calls, `wait` after the last of them, at the latest `max_wait` after the first."""

    key: Annotated[str, Meta(min_length=1, max_length=limits.DEDUPE_KEY_CHARS_MAX)]
    wait_in_seconds: Seconds
    max_wait_in_seconds: Seconds | None = None


class ThrottleBody(Shape, frozen=True, kw_only=True):
    """Run at most once in a period: the first call runs, those within `period` after it are skipped."""

    key: Annotated[str, Meta(min_length=1, max_length=limits.DEDUPE_KEY_CHARS_MAX)]
    period_in_seconds: Seconds


class EntryBody(TaskFields, frozen=True, kw_only=True):
    """One task to enqueue; the body of POST /v1/tasks and a line of a bulk import.

    thread_id: it waits for all tasks of its queue's thread before it; with rejoin it gives up its place when it is to
    be tried again. group_key: its group, in all queues together, may have a cap and a rate. Not both.

    on_dead: what is enqueued when the task dies: an entry, its times as durations. Without a queue_name it goes to the
    queue of the dead task; without a payload it is told what has died, why, and every failure.

    fold: what becomes of the payload of a waiting task with the same dedupe_key: append (to a list of what was sent),
    concat, merge, sum, max or replace; beyond fold_max items this is a task of its own. dedupe_max_wait_in_seconds: for
    how long after it was accepted a task's start can be put off by duplicates. debounce, throttle and coalesce stand
    for rules like these, and are answered as such; coalesce: one task, with the latest payload, waits behind the one
    that runs under this key, in a thread of that name.

    external_id: another system's id of this task; while a stored task has it, an entry with the same is skipped.

    set_id: the set of which it becomes a member, if it is a new task.
    """

    queue_name: QueueName | None = None
    thread_id: LaneName | None = None
    rejoin: bool | None = None
    group_key: LaneName | None = None
    dedupe_key: Annotated[str, Meta(max_length=limits.DEDUPE_KEY_CHARS_MAX)] | None = None
    dedupe_scope: ScopeWord | None = None
    dedupe_until: UntilWord | None = None
    dedupe_ttl_in_seconds: Seconds | None = None
    on_duplicate: OnDuplicateWord | None = None
    overwrite_on_duplicate: list[OverwriteWord] | None = None
    dedupe_max_wait_in_seconds: Seconds | None = None
    fold: FoldWord | None = None
    fold_max: Annotated[int, Meta(ge=1, le=limits.ENTRIES_MAX)] | None = None
    debounce: DebounceBody | None = None
    throttle: ThrottleBody | None = None
    coalesce: Annotated[str, Meta(max_length=limits.NAME_BYTES_MAX)] | None = None
    on_dead: EntryBody | None = None
    external_id: ExternalId | None = None
    set_id: SetId | None = None


class EnqueueRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/enqueue. An entry may name a queue of its own. return_tasks false leaves `tasks` out.

    lease: of the task whose worker asks; it may add to the set of that task when that is closed.
    """

    entries: Annotated[list[EntryBody], Meta(min_length=1, max_length=limits.ENTRIES_MAX)]
    queue_name: QueueName | None = None
    return_tasks: bool = True
    lease: LeaseText | None = None


class Subscription(Shape, frozen=True, kw_only=True):
    """What a worker wants: queues, types (empty: all), how many at once, and how long its leases last.

    keepalive_timeout_in_seconds: 1 s .. 12 h; 0: each task's own.
    """

    queue_names: Annotated[list[QueueName], Meta(min_length=1, max_length=limits.CLAIM_QUEUES_MAX)] | None = None
    types: Annotated[list[TypeName], Meta(max_length=limits.TYPES_PER_QUEUE_MAX)] | None = None
    limit: Annotated[int, Meta(ge=1, le=limits.CLAIM_TASKS_MAX)] = 1
    keepalive_timeout_in_seconds: Seconds | None = None


class DequeueRequest(Subscription, frozen=True, kw_only=True):
    """Body of POST /v1/dequeue. claim_id makes it safe to ask again after a lost answer."""

    wait_in_seconds: Annotated[float, Meta(ge=0, le=limits.WAIT_SECONDS_MAX)] = 0.0
    claim_id: Annotated[str, Meta(max_length=limits.CLAIM_ID_BYTES_MAX)] | None = None


class ErrorBody(Shape, frozen=True, kw_only=True):
    """What went wrong in an attempt. Over-long texts are cut, not refused: a report must not be lost for its length."""

    message: str = ""
    type: str = ""
    backtrace: str = ""


class SucceedRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/leases/{lease}/succeed."""

    result: Raw | UnsetType = UNSET
    result_base64: str | None = None


class ReleaseRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/leases/{lease}/release."""

    delay_in_seconds: Seconds | None = None


class FailRequest(ReleaseRequest, frozen=True, kw_only=True):
    """Body of POST /v1/leases/{lease}/fail. retry false: dead at once. delay_in_seconds: instead of the backoff."""

    error: ErrorBody | None = None
    retry: bool = True


class ReportEntry(FailRequest, frozen=True, kw_only=True):
    """How one attempt ended. result goes with succeeded, error and retry with failed."""

    lease: LeaseText
    status: StatusWord
    result: Raw | UnsetType = UNSET
    result_base64: str | None = None


class ReportRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/report. With `dequeue`, new tasks are claimed in the same transaction."""

    reports: Annotated[list[ReportEntry], Meta(max_length=limits.ENTRIES_MAX)]
    dequeue: DequeueRequest | None = None


class PlainReport(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How most attempts end. Reports of nothing else are read in a fifth of the time; any other takes ReportEntry."""

    lease: LeaseText
    status: Literal["succeeded"]


class PlainReportRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of plain reports."""

    reports: Annotated[list[PlainReport], Meta(min_length=1, max_length=limits.ENTRIES_MAX)]
    dequeue: DequeueRequest | None = None


class ExtendOne(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/leases/{lease}/extend."""

    keepalive_timeout_in_seconds: Seconds | None = None
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None


class ExtendEntry(ExtendOne, frozen=True, kw_only=True):
    """One lease to prolong, from now on."""

    lease: LeaseText


class ExtendRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/extend."""

    leases: Annotated[list[ExtendEntry], Meta(min_length=1, max_length=limits.ENTRIES_MAX)]


class FilterBody(Shape, frozen=True, kw_only=True):
    """Which tasks; what is left out does not restrict.

    dedupe_key: the task that holds this key, in each scope. reason: why it is dead or cancelled. *_min, *_max are
    included; *_from is included, *_before is not. ended_*: only tasks that have ended.
    From an index are found: external_id, dedupe_key, reason, ended_*, states but ready; queue, type and states are
    counted from one. All else goes through the tasks, from created_from on.
    """

    queue_name: QueueName | None = None
    type: TypeName | None = None
    state: StateWord | list[StateWord] | None = None
    tag: Tag | None = None
    dedupe_key: Annotated[str, Meta(max_length=limits.DEDUPE_KEY_CHARS_MAX)] | None = None
    thread_id: LaneName | None = None
    group_key: LaneName | None = None
    external_id: ExternalId | None = None
    set_id: SetId | None = None
    reason: Annotated[str, Meta(max_length=limits.NAME_BYTES_MAX)] | None = None
    priority_min: Priority | None = None
    priority_max: Priority | None = None
    attempts_min: AttemptsNumber | None = None
    attempts_max: AttemptsNumber | None = None
    created_from: Instant | None = None
    created_before: Instant | None = None
    scheduled_from: Instant | None = None
    scheduled_before: Instant | None = None
    ended_from: Instant | None = None
    ended_before: Instant | None = None


class RetryRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/tasks/{id}/retry. queue_name: the queue in which it is to be ready, instead of its own."""

    queue_name: QueueName | None = None


class ActionRequest(Shape, frozen=True, kw_only=True):
    """Body of POST /v1/tasks/actions. A filter that restricts nothing needs `all`: true. cursor: an earlier `next`.

    Unless the filter names states, only tasks are looked at that the action can change. queue_name: for retry, the
    queue in which they are to be ready, instead of their own. fields: for edit, what is changed.
    """

    action: ActionWord
    filter: FilterBody | None = None
    dry_run: bool = False
    all: bool = False
    queue_name: QueueName | None = None
    fields: TaskFields | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE_TASKS_MAX)] = limits.PAGE_TASKS_MAX
    cursor: Annotated[str, Meta(max_length=128)] | None = None


class DedupeBody(Shape, frozen=True, kw_only=True):
    """Rules a queue supplies to entries that have a dedupe key."""

    scope: ScopeWord | None = None
    until: UntilWord | None = None
    ttl_in_seconds: Seconds | None = None
    on_duplicate: OnDuplicateWord | None = None
    overwrite_on_duplicate: list[OverwriteWord] | None = None


class RateBody(Shape, frozen=True, kw_only=True):
    """How many tasks may start: ``tokens`` in each period (1 ms .. 1 day), evenly; at most ``burst`` at once.

    burst: default as many as tokens.
    """

    tokens: Annotated[int, Meta(ge=1, le=limits.RATE_TOKENS_MAX)]
    period_in_seconds: Seconds
    burst: Annotated[int, Meta(ge=1, le=limits.RATE_TOKENS_MAX)] | None = None


class QueueBody(Shape, frozen=True, kw_only=True):
    """Settings of a queue: PUT replaces all of them, PATCH those it names (null: back to the default).

    rate: how fast its tasks may be taken. weight: its share among the queues of a dequeue; 0: tasks go in their own
    order over all of them. order: strict; fair: the groups take turns by their weights, and all tasks without a group
    as one; or ageing: a task of priority p stands as if it had come p times ageing_in_seconds (default 60) later.
    max_dead: how many dead tasks are kept, 0: 100,000; the oldest go first.
    priority: queues of a dequeue, and the sub-queues that it drains with them, are drained lower first.
    on_dead: as in an entry, for tasks that say none; it does not follow a task of its own queue and type.
    """

    paused: bool | None = None
    max_running: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    keepalive_timeout_in_seconds: Seconds | None = None
    expires_in_seconds: Seconds | None = None
    retry_strategy: RetryStrategyBody | None = None
    keep: KeepBody | None = None
    dedupe: DedupeBody | None = None
    rate: RateBody | None = None
    weight: Annotated[int, Meta(ge=0, le=limits.WEIGHT_MAX)] | None = None
    order: OrderWord | None = None
    ageing_in_seconds: Seconds | None = None
    max_dead: Annotated[int, Meta(ge=0, le=limits.ENDED_PER_QUEUE_MAX)] | None = None
    priority: Priority | None = None
    on_dead: EntryBody | None = None
