"""The hot answers to workers: claimed tasks and the outcomes of reports, written as one flat join, as in ``render``.

A lease is an id and a number, so ids are printed together; what tasks share is made into text once. When all reports
ended alike, which is nearly always so, only the leases are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from lmdbq.ids import format_id, format_ids, format_lease
from lmdbq.model import PLAIN, Claimed, ClaimedTask, Encoding, Extended, Options, Outcome, Reported
from lmdbq.wire import values
from lmdbq.wire.answers import DequeueAnswer, ExtendOutcome, ReportAnswer, ReportOutcome, TaskAnswer
from lmdbq.wire.problems import Codec
from lmdbq.wire.render import in_json, json_text, task_head
from lmdbq.wire.views import payload_fields, set_fields, state_word

_NEXT_TASK: Final = b',{"lease":"'


def dequeue_answer(claimed: Claimed, now_wall: int, codec: Codec, reason: str = "") -> bytes:
    """Return the body of /v1/dequeue. reason: said instead of the claim's own, when there are no tasks."""
    if codec.is_json and claimed.tasks:
        return b"".join(tasks_json(claimed.tasks, b'{"tasks":[', b"]}\n"))
    return codec.encode(dequeue_struct(claimed, now_wall, codec, reason))


def report_answer(
    leases: Sequence[str], reported: Sequence[Reported], claimed: Claimed | None, now_wall: int, codec: Codec
) -> bytes:
    """Return the body of /v1/report. claimed: what it has dequeued, too; None if that was not asked for."""
    if codec.is_json and (claimed is None or claimed.tasks):
        start = b'{"outcomes":' + _outcomes_json(leases, reported)
        if claimed is None:
            return start + b"}\n"
        return b"".join(tasks_json(claimed.tasks, start + b',"tasks":[', b"]}\n"))
    outcomes = report_outcomes(leases, reported)
    if claimed is None:
        return codec.encode(ReportAnswer(outcomes))
    answer = dequeue_struct(claimed, now_wall, codec)
    return codec.encode(ReportAnswer(outcomes, answer.tasks, answer.reason, answer.retry_in_seconds))


def _outcomes_json(leases: Sequence[str], reported: Sequence[Reported]) -> bytes:
    """Return outcomes as a JSON array. Mostly all are the same, and only the leases differ."""
    if not reported or reported.count(reported[0]) < len(reported):
        return msgspec.json.encode(report_outcomes(leases, reported))
    start, _, end = msgspec.json.encode(_report_outcome("|", reported[0])).decode().partition("|")
    return f"[{start}{f'{end},{start}'.join(leases)}{end}]".encode()


def report_outcomes(leases: Sequence[str], reported: Sequence[Reported]) -> list[ReportOutcome]:
    """Return what became of each report."""
    return [_report_outcome(lease, one) for lease, one in zip(leases, reported, strict=True)]


def extend_outcomes(leases: Sequence[str], extended: Sequence[Extended]) -> list[ExtendOutcome]:
    """Return what became of each lease that was to be extended."""
    return [
        ExtendOutcome(lease, one.outcome.value, one.lease_expires_at, one.cancel_requested)
        if one.outcome is Outcome.OK
        else ExtendOutcome(lease, one.outcome.value)
        for lease, one in zip(leases, extended, strict=True)
    ]


def _report_outcome(lease: str, one: Reported) -> ReportOutcome:
    if one.outcome is not Outcome.OK:
        return ReportOutcome(lease, one.outcome.value)
    return ReportOutcome(lease, "ok", state_word(one.state))


def tasks_json(tasks: Sequence[ClaimedTask], start: bytes, end: bytes) -> list[bytes]:
    """Return the parts of claimed tasks in JSON, between ``start`` and ``end``."""
    parts = [start + b'{"lease":"']
    shared: dict[tuple[object, ...], tuple[bytes, bytes, bytes]] = {}
    for number, task in zip(format_ids([task.id for task in tasks]), tasks, strict=True):
        key = (
            task.queue,
            task.type,
            task.encoding,
            task.priority,
            task.created_at,
            task.scheduled_at,
            task.expires_at,
            task.deliveries,
            task.attempts,
            task.max_attempts,
            task.keepalive_ns,
            task.lease_expires_at,
        )
        plain = task.options is PLAIN or task.options == PLAIN
        texts = shared.get(key) if plain else None
        if texts is None:
            texts = _claimed_texts(task)
            if plain:
                shared[key] = texts
        payload = task.payload if task.encoding is Encoding.JSON else in_json(task.payload, task.encoding)
        parts += (number, texts[0], number, texts[1], payload, texts[2])
    parts[-1] = parts[-1].removesuffix(_NEXT_TASK)
    parts.append(end)
    return parts


def _claimed_texts(task: ClaimedTask) -> tuple[bytes, bytes, bytes]:
    """Return what stands between the id and the id, the id and the payload, and the payload and the next task's id."""
    options = task.options
    after = (
        b',"priority":%d,"created_at":%d,"scheduled_at":%d,"expires_at":%d,"dedupe_key":%b,"deliveries":%d,'
        b'"attempts":%d,"max_attempts":%d,"lease_expires_at":%d,"keepalive_timeout_in_seconds":%b,'
        b'"tags":%b,"metadata":%b%b,"state":"running"}'
    ) % (
        task.priority,
        task.created_at,
        task.scheduled_at,
        task.expires_at,
        json_text(options.dedupe.key if options.dedupe else ""),
        task.deliveries,
        task.attempts,
        task.max_attempts,
        task.lease_expires_at,
        json_text(values.seconds(task.keepalive_ns)),
        json_text(options.tags),
        options.metadata or b"{}",
        _lane(options) + _set(options),
    )
    before = task_head(task.queue, task.type, is_bytes=task.encoding is Encoding.BYTES)
    return b'.%d","id":"' % task.deliveries, before, after + _NEXT_TASK


def _lane(options: Options) -> bytes:
    if options.thread:
        return b',"thread_id":' + json_text(options.thread)
    return b',"group_key":' + json_text(options.group) if options.group else b""


def _set(options: Options) -> bytes:
    if not options.set_id and not options.callback_of:
        return b""
    said = [b',"%b":"%b"' % (name.encode(), text.encode()) for name, text in set_fields(options).items() if text]
    return b"".join(said)


def claimed_task(task: ClaimedTask, codec: Codec) -> TaskAnswer:
    """Return one claimed task as a Struct."""
    options = task.options
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
        state="running",
        lease=format_lease(task.id, task.deliveries),
        lease_expires_at=task.lease_expires_at,
        keepalive_timeout_in_seconds=values.seconds(task.keepalive_ns),
        max_attempts=task.max_attempts,
        tags=list(options.tags),
        metadata=Raw(codec.of_json(options.metadata or b"{}")),
        thread_id=options.thread or UNSET,
        group_key=options.group or UNSET,
        **set_fields(options),
        **payload_fields(task.payload, task.encoding, codec),
    )


def dequeue_struct(claimed: Claimed, now_wall: int, codec: Codec, reason: str = "") -> DequeueAnswer:
    """Return the answer of /v1/dequeue as a Struct."""
    if claimed.tasks:
        return DequeueAnswer([claimed_task(task, codec) for task in claimed.tasks])
    wait = max(0, claimed.retry_at - now_wall)
    return DequeueAnswer([], reason or claimed.reason or "empty", values.seconds(wait) if claimed.retry_at else UNSET)
