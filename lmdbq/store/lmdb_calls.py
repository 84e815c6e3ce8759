"""Running calls in a transaction: the common way fast, and each call alone once something has gone wrong.

*Fast*: calls of one op run straight in the transaction, because an op is planned before it writes, so a refusal leaves
nothing behind; neighbouring Enqueue calls are written together; calls of several ops run in a child transaction each.
*Alone*: every call runs in a child of its own; the one that fails is refused, its neighbours stay.

The trap: what is damaged in an index must not fail every call that meets it for ever. ``Broken`` says which key it was;
run alone, the key is made anew from the records (``lmdb_mend``) and the call runs again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import lmdb

from lmdbq.model import (
    Call,
    CallOutcome,
    Cancel,
    Claim,
    DaemonStart,
    Delete,
    Done,
    Edit,
    Enqueue,
    Expire,
    Extend,
    Fire,
    GroupDelete,
    GroupPatch,
    GroupPut,
    Lapse,
    OpOutcome,
    Problem,
    Promote,
    Prune,
    Purge,
    QueueDelete,
    QueuePatch,
    QueuePut,
    Refill,
    Refused,
    Report,
    Retry,
    RuleDelete,
    RulePut,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    SetClose,
    SetDelete,
    SetMake,
    Started,
    TypePut,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import lmdb_ops_timed as timed
from lmdbq.store import records as rec
from lmdbq.store.base import phase
from lmdbq.store.lmdb_exposed import refill
from lmdbq.store.lmdb_memos import remember, remembered
from lmdbq.store.lmdb_mend import mend_all
from lmdbq.store.lmdb_ops_claim import claim
from lmdbq.store.lmdb_ops_edit import delete, edit, retry
from lmdbq.store.lmdb_ops_enqueue import EnqueueBatch
from lmdbq.store.lmdb_ops_groups import delete_group, delete_rule, patch_group, put_group, put_rule
from lmdbq.store.lmdb_ops_queue import delete_queue, patch_queue, purge, put_queue
from lmdbq.store.lmdb_ops_report import cancel, extend, report
from lmdbq.store.lmdb_ops_schedule import delete_schedule, fire, patch_schedule, put_schedule
from lmdbq.store.lmdb_ops_sets import close_set, delete_set, make_set
from lmdbq.store.lmdb_rows import Broken
from lmdbq.store.lmdb_types import put_type
from lmdbq.store.lmdb_work import Work

MENDS_MAX: Final = 1_000  # keys that one call may find damaged before it is given up

_log = logging.getLogger(__name__)

_INTERNAL: Final = "internal"
_T = TypeVar("_T")
_Runner = Callable[[Work, Any], OpOutcome | Refused]


def _enqueue(work: Work, op: Enqueue) -> OpOutcome | Refused:
    batch = EnqueueBatch(work)
    outcome = batch.add(op)
    batch.write()
    return outcome


def spawn(work: Work) -> None:
    """Decide the sets that what has just run lets be decided; enqueue what it spawned, and what that spawns."""
    work.settle_sets()
    while work.spawned:
        entries, work.spawned = work.spawned, []
        for entry in entries:
            _enqueue(work, Enqueue((entry,), spawned=True))
            work.settle_sets()


def _daemon_start(work: Work, _: DaemonStart) -> Started:
    work.meta.daemon_boot_no = work.now.boot_no
    work.meta.daemon_steady = work.now.steady
    work.put("catalog", ks.meta(), rec.write_map(work.meta))
    return Started(work.now.boot_no)


_RUNNERS: Final[dict[type, _Runner]] = {
    Enqueue: _enqueue,
    Claim: claim,
    Extend: extend,
    Report: report,
    Cancel: cancel,
    Edit: edit,
    Delete: delete,
    Retry: retry,
    Purge: purge,
    QueuePut: put_queue,
    QueuePatch: patch_queue,
    QueueDelete: delete_queue,
    TypePut: put_type,
    GroupPut: put_group,
    GroupPatch: patch_group,
    GroupDelete: delete_group,
    RulePut: put_rule,
    RuleDelete: delete_rule,
    Refill: refill,
    Promote: lambda work, op: timed.promote(work, op, work.all_queues()),
    Lapse: lambda work, op: timed.lapse(work, op, work.all_queues()),
    Expire: lambda work, op: timed.expire(work, op, work.all_queues()),
    Prune: lambda work, op: timed.prune(work, op, work.all_queues()),
    SchedulePut: put_schedule,
    SchedulePatch: patch_schedule,
    ScheduleDelete: delete_schedule,
    SetMake: make_set,
    SetClose: close_set,
    SetDelete: delete_set,
    Fire: fire,
    DaemonStart: _daemon_start,
}


def in_phases(calls: Sequence[Call]) -> list[int]:
    """Return the indexes of the calls that have ops, in the order in which they run."""
    return sorted((index for index, call in enumerate(calls) if call.ops), key=lambda index: phase(calls[index].ops[0]))


def run_fast(work: Work, calls: Sequence[Call]) -> list[CallOutcome]:
    """Run calls as if nothing could go wrong. Whatever is raised, the transaction is to be aborted."""
    outcomes: list[CallOutcome] = [Done(())] * len(calls)
    pending: dict[str, tuple[Call, Done]] = {}  # by memo key
    batch: EnqueueBatch | None = None

    def write_batch() -> None:
        if batch is not None:
            batch.write()
            spawn(work)
        for call, done in pending.values():
            remember(work, call, done)
        pending.clear()

    for index in in_phases(calls):
        call = calls[index]
        joins = len(call.ops) == 1 and type(call.ops[0]) is Enqueue
        if not joins or (call.memo is not None and call.memo.key in pending):
            write_batch()
            batch = None
        known = remembered(work, call)
        if known is not None:
            outcomes[index] = known
        elif not joins:
            outcomes[index] = _run_one(work, call) if len(call.ops) == 1 else _run_child(work, call)
        else:
            op = call.ops[0]
            assert isinstance(op, Enqueue)
            batch = batch or EnqueueBatch(work)
            outcome = batch.add(op)
            if isinstance(outcome, Refused):
                outcomes[index] = outcome
                continue
            outcomes[index] = done = Done((outcome,))
            if call.memo is not None:
                pending[call.memo.key] = (call, done)
            if batch.may_settle:  # what follows belongs to this call, and so before the next
                write_batch()
                batch = None
    write_batch()
    return outcomes


def run_alone(work: Work, calls: Sequence[Call]) -> list[CallOutcome]:
    """Run each call in a child of its own; a failure is that call's refusal."""
    outcomes: list[CallOutcome] = [Done(())] * len(calls)
    for index in in_phases(calls):
        outcomes[index] = _run_alone(work, calls[index])
    return outcomes


