"""Expire: waiting tasks whose time has come are removed, those of one ready run together.

Tasks that were enqueued together mostly expire together. So the first of a ready run is looked at, and those behind it
whose records begin with the same bytes are removed as it was, unread. A task leaves its run with its record.

The trap: a run of which nothing is left must go too, but only when all that is due was removed: it may be one run for
many keys.
"""

from __future__ import annotations

import heapq
from itertools import islice, takewhile

from lmdbq.model import Expire, State, Swept
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import is_laned
from lmdbq.store.lmdb_standing import Located, find_ready, leave
from lmdbq.store.lmdb_tasks import remove, sound_or_quarantined
from lmdbq.store.lmdb_work import Queue, Work


def expire(work: Work, op: Expire, queues: list[Queue]) -> Swept:
    """Remove waiting tasks whose expires_at has come."""
    due = [_due(work, queue, op.limit + 1) for queue in queues]
    keys = list(islice(heapq.merge(*due, key=lambda key: key[ks.U32.size :]), op.limit))
    if not keys:
        return Swept(0)
    expirer = _Expirer(work)
    for key in keys:
        expirer.expire(key)
    return Swept(expirer.finish(), more=len(keys) < sum(map(len, due)))


def _due(work: Work, queue: Queue, limit: int) -> list[bytes]:
    """Return the first ``limit`` expiry keys of a queue that are due."""
    cursor = work.cursor("expiry")
    if not cursor.set_range(ks.of_queue(queue.no)):
        return []
    after = ks.expiry(queue.no, work.now.wall + 1, 0)
    return list(islice(takewhile(after.__gt__, cursor.iternext(values=False)), limit))


class _Expirer:
    """One Expire under way."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._records = work.cursor("task")
        self._first: Located | None = None  # the last task that was looked at, if others may be like it
        self._ids = range(0)  # of the ready run that it was in
        self._head = b""  # with what its record began
        self._alike = 0  # how many others were removed as it was, and are not yet counted
        self._count = 0
        self._runs: dict[bytes, range] = {}

    def expire(self, key: bytes) -> None:
        """Remove the task of an expiry key, and the key."""
        work, task_id = self._work, ks.read_timed(key).id
        work.delete("expiry", key)
        if task_id in self._ids:
            raw = ks.task(task_id)
            is_there = self._records.key() == raw or self._records.set_key(raw)
            if is_there and self._records.value().startswith(self._head):
                self._records.delete()
                self._alike += 1
                return
        self._look_at(task_id)

    def _look_at(self, task_id: int) -> None:
        work = self._work
        self._count_alike()
        self._ids = range(0)
        value = work.get("task", ks.task(task_id)) or b""
        task = sound_or_quarantined(work, task_id)
        if task is None:
            return
        self._count += 1
        work.total(task.queue.no, "expired")
        if task.state is not State.READY or is_laned(task.record.options):
            leave(work, task)
            remove(work, task, "expired")
            return
        key, run = find_ready(work, task)
        ids = range(key.last_id - run.length + 1, key.last_id + 1)
        self._runs[ks.ready(*key)] = ids
        remove(work, task, "expired")
        if rec.says_nothing(value) and not work.any_history(ids[0], ids[-1]):
            self._first, self._ids, self._head = task, ids, value[: rec.TASK_HEAD_BYTES]

    def _count_alike(self) -> None:
        if self._alike and self._first is not None:
            queue_no, type_no = self._first.queue.no, self._first.record.type_no
            self._work.count(queue_no, type_no, leaves=State.READY, length=self._alike)
            self._work.total(queue_no, "expired", self._alike)
            self._count += self._alike
        self._alike = 0

    def finish(self) -> int:
        """Remove the runs that hold no task any more; return how many tasks went."""
        self._count_alike()
        for key, ids in self._runs.items():
            if not self._work.any_task(ids[0], ids[-1]):
                self._work.delete("ready", key)
        return self._count
