"""Cancel, Delete, Retry and the changes of queues, in memory."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from lmdbq import lifecycle, sets
from lmdbq.clock import Now
from lmdbq.model import (
    ENDED,
    Cancel,
    Changed,
    ChangeDone,
    DaemonStart,
    Delete,
    Entry,
    Filter,
    Outcome,
    Problem,
    Purge,
    QueueChanged,
    QueueDelete,
    QueuePatch,
    QueuePut,
    Retry,
    Scope,
    Started,
    State,
    TypeChanged,
    TypePut,
)
from lmdbq.store.memory_reads import matches
from lmdbq.store.memory_rows import Denied, Row
from lmdbq.store.memory_state import Tables

# --- tasks ------------------------------------------------------------------------------------------------------------


def cancel(tables: Tables, op: Cancel, now: Now) -> ChangeDone:
    """Cancel waiting tasks; ask running ones to stop."""
    return _each(tables, op.ids, op.where, now, _cancel_one)


def delete(tables: Tables, op: Delete, now: Now) -> ChangeDone:
    """Remove tasks in any state."""
    return _each(tables, op.ids, op.where, now, _delete_one)


def retry(tables: Tables, op: Retry, now: Now) -> ChangeDone:
    """Make dead and cancelled tasks ready again, where they were or in another queue."""
    if op.queue:
        _must_exist(tables, op.queue, "/queue_name")

    def change(tables: Tables, row: Row, now: Now) -> Outcome:
        return _retry_one(tables, row, op.queue or row.queue, now)

    return _each(tables, op.ids, op.where, now, change)


def _each(
    tables: Tables,
    task_ids: tuple[int, ...],
    where: Filter,
    now: Now,
    change: Callable[[Tables, Row, Now], Outcome],
) -> ChangeDone:
    outcomes: list[Changed] = []
    for task_id in task_ids:
        row = tables.rows.get(task_id)
        if row is None:
            outcome = tables.missing(task_id)
        else:
            outcome = change(tables, row, now) if matches(tables, row, where) else Outcome.CONFLICT
        after = tables.rows.get(task_id)
        outcomes.append(Changed(task_id, outcome, after.state if after else None))
    return ChangeDone(outcomes)


def _cancel_one(tables: Tables, row: Row, now: Now) -> Outcome:
    if row.is_waiting():
        tables.end(row, State.CANCELLED, "cancelled", now)
        return Outcome.OK
    if row.state is not State.RUNNING:
        return Outcome.CONFLICT
    tables.put(replace(row, cancel_requested=True))
    return Outcome.CANCEL_REQUESTED


def _delete_one(tables: Tables, row: Row, now: Now) -> Outcome:
    tables.tally(row.queue, "deleted")
    tables.leave_set(row, "deleted")
    tables.remove(row, now)
    return Outcome.OK


def _retry_one(tables: Tables, row: Row, queue: str, now: Now) -> Outcome:
    if row.state not in (State.DEAD, State.CANCELLED):
        return Outcome.CONFLICT
    if 0 < row.expires_at <= now.wall:
        return Outcome.EXPIRED
    rule = lifecycle.resolve_dedupe(Entry(options=row.options), tables.rules(queue, row.type))
    if row.slot is not None and rule is not None:
        name = row.slot._replace(home=queue) if row.slot.scope is Scope.QUEUE else row.slot
        slot = tables.slots.get(name)
        if slot is None or slot.id != row.id:
            if tables.blocking(rule, name, now):
                return Outcome.DEDUPE_CONFLICT
            held = tables.slots.get(row.slot)
            if held is not None and held.id == row.id:  # it leaves the queue that it was unique in
                tables.discard(tables.slots, row.slot)
            tables.take_slot(replace(row, queue=queue, slot=name), rule, now)
        elif slot.queue != queue:
            tables.assign(tables.slots, name, replace(slot, queue=queue))
        row = replace(row, slot=name)
    one = tables.sets.get(row.options.set_id)
    if one is not None and not sets.is_decided(one):
        tables.assign(tables.sets, one.id, sets.came_back(one, row.state))
    tables.put(
        replace(
            row,
            queue=queue,
            state=State.READY,
            rank=now.wall,
            failures=0,
            retried_at=row.deliveries,
            snoozes=0,
            result=None,
            reason="",
            cancel_requested=False,
            ended_at=0,
            remove_at=0,
        )
    )
    return Outcome.OK


# --- queues -----------------------------------------------------------------------------------------------------------


def _must_exist(tables: Tables, queue: str, pointer: str = "/name") -> None:
    if queue not in tables.queues:
        raise Denied([Problem("queue_not_found", pointer, f"there is no queue {queue!r}; look at the list of queues")])


def put_type(tables: Tables, op: TypePut, _now: Now) -> TypeChanged:
    """Replace what is known of a type, or forget it."""
    known = tables.types.get(op.name)
    if op == TypePut(op.name):
        tables.discard(tables.types, op.name)
        return TypeChanged(op.name, changed=known is not None)
    tables.assign(tables.types, op.name, op)
    return TypeChanged(op.name, changed=known != op)


def put_queue(tables: Tables, op: QueuePut, now: Now) -> QueueChanged:
    """Create a queue, or replace its settings."""
    known = tables.queues.get(op.queue)
    if known is None:
        tables.create_queue(op.queue, op.settings)
    else:
        tables.assign(tables.queues, op.queue, replace(known, settings=op.settings))
    tables.stir(op.queue)
    return QueueChanged(op.queue, created=known is None)


def patch_queue(tables: Tables, op: QueuePatch, now: Now) -> QueueChanged:
    """Replace some settings of a queue."""
    _must_exist(tables, op.queue)
    known = tables.queues[op.queue]
    settings = replace(known.settings, **{name: getattr(op.settings, name) for name in op.fields})
    tables.assign(tables.queues, op.queue, replace(known, settings=settings))
    tables.stir(op.queue)
    return QueueChanged(op.queue)


def purge(tables: Tables, op: Purge, now: Now) -> QueueChanged:
    """Remove all tasks of a queue."""
    _must_exist(tables, op.queue)
    rows = list(tables.standing_in(*State, queue=op.queue))
    for row in rows:
        if row.options.group and row.state is State.RUNNING:
            tables.assign(tables.ghosts, row.options.group, tables.ghosts.get(row.options.group, 0) + 1)
        if row.options.set_id in tables.sets and row.state not in ENDED:
            tables.assign(tables.set_ghosts, row.options.set_id, tables.set_ghosts.get(row.options.set_id, 0) + 1)
        tables.remove(row, now)
    for name in [name for name, slot in tables.slots.items() if slot.queue == op.queue]:
        tables.discard(tables.slots, name)  # also those that a ttl would still hold
    for turn in [turn for turn in tables.turns if turn[0] == op.queue]:
        tables.discard(tables.turns, turn)
    tables.tally(op.queue, "deleted", len(rows))
    return QueueChanged(op.queue, tasks=len(rows))


def delete_queue(tables: Tables, op: QueueDelete, now: Now) -> QueueChanged:
    """Remove a queue with all its tasks."""
    _must_exist(tables, op.queue)
    purged = purge(tables, Purge(op.queue), now)
    tables.discard(tables.queues, op.queue)
    tables.stir(op.queue)
    return purged


def start_daemon(tables: Tables, op: DaemonStart, now: Now) -> Started:
    """Note when a daemon began to serve."""
    tables.assign(tables.daemon_start, now.boot_no, now.steady)
    return Started(now.boot_no)
