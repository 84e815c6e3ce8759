"""What the daemon answers: one Struct per body, from which /openapi.json is made and which clients decode.

Unknown fields are ignored when one is read, so that a newer daemon may say more. ``UNSET`` fields are left out. The
hot answers (enqueue, dequeue, report) are written as text by ``render``; these Structs say the same in MessagePack.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lmdbq.wire.shapes import EntryBody, KeepBody, QueueBody, RetryStrategyBody, StateWord

TaskId = Annotated[str, Meta(pattern="^tsk_[0-9A-Za-z]{11}$")]
SetId = Annotated[str, Meta(pattern="^set_[0-9A-Za-z]{11}$")]
Lease = Annotated[str, Meta(pattern=r"^tsk_[0-9A-Za-z]{11}\.[0-9]+$")]
At = Annotated[int, Meta(ge=0, description="Unix time in nanoseconds, a whole number of microseconds; 0: none.")]
Count = Annotated[int, Meta(ge=0)]


class FailureAnswer(Struct):
    """One failed attempt."""

    at: At
    delivery: Count
    message: str = ""
    type: str = ""
    backtrace: str = ""


class WaitingFor(Struct):
    """Why a task, or what is in a queue, is not running. reason: one of ``why.REASONS``. until: when that ends, if it
    is known."""

    reason: str
    detail: str
    until: At | UnsetType = UNSET


class TaskAnswer(Struct):
    """A task. Which fields are said depends on the answer; the first twelve are always there.

    payload, or payload_base64 for bytes in JSON; neither when the reader asked for none. lease: in dequeue only.
    set_id: the set it is a member of. callback_of: the set that was decided, for which it was enqueued.
    """

    id: TaskId
    queue_name: str
    type: str
    priority: int
    created_at: At
    scheduled_at: At
    expires_at: At
    dedupe_key: str
    attempts: Count
    deliveries: Count
    state: StateWord
    payload: Raw | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET
    payload_head: str | UnsetType = UNSET
    payload_bytes: Count | UnsetType = UNSET
    lease: Lease | UnsetType = UNSET
    lease_expires_at: At | UnsetType = UNSET
    keepalive_timeout_in_seconds: float | UnsetType = UNSET
    max_attempts: Count | UnsetType = UNSET
    failures: Count | UnsetType = UNSET
    due_at: At | UnsetType = UNSET
    retry_strategy: RetryStrategyBody | UnsetType = UNSET
    keep: KeepBody | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    on_dead: EntryBody | UnsetType = UNSET
    external_id: str | UnsetType = UNSET
    set_id: SetId | UnsetType = UNSET
    callback_of: SetId | UnsetType = UNSET
    cancel_requested: bool | UnsetType = UNSET
    progress: float | UnsetType = UNSET
    errors: list[FailureAnswer] | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    result_base64: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    ended_at: At | UnsetType = UNSET
    remove_at: At | UnsetType = UNSET
    waiting_for: WaitingFor | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET
    rejoin: bool | UnsetType = UNSET
    group_key: str | UnsetType = UNSET


class EntryOutcome(Struct):
    """What became of one entry. id and state are those of the task that has its dedupe key, if it was a duplicate.

    outcome: enqueued, skipped or overwritten. state: null when that task is no longer stored.
    """

    id: TaskId
    outcome: str
    deduped: bool
    queue_name: str
    state: StateWord | None
    priority: int
    reason: str | UnsetType = UNSET


class EnqueueAnswer(Struct):
    """tasks: those that were enqueued or overwritten. outcomes: one per entry, in order."""

    outcomes: list[EntryOutcome]
    tasks: list[TaskAnswer] | UnsetType = UNSET


class TaskCreated(Struct):
    """Answer of POST /v1/tasks."""

    outcome: EntryOutcome
    task: TaskAnswer | UnsetType = UNSET


class DequeueAnswer(Struct):
    """reason, when there are no tasks: empty, paused, max_running, rate_limited, thread or draining.

    retry_in_seconds: when asking again may find something, if that is known.
    """

    tasks: list[TaskAnswer]
    reason: str | UnsetType = UNSET
    retry_in_seconds: float | UnsetType = UNSET


class ReportOutcome(Struct):
    """outcome: ok, not_found, not_running or stale_lease. state: after ok, null if the task is no longer stored."""

    lease: str
    outcome: str
    state: StateWord | UnsetType | None = UNSET


class ReportAnswer(Struct):
    """One outcome per report; tasks, reason and retry_in_seconds as in dequeue, if that was asked for."""

    outcomes: list[ReportOutcome]
    tasks: list[TaskAnswer] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    retry_in_seconds: float | UnsetType = UNSET


class ExtendOutcome(Struct):
    """outcome: ok, not_found, not_running or stale_lease; the rest is said for ok."""

    lease: str
    outcome: str
    lease_expires_at: At | UnsetType = UNSET
    cancel_requested: bool | UnsetType = UNSET


class ExtendAnswer(Struct):
    """One outcome per lease."""

    outcomes: list[ExtendOutcome]


class LineProblem(Struct):
    """A line of a bulk import that was not accepted; lines count from 1."""

    line: Count
    code: str
    pointer: str
    detail: str


class ImportAnswer(Struct):
    """What became of a bulk import. last_line: everything up to it is settled; resume with ?from_line=last_line+1.

    stopped: it ended before the last line, and `errors` ends with why. outcomes: with ?outcomes=true, a line each.
    """

    lines: Count
    enqueued: Count
    skipped: Count
    overwritten: Count
    failed: Count
    last_line: Count
    stopped: bool
    errors: list[LineProblem]
    outcomes: list[EntryOutcome] | UnsetType = UNSET


class ChangeAnswer(Struct):
    """What became of one task: ok, cancel_requested, conflict, dedupe_conflict, expired, gone or not_found."""

    id: TaskId
    outcome: str
    state: StateWord | None


class TasksAnswer(Struct):
    """A page. next: the cursor of the following page; a page may be short, even empty, and still have one."""

    tasks: list[TaskAnswer]
    next: str | UnsetType = UNSET


class CountAnswer(Struct):
    """How many tasks match; exact."""

    count: Count


class ActionAnswer(Struct):
    """What an action did, or (dry_run) would do, to one page of tasks. next: pass it as `cursor` to go on."""

    action: str
    dry_run: bool
    matched: Count
    changed: Count
    outcomes: list[ChangeAnswer]
    next: str | UnsetType = UNSET


class QueueAnswer(Struct):
    """A queue: settings, counts by state and by type, totals since it was created, and what holds it up.

    oldest_ready_seconds: how long the first ready task has been waiting, 0 if none is. consumers: dequeues that wait
    now. blocked_by: "", paused or max_running. unconsumed_types: ready types nobody here is asking for. waiting_for:
    why nothing of it is given out, or that nothing stands in its way.
    """

    name: str
    settings: QueueBody
    counts: dict[str, Count]
    types: dict[str, dict[str, Count]]
    totals: dict[str, Count]
    oldest_ready_seconds: float
    next_due_at: At
    consumers: Count
    blocked_by: str
    unconsumed_types: list[str]
    waiting_for: WaitingFor | UnsetType = UNSET


class QueuesAnswer(Struct):
    """Every queue, by name."""

    queues: list[QueueAnswer]


class QueueRemoved(Struct):
    """Answer of purge: how many tasks were removed."""

    queue_name: str
    tasks: Count


class DefaultRow(Struct):
    """One row of the table of defaults."""

    name: str
    value: Any
    doc: str


class SettingRow(DefaultRow):
    """One setting of this daemon and where it comes from."""

    env: str


class InfoAnswer(Struct):
    """Facts about the daemon and its file."""

    version: str
    python: str
    lmdb: str
    durability: str
    now: At
    started_at: At
    store: dict[str, Any]
    engine: dict[str, Any]
    settings: list[SettingRow]
    defaults: list[DefaultRow]


class HealthAnswer(Struct):
    """status: ok, or why not: draining, failed or busy."""

    status: str


class PlaceAnswer(Struct):
    """Answer of GET /."""

    name: str
    version: str
    openapi: str
    links: dict[str, str]


class ProblemItem(Struct):
    """One thing that is wrong: where (an RFC 6901 pointer), and what to do. holder: of a taken dedupe key."""

    code: str
    pointer: str
    detail: str
    holder: TaskId | UnsetType = UNSET


class ProblemAnswer(Struct):
    """An error as RFC 9457 has it. code is stable, detail says what to do, problems lists what is wrong (first 20)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    pointer: str | UnsetType = UNSET
    problems: list[ProblemItem] | UnsetType = UNSET
