"""Making a damaged index value anew from the records and histories: what a checksum found wrong, and ``Broken`` named.

Nothing that an index says is said there alone. Which tasks a run held: those that stand nowhere else, going down from
its last id. How often they were delivered: a history knows the last delivery that ended, so a waiting task was
delivered as often, and a running one once more; the fence of a lease holds. How often they failed: as often as their
errors since the last retry by hand say (of which 20 are kept: a task that failed more often may be tried too often).
A lease run's deadline is in its deadline key; its length begins again as the task or its queue says.

The trap: while one key is made anew another may be found damaged. It is then mended first, and must not need this one.
So what looks for a task's other standings here takes no notice of damage, and counts are made anew when all else is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from lmdbq import lifecycle
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_externals import free as free_external
from lmdbq.store.lmdb_externals import mend as mend_external
from lmdbq.store.lmdb_known_lanes import Member, is_laned
from lmdbq.store.lmdb_lane_repair import remake_lane
from lmdbq.store.lmdb_rows import Broken
from lmdbq.store.lmdb_sets import mend as mend_set
from lmdbq.store.lmdb_standing import put_lease
from lmdbq.store.lmdb_tasks import free_slots, long_key, put_aside
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Work

_log = logging.getLogger(__name__)

_Tally = tuple[int, int]  # queue_no, type_no
_Step = Callable[[Work], set[_Tally]]
_Mender = Callable[[Work, bytes, set[_Tally]], None]  # the last argument takes the tallies that no longer hold
_Sound = tuple[int, rec.TaskRecord, rec.History]


def mend_all(broken: Broken, in_child: Callable[[_Step], set[_Tally]]) -> None:
    """Make the value that is broken anew, with what else is found damaged on the way, and count anew what it changed.

    in_child: runs a step with the work of a child transaction, of which nothing is left if it raises.
    """
    todo, counts = [broken], set[_Tally]()
    while todo or counts:
        try:
            if todo:
                counts |= in_child(partial(_mend, broken=todo[-1]))
                todo.pop()
            else:
                counts -= in_child(partial(_recount, tally=min(counts)))
        except Broken as deeper:
            if any((known.database, known.key) == (deeper.database, deeper.key) for known in todo):
                raise
            todo.append(deeper)


def _mend(work: Work, broken: Broken) -> set[_Tally]:
    _log.error("%s, and is made anew from the records", broken)
    counts: set[_Tally] = set()
    _MENDERS[broken.database](work, broken.key, counts)
    return counts


def _recount(work: Work, tally: _Tally) -> set[_Tally]:
    if work.queue_of(tally[0]) is not None:  # a grave's tasks are counted nowhere
        work.recount(*tally)
    return {tally}


def _read(work: Work, task_id: int, counts: set[_Tally]) -> _Sound | None:
    """Return a task's record and history; None if it has none, or if they are damaged: then it is in quarantine."""
    value = work.get("task", ks.task(task_id))
    if value is None:
        return None
    try:
        return task_id, rec.read_task(value), work.get_history(task_id) or rec.History()
    except rec.Damaged as error:
        put_aside(work, task_id, str(error))
        free_slots(work, task_id)
        free_external(work, task_id)
        for database in ("scheduled", "ended", "expiry"):
            for key in [key for key, _ in work.of(database, b"") if ks.of_task(key, task_id)]:
                work.delete(database, key)
        tallies = {ks.read_count(key) for key, _ in work.of("count", b"")}
        counts |= {tally for tally in tallies if tally[1]}  # whichever it was counted in
        return None


def _count_all_types(work: Work, queue_no: int, counts: set[_Tally]) -> None:
    counts |= {ks.read_count(key) for key, _ in work.of("count", ks.of_queue(queue_no))} - {(queue_no, 0)}


def _failures(history: rec.History) -> int:
    return sum(error.delivery > history.base_deliveries for error in history.errors)


def _orphans(work: Work, last_id: int, counts: set[_Tally]) -> Iterator[_Sound]:
    """Yield the tasks that stand nowhere, from ``last_id`` down to the first that stands somewhere."""
    before = ks.task(last_id + 1)
    while (found := work.last_before("task", before)) is not None:
        before = found[0]
        sound = _read(work, ks.read_id(before), counts)
        if sound is not None:
            if _stands(work, *sound):
                return
            yield sound


