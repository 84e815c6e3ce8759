"""Schedules: put, patch, delete, and Fire, which enqueues what is due.

What is asked of a schedule by the clock and the calendar is decided in ``schedules``; here it is read and written. The
due key, the record and (as spawned entries) the tasks of an instant change in one transaction, so that each instant
gives its tasks once, whatever is killed when.

The trap: one schedule that cannot be read must not stop the others. It is paused with the reason, and one whose record
is damaged keeps nothing but its name and number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from msgspec.structs import replace

from lmdbq import limits, schedules
from lmdbq.model import (
    Entry,
    Fire,
    Problem,
    Refused,
    Schedule,
    ScheduleChanged,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    ScheduleView,
    Swept,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_work import Work

LOST = "its record was damaged, and what it said is lost: put it again"

_log = logging.getLogger(__name__)


def put_schedule(work: Work, op: SchedulePut) -> ScheduleChanged | Refused:
    """Run one SchedulePut."""
    known = _read(work, op.name)
    new = op.schedule
    if op.keep_paused and known is not None:
        new = replace(new, paused=known.schedule.paused)
    problems = schedules.problems_of(new)
    if not op.create_queues and work.queue(new.entry.queue) is None:
        detail = f"there is no queue {new.entry.queue!r}, and queues are not created here; create it first"
        problems.append(Problem("queue_not_found", "/task/queue_name", detail))
    last_no = _last_no(work)
    if known is None and last_no >= limits.SCHEDULES_MAX and _number_of_schedules(work) >= limits.SCHEDULES_MAX:
        detail = f"there are {limits.SCHEDULES_MAX} schedules, which is the most; delete some"
        problems.append(Problem("too_many_schedules", "/name", detail))
    refused = _refused(new, problems)
    if refused is not None:
        return refused
    if known is None:
        standing = schedules.standing(new, None, work.now.wall)
        record = rec.ScheduleRecord(last_no + 1, new, work.now.wall, standing.next_at)
        work.put("catalog", ks.schedule_by_no(record.no), rec.write_name(op.name))
        _write(work, op.name, record)
        return ScheduleChanged(op.name, created=True)
    _replace(work, op.name, known, new)
    return ScheduleChanged(op.name)


def patch_schedule(work: Work, op: SchedulePatch) -> ScheduleChanged | Refused:
    """Run one SchedulePatch."""
    known = _read(work, op.name)
    if known is None:
        return _unknown(op.name)
    new = replace(known.schedule, **{field: getattr(op.schedule, field) for field in op.fields})
    refused = _refused(new, schedules.problems_of(new))
    if refused is not None:
        return refused
    _replace(work, op.name, known, new)
    return ScheduleChanged(op.name)


def delete_schedule(work: Work, op: ScheduleDelete) -> ScheduleChanged | Refused:
    """Run one ScheduleDelete."""
    known = _read(work, op.name)
    if known is None:
        return _unknown(op.name)
    _delete_due(work, known)
    work.delete("catalog", ks.schedule_by_name(op.name))
    work.delete("catalog", ks.schedule_by_no(known.no))
    return ScheduleChanged(op.name)


def _refused(schedule: Schedule, problems: list[Problem]) -> Refused | None:
    """Return why a schedule is refused. Raises BadKey for a name that a firing must not be the first to find."""
    if problems:
        return Refused(problems[0].code, tuple(problems))
    for name in (schedule.entry.queue, schedule.entry.type):
        ks.name_bytes(name)
    return None


def _unknown(name: str) -> Refused:
    detail = f"there is no schedule {name!r}; GET /v1/schedules lists those that exist"
    return Refused("schedule_not_found", (Problem("schedule_not_found", "/name", detail),))


# --- firing ---


def fire(work: Work, op: Fire) -> Swept:
    """Run one Fire."""
    count = 0
    while (due := _first_due(work)) is not None:
        if count >= op.limit:
            return Swept(count, more=True)
        due_at, schedule_no = due
        name = _name_of(work, schedule_no)
        record = None if name is None else _read(work, name)
        if name is None or record is None or record.next_at != due_at:
            _log.error("the key of schedule %d at %d belongs to none, and is removed", schedule_no, due_at)
            work.delete("schedule", ks.schedule(due_at, schedule_no))
            if name is not None and record is not None and record.reason:
                _write(work, name, record)
            continue
        count += _fire_one(work, name, record, op.limit - count)
    return Swept(count)


def _first_due(work: Work) -> tuple[int, int] | None:
    found = work.first_from("schedule", ks.schedule(0, 0))
    if found is None or ks.read_schedule(found[0])[0] > work.now.wall:
        return None
    return ks.read_schedule(found[0])


def _fire_one(work: Work, name: str, record: rec.ScheduleRecord, count_max: int) -> int:
    """Enqueue what is due of one schedule, and move it on; return how many tasks that gave."""
    work.delete("schedule", ks.schedule(record.next_at, record.no))
    try:
        firing = schedules.firing(record.schedule, record.next_at, work.now.wall, count_max)
    except ValueError as error:  # BadCron, UnknownZone
        _log.error("schedule %r is paused: %s", name, error)
        _write(work, name, replace(record, next_at=0, reason=str(error)))
        return 0
    work.spawned += [schedules.entry_of(name, record.schedule, instant) for instant in firing.instants]
    last_at = firing.instants[-1] if firing.instants else record.last_at
    fired = record.fired + len(firing.instants)
    _write(work, name, replace(record, next_at=firing.next_at, last_at=last_at, fired=fired))
    return len(firing.instants)


# --- reads ---


def first_fire(work: Work) -> int:
    """Return when the first schedule is due (wall ns), 0 if none is."""
    found = work.first_from("schedule", ks.schedule(0, 0))
    return 0 if found is None else ks.read_schedule(found[0])[0]


def schedule_view(work: Work, name: str) -> ScheduleView | None:
    """Return one schedule."""
    try:
        record = _read(work, name)
    except ks.BadKey:  # no schedule can have such a name
        return None
    return None if record is None else _view(name, record)


def schedule_views(work: Work) -> list[ScheduleView]:
    """Return every schedule by name."""
    names = [ks.read_name(key) for key, _ in work.of("catalog", b"S")]
    return [view for name in names if (view := schedule_view(work, name)) is not None]


def _view(name: str, record: rec.ScheduleRecord) -> ScheduleView:
    said = record.schedule
    return ScheduleView(name, said, record.created_at, record.next_at, record.last_at, record.fired, record.reason)


# --- records ---


def _read(work: Work, name: str) -> rec.ScheduleRecord | None:
    """Return a schedule; of one whose record is damaged, what is left of it."""
    value = work.get("catalog", ks.schedule_by_name(name))
    if value is None:
        return None
    try:
        return rec.read_schedule(value)
    except rec.Damaged as error:
        _log.error("schedule %r is paused, and what it said is lost: %s", name, error)
        numbers = [ks.read_number(key) for key, named in _numbers(work) if named == rec.write_name(name)]
        no = numbers[0] if numbers else _last_no(work) + 1
        return rec.ScheduleRecord(no, Schedule("", Entry()), work.now.wall, reason=LOST)


def _name_of(work: Work, schedule_no: int) -> str | None:
    """Return the name of a schedule's number; if that is damaged, the one that points at the number."""
    value = work.get("catalog", ks.schedule_by_no(schedule_no))
    if value is None:
        return None
    try:
        return rec.read_name(value)
    except rec.Damaged:
        for key, _ in work.of("catalog", b"S"):
            record = _read(work, ks.read_name(key))
            if record is not None and record.no == schedule_no:
                work.put("catalog", ks.schedule_by_no(schedule_no), rec.write_name(ks.read_name(key)))
                return ks.read_name(key)
        return None


