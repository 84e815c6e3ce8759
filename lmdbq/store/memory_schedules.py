"""Schedules in memory: put, patch, delete and Fire."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lmdbq import limits, schedules
from lmdbq.clock import Now
from lmdbq.model import (
    Fire,
    Problem,
    Schedule,
    ScheduleChanged,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    ScheduleView,
    Swept,
)
from lmdbq.store.memory_rows import Denied
from lmdbq.store.memory_state import Tables


class ScheduleRow(Struct, frozen=True):
    """A schedule and where it stands. number: which of two that are due at the same instant goes first."""

    number: int
    schedule: Schedule
    created_at: int
    standing: schedules.Standing
    fired: int = 0
    reason: str = ""


def put_schedule(tables: Tables, op: SchedulePut, now: Now) -> ScheduleChanged:
    """Create or replace a schedule. Raises Denied."""
    known: ScheduleRow | None = tables.schedules.get(op.name)
    new = replace(op.schedule, paused=known.schedule.paused) if known and op.keep_paused else op.schedule
    problems = schedules.problems_of(new)
    if not op.create_queues and new.entry.queue not in tables.queues:
        problems.append(Problem("queue_not_found", "/task/queue_name", f"create the queue {new.entry.queue!r} first"))
    if known is None and len(tables.schedules) >= limits.SCHEDULES_MAX:
        problems.append(Problem("too_many_schedules", "/name", "delete some schedules first"))
    if problems:
        raise Denied(problems)
    if known is not None:
        _replace(tables, op.name, known, new, now)
        return ScheduleChanged(op.name)
    number = max((row.number for row in tables.schedules.values()), default=0) + 1
    row = ScheduleRow(number, new, now.wall, schedules.standing(new, None, now.wall))
    tables.assign(tables.schedules, op.name, row)
    return ScheduleChanged(op.name, created=True)


def patch_schedule(tables: Tables, op: SchedulePatch, now: Now) -> ScheduleChanged:
    """Replace some fields of a schedule. Raises Denied."""
    known = _known(tables, op.name)
    fields: dict[str, Any] = {field: getattr(op.schedule, field) for field in op.fields}
    new = replace(known.schedule, **fields)
    problems = schedules.problems_of(new)
    if problems:
        raise Denied(problems)
    _replace(tables, op.name, known, new, now)
    return ScheduleChanged(op.name)


def _replace(tables: Tables, name: str, known: ScheduleRow, new: Schedule, now: Now) -> None:
    standing = schedules.standing(new, (known.schedule, known.standing), now.wall)
    tables.assign(tables.schedules, name, replace(known, schedule=new, standing=standing, reason=""))


def delete_schedule(tables: Tables, op: ScheduleDelete, _: Now) -> ScheduleChanged:
    """Remove a schedule. Raises Denied."""
    _known(tables, op.name)
    tables.discard(tables.schedules, op.name)
    return ScheduleChanged(op.name)


def _known(tables: Tables, name: str) -> ScheduleRow:
    known: ScheduleRow | None = tables.schedules.get(name)
    if known is None:
        raise Denied([Problem("schedule_not_found", "/name", f"no schedule has the name {name!r}")])
    return known


def fire(tables: Tables, op: Fire, now: Now) -> Swept:
    """Spawn what is due by schedules, the earliest first."""
    count = 0
    while True:
        due = [
            (row.standing.next_at, row.number, name)
            for name, row in tables.schedules.items()
            if 0 < row.standing.next_at <= now.wall
        ]
        if not due:
            return Swept(count)
        if count >= op.limit:
            return Swept(count, more=True)
        _, _, name = min(due)
        count += _fire_one(tables, name, op.limit - count, now)


def _fire_one(tables: Tables, name: str, count_max: int, now: Now) -> int:
    row: ScheduleRow = tables.schedules[name]
    stood = row.standing
    try:
        firing = schedules.firing(row.schedule, stood.next_at, now.wall, count_max)
    except ValueError as error:
        paused = replace(row, standing=stood._replace(next_at=0), reason=str(error))
        tables.assign(tables.schedules, name, paused)
        return 0
    tables.spawned += [schedules.entry_of(name, row.schedule, instant) for instant in firing.instants]
    last_at = max(firing.instants, default=stood.last_at)
    moved = replace(row, standing=schedules.Standing(firing.next_at, last_at), fired=row.fired + len(firing.instants))
    tables.assign(tables.schedules, name, moved)
    return len(firing.instants)


def schedule_view(tables: Tables, name: str) -> ScheduleView | None:
    """Return one schedule, None if there is none of that name."""
    row: ScheduleRow | None = tables.schedules.get(name)
    if row is None:
        return None
    return ScheduleView(name, row.schedule, row.created_at, *row.standing, fired=row.fired, reason=row.reason)


def schedule_views(tables: Tables) -> list[ScheduleView]:
    """Return every schedule by name."""
    return [view for name in sorted(tables.schedules) if (view := schedule_view(tables, name)) is not None]
