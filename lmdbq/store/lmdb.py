"""The store that is a file: ``apply`` as one LMDB transaction.

A transaction goes: make room, take the lock, run the calls in order of phase, flush counts, commit. The common way is
*fast*: calls of one op run straight in the transaction, because an op is planned before it writes, so a refusal leaves
nothing behind; neighbouring Enqueue calls are written together; calls of several ops run in a child transaction each.
If anything raises (a bug, a full map), the whole transaction is aborted and every call runs again in a child of its
own: the one that fails is refused, its neighbours commit.

The trap: after a failed commit LMDB goes on as if nothing had happened, and later commits "succeed". Here nothing more
is written by this process after one (``CommitUnknown``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import lmdb

from lmdbq import limits
from lmdbq.clock import Clock, Now
from lmdbq.errors import CommitUnknown, CorruptFile, NotCommitted, StoreClosed
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Cancel,
    Claim,
    DaemonStart,
    Delete,
    Done,
    Due,
    Edit,
    Enqueue,
    Expire,
    Extend,
    Filter,
    Lapse,
    OpOutcome,
    Outcome,
    Page,
    Problem,
    Promote,
    Prune,
    Purge,
    QueueDelete,
    QueuePatch,
    QueuePut,
    QueueView,
    Refused,
    Report,
    Retry,
    Started,
    StoreInfo,
    Task,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import lmdb_ops_timed as timed
from lmdbq.store import lmdb_reads as reads
from lmdbq.store import records as rec
from lmdbq.store.base import NO_GATE, phase
from lmdbq.store.check import check_file
from lmdbq.store.environment import (
    VERIFIED_NAME,
    VERIFY_FIRST_NAME,
    Environment,
    open_environment,
)
from lmdbq.store.lmdb_ops_claim import claim, put_memo
from lmdbq.store.lmdb_ops_edit import delete, edit, retry
from lmdbq.store.lmdb_ops_enqueue import EnqueueBatch
from lmdbq.store.lmdb_ops_queue import delete_queue, patch_queue, purge, put_queue
from lmdbq.store.lmdb_ops_report import cancel, extend, report
from lmdbq.store.lmdb_standing import move_lease
from lmdbq.store.lmdb_work import Work
from lmdbq.store.side import Unusable
from lmdbq.store.space import RESERVE_OPS, Space

_log = logging.getLogger(__name__)

_INTERNAL: Final = "internal"
_Runner = Callable[[Work, Any], OpOutcome | Refused]


def _enqueue(work: Work, op: Enqueue) -> OpOutcome | Refused:
    batch = EnqueueBatch(work)
    outcome = batch.add(op)
    batch.write()
    return outcome


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
    Promote: lambda work, op: timed.promote(work, op, work.all_queues()),
    Lapse: lambda work, op: timed.lapse(work, op, work.all_queues()),
    Expire: lambda work, op: timed.expire(work, op, work.all_queues()),
    Prune: lambda work, op: timed.prune(work, op, work.all_queues()),
    DaemonStart: _daemon_start,
}


def open_store(path: str | Path, *, max_bytes: int = 0, durability: str = "full") -> LmdbStore:
    """Return the store of a data directory; it is opened, and created if missing, at the first call.

    max_bytes: how large the file may become, 0 = the disk. durability: "full" (every answer is synced) or "batch"
    (the last commit may be lost in a power cut, nothing else). Raises ValueError for other words.
    """
    if durability not in ("full", "batch"):
        raise ValueError(f"durability is 'full' or 'batch', not {durability!r}")
    return LmdbStore(Path(path), max_bytes, durability)


class LmdbStore:
    """Tasks in an LMDB file; see ``store.base`` for what every method promises."""

    def __init__(self, directory: Path, max_bytes: int, durability: str) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._durability = durability
        self._opening = threading.Lock()
        self._shared: Environment | None = None
        self._closed = False
        self._due_cache: tuple[int, str, reads.RawDue] | None = None

    # --- opening and closing ---

    def _environment(self) -> Environment:
        shared = self._shared
        if shared is None:
            with self._opening:
                shared = self._shared or self._open()
        shared.use()
        return shared

    def _open(self) -> Environment:
        if self._closed:
            raise StoreClosed("this store is closed: open it again")
        shared = open_environment(self._directory, max_bytes=self._max_bytes, metasync=self._durability == "full")
        try:
            self._verify_first(shared)
        except BaseException:
            shared.release()
            raise
        self._shared = shared
        return shared

    def _verify_first(self, shared: Environment) -> None:
        """Check the whole file if the last process to write it had a commit fail."""
        mark = self._directory / VERIFY_FIRST_NAME
        if not mark.exists():
            return
        with shared.reading() as txn:
            problems = check_file(shared, txn)
        if problems:
            raise CorruptFile(
                f"{shared.data_path} was left damaged by a failed commit: {problems[0]}; restore a backup"
            )
        mark.rename(self._directory / VERIFIED_NAME)

    def close(self) -> None:
        """Give up the file."""
        with self._opening:
            self._closed = True
            if self._shared is not None:
                self._shared.release()
                self._shared = None

    # --- writing ---

    def apply(self, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None] = NO_GATE) -> Applied:
        """Run ``calls`` in one transaction (in several small ones, whole calls each, when space is low)."""
        shared = self._environment()
        with shared.write_lock:
            if shared.failed is not None:
                raise CommitUnknown(shared.failed)
            space = shared.space
            sizes = [_measure(call) for call in calls]
            space.prepare(sum(weight for weight, _ in sizes), sum(size for _, size in sizes))
            if not space.low:
                return self._transact(shared, calls, clock, gate)
            return self._apply_low(shared, space, calls, clock, gate)

    def _apply_low(
        self, shared: Environment, space: Space, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None]
    ) -> Applied:
        """Refuse what needs room, run the rest a few ops at a time, so that pages come back."""
        outcomes: list[CallOutcome] = [_full(space.pinned())] * len(calls)
        stirred: set[str] = set()
        group: list[int] = []
        may = [index for index, call in enumerate(calls) if not any(isinstance(op, Enqueue) for op in call.ops)]
        for position, index in enumerate(may):
            group.append(index)
            following = may[position + 1 : position + 2]
            size = sum(_measure(calls[member])[0] for member in group)
            if following and size + _measure(calls[following[0]])[0] <= RESERVE_OPS:
                continue
            applied = self._transact(shared, [calls[member] for member in group], clock, gate)
            stirred |= applied.stirred
            for member, outcome in zip(group, applied.outcomes, strict=True):
                outcomes[member] = outcome
            group = []
        return Applied(outcomes, frozenset(stirred))

    def _transact(
        self, shared: Environment, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None]
    ) -> Applied:
        for run in (self._run_fast, self._run_alone):
            txn = self._begin(shared)
            try:
                with gate:
                    work = self._work(shared, txn, clock, write=True)
                    outcomes = run(work, calls)
                    self._flush(work)
            except Exception as error:  # a bug or a full map: whose it is shows when each call runs alone
                txn.abort()
                if run == self._run_fast:
                    _log.debug("running %d calls again one by one: %r", len(calls), error)
                    continue
                if isinstance(error, lmdb.MapFullError):
                    return Applied([_full("")] * len(calls), frozenset())
                raise NotCommitted(f"the transaction failed ({error!r}); nothing was changed") from error
            except BaseException:
                txn.abort()
                raise
            if not work.wrote:
                txn.abort()
            elif not self._commit(shared, txn):
                return Applied([_full("")] * len(calls), frozenset())
            return Applied(outcomes, frozenset(work.stirred), work.wrote)
        raise AssertionError("unreachable")

    @staticmethod
    def _begin(shared: Environment) -> lmdb.Transaction:
        try:
            try:
                return shared.env.begin(write=True)
            except lmdb.MapResizedError:  # another process let the file grow beyond our map
                shared.resize_map(0)
                return shared.env.begin(write=True)
        except lmdb.Error as error:
            raise NotCommitted(f"the file's write lock cannot be had ({error}); nothing was changed") from error

    @staticmethod
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

    def _work(self, shared: Environment, txn: lmdb.Transaction, clock: Clock, *, write: bool) -> Work:
        """Return the work of a transaction, its clock read, a new boot noted."""
        raw: Any = txn.get(ks.meta(), db=shared.databases["catalog"])
        meta = rec.read_meta(raw)
        boot_id = clock.boot_id()
        boot_no = meta.boot_no if meta.boot_id == boot_id else meta.boot_no + 1
        now = Now(clock.wall_ns(), clock.steady_ns(), boot_no)
        work = Work(shared, txn, now, meta, shared.side(boot_no))
        if write and boot_no != meta.boot_no:
            meta.boot_no, meta.boot_id = boot_no, boot_id
            meta.created_at = meta.created_at or now.wall
            work.put("catalog", ks.meta(), rec.write_map(meta))
            work.side.remove_older()
        return work

    # --- running calls ---

    def _run_fast(self, work: Work, calls: Sequence[Call]) -> list[CallOutcome]:
        outcomes: list[CallOutcome] = [Done(())] * len(calls)
        pending: list[tuple[Call, Done]] = []
        pending_keys: set[str] = set()
        batch = EnqueueBatch(work)

        def write_batch() -> None:
            nonlocal batch
            batch.write()
            batch = EnqueueBatch(work)
            for call, done in pending:
                _remember(work, call, done)
            pending.clear()
            pending_keys.clear()

        for index in _in_phases(calls):
            call = calls[index]
            joins = len(call.ops) == 1 and type(call.ops[0]) is Enqueue
            if not joins or (call.memo is not None and call.memo.key in pending_keys):
                write_batch()
            known = _remembered(work, call)
            if known is not None:
                outcomes[index] = known
            elif not joins:
                outcomes[index] = self._run_one(work, call) if len(call.ops) == 1 else self._run_child(work, call)
            else:
                op = call.ops[0]
                assert isinstance(op, Enqueue)
                outcome = batch.add(op)
                outcomes[index] = outcome if isinstance(outcome, Refused) else Done((outcome,))
                if call.memo is not None and isinstance(outcomes[index], Done):
                    pending.append((call, Done((outcome,)) if not isinstance(outcome, Refused) else Done(())))
                    pending_keys.add(call.memo.key)
        write_batch()
        return outcomes

    def _run_alone(self, work: Work, calls: Sequence[Call]) -> list[CallOutcome]:
        outcomes: list[CallOutcome] = [Done(())] * len(calls)
        for index in _in_phases(calls):
            known = _remembered(work, calls[index])
            outcomes[index] = known or self._run_child(work, calls[index], alone=True)
        return outcomes

    @staticmethod
    def _run_one(work: Work, call: Call) -> CallOutcome:
        """Run a call op by op; stops at the first refusal."""
        done: list[OpOutcome] = []
        for op in call.ops:
            outcome = _RUNNERS[type(op)](work, op)
            if isinstance(outcome, Refused):
                return outcome
            done.append(outcome)
        answer = Done(tuple(done))
        _remember(work, call, answer)
        return answer

    def _run_child(self, work: Work, call: Call, *, alone: bool = False) -> CallOutcome:
        """Run a call in a child transaction. alone: a failure is the call's own, and is answered as a refusal."""
        child = work.shared.env.begin(write=True, parent=work.txn)
        forked = work.fork(child)
        try:
            outcome = self._run_one(forked, call)
        except Exception as error:
            child.abort()
            if not alone:
                raise
            if isinstance(error, lmdb.MapFullError):
                return _full("")
            _log.exception("a call failed and changed nothing")
            if isinstance(error, ks.BadKey):
                return Refused("invalid", (Problem("invalid", "", str(error)),))
            return Refused(_INTERNAL, (Problem(_INTERNAL, "", f"a bug in lmdbq: {error!r}"),))
        if isinstance(outcome, Refused):
            child.abort()
            return outcome
        child.commit()
        work.adopt(forked)
        return outcome

    @staticmethod
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

    # --- reading ---

    def task(self, task_id: int, clock: Clock) -> Task | Outcome:
        """Return one task."""
        shared = self._environment()
        with shared.reading() as txn:
            return reads.task(self._work(shared, txn, clock, write=False), task_id)

    def tasks(self, wanted: Filter, clock: Clock, after: int = 0, limit: int = 100) -> Page:
        """Return a page of tasks."""
        shared = self._environment()
        with shared.reading() as txn:
            return reads.tasks(self._work(shared, txn, clock, write=False), wanted, after, limit)

    def count(self, wanted: Filter) -> int:
        """Return how many tasks match."""
        shared = self._environment()
        with shared.reading() as txn:
            return reads.count(self._timeless(shared, txn), wanted)

    def queues(self) -> list[QueueView]:
        """Return every queue."""
        shared = self._environment()
        with shared.reading() as txn:
            return reads.queues(self._timeless(shared, txn))

    def queue(self, name: str) -> QueueView | None:
        """Return one queue."""
        shared = self._environment()
        with shared.reading() as txn:
            return reads.queue(self._timeless(shared, txn), name)

    def _timeless(self, shared: Environment, txn: lmdb.Transaction) -> Work:
        raw: Any = txn.get(ks.meta(), db=shared.databases["catalog"])
        meta = rec.read_meta(raw)
        return Work(shared, txn, Now(0, 0, meta.boot_no), meta, shared.side(meta.boot_no))

    def due(self, clock: Clock) -> Due:
        """Return when each timed op has something to do next; answered from memory while nothing was committed."""
        shared = self._environment()
        changed, boot_id = self.changed(), clock.boot_id()
        cached = self._due_cache
        if cached is None or cached[:2] != (changed, boot_id):
            with shared.reading() as txn:
                # Under the number that was read: while a commit is being synced, readers still see the one before.
                cached = (txn.id(), boot_id, reads.raw_due(self._work(shared, txn, clock, write=False)))
            self._due_cache = cached
        return cached[2].at(clock)

    def info(self) -> StoreInfo:
        """Return facts about the file."""
        shared = self._environment()
        space = shared.space
        with shared.reading() as txn:
            work = self._timeless(shared, txn)
            pages = space.used_pages(txn)
            return StoreInfo(
                kind="lmdb",
                format=work.meta.format,
                engine=work.meta.engine,
                path=str(shared.data_path),
                created_at=work.meta.created_at,
                boot_no=work.meta.boot_no,
                last_id=work.last_id,
                used_bytes=pages * space.page_bytes,
                file_bytes=shared.data_path.stat().st_size,
                limit_bytes=space.max_bytes,
                quarantined=txn.stat(shared.databases["quarantine"])["entries"],
                low_space=space.low,
            )

    def changed(self) -> int:
        """Return the number of the last transaction."""
        number: int = self._environment().env.info()["last_txnid"]
        return number

    def check(self) -> list[str]:
        """Verify every invariant."""
        shared = self._environment()
        with shared.reading() as txn:
            return check_file(shared, txn)