def _stands(work: Work, task_id: int, record: rec.TaskRecord, history: rec.History) -> bool:
    if history.ended_state >= 0:
        return True
    rank = history.rank or record.scheduled_at
    if work.get("scheduled", ks.scheduled(record.queue_no, rank, task_id)) is not None:
        return True
    cursor = work.cursor("lease")
    if cursor.set_range(ks.lease(task_id)) and _holds(
        task_id, ks.read_id(cursor.key()), lambda: rec.read_lease_run(cursor.key(), cursor.value()).length
    ):
        return True
    if is_laned(record.options):
        key = work.lanes.standing_key(
            Member(record.options, record.queue_no, record.type_no, record.priority, rank, task_id)
        )
        return key is not None and work.get("lane", key) is not None
    cursor = work.cursor("ready")
    if not cursor.set_range(ks.ready(record.queue_no, record.type_no, record.priority, rank, task_id)):
        return False
    parts = ks.read_ready(cursor.key())
    return parts[:4] == (record.queue_no, record.type_no, record.priority, rank) and _holds(
        task_id, parts.last_id, lambda: rec.read_ready_run(cursor.key(), cursor.value()).length
    )


def _holds(task_id: int, last_id: int, read_length: Callable[[], int]) -> bool:
    try:
        return last_id - read_length() < task_id
    except rec.Damaged:
        return last_id == task_id  # of a damaged run only the last id is certain


def _mend_ready(work: Work, key: bytes, counts: set[_Tally]) -> None:
    parts = ks.read_ready(key)
    counts.add((parts.queue_no, parts.type_no))
    work.delete("ready", key)
    for task_id, record, history in list(_orphans(work, parts.last_id, counts)):
        rank = history.rank or record.scheduled_at
        placed = ks.ready(record.queue_no, record.type_no, record.priority, rank, task_id)
        work.put("ready", placed, rec.write_ready_run(placed, 1, history.last_delivery, _failures(history)))
        counts.add((record.queue_no, record.type_no))


def _mend_lease(work: Work, key: bytes, counts: set[_Tally]) -> None:
    """Make a lease run anew; if there is none, a deadline key was too many, and goes."""
    last_id = ks.read_id(key)
    deadlines = [found for found, _ in work.of("deadline", b"") if ks.read_deadline(found).last_id == last_id]
    was_there = work.delete("lease", key)
    for found in deadlines:
        work.delete("deadline", found)
    if not was_there:
        return
    for found in deadlines:
        _count_all_types(work, ks.read_queue_no(found), counts)
    for task_id, record, history in list(_orphans(work, last_id, counts)):
        queue = work.queue_of(record.queue_no)
        settings = rules(work, queue, record.type_no)
        keepalive = lifecycle.resolve_keepalive(record.options.keepalive_ns, settings.keepalive_ns)
        boot_no, deadline = work.now.boot_no, work.now.steady + keepalive
        if deadlines:
            known = ks.read_deadline(deadlines[0])
            boot_no, deadline = known.boot_no, known.deadline
        deliveries, failures = history.last_delivery + 1, _failures(history)
        run = rec.LeaseRun(1, record.queue_no, record.type_no, boot_no, deadline, keepalive, deliveries, failures)
        put_lease(work, task_id, run)
        counts.add((record.queue_no, record.type_no))


def _mend_standing(database: str) -> _Mender:
    def mend_standing(work: Work, key: bytes, counts: set[_Tally]) -> None:
        task_id = ks.read_timed(key).id if database == "scheduled" else ks.read_ended(key).id
        _count_all_types(work, ks.read_queue_no(key), counts)
        work.delete(database, key)
        sound = _read(work, task_id, counts)
        if sound is not None:
            _, record, history = sound
            counts.add((record.queue_no, record.type_no))
            work.put(database, key, rec.write_standing(key, record.type_no, history.last_delivery, _failures(history)))

    return mend_standing


def _mend_slot(work: Work, key: bytes, _: set[_Tally]) -> None:
    """Make a slot anew from a task that says it is its own: one that has not ended, if there is one, and the youngest.

    Without any there was only a ttl, which is lost.
    """
    work.delete("dedupe", key)
    forgets = [found for found, _ in work.of("forget", b"") if ks.read_forget(found)[1:] == (ks.MemoKind.SLOT, key)]
    holder = _slot_holder(work, key)
    if holder is not None:
        until = max((ks.read_forget(found).remove_at for found in forgets), default=0)
        task_id, record, whole_key = holder
        work.put("dedupe", key, rec.write_slot(rec.Slot(task_id, record.queue_no, record.created_at, until, whole_key)))
        return
    for found in forgets:
        work.delete("forget", found)


