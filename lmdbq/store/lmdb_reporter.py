"""The work of a report: what becomes of the tasks whose attempts have ended.

A report of a whole batch is the common case, so completions come here in the order of their ids, each task once, and
are taken a lease run at a time: a walk over their records removes those that simply succeed, then the others leave the
run, all of them at once, and each goes its own way (``lmdb_retries``, or removed, kept, tried again one by one). A
lease is (id, delivery): the delivery is compared with the task's deliveries before anything else, so a stale holder
changes nothing.

The trap: a task that has left its lease run stands nowhere until it was dealt with, so nothing may search for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from lmdbq import lifecycle
from lmdbq.model import Completion, ErrorInfo, Outcome, Reported, State, Status
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_retries import Retries
from lmdbq.store.lmdb_standing import Located, ReadyStretch, add_stretches, lease_over, shorten_lease
from lmdbq.store.lmdb_tasks import change_state, end, fail, note_report, quarantine, sound
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work

_NO_ERROR = ErrorInfo()
_REMOVED = Reported(Outcome.OK)
_NOT_FOUND = Reported(Outcome.NOT_FOUND)
_STALE = Reported(Outcome.STALE_LEASE)
_RETRIED = {state: Reported(Outcome.OK, state) for state in (State.READY, State.SCHEDULED)}


_Leaver = tuple[int, tuple[int, int] | None]
"""A task that leaves its lease run and is stored on, for now: the index of its completion; and of one that has failed,
and may be tried again together with others, what ``records.peek_plain`` says."""


class Reporter:
    """One report under way. completions: by rising id, each task once."""

    def __init__(self, work: Work, completions: Sequence[Completion]) -> None:
        self._work = work
        self._completions = completions
        self._ids = [completion.id for completion in completions]
        self._records = work.cursor("task")
        self._outcomes = [_REMOVED] * len(completions)

    def run(self) -> list[Reported]:
        """Run all of it; return an outcome for each completion."""
        position = 0
        while position < len(self._ids):
            found = lease_over(self._work, self._ids[position])
            if found is None:
                self._outcomes[position] = self._not_running(self._completions[position])
                position += 1
            else:
                last_id, run = found
                after = bisect_right(self._ids, last_id, position)
                self._run_of(last_id, run, position, after)
                position = after
        return self._outcomes

    def _not_running(self, completion: Completion) -> Reported:
        """Answer for a task that is in no lease: a repeat, a stale lease, or a task that is gone."""
        task = sound(self._work, completion.id)
        if task is None:
            return _NOT_FOUND
        if task.deliveries != completion.delivery:
            return _STALE
        history = task.history
        if (history.last_delivery, history.last_status) == (completion.delivery, completion.status):
            return Reported(Outcome.OK, task.state)
        return Reported(Outcome.NOT_RUNNING)

    def _run_of(self, last_id: int, run: rec.LeaseRun, position: int, after: int) -> None:
        """Run the completions ``position`` .. ``after - 1``, which are of one lease run."""
        work = self._work
        queue = work.queue_of(run.queue_no)
        if queue is None:
            self._outcomes[position:after] = [_NOT_FOUND] * (after - position)
            return
        any_history = work.any_history(self._ids[position], self._ids[after - 1])
        count, stretches = self._walk(queue, run, position, after, any_history)
        if not count and not stretches:
            return
        work.stirred.add(queue.name)
        if count:
            work.wrote = True
            work.count(queue.no, run.type_no, leaves=State.RUNNING, length=count)
            work.total(queue.no, "succeeded", count)
        if work.has_extensions:
            for completion in self._completions[position:after]:
                if completion.delivery == run.deliveries:
                    work.forget_extension(completion.id)
        shorten_lease(work, last_id, run, [(self._ids[one[0][0]], self._ids[one[-1][0]]) for one in stretches])
        if not stretches:
            return
        retries = Retries(work, queue, run, any_history=any_history)
        ready: list[ReadyStretch] = []
        for stretch in stretches:
            before = 0
            for index, place in stretch:
                completion = self._completions[index]
                state = None if place is None else retries.add(completion, place, before)
                if state is None:
                    self._outcomes[index] = self._end_attempt(queue, run, completion, ready)
                else:
                    self._outcomes[index] = _RETRIED[state]
                before = completion.id
        add_stretches(work, queue, ready + retries.write())

    def _walk(
        self, queue: Queue, run: rec.LeaseRun, position: int, after: int, any_history: bool
    ) -> tuple[int, list[list[_Leaver]]]:
        """Remove the tasks of a lease run that simply succeed; return how many they were, and the others that are to
        leave it, in stretches: between those of one, nothing else is stored.

        Those that succeed without a result are removed on the spot if their records say nothing but a place and a
        payload. Of such a record only the bytes that say so are looked at, no checksum is made, and no history is read:
        nobody wants them any more. (Rot that makes just these bytes of others leaves, at worst, a slot that names
        nobody, which blocks nobody.) 0.6 us per task; each of the others goes its own way, for 10.
        """
        records, pack_id = self._records, ks.U64.pack
        succeeded, failed = Status.SUCCEEDED, Status.FAILED
        is_removed = not lifecycle.resolve_keep(State.SUCCEEDED, False, rules(self._work, queue, run.type_no).keep)
        removed: list[bytes] = []
        stretches: list[list[_Leaver]] = []
        is_next = False
        for index in range(position, after):
            completion = self._completions[index]
            key = pack_id(completion.id)
            if records.key() != key:  # else what was done to the one before has moved it here: nothing is between
                is_next = False
                if not records.set_key(key):
                    self._outcomes[index] = _NOT_FOUND
                    continue
            status = completion.status
            if completion.delivery != run.deliveries:
                self._outcomes[index] = _STALE
            elif status is succeeded and is_removed and completion.result is None and rec.says_nothing(records.value()):
                records.delete()
                removed.append(key)
            else:
                if not is_next:
                    stretches.append([])
                stretches[-1].append((index, rec.peek_plain(records.value()) if status is failed else None))
                is_next = records.next()
        if any_history:
            self._work.delete_each("history", removed)
        return len(removed), stretches

    def _end_attempt(
        self, queue: Queue, run: rec.LeaseRun, completion: Completion, ready: list[ReadyStretch]
    ) -> Reported:
        """Deal with one task that has left its lease run. ready: takes it, if it is to be tried again at once."""
        work, task_id = self._work, completion.id
        try:
            record = rec.read_task(work.get("task", ks.task(task_id)) or b"")
            history = work.get_history(task_id) or rec.History()
        except (rec.Damaged, ValueError) as error:
            work.count(run.queue_no, run.type_no, leaves=State.RUNNING)
            quarantine(work, task_id, str(error))
            return _NOT_FOUND
        task = Located(task_id, queue, record, history, State.RUNNING, run.deliveries, run.failures, run)
        if completion.status is Status.SUCCEEDED:
            note_report(task, Status.SUCCEEDED)
            state = end(work, task, State.SUCCEEDED, "", completion.result, completion.result_encoding)
        elif completion.status is Status.FAILED:
            state = fail(
                work,
                task,
                completion.error or _NO_ERROR,
                status=Status.FAILED,
                may_retry=completion.retry,
                delay_ns=completion.delay_ns,
                ready=ready,
            )
        else:
            state = _release(work, task, completion.delay_ns or 0, ready)
        return _REMOVED if state is None else Reported(Outcome.OK, state)


def _release(work: Work, task: Located, delay_ns: int, ready: list[ReadyStretch]) -> State | None:
    note_report(task, Status.RELEASED)
    if task.history.cancel_requested:
        return end(work, task, State.CANCELLED, "cancelled")
    work.total(task.queue.no, "released")
    if delay_ns:
        task.history.rank = work.now.wall + delay_ns
        task.history.snoozes += 1
    change_state(work, task, State.SCHEDULED if delay_ns else State.READY, ready)
    return task.state
