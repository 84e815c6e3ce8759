"""Retry strategies, retention, dedupe rules and queue settings: from the wire to engine units and back.

Both directions stand side by side, so that what is answered can be sent again.
"""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import Raw

from lmdbq import limits
from lmdbq.model import (
    Backoff,
    Dedupe,
    Exponential,
    Intervals,
    Keep,
    OnDuplicate,
    Order,
    Polynomial,
    QueueSettings,
    Rate,
    RetryStrategy,
    Scope,
    Until,
)
from lmdbq.wire import shapes, values
from lmdbq.wire.problems import Codec, Problems, decode_as

# Field of a queue's settings, by its key on the wire.
SETTING_OF_KEY: Final = {
    "paused": "paused",
    "max_running": "max_running",
    "keepalive_timeout_in_seconds": "keepalive_ns",
    "expires_in_seconds": "expires_in_ns",
    "retry_strategy": "retry",
    "keep": "keep",
    "dedupe": "dedupe",
    "rate": "rate",
    "weight": "weight",
    "order": "order",
    "ageing_in_seconds": "ageing_ns",
    "max_dead": "max_dead",
    "priority": "priority",
}


_DEDUPE_RULES: Final = (
    "dedupe_scope",
    "dedupe_until",
    "dedupe_ttl_in_seconds",
    "on_duplicate",
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
    return Dedupe(
        entry.dedupe_key,
        Scope[entry.dedupe_scope.upper()] if entry.dedupe_scope else None,
        Until[entry.dedupe_until.upper()] if entry.dedupe_until else None,
        ttl_ns,
        OnDuplicate[entry.on_duplicate.upper()] if entry.on_duplicate else None,
        overwrite,
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


def read_queue(body: bytes, codec: Codec) -> tuple[QueueSettings, tuple[str, ...]]:
    """Return (settings, the fields that were named) of a queue's body. Raises NotParseable or InvalidInput."""
    if not body:
        return QueueSettings(), ()
    said = decode_as(shapes.QueueBody, body, codec)
    problems = Problems()
    settings = QueueSettings(
        bool(said.paused),
        said.max_running or 0,
        values.keepalive_ns(said.keepalive_timeout_in_seconds, "/keepalive_timeout_in_seconds", problems),
        values.duration_ns(said.expires_in_seconds, "/expires_in_seconds", problems),
        retry_of(said.retry_strategy, "/retry_strategy", problems),
        keep_of(said.keep, "/keep", problems),
        dedupe_rules(said.dedupe, "/dedupe", problems),
        rate_of(said.rate, "/rate", problems),
        said.weight or 0,
        Order[said.order.upper()] if said.order else Order.STRICT,
        values.duration_ns(said.ageing_in_seconds, "/ageing_in_seconds", problems, high_ns=limits.DAY_NS),
        said.max_dead or 0,
        said.priority or 0,
    )
    problems.raise_if_any()
    named = codec.decoder(dict[str, Raw]).decode(body)
    return settings, tuple(SETTING_OF_KEY[name] for name in named)


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


def _word(member: Scope | Until | OnDuplicate | None) -> Any:
    return None if member is None else cast("Any", member.name.lower())


def rate_answer(rate: Rate) -> shapes.RateBody:
    """Return a rate as it travels."""
    return shapes.RateBody(
        tokens=rate.tokens, period_in_seconds=values.seconds(rate.period_ns), burst=rate.burst or None
    )


def settings_answer(settings: QueueSettings) -> shapes.QueueBody:
    """Return a queue's settings as they travel; what is left out is the built-in default."""
    dedupe = settings.dedupe
    return shapes.QueueBody(
        paused=settings.paused,
        max_running=settings.max_running or None,
        keepalive_timeout_in_seconds=values.seconds(settings.keepalive_ns) or None,
        expires_in_seconds=values.seconds(settings.expires_in_ns) or None,
        retry_strategy=None if settings.retry is None else retry_answer(settings.retry),
        keep=None if settings.keep is None else keep_answer(settings.keep),
        dedupe=None
        if dedupe is None
        else shapes.DedupeBody(
            scope=_word(dedupe.scope),
            until=_word(dedupe.until),
            ttl_in_seconds=values.seconds(dedupe.ttl_ns) or None,
            on_duplicate=_word(dedupe.on_duplicate),
            overwrite_on_duplicate=cast("Any", list(dedupe.overwrite)) or None,
        ),
        rate=None if settings.rate is None else rate_answer(settings.rate),
        weight=settings.weight or None,
        order=None if settings.order is Order.STRICT else "ageing",
        ageing_in_seconds=values.seconds(settings.ageing_ns) or None,
        max_dead=settings.max_dead or None,
        priority=settings.priority or None,
    )
