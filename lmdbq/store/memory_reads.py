"""What can be read from the memory store, and its checker: functions of the tables that change nothing."""

from __future__ import annotations

from collections import Counter

from lmdbq import lifecycle
from lmdbq.clock import Now
from lmdbq.model import ENDED, WAITING, Due, Filter, Page, QueueView, State, Task
from lmdbq.sharing import no_token_until
from lmdbq.store.memory_lanes import blocked_by, refill_in_ns, waiting_for
from lmdbq.store.memory_leases import lease_due, lease_expires_at
from lmdbq.store.memory_rows import Row
from lmdbq.store.memory_sets import set_faults
from lmdbq.store.memory_state import Tables


def task(tables: Tables, row: Row, now: Now) -> Task:
    """Return a task as readers see it."""
    max_attempts = tables.retry_of(row).max_attempts
    return Task(
        id=row.id,
        queue=row.queue,
        type=row.type,
        payload=row.payload,
        encoding=row.encoding,
        priority=row.priority,
        created_at=row.created_at,
        scheduled_at=row.scheduled_at,
        expires_at=row.expires_at,
        options=row.options,
        state=row.state,
        deliveries=row.deliveries,
        failures=row.failures,
        attempts=lifecycle.attempts(row.state, row.failures, max_attempts),
        max_attempts=max_attempts,
        due_at=row.due_at,
        lease_expires_at=lease_expires_at(row.lease, now) if row.lease else 0,
        cancel_requested=row.cancel_requested,
        progress=row.lease.seen_in(now.boot_no).progress if row.lease else None,
        errors=row.errors,
        result=row.result,
        result_encoding=row.result_encoding,
        ended_at=row.ended_at,
        remove_at=row.remove_at,
        reason=row.reason,
        waiting_for=waiting_for(tables, row, now),
    )


def matches(tables: Tables, row: Row, wanted: Filter) -> bool:
    """Whether a task is one of those that a filter means."""
    slot = tables.slots.get(row.slot) if row.slot else None
    held = row.slot.key if row.slot and slot and slot.id == row.id else ""
    attempts = lifecycle.attempts(row.state, row.failures, tables.retry_of(row).max_attempts)
    return (
        wanted.queue in ("", row.queue)
        and wanted.type in ("", row.type)
        and (not wanted.states or row.state in wanted.states)
        and (not wanted.tag or wanted.tag in row.options.tags)
        and wanted.dedupe_key in ("", held)
        and wanted.thread in ("", row.options.thread)
        and wanted.group in ("", row.options.group)
        and wanted.external_id in ("", row.options.external_id)
        and wanted.set_id in (0, row.options.set_id)
        and wanted.reason in ("", row.reason)
        and (wanted.priority is None or wanted.priority[0] <= row.priority <= wanted.priority[1])
        and (wanted.attempts is None or wanted.attempts[0] <= attempts <= wanted.attempts[1])
        and (wanted.created is None or wanted.created[0] <= row.created_at < wanted.created[1])
        and (wanted.scheduled is None or wanted.scheduled[0] <= row.scheduled_at < wanted.scheduled[1])
        and (wanted.ended is None or (row.state in ENDED and wanted.ended[0] <= row.ended_at < wanted.ended[1]))
    )


def page(tables: Tables, wanted: Filter, now: Now, after: int, limit: int) -> Page:
    """Return the first ``limit`` matching tasks behind ``after``."""
    rows = [tables.rows[task_id] for task_id in sorted(tables.rows) if task_id > after]
    found = [row for row in rows if matches(tables, row, wanted)]
    tasks = [task(tables, row, now) for row in found[:limit]]
    return Page(tasks, tasks[-1].id if len(found) > limit else 0)


def count(tables: Tables, wanted: Filter) -> int:
    """Return how many tasks match."""
    return sum(matches(tables, row, wanted) for row in tables.rows.values())


