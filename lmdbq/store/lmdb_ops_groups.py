"""Changes of what groups may do: their own settings, and rules for many.

A change touches the heads of the groups it concerns, never their tasks. Tokens that came in until now are counted under
what held until now, so every group that a change reaches is settled first.
"""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq import limits
from lmdbq.lanes import NO_SETTINGS
from lmdbq.model import (
    GroupChanged,
    GroupDelete,
    GroupPatch,
    GroupPut,
    GroupSettings,
    Problem,
    Refused,
    RuleChanged,
    RuleDelete,
    RulePut,
    Scope,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_exposed import rules_changed
from lmdbq.store.lmdb_work import Work


def put_group(work: Work, op: GroupPut) -> GroupChanged:
    """Run one GroupPut."""
    return _set(work, op.group, op.settings)


def patch_group(work: Work, op: GroupPatch) -> GroupChanged:
    """Run one GroupPatch."""
    lane = work.lanes.find(ks.lane_by_name(Scope.GLOBAL, 0, op.group))
    known = (lane.record.settings if lane is not None else None) or NO_SETTINGS
    return _set(work, op.group, replace(known, **{field: getattr(op.settings, field) for field in op.fields}))


def _set(work: Work, group: str, settings: GroupSettings) -> GroupChanged:
    lane = work.lanes.make(ks.lane_by_name(Scope.GLOBAL, 0, group))
    created = lane.record.settings is None
    lane.record.settings = settings
    work.lanes.settle(lane)
    return GroupChanged(group, created)


def delete_group(work: Work, op: GroupDelete) -> GroupChanged | Refused:
    """Run one GroupDelete."""
    lane = work.lanes.find(ks.lane_by_name(Scope.GLOBAL, 0, op.group))
    if lane is None or lane.record.settings is None:
        detail = f"the group {op.group!r} has no settings of its own; GET /v1/groups lists those that have"
        return Refused("group_not_found", (Problem("group_not_found", "/name", detail),))
    lane.record.settings = None
    work.lanes.settle(lane)
    return GroupChanged(op.group)


def put_rule(work: Work, op: RulePut) -> RuleChanged | Refused:
    """Run one RulePut."""
    rule = op.rule
    known = work.lanes.rules()
    created = all(one.pattern != rule.pattern for one in known)
    if created and len(known) >= limits.GROUP_RULES_MAX:
        detail = f"there are {limits.GROUP_RULES_MAX} rules for groups already; let one pattern stand for several"
        return Refused("too_many_rules", (Problem("too_many_rules", "/pattern", detail),))
    work.put("catalog", ks.group_rule(rule.pattern), rec.write_map(rule))
    rules_changed(work)
    return RuleChanged(rule.pattern, created)


def delete_rule(work: Work, op: RuleDelete) -> RuleChanged | Refused:
    """Run one RuleDelete."""
    if not work.delete("catalog", ks.group_rule(op.pattern)):
        detail = f"there is no rule {op.pattern!r} for groups; GET /v1/groups/rules lists those that exist"
        return Refused("rule_not_found", (Problem("rule_not_found", "/pattern", detail),))
    rules_changed(work)
    return RuleChanged(op.pattern)
