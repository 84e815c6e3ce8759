"""What lanes decide: which rule holds for a group, whether it may start a task, and how its tokens are counted.

Pure functions, so that all stores and all tests agree. A bucket is counted in whole tokens and a rest, the part of the
next token that has come in, in units that make it exact: ``rest`` counts nanoseconds times ``rate.tokens``, and
``rate.period_ns`` of these are a token. It is kept in steady time of a boot; the time between two boots is nobody's, so
a bucket of an earlier boot goes on from the first write of this one: never a burst after a reboot.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from lmdbq.clock import Now
from lmdbq.ids import format_id
from lmdbq.model import GroupRule, GroupSettings, Rate

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


# --- tokens ---


class Bucket(Struct, frozen=True):
    """The tokens of a group at ``at`` (steady ns of boot ``boot_no``), as ``rate`` counts them; None is a full one."""

    tokens: int
    rest: int
    boot_no: int
    at: int
    rate: Rate


def counted(bucket: Bucket | None, rate: Rate | None, now: Now, boot_start: int) -> Bucket | None:
    """Return a bucket as it is now, under the rate that holds now; None without a rate, or if it is full.

    What came in under another rate is counted by that one; a full bucket is full under any. boot_start: steady ns of
    the first write of this boot.
    """
    if bucket is None or rate is None:
        return None
    old = bucket.rate
    since = bucket.at if bucket.boot_no == now.boot_no else boot_start
    gained, rest = divmod(bucket.rest + max(now.steady - since, 0) * old.tokens, old.period_ns)
    tokens = bucket.tokens + gained
    if tokens >= min(old.capacity, rate.capacity):
        return None
    if old != rate:
        rest = rest * rate.period_ns // old.period_ns
    return Bucket(tokens, rest, now.boot_no, now.steady, rate)


def spent(bucket: Bucket | None, rate: Rate, now: Now, count: int = 1) -> Bucket:
    """Return a bucket that was just ``counted`` after ``count`` of its tokens were spent; it must have them."""
    if bucket is None:
        return Bucket(rate.capacity - count, 0, now.boot_no, now.steady, rate)
    return Bucket(bucket.tokens - count, bucket.rest, now.boot_no, now.steady, rate)


def whole_tokens(bucket: Bucket | None, rate: Rate) -> int:
    """Return how many tokens a bucket that was just ``counted`` has."""
    return rate.capacity if bucket is None else bucket.tokens


def until_tokens_ns(bucket: Bucket | None, tokens: int) -> int:
    """Return how long (ns) it is until a bucket that was just ``counted`` has ``tokens``; 0 if it has them."""
    if bucket is None or bucket.tokens >= tokens:
        return 0
    missing = (tokens - bucket.tokens) * bucket.rate.period_ns - bucket.rest
    return -(-missing // bucket.rate.tokens)


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
