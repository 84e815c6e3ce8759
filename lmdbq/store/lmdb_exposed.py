"""What time and rules change about lanes (what ``Refill`` does), and why nothing in them may start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lmdbq import buckets, limits
from lmdbq import lanes as rules
from lmdbq.clock import whole_us
from lmdbq.model import Refill, Scope, Swept
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_work import Work

REASON_LANES_MAX: Final = 100  # looked at to say why nothing may start

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
    look_at_groups(work)


def look_at_groups(work: Work) -> None:
    """Look at all groups: at the first thousand at once, at the others by Refill."""
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
