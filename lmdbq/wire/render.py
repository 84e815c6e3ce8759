"""The hot answers: enqueue and dequeue, written as one flat join of texts and payloads.

A batch of 1,000 tasks is answered in about the time its ids take to print. The text between the values is made once
per (queue, type, priority, times) of a batch and repeated; payloads go through untouched. Nothing is joined twice: a
megabyte built twice costs more than all the rest. MessagePack answers say the same through the Structs of ``answers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from lmdbq.ids import format_id, format_ids, format_lease, id_parts
from lmdbq.model import (
    PLAIN,
    Claimed,
    ClaimedTask,
    Encoding,
    Enqueued,
    Entry,
    Outcome,
    Placed,
    State,
    Task,
    UniformEntries,
)
from lmdbq.wire import payloads, values
from lmdbq.wire.answers import DequeueAnswer, EnqueueAnswer, EntryOutcome, ReportAnswer, ReportOutcome, TaskAnswer
from lmdbq.wire.problems import Codec
from lmdbq.wire.requests import Batch
from lmdbq.wire.views import payload_fields, task_answer

_text = msgspec.json.encode
_KEY_NAME: Final = b'"dedupe_key":'
_NEXT_ID: Final = b',{"id":"'


def enqueue_answer(batch: Batch, done: Enqueued, stored: Mapping[int, Task], codec: Codec) -> bytes:
    """Return the body of /v1/enqueue. ``stored``: the tasks that were overwritten, as they are now."""
    entries, with_tasks = batch
    if codec.is_json and not done.odd:
        if isinstance(entries, UniformEntries):
            return _uniform_answer(entries, done, with_tasks=with_tasks)
        return _plain_answer(entries, done, with_tasks=with_tasks)
    return codec.encode(enqueue_struct(entries, done, stored, codec, with_tasks=with_tasks))


def _uniform_answer(entries: UniformEntries, done: Enqueued, *, with_tasks: bool) -> bytes:
    """All are newly enqueued and alike, so their ids follow each other; only two digits of each are printed anew."""
    outcome = _outcome_texts(entries[:1])[0]
    tasks: list[bytes | Raw] = []
    outcomes: list[bytes | Raw] = []
    between: list[bytes] = []  # what stands between two tasks' varying parts: id, payload and perhaps dedupe key
    if with_tasks:
        (head,), (tail,) = _task_texts(entries[:1], done.now)
        between = [head, tail]
        if entries.keys:
            before_key, _, after_key = tail.partition(_KEY_NAME + _text(entries.keys[0]))
            between = [head, before_key + _KEY_NAME, after_key]
    at = 0
    for prefix, ends in id_parts(done.ids[0], len(entries)):
        span = slice(at, at + len(ends))
        if with_tasks:
            varying = [ends, entries.payloads[span], *([list(map(_text, entries.keys[span]))] if entries.keys else [])]
            tasks += _woven(varying, between, prefix)
        outcomes += _woven([ends], [outcome], prefix)
        at = span.stop
    return _framed(tasks, outcomes, with_tasks=with_tasks)


def _woven(varying: list[Sequence[bytes | Raw]], between: list[bytes], prefix: bytes) -> list[bytes | Raw]:
    """Return texts that begin with ``prefix`` and the first of ``varying``, each followed by its text of ``between``.

    The prefix of a text stands at the end of the one before it, so that it costs no part of its own.
    """
    count, width = len(varying[0]), 2 * len(between)
    parts: list[bytes | Raw] = [between[-1] + prefix] * (width * count)
    for at, column in enumerate(varying):
        parts[2 * at :: width] = column
    for at, text in enumerate(between[:-1]):
        parts[2 * at + 1 :: width] = [text] * count
    parts[0] = prefix + bytes(parts[0])
    parts[-1] = between[-1]
    return parts


def _plain_answer(entries: Sequence[Entry], done: Enqueued, *, with_tasks: bool) -> bytes:
    """Every entry is newly enqueued, ready, and never expires."""
    ids = format_ids(done.ids)
    count = len(ids)
    tasks: list[bytes | Raw] = []
    if with_tasks:
        tasks = [b""] * (4 * count)
        tasks[0::4] = ids
        tasks[1::4], tasks[3::4] = _task_texts(entries, done.now)
        tasks[2::4] = [_in_json(entry.payload, entry.encoding) for entry in entries]
    outcomes: list[bytes | Raw] = [b""] * (2 * count)
    outcomes[0::2] = ids
    outcomes[1::2] = _outcome_texts(entries)
    return _framed(tasks, outcomes, with_tasks=with_tasks)


def _framed(tasks: list[bytes | Raw], outcomes: list[bytes | Raw], *, with_tasks: bool) -> bytes:
    """Return the whole body. Each list begins in front of an id, and ends with a text that announces one more."""
    outcomes[-1] = bytes(outcomes[-1]).removesuffix(_NEXT_ID)
    if not with_tasks:
        return b"".join([b'{"outcomes":[{"id":"', *outcomes, b"]}\n"])
    tasks[-1] = bytes(tasks[-1]).removesuffix(_NEXT_ID)
    return b"".join([b'{"tasks":[{"id":"', *tasks, b'],"outcomes":[{"id":"', *outcomes, b"]}\n"])


def _in_json(payload: bytes, encoding: Encoding) -> bytes:
    if encoding is Encoding.JSON:
        return payload
    if encoding is Encoding.BYTES:
        return b'"' + payloads.to_base64(payload).encode("ascii") + b'"'
    return payloads.to_json(payload, encoding)


def _task_texts(entries: Sequence[Entry], now: int) -> tuple[list[bytes], list[bytes]]:
    """Return what stands before and after the payload of each task; the text after ends with the start of the next."""
    before: dict[tuple[str, str, bool], bytes] = {}
    after: dict[tuple[int, str], bytes] = {}
    heads = []
    tails = []
    for entry in entries:
        head_key = (entry.queue, entry.type, entry.encoding is Encoding.BYTES)
        head = before.get(head_key)
        if head is None:
            name = b"payload_base64" if head_key[2] else b"payload"
            head = before[head_key] = _head(entry.queue, entry.type, name)
        heads.append(head)
        tail_key = (entry.priority, "" if entry.options is PLAIN else _key_of(entry))
        tail = after.get(tail_key)
        if tail is None:
            tail = after[tail_key] = (
                b',"priority":%d,"created_at":%d,"scheduled_at":%d,"expires_at":0,"dedupe_key":%b,'
                b'"attempts":0,"deliveries":0,"state":"ready"},{"id":"'
            ) % (entry.priority, now, now, _text(tail_key[1]))
        tails.append(tail)
    return heads, tails


def _head(queue: str, kind: str, payload_name: bytes) -> bytes:
    return b'","queue_name":%b,"type":%b,"%b":' % (_text(queue), _text(kind), payload_name)


def _outcome_texts(entries: Sequence[Entry]) -> list[bytes]:
    texts: dict[tuple[str, int], bytes] = {}
    result = []
    for entry in entries:
        key = (entry.queue, entry.priority)
        text = texts.get(key)
        if text is None:
            text = texts[key] = (
                b'","outcome":"enqueued","deduped":false,"queue_name":%b,"state":"ready","priority":%d},{"id":"'
            ) % (_text(entry.queue), entry.priority)
        result.append(text)
    return result


def _key_of(entry: Entry) -> str:
    return entry.options.dedupe.key if entry.options.dedupe else ""


def enqueue_struct(
    entries: Sequence[Entry], done: Enqueued, stored: Mapping[int, Task], codec: Codec, *, with_tasks: bool
) -> EnqueueAnswer:
    """Return the answer of /v1/enqueue as a Struct; each task once, however many entries named it."""
    outcomes = []
    tasks: dict[int, TaskAnswer] = {}
    for index, entry in enumerate(entries):
        placed = done.placed(index)
        outcomes.append(entry_outcome(entry, placed, stored.get(placed.id)))
        if with_tasks and placed.outcome is not Outcome.SKIPPED and placed.id not in tasks:
            tasks[placed.id] = placed_task(entry, placed, done.now, stored.get(placed.id), codec)
    return EnqueueAnswer(outcomes, list(tasks.values()) if with_tasks else UNSET)


def entry_outcome(entry: Entry, placed: Placed, stored: Task | None) -> EntryOutcome:
    """Return what became of one entry; queue and priority are those of the task, where it is known."""
    task: Any = stored or entry
    return EntryOutcome(
        format_id(placed.id),
        placed.outcome.value,
        placed.deduped,
        task.queue,
        state_word(placed.state),
        task.priority,
        placed.reason or UNSET,
    )


def state_word(state: State | None) -> Any:
    """Return the word of a state, None for none."""
    return None if state is None else state.word


def placed_task(entry: Entry, placed: Placed, now: int, stored: Task | None, codec: Codec) -> TaskAnswer:
    """Return a task as its producer is told of it: as it is stored, else as it was just enqueued."""
    if stored is not None:
        return task_answer(stored, codec)
    state: Any = State.READY if placed.state is None else placed.state
    return TaskAnswer(
        id=format_id(placed.id),
        queue_name=entry.queue,
        type=entry.type,
        priority=entry.priority,
        created_at=now,
        scheduled_at=placed.scheduled_at,
        expires_at=placed.expires_at,
        dedupe_key=_key_of(entry),
        attempts=0,
        deliveries=0,
        state=state.word,
        **payload_fields(entry.payload, entry.encoding, codec),
    )


# --- dequeue ----------------------------------------------------------------------------------------------------------


def dequeue_answer(claimed: Claimed, now_wall: int, codec: Codec, reason: str = "") -> bytes:
    """Return the body of /v1/dequeue. reason: said instead of the claim's own, when there are no tasks."""
    if codec.is_json and claimed.tasks:
        return b"".join(tasks_json(claimed.tasks, b'{"tasks":[', b"]}\n"))
    return codec.encode(dequeue_struct(claimed, now_wall, codec, reason))


