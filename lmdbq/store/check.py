"""The checker: one function for each invariant K1..K18 of ``keyspace``, over one read transaction.

Each yields a line for whatever does not hold, in the map's words, comparing what ``check_facts`` has read. The checker
trusts nothing but the key grammar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import lmdb

from lmdbq.ids import format_id
from lmdbq.model import ENDED, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_catalog import k8, k9, k12, k13
from lmdbq.store.check_externals import k17
from lmdbq.store.check_facts import File
from lmdbq.store.check_lanes import k14, k15, k16, lane_place_faults
from lmdbq.store.check_sets import k18
from lmdbq.store.check_tasks import EXPIRES, HISTORY, IS_ENDED, Place
from lmdbq.store.dump import key_words
from lmdbq.store.environment import Environment


def check_file(shared: Environment, txn: lmdb.Transaction) -> list[str]:
    """Return a line for each thing that does not hold; an empty list if all is well."""
    file = File(shared, txn)
    lines: list[str] = []
    for invariant in INVARIANTS:
        lines += invariant(file)
    return lines


def _k1(file: File) -> Iterator[str]:
    """Every task record has exactly one standing."""
    for task_id in file.tasks.not_once():
        held = file.tasks.places(task_id)
        where = ", ".join(place.database for place in held)
        yield f"K1: task {format_id(task_id)} has {len(held)} standings: {where}"


def _k2(file: File) -> Iterator[str]:
    """Each standing has a record that agrees with its key (with _k1: runs do not overlap)."""
    yield from file.overlaps
    for task_id, held in file.tasks.standings():
        record = file.tasks.record(task_id)
        for place in held:
            holds = f"lmdbq/{place.database} holds {format_id(task_id)}"
            if record is None:
                yield f"K2: {holds}, which has no sound record"
            elif (place.queue_no, place.type_no) != (record.queue_no, record.type_no):
                yield f"K2: {holds} under another queue or type than its record says"
            else:
                yield from _k2_place(file, task_id, record, place)


def _k2_place(file: File, task_id: int, record: rec.TaskRecord, place: Place) -> Iterator[str]:
    history = file.tasks.history(task_id) or rec.History()
    rank = history.rank or record.scheduled_at
    task = f"task {format_id(task_id)}"
    if place.database == "ready" and place.key[2:] != (record.priority, rank):
        yield f"K2: {task} is ready at (priority, rank) {place.key[2:]}, not {(record.priority, rank)}"
    if place.database == "lane":
        yield from lane_place_faults(file, task_id, record, rank, place)
    if place.database == "scheduled" and place.key != (rank,):
        yield f"K2: {task} is scheduled at {place.key[0]}, not {rank}"
    ended_state = place.state if place.state in ENDED else -1
    if history.ended_state != ended_state:
        yield f"K2: {task} stands in lmdbq/{place.database}, but by its history it ended {history.ended_state}"
    if place.database == "ended" and place.key != (history.remove_at,):
        yield f"K2: {task} is removed at {place.key[0]} by its key, {history.remove_at} by its history"


def _k3(file: File) -> Iterator[str]:
    """Every lease run has its one deadline key, and every deadline key its run."""
    expected = {
        ks.deadline(run.queue_no, run.boot_no, run.deadline, last_id): last_id for last_id, run in file.leases.items()
    }
    for key, _ in file.items("deadline"):
        if expected.pop(bytes(key), None) is None:
            yield f"K3: deadline {key_words('deadline', key)} has no lease run"
    for last_id in expected.values():
        yield f"K3: the lease run that ends at {format_id(last_id)} has no deadline key"


def _k4(file: File) -> Iterator[str]:
    """An expiry key exists exactly for each waiting task that expires."""
    for task_id in file.tasks.with_flags(EXPIRES):
        key = _expiry_of(file, task_id)
        if key is not None and file.get("expiry", key) is None:
            yield f"K4: expiry {key_words('expiry', key)} is missing"
    for found, _ in file.items("expiry"):
        if _expiry_of(file, ks.read_timed(found).id) != found:
            yield f"K4: expiry {key_words('expiry', found)} belongs to no waiting task"


def _expiry_of(file: File, task_id: int) -> bytes | None:
    """Return the expiry key that a task must have."""
    record, held = file.tasks.record(task_id), file.tasks.places(task_id)
    if record is None or not record.expires_at or not held or held[0].state not in (State.SCHEDULED, State.READY):
        return None
    return ks.expiry(record.queue_no, record.expires_at, task_id)


def _k5(file: File) -> Iterator[str]:
    """A slot names a stored task with that key, or is to be forgotten."""
    for key, value in file.items("dedupe"):
        slot = file.sound("dedupe", key, lambda value=value: rec.read_slot(value))  # type: ignore[misc]
        if slot is None:
            continue
        names = f"slot {key_words('dedupe', key)} names task {format_id(slot.id)}"
        record = file.tasks.record(slot.id)
        if record is None:
            if file.get("forget", ks.forget(slot.blocks_until, ks.MemoKind.SLOT, bytes(key))) is None:
                yield f"K5: {names}, which is not stored, and is not to be forgotten"
            continue
        scope, owner_no, _ = ks.read_slot(key)
        dedupe = record.options.dedupe
        if dedupe is None or (record.slot_scope, record.slot_owner) != (scope, owner_no):
            yield f"K5: {names}, which says it has another slot"
        elif ks.slot(ks.SCOPES[scope], owner_no, dedupe.key) != key:
            yield f"K5: {names}, which has another dedupe key"


def _k6(file: File) -> Iterator[str]:
    """Tallies equal a recount; a tally of zeros does not exist."""
    expected: Counter[tuple[int, int, int]] = Counter()
    for place, number in file.tasks.counted.items():
        if place[0] in file.queues:
            expected[place] = number
    for key, value in file.items("count"):
        queue_no, type_no = ks.read_count(key)
        if not type_no:
            if queue_no:
                file.sound("count", key, lambda value=value: rec.read_totals(value))  # type: ignore[misc]
            continue
        tally = file.sound("count", key, lambda value=value: rec.read_tally(value)) or []  # type: ignore[misc]
        if not any(tally):
            yield f"K6: the tally of queue {queue_no}, type {type_no} is all zeros"
        for state, number in enumerate(tally):
            counted = expected.pop((queue_no, type_no, state), 0)
            if counted != number:
                word = State(state).word
                yield f"K6: queue {queue_no}, type {type_no}: {number} {word} in the tally, {counted} counted"
    for (queue_no, type_no, state), counted in expected.items():
        if counted:
            yield f"K6: queue {queue_no}, type {type_no} has {counted} {State(state).word} tasks and no tally"


def _k7(file: File) -> Iterator[str]:
    """The sequence is at least every id and every number given."""
    raw = file.get("count", ks.SEQUENCE) or b""
    numbers = file.sound("count", ks.SEQUENCE, lambda: rec.read_sequence(raw)) or rec.LastNumbers()
    for what, highest, given in (
        ("task id", file.tasks.highest(), numbers.last_id),
        ("set id", max((ks.read_id(key) for key, _ in file.items("set")), default=0), numbers.last_id),
        ("queue number", max([*file.queues, *file.graves], default=0), numbers.last_queue_no),
        ("type number", max(file.types, default=0), numbers.last_type_no),
    ):
        if highest > given:
            yield f"K7: {what} {highest} is stored, but the sequence says {given} was the last"


def _k10(file: File) -> Iterator[str]:
    """A history belongs to a stored task; every ended task has one."""
    for task_id in file.lost_histories:
        yield f"K10: task {format_id(task_id)} has a history and no record"
    strays = (task_id for task_id, held in file.tasks.strays() if held[0].state in ENDED)
    for task_id in chain(file.tasks.with_flags(IS_ENDED), strays):
        if not file.tasks.has(task_id, HISTORY) and task_id not in file.lost_histories:
            yield f"K10: task {format_id(task_id)} has ended and has no history"


def _k11(file: File) -> Iterator[str]:
    """Every checksum is right (the lines were collected while reading)."""
    yield from file.broken


INVARIANTS = (_k1, _k2, _k3, _k4, _k5, _k6, _k7, k8, k9, _k10, k12, k13, k14, k15, k16, k17, k18, _k11)
