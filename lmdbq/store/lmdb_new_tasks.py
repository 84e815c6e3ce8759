"""New tasks of a transaction, gathered from its calls and written in one go, in order of id.

They come in three ways, the dearer the more they may say. A *stretch*: nothing but payloads differ, as in most large
batches (1.5 us a task, all in). A *group*: tasks of a queue and a priority that are ready now and have no options; what
else they share is made into bytes once per *kind* (2.3 us). *Drafts*: one object a task (5 us). Either way records are
appended with one ``putmulti``, and neighbouring ready tasks of the same place become one run, over calls, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Raw

from lmdbq.model import PLAIN, State, UniformEntries
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_drafts import Draft
from lmdbq.store.lmdb_known_lanes import Member, is_laned
from lmdbq.store.lmdb_work import Queue, Work
from lmdbq.store.records import crc32

Place = tuple[int, int, int, int]
"""queue_no, type_no, encoding, priority as it is stored."""


class Kind(NamedTuple):
    """What plain tasks have in common that differ in their payload. head: what stands before it, with its checksum."""

    queue: Queue
    type_no: int
    priority: int
    expires_at: int
    head: bytes
    head_crc: int


class _Stretch:
    """New tasks that differ in nothing but their payload, with ids from ``first_id``: ready now, no options."""

    __slots__ = ("first_id", "payloads", "place")

    def __init__(self, place: Place, first_id: int, payloads: Sequence[bytes | Raw]) -> None:
        self.place = place
        self.first_id = first_id
        self.payloads = list(payloads)


class _Group(NamedTuple):
    """New tasks of one queue and priority, with ids from ``first_id``: ready now, no options."""

    first_id: int
    rows: Sequence[tuple[Kind, bytes]]


class NewTasks:
    """The new tasks of a transaction. They are added by rising id."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._parts: list[_Stretch | _Group | list[Draft]] = []
        self._items: list[tuple[bytes, bytes]] = []
        self._runs: list[list[int]] = []  # queue_no, type_no, priority, rank, last id, length
        self._laned: list[Member] = []
        self._expiry: list[tuple[bytes, bytes]] = []
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

    def kind(self, queue: Queue, type_no: int, encoding: int, priority: int, expires_at: int) -> Kind:
        """Return what tasks that are ready now have in common. priority: as in an entry."""
        biased = priority + ks.PRIORITY_BIAS
        place = (queue.no, type_no, encoding, biased, self._work.now.wall, expires_at)
        return Kind(queue, type_no, biased, expires_at, *self._head(place))

    def add_group(self, first_id: int, rows: Sequence[tuple[Kind, bytes]]) -> None:
        """Add payloads of one queue and priority, each with its kind."""
        self._parts.append(_Group(first_id, rows))
        self._work.stirred.add(rows[0][0].queue.name)

    def add_drafts(self, drafts: list[Draft]) -> None:
        """Add drafts, with ids that rise."""
        self._parts.append(drafts)

    def write(self, newest: Callable[[Draft], Draft]) -> None:
        """Write everything that was added; ``newest`` answers the last version of a draft."""
        for part in self._parts:
            if isinstance(part, _Stretch):
                self._write_stretch(part)
            elif isinstance(part, _Group):
                self._write_group(part)
            else:
                for draft in part:
                    self._write_draft(newest(draft))
        if self._items:
            self._work.append_tasks(self._items)
        for *place, length in self._runs:
            key = ks.ready(*place)
            self._work.put("ready", key, rec.write_ready_run(key, length, 0, 0))
        for member in self._laned:
            self._work.lanes.enter(member)
        if self._expiry:
            self._work.cursor("expiry").putmulti(sorted(self._expiry))

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

    def _write_group(self, group: _Group) -> None:
        first_id, rows = group
        pack_crc, pack_id, join = rec.pack_crc, ks.U64.pack, b"".join
        self._items += [
            (pack_id(task_id), join((kind.head, payload, pack_crc(crc32(payload, kind.head_crc)))))
            for task_id, (kind, payload) in enumerate(rows, first_id)
        ]
        now_wall = self._work.now.wall
        kind = rows[0][0]
        if len({kind.type_no for kind, _ in rows}) == 1:
            self._add_run([kind.queue.no, kind.type_no, kind.priority, now_wall], first_id, len(rows))
        else:
            for task_id, (kind, _) in enumerate(rows, first_id):
                self._add_run([kind.queue.no, kind.type_no, kind.priority, now_wall], task_id, 1)
        self._expiry += [
            (ks.expiry(kind.queue.no, kind.expires_at, task_id), b"")
            for task_id, (kind, _) in enumerate(rows, first_id)
            if kind.expires_at
        ]

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
        if draft.options.set_id:
            work.sets.joined(draft.options.set_id)
        if draft.state is State.READY and is_laned(draft.options):
            self._laned.append(Member(draft.options, queue.no, type_no, priority, draft.rank, draft.id))
        elif draft.state is State.READY:
            self._add_run([queue.no, type_no, priority, draft.rank], draft.id, 1)
        else:
            key = ks.scheduled(queue.no, draft.rank, draft.id)
            work.put("scheduled", key, rec.write_standing(key, type_no, 0, 0))
        if draft.expires_at:
            work.put("expiry", ks.expiry(queue.no, draft.expires_at, draft.id))
