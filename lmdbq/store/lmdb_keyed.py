"""Calls whose entries differ in payload and dedupe key only, with keys that nobody holds: the common import.

Such a call needs no planning: every entry becomes a task, and takes its slot. That all keys are free is found out by
going along the index and the sorted keys side by side, so keys that rise cost one look for the whole call, and random
ones one each. Any key that is held, or stands twice in the call, sends the whole call to the planner.

The trap: what earlier calls of the transaction take must be in the file before this looks there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from msgspec import msgpack

from lmdbq import limits
from lmdbq.model import Scope, UniformEntries
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_work import Queue, Work
from lmdbq.store.records import crc32

KEYED_MIN: Final = 8  # entries; fewer are planned, and share their runs with neighbouring calls


def free_slots(work: Work, queue_no: int, keys: Sequence[str]) -> list[bytes] | None:
    """Return the slots of dedupe keys in a queue; None unless all differ, are free, and stand in the file as they are.

    A key may be free and still be stored (its task has ended, or was never removed): the planner knows such cases.
    """
    head = ks.slot(Scope.QUEUE, queue_no, "x")[:-1]
    slots = [head + key.encode() for key in keys]
    ordered = sorted(slots)
    if max(map(len, slots)) > len(head) + limits.DEDUPE_RAW_BYTES_MAX or len(set(slots)) < len(slots):
        return None
    cursor = work.cursor("dedupe")
    at = 0
    found = cursor.set_range(ordered[0])
    while found:
        at = bisect_left(ordered, cursor.key(), at)
        if at == len(ordered):
            break
        if ordered[at] == cursor.key():
            return None
        found = cursor.set_range(ordered[at])
    return slots


def write_keyed(
    work: Work, queue: Queue, type_no: int, first_id: int, entries: UniformEntries, slots: list[bytes]
) -> None:
    """Write new tasks with ids from ``first_id``, ready now, and their slots, which must be free."""
    now_wall, length = work.now.wall, len(entries)
    priority = entries.priority + ks.PRIORITY_BIAS
    heads: dict[int, tuple[bytes, int]] = {}
    packed = list(map(msgpack.encode, entries.keys))
    for size in set(map(len, packed)):
        head = rec.write_keyed_head(
            queue.no, type_no, int(entries.encoding), priority, now_wall, (Scope.QUEUE, queue.no), size
        )
        heads[size] = (head, crc32(head))
    pack_crc, pack_id, join = rec.pack_crc, ks.U64.pack, b"".join
    items = []
    for task_id, key, payload in zip(range(first_id, first_id + length), packed, entries.payloads, strict=True):
        head, head_crc = heads[len(key)]
        crc = pack_crc(crc32(payload, crc32(key, head_crc)))
        items.append((pack_id(task_id), join((head, key, payload, crc))))
    work.append_tasks(items)
    last_id = first_id + length - 1
    run_key = ks.ready(queue.no, type_no, priority, now_wall, last_id)
    work.put("ready", run_key, rec.write_ready_run(run_key, length, 0, 0))
    taken = rec.write_fresh_slots(first_id, queue.no, now_wall, length)
    work.cursor("dedupe").putmulti(sorted(zip(slots, taken, strict=True)))
    work.stirred.add(queue.name)
