"""New tasks of a transaction, gathered from its calls and written in one go, in order of id.

They come as *drafts*, one object a task, or as *stretches*: entries of a call that differ in nothing but their payload,
which is what most batches are made of, and which cost a fifth. Either way records are appended with one ``putmulti``,
and neighbouring ready tasks of the same place become one run, also over the borders of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Raw

from lmdbq.model import PLAIN, Encoding, Entry, State, UniformEntries
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_drafts import Draft
from lmdbq.store.lmdb_work import Queue, Work
from lmdbq.store.records import crc32

Place = tuple[int, int, int, int]
"""queue_no, type_no, encoding, priority as it is stored."""


class _Stretch:
    """New tasks that differ in nothing but their payload, with ids from ``first_id``: ready now, no options."""

    __slots__ = ("first_id", "payloads", "place")

    def __init__(self, place: Place, first_id: int, payloads: Sequence[bytes | Raw]) -> None:
        self.place = place
        self.first_id = first_id
        self.payloads = list(payloads)


def are_plain(entries: Sequence[Entry]) -> bool:
    """Whether entries start now, never expire and have no options: nothing but a place and a payload."""
    if isinstance(entries, UniformEntries):
        return not entries.keys
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


def stretches(entries: Sequence[Entry]) -> list[tuple[UniformEntries, Sequence[int]]]:
    """Return plain entries as stretches with the indexes of their entries, in the order in which they get their ids.

    Ids go by (queue, priority) as each first appears, then by input order; a new type or encoding begins a new stretch.
    """
    if isinstance(entries, UniformEntries):
        return [(entries, range(len(entries)))]
    groups: dict[tuple[str, int], list[int]] = {}
    for index, entry in enumerate(entries):
        group = groups.get((entry.queue, entry.priority))
        if group is None:
            groups[(entry.queue, entry.priority)] = [index]
        else:
            group.append(index)
    found: list[tuple[UniformEntries, Sequence[int]]] = []
    for group in groups.values():
        kind: tuple[str, Encoding] | None = None
        payloads: list[bytes | Raw] = []
        indexes: list[int] = []
        for index in group:
            entry = entries[index]
            if kind != (entry.type, entry.encoding):
                kind = (entry.type, entry.encoding)
                payloads, indexes = [], []
                found.append((UniformEntries(payloads, entry.queue, *kind, entry.priority), indexes))
            payloads.append(entry.payload)
            indexes.append(index)
    return found


class NewTasks:
    """The new tasks of a transaction. They are added by rising id."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._parts: list[_Stretch | list[Draft]] = []
        self._items: list[tuple[bytes, bytes]] = []
        self._runs: list[list[int]] = []  # queue_no, type_no, priority, rank, last id, length
        self._heads: dict[tuple[object, ...], tuple[bytes, int]] = {}

    def add_stretch(self, queue: Queue, type_no: int, first_id: int, entries: UniformEntries) -> None:
        """Add entries that are ready now; they join those before them if they are of the same place."""
        place = (queue.no, type_no, int(entries.encoding), entries.priority + ks.PRIORITY_BIAS)
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Stretch) and last.place == place and last.first_id + len(last.payloads) == first_id:
            last.payloads += entries.payloads
        else:
            self._parts.append(_Stretch(place, first_id, entries.payloads))
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
        now_wall = self._work.now.wall
        queue_no, type_no, _, priority = stretch.place
        head, head_crc = self._head((*stretch.place, now_wall, 0))
        pack_crc, pack_id, join = rec.pack_crc, ks.U64.pack, b"".join
        self._items += [
            (pack_id(task_id), join((head, payload, pack_crc(crc32(payload, head_crc)))))
            for task_id, payload in enumerate(stretch.payloads, stretch.first_id)
        ]
        self._add_run([queue_no, type_no, priority, now_wall], stretch.first_id, len(stretch.payloads))

    def _head(self, place: tuple[int, int, int, int, int, int]) -> tuple[bytes, int]:
        """Return what stands before the payload of plain tasks of one place, and its checksum."""
        known = self._heads.get(place)
        if known is None:
            queue_no, type_no, encoding, priority, scheduled_at, expires_at = place
            created_at = self._work.now.wall
            head = rec.write_task_head(
                queue_no, type_no, encoding, priority, created_at, scheduled_at, expires_at, rec.NO_SLOT, 0, PLAIN
            )
            known = self._heads[place] = (head, crc32(head))
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
