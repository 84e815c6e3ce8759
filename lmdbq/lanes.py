"""What lanes decide: which rule holds for a group, and whether it may start a task. Pure functions, so that all stores
and all tests agree. A group's tokens are counted by ``buckets``; one of an earlier boot goes on from the first write of
this one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final

from lmdbq.buckets import Bucket, whole_tokens
from lmdbq.ids import format_id
from lmdbq.model import GroupRule, GroupSettings

NO_SETTINGS: Final = GroupSettings()

# --- rules ---


@functools.lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(char) or re.escape(char) for char in pattern), re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Whether a rule's pattern matches a group's name, as a whole and by case.

    >>> matches("shop:*", "shop:7"), matches("a_c", "abc"), matches("a?c", "abc")
    (True, False, True)
    """
    return _compiled(pattern).fullmatch(name) is not None


def best_rule(rules: Iterable[GroupRule], name: str) -> GroupRule | None:
    """Return the rule that holds for a group: of those that match that of the highest priority, then the longest."""
    found = [rule for rule in rules if matches(rule.pattern, name)]
    return max(found, key=lambda rule: (rule.priority, len(rule.pattern), rule.pattern), default=None)


def resolve(own: GroupSettings | None, rule: GroupRule | None) -> GroupSettings:
    """Return what holds for a group: each field from its own settings if they say it, else from the rule."""
    if own is None:
        own = NO_SETTINGS
    if rule is None:
        return own
    said = rule.settings
    return GroupSettings(
        own.paused or said.paused,
        said.max_running if own.max_running is None else own.max_running,
        said.rate if own.rate is None else own.rate,
        own.weight or said.weight,
    )


# --- may it start? ---


def blocked_by(limits: GroupSettings, running: int, bucket: Bucket | None) -> str:
    """Return why a group may not start a task: "paused", "max_running" or "rate_limited"; "" if it may.

    bucket: as just ``counted``.
    """
    if limits.paused:
        return "paused"
    if limits.max_running is not None and running >= limits.max_running:
        return "max_running"
    if limits.rate is not None and not whole_tokens(bucket, limits.rate):
        return "rate_limited"
    return ""


def waiting_for_thread(name: str, before: int) -> str:
    """Return what a ready task of a thread waits for; ``before``: the task that it stands behind."""
    return f"thread {name!r}, behind {format_id(before)}"


def waiting_for_group(name: str, limits: GroupSettings, word: str) -> str:
    """Return what a ready task of a group waits for. word: what ``blocked_by`` answered."""
    if not word:
        return ""
    said = {
        "paused": "is paused",
        "max_running": f"runs as many as it may ({limits.max_running})",
        "rate_limited": "has no token left",
    }
    return f"group {name!r}, which {said[word]}"