def queue_view(tables: Tables, name: str, now: Now) -> QueueView:
    """Return an existing queue."""
    known = tables.queues[name]
    settings = known.settings
    counts: dict[str, dict[str, int]] = {}
    for (queue, type_, state), number in sorted(tables.counts.items()):
        if queue == name:
            counts.setdefault(type_, {})[state.word] = number
    heads: dict[str, Row] = {}
    for row in tables.standing_in(State.READY, queue=name):
        if blocked_by(tables, row, now):
            continue
        head = heads.get(row.type)
        if head is None or row.order() < head.order():
            heads[row.type] = row
    is_full = bool(settings.max_running) and tables.number_in(name, State.RUNNING) >= settings.max_running
    return QueueView(
        name=name,
        settings=settings,
        counts=counts,
        totals=known.totals,
        oldest_ready_at=min((row.rank for row in heads.values()), default=0),
        next_due_at=min((row.due_at for row in tables.standing_in(State.SCHEDULED, queue=name)), default=0),
        blocked_by="paused" if settings.paused else "max_running" if is_full else "",
        no_token_until=no_token_until(settings, known.pace),
    )


def due(tables: Tables, now: Now) -> Due:
    """Return when each timed op has something to do."""
    lapses = [
        lease_due(tables, row.lease) - now.steady if row.lease.boot_no == now.boot_no else 0
        for row in tables.standing_in(State.RUNNING)
        if row.lease
    ]
    removals = [row.remove_at for row in tables.standing_in(*ENDED)]
    removals += [
        1
        for name, known in tables.queues.items()
        for state in ENDED
        if tables.number_in(name, state) > lifecycle.ended_max(state, known.settings)
    ]
    removals += [memo.until for memo in tables.memos.values()]
    removals += [memo.until for memo in tables.claims.values()]
    removals += [one.remove_at for one in tables.sets.values() if one.remove_at]
    removals += [1] if tables.set_ghosts else []
    removals += [
        slot.blocks_until for slot in tables.slots.values() if slot.id not in tables.rows and slot.blocks_until
    ]
    return Due(
        promote_at=min((row.due_at for row in tables.standing_in(State.SCHEDULED)), default=0),
        expire_at=min((row.expires_at for row in tables.standing_in(*WAITING) if row.expires_at), default=0),
        prune_at=min(removals, default=0),
        lapse_in_ns=min(lapses, default=None),
        fire_at=min((row.standing.next_at for row in tables.schedules.values() if row.standing.next_at), default=0),
        refill_in_ns=refill_in_ns(tables, now),
    )


def check(tables: Tables) -> list[str]:
    """Compare all that is derived with the rows; return a line for each difference."""
    wrong: list[str] = []
    rows = list(tables.rows.values())
    recount = Counter((row.queue, row.type, row.state) for row in rows)
    if recount != tables.counts:
        wrong.append(f"counts say {dict(tables.counts)}, the tasks say {dict(recount)}")
    stand = {(row.queue, row.state, row.id) for row in rows}
    said = {(queue, state, task_id) for (queue, state), ids in tables.standing.items() for task_id in ids}
    if stand != said:
        wrong.append(f"tasks that do not stand where they should: {sorted(stand ^ said)}")
    wrong += [f"task {row.id}: {word}" for row in rows for word in _row_faults(tables, row)]
    for name, slot in tables.slots.items():
        holder = tables.rows.get(slot.id)
        if slot.blocks_until is None and (holder is None or holder.slot != name):
            wrong.append(f"slot {name} names task {slot.id}, which does not hold it")
    return wrong + set_faults(tables)


def _row_faults(tables: Tables, row: Row) -> list[str]:
    is_ended = row.state in ENDED
    rules = {
        "its id was never given": 0 < row.id <= tables.last_id[""],
        "its queue does not exist": row.queue in tables.queues,
        "a lease belongs to a running task, and only to it": (row.state is State.RUNNING) == (row.lease is not None),
        "a due time belongs to a scheduled task, and only to it": (row.state is State.SCHEDULED) == bool(row.due_at),
        "an end belongs to an ended task, and only to it": is_ended == bool(row.ended_at) == bool(row.remove_at),
    }
    return [word for word, holds in rules.items() if not holds]