def _in_phases(calls: Sequence[Call]) -> list[int]:
    """Return the indexes of the calls that have ops, in the order in which they run."""
    return sorted((index for index, call in enumerate(calls) if call.ops), key=lambda index: phase(calls[index].ops[0]))


def _weight(call: Call) -> int:
    """Return how many tasks a call may touch."""
    total = 0
    for op in call.ops:
        if isinstance(op, Enqueue):
            total += len(op.entries)
        elif isinstance(op, Report):
            total += len(op.completions)
        elif isinstance(op, Extend):
            total += len(op.extensions)
        elif isinstance(op, Claim):
            total += op.limit
        elif isinstance(op, Cancel | Delete | Retry):
            total += len(op.ids)
        else:
            total += 1
    return total


def _size_bytes(call: Call) -> int:
    """Return how many bytes of payloads and results a call brings."""
    total = 0
    for op in call.ops:
        if isinstance(op, Enqueue):
            total += sum(len(entry.payload) for entry in op.entries)
        elif isinstance(op, Report):
            total += sum(len(completion.result or b"") for completion in op.completions)
        elif isinstance(op, Edit):
            total += len(op.entry.payload)
    return total


def _measure(call: Call) -> tuple[int, int]:
    """Return (tasks, bytes) of a call; of one so wrong that it cannot be measured, too: it is refused when it runs."""
    try:
        return _weight(call), _size_bytes(call)
    except (AttributeError, TypeError):
        return 1, 0