def _run_alone(work: Work, call: Call) -> CallOutcome:
    for _ in range(MENDS_MAX):
        try:
            try:
                return remembered(work, call) or _run_child(work, call)
            except Broken as broken:
                mend(work, broken)
        except Exception as error:  # noqa: BLE001  whatever it is, it must not reach the neighbours
            return _failure(work, error)
    return _failure(work, rec.Damaged(f"more than {MENDS_MAX} keys that it needs are damaged"))


def mend(work: Work, broken: Broken) -> None:
    """Make a damaged key anew. Raises Broken, Damaged if it cannot be."""
    mend_all(broken, lambda step: _in_child(work, step))


def _failure(work: Work, error: Exception) -> Refused:
    """Return the refusal of a call that raised, and was undone."""
    if isinstance(error, lmdb.MapFullError):
        return full(work.shared.space.pinned())
    _log.error("a call failed and changed nothing", exc_info=error)
    if isinstance(error, ks.BadKey):
        return Refused("invalid", (Problem("invalid", "", str(error)),))
    if isinstance(error, rec.Damaged | Broken):
        return Refused(_INTERNAL, (Problem(_INTERNAL, "", f"what this call needs is damaged: {error}"),))
    return Refused(_INTERNAL, (Problem(_INTERNAL, "", f"a bug in lmdbq: {error!r}"),))


def _run_one(work: Work, call: Call) -> CallOutcome:
    """Run a call op by op; stops at the first refusal."""
    done: list[OpOutcome] = []
    for op in call.ops:
        outcome = _RUNNERS[type(op)](work, op)
        if isinstance(outcome, Refused):
            return outcome
        spawn(work)
        done.append(outcome)
    work.made_set = 0
    answer = Done(tuple(done))
    remember(work, call, answer)
    return answer


def _run_child(work: Work, call: Call) -> CallOutcome:
    """Run a call in a child transaction, which a refusal or an error leaves without a trace."""
    try:
        return _in_child(work, lambda forked: _done(_run_one(forked, call)))
    except _NotDone as error:
        return error.refused


class _NotDone(Exception):
    """A call was refused, and its child is to be aborted."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


def _done(outcome: CallOutcome) -> Done:
    if isinstance(outcome, Refused):
        raise _NotDone(outcome)
    return outcome


def _in_child(work: Work, run: Callable[[Work], _T]) -> _T:
    child = work.shared.env.begin(write=True, parent=work.txn)
    forked = work.fork(child)
    try:
        result = run(forked)
    except BaseException:
        child.abort()
        raise
    child.commit()
    work.adopt(forked)
    return result


def full(pinned: str) -> Refused:
    """Return the refusal of a call that there is no room for. pinned: who keeps room from coming back, see Space."""
    detail = "no room on the disk or under --max-size; free some, or let workers drain the queue, then enqueue again"
    return Refused("full", (Problem("full", "", detail + pinned),))
