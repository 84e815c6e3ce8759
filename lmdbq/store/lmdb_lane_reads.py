"""What readers see of lanes: groups, threads, rules, and what a task waits for."""

from __future__ import annotations

from collections.abc import Iterator

from lmdbq import buckets
from lmdbq import lanes as rules
from lmdbq.model import GroupRule, GroupView, Scope, ThreadView
from lmdbq.store import keyspace as ks
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_standing import Located, locate
from lmdbq.store.lmdb_work import Work


def group(work: Work, name: str) -> GroupView | None:
    """Return one group."""
    try:
        lane = work.lanes.find(ks.lane_by_name(Scope.GLOBAL, 0, name))
    except ks.BadKey:  # no group can have such a name
        return None
    return None if lane is None else _group_view(work, lane)


def groups(work: Work, after: str, limit: int) -> list[GroupView]:
    """Return groups by name."""
    found: list[GroupView] = []
    for lane in _lanes_after(work, ks.of_lanes(Scope.GLOBAL, 0), after):
        view = _group_view(work, lane)
        if view is not None:
            found.append(view)
        if len(found) >= limit:
            break
    return found


def group_rules(work: Work) -> list[GroupRule]:
    """Return every rule for groups."""
    return list(work.lanes.rules())


def threads(work: Work, queue_name: str, after: str, limit: int) -> list[ThreadView]:
    """Return the threads of a queue by name."""
    try:
        queue = work.queue(queue_name)
    except ks.BadKey:
        queue = None
    found: list[ThreadView] = []
    for lane in _lanes_after(work, ks.of_lanes(Scope.QUEUE, queue.no), after) if queue is not None else ():
        if len(found) >= limit:
            break
        holder = locate(work, lane.record.held_by) if lane.record.held_by else None
        head = work.lanes.head(lane)
        found.append(
            ThreadView(
                name=lane.name,
                queue=queue_name,
                ready=lane.ready,
                holder=lane.record.held_by,
                state=None if holder is None else holder.state,
                head=0 if head is None else ks.read_lane(head).id,
            )
        )
    return found


def _lanes_after(work: Work, prefix: bytes, after: str) -> Iterator[Lane]:
    found = work.first_from("catalog", prefix + after.encode() + (b"\0" if after else b""))
    while found is not None and found[0].startswith(prefix):
        key = found[0]
        lane = work.lanes.find(key)
        if lane is not None:
            yield lane
        found = work.first_from("catalog", key + b"\0")


def _group_view(work: Work, lane: Lane) -> GroupView | None:
    """Return a group with settings of its own, or with ready or running tasks; None for one that has neither."""
    live = [both for queue_no, both in lane.record.counts.items() if work.queue_of(queue_no) is not None]
    if lane.record.settings is None and not live:
        return None
    rule = work.lanes.rule_of(lane)
    holds = work.lanes.limits(lane)
    bucket = work.lanes.bucket(lane, holds)
    return GroupView(
        name=lane.name,
        settings=lane.record.settings,
        rule=rule.pattern if rule is not None else "",
        limits=holds,
        ready=sum(ready for ready, _ in live),
        running=sum(running for _, running in live),
        tokens=None if holds.rate is None else buckets.whole_tokens(bucket, holds.rate),
        token_in_ns=buckets.until_tokens_ns(bucket, 1),
        blocked_by=work.lanes.blocked_by(lane),
    )


def waiting_for(work: Work, task: Located) -> str:
    """Return what a ready task of a lane waits for, in words."""
    lane = work.lanes.find(task.member.lane_key)
    if lane is None:
        return ""
    if not lane.is_thread:
        return rules.waiting_for_group(lane.name, work.lanes.limits(lane), work.lanes.blocked_by(lane))
    found = work.lanes.first(lane, lane.owner_no)
    before = lane.record.held_by or (ks.read_lane(found[0]).id if found is not None else task.id)
    return "" if before == task.id else rules.waiting_for_thread(lane.name, before)
