"""The requests about groups, rules for groups, and threads; a part of ``core``."""

from __future__ import annotations

from urllib.parse import quote

from lmdbq.client.core import Fields, Request, reading, sending
from lmdbq.wire.group_shapes import GroupAnswer, GroupsAnswer, RuleAnswer, RulesAnswer, ThreadsAnswer


def _group(key: str, verb: str = "") -> str:
    return f"/v1/groups/{quote(key, safe='')}{verb}"


def _rule(pattern: str) -> str:
    return f"/v1/group-rules/{quote(pattern, safe='')}"


def groups(cursor: str | None = None, limit: int | None = None) -> Request[GroupsAnswer]:
    """Read a page of groups."""
    return reading("/v1/groups", GroupsAnswer, {"cursor": cursor or None, "limit": limit})


def group(key: str) -> Request[GroupAnswer]:
    """Read one group."""
    return reading(_group(key), GroupAnswer)


def put_group(key: str, fields: Fields) -> Request[GroupAnswer]:
    """Give a group settings of its own."""
    return sending("PUT", _group(key), GroupAnswer, fields, repeatable=True)


def patch_group(key: str, fields: Fields) -> Request[GroupAnswer]:
    """Replace the named settings of a group."""
    return sending("PATCH", _group(key), GroupAnswer, fields, repeatable=True)


def delete_group(key: str) -> Request[None]:
    """Take a group's own settings away."""
    return Request("DELETE", _group(key), type(None))


def pause_group(key: str) -> Request[GroupAnswer]:
    """Start nothing more of a group."""
    return sending("POST", _group(key, "/pause"), GroupAnswer, {}, repeatable=True)


def resume_group(key: str) -> Request[GroupAnswer]:
    """Start tasks of a group again."""
    return sending("POST", _group(key, "/resume"), GroupAnswer, {}, repeatable=True)


def group_rules() -> Request[RulesAnswer]:
    """Read every rule."""
    return reading("/v1/group-rules", RulesAnswer)


def put_group_rule(pattern: str, fields: Fields) -> Request[RuleAnswer]:
    """Make a rule, or replace it."""
    return sending("PUT", _rule(pattern), RuleAnswer, fields, repeatable=True)


def delete_group_rule(pattern: str) -> Request[None]:
    """Remove a rule."""
    return Request("DELETE", _rule(pattern), type(None))


def threads(queue: str, cursor: str | None = None, limit: int | None = None) -> Request[ThreadsAnswer]:
    """Read a page of a queue's threads."""
    path = f"/v1/queues/{quote(queue, safe='')}/threads"
    return reading(path, ThreadsAnswer, {"cursor": cursor or None, "limit": limit})
