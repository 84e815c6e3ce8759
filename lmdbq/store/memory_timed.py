"""The timed ops in memory: Promote, Expire, Lapse and Prune, over all queues or, for a claim, over one."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq import lifecycle
from lmdbq.clock import Now
from lmdbq.model import ENDED, WAITING, Expire, Failure, Lapse, Promote, Prune, State, Status, Swept
from lmdbq.store.memory_lanes import stir_groups
from lmdbq.store.memory_leases import fail, lease_due
from lmdbq.store.memory_rows import Row
from lmdbq.store.memory_sets import forget_sets
from lmdbq.store.memory_state import Tables


def promote(tables: Tables, op: Promote, now: Now, queue: str | None = None) -> Swept:
    """Make scheduled tasks ready that are due."""
    rows = tables.standing_in(State.SCHEDULED, queue=queue)
    due = sorted((row for row in rows if row.due_at <= now.wall), key=lambda row: (row.due_at, row.id))
    for row in due[: op.limit]:
        tables.put(replace(row, state=State.READY, due_at=0))
    return _swept(due, op.limit)


def expire(tables: Tables, op: Expire, now: Now, queue: str | None = None) -> Swept:
    """Remove waiting tasks whose time is over."""
    rows = tables.standing_in(*WAITING, queue=queue)
    due = sorted((row for row in rows if row.has_expired(now)), key=lambda row: (row.expires_at, row.id))
    for row in due[: op.limit]:
        tables.expire(row, now)
    return _swept(due, op.limit)


def lapse(tables: Tables, op: Lapse, now: Now, queue: str | None = None) -> Swept:
    """End the attempts whose lease ran out; leases of an earlier boot begin again instead."""
    due: list[tuple[int, int, Row]] = []
    for row in list(tables.standing_in(State.RUNNING, queue=queue)):
        lease = row.lease
        if lease is None:
            raise AssertionError(f"task {row.id} runs without a lease")
        if lease.boot_no != now.boot_no:
            known = lease.seen_in(now.boot_no)
            renewed = replace(known, boot_no=now.boot_no, deadline=now.steady + known.length_ns)
            tables.put(replace(row, lease=renewed))
        elif lease.deadline <= now.steady < lease_due(tables, lease):
            tables.put(replace(row, lease=replace(lease, deadline=lease_due(tables, lease))))
        elif lease_due(tables, lease) <= now.steady:
            due.append((lease_due(tables, lease), row.id, row))
    due.sort()
    for _, _, row in due[: op.limit]:
        failure = Failure(now.wall, row.deliveries, type="lease_lapsed")
        fail(tables, replace(row, ended_by=(row.deliveries, Status.LAPSED)), failure, "lapsed", now)
    return _swept(due, op.limit)


def prune(tables: Tables, op: Prune, now: Now) -> Swept:
    """Remove ended tasks that were kept for long enough, or are too many, and what is remembered for too long."""
    due: list[Row] = []
    for queue in tables.queues:
        for state in ENDED:
            rows = sorted(tables.standing_in(state, queue=queue), key=_removal_order)
            over = len(rows) - lifecycle.ended_max(state, tables.settings(queue))
            due += [row for place, row in enumerate(rows) if place < over or row.remove_at <= now.wall]
    due.sort(key=_removal_order)
    for row in due[: op.limit]:
        tables.remove(row, now)
    for memos in (tables.memos, tables.claims):
        for key in [key for key, memo in memos.items() if memo.until <= now.wall]:
            tables.discard(memos, key)
    for name in [name for name, slot in tables.slots.items() if slot.id not in tables.rows]:
        blocks_until = tables.slots[name].blocks_until
        if blocks_until is None or blocks_until <= now.wall:
            tables.discard(tables.slots, name)
    for group in list(tables.ghosts):
        tables.discard(tables.ghosts, group)
        stir_groups(tables)
    forget_sets(tables, now)
    return _swept(due, op.limit)


def _removal_order(row: Row) -> tuple[int, int]:
    return row.remove_at, row.id


def _swept(due: list[Row] | list[tuple[int, int, Row]], limit: int) -> Swept:
    return Swept(min(len(due), limit), len(due) > limit)
