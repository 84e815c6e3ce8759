"""``apply`` of the LMDB store: one transaction for many callers' calls.

It goes: make room (``space``), take the lock, run the calls (``lmdb_calls``), flush counts, commit. If anything raises
(a bug, a full map, a damaged key), the transaction is aborted and every call runs again in a child of its own: the one
that fails is refused, its neighbours commit. When space is low, what needs room is refused, and the rest runs in small
transactions, so that pages come back.

The trap: after a failed commit LMDB goes on as if nothing had happened, and later commits "succeed". Here nothing more
is written by this process after one (``CommitUnknown``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import lmdb
from msgspec.structs import replace

from lmdbq.clock import Clock, Now
from lmdbq.errors import CommitUnknown, NotCommitted
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Claim,
    Done,
    Edit,
    Enqueue,
    Expire,
    Fire,
    Lapse,
    Op,
    Problem,
    Promote,
    Prune,
    Refill,
    Refused,
    SchedulePatch,
    SchedulePut,
    SetMake,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.environment import Environment
from lmdbq.store.lmdb_calls import full, in_phases, mend, run_alone, run_fast, spawn
from lmdbq.store.lmdb_measure import measure
from lmdbq.store.lmdb_rows import Broken
from lmdbq.store.lmdb_standing import move_lease
from lmdbq.store.lmdb_work import Work
from lmdbq.store.side import Unusable
from lmdbq.store.space import RESERVE_OPS

BEGIN_TRIES_MAX: Final = 10

_log = logging.getLogger(__name__)


class _Low(Exception):
    """Room that was prepared was used up by another process before the write lock was ours."""


def apply_calls(
    shared: Environment, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None]
) -> Applied:
    """Run ``calls`` in one transaction; in several small ones, whole calls each, when space is low."""
    with shared.write_lock:
        _refuse_failed(shared)
        _prepare(shared, calls)
        if not shared.space.low:
            try:
                return _transact(shared, calls, clock, gate)
            except _Low:
                _log.debug("another process has used up the room")
        return _apply_low(shared, calls, clock, gate)


def _prepare(shared: Environment, calls: Sequence[Call]) -> None:
    """Make room for calls. Raises NotCommitted if the file cannot even be looked at."""
    try:
        shared.space.prepare(*measure(calls))
    except (OSError, lmdb.Error) as error:
        raise NotCommitted(f"room cannot be made in {shared.data_path} ({error}); nothing was changed") from error


def _refuse_failed(shared: Environment) -> None:
    if shared.failed is not None:
        raise CommitUnknown(shared.failed)


# --- when space is low ---


def _apply_low(shared: Environment, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None]) -> Applied:
    outcomes: list[CallOutcome] = [Done(())] * len(calls)
    stirred: set[str] = set()
    wrote = False
    for members in _low_groups(calls):
        group = [_frugal(calls[member]) for member in members]
        try:
            _prepare(shared, group)
            if shared.space.low and any(_grows(call) for call in group):
                outcomes[members[0]] = full(shared.space.pinned())
                continue
            applied = _transact(shared, group, clock, gate, may_be_low=True)
        except NotCommitted as error:
            if not wrote:
                raise
            for member in members:  # these alone: what ran before is on disk, and its callers may not repeat it
                outcomes[member] = Refused(error.code, (Problem(error.code, "", error.detail),))
            continue
        stirred |= applied.stirred
        wrote |= applied.wrote
        for member, outcome in zip(members, applied.outcomes, strict=True):
            outcomes[member] = outcome
    return Applied(outcomes, frozenset(stirred), wrote)


def _low_groups(calls: Sequence[Call]) -> Iterator[list[int]]:
    """Yield the calls in the order in which they run: alone what needs room, the rest RESERVE_OPS ops at a time."""
    group: list[int] = []
    ops = 0
    for index in in_phases(calls):
        weight, _ = measure([_frugal(calls[index])])
        if group and (ops + weight > RESERVE_OPS or _grows(calls[index])):
            yield group
            group, ops = [], 0
        if _grows(calls[index]):
            yield [index]
        else:
            group.append(index)
            ops += weight
    if group:
        yield group


def _grows(call: Call) -> bool:
    """Whether a call brings more than it takes away."""
    return any(isinstance(op, Enqueue | Edit | Fire | SchedulePut | SchedulePatch | SetMake) for op in call.ops)


def _frugal(call: Call) -> Call:
    """Return a call with its claims and sweeps made small; they may always do less than they are allowed to."""
    return replace(call, ops=tuple(_frugal_op(op) for op in call.ops))


def _frugal_op(op: Op) -> Op:
    if isinstance(op, Claim | Promote | Lapse | Expire | Prune | Refill) and op.limit > RESERVE_OPS:
        return replace(op, limit=RESERVE_OPS)
    return op


# --- one transaction ---


def _transact(
    shared: Environment,
    calls: Sequence[Call],
    clock: Clock,
    gate: AbstractContextManager[None],
    *,
    may_be_low: bool = False,
) -> Applied:
    for run in (run_fast, run_alone):
        txn = _begin(shared, calls, may_be_low=may_be_low)
        try:
            with gate:
                work = open_work(shared, txn, clock)
                outcomes = run(work, calls)
                _flush(work)
        except NotCommitted:
            txn.abort()
            raise
        except Exception as error:  # a bug or a full map: whose it is shows when each call runs alone
            txn.abort()
            if run is run_fast:
                _log.debug("running %d calls again one by one: %r", len(calls), error)
                continue
            if isinstance(error, lmdb.MapFullError):
                return _all_full(shared, calls)
            raise NotCommitted(f"the transaction failed ({error!r}); nothing was changed") from error
        except BaseException:
            txn.abort()
            raise
        if not work.wrote:
            txn.abort()
        elif not _commit(shared, txn):
            return _all_full(shared, calls)
        return Applied(outcomes, frozenset(work.stirred), work.wrote)
    raise AssertionError("unreachable")


def _all_full(shared: Environment, calls: Sequence[Call]) -> Applied:
    return Applied([full(shared.space.pinned())] * len(calls), frozenset(), wrote=False)


def _begin(shared: Environment, calls: Sequence[Call], *, may_be_low: bool) -> lmdb.Transaction:
    """Take the write lock, with the room for ``calls`` still there. Raises NotCommitted, _Low."""
    for _ in range(BEGIN_TRIES_MAX):
        try:
            with shared.turn:
                try:
                    txn = shared.env.begin(write=True)
                except lmdb.MapResizedError:  # another process let the file grow beyond our map
                    shared.resize_map(0)
                    txn = shared.env.begin(write=True)
        except lmdb.Error as error:
            raise NotCommitted(f"the file's write lock cannot be had ({error}); nothing was changed") from error
        try:
            if shared.space.still_holds():
                return txn
        except OSError as error:
            txn.abort()  # at once: the lock would be ours for as long as somebody keeps this error
            raise NotCommitted(f"room cannot be made in {shared.data_path} ({error}); nothing was changed") from error
        except BaseException:
            txn.abort()
            raise
        txn.abort()
        _prepare(shared, calls)
        if shared.space.low and not may_be_low:
            raise _Low
    raise NotCommitted("other processes use up the room in the file faster than it can be had; nothing was changed")


def _commit(shared: Environment, txn: lmdb.Transaction) -> bool:
    """Commit; False if the map had no room left for it, which LMDB finds before it writes anything."""
    try:
        txn.commit()
    except lmdb.MapFullError:
        return False
    except lmdb.Error as error:
        detail = f"the last commit failed ({error}): restart; the next opener verifies {shared.data_path} first"
        shared.mark_failed(detail)
        raise CommitUnknown(detail) from error
    return True


def _flush(work: Work) -> None:
    """Write what was kept in memory: extensions to the side file (or, if that fails, to the main one), counts."""
    if work.extensions:
        try:
            work.side.write(work.extensions)
        except Unusable as error:
            _log.warning("lease extensions go to the main file: %s", error)
            for task_id, extension in work.extensions.items():
                if extension is not None:
                    move_lease(work, task_id, extension.boot_no, extension.deadline)
    work.flush()


def mend_now(shared: Environment, broken: Broken, clock: Clock) -> None:
    """Make what a read found damaged anew, in a transaction of its own. Raises NotCommitted, CommitUnknown, Broken."""
    with shared.write_lock:
        _refuse_failed(shared)
        _prepare(shared, ())
        txn = _begin(shared, (), may_be_low=True)
        try:
            work = open_work(shared, txn, clock)
            mend(work, broken)
            spawn(work)
            _flush(work)
        except lmdb.MapFullError as error:
            txn.abort()
            raise NotCommitted("there is no room to mend what is damaged; nothing was changed") from error
        except BaseException:
            txn.abort()
            raise
        if not _commit(shared, txn):
            raise NotCommitted("there is no room to mend what is damaged; nothing was changed")


# --- the work of a transaction ---


def open_work(shared: Environment, txn: lmdb.Transaction, clock: Clock, *, write: bool = True) -> Work:
    """Return the work of a transaction, its clock read; if it writes, a new boot is noted."""
    meta = _meta(shared, txn)
    if write and meta.format != rec.FORMAT:
        raise NotCommitted(
            f"{shared.data_path} was raised to format {meta.format} by a newer lmdbq while this process had it open: "
            "restart this process with that version; nothing was changed"
        )
    boot_id = clock.boot_id()
    boot_no = meta.boot_no if meta.boot_id == boot_id else shared.next_boot_no(meta.boot_no)
    now = Now(clock.wall_ns(), clock.steady_ns(), boot_no)
    work = Work(shared, txn, now, meta, shared.side(boot_no), writing=write)
    if write and boot_no != meta.boot_no:
        meta.boot_no, meta.boot_id, meta.boot_steady = boot_no, boot_id, now.steady
        meta.created_at = meta.created_at or now.wall
        work.put("catalog", ks.meta(), rec.write_map(meta))
        work.side.remove_older()
    return work


def timeless_work(shared: Environment, txn: lmdb.Transaction) -> Work:
    """Return the work of a read for which the time does not matter."""
    meta = _meta(shared, txn)
    return Work(shared, txn, Now(0, 0, meta.boot_no), meta, shared.side(meta.boot_no), writing=False)


def _meta(shared: Environment, txn: lmdb.Transaction) -> rec.Meta:
    raw: Any = txn.get(ks.meta(), db=shared.databases["catalog"])
    return rec.read_meta(raw)
