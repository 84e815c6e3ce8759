"""What a task may be told beside its payload, in Python's words, and its translation into the fields of the API.

The same options stand on a decorator, on ``Task.using``, on an ``Entry`` and on ``Handle.edit``; ``fields_of`` is the
one place that reads them. Durations are seconds (a number) or a ``timedelta``; instants are a ``datetime`` with a time
zone, RFC 3339 text or Unix nanoseconds. A value that is merely wrong goes out as it is: the queue judges it, so that
every front end refuses the same in the same words.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict

import msgspec

from lmdbq.client.encoding import to_json
from lmdbq.client.option_values import Debounce as Debounce
from lmdbq.client.option_values import Dedupe as Dedupe
from lmdbq.client.option_values import Instant as Instant
from lmdbq.client.option_values import Keep as Keep
from lmdbq.client.option_values import Rate as Rate
from lmdbq.client.option_values import RetryStrategy as RetryStrategy
from lmdbq.client.option_values import Seconds as Seconds
from lmdbq.client.option_values import Throttle as Throttle
from lmdbq.client.option_values import instant as instant
from lmdbq.client.option_values import moment as moment
from lmdbq.client.option_values import seconds as seconds
from lmdbq.client.option_values import words as words


class EntryLike(Protocol):
    """An ``Entry``, or what is made like one."""

    type: str
    payload: Any
    options: Mapping[str, Any]


class SetLike(Protocol):
    """A ``SetHandle``, of either client."""

    id: str


class Options(TypedDict, total=False):
    """What may be said of a task. Each is optional; the queue's settings, then the built-in defaults fill in.

    queue: where it waits. priority: -32768..32767, lower runs sooner. delay (s) or scheduled_at: when it may start.
    expires (s from now) or expires_at: it is dropped if it has not started by then. dedupe: a key, or a Dedupe.
    lease: how long (1 s .. 12 h) its worker may be silent. retry: attempts, waits in seconds, or a RetryStrategy.
    thread: tasks of one thread of a queue run one at a time, in order; rejoin: give up the place when tried again.
    group: a key whose tasks, in all queues, may have a cap and a rate. keep: seconds a succeeded task is kept, or a
    Keep. tags: up to 16 words. metadata: up to 4 KiB of JSON object. on_dead: an Entry that is enqueued when the task
    dies; without a payload it is told what died, and why. debounce, throttle: once for many calls. coalesce: a key; one
    task, with the latest payload, waits behind the one that runs. external_id: skipped while a stored task has it.
    set: the set that it becomes a member of, by its handle or id.
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
    on_dead: EntryLike
    debounce: Debounce
    throttle: Throttle
    coalesce: str
    external_id: str
    set: str | SetLike


class QueueOptions(TypedDict, total=False):
    """Settings of a queue, for tasks that say nothing themselves.

    paused: nothing more is started. max_running: how many run at once, 0 = no limit. lease, expires: seconds. rate: a
    Rate, or (tokens, seconds). weight: its share among the queues of a dequeue. order: "fair": groups take turns by
    their weights; "ageing": a point of priority is worth ``ageing`` seconds of waiting. max_dead: how many dead tasks
    are kept. priority: which of the queues of a dequeue, or of the sub-queues of one, is drained first, lower sooner.
    """

    paused: bool
    max_running: int
    rate: Rate | tuple[int, Seconds] | None
    weight: int
    order: Literal["strict", "fair", "ageing"]
    ageing: Seconds
    max_dead: int
    priority: int
    lease: Seconds
    expires: Seconds
    retry: int | Sequence[Seconds] | RetryStrategy
    keep: Seconds | Keep
    on_dead: EntryLike


