"""The lanes of a transaction: threads and groups that it has met, kept in memory and written once.

Whatever makes a task ready, or takes it away, says so here (``enter``, ``leave``), as does what starts and stops one
(``started``, ``stopped``). That changes the lane's own index and counts at once; which of its tasks are *exposed*, to
be found by claims, is worked out once, by ``sync``, before a claim looks and at the end of the transaction. A group
that may start a task exposes the first of each (queue, type, priority), one that may not exposes none; a thread exposes
its holder if that is ready, and its first task if nobody holds it. So a cap, a pause or a token touches a lane's heads,
never its tasks. In a queue whose order is fair a group's exposures stand at its next *turn*; ``give_turns`` gives one
to each group that came, before a claim and at the end of the transaction.

The trap: what a lane may do depends on time (tokens) and on rules, which change without it. Exposures are a hint that
was right at the last ``sync``; who takes a task asks ``blocked_by`` first.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmdbq import buckets
from lmdbq import lanes as rules
from lmdbq.model import Order
from lmdbq.sharing import next_turn
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import KnownLanes, Lane, Member
from lmdbq.store.lmdb_paces import read_pace
from lmdbq.store.lmdb_rows import read_lane_standing

_Found = tuple[bytes, rec.LaneStanding]
_Place = tuple[int, int, int]  # queue_no, type_no, priority (the last two 0 for a thread)


class Lanes(KnownLanes):
    """The lanes of a transaction, or of a child of it."""

    # --- tasks come and go ---

    def standing_key(self, task: Member) -> bytes | None:
        """Return the lane key at which a ready task stands; None if its lane does not exist."""
        lane = self.find(task.lane_key)
        return None if lane is None else self._key(lane, task)

    @staticmethod
    def _key(lane: Lane, task: Member) -> bytes:
        if lane.is_thread:
            return ks.lane(lane.no, task.queue_no, 0, 0, 0 if lane.record.held_by == task.id else task.rank, task.id)
        return ks.lane(lane.no, *task[1:])

    def enter(self, task: Member, deliveries: int = 0, failures: int = 0) -> None:
        """Put a ready task into its lane."""
        lane = self.make(task.lane_key)
        key = self._key(lane, task)
        standing = rec.LaneStanding(task.type_no, task.priority, task.rank, deliveries, failures)
        self._work.put("lane", key, rec.write_lane_standing(key, standing))
        self._count(lane, task.queue_no, ready=1)
        self._touch(lane, key)

    def leave(self, task: Member) -> None:
        """Take a ready task out of its lane. Raises Damaged if it is not there."""
        key = self.standing_key(task)
        lane = self.find(task.lane_key)
        if key is None or lane is None or not self._work.delete("lane", key):
            raise rec.Damaged("it is ready, but does not stand in its lane")
        self.left(lane, key)

    def left(self, lane: Lane, key: bytes) -> None:
        """Note that a lane key was removed."""
        self._count(lane, ks.read_lane(key).queue_no, ready=-1)
        self._touch(lane, key)

    def started(self, lane: Lane, queue_no: int, task_id: int) -> None:
        """Note that a task of a lane was claimed: it holds its thread, or costs its group a token."""
        self._count(lane, queue_no, running=1)
        if lane.is_thread:
            lane.record.held_by = task_id
            return
        rate = self.limits(lane).rate
        if rate is not None:
            lane.record.bucket = buckets.spent(self._bucket(lane), rate, self._work.now)

    def stopped(self, task: Member, *, is_running: bool, keeps_head: bool) -> None:
        """Note that a task goes to another state: it no longer runs, if it did, and holds its thread only if it keeps
        the head."""
        lane = self.find(task.lane_key)
        if lane is None:
            return
        if is_running:
            self._count(lane, task.queue_no, running=-1)
        if lane.record.held_by == task.id and not keeps_head:
            lane.record.held_by = 0
            lane.changed = True

    def _count(self, lane: Lane, queue_no: int, ready: int = 0, running: int = 0) -> None:
        counts = lane.record.counts
        had = counts.get(queue_no, (0, 0))
        has = (max(had[0] + ready, 0), max(had[1] + running, 0))
        if any(has):
            counts[queue_no] = has
        else:
            counts.pop(queue_no, None)
        lane.changed = True

    @staticmethod
    def _touch(lane: Lane, key: bytes) -> None:
        parts = ks.read_lane(key)
        lane.lists.add((parts.queue_no, parts.type_no, parts.priority))

    def settle(self, lane: Lane) -> None:
        """Count a group's tokens up to now, under what holds for it now, and look at all of it at the next sync."""
        lane.record.bucket = self._bucket(lane)
        lane.changed = True

    # --- turns ---

    def give_turns(self) -> None:
        """Let every group that was met have turns in the fair queues in which it has ready tasks, only there."""
        for lane in self._lanes.values():
            if lane is not None and not lane.is_thread:
                self.give_turns_to(lane)

    def give_turns_to(self, lane: Lane) -> None:
        """Let a group have turns where it must; one that comes anew begins behind the last turn that was had."""
        had = lane.record.turns
        fair = [no for no, (ready, _) in lane.record.counts.items() if ready and self._is_fair(no)]
        if had.keys() == set(fair):
            return
        weight = self.limits(lane).weight
        lane.record.turns = {
            no: had[no] if no in had else next_turn(read_pace(self._work, no).time, weight) for no in fair
        }
        lane.changed = True

    def _is_fair(self, queue_no: int) -> bool:
        queue = self._work.queue_of(queue_no)
        return queue is not None and queue.settings.order is Order.FAIR

    def had_turn(self, lane: Lane, queue_no: int, time: int) -> None:
        """Note that a group had a turn."""
        lane.record.turns[queue_no] = next_turn(time, self.limits(lane).weight)
        lane.changed = True

    # --- exposures ---

    def first(self, lane: Lane, queue_no: int, type_no: int = 0, priority: int = 0) -> _Found | None:
        """Return the key and value of the first ready task of a lane in a place; of a thread in its queue."""
        return self._first(ks.of_lane_place(lane.no, queue_no, type_no, priority))

    def any_in(self, lane: Lane, queue_no: int, type_no: int) -> bool:
        """Whether a group has a ready task in a queue and type."""
        return self._first(ks.of_lane_list(lane.no, queue_no, type_no)) is not None

    def _first(self, prefix: bytes) -> _Found | None:
        found = self._work.first_from("lane", prefix)
        if found is None or not found[0].startswith(prefix):
            return None
        return found[0], read_lane_standing(*found)

    def sync(self) -> None:
        """Expose what may start now, and nothing else, of every lane that has changed."""
        for lane in [lane for lane in self._lanes.values() if lane is not None and lane.changed]:
            self.sync_lane(lane)

    def sync_lane(self, lane: Lane) -> list[bytes]:
        """Expose what may start now of one lane; return the new exposures."""
        record = lane.record
        known = {_list_of(lane, key): key for key in record.exposed}
        wanted = self._wanted(lane, known)
        lane.lists.clear()
        lane.changed = True
        fresh: list[bytes] = []
        if wanted != known:
            for where, key in known.items():
                if wanted.get(where) != key:
                    self._work.delete("lane", key)
            for where, key in wanted.items():
                if known.get(where) != key:
                    self._expose(lane, key)
                    fresh.append(key)
            record.exposed = tuple(wanted.values())
        self._set_wake(lane)
        return fresh

    def _expose(self, lane: Lane, key: bytes) -> None:
        self._work.put("lane", key, rec.write_number(lane.no))
        queue = self._work.queue_of(ks.read_lane(key).queue_no)
        if queue is not None:
            self._work.stirred.add(queue.name)

    def _wanted(self, lane: Lane, known: dict[_Place, bytes]) -> dict[_Place, bytes]:
        """Return the exposures that a lane should have."""
        if lane.is_thread:
            head = self.head(lane)
            return {} if head is None else {(lane.owner_no, 0, 0): head}
        if not lane.ready or self.blocked_by(lane):
            return {}
        wanted, turns = dict(known), lane.record.turns
        moved = (place for place, key in known.items() if not _stands_right(key, turns.get(place[0])))
        for place in {*lane.lists, *moved} if known else self._all_lists(lane):
            found = self.first(lane, *place)
            if found is None:
                wanted.pop(place, None)
                continue
            *_, rank, task_id = ks.read_lane(found[0])
            turn = turns.get(place[0])
            wanted[place] = ks.lane(0, *place, rank if turn is None else ks.TURN_FIRST + turn, task_id)
        return wanted

    def head(self, lane: Lane) -> bytes | None:
        """Return the exposure of the task of a thread that may start now; None if there is none."""
        found = self.first(lane, lane.owner_no)
        if found is None:
            return None
        key, standing = found
        task_id = ks.read_lane(key).id
        if lane.record.held_by not in (0, task_id):
            return None
        return ks.lane(0, lane.owner_no, standing.type_no, standing.priority, standing.rank, task_id)

    def _all_lists(self, lane: Lane) -> Iterator[_Place]:
        """Yield each (queue, type, priority) in which a group has ready tasks."""
        prefix = ks.of_lane(lane.no)
        found = self._work.first_from("lane", prefix)
        while found is not None and found[0].startswith(prefix):
            parts = ks.read_lane(found[0])
            yield parts.queue_no, parts.type_no, parts.priority
            found = self._work.first_from("lane", ks.lane(*parts[:4], ks.RANK_MAX, ks.RANK_MAX))

    # --- when to look again ---

    def _set_wake(self, lane: Lane) -> None:
        wake = self._next_wake(lane)
        had = lane.record.wake
        if wake == had:
            return
        if had is not None:
            self._work.delete("wake", ks.wake(*had, lane.no))
        if wake is not None:
            self._work.put("wake", ks.wake(*wake, lane.no))
        lane.record.wake = wake

    def _next_wake(self, lane: Lane) -> tuple[int, int] | None:
        """Return when a group is to be looked at: a task waits for a token, or nothing but its tokens keeps it."""
        if lane.record.bucket is None:
            return None
        limits = self.limits(lane)
        bucket = self.bucket(lane, limits)
        if lane.ready:
            if rules.blocked_by(limits, lane.running, bucket) != "rate_limited":
                return None
            left = buckets.until_tokens_ns(bucket, 1)
        elif lane.record.settings is None and not lane.record.counts and limits.rate is not None:
            left = buckets.until_tokens_ns(bucket, limits.rate.capacity)
        else:
            return None
        return self._work.now.boot_no, self._work.now.steady + left

    # --- writing ---

    def flush(self) -> None:
        """Expose what may start, and write the lanes that changed; those of which nothing is left are removed."""
        for lane in [lane for lane in self._lanes.values() if lane is not None and lane.changed]:
            self.sync_lane(lane)
            lane.changed = False
            if self._is_empty(lane):
                self._work.delete("catalog", lane.key)
                self._work.delete("catalog", ks.lane_by_no(lane.no))
                self._lanes[lane.key] = None
                self._keys.pop(lane.no, None)
            else:
                self._work.put("catalog", lane.key, rec.write_map(lane.record))

    def _is_empty(self, lane: Lane) -> bool:
        record = lane.record
        if record.counts or record.settings is not None or record.held_by:
            return False
        return record.bucket is None or self._bucket(lane) is None


def _stands_right(exposure: bytes, turn: int | None) -> bool:
    """Whether an exposure of a group stands at its turn, or by its rank if it has none."""
    rank = ks.read_lane(exposure).rank
    return rank < ks.TURN_FIRST if turn is None else rank == ks.TURN_FIRST + turn


def _list_of(lane: Lane, key: bytes) -> _Place:
    parts = ks.read_lane(key)
    return (parts.queue_no, 0, 0) if lane.is_thread else (parts.queue_no, parts.type_no, parts.priority)
