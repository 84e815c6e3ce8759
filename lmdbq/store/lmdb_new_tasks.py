"""New tasks of a transaction, gathered from its calls and written in one go, in order of id.

They come as *drafts*, one object a task, or as *stretches*: entries of a call that differ in nothing but their payload,
which is what most batches are made of, and which cost a fifth. Either way records are appended with one ``putmulti``,
and neighbouring ready tasks of the same place become one run, also over the borders of calls.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from lmdbq.model import PLAIN, Entry, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_drafts import Draft
from lmdbq.store.lmdb_work import Queue, Work


class _Stretch:
    """Entries that differ in nothing but their payload, with ids from ``first_id``: ready now, no options."""

    __slots__ = ("entries", "first_id", "queue_no", "type_no")

    def __init__(self, queue_no: int, type_no: int, first_id: int, entries: Sequence[Entry]) -> None:
        self.queue_no = queue_no
        self.type_no = type_no
        self.first_id = first_id
        self.entries = entries


def are_plain(entries: Sequence[Entry]) -> bool:
    """Whether entries start now, never expire and have no options: nothing but a place and a payload."""
    for entry in entries:
        if (
            entry.options is not PLAIN
            or entry.scheduled_at
            or entry.delay_ns
            or entry.expires_at
            or entry.expires_in_ns
        ):
            return False
    return True


def stretches(entries: Sequence[Entry]) -> list[list[int]]:
    """Return the indexes of plain entries as stretches, in the order in which they get their ids.

    Ids go by (queue, priority) as each first appears, then by input order; a new type or encoding begins a new stretch.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for index, entry in enumerate(entries):
        group = groups.get((entry.queue, entry.priority))
        if group is None:
            groups[(entry.queue, entry.priority)] = [index]
        else:
            group.append(index)
    found: list[list[int]] = []
    for group in groups.values():
        last = None
        for index in group:
            entry = entries[index]
            if last is None or entry.type != last.type or entry.encoding is not last.encoding:
                found.append([])
            found[-1].append(index)
            last = entry
    return found


class NewTasks:
    """The new tasks of a transaction. They are added by rising id."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._parts: list[_Stretch | list[Draft]] = []
        self._items: list[tuple[bytes, bytes]] = []
        self._runs: list[list[int]] = []  # queue_no, type_no, priority, rank, last id, length
        self._heads: dict[tuple[object, ...], tuple[bytes, int]] = {}

    def add_stretch(self, queue: Queue, type_no: int, first_id: int, entries: Sequence[Entry]) -> None:
        """Add plain entries that differ in nothing but their payload."""
        self._parts.append(_Stretch(queue.no, type_no, first_id, entries))
        self._work.stirred.add(queue.name)

    def add_drafts(self, drafts: list[Draft]) -> None:
        """Add drafts, with ids that rise."""
        self._parts.append(drafts)

    def write(self, newest: Callable[[Draft], Draft]) -> None:
        """Write everything that was added; ``newest`` answers the last version of a draft."""
        for part in self._parts:
            if isinstance(part, _Stretch):
                self._write_stretch(part)
            else:
                for draft in part:
                    self._write_draft(newest(draft))
        if self._items:
            self._work.append_tasks(self._items)
        for *place, length in self._runs:
            key = ks.ready(*place)
            self._work.put("ready", key, rec.write_ready_run(key, length, 0, 0))

    def _write_stretch(self, stretch: _Stretch) -> None:
        first, now_wall = stretch.entries[0], self._work.now.wall
        priority = first.priority + ks.PRIORITY_BIAS
        place = (stretch.queue_no, stretch.type_no, int(first.encoding), priority, now_wall, 0)
        head, head_crc = self._head(place)
        crc32, pack_crc, pack_id, join = zlib.crc32, rec.pack_crc, ks.U64.pack, b"".join
        self._items += [
            (pack_id(task_id), join((head, entry.payload, pack_crc(crc32(entry.payload, head_crc)))))
            for task_id, entry in enumerate(stretch.entries, stretch.first_id)
        ]
        length = len(stretch.entries)
        self._add_run([stretch.queue_no, stretch.type_no, priority, now_wall], stretch.first_id, length)

    def _head(self, place: tuple[int, int, int, int, int, int]) -> tuple[bytes, int]:
        """Return what stands before the payload of plain tasks of one place, and its checksum."""
        known = self._heads.get(place)
        if known is None:
            queue_no, type_no, encoding, priority, scheduled_at, expires_at = place
            created_at = self._work.now.wall
            head = rec.write_task_head(
                queue_no, type_no, encoding, priority, created_at, scheduled_at, expires_at, rec.NO_SLOT, 0, PLAIN
            )
            known = self._heads[place] = (head, zlib.crc32(head))
        return known

    def _add_run(self, place: list[int], first_id: int, length: int) -> None:
        last = self._runs[-1] if self._runs else None
        if last is not None and last[4] == first_id - 1 and last[:4] == place:
            last[4] += length
            last[5] += length
        else:
            self._runs.append([*place, first_id + length - 1, length])

    def _write_draft(self, draft: Draft) -> None:
        work = self._work
        queue = work.queue(draft.queue_name)
        assert queue is not None
        type_no = work.create_type(draft.type)
        priority = draft.priority + ks.PRIORITY_BIAS
        place = (queue.no, type_no, int(draft.encoding), priority, draft.scheduled_at, draft.expires_at)
        if draft.options is PLAIN:
            head = self._head(place)[0]
        else:
            head = rec.write_task_head(
                *place[:4], work.now.wall, draft.scheduled_at, draft.expires_at, *draft.slot, draft.options
            )
        self._items.append((ks.task(draft.id), rec.write_task(head, draft.payload)))
        work.stirred.add(queue.name)
        if draft.state is State.READY:
            self._add_run([queue.no, type_no, priority, draft.rank], draft.id, 1)
        else:
            key = ks.scheduled(queue.no, draft.rank, draft.id)
            work.put("scheduled", key, rec.write_standing(key, type_no, 0, 0))
        if draft.expires_at:
            work.put("expiry", ks.expiry(queue.no, draft.expires_at, draft.id))