def _numbers(work: Work) -> Iterator[tuple[bytes, bytes]]:
    return iter(list(work.of("catalog", b"s")))


def _last_no(work: Work) -> int:
    """Return the highest number that a schedule has, 0 if there is none."""
    found = work.last_before("catalog", b"t")
    return ks.read_number(found[0]) if found is not None and found[0][:1] == b"s" else 0


def _number_of_schedules(work: Work) -> int:
    return sum(1 for _ in _numbers(work))


def _replace(work: Work, name: str, known: rec.ScheduleRecord, new: Schedule) -> None:
    stood = schedules.Standing(known.next_at, known.last_at)
    standing = schedules.standing(new, (known.schedule, stood), work.now.wall)
    record = replace(known, schedule=new, next_at=standing.next_at, reason="")
    if record != known:  # each worker puts the schedules of its functions when it starts: that costs no sync
        _delete_due(work, known)
        _write(work, name, record)


def _delete_due(work: Work, record: rec.ScheduleRecord) -> None:
    if record.next_at:
        work.delete("schedule", ks.schedule(record.next_at, record.no))
    elif record.reason == LOST:  # nobody knows where it stood
        for key in [key for key, _ in work.of("schedule", b"") if ks.read_schedule(key)[1] == record.no]:
            work.delete("schedule", key)


def _write(work: Work, name: str, record: rec.ScheduleRecord) -> None:
    work.put("catalog", ks.schedule_by_name(name), rec.write_map(record))
    if record.next_at:
        work.put("schedule", ks.schedule(record.next_at, record.no))