def _full(pinned: str) -> Refused:
    detail = "no room on the disk or under --max-size; free some, or let workers drain the queue, then enqueue again"
    return Refused("full", (Problem("full", "", detail + pinned),))


def _remembered(work: Work, call: Call) -> CallOutcome | None:
    """Return what a call with a known Idempotency-Key was answered, None if it is to run."""
    if call.memo is None:
        return None
    value = work.get("memo", ks.memo(ks.MemoKind.IDEMPOTENCY, call.memo.key.encode()))
    if value is None:
        return None
    memo = rec.read_memo(value)
    if work.now.wall >= memo.remove_at:
        return None
    if memo.body_hash != call.memo.body_hash:
        detail = "this Idempotency-Key was used with another body; use a new key for a new request"
        return Refused("key_reused", (Problem("key_reused", "", detail),))
    return Done(rec.read_outcomes(memo.outcomes), replayed=True)


def _remember(work: Work, call: Call, done: Done) -> None:
    if call.memo is None:
        return
    now_wall = work.now.wall
    remove_at = min(now_wall + call.memo.kept_ns, limits.INSTANT_NS_MAX)
    memo = rec.Memo(now_wall, remove_at, call.memo.body_hash, rec.write_outcomes(done.outcomes))
    put_memo(work, ks.MemoKind.IDEMPOTENCY, call.memo.key.encode(), memo)
