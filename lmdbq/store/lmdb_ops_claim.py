"""Claim: take the best ready tasks of some queues and lease them.

Each (queue, type) has a ready list in claim order; a claim merges the heads of the lists it may take from, a run at a
time: as runs hold intervals of ids that do not overlap, the run with the least (priority, rank, first id) goes first,
whole or as far as the limit allows. Records are then read in id order, and whatever may not be handed out (expired,
delivered too often, damaged) is dealt with on the spot and does not count.

The trap: a run is taken out of ready before its records are looked at, so each id of it must end up leased, ended,
removed or back in ready.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

from lmdbq import lifecycle, limits
from lmdbq.clock import whole_us
from lmdbq.limits import US_NS
from lmdbq.model import PLAIN, Claim, Claimed, ClaimedTask, Options, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_memos import put_memo
from lmdbq.store.lmdb_ops_timed import sweep_queue
from lmdbq.store.lmdb_rows import read_memo, read_ready_run
from lmdbq.store.lmdb_standing import Located, locate, put_lease
from lmdbq.store.lmdb_tasks import end, quarantine, remove
from lmdbq.store.lmdb_work import Queue, Work


class _Head(NamedTuple):
    """The first run of a ready list; sorts as claims go."""

    priority: int
    rank: int
    first_id: int
    key: ks.ReadyKey
    run: rec.ReadyRun
    queue: Queue


def claim(work: Work, op: Claim) -> Claimed:
    """Run one Claim."""
    if op.claim_id:
        again = _remembered(work, op)
        if again:
            return Claimed(again)
    queues = [queue for name in dict.fromkeys(op.queues) if (queue := work.queue(name)) is not None]
    for queue in queues:
        sweep_queue(work, queue)
    taker = _Taker(work, op)
    taker.take(queues)
    taker.lease()
    if taker.tasks:
        if op.claim_id:
            _remember(work, op, taker.tasks)
        return Claimed(taker.tasks)
    return Claimed([], _reason(work, op, queues), min(_next_dues(work, queues), default=0))


def _types(work: Work, op: Claim, queue: Queue) -> list[int]:
    """Return the wanted types of a queue that have ready tasks."""
    ready = [type_no for type_no, tally in work.queue_tallies(queue.no).items() if tally[State.READY]]
    if not op.types:
        return ready
    wanted = {work.type_no(name) for name in op.types}
    return [type_no for type_no in ready if type_no in wanted]


def _room(work: Work, queue: Queue) -> int | None:
    """Return how many more tasks of a queue may run; None without a limit."""
    if queue.settings.paused:
        return 0
    if not queue.settings.max_running:
        return None
    return max(0, queue.settings.max_running - work.in_state(queue.no, State.RUNNING))


def _reason(work: Work, op: Claim, queues: list[Queue]) -> str:
    for queue in queues:
        if _types(work, op, queue):
            return "paused" if queue.settings.paused else "max_running"
    return "empty"


def _next_dues(work: Work, queues: list[Queue]) -> Iterator[int]:
    cursor = work.cursor("scheduled")
    for queue in queues:
        if cursor.set_range(ks.of_queue(queue.no)):
            key = ks.read_timed(cursor.key())
            if key.queue_no == queue.no:
                yield key.at


class _Taker:
    """One claim under way: what it has taken so far."""

    def __init__(self, work: Work, op: Claim) -> None:
        self._work = work
        self._op = op
        self._room: dict[int, int | None] = {}
        self._plain_rules: dict[int, tuple[int, int, int]] = {}
        self._records = work.cursor("task")
        self._bytes = 0
        self._full = False
        # id, (queue_no, type_no, keepalive, deliveries, failures)
        self._leases: list[tuple[int, tuple[int, int, int, int, int]]] = []
        self.tasks: list[ClaimedTask] = []

    def take(self, queues: list[Queue]) -> None:
        """Take the best tasks of ``queues`` until the limit."""
        work, op = self._work, self._op
        cursor = work.cursor("ready")
        heads: list[_Head] = []
        for queue in queues:
            self._room[queue.no] = _room(work, queue)
            if self._room[queue.no] == 0:
                continue
            for type_no in _types(work, op, queue):
                self._push(heads, cursor, queue, ks.of_ready_list(queue.no, type_no))
        while heads and len(self.tasks) < op.limit and not self._full:
            head = heapq.heappop(heads)
            if self._room[head.queue.no] == 0:
                continue
            taken = self._take_run(head)
            if taken < head.run.length:  # limit, room or bytes reached inside the run
                continue
            prefix = ks.of_ready_list(head.key.queue_no, head.key.type_no)
            self._push(heads, work.cursor("ready"), head.queue, prefix)

    def _push(self, heads: list[_Head], cursor: Any, queue: Queue, prefix: bytes) -> None:
        if not cursor.set_range(prefix) or cursor.key()[: ks.READY_LIST_BYTES] != prefix:
            return
        key = ks.read_ready(cursor.key())
        run = read_ready_run(cursor.key(), cursor.value())
        heapq.heappush(heads, _Head(key.priority, key.rank, key.last_id - run.length + 1, key, run, queue))

    def _take_run(self, head: _Head) -> int:
        """Take from the front of a run; return how many ids left ready."""
        work, key = self._work, head.key
        room = self._room[head.queue.no]
        taken = 0
        found = self._records.set_range(ks.task(head.first_id))
        records = self._records.iternext() if found else iter(())
        limit, tasks, pack_id = self._op.limit, self.tasks, ks.U64.pack
        for task_id in range(head.first_id, key.last_id + 1):
            if len(tasks) >= limit or room == 0:
                break
            stored_key, value = next(records, (b"", b""))
            if stored_key != pack_id(task_id):  # the cursor was moved by a removal, or the record is missing
                value = work.get("task", ks.task(task_id)) or b""
                if self._records.set_range(ks.task(task_id + 1)):
                    records = self._records.iternext()
            leased = self._take_one(head, task_id, value)
            if self._full:
                break
            taken += 1
            if leased and room is not None:
                room -= 1
        self._room[head.queue.no] = room
        self._shorten(head, taken)
        return taken

    def _shorten(self, head: _Head, taken: int) -> None:
        work, key, run = self._work, head.key, head.run
        if not taken:
            return
        if taken == run.length:
            work.delete("ready", ks.ready(*key))
        else:
            raw = ks.ready(*key)
            work.put("ready", raw, rec.write_ready_run(raw, run.length - taken, run.deliveries, run.failures))

    def _take_one(self, head: _Head, task_id: int, value: bytes) -> bool:
        """Lease one task, or deal with it; True if it was leased."""
        work, op, queue, run = self._work, self._op, head.queue, head.run
        try:
            record = rec.read_task(value)
            if (record.queue_no, record.type_no, record.priority) != head.key[:3]:
                raise rec.Damaged("it does not agree with the ready key that holds it")
            history = work.get_history(task_id)
        except (rec.Damaged, ValueError) as error:
            quarantine(work, task_id, str(error), taken_from=head.key)
            return False
        options = record.options
        max_attempts, max_deliveries, keepalive = self._rules(queue, options)
        if record.expires_at:
            work.delete("expiry", ks.expiry(queue.no, record.expires_at, task_id))
            if record.expires_at <= work.now.wall:
                work.total(queue.no, "expired")
                remove(work, self._located(task_id, head, record, history))
                return False
        if run.deliveries and run.deliveries - (history.base_deliveries if history else 0) >= max_deliveries:
            end(work, self._located(task_id, head, record, history), State.DEAD, "max_deliveries")
            return False
        if self.tasks and self._bytes + len(record.payload) > op.bytes_max:
            self._full = True
            if record.expires_at:
                work.put("expiry", ks.expiry(queue.no, record.expires_at, task_id))
            return False
        self._bytes += len(record.payload)
        deliveries = run.deliveries + 1
        self._leases.append((task_id, (queue.no, record.type_no, keepalive, deliveries, run.failures)))
        self.tasks.append(
            ClaimedTask(
                task_id,
                queue.name,
                work.type_name(record.type_no),
                record.payload,
                record.encoding,
                record.priority - ks.PRIORITY_BIAS,
                record.created_at,
                record.scheduled_at,
                record.expires_at,
                deliveries,
                min(run.failures + 1, max_attempts),
                max_attempts,
                keepalive,
                work.now.wall + keepalive // US_NS * US_NS,
                options,
            )
        )
        return True

    def _rules(self, queue: Queue, options: Options) -> tuple[int, int, int]:
        """Return (max_attempts, max_deliveries, keepalive) of a task; those of plain ones once for each queue."""
        known = self._plain_rules.get(queue.no) if options is PLAIN else None
        if known is None:
            retry = lifecycle.resolve_retry(options.retry, queue.settings.retry)
            lengths = (self._op.keepalive_ns, options.keepalive_ns, queue.settings.keepalive_ns)
            known = (retry.max_attempts, retry.max_deliveries, lifecycle.resolve_keepalive(*lengths))
            if options is PLAIN:
                self._plain_rules[queue.no] = known
        return known

    @staticmethod
    def _located(task_id: int, head: _Head, record: rec.TaskRecord, history: rec.History | None) -> Located:
        run = head.run
        history = history or rec.History()
        return Located(task_id, head.queue, record, history, State.READY, run.deliveries, run.failures)

    def lease(self) -> None:
        """Write the leases of everything taken: a run for each stretch of ids that share all of it."""
        self._leases.sort(key=itemgetter(0))
        length, last_id, shared = 0, -1, (0, 0, 0, 0, 0)
        for task_id, this in self._leases:
            if task_id != last_id + 1 or this != shared:
                self._put_run(last_id, length, shared)
                length, shared = 0, this
            length, last_id = length + 1, task_id
        self._put_run(last_id, length, shared)

    def _put_run(self, last_id: int, length: int, shared: tuple[int, int, int, int, int]) -> None:
        if not length:
            return
        work, now = self._work, self._work.now
        queue_no, type_no, keepalive, deliveries, failures = shared
        deadline = now.steady + keepalive
        run = rec.LeaseRun(length, queue_no, type_no, now.boot_no, deadline, keepalive, deliveries, failures)
        put_lease(work, last_id, run)
        work.count(queue_no, type_no, leaves=State.READY, enters=State.RUNNING, length=length)
        work.total(queue_no, "claimed", length)


# --- claim ids ---


def _remembered(work: Work, op: Claim) -> list[ClaimedTask]:
    """Return the tasks of an earlier claim with this id that still run under its leases, in its order."""
    memo_key = ks.memo(ks.MemoKind.CLAIM, op.claim_id.encode())
    value = work.get("memo", memo_key)
    if value is None:
        return []
    memo = read_memo(memo_key, value)
    if work.now.wall >= memo.remove_at:
        return []
    tasks: list[ClaimedTask] = []
    flat = memo.leases
    for first, length, delivery in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        for task_id in range(first, first + length):
            task = locate(work, task_id)
            if task is not None and task.state is State.RUNNING and task.deliveries == delivery:
                tasks.append(_claimed_again(work, task))
    return tasks


def _claimed_again(work: Work, task: Located) -> ClaimedTask:
    record, lease = task.record, task.lease
    assert lease is not None
    extension = work.get_extension(task.id, task.deliveries, lease.boot_no)
    keepalive, deadline = (extension or lease).keepalive, (extension or lease).deadline
    left = deadline - work.now.steady if lease.boot_no == work.now.boot_no else keepalive
    retry = lifecycle.resolve_retry(record.options.retry, task.queue.settings.retry)
    return ClaimedTask(
        task.id,
        task.queue.name,
        work.type_name(record.type_no),
        record.payload,
        record.encoding,
        record.priority - ks.PRIORITY_BIAS,
        record.created_at,
        record.scheduled_at,
        record.expires_at,
        task.deliveries,
        lifecycle.attempts(State.RUNNING, task.failures, retry.max_attempts),
        retry.max_attempts,
        keepalive,
        whole_us(work.now.wall + left),
        record.options,
    )


def _remember(work: Work, op: Claim, tasks: list[ClaimedTask]) -> None:
    leases: list[int] = []
    for task in tasks:
        if leases and leases[-3] + leases[-2] == task.id and leases[-1] == task.deliveries:
            leases[-2] += 1
        else:
            leases += (task.id, 1, task.deliveries)
    put_memo(
        work,
        ks.MemoKind.CLAIM,
        op.claim_id.encode(),
        rec.Memo(work.now.wall, work.now.wall + limits.MEMO_KEPT_NS, leases=tuple(leases)),
    )
