"""Edit, Delete and Retry: changes that people make to tasks."""

from __future__ import annotations

from lmdbq import lifecycle, limits
from lmdbq.lifecycle import Event, ExpiresTooEarly
from lmdbq.model import (
    DEFAULT_SETTINGS,
    Changed,
    ChangeDone,
    Delete,
    Edit,
    Entry,
    Outcome,
    Refused,
    Retry,
    Scope,
    State,
    Until,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_blocking import blocks, too_many_types
from lmdbq.store.lmdb_drafts import draft_of, overwrite, write_stored
from lmdbq.store.lmdb_filter import Matcher
from lmdbq.store.lmdb_ops_queue import unknown_queue
from lmdbq.store.lmdb_ops_report import absent
from lmdbq.store.lmdb_standing import Located, leave
from lmdbq.store.lmdb_tasks import change_state, get_slot, long_key, put_slot, remove, sound
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work


def edit(work: Work, op: Edit) -> ChangeDone | Refused:
    """Run one Edit."""
    task = sound(work, op.id)
    if task is None:
        return ChangeDone([absent(work, op.id)])
    if not lifecycle.may(task.state, Event.EDIT) or not Matcher(work, op.where).matches(task):
        return ChangeDone([Changed(op.id, Outcome.CONFLICT, task.state)])
    draft = draft_of(work, task)
    if draft.state is None:
        leave(work, task)
        remove(work, task, "expired")
        work.total(task.queue.no, "expired")
        return ChangeDone([Changed(op.id, Outcome.GONE)])
    times = (0, 0)
    if "scheduled_at" in op.fields or "expires_at" in op.fields:
        try:
            times = lifecycle.resolve_times(op.entry, DEFAULT_SETTINGS, work.now.wall)
        except ExpiresTooEarly:
            problem = lifecycle.expires_too_early("")
            return Refused(problem.code, (problem,))
    if "type" in op.fields and op.entry.type != draft.type and _is_full_of_types(work, task, op.entry):
        problem = too_many_types("/type", task.queue.name)
        return Refused(problem.code, (problem,))
    overwrite(draft, op.entry, op.fields, *times, work.now.wall)
    write_stored(work, draft)
    return ChangeDone([Changed(op.id, Outcome.OK, draft.state)])


def _is_full_of_types(work: Work, task: Located, entry: Entry) -> bool:
    type_no = work.type_no(entry.type)
    if type_no and any(work.tally(task.queue.no, type_no)):
        return False
    return len(work.queue_tallies(task.queue.no)) >= limits.TYPES_PER_QUEUE_MAX


def delete(work: Work, op: Delete) -> ChangeDone:
    """Run one Delete."""
    matcher = Matcher(work, op.where)
    return ChangeDone([_delete_one(work, task_id, matcher) for task_id in op.ids])


def _delete_one(work: Work, task_id: int, matcher: Matcher) -> Changed:
    task = sound(work, task_id)
    if task is None:
        if work.get("quarantine", ks.quarantine(task_id)) is not None:
            work.delete("quarantine", ks.quarantine(task_id))
            return Changed(task_id, Outcome.OK)
        return absent(work, task_id)
    if not matcher.matches(task):
        return Changed(task_id, Outcome.CONFLICT, task.state)
    leave(work, task)
    remove(work, task, "deleted")
    work.total(task.queue.no, "deleted")
    return Changed(task_id, Outcome.OK)


def retry(work: Work, op: Retry) -> ChangeDone | Refused:
    """Run one Retry."""
    target = work.queue(op.queue) if op.queue else None
    if op.queue and target is None:
        return unknown_queue(op.queue, "/queue_name")
    matcher = Matcher(work, op.where)
    return ChangeDone([_retry_one(work, task_id, target, matcher) for task_id in op.ids])


def _retry_one(work: Work, task_id: int, target: Queue | None, matcher: Matcher) -> Changed:
    now_wall = work.now.wall
    task = sound(work, task_id)
    if task is None:
        return absent(work, task_id)
    if not lifecycle.may(task.state, Event.RETRY) or not matcher.matches(task):
        return Changed(task_id, Outcome.CONFLICT, task.state)
    if task.record.expires_at and task.record.expires_at <= now_wall:
        return Changed(task_id, Outcome.EXPIRED, task.state)
    queue = target or task.queue
    moves = queue.no != task.queue.no
    if task.record.slot_scope != rec.NO_SLOT and not _take_slot_back(work, task, queue):
        return Changed(task_id, Outcome.DEDUPE_CONFLICT, task.state)
    leave(work, task)
    if moves:
        _move(work, task, queue)
    history = task.history
    history.ended_state, history.ended_at, history.remove_at = -1, 0, 0
    history.reason, history.result = "", None
    history.cancel_requested = False
    history.base_deliveries, history.snoozes = task.deliveries, 0
    history.rank = now_wall
    task.failures = 0
    if task.record.options.set_id:
        work.sets.came_back(task.record.options.set_id, task.state)
    change_state(work, task, State.READY)
    return Changed(task_id, Outcome.OK, State.READY)


def _move(work: Work, task: Located, queue: Queue) -> None:
    """Give an ended task that has left its standing to another queue; its slot is that queue's already."""
    type_no = task.record.type_no
    work.count(task.queue.no, type_no, leaves=task.state)
    work.count(queue.no, type_no, enters=task.state)
    task.queue = queue
    task.record.queue_no = queue.no
    work.put("task", ks.task(task.id), rec.write_task_record(task.record))


def _take_slot_back(work: Work, task: Located, queue: Queue) -> bool:
    """Make the dedupe slot of a task that is to be retried in ``queue`` its own; False if another task holds it and
    blocks. A key that is unique in its queue is free in the one that it leaves."""
    now_wall = work.now.wall
    record = task.record
    rule = lifecycle.resolve_dedupe(
        Entry(queue=queue.name, type=work.type_name(record.type_no), options=record.options),
        rules(work, queue, record.type_no),
    )
    assert rule is not None
    left = None
    if record.slot_scope == Scope.QUEUE and record.slot_owner != queue.no:
        left = get_slot(work, record)
        record.slot_owner = queue.no
    key, slot = get_slot(work, record)
    if slot is not None and slot.id == task.id:
        if slot.queue_no != queue.no:
            put_slot(work, key, slot._replace(queue_no=queue.no))
        return True
    if slot is not None and work.queue_of(slot.queue_no) is not None:
        state = _holder_state(work, slot.id)
        went_with_its_task = state is None and slot.blocks_until <= now_wall
        if not went_with_its_task and blocks(rule, now_wall, slot.taken_at, slot.blocks_until, state):
            return False
    if left is not None:
        _free(work, task, *left)
    until = now_wall + rule.ttl_ns if rule.until is Until.TTL else 0
    put_slot(work, key, rec.Slot(task.id, queue.no, now_wall, until, long_key(rule.key)))
    return True


def _free(work: Work, task: Located, key: bytes, slot: rec.Slot | None) -> None:
    """Remove a slot if it names the task, also one that a ttl would still hold."""
    if slot is not None and slot.id == task.id:
        work.delete("dedupe", key)
        if slot.blocks_until:
            work.delete("forget", ks.forget(slot.blocks_until, ks.MemoKind.SLOT, key))


def _holder_state(work: Work, task_id: int) -> State | None:
    """Return the state of a slot's holder; one that waits and has expired is removed, and None then."""
    holder = sound(work, task_id)
    if holder is None:
        return None
    if draft_of(work, holder).state is None:
        leave(work, holder)
        remove(work, holder, "expired")
        work.total(holder.queue.no, "expired")
        return None
    return holder.state
