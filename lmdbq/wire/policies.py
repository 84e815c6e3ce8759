"""Retry strategies, retention, dedupe rules and queue settings: from the wire to engine units and back.

Both directions stand side by side, so that what is answered can be sent again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from lmdbq import limits
from lmdbq.model import (
    Backoff,
    Dedupe,
    Exponential,
    Fold,
    Intervals,
    Keep,
    OnDuplicate,
    Polynomial,
    Rate,
    RetryStrategy,
    Scope,
    Until,
)
from lmdbq.wire import shapes, values
from lmdbq.wire.problems import Problems

_DEDUPE_RULES: Final = (
    "dedupe_scope",
    "dedupe_until",
    "dedupe_ttl_in_seconds",
    "on_duplicate",
    "fold",
    "fold_max",
    "dedupe_max_wait_in_seconds",
    "overwrite_on_duplicate",
)


def retry_of(said: shapes.RetryStrategyBody | None, pointer: str, problems: Problems) -> RetryStrategy | None:
    """Return a retry strategy; None if it says nothing."""
    if said is None:
        return None
    backoff = said.backoff
    if said.retry_intervals_in_seconds:
        if backoff is not None:
            problems.add(
                "both_given", f"{pointer}/retry_intervals_in_seconds", "give backoff or retry_intervals_in_seconds"
            )
        pointer_of_backoff = pointer
        names = "retry_intervals_in_seconds"
        found: Backoff | None = _intervals(said.retry_intervals_in_seconds, f"{pointer_of_backoff}/{names}", problems)
    else:
        found = _backoff(backoff, f"{pointer}/backoff", problems)
    strategy = RetryStrategy(said.max_attempts or 0, found, said.max_deliveries or 0)
    return None if strategy == RetryStrategy() else strategy


def _intervals(said: list[float], pointer: str, problems: Problems) -> Intervals:
    return Intervals(tuple(values.duration_ns(one, f"{pointer}/{index}", problems) for index, one in enumerate(said)))


def _backoff(
    said: shapes.IntervalsBackoff | shapes.ExponentialBackoff | shapes.PolynomialBackoff | None,
    pointer: str,
    problems: Problems,
) -> Backoff | None:
    if said is None:
        return None
    if isinstance(said, shapes.IntervalsBackoff):
        return _intervals(said.intervals_in_seconds, f"{pointer}/intervals_in_seconds", problems)
    jitter = _or(said.jitter, limits.BACKOFF_JITTER_DEFAULT)
    base = _default(said.base_in_seconds, limits.BACKOFF_BASE_NS_DEFAULT, f"{pointer}/base_in_seconds", problems)
    if isinstance(said, shapes.PolynomialBackoff):
        return Polynomial(_or(said.exponent, 2.0), base, jitter)
    factor = _or(said.factor, limits.BACKOFF_FACTOR_DEFAULT)
    cap = _default(said.cap_in_seconds, limits.BACKOFF_CAP_NS_DEFAULT, f"{pointer}/cap_in_seconds", problems)
    return Exponential(base, factor, cap, jitter)


def _default(said: float | None, default_ns: int, pointer: str, problems: Problems) -> int:
    return default_ns if said is None else values.duration_ns(said, pointer, problems)


def _or(said: float | None, default: float) -> float:
    return default if said is None else said


def keep_of(said: shapes.KeepBody | None, pointer: str, problems: Problems) -> Keep | None:
    """Return a retention; None if it says nothing."""
    if said is None:
        return None

    def one(value: float | None, name: str) -> int | None:
        if value is None:
            return None
        return values.duration_ns(value, f"{pointer}/{name}", problems, high_ns=limits.KEEP_NS_MAX)

    keep = Keep(
        one(said.succeeded_in_seconds, "succeeded_in_seconds"),
        one(said.dead_in_seconds, "dead_in_seconds"),
        one(said.cancelled_in_seconds, "cancelled_in_seconds"),
    )
    return None if keep == Keep() else keep


def dedupe_of(entry: shapes.EntryBody, pointer: str, problems: Problems) -> Dedupe | None:
    """Return the dedupe rules of an entry; None if it has no key."""
    if not entry.dedupe_key:
        for name in _DEDUPE_RULES:
            if getattr(entry, name):
                problems.add("missing_field", f"{pointer}/dedupe_key", f"{name} needs a dedupe_key")
        return None
    overwrite = tuple(dict.fromkeys(entry.overwrite_on_duplicate or ()))
    ttl_ns = 0
    if entry.dedupe_ttl_in_seconds is not None:
        ttl_ns = values.duration_ns(
            entry.dedupe_ttl_in_seconds,
            f"{pointer}/dedupe_ttl_in_seconds",
            problems,
            low_ns=limits.US_NS,
            high_ns=limits.KEEP_NS_MAX,
        )
    values.check_text(entry.dedupe_key, f"{pointer}/dedupe_key", problems, 4 * limits.DEDUPE_KEY_CHARS_MAX)
    if entry.dedupe_until == "ttl" and not ttl_ns:
        problems.add("missing_field", f"{pointer}/dedupe_ttl_in_seconds", "until ttl needs a dedupe_ttl_in_seconds")
    if overwrite and entry.on_duplicate in ("skip", "reject"):
        problems.add("both_given", f"{pointer}/on_duplicate", "overwrite_on_duplicate means on_duplicate overwrite")
    if entry.on_duplicate == "overwrite" and not overwrite:
        problems.add("missing_field", f"{pointer}/overwrite_on_duplicate", "list the fields a duplicate overwrites")
    if entry.fold and entry.on_duplicate in ("skip", "reject"):
        problems.add("both_given", f"{pointer}/on_duplicate", "fold means on_duplicate overwrite")
    max_wait = values.duration_ns(entry.dedupe_max_wait_in_seconds, f"{pointer}/dedupe_max_wait_in_seconds", problems)
    return Dedupe(
        entry.dedupe_key,
        Scope[entry.dedupe_scope.upper()] if entry.dedupe_scope else None,
        Until[entry.dedupe_until.upper()] if entry.dedupe_until else None,
        ttl_ns,
        OnDuplicate[entry.on_duplicate.upper()] if entry.on_duplicate else None,
        overwrite,
        Fold[entry.fold.upper()] if entry.fold else None,
        entry.fold_max or 0,
        max_wait,
    )


def dedupe_rules(said: shapes.DedupeBody | None, pointer: str, problems: Problems) -> Dedupe | None:
    """Return the dedupe rules of a queue or a type; None if it has none."""
    if said is None:
        return None
    at = f"{pointer}/ttl_in_seconds"
    ttl_ns = values.duration_ns(said.ttl_in_seconds, at, problems, high_ns=limits.KEEP_NS_MAX)
    if said.until == "ttl" and not ttl_ns:
        problems.add("missing_field", at, "until ttl needs a ttl_in_seconds")
    overwrite = tuple(dict.fromkeys(said.overwrite_on_duplicate or ()))
    if said.on_duplicate == "overwrite" and not overwrite:
        problems.add("missing_field", f"{pointer}/overwrite_on_duplicate", "list the fields a duplicate overwrites")
    if overwrite and said.on_duplicate in ("skip", "reject"):
        problems.add("both_given", f"{pointer}/on_duplicate", "overwrite_on_duplicate means on_duplicate overwrite")
    rules = Dedupe(
        "",
        Scope[said.scope.upper()] if said.scope else None,
        Until[said.until.upper()] if said.until else None,
        ttl_ns,
        OnDuplicate[said.on_duplicate.upper()] if said.on_duplicate else None,
        overwrite,
    )
    return None if rules == Dedupe() else rules


def rate_of(said: shapes.RateBody | None, pointer: str, problems: Problems) -> Rate | None:
    """Return a rate; None for none."""
    if said is None:
        return None
    low, high = limits.RATE_PERIOD_NS_MIN, limits.RATE_PERIOD_NS_MAX
    at = f"{pointer}/period_in_seconds"
    return Rate(
        said.tokens,
        values.duration_ns(said.period_in_seconds, at, problems, low_ns=low, high_ns=high),
        said.burst or 0,
    )


def spelled_out(entry: shapes.EntryBody, pointer: str, problems: Problems) -> shapes.EntryBody:
    """Return an entry with its debounce, throttle or coalesce as the rules that they stand for.

    debounce: a waiting task with this key takes the new payload, and starts `wait` from now; max_wait is counted from
    when it was accepted. throttle: a task with this key is skipped until the period of the first is over. coalesce: a
    task that waits takes the new payload, and one that runs holds the thread that both stand in.
    """
    names = [name for name in ("debounce", "throttle", "coalesce") if getattr(entry, name) is not None]
    for name in names[1:]:
        problems.add("both_given", f"{pointer}/{name}", f"give {names[0]} or {name}, not both")
    rules: dict[str, Any] = {"debounce": None, "throttle": None, "coalesce": None}
    if entry.debounce is not None:
        rules |= _debounce(entry.debounce)
    elif entry.throttle is not None:
        rules |= _throttle(entry.throttle)
    elif entry.coalesce:
        rules |= {"dedupe_key": entry.coalesce, "thread_id": entry.coalesce, **_LATEST}
    for name in rules:
        if name not in names and getattr(entry, name) is not None:
            problems.add("both_given", f"{pointer}/{name}", f"{names[0]} says it already")
    return msgspec.structs.replace(entry, **rules)


_LATEST: Final = {"dedupe_until": "started", "overwrite_on_duplicate": ["payload"]}


def _debounce(said: shapes.DebounceBody) -> dict[str, Any]:
    return {
        "dedupe_key": said.key,
        "dedupe_until": "started",
        "overwrite_on_duplicate": ["payload", "scheduled_at"],
        "delay_in_seconds": said.wait_in_seconds,
        "dedupe_max_wait_in_seconds": said.max_wait_in_seconds,
    }


def _throttle(said: shapes.ThrottleBody) -> dict[str, Any]:
    return {"dedupe_key": said.key, "dedupe_until": "ttl", "dedupe_ttl_in_seconds": said.period_in_seconds}


# --- and back ---------------------------------------------------------------------------------------------------------


def retry_answer(strategy: RetryStrategy) -> shapes.RetryStrategyBody:
    """Return a retry strategy as it travels."""
    return shapes.RetryStrategyBody(
        max_attempts=strategy.max_attempts or None,
        max_deliveries=strategy.max_deliveries or None,
        backoff=_backoff_answer(strategy.backoff),
    )


def _backoff_answer(
    backoff: Backoff | None,
) -> shapes.IntervalsBackoff | shapes.ExponentialBackoff | shapes.PolynomialBackoff | None:
    if backoff is None:
        return None
    if isinstance(backoff, Intervals):
        return shapes.IntervalsBackoff(intervals_in_seconds=[values.seconds(one) for one in backoff.intervals_ns])
    if isinstance(backoff, Exponential):
        return shapes.ExponentialBackoff(
            base_in_seconds=values.seconds(backoff.base_ns),
            factor=backoff.factor,
            cap_in_seconds=values.seconds(backoff.cap_ns),
            jitter=backoff.jitter,
        )
    return shapes.PolynomialBackoff(
        exponent=backoff.exponent, base_in_seconds=values.seconds(backoff.base_ns), jitter=backoff.jitter
    )


def _seconds_or_none(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else values.seconds(nanoseconds)


def keep_answer(keep: Keep) -> shapes.KeepBody:
    """Return a retention as it travels."""
    return shapes.KeepBody(
        succeeded_in_seconds=_seconds_or_none(keep.succeeded_ns),
        dead_in_seconds=_seconds_or_none(keep.dead_ns),
        cancelled_in_seconds=_seconds_or_none(keep.cancelled_ns),
    )


def rate_answer(rate: Rate) -> shapes.RateBody:
    """Return a rate as it travels."""
    return shapes.RateBody(
        tokens=rate.tokens, period_in_seconds=values.seconds(rate.period_ns), burst=rate.burst or None
    )
