"""Graves: the numbers of purged and deleted queues, whose keys are removed a thousand at a time.

A purge only takes the queue's number away; from then on no lookup finds its tasks, because a record counts only while
its queue number is live. What is left of them is drained here, standing by standing, oldest grave first.
"""

from __future__ import annotations

from collections.abc import Callable

from lmdbq.store import keyspace as ks
from lmdbq.store import lmdb_externals as externals
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Member, is_laned
from lmdbq.store.lmdb_lane_repair import forget_in_lanes
from lmdbq.store.lmdb_rows import read_lease_run, read_ready_run
from lmdbq.store.lmdb_tasks import free_slots, get_slot
from lmdbq.store.lmdb_work import Work


def drain_graves(work: Work, limit: int) -> bool:
    """Remove up to ``limit`` tasks of graves, and the graves that are empty; True if more are left."""
    left = limit
    while left > 0:
        cursor = work.cursor("catalog")
        if not cursor.set_range(ks.grave(0)) or cursor.key()[:1] != b"G":
            return False
        grave_key: bytes = cursor.key()
        queue_no = ks.read_number(grave_key)
        for drain in (_drain_leases, _drain_lanes, _drain_ready, _drain_scheduled, _drain_ended):
            left -= drain(work, queue_no, left)
        left -= _drain(work, "expiry", queue_no, left, lambda key, value: 1)
        if left > 0:
            work.delete("catalog", grave_key)
    return True


def _drain(work: Work, database: str, queue_no: int, limit: int, bury: Callable[[bytes, bytes], int]) -> int:
    """Remove keys of a queue from one database until ``limit`` tasks went; ``bury`` removes what a key stands for."""
    gone = 0
    prefix = ks.of_queue(queue_no)
    while gone < limit:
        cursor = work.cursor(database)
        if not cursor.set_range(prefix) or cursor.key()[: len(prefix)] != prefix:
            break
        key: bytes = cursor.key()
        value: bytes = cursor.value()
        work.delete(database, key)
        gone += bury(key, value)
    return gone


def _drain_leases(work: Work, queue_no: int, limit: int) -> int:
    def bury(key: bytes, _: bytes) -> int:
        last_id = ks.read_deadline(key).last_id
        run = read_lease_run(ks.lease(last_id), work.get("lease", ks.lease(last_id)))
        work.delete("lease", ks.lease(last_id))
        return _bury_ids(work, last_id, run.length, was_running=True)

    return _drain(work, "deadline", queue_no, limit, bury)


def _drain_lanes(work: Work, queue_no: int, limit: int) -> int:
    """Remove a grave's ready tasks from lanes, lane by lane; the grave says how far that has come."""
    if not work.any_lanes():
        return 0
    key = ks.grave(queue_no)
    grave = rec.read_grave(work.get("catalog", key) or b"")
    gone = looks = 0
    found = work.first_from("lane", ks.of_lane_list(max(grave.lane_no, 1), queue_no, 0))
    while found is not None and gone < limit and looks < limit:
        looks += 1
        parts = ks.read_lane(found[0])
        grave.lane_no = parts.lane_no
        if parts.queue_no == queue_no:
            work.delete("lane", found[0])
            lane = work.lanes.by_no(parts.lane_no)
            if lane is not None:
                work.lanes.left(lane, found[0])
            gone += _bury_ids(work, parts.id, 1)
        at_lane = parts.lane_no + (parts.queue_no > queue_no)
        found = work.first_from("lane", ks.of_lane_list(at_lane, queue_no, 0)) if at_lane < 2**32 else None
    work.put("catalog", key, rec.write_map(grave))
    return max(gone, looks) if found is not None else gone


def _drain_ready(work: Work, queue_no: int, limit: int) -> int:
    budget = limit

    def bury(key: bytes, value: bytes) -> int:
        nonlocal budget
        run = read_ready_run(key, value)
        length = min(run.length, budget)
        last_id = ks.read_ready(key).last_id
        first_id = last_id - run.length + 1
        if work.any_task(first_id + length, last_id):
            work.put("ready", key, rec.write_ready_run(key, run.length - length, run.deliveries, run.failures))
        budget -= length
        return _bury_ids(work, first_id + length - 1, length)

    return _drain(work, "ready", queue_no, limit, bury)


def _drain_scheduled(work: Work, queue_no: int, limit: int) -> int:
    return _drain(work, "scheduled", queue_no, limit, lambda key, _: _bury_ids(work, ks.read_timed(key).id, 1))


def _drain_ended(work: Work, queue_no: int, limit: int) -> int:
    return _drain(
        work, "ended", queue_no, limit, lambda key, _: _bury_ids(work, ks.read_ended(key).id, 1, had_ended=True)
    )


def _bury_ids(work: Work, last_id: int, length: int, *, was_running: bool = False, had_ended: bool = False) -> int:
    """Remove the records, histories and slots of ``length`` ids up to ``last_id``; return ``length``."""
    is_damaged = False
    for task_id in range(last_id - length + 1, last_id + 1):
        value = work.get("task", ks.task(task_id))
        if value is not None:
            try:
                record = rec.read_task(value)
            except rec.Damaged:
                free_slots(work, task_id, with_ttl=True)
                externals.free(work, task_id)
                forget_in_lanes(work, task_id, is_running=was_running)
                is_damaged = True
            else:
                if is_laned(record.options):
                    rank = record.scheduled_at  # of no matter: it stands in no lane any more
                    member = Member(record.options, record.queue_no, record.type_no, record.priority, rank, task_id)
                    work.lanes.stopped(member, is_running=was_running, keeps_head=False)
                if record.slot_scope != rec.NO_SLOT:
                    _free_slot(work, task_id, record)
                externals.release(work, task_id, record)
                if not had_ended:
                    work.sets_left(record.options, "deleted")
            work.delete("task", ks.task(task_id))
        work.delete_history(task_id)
        work.forget_extension(task_id)
    if is_damaged:
        work.sets.recount()
    return length


def _free_slot(work: Work, task_id: int, record: rec.TaskRecord) -> None:
    key, slot = get_slot(work, record)
    if slot is not None and slot.id == task_id:
        work.delete("dedupe", key)
        if slot.blocks_until:
            work.delete("forget", ks.forget(slot.blocks_until, ks.MemoKind.SLOT, key))
