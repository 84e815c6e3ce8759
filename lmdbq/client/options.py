"""What a task may be told beside its payload, in Python's words, and its translation into the fields of the API.

The same options stand on a decorator, on ``Task.using``, on an ``Entry`` and on ``Handle.edit``; ``fields_of`` is the
one place that reads them. Durations are seconds (a number) or a ``timedelta``; instants are a ``datetime`` with a time
zone, RFC 3339 text or Unix nanoseconds. A value that is merely wrong goes out as it is: the queue judges it, so that
every front end refuses the same in the same words.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal, TypeAlias, TypedDict

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
    """

    key: str
    scope: Literal["queue", "type", "global"] | None = None
    until: Literal["started", "finished", "deleted", "ttl"] | None = None
    ttl: Seconds | None = None
    on_duplicate: Literal["skip", "overwrite", "reject"] | None = None
    overwrite: Sequence[str] = ()


class Keep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long an ended task is kept, by how it ended, in seconds; 0 removes it at once."""

    succeeded: Seconds | None = None
    dead: Seconds | None = None
    cancelled: Seconds | None = None


class Options(TypedDict, total=False):
    """What may be said of a task. Each is optional; the queue's settings, then the built-in defaults fill in.

    queue: where it waits. priority: -32768..32767, lower runs sooner. delay (s) or scheduled_at: when it may start.
    expires (s from now) or expires_at: it is dropped if it has not started by then. dedupe: a key, or a Dedupe.
    lease: how long (1 s .. 12 h) its worker may be silent. retry: attempts, waits in seconds, or a RetryStrategy.
    thread: tasks of one thread of a queue run one at a time, in order; rejoin: give up the place when tried again.
    group: a key whose tasks, in all queues, may have a cap and a rate. keep: seconds a succeeded task is kept, or a
    Keep. tags: up to 16 words. metadata: up to 4 KiB of JSON object.
    """

    queue: str
    priority: int
    delay: Seconds
    scheduled_at: Instant
    expires: Seconds
    expires_at: Instant
    dedupe: str | Dedupe
    thread: str
    rejoin: bool
    group: str
    lease: Seconds
    retry: int | Sequence[Seconds] | RetryStrategy
    keep: Seconds | Keep
    tags: Sequence[str]
    metadata: Mapping[str, Any]


class Rate(Struct, frozen=True):
    """How many tasks may start: ``tokens`` in every ``period``, evenly, and at most ``burst`` at once.

    burst: None = as many as tokens.
    """

    tokens: int
    period: Seconds
    burst: int | None = None


class QueueOptions(TypedDict, total=False):
    """Settings of a queue, for tasks that say nothing themselves.

    paused: nothing more is started. max_running: how many run at once, 0 = no limit. lease, expires: seconds. rate: a
    Rate, or (tokens, seconds). weight: its share among the queues of a dequeue. order: "ageing": a point of priority is
    worth ``ageing`` seconds of waiting. max_dead: how many dead tasks are kept. priority: which of the queues of a
    dequeue, or of the sub-queues of one, is drained first, lower sooner.
    """

    paused: bool
    max_running: int
    rate: Rate | tuple[int, Seconds] | None
    weight: int
    order: Literal["strict", "ageing"]
    ageing: Seconds
    max_dead: int
    priority: int
    lease: Seconds
    expires: Seconds
    retry: int | Sequence[Seconds] | RetryStrategy
    keep: Seconds | Keep


class Filters(TypedDict, total=False):
    """Which tasks; what is left out does not restrict. state: one or more of the six states. dedupe_key: theirs."""

    queue: str
    type: str
    state: str | Sequence[str]
    tag: str
    dedupe_key: str
    thread: str
    group: str


def seconds(value: Seconds) -> float:
    """Return a duration as the API has it.

    >>> seconds(timedelta(minutes=5)), seconds(30)
    (300.0, 30)
    """
    return value.total_seconds() if isinstance(value, timedelta) else value


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


def _retry(value: int | Sequence[Seconds] | RetryStrategy) -> dict[str, Any]:
    if isinstance(value, int):
        return {"max_attempts": value}
    if not isinstance(value, RetryStrategy):
        value = RetryStrategy(intervals=value)
    said: dict[str, Any] = {"max_attempts": value.max_attempts, "max_deliveries": value.max_deliveries}
    if value.intervals is not None:
        said["retry_intervals_in_seconds"] = [seconds(one) for one in value.intervals]
    if (kind := _kind_of(value)) is not None:
        backoff = {"base_in_seconds": _maybe(seconds, value.base), "jitter": value.jitter, "exponent": value.exponent}
        backoff |= {"factor": value.factor, "cap_in_seconds": _maybe(seconds, value.cap)}
        said["backoff"] = {"kind": kind, **_said(backoff)}
    return _said(said)


def _kind_of(value: RetryStrategy) -> str | None:
    if value.exponent is not None:
        return "polynomial"
    shape = (value.base, value.factor, value.cap, value.jitter)
    return None if shape == (None, None, None, None) else "exponential"


def _dedupe(value: str | Dedupe) -> dict[str, Any]:
    if isinstance(value, str):
        return {"dedupe_key": value}
    return _said(
        {
            "dedupe_key": value.key,
            "dedupe_scope": value.scope,
            "dedupe_until": value.until,
            "dedupe_ttl_in_seconds": _maybe(seconds, value.ttl),
            "on_duplicate": value.on_duplicate,
            "overwrite_on_duplicate": list(value.overwrite) or None,
        }
    )


def _keep(value: Seconds | Keep) -> dict[str, Any]:
    keep = value if isinstance(value, Keep) else Keep(succeeded=value)
    names = ("succeeded", "dead", "cancelled")
    return _said({f"{name}_in_seconds": _maybe(seconds, getattr(keep, name)) for name in names})


def rate_fields(value: Rate | tuple[int, Seconds]) -> dict[str, Any]:
    """Return a rate as the API has it."""
    rate = value if isinstance(value, Rate) else Rate(*value)
    return _said({"tokens": rate.tokens, "period_in_seconds": seconds(rate.period), "burst": rate.burst})


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _maybe(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _as_it_is(value: Any) -> Any:
    return value


_Reader: TypeAlias = tuple[str, Callable[[Any], Any]]
# Option -> its field of the API, and how its value is read. ``dedupe`` is several fields.
_TASK_FIELDS: Final[dict[str, _Reader]] = {
    "queue": ("queue_name", _as_it_is),
    "priority": ("priority", _as_it_is),
    "delay": ("delay_in_seconds", seconds),
    "scheduled_at": ("scheduled_at", instant),
    "expires": ("expires_in_seconds", seconds),
    "expires_at": ("expires_at", instant),
    "thread": ("thread_id", _as_it_is),
    "rejoin": ("rejoin", _as_it_is),
    "group": ("group_key", _as_it_is),
    "lease": ("keepalive_timeout_in_seconds", seconds),
    "retry": ("retry_strategy", _retry),
    "keep": ("keep", _keep),
    "tags": ("tags", list),
    "metadata": ("metadata", dict),
}
_QUEUE_FIELDS: Final[dict[str, _Reader]] = {
    "rate": ("rate", rate_fields),
    "weight": ("weight", _as_it_is),
    "order": ("order", _as_it_is),
    "ageing": ("ageing_in_seconds", seconds),
    "max_dead": ("max_dead", _as_it_is),
    "priority": ("priority", _as_it_is),
    "paused": ("paused", _as_it_is),
    "max_running": ("max_running", _as_it_is),
    "lease": ("keepalive_timeout_in_seconds", seconds),
    "expires": ("expires_in_seconds", seconds),
    "retry": ("retry_strategy", _retry),
    "keep": ("keep", _keep),
}
_FILTER_FIELDS: Final[dict[str, _Reader]] = {
    "queue": ("queue_name", _as_it_is),
    "type": ("type", _as_it_is),
    "state": ("state", lambda state: state if isinstance(state, str) else list(state)),
    "tag": ("tag", _as_it_is),
    "dedupe_key": ("dedupe_key", _as_it_is),
    "thread": ("thread_id", _as_it_is),
    "group": ("group_key", _as_it_is),
}


def check_names(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option of a task that does not exist."""
    for name in options:
        if name not in _TASK_FIELDS and name != "dedupe":
            raise _unknown(name, (*_TASK_FIELDS, "dedupe"))


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the API that a task's options say; None says nothing.

    Raises TypeError for an option that does not exist, InvalidInput for a datetime without a time zone.

    >>> fields_of({"delay": timedelta(minutes=1), "dedupe": "bob", "retry": [1, 10]})["delay_in_seconds"]
    60.0
    """
    check_names(options)
    said = {name: value for name, value in options.items() if value is not None}
    dedupe = said.pop("dedupe", None)
    fields = translate(said, _TASK_FIELDS)
    return fields if dedupe is None else {**fields, **_dedupe(dedupe)}


def queue_fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the API that a queue's options say; None goes back to the default. Raises TypeError."""
    return translate(options, _QUEUE_FIELDS)


def filter_fields_of(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter as the API has it. Raises TypeError for one that does not exist."""
    return translate({name: value for name, value in filters.items() if value is not None}, _FILTER_FIELDS)


def translate(options: Mapping[str, Any], readers: dict[str, _Reader]) -> dict[str, Any]:
    """Return options under the names that ``readers`` give them. Raises TypeError for one that has no reader."""
    fields = {}
    for name, value in options.items():
        if name not in readers:
            raise _unknown(name, tuple(readers))
        field, read = readers[name]
        fields[field] = _maybe(read, value)
    return fields


def _unknown(name: str, known: Sequence[str]) -> TypeError:
    close = difflib.get_close_matches(name, known, n=1)
    return TypeError(f"there is no option {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
