"""What runs each op in memory; and behind each, what it spawned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lmdbq.clock import Now
from lmdbq.model import (
    Cancel,
    Claim,
    DaemonStart,
    Delete,
    Edit,
    Enqueue,
    Expire,
    Extend,
    Fire,
    GroupDelete,
    GroupPatch,
    GroupPut,
    Lapse,
    Op,
    OpOutcome,
    Promote,
    Prune,
    Purge,
    QueueDelete,
    QueuePatch,
    QueuePut,
    Refill,
    Report,
    Retry,
    RuleDelete,
    RulePut,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    SetClose,
    SetDelete,
    SetMake,
    TypePut,
)
from lmdbq.store import (
    memory_claim,
    memory_enqueue,
    memory_lanes,
    memory_leases,
    memory_manage,
    memory_schedules,
    memory_sets,
    memory_timed,
)
from lmdbq.store.memory_state import Tables

_HANDLERS: Final[dict[type, Callable[[Tables, Any, Now], OpOutcome]]] = {
    Enqueue: memory_enqueue.enqueue,
    Edit: memory_enqueue.edit,
    Claim: memory_claim.claim,
    Extend: memory_leases.extend,
    Report: memory_leases.report,
    Promote: memory_timed.promote,
    Lapse: memory_timed.lapse,
    Expire: memory_timed.expire,
    Prune: memory_timed.prune,
    Cancel: memory_manage.cancel,
    Delete: memory_manage.delete,
    Retry: memory_manage.retry,
    QueuePut: memory_manage.put_queue,
    QueuePatch: memory_manage.patch_queue,
    Purge: memory_manage.purge,
    QueueDelete: memory_manage.delete_queue,
    TypePut: memory_manage.put_type,
    DaemonStart: memory_manage.start_daemon,
    SchedulePut: memory_schedules.put_schedule,
    SchedulePatch: memory_schedules.patch_schedule,
    ScheduleDelete: memory_schedules.delete_schedule,
    SetMake: memory_sets.make,
    SetClose: memory_sets.close,
    SetDelete: memory_sets.delete,
    Fire: memory_schedules.fire,
    GroupPut: memory_lanes.put_group,
    GroupPatch: memory_lanes.patch_group,
    GroupDelete: memory_lanes.delete_group,
    RulePut: memory_lanes.put_rule,
    RuleDelete: memory_lanes.delete_rule,
    Refill: memory_lanes.refill,
}


def handle(tables: Tables, op: Op, now: Now) -> OpOutcome:
    """Run one op, decide sets, and enqueue what that spawned, and what that spawns."""
    outcome = _HANDLERS[type(op)](tables, op, now)
    memory_sets.settle(tables, now)
    while tables.spawned:
        memory_enqueue.enqueue(tables, Enqueue((tables.spawned.pop(0),), spawned=True), now)
        memory_sets.settle(tables, now)
    return outcome
