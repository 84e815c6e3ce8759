"""Claim in memory: sweep the named queues, sort their ready tasks, lease the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from lmdbq import lifecycle, limits
from lmdbq.clock import Now
from lmdbq.model import Claim, Claimed, ClaimedTask, Expire, Lapse, Outcome, Promote, State
from lmdbq.store.memory_lanes import blocked_by, started, token_at
from lmdbq.store.memory_leases import fence, lease_expires_at
from lmdbq.store.memory_rows import Lease, RememberedClaim, Row
from lmdbq.store.memory_state import Tables
from lmdbq.store.memory_timed import expire, lapse, promote


def claim(tables: Tables, op: Claim, now: Now) -> Claimed:
    """Lease the best ready tasks of some queues, or answer once more what this claim_id has got."""
    again = _claimed_before(tables, op.claim_id, now)
    if again:
        return Claimed([_claimed_task(tables, row, now) for row in again])
    queues = [name for name in dict.fromkeys(op.queues) if name in tables.queues]
    for name in queues:
        lapse(tables, Lapse(), now, name)
        promote(tables, Promote(), now, name)
        expire(tables, Expire(), now, name)
    taken = list(_take(tables, op, queues, now))
    if not taken:
        return _nothing(tables, op, queues, now)
    if op.claim_id:
        leases = tuple((row.id, row.deliveries) for row in taken)
        tables.assign(tables.claims, op.claim_id, RememberedClaim(leases, now.wall + limits.MEMO_KEPT_NS))
    return Claimed([_claimed_task(tables, row, now) for row in taken])


def _claimed_before(tables: Tables, claim_id: str, now: Now) -> list[Row]:
    memo = tables.claims.get(claim_id) if claim_id else None
    if memo is None or memo.until <= now.wall:
        return []
    rows = ((tables.rows.get(task_id), delivery) for task_id, delivery in memo.leases)
    return [row for row, delivery in rows if row is not None and fence(row, delivery) is Outcome.OK]


def _is_full(tables: Tables, queue: str) -> bool:
    max_running = tables.settings(queue).max_running
    return bool(max_running) and tables.number_in(queue, State.RUNNING) >= max_running


def _is_wanted(op: Claim) -> Callable[[Row], bool]:
    return lambda row: not op.types or row.type in op.types


def _take(tables: Tables, op: Claim, queues: list[str], now: Now) -> Iterator[Row]:
    is_wanted = _is_wanted(op)
    open_queues = [name for name in queues if not tables.settings(name).paused]
    rows = [row for name in open_queues for row in tables.standing_in(State.READY, queue=name) if is_wanted(row)]
    rows.sort(key=Row.order)
    number = 0
    size = 0
    while number < op.limit:
        row = next((row for row in rows if not _is_full(tables, row.queue) and not blocked_by(tables, row, now)), None)
        if row is None:
            return
        rows.remove(row)
        if row.has_expired(now):
            tables.expire(row, now)
        elif row.deliveries - row.retried_at >= tables.retry_of(row).max_deliveries:
            tables.end(row, State.DEAD, "max_deliveries", now)
        elif number and size + len(row.payload) > op.bytes_max:
            return
        else:
            number += 1
            size += len(row.payload)
            yield _lease(tables, row, op.keepalive_ns, now)


def _lease(tables: Tables, row: Row, keepalive_ns: int, now: Now) -> Row:
    length_ns = lifecycle.resolve_keepalive(
        keepalive_ns, row.options.keepalive_ns, tables.rules(row.queue, row.type).keepalive_ns
    )
    row = replace(
        row,
        state=State.RUNNING,
        deliveries=row.deliveries + 1,
        lease=Lease(now.boot_no, now.steady + length_ns, length_ns, length_ns),
    )
    tables.put(row)
    tables.tally(row.queue, "claimed")
    started(tables, row, now)
    return row


def _nothing(tables: Tables, op: Claim, queues: list[str], now: Now) -> Claimed:
    is_wanted = _is_wanted(op)
    ready = {name: [row for row in tables.standing_in(State.READY, queue=name) if is_wanted(row)] for name in queues}
    reason = "empty"
    for name in queues:
        if ready[name]:
            if tables.settings(name).paused:
                reason = "paused"
            elif _is_full(tables, name):
                reason = "max_running"
            else:
                reason = blocked_by(tables, ready[name][0], now)
            break
    due = [row.due_at for name in queues for row in tables.standing_in(State.SCHEDULED, queue=name)]
    groups = {row.options.group for rows in ready.values() for row in rows if row.options.group}
    due += [at for group in groups if (at := token_at(tables, group, now))]
    return Claimed([], reason, min(due, default=0))


def _claimed_task(tables: Tables, row: Row, now: Now) -> ClaimedTask:
    if row.lease is None:
        raise AssertionError(f"task {row.id} runs without a lease")
    max_attempts = tables.retry_of(row).max_attempts
    return ClaimedTask(
        id=row.id,
        queue=row.queue,
        type=row.type,
        payload=row.payload,
        encoding=row.encoding,
        priority=row.priority,
        created_at=row.created_at,
        scheduled_at=row.scheduled_at,
        expires_at=row.expires_at,
        deliveries=row.deliveries,
        attempts=lifecycle.attempts(row.state, row.failures, max_attempts),
        max_attempts=max_attempts,
        keepalive_ns=row.lease.seen_in(now.boot_no).length_ns,
        lease_expires_at=lease_expires_at(row.lease, now),
        options=row.options,
    )
