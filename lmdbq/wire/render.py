"""The hot answer to producers, written as one flat join of texts and payloads (``render_claims``: to workers).

A batch of 1,000 tasks is answered in about the time its ids take to print. The text between the values is made once
per (queue, type, priority, times) of a batch and repeated; payloads go through untouched. Nothing is joined twice: a
megabyte built twice costs more than all the rest. MessagePack answers say the same through the Structs of ``answers``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from lmdbq.ids import format_id, format_ids, id_parts
from lmdbq.model import (
    PLAIN,
    Encoding,
    Enqueued,
    Entry,
    Outcome,
    Placed,
    State,
    Task,
    UniformEntries,
)
from lmdbq.wire import payloads
from lmdbq.wire.answers import EnqueueAnswer, EntryOutcome, TaskAnswer
from lmdbq.wire.problems import Codec
from lmdbq.wire.requests import Batch
from lmdbq.wire.views import payload_fields, state_word, task_answer

json_text = msgspec.json.encode
_KEY_NAME: Final = b'"dedupe_key":'
_NEXT_ID: Final = b',{"id":"'
_TASK_TAIL: Final = (
    b',"priority":%d,"created_at":%d,"scheduled_at":%d,"expires_at":0,"dedupe_key":%b,'
    b'"attempts":0,"deliveries":0,"state":"ready"}'
)
_OUTCOME: Final = b'","outcome":"enqueued","deduped":false,"queue_name":%b,"state":"ready","priority":%d}'


def enqueue_answer(batch: Batch, done: Enqueued, stored: Mapping[int, Task], codec: Codec) -> bytes:
    """Return the body of /v1/enqueue. ``stored``: the tasks that were overwritten, as they are now."""
    entries, with_tasks = batch.entries, batch.return_tasks
    if codec.is_json and not done.odd:
        if isinstance(entries, UniformEntries):
            if len(entries) == 1:
                return _lone_answer(entries, done, with_tasks=with_tasks)
            return _uniform_answer(entries, done, with_tasks=with_tasks)
        return _plain_answer(entries, done, with_tasks=with_tasks)
    return codec.encode(enqueue_struct(entries, done, stored, codec, with_tasks=with_tasks))


def _lone_answer(entries: UniformEntries, done: Enqueued, *, with_tasks: bool) -> bytes:
    """One task, printed in one go: a quarter of the time that the columns of a batch would take."""
    number = format_id(done.ids[0]).encode("ascii")
    head, outcome = _lone_texts(entries.queue, entries.type, entries.priority, entries.encoding is Encoding.BYTES)
    if not with_tasks:
        return b'{"outcomes":[{"id":"%b%b]}\n' % (number, outcome)
    key = entries.keys[0] if entries.keys else ""
    payload = in_json(bytes(entries.payloads[0]), entries.encoding)
    tail = _TASK_TAIL % (entries.priority, done.now, done.now, json_text(key))
    return b'{"tasks":[{"id":"%b%b%b%b],"outcomes":[{"id":"%b%b]}\n' % (number, head, payload, tail, number, outcome)


@functools.lru_cache(maxsize=256)  # a producer names the same queue again and again: 1 us of 3
def _lone_texts(queue: str, kind: str, priority: int, is_bytes: bool) -> tuple[bytes, bytes]:
    return task_head(queue, kind, is_bytes=is_bytes), _OUTCOME % (json_text(queue), priority)


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
            before_key, _, after_key = tail.partition(_KEY_NAME + json_text(entries.keys[0]))
            between = [head, before_key + _KEY_NAME, after_key]
    at = 0
    for prefix, ends in id_parts(done.ids[0], len(entries)):
        span = slice(at, at + len(ends))
        if with_tasks:
            varying = [
                ends,
                entries.payloads[span],
                *([list(map(json_text, entries.keys[span]))] if entries.keys else []),
            ]
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
        tasks[2::4] = [in_json(entry.payload, entry.encoding) for entry in entries]
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


def in_json(payload: bytes, encoding: Encoding) -> bytes:
    """Return a payload as it stands in JSON."""
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
            head = before[head_key] = task_head(entry.queue, entry.type, is_bytes=head_key[2])
        heads.append(head)
        tail_key = (entry.priority, "" if entry.options is PLAIN else _key_of(entry))
        tail = after.get(tail_key)
        if tail is None:
            tail = _TASK_TAIL % (entry.priority, now, now, json_text(tail_key[1])) + _NEXT_ID
            after[tail_key] = tail
        tails.append(tail)
    return heads, tails


def task_head(queue: str, kind: str, *, is_bytes: bool) -> bytes:
    """Return what stands between a task's id and its payload."""
    return b'","queue_name":%b,"type":%b,"%b":' % (
        json_text(queue),
        json_text(kind),
        b"payload_base64" if is_bytes else b"payload",
    )


def _outcome_texts(entries: Sequence[Entry]) -> list[bytes]:
    texts: dict[tuple[str, int], bytes] = {}
    result = []
    for entry in entries:
        key = (entry.queue, entry.priority)
        text = texts.get(key)
        if text is None:
            text = texts[key] = _OUTCOME % (json_text(entry.queue), entry.priority) + _NEXT_ID
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
