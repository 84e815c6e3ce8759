"""The store that forgets: the whole promise of ``store.base`` on dicts, for tests, and for a queue that need not last.

It is written from the text of ``store.base`` and ``lifecycle`` alone and shares nothing with the LMDB store, so that a
mistake would have to be made twice to go unseen. It prefers the obvious way to the fast one: a call changes the tables
as it goes, and is undone from a journal if it is refused; ready tasks are sorted at every claim.

The trap: the gate of ``apply`` may park the thread that reads. The lock that keeps reads and writes apart is therefore
taken inside the gate, never around it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager

from lmdbq import limits
from lmdbq.clock import Clock, Now
from lmdbq.errors import StoreClosed
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Done,
    Due,
    Filter,
    GroupRule,
    GroupView,
    Memo,
    Outcome,
    Page,
    Problem,
    QueueView,
    Refused,
    ScheduleView,
    SetState,
    SetView,
    StoreInfo,
    Task,
    ThreadView,
    TypeView,
)
from lmdbq.store import (
    memory_fair,
    memory_lanes,
    memory_reads,
    memory_schedules,
)
from lmdbq.store.base import NO_GATE, phase
from lmdbq.store.memory_ops import handle
from lmdbq.store.memory_rows import Denied, Remembered
from lmdbq.store.memory_state import Tables


class MemoryStore:
    """A ``store.base.Store`` that lives as long as the object."""

    def __init__(self) -> None:
        self._tables = Tables()
        self._lock = threading.Lock()
        self._boot_id = ""
        self._boot_no = 0
        self._created_at = 0
        self._applied_at = Now(0, 0, 0)  # when something was last done
        self._changes = 0
        self._is_closed = False

    def apply(self, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None] = NO_GATE) -> Applied:
        """Run ``calls``; see ``store.base``. Raises StoreClosed."""
        with gate, self._lock:
            self._must_be_open()
            now = self._now(clock)
            self._boot_id, self._boot_no = clock.boot_id(), now.boot_no
            self._applied_at = now
            self._tables.boot_start.setdefault(now.boot_no, now.steady)
            self._created_at = self._created_at or now.wall
            outcomes: dict[int, CallOutcome] = {}
            for index in sorted(
                range(len(calls)), key=lambda index: phase(calls[index].ops[0]) if calls[index].ops else 1
            ):
                outcomes[index] = self._run(calls[index], now)
            memory_fair.give_turns(self._tables)
            self._tables.keep()
            stirred = frozenset(self._tables.stirred)
            self._tables.stirred.clear()
            self._changes += 1
            return Applied([outcomes[index] for index in range(len(calls))], stirred)

    def task(self, task_id: int, clock: Clock) -> Task | Outcome:
        """Return a task, GONE or NOT_FOUND."""
        with self._lock:
            self._must_be_open()
            row = self._tables.rows.get(task_id)
            if row is None:
                return self._tables.missing(task_id)
            return memory_reads.task(self._tables, row, self._now(clock))

    def tasks(self, wanted: Filter, clock: Clock, after: int = 0, limit: int = 100) -> Page:
        """Return a page of tasks by rising id."""
        with self._lock:
            self._must_be_open()
            return memory_reads.page(self._tables, wanted, self._now(clock), after, limit)

    def count(self, wanted: Filter) -> int:
        """Return how many tasks match."""
        with self._lock:
            self._must_be_open()
            return memory_reads.count(self._tables, wanted)

    def queues(self) -> list[QueueView]:
        """Return every queue by name."""
        with self._lock:
            self._must_be_open()
            return [
                memory_reads.queue_view(self._tables, name, self._applied_at) for name in sorted(self._tables.queues)
            ]

    def queue(self, name: str) -> QueueView | None:
        """Return one queue, None if it does not exist."""
        with self._lock:
            self._must_be_open()
            known = name in self._tables.queues
            return memory_reads.queue_view(self._tables, name, self._applied_at) if known else None

    def groups(self, clock: Clock, after: str = "", limit: int = 1_000) -> list[GroupView]:
        """Return groups by name."""
        with self._lock:
            self._must_be_open()
            return memory_lanes.group_views(self._tables, self._now(clock), after, limit)

    def group(self, name: str, clock: Clock) -> GroupView | None:
        """Return one group."""
        with self._lock:
            self._must_be_open()
            return memory_lanes.group_view(self._tables, name, self._now(clock))

    def group_rules(self) -> list[GroupRule]:
        """Return every rule for groups."""
        with self._lock:
            self._must_be_open()
            return sorted(self._tables.group_rules.values(), key=lambda rule: rule.pattern.encode())

    def threads(self, queue: str, after: str = "", limit: int = 1_000) -> list[ThreadView]:
        """Return threads of a queue by name."""
        with self._lock:
            self._must_be_open()
            return memory_lanes.thread_views(self._tables, queue, after, limit)

    def schedules(self) -> list[ScheduleView]:
        """Return every schedule by name."""
        with self._lock:
            self._must_be_open()
            return memory_schedules.schedule_views(self._tables)

    def schedule(self, name: str) -> ScheduleView | None:
        """Return one schedule, None if it does not exist."""
        with self._lock:
            self._must_be_open()
            return memory_schedules.schedule_view(self._tables, name)

    def sets(self, after: int = 0, limit: int = 1_000, states: tuple[SetState, ...] = ()) -> list[SetView]:
        """Return sets by rising id."""
        with self._lock:
            self._must_be_open()
            found = [self._tables.sets[set_id] for set_id in sorted(self._tables.sets) if set_id > after]
            return [one for one in found if not states or one.state in states][:limit]

    def set(self, set_id: int) -> SetView | None:
        """Return one set, None if it does not exist."""
        with self._lock:
            self._must_be_open()
            return self._tables.sets.get(set_id)

    def types(self) -> list[TypeView]:
        """Return every type of which something is known, by name."""
        with self._lock:
            self._must_be_open()
            known = self._tables.types
            return [TypeView(name, known[name].settings, known[name].schema) for name in sorted(known)]

    def due(self, clock: Clock) -> Due:
        """Return when each timed op has something to do next."""
        with self._lock:
            self._must_be_open()
            return memory_reads.due(self._tables, self._now(clock))

    def info(self) -> StoreInfo:
        """Return facts about the store; it has no file."""
        with self._lock:
            self._must_be_open()
            return StoreInfo(
                kind="memory",
                format=0,
                engine="memory",
                path=":memory:",
                created_at=self._created_at,
                boot_no=self._boot_no,
                last_id=self._tables.last_id[""],
            )

    def changed(self) -> int:
        """Return a number that differs after every ``apply``."""
        with self._lock:
            self._must_be_open()
            return self._changes

    def check(self) -> list[str]:
        """Return one line for each fault in the tables."""
        with self._lock:
            self._must_be_open()
            return memory_reads.check(self._tables)

    def close(self) -> None:
        """Forget everything. Closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            self._tables = Tables()

    # --- one call

    def _run(self, call: Call, now: Now) -> CallOutcome:
        tables = self._tables
        tables.made_set = 0
        try:
            outcome = self._replay(call.memo, now) if call.memo else None
            if outcome is None:
                outcome = Done(tuple(handle(tables, op, now) for op in call.ops))
                self._remember(call.memo, outcome, now)
        except Denied as denied:
            tables.undo()
            return Refused(denied.problems[0].code, tuple(denied.problems[: limits.PROBLEMS_MAX]))
        except Exception as error:  # noqa: BLE001 - a bug in one call is that call's answer; its neighbours go on
            tables.undo()
            return Refused("internal", (Problem("internal", "", f"{type(error).__name__}: {error}"),))
        tables.keep()
        return outcome

    def _replay(self, memo: Memo, now: Now) -> Done | None:
        known = self._tables.memos.get(memo.key)
        if known is None or known.until <= now.wall:
            return None
        if known.body_hash != memo.body_hash:
            detail = "this Idempotency-Key came with another body before; use a new key for a new call"
            raise Denied([Problem("key_reused", "", detail)])
        return Done(known.outcomes, replayed=True)

    def _remember(self, memo: Memo | None, done: Done, now: Now) -> None:
        if memo is not None:
            known = Remembered(memo.body_hash, done.outcomes, now.wall + memo.kept_ns)
            self._tables.assign(self._tables.memos, memo.key, known)

    # --- time

    def _now(self, clock: Clock) -> Now:
        is_known = clock.boot_id() == self._boot_id
        return Now(clock.wall_ns(), clock.steady_ns(), self._boot_no if is_known else self._boot_no + 1)

    def _last_now(self) -> Now:
        return self._applied_at

    def _must_be_open(self) -> None:
        if self._is_closed:
            raise StoreClosed("this store was closed; make another one")
