"""What is known about a task, in Python's values: decoded payload and result, instants as datetimes in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct

from lmdbq.client.core import payload_of, result_of
from lmdbq.client.options import moment
from lmdbq.wire.answers import FailureAnswer, QueueAnswer, TaskAnswer, WaitingFor
from lmdbq.wire.group_shapes import GroupAnswer, RuleAnswer, ThreadAnswer
from lmdbq.wire.workers import WorkerAnswer

QueueInfo: TypeAlias = QueueAnswer
GroupInfo: TypeAlias = GroupAnswer
GroupRuleInfo: TypeAlias = RuleAnswer
ThreadInfo: TypeAlias = ThreadAnswer
WorkerInfo: TypeAlias = WorkerAnswer


class Failure(Struct, frozen=True):
    """One failed attempt. type: the exception's name, "lease_lapsed" if its worker fell silent."""

    at: datetime | None
    delivery: int
    message: str
    type: str
    backtrace: str


class TaskInfo(Struct, frozen=True, kw_only=True):
    """A task as it was when it was asked for.

    state: scheduled, ready, running, succeeded, dead or cancelled. deliveries: how often it was given to a worker;
    attempts: failures + the running one. due_at: when a scheduled task becomes ready. waiting_for: why it does not run.
    reason: why it is dead or cancelled. set: the id of the set it is a member of; callback_of: of the set that it
    follows. Instants are None where there is none.
    """

    id: str
    queue: str
    type: str
    state: str
    priority: int
    payload: Any
    attempts: int
    deliveries: int
    max_attempts: int | None
    failures: int | None
    dedupe_key: str
    tags: Sequence[str]
    metadata: dict[str, Any]
    created_at: datetime | None
    scheduled_at: datetime | None
    expires_at: datetime | None
    due_at: datetime | None
    ended_at: datetime | None
    remove_at: datetime | None
    lease_expires_at: datetime | None
    cancel_requested: bool
    progress: float | None
    errors: Sequence[Failure]
    result: Any
    reason: str
    waiting_for: WaitingFor | None
    thread: str
    group: str
    set: str
    callback_of: str


def task_info(task: TaskAnswer) -> TaskInfo:
    """Return an answer of the API in Python's values."""
    return TaskInfo(
        id=task.id,
        queue=task.queue_name,
        type=task.type,
        state=task.state,
        priority=task.priority,
        payload=payload_of(task),
        attempts=task.attempts,
        deliveries=task.deliveries,
        max_attempts=_or(task.max_attempts, None),
        failures=_or(task.failures, None),
        dedupe_key=task.dedupe_key,
        tags=tuple(_or(task.tags, ())),
        metadata=msgspec.json.decode(task.metadata) if task.metadata else {},
        created_at=moment(task.created_at),
        scheduled_at=moment(task.scheduled_at),
        expires_at=moment(task.expires_at),
        due_at=moment(task.due_at),
        ended_at=moment(task.ended_at),
        remove_at=moment(task.remove_at),
        lease_expires_at=moment(task.lease_expires_at),
        cancel_requested=_or(task.cancel_requested, False),
        progress=_or(task.progress, None),
        errors=tuple(_failure(one) for one in _or(task.errors, ())),
        result=result_of(task),
        reason=_or(task.reason, ""),
        waiting_for=_or(task.waiting_for, None),
        thread=_or(task.thread_id, ""),
        group=_or(task.group_key, ""),
        set=_or(task.set_id, ""),
        callback_of=_or(task.callback_of, ""),
    )


def _failure(one: FailureAnswer) -> Failure:
    return Failure(moment(one.at), one.delivery, one.message, one.type, one.backtrace)


def _or(value: Any, default: Any) -> Any:
    return default if value is UNSET else value