def report_answer(outcomes: list[ReportOutcome], claimed: Claimed, now_wall: int, codec: Codec) -> bytes:
    """Return the body of a /v1/report that has dequeued, too."""
    if codec.is_json and claimed.tasks:
        start = b'{"outcomes":%b,"tasks":[' % codec.encode(outcomes)
        return b"".join(tasks_json(claimed.tasks, start, b"]}\n"))
    answer = dequeue_struct(claimed, now_wall, codec)
    return codec.encode(ReportAnswer(outcomes, answer.tasks, answer.reason, answer.retry_in_seconds))


def tasks_json(tasks: Sequence[ClaimedTask], start: bytes, end: bytes) -> list[bytes]:
    """Return the parts of claimed tasks in JSON, between ``start`` and ``end``."""
    ids = format_ids([task.id for task in tasks])
    parts = [start]
    texts: dict[Any, bytes] = {}
    for number, task in zip(ids, tasks, strict=True):
        key = (task.queue, task.type, task.encoding is Encoding.BYTES)
        head = texts.get(key)
        if head is None:
            name = b"payload_base64" if key[2] else b"payload"
            head = texts[key] = _head(task.queue, task.type, name)
        payload = _in_json(task.payload, task.encoding)
        lease = b'{"lease":"%b.%d","id":"' % (number, task.deliveries)
        parts += (lease, number, head, payload, _claimed_tail(task, texts), b",")
    parts[-1] = end
    return parts


