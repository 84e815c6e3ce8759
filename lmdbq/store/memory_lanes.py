"""Threads and groups in memory: which ready tasks may start, found out by looking at all tasks of a lane.

Written from the text of ``store.base`` and from ``lanes``. Nothing is derived and kept but who holds a thread, and a
group's tokens: those are counted whenever what holds for groups changes, and when one is spent.
"""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq import buckets, lanes, limits
from lmdbq.buckets import Bucket
from lmdbq.clock import Now
from lmdbq.model import (
    GroupChanged,
    GroupDelete,
    GroupPatch,
    GroupPut,
    GroupSettings,
    GroupView,
    Problem,
    Refill,
    RuleChanged,
    RuleDelete,
    RulePut,
    State,
    Swept,
    ThreadView,
)
from lmdbq.store.memory_rows import Denied, LaneName, Row
from lmdbq.store.memory_state import Tables

# --- may a task start? ---


def limits_of(tables: Tables, group: str) -> GroupSettings:
    """Return what holds for a group."""
    return lanes.resolve(tables.groups.get(group), lanes.best_rule(tables.group_rules.values(), group))


def bucket_of(tables: Tables, group: str, now: Now) -> Bucket | None:
    """Return a group's tokens as they are now."""
    start = tables.boot_start.get(now.boot_no, now.steady)
    return buckets.counted(tables.buckets.get(group), limits_of(tables, group).rate, now, start)


def running_of(tables: Tables, group: str) -> int:
    """Return how many tasks of a group run, those of purged queues included."""
    running = len(tables.in_lane(LaneName("", "", group), State.RUNNING))
    return running + tables.ghosts.get(group, 0)


def group_blocked_by(tables: Tables, group: str, now: Now) -> str:
    """Return why a group may not start a task."""
    bucket = bucket_of(tables, group, now)
    return lanes.blocked_by(limits_of(tables, group), running_of(tables, group), bucket)


def thread_order(row: Row) -> tuple[int, int]:
    """Where a task stands in its thread."""
    return row.rank, row.id


def head_of(tables: Tables, name: LaneName) -> Row | None:
    """Return the ready task of a thread that may start, None if none may."""
    ready = tables.in_lane(name, State.READY)
    holder = tables.holders.get(name)
    if holder is not None:
        return next((row for row in ready if row.id == holder), None)
    return min(ready, key=thread_order, default=None)


def blocked_by(tables: Tables, row: Row, now: Now) -> str:
    """Return why its lane does not let a ready task start; "" if it does, or if there is none."""
    if row.lane is None:
        return ""
    if row.options.thread:
        head = head_of(tables, row.lane)
        return "" if head is not None and head.id == row.id else "thread"
    return group_blocked_by(tables, row.options.group, now)


def waiting_for(tables: Tables, row: Row, now: Now) -> str:
    """Return what a ready task waits for, in words."""
    if row.lane is None or row.state is not State.READY:
        return ""
    if row.options.group:
        word = group_blocked_by(tables, row.options.group, now)
        return lanes.waiting_for_group(row.options.group, limits_of(tables, row.options.group), word)
    holder = tables.holders.get(row.lane)
    if holder is None:
        holder = min(tables.in_lane(row.lane, State.READY), key=thread_order).id
    return "" if holder == row.id else lanes.waiting_for_thread(row.options.thread, holder)


