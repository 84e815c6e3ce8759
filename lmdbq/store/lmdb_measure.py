"""How large calls are: what tells how much room a transaction may need, before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from lmdbq import limits
from lmdbq.model import (
    Call,
    Cancel,
    Claim,
    Delete,
    Edit,
    Enqueue,
    Expire,
    Extend,
    Fire,
    Lapse,
    Promote,
    Prune,
    Refill,
    Report,
    Retry,
    SchedulePatch,
    SchedulePut,
    SetMake,
    UniformEntries,
)


def measure(calls: Sequence[Call]) -> tuple[int, int]:
    """Return how many tasks calls may touch, and how many bytes they bring."""
    sizes = [_measure(call) for call in calls]
    return sum(weight for weight, _ in sizes), sum(size for _, size in sizes)


def _weight(call: Call) -> int:
    """Return how many tasks a call may touch."""
    total = 0
    for op in call.ops:
        if isinstance(op, Enqueue):
            total += len(op.entries)
        elif isinstance(op, Report):
            total += len(op.completions)
        elif isinstance(op, Extend):
            total += len(op.extensions)
        elif isinstance(op, Claim | Fire | Promote | Lapse | Expire | Prune | Refill):
            total += op.limit
        elif isinstance(op, Cancel | Delete | Retry):
            total += len(op.ids)
        else:
            total += 1
    return total


def _size_bytes(call: Call) -> int:
    """Return how many bytes of payloads and results a call brings."""
    total = 0
    for op in call.ops:
        if isinstance(op, Enqueue):
            if isinstance(op.entries, UniformEntries):
                total += op.entries.size_bytes()
            else:
                total += sum(len(entry.payload) + len(entry.options.metadata) for entry in op.entries)
        elif isinstance(op, Report):
            total += sum(len(done.result) for done in op.completions if done.result is not None)
            errors = [done.error for done in op.completions if done.error is not None]
            total += sum(len(error.message) + len(error.backtrace) for error in errors)
        elif isinstance(op, Fire):
            total += op.limit * (limits.SCHEDULE_PAYLOAD_BYTES_MAX + limits.METADATA_BYTES_MAX)
        elif isinstance(op, SchedulePut | SchedulePatch):
            total += len(op.schedule.entry.payload) + len(op.schedule.entry.options.metadata)
        elif isinstance(op, SetMake):
            total += sum(len(one.payload) for one in (op.set.callback, op.set.on_unmet) if one is not None)
        elif isinstance(op, Edit):
            total += len(op.entry.payload) + len(op.entry.options.metadata)
    return total


def _measure(call: Call) -> tuple[int, int]:
    """Return (tasks, bytes) of a call; of one so wrong that it cannot be measured, too: it is refused when it runs."""
    try:
        return _weight(call), _size_bytes(call)
    except (AttributeError, TypeError):
        return 1, 0
