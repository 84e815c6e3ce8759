"""Folding: what becomes of the payload, and the start, of a task that waits when another with its dedupe key comes.

Pure functions of two payloads, so that every store folds the same. Numbers are added as JSON has them, and what no
reader of JSON could read again is refused here as it is at the door.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from lmdbq import limits
from lmdbq.lifecycle import ResolvedDedupe
from lmdbq.model import Encoding, Fold
from lmdbq.wire import payloads

Payload = tuple[bytes, Encoding]


class Unfoldable(ValueError):
    """Two payloads that cannot be folded; the text says why."""


class Full(Exception):
    """The folded payload would have too many items or bytes: the newcomer is a task of its own."""


def first(fold: Fold, payload: Payload) -> Payload:
    """Return the payload of the task that others will be folded into: for append a list of it. Raises Unfoldable."""
    return _encode([_decode(payload)], payload[1]) if fold is Fold.APPEND else payload


def folded(fold: Fold, old: Payload, new: Payload, items_max: int) -> Payload:
    """Return what a waiting task's payload becomes. items_max: of a list or an object, 0 = no limit.

    append: the list with ``new`` behind. concat: list + list, text + text, bytes + bytes. merge: the fields of both
    objects, those of ``new`` where both have them. sum, max: of two numbers, or of two objects of numbers field by
    field. replace: ``new``. The encoding is that of the older payload. Raises Unfoldable; Full.

    >>> folded(Fold.SUM, (b'{"a":1}', Encoding.JSON), (b'{"a":2,"b":1}', Encoding.JSON), 0)[0]
    b'{"a":3,"b":1}'
    """
    if fold is Fold.REPLACE:
        return new
    value = _FOLDS[fold](_decode(old), _decode(new))
    if isinstance(value, (list, dict)) and 0 < items_max < len(value):
        raise Full
    data = _encode(value, old[1])
    if len(data[0]) > limits.PAYLOAD_BYTES_MAX:
        raise Full
    return data


def resolve_wait(rule: ResolvedDedupe, scheduled_at: int, created_at: int, now_wall: int) -> int:
    """Return when a holder accepted at ``created_at`` starts, if a duplicate asks for ``scheduled_at``."""
    if not rule.max_wait_ns:
        return scheduled_at
    return min(scheduled_at, max(created_at + rule.max_wait_ns, now_wall))


def _append(old: Any, new: Any) -> Any:
    if not isinstance(old, list):
        raise Unfoldable("append needs a task whose payload is a list: one that was enqueued with fold append, too")
    return [*old, new]


def _concat(old: Any, new: Any) -> Any:
    for kind in (list, str, bytes):
        if isinstance(old, kind) and isinstance(new, kind):
            return old + new  # type: ignore[operator]
    raise Unfoldable("concat needs two lists, two texts, or bytes and bytes")


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        raise Unfoldable("merge needs two objects")
    return {**old, **new}


def _numbers(old: Any, new: Any, join: Callable[[Any, Any], Any]) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        both = {name: _number(old[name], new[name], join) for name in old.keys() & new.keys()}
        return {name: both.get(name, new.get(name, old.get(name))) for name in {**old, **new}}
    return _number(old, new, join)


def _number(old: Any, new: Any, join: Callable[[Any, Any], Any]) -> Any:
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in (old, new)):
        raise Unfoldable("sum and max need two numbers, or two objects of numbers")
    return join(old, new)


_FOLDS: Final[dict[Fold, Callable[[Any, Any], Any]]] = {
    Fold.APPEND: _append,
    Fold.CONCAT: _concat,
    Fold.MERGE: _merge,
    Fold.SUM: lambda old, new: _numbers(old, new, lambda one, other: one + other),
    Fold.MAX: lambda old, new: _numbers(old, new, max),
}


def _decode(payload: Payload) -> Any:
    try:
        return payloads.decode(*payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as bad:
        raise Unfoldable(f"a payload cannot be read: {bad}") from None


def _encode(value: Any, encoding: Encoding) -> Payload:
    if isinstance(value, bytes):
        return value, Encoding.BYTES
    try:
        text = msgspec.json.encode(value)
        payloads.BodyText(text).accept(text)
        if not _is_finite(value):
            raise Unfoldable("a number in it would not be finite")
        return (text, encoding) if encoding is Encoding.JSON else (msgspec.msgpack.encode(value), Encoding.MSGPACK)
    except payloads.Unreadable as bad:
        raise Unfoldable(bad.detail) from None
    except (TypeError, OverflowError, RecursionError) as bad:
        raise Unfoldable(f"what it would become cannot be written: {bad}") from None


def _is_finite(value: Any) -> bool:
    """Whether a number, or each number in a flat object, is finite: folding makes no others."""
    if isinstance(value, dict):
        return all(not isinstance(one, float) or math.isfinite(one) for one in value.values())
    return not isinstance(value, float) or math.isfinite(value)