def token_at(tables: Tables, group: str, now: Now) -> int:
    """Return when (wall ns) a group that waits for nothing else has its next token; 0 if it does not."""
    if group_blocked_by(tables, group, now) != "rate_limited":
        return 0
    at = now.wall + buckets.until_tokens_ns(bucket_of(tables, group, now), 1)
    return -(-at // limits.US_NS) * limits.US_NS


def started(tables: Tables, row: Row, now: Now) -> None:
    """Note that a task was claimed: it holds its thread, or costs its group a token."""
    if row.lane is None:
        return
    if row.options.thread:
        tables.assign(tables.holders, row.lane, row.id)
        return
    rate = limits_of(tables, row.options.group).rate
    if rate is not None:
        bucket = bucket_of(tables, row.options.group, now)
        tables.assign(tables.buckets, row.options.group, buckets.spent(bucket, rate, now))


# --- settings and rules ---


def put_group(tables: Tables, op: GroupPut, now: Now) -> GroupChanged:
    """Give a group settings of its own."""
    return _set(tables, op.group, op.settings, now)


def patch_group(tables: Tables, op: GroupPatch, now: Now) -> GroupChanged:
    """Replace some of a group's own settings."""
    known = tables.groups.get(op.group) or GroupSettings()
    return _set(tables, op.group, replace(known, **{name: getattr(op.settings, name) for name in op.fields}), now)


def _set(tables: Tables, group: str, settings: GroupSettings, now: Now) -> GroupChanged:
    created = group not in tables.groups
    tables.assign(tables.groups, group, settings)
    _settle(tables, now)
    return GroupChanged(group, created)


def delete_group(tables: Tables, op: GroupDelete, now: Now) -> GroupChanged:
    """Take a group's own settings away."""
    if op.group not in tables.groups:
        detail = f"there are no settings of a group {op.group!r}; look at the list of groups"
        raise Denied([Problem("group_not_found", "/name", detail)])
    tables.discard(tables.groups, op.group)
    _settle(tables, now)
    return GroupChanged(op.group)


def put_rule(tables: Tables, op: RulePut, now: Now) -> RuleChanged:
    """Make a rule for groups."""
    created = op.rule.pattern not in tables.group_rules
    if created and len(tables.group_rules) >= limits.GROUP_RULES_MAX:
        raise Denied([Problem("too_many_rules", "/pattern", "there are too many rules for groups; remove one first")])
    tables.assign(tables.group_rules, op.rule.pattern, op.rule)
    _settle(tables, now)
    return RuleChanged(op.rule.pattern, created)


def delete_rule(tables: Tables, op: RuleDelete, now: Now) -> RuleChanged:
    """Remove a rule for groups."""
    if op.pattern not in tables.group_rules:
        detail = f"there is no rule {op.pattern!r} for groups; look at the list of rules"
        raise Denied([Problem("rule_not_found", "/pattern", detail)])
    tables.discard(tables.group_rules, op.pattern)
    _settle(tables, now)
    return RuleChanged(op.pattern)


def _settle(tables: Tables, now: Now) -> None:
    """Count the tokens of every group under what holds from now on, and let all look again who wait for a group."""
    for group in list(tables.buckets):
        bucket = bucket_of(tables, group, now)
        if bucket is None:
            tables.discard(tables.buckets, group)
        else:
            tables.assign(tables.buckets, group, bucket)
    stir_groups(tables)


def refill(tables: Tables, op: Refill, now: Now) -> Swept:
    """Let all look again who wait for a group."""
    stir_groups(tables)
    return Swept(0)


def stir_groups(tables: Tables) -> None:
    """Stir every queue in which tasks of groups are ready."""
    for name in tables.lanes:
        if name.group:
            for row in tables.in_lane(name, State.READY):
                tables.stir(row.queue)


# --- views ---


def group_view(tables: Tables, group: str, now: Now) -> GroupView | None:
    """Return a group with settings of its own, or with ready or running tasks; None for any other."""
    name = LaneName("", "", group)
    ready, running = (len(tables.in_lane(name, state)) for state in (State.READY, State.RUNNING))
    if group not in tables.groups and not ready and not running:
        return None
    rule = lanes.best_rule(tables.group_rules.values(), group)
    holds = limits_of(tables, group)
    bucket = bucket_of(tables, group, now)
    return GroupView(
        name=group,
        settings=tables.groups.get(group),
        rule=rule.pattern if rule else "",
        limits=holds,
        ready=ready,
        running=running,
        tokens=None if holds.rate is None else buckets.whole_tokens(bucket, holds.rate),
        token_in_ns=buckets.until_tokens_ns(bucket, 1),
        blocked_by=group_blocked_by(tables, group, now),
    )


def group_views(tables: Tables, now: Now, after: str, limit: int) -> list[GroupView]:
    """Return groups by name, as bytes."""
    names = {name.group for name in tables.lanes if name.group} | set(tables.groups)
    ordered = sorted((name for name in names), key=str.encode)
    views = (group_view(tables, name, now) for name in ordered if name.encode() > after.encode())
    return [view for view in views if view is not None][:limit]


def thread_view(tables: Tables, queue: str, thread: str) -> ThreadView | None:
    """Return a thread with ready tasks or a holder; None for any other."""
    name = LaneName(queue, thread, "")
    ready = tables.in_lane(name, State.READY)
    holder = tables.holders.get(name)
    if not ready and holder is None:
        return None
    head = head_of(tables, name)
    state = None if holder is None else tables.rows[holder].state
    return ThreadView(thread, queue, len(ready), holder or 0, state, 0 if head is None else head.id)


def thread_views(tables: Tables, queue: str, after: str, limit: int) -> list[ThreadView]:
    """Return the threads of a queue by name, as bytes."""
    names = {name.thread for name in tables.lanes if name.queue == queue and name.thread}
    ordered = sorted((name for name in names), key=str.encode)
    views = (thread_view(tables, queue, name) for name in ordered if name.encode() > after.encode())
    return [view for view in views if view is not None][:limit]


def refill_in_ns(tables: Tables, now: Now) -> int | None:
    """Return when the next token comes in that a ready task waits for."""
    groups = [name.group for name in tables.lanes if name.group and tables.in_lane(name, State.READY)]
    waits = [
        buckets.until_tokens_ns(bucket_of(tables, group, now), 1)
        for group in groups
        if group_blocked_by(tables, group, now) == "rate_limited"
    ]
    return min(waits, default=None)
