"""The store that is a file: opening and closing it, and its reads. What it writes goes through ``lmdb_apply``.

It is opened at the first call, so that a store can be made anywhere; every call asks the shared environment first,
which refuses after ``close`` and in a forked child. Where the last process to write had a commit fail, the whole file
is verified before it is used.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import lmdb

from lmdbq.clock import Clock, SystemClock
from lmdbq.errors import CommitUnknown, CorruptFile, NotCommitted, StoreClosed
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Due,
    Filter,
    GroupRule,
    GroupView,
    Outcome,
    Page,
    QueueView,
    ScheduleView,
    SetState,
    SetView,
    StoreInfo,
    Task,
    ThreadView,
    TypeView,
)
from lmdbq.store import lmdb_lane_reads as lane_reads
from lmdbq.store import lmdb_reads as reads
from lmdbq.store import records as rec
from lmdbq.store.base import NO_GATE
from lmdbq.store.check import check_file
from lmdbq.store.environment import VERIFIED_NAME, VERIFY_FIRST_NAME, Environment, open_environment
from lmdbq.store.lmdb_apply import apply_calls, mend_now, open_work, timeless_work
from lmdbq.store.lmdb_calls import MENDS_MAX
from lmdbq.store.lmdb_ops_schedule import schedule_view, schedule_views
from lmdbq.store.lmdb_rows import Broken
from lmdbq.store.lmdb_sets import set_view, set_views
from lmdbq.store.lmdb_types import types
from lmdbq.store.lmdb_within import apply_in, check_usable
from lmdbq.store.lmdb_work import Work
from lmdbq.store.pages import explained

_T = TypeVar("_T")


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
        shared.refuse_closed()
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
        if shared.failed is not None or not mark.exists():  # after a failure it is for another process to judge
            return
        with explained(shared.data_path, ValueError, IndexError), shared.reading() as txn:
            problems = check_file(shared, txn)
        if problems:
            raise CorruptFile(
                f"{shared.data_path} was left damaged by a failed commit: {problems[0]}; restore a backup"
            )
        with contextlib.suppress(FileNotFoundError):  # somebody else has opened and verified it meanwhile
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
        return apply_calls(self._environment(), calls, clock, gate)

    def apply_in(self, txn: lmdb.Transaction, call: Call, clock: Clock) -> CallOutcome:
        """Run a call inside a write transaction of ``environment()``; see ``lmdb_within``."""
        return apply_in(self._environment(), txn, call, clock)

    def check_usable(self, txn: object) -> None:
        """Raise TransactionUnusable unless ``apply_in`` would take this transaction now."""
        check_usable(self._environment(), txn)

    def environment(self) -> lmdb.Environment:
        """Return the open environment, in which others may have databases of their own. It is closed by ``close``."""
        return self._environment().use()

    # --- reading ---

    @contextlib.contextmanager
    def _reading(self, clock: Clock | None) -> Iterator[Work]:
        """The work of a read; of one for which the time does not matter without a clock."""
        shared = self._environment()
        with explained(shared.data_path), shared.reading() as txn:
            yield timeless_work(shared, txn) if clock is None else open_work(shared, txn, clock, write=False)

    def _read(self, clock: Clock | None, read: Callable[[Work], _T]) -> _T:
        """Return what ``read`` reads. What it finds damaged is made anew first; CorruptFile if that cannot be."""
        for _ in range(MENDS_MAX):
            try:
                with self._reading(clock) as work:
                    return read(work)
            except Broken as broken:
                try:
                    mend_now(self._environment(), broken, clock or SystemClock())
                except (Broken, rec.Damaged, NotCommitted, CommitUnknown) as error:
                    raise CorruptFile(f"{broken}, and cannot be made anew: {error}") from error
            except rec.Damaged as error:
                raise CorruptFile(f"{self._directory}: {error}; `lmdbq check` lists all that is damaged") from error
        raise CorruptFile(f"{self._directory}: more than {MENDS_MAX} keys are damaged; restore a backup")

    def task(self, task_id: int, clock: Clock) -> Task | Outcome:
        """Return one task."""
        return self._read(clock, lambda work: reads.task(work, task_id))

    def tasks(self, wanted: Filter, clock: Clock, after: int = 0, limit: int = 100) -> Page:
        """Return a page of tasks."""
        return self._read(clock, lambda work: reads.tasks(work, wanted, after, limit))

    def count(self, wanted: Filter) -> int:
        """Return how many tasks match."""
        total, after = 0, 0
        while True:  # each step is a read transaction of its own, so that none keeps pages from being used again
            counted, after = self._read(None, lambda work, after=after: reads.count(work, wanted, after))  # type: ignore[misc]
            total += counted
            if not after:
                return total

    def queues(self) -> list[QueueView]:
        """Return every queue."""
        return self._read(None, reads.queues)

    def sets(self, after: int = 0, limit: int = 1_000, states: tuple[SetState, ...] = ()) -> list[SetView]:
        """Return sets by rising id."""
        return self._read(None, lambda work: set_views(work, after, limit, states))

    def set(self, set_id: int) -> SetView | None:
        """Return one set, None if it does not exist."""
        return self._read(None, lambda work: set_view(work, set_id))

    def types(self) -> list[TypeView]:
        """Return every type of which something is known."""
        return self._read(None, types)

    def queue(self, name: str) -> QueueView | None:
        """Return one queue."""
        return self._read(None, lambda work: reads.queue(work, name))

    def schedules(self) -> list[ScheduleView]:
        """Return every schedule by name."""
        return self._read(None, schedule_views)

    def schedule(self, name: str) -> ScheduleView | None:
        """Return one schedule, None if it does not exist."""
        return self._read(None, lambda work: schedule_view(work, name))

    def groups(self, clock: Clock, after: str = "", limit: int = 1_000) -> list[GroupView]:
        """Return groups by name."""
        return self._read(clock, lambda work: lane_reads.groups(work, after, limit))

    def group(self, name: str, clock: Clock) -> GroupView | None:
        """Return one group."""
        return self._read(clock, lambda work: lane_reads.group(work, name))

    def group_rules(self) -> list[GroupRule]:
        """Return every rule for groups."""
        return self._read(None, lane_reads.group_rules)

    def threads(self, queue: str, after: str = "", limit: int = 1_000) -> list[ThreadView]:
        """Return threads of a queue by name."""
        return self._read(None, lambda work: lane_reads.threads(work, queue, after, limit))

    def due(self, clock: Clock) -> Due:
        """Return when each timed op has something to do next; answered from memory while nothing was committed."""
        changed, boot_id = self.changed(), clock.boot_id()
        cached = self._due_cache
        if cached is None or cached[:2] != (changed, boot_id):
            # Under the number that was read: while a commit is being synced, readers still see the one before.
            number, due = self._read(clock, lambda work: (work.txn.id(), reads.raw_due(work)))
            cached = (number, boot_id, due)
            self._due_cache = cached
        return cached[2].at(clock)

    def info(self) -> StoreInfo:
        """Return facts about the file."""
        shared = self._environment()
        space = shared.space
        with self._reading(None) as work:
            pages = space.used_pages(work.txn)
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
                quarantined=work.txn.stat(shared.databases["quarantine"])["entries"],
                low_space=space.low,
            )

    def changed(self) -> int:
        """Return the number of the last transaction."""
        return self._environment().last_txn_id()

    def copy_to(self, fd: int) -> None:
        """Write the file, as it is at this moment and without free pages, to a descriptor. Raises OSError, StoreError.

        Others may write meanwhile; the map is not resized before it is done.
        """
        shared = self._environment()
        with shared.reading() as txn:
            try:
                shared.use().copyfd(fd, compact=True, txn=txn)
            except lmdb.Error as error:
                raise OSError(getattr(error, "code", 0), f"the file could not be copied: {error}") from error

    def check(self) -> list[str]:
        """Verify every invariant."""
        shared = self._environment()
        with explained(shared.data_path, ValueError, IndexError), shared.reading() as txn:
            return check_file(shared, txn)
