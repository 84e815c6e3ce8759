"""Lanes of which something was damaged: what they count and who holds them is found out from all records.

Slow on purpose: it is done when a record that said which lane its task is in can no longer be read, or a lane's own.
"""

from __future__ import annotations

from collections import Counter

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Member, is_laned
from lmdbq.store.lmdb_rows import read_lease_run
from lmdbq.store.lmdb_standing import lease_over
from lmdbq.store.lmdb_work import Work


def forget_in_lanes(work: Work, task_id: int, *, is_running: bool) -> None:
    """Take a task whose record cannot tell which lane it is in out of all of them, but for where it is ready now."""
    lanes = work.lanes.all()
    for lane in lanes:
        if lane.record.held_by == task_id:
            lane.record.held_by = 0
            lane.changed = True
    if is_running and lanes:
        recount_running(work)


def recount_running(work: Work) -> None:
    """Count the running tasks of every lane anew, from the records."""
    running: Counter[tuple[bytes, int]] = Counter()
    for key, value in work.of("lease", b""):
        last_id, length = ks.read_id(key), read_lease_run(key, value).length
        for task_id in work.stored_ids(last_id - length + 1, last_id):
            try:
                record = rec.read_task(work.get("task", ks.task(task_id)) or b"")
            except rec.Damaged:
                continue
            if is_laned(record.options):
                member = Member(record.options, record.queue_no, record.type_no, record.priority, 0, task_id)
                running[member.lane_key, record.queue_no] += 1
    for lane in work.lanes.all():
        counts = lane.record.counts
        queue_nos = {*counts, *(queue_no for key, queue_no in running if key == lane.key)}
        found = {no: (counts.get(no, (0, 0))[0], running[lane.key, no]) for no in queue_nos}
        lane.record.counts = {no: both for no, both in found.items() if any(both)}
        lane.changed = True


def remake_lane(work: Work, key: bytes, lane_no: int) -> None:
    """Make a lane's record anew from its tasks."""
    counts: dict[int, tuple[int, int]] = {}
    held_by = 0
    for raw, _ in work.of("lane", ks.of_lane(lane_no)):
        parts = ks.read_lane(raw)
        ready, running = counts.get(parts.queue_no, (0, 0))
        counts[parts.queue_no] = (ready + 1, running)
        held_by = held_by or (parts.id if not parts.rank else 0)
    lane = work.lanes.remake(key, rec.LaneRecord(lane_no, counts=counts))
    recount_running(work)
    if lane.is_thread:
        lane.record.held_by = held_by or _holder_of(work, lane.key)


def _holder_of(work: Work, lane_key: bytes) -> int:
    """Return the task that holds a thread and is not ready: it runs, or waits for its next attempt; 0 if none does."""
    waits = 0
    for raw, value in list(work.of("task", b"")):
        task_id = ks.read_id(raw)
        try:
            record = rec.read_task(value)
            history = work.get_history(task_id) or rec.History()
        except rec.Damaged:
            continue
        member = Member(record.options, record.queue_no, record.type_no, record.priority, 0, task_id)
        if not record.options.thread or member.lane_key != lane_key or history.ended_state >= 0:
            continue
        if lease_over(work, task_id) is not None:
            return task_id
        if history.last_delivery and not record.options.rejoin:
            waits = waits or task_id
    return waits
