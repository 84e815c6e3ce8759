"""The timed ops: Promote, Lapse, Prune and (from ``lmdb_ops_expire``) Expire, for one queue (a claim's own) or for all.

A timed op takes what is due earliest first. Every due, deadline and expiry key begins with its queue, so for the whole
file the heads of the queues are merged: a heap holds the next key of each. All of them are harmless to run twice, and
nothing is lost if nobody runs them for a while: a claim does it for its own queues.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from lmdbq import lifecycle, limits
from lmdbq.model import ENDED, ErrorInfo, Expire, Lapse, Promote, Prune, State, Status, Swept
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_graves import drain_graves
from lmdbq.store.lmdb_known_lanes import Member, is_laned
from lmdbq.store.lmdb_ops_expire import expire as expire
from lmdbq.store.lmdb_rows import read_lease_run, read_slot, read_standing
from lmdbq.store.lmdb_standing import (
    add_ready,
    leave,
    put_lease,
    shorten_lease,
)
from lmdbq.store.lmdb_tasks import fail, quarantine, remove, sound_or_quarantined
from lmdbq.store.lmdb_work import Queue, Work

_LAPSED = ErrorInfo(type="lease_lapsed")


def sweep_queue(work: Work, queue: Queue) -> None:
    """Lapse, promote and expire what is due in one queue, as a claim does before it takes anything."""
    lapse(work, Lapse(), [queue])
    promote(work, Promote(), [queue])
    expire(work, Expire(), [queue])


def _due(work: Work, database: str, queues: list[Queue], upto: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the keys of ``database`` below ``upto(queue_no)``, earliest first over all queues.

    Each key must have been removed, or moved beyond ``upto``, before the next is asked for.
    """
    heads: list[tuple[bytes, int]] = []

    def push(queue_no: int) -> None:
        cursor = work.cursor(database)
        prefix = ks.of_queue(queue_no)
        if cursor.set_range(prefix):
            key: bytes = cursor.key()
            if key[: len(prefix)] == prefix and key < upto(queue_no):
                heapq.heappush(heads, (key[len(prefix) :], queue_no))

    for queue in queues:
        push(queue.no)
    while heads:
        rest, queue_no = heapq.heappop(heads)
        yield ks.of_queue(queue_no) + rest
        push(queue_no)


def promote(work: Work, op: Promote, queues: list[Queue]) -> Swept:
    """Make scheduled tasks that are due ready."""
    count = 0
    for key in _due(work, "scheduled", queues, lambda queue_no: ks.scheduled(queue_no, work.now.wall + 1, 0)):
        if count >= op.limit:
            return Swept(count, more=True)
        parts = ks.read_timed(key)
        try:
            standing = read_standing("scheduled", key, work.get("scheduled", key) or b"")
            record = rec.read_task(work.get("task", ks.task(parts.id)) or b"")
        except (rec.Damaged, ValueError) as error:
            quarantine(work, parts.id, str(error))
            work.delete("scheduled", key)
            continue
        queue = work.queue_of(parts.queue_no)
        assert queue is not None
        work.delete("scheduled", key)
        if is_laned(record.options):
            member = Member(record.options, queue.no, record.type_no, record.priority, parts.at, parts.id)
            work.lanes.enter(member, standing.deliveries, standing.failures)
            work.stirred.add(queue.name)
        else:
            run = rec.ReadyRun(1, standing.deliveries, standing.failures)
            add_ready(work, queue, record.type_no, record.priority, parts.at, parts.id, run)
        work.count(queue.no, record.type_no, leaves=State.SCHEDULED, enters=State.READY)
        count += 1
    return Swept(count)


# --- lapse ---


def lapse(work: Work, op: Lapse, queues: list[Queue]) -> Swept:
    """End leases whose deadline has come; re-arm those of an earlier boot, move those that a heartbeat prolonged."""
    now, count = work.now, 0
    for key in _due(work, "deadline", queues, lambda no: ks.deadline(no, now.boot_no, now.steady + 1, 0)):
        if count >= op.limit:
            return Swept(count, more=True)
        parts = ks.read_deadline(key)
        lease_key = ks.lease(parts.last_id)
        run = read_lease_run(lease_key, work.get("lease", lease_key))
        if run.boot_no != now.boot_no:
            _rearm(work, parts.last_id, run, now.steady + run.keepalive)
            continue
        graced = _graced(work, run.boot_no, run.deadline, run.keepalive)
        if graced > now.steady and not work.has_extensions:
            _rearm(work, parts.last_id, run, graced)
            continue
        count += _lapse_run(work, parts.last_id, run, op.limit - count)
    return Swept(count)


