"""A queue whose order is fair, as a claim takes from it: whose turn it is, and what its next task is.

The parties are its groups, and all its tasks without one together. Exposures of groups stand in order of priority and
turn, so the group that is next is at the head of one of the chains, however many there are; what it gives is the first
by (rank, id) of its exposures of that priority. Ready runs and the heads of threads make up the other party, in order
of (priority, rank, id), whose turn stands in the queue's Pace. Of equal turns theirs comes last, and among
groups the exposure's id decides.

The trap: taking anything of a group moves all its exposures in the queue, so what waits in the heap may be gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_chains import BY_RANK, BY_TURN, Exposed
from lmdbq.store.lmdb_heads import Head, first_run
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_paces import Paces
from lmdbq.store.lmdb_work import Queue, Work

_Turn = tuple[int, int, int, ks.LaneKey]  # priority, rank (the turn), id, and the exposure


class FairQueue:
    """The heads of a fair queue. type_nos: those of its types that the claim wants. route: takes exposures of any."""

    def __init__(
        self,
        work: Work,
        queue: Queue,
        type_nos: list[int],
        paces: Paces,
        exposed: Exposed,
        route: Callable[[list[ks.LaneKey]], None],
    ) -> None:
        self._work = work
        self.queue = queue
        self._type_nos = frozenset(type_nos)
        self._paces = paces
        self._exposed = exposed
        self._route = route
        self._groups: list[_Turn] = []
        self._others: list[Head] = []
        for type_no in type_nos:
            self._push_run(ks.of_ready_list(queue.no, type_no))
        if work.any_lanes():
            for type_no in type_nos:
                prefix = ks.of_lane_list(0, queue.no, type_no)
                self.push(exposed.begin(prefix, BY_TURN))
                self.push(exposed.begin(prefix, BY_RANK))

    def push(self, keys: list[ks.LaneKey]) -> None:
        """Add exposures of this queue."""
        for key in keys:
            if key.rank >= ks.TURN_FIRST:
                heapq.heappush(self._groups, (key.priority - ks.PRIORITY_BIAS, key.rank, key.id, key))
            else:
                heapq.heappush(self._others, self._head(key, key.rank))

    def _head(self, key: ks.LaneKey, rank: int) -> Head:
        place = ks.ReadyKey(*key[1:])
        priority = key.priority - ks.PRIORITY_BIAS
        return Head(priority, rank, key.id, place, rec.ReadyRun(1, 0, 0), self.queue, is_exposed=True)

    def _push_run(self, prefix: bytes) -> None:
        head = first_run(self._work, self.queue, prefix)
        if head is not None:
            heapq.heappush(self._others, head)

    # --- what is next ---

    def next(self) -> Head | None:
        """Return the task, or the run, that is next in this queue; None if there is none."""
        while (group := self._next_group()) is not None:
            other = self._next_other()
            if other is not None and self.turns_of(other) != 0:
                return other
            head = self._first_of(*group)
            if head is not None:
                return head
        return self._next_other()

    def turns_of(self, other: Head) -> int | None:
        """Return how often in a row it is the turn of the tasks without a group, of which ``other`` is the first; None
        without an end."""
        if not self._groups or other.priority < self._groups[0][0]:
            return None
        if other.priority > self._groups[0][0]:
            return 0
        return self._paces.of(self.queue.no).others_before(self._groups[0][1] - ks.TURN_FIRST)

    def _next_group(self) -> tuple[Lane, int] | None:
        """Return the group that is next, and the priority of what it gives."""
        while self._groups:
            priority, _, _, key = self._groups[0]
            lane = self._exposed.lane_of(key)
            if lane is not None:
                return lane, priority
            heapq.heappop(self._groups)
            self.push(self._exposed.after(key))
        return None

    def _first_of(self, lane: Lane, priority: int) -> Head | None:
        """Return the first task of a group among those of a priority; None, and it is looked at anew, if it may not
        start one."""
        heads: list[Head] = []
        for raw in lane.record.exposed:
            key = ks.read_lane(raw)
            at = (key.queue_no, key.priority - ks.PRIORITY_BIAS)
            if at != (self.queue.no, priority) or key.type_no not in self._type_nos:
                continue
            found = self._exposed.may_start(lane, key)
            if found is None:
                self._route(self._exposed.look_again(lane))
                return None
            heads.append(self._head(key, found[1].rank))
        return min(heads)

    def _next_other(self) -> Head | None:
        while self._others:
            head = self._others[0]
            if not head.is_exposed:
                return head
            key = ks.LaneKey(0, *head.key)
            lane = self._exposed.lane_of(key)
            if lane is not None and lane.is_thread and self._exposed.may_start(lane, key) is not None:
                return head
            heapq.heappop(self._others)
            if lane is not None:  # a group that has yet to follow the queue's order, as a rule
                self._route(self._exposed.look_again(lane))
            self.push(self._exposed.after(key))
        return None

    # --- what was taken ---

    def took_run(self, head: Head, count: int) -> None:
        """Note that ``count`` tasks were taken of the run that was next."""
        heapq.heappop(self._others)
        self._push_run(head.list_prefix())
        if count:
            self._paces.others_served(self.queue.no, count)

    def took(self, lane: Lane) -> None:
        """Note that a task of a lane was taken: it had its turn."""
        if lane.is_thread:
            self._paces.others_served(self.queue.no, 1)
        else:
            time = self._paces.group_served(self.queue.no, lane.record.turns[self.queue.no])
            self._work.lanes.had_turn(lane, self.queue.no, time)