def _claimed_tail(task: ClaimedTask, texts: dict[Any, bytes]) -> bytes:
    key = (
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
    text = texts.get(key) if plain else None
    if text is None:
        options = task.options
        text = (
            b',"priority":%d,"created_at":%d,"scheduled_at":%d,"expires_at":%d,"dedupe_key":%b,"deliveries":%d,'
            b'"attempts":%d,"max_attempts":%d,"lease_expires_at":%d,"keepalive_timeout_in_seconds":%b,'
            b'"tags":%b,"metadata":%b,"state":"running"}'
        ) % (
            *key[:4],
            _text(options.dedupe.key if options.dedupe else ""),
            *key[4:7],
            task.lease_expires_at,
            _text(values.seconds(task.keepalive_ns)),
            _text(options.tags),
            options.metadata or b"{}",
        )
        if plain:
            texts[key] = text
    return text


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
        **payload_fields(task.payload, task.encoding, codec),
    )


def dequeue_struct(claimed: Claimed, now_wall: int, codec: Codec, reason: str = "") -> DequeueAnswer:
    """Return the answer of /v1/dequeue as a Struct."""
    if claimed.tasks:
        return DequeueAnswer([claimed_task(task, codec) for task in claimed.tasks])
    wait = max(0, claimed.retry_at - now_wall)
    return DequeueAnswer([], reason or claimed.reason or "empty", values.seconds(wait) if claimed.retry_at else UNSET)