def _slot_holder(work: Work, key: bytes) -> tuple[int, rec.TaskRecord, bytes] | None:
    """Return the task that a slot most likely named, and its key if that is too long to stand in the slot's."""
    scope, owner_no, _ = ks.read_slot(key)
    best: tuple[bool, int] = (False, 0)
    found = None
    for task_key, value in work.of("task", b""):
        try:
            task_id, record = ks.read_id(task_key), rec.read_task(value)
            history = work.get_history(task_id) or rec.History()
        except rec.Damaged:
            continue
        dedupe = record.options.dedupe
        if dedupe is None or (record.slot_scope, record.slot_owner) != (scope, owner_no):
            continue
        rank = (history.ended_state < 0, task_id)
        if rank > best and ks.slot(ks.SCOPES[scope], owner_no, dedupe.key) == key:
            best, found = rank, (task_id, record, long_key(dedupe.key))
    return found


def _mend_memo(work: Work, key: bytes, _: set[_Tally]) -> None:
    """Forget a memo: what it said nobody else knows."""
    work.delete("memo", key)
    for found in [found for found, _ in work.of("forget", b"")]:
        parts = ks.read_forget(found)
        if parts.kind not in (ks.MemoKind.SLOT, ks.MemoKind.SET) and ks.memo(ks.MemoKind(parts.kind), parts.key) == key:
            work.delete("forget", found)


def _mend_lane_key(work: Work, key: bytes, counts: set[_Tally]) -> None:
    """Make a ready task's lane key anew; an exposure goes with its lane's, and is made anew with them."""
    parts = ks.read_lane(key)
    work.delete("lane", key)
    if parts.lane_no:
        sound = _read(work, parts.id, counts)
        if sound is not None:
            _, record, history = sound
            rank = history.rank or record.scheduled_at
            place = rec.LaneStanding(record.type_no, record.priority, rank, history.last_delivery, _failures(history))
            work.put("lane", key, rec.write_lane_standing(key, place))
            counts.add((record.queue_no, record.type_no))
        return
    for lane in work.lanes.all():
        if key in lane.record.exposed:
            lane.record.exposed = tuple(one for one in lane.record.exposed if one != key)
            work.lanes.settle(lane)


def _mend_catalog(work: Work, key: bytes, _: set[_Tally]) -> None:
    """Make a lane anew: what it counts, who holds it, its number's key. A group's own settings and tokens are lost."""
    if key[:1] == b"l":
        owner = next((name for name, value in work.of("catalog", b"L") if _is_lane(value, ks.read_number(key))), None)
        work.delete("catalog", key)
        if owner is not None:
            work.put("catalog", key, rec.seal(owner[1:]))
        return
    number = next((ks.read_number(no) for no, value in work.of("catalog", b"l") if value == rec.seal(key[1:])), 0)
    work.delete("catalog", key)
    for exposure, value in list(work.of("lane", ks.of_lane(0))):
        if value == rec.write_number(number):
            work.delete("lane", exposure)
    for wake, _value in list(work.of("wake", b"")):
        if ks.read_wake(wake).lane_no == number:
            work.delete("wake", wake)
    if number:
        remake_lane(work, key, number)


def _is_lane(value: bytes, lane_no: int) -> bool:
    try:
        return rec.read_lane(value).no == lane_no
    except rec.Damaged:
        return False


def _mend_tally(_: Work, key: bytes, counts: set[_Tally]) -> None:
    counts.add(ks.read_count(key))


_MENDERS: Final[dict[str, _Mender]] = {
    "ready": _mend_ready,
    "lease": _mend_lease,
    "scheduled": _mend_standing("scheduled"),
    "ended": _mend_standing("ended"),
    "dedupe": _mend_slot,
    "memo": _mend_memo,
    "external": lambda work, key, _: mend_external(work, key),
    "set": lambda work, key, _: mend_set(work, key),
    "count": _mend_tally,
    "lane": _mend_lane_key,
    "catalog": _mend_catalog,
}
