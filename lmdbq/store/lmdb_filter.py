"""Which tasks a filter means, and where to look for them.

Tasks are found by rising id. Three ways lead to them, the best first. A dedupe key names its holders, one in each
scope, and an external id those that have it. The indexes of scheduled, running and ended tasks list few tasks among
many: they are used if what is wanted stands in them (with a reason or a time of ending it does), and they hold at most
``INDEX_TASKS_MAX`` of it. Else the task table is gone through, from the first id that may match. Most records that
cannot match are told by their bytes: a priority stands at a fixed place, a tag, a thread or a group as it is in the
options, and who failed or ended has a history. That takes 1 us a record, to read one takes 12.

The trap: ids are times only from below. A task is never older than its id says, but the clock may have been set back
since, so ``created`` says where to begin and never where to end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Final

from lmdbq import lifecycle, limits
from lmdbq.ids import first_id_at
from lmdbq.model import ENDED, Filter, Scope, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_externals import named_by
from lmdbq.store.lmdb_rows import read_lease_run, read_slot
from lmdbq.store.lmdb_standing import Located, stand
from lmdbq.store.lmdb_types import retry_rule
from lmdbq.store.lmdb_work import Queue, Work

INDEX_TASKS_MAX: Final = limits.ENDED_PER_QUEUE_MAX  # for one page; more are found by going through the table
_INDEXED: Final = frozenset({State.SCHEDULED, State.RUNNING, *ENDED})
_ANY: Final = (0, 2**64)


def is_counted(wanted: Filter) -> bool:
    """Whether the tallies tell how many tasks match."""
    return wanted == Filter(wanted.queue, wanted.type, wanted.states)


def wanted_queues(work: Work, wanted: Filter) -> list[Queue]:
    """Return the queues that a filter means, which exist."""
    if not wanted.queue:
        return work.all_queues()
    try:
        queue = work.queue(wanted.queue)
    except ks.BadKey:  # no queue can have such a name
        return []
    return [] if queue is None else [queue]


class Matcher:
    """A filter, in the words of one transaction."""

    def __init__(self, work: Work, wanted: Filter) -> None:
        self._work = work
        self._wanted = wanted
        self._is_open = wanted == Filter()
        self._queues = {queue.no for queue in wanted_queues(work, wanted)} if wanted.queue else None
        self._type_no = work.type_no(wanted.type) if wanted.type else None
        low, high = wanted.priority or (-ks.PRIORITY_BIAS, ks.PRIORITY_BIAS)
        self._priority = (low + ks.PRIORITY_BIAS, high + ks.PRIORITY_BIAS)
        self._tests = [rec.may_say(text) for text in (wanted.tag, wanted.thread, wanted.group, wanted.set_id) if text]
        if wanted.priority is not None and 0 <= self._priority[0] <= self._priority[1] <= ks.PRIORITY_HIGHEST:
            self._tests.append(rec.may_have_priority(*self._priority))
        has_failed = wanted.attempts is not None and wanted.attempts[0] > 1
        self._has_history = bool(wanted.reason or wanted.ended is not None or has_failed)
        self._reason = wanted.reason.encode()

    def may_be(self, key: bytes, value: bytes) -> bool:
        """Whether a task may match, told by the bytes of its key and record, and of its history."""
        for test in self._tests:
            if not test(value):
                return False
        if not self._has_history:
            return True
        history = self._work.get("history", ks.history(ks.read_id(key)))
        return history is not None and self._reason in history

    def read(self, task_id: int, value: bytes) -> Located | None:
        """Return a task by its id and record, None if it does not match, or is damaged."""
        work = self._work
        peek = rec.peek_task(value)
        if peek is None or not self._may_match(peek):
            return None
        try:
            record = rec.read_task(value)
            queue = work.queue_of(record.queue_no)
            if queue is None:
                return None
            found = stand(work, task_id, queue, record, work.get_history(task_id) or rec.History())
        except (rec.Damaged, ValueError):
            return None
        return found if self.matches(found) else None

    def _may_match(self, peek: rec.Peek) -> bool:
        wanted = self._wanted
        created, scheduled = wanted.created or _ANY, wanted.scheduled or _ANY
        return (
            (self._queues is None or peek.queue_no in self._queues)
            and (self._type_no is None or peek.type_no == self._type_no)
            and self._priority[0] <= peek.priority <= self._priority[1]
            and created[0] <= peek.created_at < created[1]
            and scheduled[0] <= peek.scheduled_at < scheduled[1]
        )

    def matches(self, task: Located) -> bool:
        """Whether a stored task is one of those that the filter means."""
        if self._is_open:
            return True
        wanted, record, history = self._wanted, task.record, task.history
        peek = rec.Peek(record.queue_no, record.type_no, record.priority, record.created_at, record.scheduled_at)
        return (
            self._may_match(peek)
            and (not wanted.states or task.state in wanted.states)
            and (not wanted.tag or wanted.tag in record.options.tags)
            and wanted.thread in ("", record.options.thread)
            and wanted.group in ("", record.options.group)
            and wanted.external_id in ("", record.options.external_id)
            and wanted.set_id in (0, record.options.set_id)
            and wanted.reason in ("", history.reason)
            and (
                wanted.ended is None or (task.state in ENDED and wanted.ended[0] <= history.ended_at < wanted.ended[1])
            )
            and (wanted.attempts is None or wanted.attempts[0] <= self._attempts(task) <= wanted.attempts[1])
            and (not wanted.dedupe_key or self._holds_key(task))
        )

    def _attempts(self, task: Located) -> int:
        record = task.record
        retry = retry_rule(self._work, task.queue, record.type_no, record.options.retry)
        return lifecycle.attempts(task.state, task.failures, retry.max_attempts)

    def _holds_key(self, task: Located) -> bool:
        dedupe, record = task.record.options.dedupe, task.record
        if record.slot_scope == rec.NO_SLOT or dedupe is None or dedupe.key != self._wanted.dedupe_key:
            return False
        key = ks.slot(ks.SCOPES[record.slot_scope], record.slot_owner, dedupe.key)
        value = self._work.get("dedupe", key)
        return value is not None and read_slot(key, value).id == task.id


class Search:
    """The tasks that match, by rising id behind ``after``, of the next ``limits.SCAN_TASKS_MAX`` that are looked at.

    stopped_at: behind which id to go on when all of these were seen; 0 = that was all.
    """

    def __init__(self, work: Work, wanted: Filter, after: int) -> None:
        self._work = work
        self._wanted = wanted
        self._after = after
        self.stopped_at = 0

    def __iter__(self) -> Iterator[Located]:
        matcher = Matcher(self._work, self._wanted)
        key, left = b"", limits.SCAN_TASKS_MAX
        for key, value in islice(self._records(), left):
            left -= 1
            if matcher.may_be(key, value):
                found = matcher.read(ks.read_id(key), value)
                if found is not None:
                    yield found
        self.stopped_at = 0 if left else ks.read_id(key)

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        work, wanted = self._work, self._wanted
        ids = _few(work, wanted)
        if ids is not None:
            keys = (ks.task(task_id) for task_id in ids[bisect_right(ids, self._after) :])
            return ((key, value) for key in keys if (value := work.get("task", key)) is not None)
        # The members of a set are younger than it.
        first = max(self._after + 1, wanted.set_id, first_id_at(wanted.created[0]) if wanted.created else 0)
        cursor = work.cursor("task")
        if first < 2**64 and cursor.set_range(ks.task(first)):
            records: Iterator[tuple[bytes, bytes]] = cursor.iternext()
            return records
        return iter(())


def _few(work: Work, wanted: Filter) -> list[int] | None:
    """Return the ids, rising, of a few tasks among which are all that match; None if they are not known to be few."""
    if wanted.external_id:
        return sorted(set(named_by(work, wanted.external_id)))
    if wanted.dedupe_key:
        return sorted(set(_holders(work, wanted.dedupe_key)))
    has_ended = wanted.reason or wanted.ended is not None
    states = wanted.states or (tuple(ENDED) if has_ended else ())
    if not states or not _INDEXED.issuperset(states):
        return None
    queues = wanted_queues(work, wanted)
    held = sum(work.in_state(queue.no, state) for queue in queues for state in states)
    if held > INDEX_TASKS_MAX:
        return None
    return sorted(task_id for queue in queues for state in states for task_id in _in_state(work, queue, state))


def _holders(work: Work, key: str) -> Iterator[int]:
    """Yield the tasks that the slots of a dedupe key name."""
    try:
        owners = [(Scope.GLOBAL, 0), *((Scope.QUEUE, queue.no) for queue in work.all_queues())]
        owners += [(Scope.TYPE, rec.read_number(value)) for _, value in work.of("catalog", b"T")]
        slots = [ks.slot(scope, owner_no, key) for scope, owner_no in owners]
    except ks.BadKey:  # no task can have such a key
        return
    for slot in slots:
        value = work.get("dedupe", slot)
        if value is not None:
            yield read_slot(slot, value).id


def _in_state(work: Work, queue: Queue, state: State) -> Iterator[int]:
    """Yield the tasks of a queue in a state that has an index."""
    if state is State.SCHEDULED:
        for key, _ in work.of("scheduled", ks.of_queue(queue.no)):
            yield ks.read_timed(key).id
    elif state is State.RUNNING:
        for key, _ in work.of("deadline", ks.of_queue(queue.no)):
            last_id = ks.read_deadline(key).last_id
            run = read_lease_run(ks.lease(last_id), work.get("lease", ks.lease(last_id)))
            yield from work.stored_ids(last_id - run.length + 1, last_id)
    else:
        for key, _ in work.of("ended", ks.of_ended_state(queue.no, state)):
            yield ks.read_ended(key).id
