"""The engine: what a daemon or an embedded client awaits instead of calling a store.

It joins four parts. The *committer* commits the calls of all who wait in one transaction, on a thread of its own. The
*waiters* are parked dequeues, tried when a commit says that their queues may have more. The *timers* do what the clock
asks for. The *watch* tells of commits by other processes. Everything here runs on one event loop, plain asyncio or
uvloop; only ``store.apply`` runs elsewhere. The trap: what ``_delivered`` does must keep its order. First everybody who
was tried in an apply has learned its outcome, then those are woken whom it concerns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from msgspec import Struct

from lmdbq.clock import Clock
from lmdbq.engine.committer import Commit, Committer, Settlement, Unit
from lmdbq.engine.finished import Finished
from lmdbq.engine.groups import Consumers
from lmdbq.engine.one_core import OneCore
from lmdbq.engine.timers import Timers
from lmdbq.engine.waiters import DRAINING, Waiters
from lmdbq.engine.watch import CommitWatch
from lmdbq.errors import Busy, CommitUnknown, Draining, LmdbqError, NotCommitted, StoreClosed
from lmdbq.limits import LOCK_WAIT_BUSY_SECONDS, LOOK_SECONDS
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Claim,
    Claimed,
    Completion,
    DaemonStart,
    Enqueue,
    Memo,
    Op,
    Report,
    Status,
    UniformEntries,
)
from lmdbq.store.base import Store

POLL_SECONDS: Final = 0.04  # where nobody tells us of foreign commits, while somebody is parked

_log = logging.getLogger(__name__)


class EngineStatus(Struct, frozen=True):
    """How the engine is doing. lock_wait_seconds: how long the running apply has waited for the write lock, 0 = it does
    not. pending_calls: submitted and not yet answered. parked: dequeues that wait for tasks. failed: what broke the
    file for this process. commits, calls: since the start. last_commit_seconds: how long the latest apply took."""

    lock_wait_seconds: float
    pending_calls: int
    parked: int
    failed: str | None
    draining: bool
    last_commit_seconds: float
    commits: int
    calls: int


class Engine:
    """A store for many concurrent callers on one event loop.

    timers: whether it runs the timed ops (a daemon always does). one_core: whether its threads are kept on one core.
    busy_seconds: for how long another process may hold the write lock before new calls are refused.
    """

    committer_type: type[Committer] = Committer  # a simulation has one without a thread

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        timers: bool = True,
        one_core: bool = False,
        busy_seconds: float = LOCK_WAIT_BUSY_SECONDS,
    ) -> None:
        self.store = store
        self.clock = clock
        self._with_timers = timers
        self._with_one_core = one_core
        self._busy_seconds = busy_seconds
        self._started = False
        self._draining = False
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._commits = 0
        self._calls = 0
        self._last_commit_seconds = 0.0
        self.finished = Finished()

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the writer thread, the timers and the watch for foreign commits. Starting twice is harmless."""
        if self._started:
            return
        self._started = True
        self._loop = asyncio.get_running_loop()
        self.fatal: asyncio.Future[CommitUnknown] = self._loop.create_future()
        self._watch = CommitWatch(self.store, lambda: not self._committer.pending, self._foreign)
        self._committer = self.committer_type(self.store, self.clock, self._delivered, watched=self._watch.watched)
        self._waiters = Waiters(self._committer.submit, self._give_back)
        self._timers = Timers(self.store, self.clock, self._commit_timed)
        self._committer.start()
        self._one_core = OneCore(self._loop, self._committer.thread_ids if self._with_one_core else ())
        if self._with_timers:
            begun = self._submit((Call((DaemonStart(),)),))  # before any claim can let a lease lapse
            self._tasks.append(self._loop.create_task(self._run_timers(begun)))
        self._tasks.append(self._loop.create_task(self._run_looks()))

    def drain(self) -> None:
        """Answer parked and new dequeues with reason "draining"; other calls go on. The first half of ``stop``."""
        self._draining = True
        if self._started:
            self._waiters.drain()

    async def stop(self) -> None:
        """Take no new calls, finish those that are pending, end the thread. The store stays open.

        Stopping twice is harmless. While another process holds the file's write lock it waits for that.
        """
        if self._stopping is None:
            self.drain()
            self._stopped = True
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if not self._started:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._one_core.let_go()
        await self._committer.close()
        self._watch.close()

    # --- verbs --------------------------------------------------------------------------------------------------------

    async def call(self, *ops: Op, memo: Memo | None = None, size_bytes: int = 0) -> CallOutcome:
        """Commit ``ops`` as one call and return what became of it, when it is on disk.

        size_bytes: how much it will write, 0 = its payloads are counted. Cancelling drops the call if its transaction
        has not begun. Raises Busy, Draining, NotCommitted, StoreClosed (nothing was changed) or CommitUnknown.
        """
        self._admit()
        settled = self._submit((Call(ops, memo),), size_bytes)
        if self._waiters.parked:
            self._anticipate(ops)
        return await settled

    async def dequeue(
        self, claim: Claim, wait_seconds: float, *, after: Call | None = None
    ) -> tuple[Claimed, CallOutcome | None]:
        """Claim tasks, waiting up to ``wait_seconds`` (0 .. 60) for some, and return them and the outcome of ``after``.

        after: a call, usually a report, that is committed in the same transaction as the first attempt (in one of its
        own if others have been waiting for these queues; it is then their turn first). Cancelling is safe: tasks that
        were claimed already are released. Raises what ``call`` raises, and StoreError if the claim was refused.
        """
        self._admit()
        reported: CallOutcome | None = None
        if after is not None and (self._draining or self._waiters.contended(claim)):
            reported = await self._submit((after,))
            after = None
        if self._draining:
            return DRAINING, reported
        waiter = self._waiters.add(claim, wait_seconds, after)
        future = waiter.future
        try:
            claimed, reported_with = await future
        except asyncio.CancelledError:
            self._waiters.leave(waiter, future)
            raise
        return claimed, reported or reported_with

    async def release(self, claimed: Claimed) -> None:
        """Give back tasks whose answer could not be written, uncounted. Done even if this is cancelled meanwhile.

        Raises Draining after ``stop``, NotCommitted, StoreClosed or CommitUnknown; the leases then lapse by themselves.
        """
        if self._committer.closed:
            raise Draining("the engine has stopped; the leases of these tasks will lapse")
        if claimed.tasks:
            await asyncio.shield(self._submit((_released(claimed),)))

    def status(self) -> EngineStatus:
        """Return how the engine is doing now; cheap."""
        failed = self._committer.failed
        return EngineStatus(
            lock_wait_seconds=self._committer.lock_wait_seconds,
            pending_calls=self._committer.pending,
            parked=self._waiters.parked,
            failed=failed.detail if failed else None,
            draining=self._draining,
            last_commit_seconds=self._last_commit_seconds,
            commits=self._commits,
            calls=self._calls,
        )

    async def has_succeeded(self, task_id: int) -> bool:
        """Whether a task that is no longer stored is known to have succeeded; see ``finished``."""
        if task_id not in self.finished:
            await self.call()  # its report may be on disk, and on its way to us: an empty call comes behind it
        return task_id in self.finished

    def consumers(self) -> dict[str, Consumers]:
        """Return, by queue, how many dequeues are parked and which types have been asked for in the last minute."""
        return self._waiters.consumers()

    # --- committing ---------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        assert self._started, "await start() first"
        if self._committer.failed is not None:
            raise CommitUnknown(self._committer.failed.detail)
        if self._stopped:
            raise Draining("the daemon is stopping; call again when it is back")
        waited = self._committer.lock_wait_seconds
        if waited > self._busy_seconds:
            raise Busy(
                f"another process has held the store's write lock for {waited:.1f} s; call again later, "
                "or end that process if it hangs"
            )

    def _submit(self, calls: tuple[Call, ...], size_bytes: int = 0) -> asyncio.Future[CallOutcome]:
        """Submit one call; the future is its outcome. Cancelling the future drops the call while that is possible."""
        future: asyncio.Future[CallOutcome] = self._loop.create_future()

        def settle(settlement: Settlement) -> None:
            if future.done():
                return
            if isinstance(settlement, LmdbqError):
                future.set_exception(settlement)
            elif settlement is None:
                future.cancel()
            else:
                future.set_result(settlement[0])

        self._committer.submit(Unit(calls, settle, size_bytes, future))
        return future

    async def _commit_timed(self, op: Op) -> CallOutcome:
        return await self._submit((Call((op,)),))

    def _give_back(self, claimed: Claimed) -> None:
        if self._committer.closed:
            _log.warning("a caller has gone after the stop: %d leases will lapse", len(claimed.tasks))
            return
        self._submit((_released(claimed),)).add_done_callback(_log_lost)

    def _anticipate(self, ops: tuple[Op, ...]) -> None:
        """Try parked dequeues right behind an enqueue, in the same apply: that saves them a commit of their own."""
        expected: Counter[str] = Counter()
        for op in ops:
            if isinstance(op, Enqueue):
                if isinstance(op.entries, UniformEntries):
                    expected[op.entries.queue] += len(op.entries)
                else:
                    expected.update(one.queue for one in op.entries if not (one.delay_ns or one.scheduled_at))
        if expected:
            self._waiters.stir(expected)

    def _delivered(self, commit: Commit) -> None:
        """After the callers of an apply were answered: wake who may find something now."""
        result = commit.result
        if not isinstance(result, Applied):
            if isinstance(result, CommitUnknown):
                self._fail(result)
            self._waiters.settled(())
            self._watch.look()
            return
        self._commits += 1
        self._calls += len(result.outcomes)
        self._last_commit_seconds = commit.seconds
        self.finished.note([call for unit in commit.units for call in unit.calls], result.outcomes)
        self._waiters.settled(result.stirred)
        self._watch.applied(commit.before, commit.after, result.wrote)
        self._timers.poke()
        self._watch.look()

    def _fail(self, error: CommitUnknown) -> None:
        self._waiters.fail(error)
        if not self.fatal.done():
            self.fatal.set_result(error)

    # --- other processes, and the passing of time ---------------------------------------------------------------------

    def _foreign(self) -> None:
        """Another process has committed."""
        self._waiters.stir_all()
        self._timers.poke()

    async def _run_looks(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS if self._watch.must_poll and self._waiters.parked else LOOK_SECONDS)
            self._watch.look()
            self._waiters.look()
            self._one_core.look(self._commits)

    async def _run_timers(self, begun: asyncio.Future[CallOutcome]) -> None:
        while True:
            try:
                await begun
                break
            except NotCommitted as error:
                _log.warning("the start could not be written, and is tried again: %s", error.detail)
                await asyncio.sleep(LOOK_SECONDS)
                begun = self._submit((Call((DaemonStart(),)),))
            except (CommitUnknown, StoreClosed):
                return
        await self._timers.run()


def _released(claimed: Claimed) -> Call:
    return Call((Report([Completion(task.id, task.deliveries, Status.RELEASED) for task in claimed.tasks]),))


def _log_lost(released: asyncio.Future[CallOutcome]) -> None:
    """Nobody awaits this release: if it failed, the leases lapse by themselves."""
    if not released.cancelled() and (error := released.exception()) is not None:
        _log.warning("tasks of a caller who has gone could not be released: %s", error)
