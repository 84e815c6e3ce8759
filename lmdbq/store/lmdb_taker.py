"""The taking of a claim: the best ready tasks of some queues, a run at a time.

Each (queue, type) has a ready list in claim order; the heads of the lists are merged: as runs hold intervals of ids
that do not overlap, the run with the least (priority, rank, first id) goes first, whole or as far as the limit allows.
What is handed out of it is found out by ``Handout``.

The trap: a run is taken out of ready only after its records were looked at, and each id of what was taken must end up
leased, ended or removed.
"""

from __future__ import annotations

import heapq

from lmdbq import lifecycle
from lmdbq.model import Claim, Order
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_chains import Exposed
from lmdbq.store.lmdb_fair import FairQueue
from lmdbq.store.lmdb_handout import Handout
from lmdbq.store.lmdb_heads import Head, first_run, room, wanted_types
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_paces import Paces
from lmdbq.store.lmdb_work import Queue, Work


class Taker(Handout):
    """One claim under way: where it takes from."""

    def __init__(self, work: Work, op: Claim, paces: Paces) -> None:
        super().__init__(work, op)
        self._paces = paces
        self._limit = op.limit
        self._heads: list[Head] = []
        self._fair: dict[int, FairQueue] = {}
        self._lists: dict[tuple[int, int], Queue] = {}
        self._exposed: Exposed

    @property
    def is_full(self) -> bool:
        """Whether the payloads of what was taken leave no room for the next."""
        return self._full

    @property
    def limit(self) -> int:
        """How many tasks may be taken in all."""
        return self._op.limit

    def take(self, queues: list[Queue], count_max: int | None = None, *, only_alike: bool = False) -> None:
        """Take the best tasks of ``queues`` until the limit, or until ``count_max`` more were taken.

        only_alike: or until one comes that was delivered before or is in a lane; if that is the first, it alone.
        """
        before = len(self.tasks)
        op = self._op
        if count_max is not None:
            self._limit = min(op.limit, len(self.tasks) + count_max)
        self._begin(queues)
        while len(self.tasks) < self._limit and not self._full and (head := self._next()) is not None:
            if only_alike and (head.is_exposed or head.run.deliveries):
                if len(self.tasks) > before:
                    break
                self._limit = min(self._limit, before + 1)
            if head.is_exposed:
                self._take_exposed(head)
            else:
                self._take_run(head)
        self._limit = op.limit

    def _begin(self, queues: list[Queue]) -> None:
        """Find the heads of the lists that are wanted."""
        work = self._work
        self._heads, self._fair, self._lists = [], {}, {}
        self._exposed = Exposed(work, self._lists)
        fair: list[tuple[Queue, list[int]]] = []
        for queue in queues:
            if queue.no not in self._room:
                self._room[queue.no] = room(work, queue, self._paces)
            if self._room[queue.no] == 0:
                continue
            types = wanted_types(work, self._op, queue)
            if queue.settings.order is Order.FAIR:
                fair.append((queue, types))
                continue
            for type_no in types:
                self._lists[queue.no, type_no] = queue
                self._push_list(queue, type_no)
        if work.any_lanes():
            self._push_exposed(self._exposed.first_ones())
        for queue, types in fair:
            self._lists.update({(queue.no, type_no): queue for type_no in types})
            self._fair[queue.no] = FairQueue(work, queue, types, self._paces, self._exposed, self._push_exposed)

    def _next(self) -> Head | None:
        """Return the head that is next, off the heap if it stood there; None if there is none."""
        while self._heads and self._room[self._heads[0].queue.no] == 0:
            heapq.heappop(self._heads)
        first = self._heads[0] if self._heads else None
        for queue_no, fair in self._fair.items():
            head = fair.next() if self._room[queue_no] != 0 else None
            if head is not None and (first is None or head < first):
                first = head
        if first is not None and first.queue.no not in self._fair:
            heapq.heappop(self._heads)
        return first

    def _push_list(self, queue: Queue, type_no: int) -> None:
        """Push the head of a ready list; where priorities age, the head of each priority."""
        of_list = prefix = ks.of_ready_list(queue.no, type_no)
        if queue.settings.order is not Order.AGEING:
            self._push_run(queue, of_list)
            return
        cursor = self._work.cursor("ready")
        while cursor.set_range(prefix) and cursor.key()[: ks.READY_LIST_BYTES] == of_list:
            priority = ks.read_ready(cursor.key()).priority
            self._push_run(queue, ks.place(queue.no, type_no, priority))
            if priority == ks.PRIORITY_HIGHEST:
                return
            prefix = ks.place(queue.no, type_no, priority + 1)

    def _push_run(self, queue: Queue, prefix: bytes) -> None:
        head = first_run(self._work, queue, prefix)
        if head is not None:
            heapq.heappush(self._heads, head)

    def _push_exposed(self, keys: list[ks.LaneKey]) -> None:
        for key in keys:
            queue = self._lists[key.queue_no, key.type_no]
            if queue.no in self._fair:
                self._fair[queue.no].push([key])
                continue
            place = ks.ReadyKey(*key[1:])
            order = lifecycle.place_of(queue.settings, key.priority - ks.PRIORITY_BIAS, key.rank)
            head = Head(*order, key.id, place, rec.ReadyRun(1, 0, 0), queue, is_exposed=True)
            heapq.heappush(self._heads, head)

    def _take_exposed(self, head: Head) -> None:
        """Take the exposed task of a lane, if it may start, and expose the next one."""
        exposure = ks.LaneKey(0, *head.key)
        lane = self._exposed.lane_of(exposure)
        if lane is not None:
            found = self._exposed.may_start(lane, exposure)
            fresh = self._exposed.look_again(lane) if found is None else self._take_first(head, lane, *found)
            if self._full:
                return
            self._push_exposed(fresh)
        if head.queue.no not in self._fair:  # which looks by itself for what follows
            self._push_exposed(self._exposed.after(exposure))

    def _take_first(self, head: Head, lane: Lane, key: bytes, standing: rec.LaneStanding) -> list[ks.LaneKey]:
        """Take the first task of a lane; return what is exposed in its stead."""
        lanes = self._work.lanes
        head = head._replace(run=rec.ReadyRun(1, standing.deliveries, standing.failures))
        task = self._take_one(head, head.first_id)
        if self._full:
            return []
        self._work.delete("lane", key)
        lanes.left(lane, key)
        if task is not None:
            self._note(head, task, task.id, 1)
            lanes.started(lane, head.queue.no, task.id)
            if head.queue.no in self._fair:
                self._fair[head.queue.no].took(lane)
        return self._exposed.fresh(lanes.sync_lane(lane))

    def _take_run(self, head: Head) -> None:
        """Take a run, or as much of its front as may be, and find the next one."""
        fair = self._fair.get(head.queue.no)
        if fair is None:
            if self._take_front(head):
                self._push_run(head.queue, head.list_prefix())
            return
        before, limit = len(self.tasks), self._limit
        turns = fair.turns_of(head)
        if turns is not None:
            self._limit = min(limit, before + turns)
        self._take_front(head)
        self._limit = limit
        fair.took_run(head, len(self.tasks) - before)

    def _take_front(self, head: Head) -> bool:
        """Take from the front of a run, and shorten it; True if nothing is left of it."""
        queue_no, last_id, next_id = head.queue.no, head.key.last_id, head.first_id
        while (wanted := self._wanted(queue_no)) and not self._full:
            if not self._records.set_range(ks.task(next_id)):
                break
            task_id = ks.read_id(self._records.key())
            if task_id > last_id:
                break
            task = self._take_one(head, task_id)
            if self._full:
                next_id = task_id
                break
            next_id = task_id + 1
            if task is not None:
                next_id = self._take_alike(head, task, wanted - 1) + 1
        return self._shorten(head, next_id)

    def _wanted(self, queue_no: int) -> int:
        """Return how many more tasks of a queue may be taken."""
        wanted, room = self._limit - len(self.tasks), self._room[queue_no]
        return wanted if room is None else min(wanted, room)

    def _shorten(self, head: Head, next_id: int) -> bool:
        """Cut a run off before ``next_id``; True if nothing is left of it."""
        work, key, run = self._work, head.key, head.run
        raw = ks.ready(*key)
        if not work.any_task(next_id, key.last_id):
            work.delete("ready", raw)
            return True
        if next_id > head.first_id:
            length = key.last_id - next_id + 1
            work.put("ready", raw, rec.write_ready_run(raw, length, run.deliveries, run.failures))
        return False
