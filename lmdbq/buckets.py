"""Token buckets, counted exactly: pure functions, so that all stores and all tests agree.

A bucket is counted in whole tokens and a rest, the part of the next token that has come in, in units that make it
exact: ``rest`` counts nanoseconds times ``rate.tokens``, and ``rate.period_ns`` of these are a token. It is kept in
steady time of a boot; the time between two boots is nobody's, so there is never a burst after a reboot.
"""

from __future__ import annotations

from msgspec import Struct

from lmdbq.clock import Now
from lmdbq.model import Rate


class Bucket(Struct, frozen=True):
    """The tokens there were at ``at`` (steady ns of boot ``boot_no``), as ``rate`` counts them; None is a full one."""

    tokens: int
    rest: int
    boot_no: int
    at: int
    rate: Rate


def counted(bucket: Bucket | None, rate: Rate | None, now: Now, boot_start: int) -> Bucket | None:
    """Return a bucket as it is now, under the rate that holds now; None without a rate, or if it is full.

    What came in under another rate is counted by that one; a full bucket is full under any. boot_start: from when on
    (steady ns of this boot) a bucket of an earlier boot goes on.

    >>> rate = Rate(tokens=2, period_ns=1_000)
    >>> counted(Bucket(0, 0, 1, 5_000, rate), rate, Now(0, 5_600, 1), 0)
    Bucket(tokens=1, rest=200, boot_no=1, at=5600, rate=Rate(tokens=2, period_ns=1000, burst=0))
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
