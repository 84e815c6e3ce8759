"""The taking of a claim: the best ready tasks of some queues, a run at a time.

Each (queue, type) has a ready list in claim order; the heads of the lists are merged: as runs hold intervals of ids
that do not overlap, the run with the least (priority, rank, first id) goes first, whole or as far as the limit allows.
Records are then read in id order, and whatever may not be handed out (expired, delivered too often, damaged) is dealt
with on the spot and does not count.

The trap: a run is taken out of ready only after its records were looked at, and each id of what was taken must end up
leased, ended or removed.
"""

from __future__ import annotations

import heapq
from operator import itemgetter
from typing import Any, NamedTuple

from lmdbq import lifecycle
from lmdbq.clock import whole_us
from lmdbq.model import PLAIN, Claim, ClaimedTask, Options, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_rows import read_ready_run
from lmdbq.store.lmdb_standing import Located, put_lease
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


def wanted_types(work: Work, op: Claim, queue: Queue) -> list[int]:
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


class _PlainRun(NamedTuple):
    """What plain tasks of a fresh run share. place: b"" if it was delivered before. attempts: deliveries, attempts,
    max_attempts. shared: what their lease run says."""

    place: bytes
    queue: str
    type: str
    priority: int
    attempts: tuple[int, int, int]
    keepalive: int
    lease_expires_at: int
    shared: tuple[int, int, int, int, int]


class Taker:
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
            for type_no in wanted_types(work, op, queue):
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
        plain = self._plain_run(head)
        for task_id in range(head.first_id, key.last_id + 1):
            if len(tasks) >= limit or room == 0:
                break
            stored_key, value = next(records, (b"", b""))
            if stored_key != pack_id(task_id):  # the cursor was moved by a removal, or the record is missing
                value = work.get("task", ks.task(task_id)) or b""
                if self._records.set_range(ks.task(task_id + 1)):
                    records = self._records.iternext()
            leased = self._take_plain(plain, task_id, value) or self._take_one(head, task_id, value)
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

    def _plain_run(self, head: _Head) -> _PlainRun:
        """Return what the plain tasks of a run share."""
        work, queue, key, run = self._work, head.queue, head.key, head.run
        max_attempts, _, keepalive = self._rules(queue, PLAIN)
        return _PlainRun(
            b"" if run.deliveries else ks.place(*key[:3]),
            queue.name,
            work.type_name(key.type_no),
            key.priority - ks.PRIORITY_BIAS,
            (run.deliveries + 1, min(run.failures + 1, max_attempts), max_attempts),
            keepalive,
            whole_us(work.now.wall + keepalive),
            (queue.no, key.type_no, keepalive, run.deliveries + 1, run.failures),
        )

    def _take_plain(self, run: _PlainRun, task_id: int, value: bytes) -> bool:
        """Lease a task that was never delivered and says nothing but its payload; False if it is none of those."""
        plain = rec.read_plain(value, run.place)
        if plain is None:
            return False
        encoding, created_at, scheduled_at, payload = plain
        size = len(payload)
        if self.tasks and self._bytes + size > self._op.bytes_max:
            return False
        self._bytes += size
        self._leases.append((task_id, run.shared))
        self.tasks.append(
            ClaimedTask(
                task_id,
                run.queue,
                run.type,
                payload,
                encoding,
                run.priority,
                created_at,
                scheduled_at,
                0,
                *run.attempts,
                run.keepalive,
                run.lease_expires_at,
                PLAIN,
            )
        )
        return True

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
                whole_us(work.now.wall + keepalive),
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
