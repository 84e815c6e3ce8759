"""The values that options are made of: durations, instants, and small structs for what needs more than one word."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from lmdbq.errors import InvalidInput
from lmdbq.limits import US_NS
from lmdbq.model import Problem

Seconds: TypeAlias = float | timedelta
Instant: TypeAlias = datetime | str | int
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017  (one spelling for pyright and 3.11)


class RetryStrategy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often a task is tried, and how long it waits in between.

    intervals: seconds after the 1st, 2nd ... failure; N of them alone mean N + 1 attempts. Without them the wait is
    base x factor ** (failures - 1), at most cap; or, with an exponent, base x failures ** exponent. jitter: the share
    (0..1) by which a wait may be shortened. max_deliveries ends the life of a task that kills its workers.
    """

    max_attempts: int | None = None
    intervals: Sequence[Seconds] | None = None
    base: Seconds | None = None
    factor: float | None = None
    cap: Seconds | None = None
    exponent: float | None = None
    jitter: float | None = None
    max_deliveries: int | None = None


class Dedupe(Struct, frozen=True, omit_defaults=True):
    """A dedupe key and its rules; what is left out is the queue's rule.

    key: 1..256 characters. scope: among which tasks it is unique. until: how long it stands in a newcomer's way. ttl:
    seconds, for until="ttl". on_duplicate: what becomes of the newcomer. overwrite: the fields a duplicate overwrites.
    fold: how its payload is joined to that of a task that waits; beyond fold_max items it is a task of its own.
    max_wait: seconds for which a task's start can be put off by duplicates.
    """

    key: str
    scope: Literal["queue", "type", "global"] | None = None
    until: Literal["started", "finished", "deleted", "ttl"] | None = None
    ttl: Seconds | None = None
    on_duplicate: Literal["skip", "overwrite", "reject"] | None = None
    overwrite: Sequence[str] = ()
    fold: Literal["append", "concat", "merge", "sum", "max", "replace"] | None = None
    fold_max: int | None = None
    max_wait: Seconds | None = None


class Rate(Struct, frozen=True):
    """How many tasks may start: ``tokens`` in every ``period``, evenly, and at most ``burst`` at once.

    burst: None = as many as tokens.
    """

    tokens: int
    period: Seconds
    burst: int | None = None


class Debounce(Struct, frozen=True, omit_defaults=True):
    """Run once for many calls: ``wait`` seconds after the last, at the latest ``max_wait`` after the first; the latest
    payload holds."""

    key: str
    wait: Seconds
    max_wait: Seconds | None = None


class Throttle(Struct, frozen=True, omit_defaults=True):
    """Run at most once in ``period`` seconds: the first call runs, those behind it are skipped."""

    key: str
    period: Seconds


class Keep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long an ended task is kept, by how it ended, in seconds; 0 removes it at once."""

    succeeded: Seconds | None = None
    dead: Seconds | None = None
    cancelled: Seconds | None = None


def seconds(value: Seconds) -> float:
    """Return a duration as the API has it.

    >>> seconds(timedelta(minutes=5)), seconds(30)
    (300.0, 30)
    """
    return value.total_seconds() if isinstance(value, timedelta) else value


def words(value: str | Sequence[str]) -> str | list[str]:
    """Return words as a list; one alone as it is, for the queue to judge, and not as its letters.

    >>> words(("a", "b")), words("urgent")
    (['a', 'b'], 'urgent')
    """
    return value if isinstance(value, str) else list(value)


def instant(value: Instant) -> int | str:
    """Return an instant as the API has it. Raises InvalidInput for a datetime without a time zone.

    >>> instant(datetime(2030, 1, 1, tzinfo=timezone.utc))
    1893456000000000000
    """
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        detail = f"{value.isoformat()} has no time zone; use datetime.now(timezone.utc), or value.astimezone()"
        raise InvalidInput([Problem("naive_datetime", "", detail)])
    return (value - _EPOCH) // timedelta(microseconds=1) * US_NS


def moment(instant_ns: int | Any) -> datetime | None:
    """Return an instant of the API in UTC, None for none. Exact: instants are whole microseconds.

    >>> moment(1893456000000000000).isoformat()
    '2030-01-01T00:00:00+00:00'
    """
    if not instant_ns or instant_ns is msgspec.UNSET:
        return None
    return _EPOCH + timedelta(microseconds=instant_ns // US_NS)
