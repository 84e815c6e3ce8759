"""Calls whose entries differ in payload and dedupe key only, with keys that nobody holds: the common import.

Such a call needs no planning: every entry becomes a task, and takes its slot. Nor are its keys looked up first, which
for random ones would cost as much as the puts themselves (1.6 of 5.6 us a task at 50 k): slots are put in the order of
the index, none over another, and if fewer were put than given, those of this call are taken out again and the call goes
to the planner. A few go first, so that a call that was sent again, or one with many duplicates, is known by them.

The trap: what earlier calls of the transaction take must be in the file before this looks there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lmdbq import limits
from lmdbq.model import Scope, UniformEntries
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_work import Queue, Work
from lmdbq.store.records import crc32

KEYED_MIN: Final = 8  # entries; fewer are planned, and share their runs with neighbouring calls
_FIRST: Final = 16  # slots that are put before the others

Items = list[tuple[bytes, bytes]]


def write_keyed(work: Work, queue: Queue, type_no: int, first_id: int, entries: UniformEntries) -> bool:
    """Write new tasks with ids from ``first_id``, ready now, and their slots.

    False, and nothing is written, unless all keys differ, are free, and stand in the file as they are. A key may be
    free and still be stored (its task has ended, or was never removed): the planner knows such cases.
    """
    keys = list(map(str.encode, entries.keys))
    if max(map(len, keys)) > limits.DEDUPE_RAW_BYTES_MAX:
        return False
    ids = list(map(ks.U64.pack, range(first_id, first_id + len(keys))))
    head, fresh = ks.slot(Scope.QUEUE, queue.no, "x")[:-1], rec.write_fresh_slots(ids, queue.no, work.now.wall)
    slots = {head + key: slot for key, slot in zip(keys, fresh, strict=True)}
    if len(slots) < len(keys) or not _take(work, [(key, slots[key]) for key in sorted(slots)]):
        return False
    _write_tasks(work, queue, type_no, ids, keys, entries)
    work.stirred.add(queue.name)
    return True


def _take(work: Work, slots: Items) -> bool:
    """Put slots, which are in order; False, and none is put, if one of their keys stands in the file."""
    cursor = work.cursor("dedupe")
    for part in (slots[:_FIRST], slots[_FIRST:]):
        _, added = cursor.putmulti(part, overwrite=False)
        if added < len(part):
            break
    else:
        return True
    for key, slot in slots:
        if cursor.get(key) == slot:  # it is ours: it names a task that is not there yet
            cursor.delete()
    return False


def _write_tasks(
    work: Work, queue: Queue, type_no: int, ids: Sequence[bytes], keys: Sequence[bytes], entries: UniformEntries
) -> None:
    now_wall = work.now.wall
    priority = entries.priority + ks.PRIORITY_BIAS
    place = (queue.no, type_no, int(entries.encoding), priority, now_wall, (Scope.QUEUE, queue.no))
    heads = {size: rec.write_keyed_head(*place, size) for size in set(map(len, keys))}
    known = {size: (head, crc32(head)) for size, head in heads.items()}
    pack_crc, join = rec.pack_crc, b"".join
    work.append_tasks(
        [
            (task_id, join((head, key, payload, pack_crc(crc32(payload, crc32(key, head_crc))))))
            for task_id, key, payload, (head, head_crc) in zip(
                ids, keys, entries.payloads, map(known.__getitem__, map(len, keys)), strict=True
            )
        ]
    )
    run_key = ks.ready(queue.no, type_no, priority, now_wall, ks.read_id(ids[-1]))
    work.put("ready", run_key, rec.write_ready_run(run_key, len(ids), 0, 0))
