"""Extend and Report in memory: what the holder of a lease may do, and what follows a failed attempt."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq import lifecycle, limits
from lmdbq.clock import Now
from lmdbq.model import (
    ENDED,
    Completion,
    ErrorInfo,
    Extend,
    ExtendDone,
    Extended,
    Extension,
    Failure,
    Outcome,
    Report,
    ReportDone,
    Reported,
    State,
    Status,
)
from lmdbq.store.memory_rows import Lease, Row
from lmdbq.store.memory_state import Tables


def lease_due(tables: Tables, lease: Lease) -> int:
    """Return when (steady ns of its boot) a lease lapses, the grace after a daemon's start included."""
    started = tables.daemon_start.get(lease.boot_no)
    if started is None:
        return lease.deadline
    return max(lease.deadline, started + min(lease.length_ns, limits.DAEMON_START_GRACE_NS))


def lease_expires_at(lease: Lease, now: Now) -> int:
    """Return the wall time at which a lease ends, as far as can be told."""
    left = lease.deadline - now.steady if lease.boot_no == now.boot_no else lease.claimed_ns
    return (now.wall + left) // limits.US_NS * limits.US_NS


def fence(row: Row | None, delivery: int) -> Outcome:
    """Return OK if ``delivery`` of a task is the one that runs, else why nothing can be done with that lease."""
    if row is None:
        return Outcome.NOT_FOUND
    if row.deliveries != delivery:
        return Outcome.STALE_LEASE
    return Outcome.OK if row.state is State.RUNNING else Outcome.NOT_RUNNING


def extend(tables: Tables, op: Extend, now: Now) -> ExtendDone:
    """Prolong leases."""
    return ExtendDone([_extend_one(tables, extension, now) for extension in op.extensions])


def _extend_one(tables: Tables, extension: Extension, now: Now) -> Extended:
    row = tables.rows.get(extension.id)
    outcome = fence(row, extension.delivery)
    if outcome is not Outcome.OK or row is None or row.lease is None:
        return Extended(outcome)
    known = row.lease.seen_in(now.boot_no)
    length_ns = extension.keepalive_ns or known.length_ns
    progress = known.progress if extension.progress is None else extension.progress
    extended = Lease(now.boot_no, now.steady + length_ns, length_ns, known.claimed_ns, progress)
    tables.put(replace(row, lease=extended))
    return Extended(Outcome.OK, (now.wall + length_ns) // limits.US_NS * limits.US_NS, row.cancel_requested)


# --- the end of an attempt --------------------------------------------------------------------------------------------


def report(tables: Tables, op: Report, now: Now) -> ReportDone:
    """End attempts."""
    return ReportDone([_report_one(tables, completion, now) for completion in op.completions])


def _report_one(tables: Tables, completion: Completion, now: Now) -> Reported:
    row = tables.rows.get(completion.id)
    outcome = fence(row, completion.delivery)
    if row is None:
        return Reported(outcome)
    ending = (completion.delivery, completion.status)
    if outcome is Outcome.NOT_RUNNING and row.ended_by == ending:
        return Reported(Outcome.OK, row.state)
    if outcome is not Outcome.OK:
        return Reported(outcome)
    row = replace(row, ended_by=ending)
    if completion.status is Status.SUCCEEDED:
        row = replace(row, result=completion.result, result_encoding=completion.result_encoding)
        return Reported(Outcome.OK, tables.end(row, State.SUCCEEDED, "", now))
    if completion.status is Status.RELEASED:
        return Reported(Outcome.OK, _release(tables, row, completion.delay_ns or 0, now))
    error = completion.error or ErrorInfo()
    failure = Failure(now.wall, completion.delivery, error.message, error.type, error.backtrace)
    return Reported(
        Outcome.OK, fail(tables, row, failure, "failed", now, may_retry=completion.retry, delay_ns=completion.delay_ns)
    )


def _release(tables: Tables, row: Row, delay_ns: int, now: Now) -> State | None:
    if row.cancel_requested:
        return tables.end(row, State.CANCELLED, "cancelled", now)
    tables.tally(row.queue, "released")
    if row.options.rejoin:
        tables.let_go(row)
    if delay_ns:
        due_at = now.wall + delay_ns
        row = replace(row, state=State.SCHEDULED, due_at=due_at, rank=due_at, lease=None, snoozes=row.snoozes + 1)
    else:
        row = replace(row, state=State.READY, lease=None)
    tables.put(row)
    return row.state


def fail(
    tables: Tables,
    row: Row,
    failure: Failure,
    total: str,
    now: Now,
    *,
    may_retry: bool = True,
    delay_ns: int | None = None,
) -> State | None:
    """Count a failed attempt, in ``total`` too; return the state that the task is in then, None if it is not kept."""
    row = replace(row, failures=row.failures + 1, errors=(*row.errors, failure)[-limits.ERRORS_KEPT_MAX :])
    after = lifecycle.after_failure(
        task_id=row.id,
        failures=row.failures,
        retry=tables.retry_of(row),
        now_wall=now.wall,
        expires_at=row.expires_at,
        cancel_requested=row.cancel_requested,
        may_retry=may_retry,
        delay_ns=delay_ns,
    )
    if not row.cancel_requested:
        tables.tally(row.queue, total)
    if after.state in ENDED:
        return tables.end(row, after.state, after.reason, now)
    if row.options.rejoin:
        tables.let_go(row)
    due_at = after.due_at if after.state is State.SCHEDULED else 0
    tables.put(replace(row, state=after.state, due_at=due_at, rank=after.due_at, lease=None))
    return after.state