def _graced(work: Work, boot_no: int, deadline: int, keepalive: int) -> int:
    """Return when a lease is due at the earliest: a moment after the daemon's start, if it came due before that."""
    meta = work.meta
    if meta.daemon_boot_no != boot_no:
        return deadline
    return max(deadline, meta.daemon_steady + min(keepalive, limits.DAEMON_START_GRACE_NS))


def _rearm(work: Work, last_id: int, run: rec.LeaseRun, deadline: int) -> None:
    work.delete("deadline", ks.deadline(run.queue_no, run.boot_no, run.deadline, last_id))
    put_lease(work, last_id, run._replace(boot_no=work.now.boot_no, deadline=deadline))


def _lapse_run(work: Work, last_id: int, run: rec.LeaseRun, limit: int) -> int:
    """End the leases of a run, but for those that were extended; return how many ended."""
    now, ended = work.now, 0
    taken = work.stored_ids(last_id - run.length + 1, last_id)[:limit]
    tasks = [task for task_id in taken if (task := sound_or_quarantined(work, task_id)) is not None]
    found = work.get("lease", ks.lease(last_id))
    if found is None or len(tasks) < len(taken):  # quarantine has cut the run: the next look takes what is left
        return 0
    shorten_lease(work, last_id, run, [(taken[0], taken[-1])] if taken else [])
    for task in tasks:
        extension = work.get_extension(task.id, task.deliveries, now.boot_no)
        moved = extension or run
        graced = _graced(work, now.boot_no, moved.deadline, moved.keepalive)
        if graced > now.steady:
            put_lease(work, task.id, run._replace(length=1, deadline=graced))
            if extension is not None and graced != extension.deadline:
                work.extensions[task.id] = extension._replace(deadline=graced)
            continue
        work.forget_extension(task.id)
        work.stirred.add(task.queue.name)
        fail(work, task, _LAPSED, status=Status.LAPSED)
        ended += 1
    return ended


# --- prune ---


def prune(work: Work, op: Prune, queues: list[Queue]) -> Swept:
    """Remove ended tasks past their time or above the cap, then old memos and slots, then graves' keys."""
    count = 0
    for queue in queues:
        for state in ENDED:
            excess = work.in_state(queue.no, state) - lifecycle.ended_max(state, queue.settings)
            while count < op.limit:
                key = _first_ended(work, queue, state)
                if key is None or (key.remove_at > work.now.wall and excess <= 0):
                    break
                task = sound_or_quarantined(work, key.id)
                if task is not None:
                    leave(work, task)
                    remove(work, task, "deleted")
                count += 1
                excess -= 1
            if count >= op.limit:
                return Swept(count, more=True)
    more = _forget(work, op.limit) | drain_graves(work, op.limit)
    return Swept(count, more)


def _first_ended(work: Work, queue: Queue, state: State) -> ks.EndedKey | None:
    cursor = work.cursor("ended")
    prefix = ks.of_ended_state(queue.no, state)
    if not cursor.set_range(prefix) or cursor.key()[: len(prefix)] != prefix:
        return None
    return ks.read_ended(cursor.key())


def _forget(work: Work, limit: int) -> bool:
    """Remove memos, claim ids, slots and sets whose time has come; True if more are due."""
    for _ in range(limit):
        cursor = work.cursor("forget")
        if not cursor.first():
            return False
        raw: bytes = cursor.key()
        parts = ks.read_forget(raw)
        if parts.remove_at > work.now.wall:
            return False
        work.delete("forget", raw)
        if parts.kind == ks.MemoKind.SET:
            work.delete("set", parts.key)
            continue
        if parts.kind != ks.MemoKind.SLOT:
            work.delete("memo", ks.memo(ks.MemoKind(parts.kind), parts.key))
            continue
        value = work.get("dedupe", parts.key)
        if value is None:
            continue
        if work.get("task", ks.task(read_slot(parts.key, value).id)) is None:  # else it goes with its task
            work.delete("dedupe", parts.key)
    return True
