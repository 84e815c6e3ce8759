"""Failed tasks that are tried again, many at a time.

What ``lmdb_tasks.fail`` does to one task is done here to those of a lease run that have failed in one report: nothing
is made of a task that need not be, and what it leaves in the file is written together in the end. It takes 5 us per
task instead of 17, and 3 if they fail alike, as they do when a host is down: the same is said of all, and they wait
equally long (a delay that was given, or intervals; a backoff has jitter). Only tasks whose records say nothing but a
place, times and a payload come here; whichever is not to be tried again, or is damaged, is given back untouched.

The trap: until ``write`` such a task stands nowhere.
"""

from __future__ import annotations

from lmdbq import lifecycle
from lmdbq.model import Completion, ErrorInfo, Intervals, State, Status
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_standing import RUN_IDS_MAX, ReadyStretch
from lmdbq.store.lmdb_tasks import note_failure
from lmdbq.store.lmdb_types import retry_rule
from lmdbq.store.lmdb_work import Queue, Work

_NO_ERROR = ErrorInfo()


class Retries:
    """Tasks of one lease run that have failed and are tried again."""

    def __init__(self, work: Work, queue: Queue, run: rec.LeaseRun, *, any_history: bool) -> None:
        self._work = work
        self._queue = queue
        self._run = run
        self._any_history = any_history
        self._retry = retry_rule(work, queue, run.type_no, None)
        self._said: tuple[object, ...] = ()  # by the last task that can be like others, and what became of it
        self._known: tuple[lifecycle.AfterFailure, bytes]
        self._histories: list[tuple[bytes, bytes]] = []
        self._scheduled: list[tuple[bytes, bytes]] = []
        self._expiry: list[tuple[bytes, bytes]] = []
        self._ready: list[list[int]] = []  # priority, rank, first id, last id

    def add(self, completion: Completion, place: tuple[int, int], before: int) -> State | None:
        """Take a task that has failed and has left its lease run; return the state it will have, None if it is not
        taken. place: what ``records.peek_plain`` says. before: the task before it, if none is stored between; else 0.
        """
        priority, expires_at = place
        history = None
        if self._any_history:
            try:
                history = self._work.get_history(completion.id)
            except rec.Damaged:
                return None
        said = (completion.error, completion.delay_ns, completion.retry, expires_at)
        if history is None and said == self._said:
            after, value = self._known
        else:
            after, value = self._failed(completion, expires_at, history or rec.History())
            if after.state not in (State.READY, State.SCHEDULED):
                return None
            is_even = completion.delay_ns is not None or isinstance(self._retry.backoff, Intervals)
            if history is None and is_even:  # else each waits for a time of its own
                self._said, self._known = said, (after, value)
        run, task_id = self._run, completion.id
        self._histories.append((ks.history(task_id), value))
        if after.state is State.READY:
            self._add_ready(priority, after.due_at, task_id, before)
        else:
            key = ks.scheduled(self._queue.no, after.due_at, task_id)
            self._scheduled.append((key, rec.write_standing(key, run.type_no, run.deliveries, run.failures + 1)))
        if expires_at:
            self._expiry.append((ks.expiry(self._queue.no, expires_at, task_id), b""))
        return after.state

    def _failed(
        self, completion: Completion, expires_at: int, history: rec.History
    ) -> tuple[lifecycle.AfterFailure, bytes]:
        """Return what becomes of a task that has failed, and its history if it is tried again."""
        now_wall, run = self._work.now.wall, self._run
        after = lifecycle.after_failure(
            task_id=completion.id,
            failures=run.failures + 1,
            retry=self._retry,
            now_wall=now_wall,
            expires_at=expires_at,
            cancel_requested=history.cancel_requested,
            may_retry=completion.retry,
            delay_ns=completion.delay_ns,
        )
        note_failure(history, now_wall, run.deliveries, completion.error or _NO_ERROR, Status.FAILED)
        history.rank = after.due_at
        return after, rec.write_history(history)

    def _add_ready(self, priority: int, rank: int, task_id: int, before: int) -> None:
        if self._ready:
            last = self._ready[-1]
            if last[3] == before and last[:2] == [priority, rank] and task_id - last[2] < RUN_IDS_MAX:
                last[3] = task_id
                return
        self._ready.append([priority, rank, task_id, task_id])

    def write(self) -> list[ReadyStretch]:
        """Write what was taken, and count it; return those that are ready at once, whom the caller puts."""
        work, queue_no, type_no = self._work, self._queue.no, self._run.type_no
        if not self._histories:
            return []
        work.put_histories(self._histories)
        for database, items in (("scheduled", self._scheduled), ("expiry", self._expiry)):
            if items:
                work.put_each(database, sorted(items))
        count, scheduled_count = len(self._histories), len(self._scheduled)
        work.count(queue_no, type_no, leaves=State.RUNNING, enters=State.READY, length=count - scheduled_count)
        work.count(queue_no, type_no, leaves=State.RUNNING, enters=State.SCHEDULED, length=scheduled_count)
        work.total(queue_no, "failed", count)
        counts = self._run.deliveries, self._run.failures + 1
        return [
            ReadyStretch(type_no, priority, rank, *counts, first_id, last_id)
            for priority, rank, first_id, last_id in self._ready
        ]
