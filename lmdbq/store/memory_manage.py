"""Cancel, Delete, Retry and the changes of queues, in memory."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from lmdbq import lifecycle
from lmdbq.clock import Now
from lmdbq.model import (
    Cancel,
    Changed,
    ChangeDone,
    DaemonStart,
    Delete,
    Entry,
    Outcome,
    Problem,
    Purge,
    QueueChanged,
    QueueDelete,
    QueuePatch,
    QueuePut,
    Retry,
    Started,
    State,
    TypeChanged,
    TypePut,
)
from lmdbq.store.memory_rows import Denied, Row
from lmdbq.store.memory_state import Tables

# --- tasks ------------------------------------------------------------------------------------------------------------


def cancel(tables: Tables, op: Cancel, now: Now) -> ChangeDone:
    """Cancel waiting tasks; ask running ones to stop."""
    return _each(tables, op.ids, now, _cancel_one)


def delete(tables: Tables, op: Delete, now: Now) -> ChangeDone:
    """Remove tasks in any state."""
    return _each(tables, op.ids, now, _delete_one)


def retry(tables: Tables, op: Retry, now: Now) -> ChangeDone:
    """Make dead and cancelled tasks ready again."""
    return _each(tables, op.ids, now, _retry_one)


def _each(
    tables: Tables, task_ids: tuple[int, ...], now: Now, change: Callable[[Tables, Row, Now], Outcome]
) -> ChangeDone:
    outcomes: list[Changed] = []
    for task_id in task_ids:
        row = tables.rows.get(task_id)
        outcome = tables.missing(task_id) if row is None else change(tables, row, now)
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
    tables.remove(row, now)
    return Outcome.OK


def _retry_one(tables: Tables, row: Row, now: Now) -> Outcome:
    if row.state not in (State.DEAD, State.CANCELLED):
        return Outcome.CONFLICT
    if 0 < row.expires_at <= now.wall:
        return Outcome.EXPIRED
    rule = lifecycle.resolve_dedupe(Entry(options=row.options), tables.rules(row.queue, row.type))
    if row.slot is not None and rule is not None:
        slot = tables.slots.get(row.slot)
        if slot is None or slot.id != row.id:
            if tables.blocking(rule, row.slot, now):
                return Outcome.DEDUPE_CONFLICT
            tables.take_slot(row, rule, now)
    tables.put(
        replace(
            row,
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


def _must_exist(tables: Tables, queue: str) -> None:
    if queue not in tables.queues:
        raise Denied([Problem("queue_not_found", "/name", f"there is no queue {queue!r}; look at the list of queues")])


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
        tables.remove(row, now)
    for name in [name for name, slot in tables.slots.items() if slot.queue == op.queue]:
        tables.discard(tables.slots, name)  # also those that a ttl would still hold
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