class Filters(TypedDict, total=False):
    """Which tasks; what is left out does not restrict.

    state: one or more of the six states. dedupe_key: those that hold it. reason: why they are dead or cancelled.
    *_min and *_max are included; *_from is included, *_before is not.
    """

    queue: str
    type: str
    state: str | Sequence[str]
    tag: str
    dedupe_key: str
    thread: str
    group: str
    external_id: str
    set: str | SetLike
    reason: str
    priority_min: int
    priority_max: int
    attempts_min: int
    attempts_max: int
    created_from: Instant
    created_before: Instant
    scheduled_from: Instant
    scheduled_before: Instant
    ended_from: Instant
    ended_before: Instant


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
            "fold": value.fold,
            "fold_max": value.fold_max,
            "dedupe_max_wait_in_seconds": _maybe(seconds, value.max_wait),
        }
    )


def _debounce(value: Debounce) -> dict[str, Any]:
    wait, max_wait = seconds(value.wait), _maybe(seconds, value.max_wait)
    return _said({"key": value.key, "wait_in_seconds": wait, "max_wait_in_seconds": max_wait})


def _throttle(value: Throttle) -> dict[str, Any]:
    return {"key": value.key, "period_in_seconds": seconds(value.period)}


def _keep(value: Seconds | Keep) -> dict[str, Any]:
    keep = value if isinstance(value, Keep) else Keep(succeeded=value)
    names = ("succeeded", "dead", "cancelled")
    return _said({f"{name}_in_seconds": _maybe(seconds, getattr(keep, name)) for name in names})


def rate_fields(value: Rate | tuple[int, Seconds]) -> dict[str, Any]:
    """Return a rate as the API has it."""
    rate = value if isinstance(value, Rate) else Rate(*value)
    return _said({"tokens": rate.tokens, "period_in_seconds": seconds(rate.period), "burst": rate.burst})


def entry_fields(entry: EntryLike, pointer: str = "/payload") -> dict[str, Any]:
    """Return an entry as the API has it. Raises InvalidInput for what JSON cannot say."""
    fields = fields_of(entry.options) if entry.options else {}
    fields["type"] = entry.type
    payload = entry.payload
    if isinstance(payload, (bytes, bytearray)):
        fields["payload_base64"] = base64.b64encode(payload).decode("ascii")
    elif payload is not None:
        fields["payload"] = msgspec.Raw(to_json(payload, pointer))
    return fields


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _maybe(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _as_it_is(value: Any) -> Any:
    return value


def _set_id(value: str | SetLike) -> str:
    return value if isinstance(value, str) else value.id


_SPANS: Final = ("created", "scheduled", "ended")
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
    "tags": ("tags", words),
    "metadata": ("metadata", dict),
    "on_dead": ("on_dead", entry_fields),
    "debounce": ("debounce", _debounce),
    "throttle": ("throttle", _throttle),
    "coalesce": ("coalesce", _as_it_is),
    "external_id": ("external_id", _as_it_is),
    "set": ("set_id", _set_id),
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
    "on_dead": ("on_dead", entry_fields),
}
_FILTER_FIELDS: Final[dict[str, _Reader]] = {
    "queue": ("queue_name", _as_it_is),
    "type": ("type", _as_it_is),
    "state": ("state", words),
    "tag": ("tag", _as_it_is),
    "dedupe_key": ("dedupe_key", _as_it_is),
    "thread": ("thread_id", _as_it_is),
    "group": ("group_key", _as_it_is),
    "external_id": ("external_id", _as_it_is),
    "set": ("set_id", _set_id),
    "reason": ("reason", _as_it_is),
    **{f"{name}_{end}": (f"{name}_{end}", _as_it_is) for name in ("priority", "attempts") for end in ("min", "max")},
    **{f"{name}_{end}": (f"{name}_{end}", instant) for name in _SPANS for end in ("from", "before")},
}


def check_names(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option of a task that does not exist."""
    for name in options:
        if name not in _TASK_FIELDS and name != "dedupe":
            raise _unknown(name, (*_TASK_FIELDS, "dedupe"))


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the API that a task's options say; None says nothing.

    Raises TypeError for an option that does not exist, InvalidInput for a datetime without a time zone.

    >>> fields_of({"delay": 60, "dedupe": "bob", "retry": [1, 10]})["delay_in_seconds"]
    60
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
