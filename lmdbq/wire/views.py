"""What people read: tasks with their history and why they wait, queues with their counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType

from lmdbq import limits
from lmdbq.ids import format_id, format_set_id
from lmdbq.model import Changed, Encoding, Options, Outcome, QueueView, State, Task
from lmdbq.wire import payloads, values
from lmdbq.wire.answers import ActionAnswer, ChangeAnswer, FailureAnswer, QueueAnswer, TaskAnswer, WaitingFor
from lmdbq.wire.filters import Action
from lmdbq.wire.policies import keep_answer, retry_answer
from lmdbq.wire.problems import Codec
from lmdbq.wire.queue_settings import settings_answer
from lmdbq.wire.templates import template_answer
from lmdbq.wire.why import why

HEAD_CHARS: Final = 256


def payload_fields(data: bytes, encoding: Encoding, codec: Codec, how: str = "full") -> dict[str, Any]:
    """Return the fields that say a payload. how: full, head (the first 256 characters as text) or none."""
    if how == "none":
        return {"payload_bytes": len(data)}
    if how == "head":
        return {"payload_head": _head(data, encoding), "payload_bytes": len(data)}
    return value_fields("payload", data, encoding, codec)


def _head(data: bytes, encoding: Encoding) -> str:
    if encoding is Encoding.BYTES:
        return payloads.to_base64(data[: HEAD_CHARS * 3 // 4])
    return payloads.to_json(data, encoding)[: 4 * HEAD_CHARS].decode("utf-8", "ignore")[:HEAD_CHARS]


def value_fields(name: str, data: bytes, encoding: Encoding, codec: Codec) -> dict[str, Any]:
    """Return a payload or result under ``name``, or under ``name_base64`` for bytes in JSON."""
    if not codec.is_json:
        return {name: Raw(payloads.to_msgpack(data, encoding))}
    if encoding is Encoding.BYTES:
        return {f"{name}_base64": payloads.to_base64(data)}
    return {name: Raw(payloads.to_json(data, encoding))}


def set_fields(options: Options) -> dict[str, Any]:
    """Return the fields that say which set a task is a member of, and which it follows."""
    return {
        "set_id": format_set_id(options.set_id) if options.set_id else UNSET,
        "callback_of": format_set_id(options.callback_of) if options.callback_of else UNSET,
    }


def _option_fields(options: Options, codec: Codec) -> dict[str, Any]:
    return {
        "keepalive_timeout_in_seconds": values.seconds(options.keepalive_ns) if options.keepalive_ns else UNSET,
        "retry_strategy": retry_answer(options.retry) if options.retry else UNSET,
        "keep": keep_answer(options.keep) if options.keep else UNSET,
        "thread_id": options.thread or UNSET,
        "rejoin": options.rejoin or UNSET,
        "group_key": options.group or UNSET,
        "tags": list(options.tags),
        "metadata": Raw(codec.of_json(options.metadata or b"{}")),
        "external_id": options.external_id or UNSET,
        **set_fields(options),
        "on_dead": template_answer(options.on_dead, codec) if options.on_dead else UNSET,
    }


def task_answer(
    task: Task, codec: Codec, *, payload: str = "full", waiting_for: WaitingFor | None = None
) -> TaskAnswer:
    """Return everything about a task. waiting_for: see ``why``."""
    options = task.options
    result = {} if task.result is None else value_fields("result", task.result, task.result_encoding, codec)
    return TaskAnswer(
        id=format_id(task.id),
        queue_name=task.queue,
        type=task.type,
        priority=task.priority,
        created_at=task.created_at,
        scheduled_at=task.scheduled_at,
        expires_at=task.expires_at,
        dedupe_key=options.dedupe.key if options.dedupe else "",
        attempts=task.attempts,
        deliveries=task.deliveries,
        state=task.state.word,  # type: ignore[arg-type]  # the words of State are those of StateWord
        max_attempts=task.max_attempts,
        failures=task.failures,
        due_at=task.due_at,
        lease_expires_at=values.whole_us(task.lease_expires_at) or UNSET,
        cancel_requested=task.cancel_requested,
        progress=UNSET if task.progress is None else task.progress,
        errors=[FailureAnswer(one.at, one.delivery, one.message, one.type, one.backtrace) for one in task.errors],
        reason=task.reason or UNSET,
        ended_at=task.ended_at or UNSET,
        remove_at=task.remove_at or UNSET,
        waiting_for=waiting_for or UNSET,
        **_option_fields(options, codec),
        **payload_fields(task.payload, task.encoding, codec, payload),
        **result,
    )


def queue_answer(
    queue: QueueView,
    now_wall: int,
    consumers: int,
    unconsumed: Collection[str],
    codec: Codec,
    *,
    draining: bool = False,
) -> QueueAnswer:
    """Return a queue as people see it, in ``codec``. unconsumed, draining: see ``why``."""
    oldest = max(0, now_wall - queue.oldest_ready_at) if queue.oldest_ready_at else 0
    return QueueAnswer(
        name=queue.name,
        settings=settings_answer(queue.settings, codec),
        counts={state.word: queue.count(state) for state in State},
        types=queue.counts,
        totals={name: getattr(queue.totals, name) for name in queue.totals.__struct_fields__},
        oldest_ready_seconds=oldest / limits.SECOND_NS,
        next_due_at=queue.next_due_at,
        consumers=consumers,
        blocked_by=queue.blocked_by,
        waiting_for=why(queue, unconsumed=unconsumed, draining=draining) or UNSET,
        unconsumed_types=sorted(unconsumed),
    )


def conflict_detail(changed: Changed, conflict: str) -> str | None:
    """Return why a change was refused, in words; None if its state did not stand in the way. conflict: if it did."""
    state = f" (it is {changed.state.word})" if changed.state is not None else ""
    details = {
        Outcome.CONFLICT: conflict + state,
        Outcome.DEDUPE_CONFLICT: "another task has taken its dedupe_key meanwhile; cancel or delete that one first",
        Outcome.EXPIRED: "its expires_at has passed, so it would never run; enqueue it anew",
    }
    return details.get(changed.outcome)


def state_word(state: State | None) -> Any:
    """Return the word of a state, None for none."""
    return None if state is None else state.word


def change_answer(changed: Changed) -> ChangeAnswer:
    """Return what became of one task."""
    return ChangeAnswer(format_id(changed.id), changed.outcome.value, state_word(changed.state))


def action_answer(action: Action, changes: Sequence[Changed], following: int) -> ActionAnswer:
    """Return what an action did to a page of tasks. following: where the next page begins, 0 = that was all."""
    changed = sum(one.outcome in (Outcome.OK, Outcome.CANCEL_REQUESTED) for one in changes)
    shown = [change_answer(one) for one in changes]
    return ActionAnswer(action.action, False, len(changes), changed, shown, _next(following))


def dry_answer(action: Action, tasks: Sequence[Task], following: int) -> ActionAnswer:
    """Return what an action would do to a page of tasks; ``changed`` counts those whose state allows it."""
    shown = [
        ChangeAnswer(format_id(task.id), "dry_run" if action.may(task.state) else "conflict", state_word(task.state))
        for task in tasks
    ]
    changed = sum(one.outcome == "dry_run" for one in shown)
    return ActionAnswer(action.action, True, len(shown), changed, shown, _next(following))


def _next(following: int) -> str | UnsetType:
    return values.format_cursor(following) if following else UNSET
