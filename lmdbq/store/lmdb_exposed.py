"""The exposed tasks of lanes, as a claim sees them: heads that stand among those of the ready runs, one task each.

Taking one may expose another, in any list the claim wants (the next of a thread may be of another type), and hide those
that wait in the heap already (a group has reached its cap). So what was exposed is pushed as it comes, and a head is
looked at again when its turn comes. Also here: what ``Refill`` does, and why nothing may start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lmdbq import buckets, limits
from lmdbq import lanes as rules
from lmdbq.clock import whole_us
from lmdbq.model import Order, Refill, Scope, Swept
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_rows import read_exposure
from lmdbq.store.lmdb_work import Queue, Work

REASON_LANES_MAX: Final = 100  # looked at to say why nothing may start

_List = tuple[int, int]


class Exposed:
    """The exposures of the lists that a claim wants. lists: (queue_no, type_no) -> the queue."""

    def __init__(self, work: Work, lists: dict[_List, Queue]) -> None:
        self._work = work
        self._lists = lists
        self._met: set[bytes] = set()

    def first_ones(self) -> list[ks.LaneKey]:
        """Return the first exposure of each list; where priorities age, of each priority in it."""
        found: list[ks.LaneKey] = []
        for where, queue in self._lists.items():
            prefix = ks.of_lane_list(0, *where)
            key = self._next(prefix, prefix)
            while key is not None:
                found.append(key)
                if queue.settings.order is not Order.AGEING or key.priority == ks.PRIORITY_HIGHEST:
                    break
                key = self._next(ks.lane(0, *where, key.priority + 1, 0, 0), prefix)
        return found

    def after(self, key: ks.LaneKey) -> list[ks.LaneKey]:
        """Return the exposure behind ``key`` in its list, if there is one that was not answered yet."""
        found = self._next(ks.lane(*key[:-1], key.id + 1), ks.of_lane_list(*key[:3]))
        return [] if found is None else [found]

    def fresh(self, exposures: list[bytes]) -> list[ks.LaneKey]:
        """Return those of new exposures that the claim wants."""
        keys = [key for raw in exposures if (key := ks.read_lane(raw))[1:3] in self._lists]
        self._met.update(exposures)
        return keys

    def _next(self, start: bytes, prefix: bytes) -> ks.LaneKey | None:
        found = self._work.first_from("lane", start)
        while found is not None and found[0].startswith(prefix):
            key: bytes = found[0]
            if key not in self._met:
                self._met.add(key)
                return ks.read_lane(key)
            parts = ks.read_lane(key)
            found = self._work.first_from("lane", ks.lane(*parts[:-1], parts.id + 1))
        return None

    def lane_of(self, key: ks.LaneKey) -> tuple[Lane, bytes, rec.LaneStanding] | None:
        """Return the lane of an exposure whose turn has come, and the key and value of its task; None, and no longer
        exposed, if it may not start after all."""
        raw, lanes = ks.lane(*key), self._work.lanes
        self._met.discard(raw)
        value = self._work.get("lane", raw)
        if value is None:
            return None
        lane = lanes.by_no(read_exposure(raw, value))
        if lane is None:
            self._work.delete("lane", raw)
            return None
        found = lanes.first(lane, key.queue_no, *((0, 0) if lane.is_thread else key[2:4]))
        if found is not None and ks.read_lane(found[0]).id == key.id and not lanes.blocked_by(lane):
            return lane, *found
        lanes.settle(lane)
        lanes.sync_lane(lane)
        return None


# --- what time and rules change ---


def refill(work: Work, op: Refill) -> Swept:
    """Look at groups whose token has come in, and at those that a changed rule has not reached yet."""
    count = wake_lanes(work, op.limit)
    if count < op.limit:
        count += follow_rules(work, op.limit - count)
    more = work.get("catalog", ks.rules_cursor()) is not None or _first_wake(work) is not None
    return Swept(count, more)


def _first_wake(work: Work) -> ks.WakeKey | None:
    found = work.first_from("wake", b"")
    if found is None:
        return None
    key = ks.read_wake(found[0])
    return key if (key.boot_no, key.steady) <= (work.now.boot_no, work.now.steady) else None


def wake_lanes(work: Work, limit: int) -> int:
    """Look at groups whose wake key has come; return how many they were."""
    count = 0
    while count < limit and (key := _first_wake(work)) is not None:
        work.delete("wake", ks.wake(*key))
        lane = work.lanes.by_no(key.lane_no)
        if lane is not None:
            lane.record.wake = None
            work.lanes.settle(lane)
            work.lanes.sync_lane(lane)
        count += 1
    return count


def rules_changed(work: Work) -> None:
    """Let a changed rule reach the groups there are: the first thousand at once, the others by Refill."""
    work.lanes.rules_changed()
    work.put("catalog", ks.rules_cursor(), rec.write_name(""))
    follow_rules(work, limits.SWEEP_MAX)


def follow_rules(work: Work, limit: int) -> int:
    """Let a changed rule reach ``limit`` more groups; return how many they were."""
    value = work.get("catalog", ks.rules_cursor())
    if value is None:
        return 0
    work.lanes.flush()  # those of this transaction are in the catalog, too
    prefix = ks.of_lanes(Scope.GLOBAL, 0)
    keys = _keys_after(work, prefix, rec.read_name(value), limit)
    for key in keys:
        lane = work.lanes.find(key)
        if lane is not None:
            work.lanes.settle(lane)
            work.lanes.sync_lane(lane)
    if len(keys) < limit:
        work.delete("catalog", ks.rules_cursor())
    else:
        work.put("catalog", ks.rules_cursor(), rec.write_name(ks.lane_owner(keys[-1])[2]))
    return len(keys)


def _keys_after(work: Work, prefix: bytes, name: str, limit: int) -> list[bytes]:
    keys: list[bytes] = []
    found = work.first_from("catalog", prefix + name.encode() + (b"\0" if name else b""))
    while found is not None and found[0].startswith(prefix) and len(keys) < limit:
        keys.append(found[0])
        found = work.first_from("catalog", found[0] + b"\0")
    return keys


# --- why nothing starts ---


def blocked_lanes(work: Work, wanted: dict[int, list[int]]) -> Iterator[Lane]:
    """Yield lanes with ready tasks in one of the wanted lists (queue_no -> type_nos), of the first hundred lanes."""
    found = work.first_from("lane", ks.of_lane(1))
    for _ in range(REASON_LANES_MAX):
        if found is None:
            return
        lane = work.lanes.by_no(ks.read_lane(found[0]).lane_no)
        if lane is not None and _waits_in(work, lane, wanted):
            yield lane
        found = work.first_from("lane", ks.of_lane(ks.read_lane(found[0]).lane_no + 1))


def _waits_in(work: Work, lane: Lane, wanted: dict[int, list[int]]) -> bool:
    if lane.is_thread:
        found = work.lanes.first(lane, lane.owner_no)
        return found is not None and lane.owner_no in wanted
    return any(
        work.lanes.any_in(lane, queue_no, type_no)
        for queue_no, type_nos in wanted.items()
        if queue_no in lane.record.counts
        for type_no in type_nos
    )


def lane_reason(work: Work, lane: Lane) -> str:
    """Return the word for why no task of a lane may start."""
    return "thread" if lane.is_thread else work.lanes.blocked_by(lane)


def token_at(work: Work, lane: Lane) -> int:
    """Return when (wall ns, an estimate) a group that waits for nothing else has its next token; 0 if it does not."""
    if lane.is_thread:
        return 0
    holds = work.lanes.limits(lane)
    bucket = work.lanes.bucket(lane, holds)
    if rules.blocked_by(holds, lane.running, bucket) != "rate_limited":
        return 0
    return whole_us(work.now.wall + buckets.until_tokens_ns(bucket, 1) + limits.US_NS - 1)
