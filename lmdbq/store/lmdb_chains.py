"""The exposed tasks of lanes, as a claim sees them: heads that stand among those of the ready runs, one task each.

A list of exposures is walked as a *chain*, from one to the next when the last that it answered is done with: so there
may be any number of lanes. Taking a task may expose another, in any list the claim wants (the next of a thread may be
of another type), and hide those that wait in a heap already (a group has reached its cap). So what was exposed is
pushed as it comes, chains leave it out when they get there, and a head is looked at again when its turn comes.
"""

from __future__ import annotations

from typing import Final

from lmdbq.model import Order
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_rows import read_exposure
from lmdbq.store.lmdb_work import Queue, Work

List = tuple[int, int]  # queue_no, type_no
ALL: Final = (0, ks.RANK_MAX + 1)  # ranks: from, before
BY_RANK: Final = (0, ks.TURN_FIRST)
BY_TURN: Final = (ks.TURN_FIRST, ks.RANK_MAX + 1)


class _Chain:
    """The exposures under a prefix whose ranks are from ``ranks[0]`` and below ``ranks[1]``, but for those met."""

    def __init__(self, work: Work, prefix: bytes, ranks: tuple[int, int], met: set[bytes]) -> None:
        self._work = work
        self._prefix = prefix
        self._ranks = ranks
        self._met = met
        self._at: bytes | None = prefix

    def next(self) -> ks.LaneKey | None:
        """Return the next exposure; None if there is none."""
        low, end = self._ranks
        while self._at is not None and (found := self._work.first_from("lane", self._at)) is not None:
            if not found[0].startswith(self._prefix):
                return None
            key = ks.read_lane(found[0])
            if key.rank < low:
                self._at = ks.lane(*key[:4], low, 0)
            elif key.rank >= end:
                self._at = None if key.priority == ks.PRIORITY_HIGHEST else ks.lane(*key[:3], key.priority + 1, 0, 0)
            else:
                self._at = ks.lane(*key[:-1], key.id + 1)
                if found[0] not in self._met:
                    self._met.add(found[0])
                    return key
        return None


class Exposed:
    """The exposures of the lists that a claim wants. lists: (queue_no, type_no) -> the queue."""

    def __init__(self, work: Work, lists: dict[List, Queue]) -> None:
        self._work = work
        self._lists = lists
        self._met: set[bytes] = set()
        self._ends: dict[ks.LaneKey, _Chain] = {}  # the last exposure that each chain answered

    def first_ones(self) -> list[ks.LaneKey]:
        """Return the first exposure of each list; where priorities age, of each priority in it."""
        found: list[ks.LaneKey] = []
        for where, queue in self._lists.items():
            if queue.settings.order is Order.AGEING:
                found += self._first_of_each_priority(where)
            else:
                found += self.begin(ks.of_lane_list(0, *where), ALL)
        return found

    def _first_of_each_priority(self, where: List) -> list[ks.LaneKey]:
        found: list[ks.LaneKey] = []
        at = prefix = ks.of_lane_list(0, *where)
        while (first := self._work.first_from("lane", at)) is not None and first[0].startswith(prefix):
            priority = ks.read_lane(first[0]).priority
            found += self.begin(ks.of_lane_place(0, *where, priority), ALL)
            if priority == ks.PRIORITY_HIGHEST:
                break
            at = ks.lane(0, *where, priority + 1, 0, 0)
        return found

    def begin(self, prefix: bytes, ranks: tuple[int, int]) -> list[ks.LaneKey]:
        """Begin a chain; return its first exposure, if it has one."""
        return self._go_on(_Chain(self._work, prefix, ranks, self._met))

    def after(self, key: ks.LaneKey) -> list[ks.LaneKey]:
        """Return the exposure that follows one which is done with in its chain, if that has not answered it yet."""
        chain = self._ends.pop(key, None)
        return [] if chain is None else self._go_on(chain)

    def _go_on(self, chain: _Chain) -> list[ks.LaneKey]:
        key = chain.next()
        if key is None:
            return []
        self._ends[key] = chain
        return [key]

    def fresh(self, exposures: list[bytes]) -> list[ks.LaneKey]:
        """Return those of new exposures that the claim wants."""
        self._met.update(exposures)
        return [key for raw in exposures if (key := ks.read_lane(raw))[1:3] in self._lists]

    def lane_of(self, key: ks.LaneKey) -> Lane | None:
        """Return the lane of an exposure that still stands; None, and then it does not, if there is none."""
        raw = ks.lane(*key)
        value = self._work.get("lane", raw)
        if value is None:
            return None
        lane = self._work.lanes.by_no(read_exposure(raw, value))
        if lane is None:
            self._work.delete("lane", raw)
        return lane

    def may_start(self, lane: Lane, key: ks.LaneKey) -> tuple[bytes, rec.LaneStanding] | None:
        """Return the key and value of the task of an exposure, if it is the first of its lane and may start now."""
        lanes = self._work.lanes
        found = lanes.first(lane, key.queue_no, *((0, 0) if lane.is_thread else key[2:4]))
        if found is None or ks.read_lane(found[0]).id != key.id or lanes.blocked_by(lane):
            return None
        return found

    def look_again(self, lane: Lane) -> list[ks.LaneKey]:
        """Expose what may start now of a lane whose exposure did not hold; return what the claim wants of it."""
        lanes = self._work.lanes
        if not lane.is_thread:
            lanes.give_turns_to(lane)
        lanes.settle(lane)
        return self.fresh(lanes.sync_lane(lane))
