"""The checker: one function for each invariant K1..K13 of ``keyspace``, over one read transaction.

Each yields a line for whatever does not hold, in the map's words. A first pass reads the standings and records into
memory (about 300 bytes a task); the functions then compare. The checker trusts nothing but the key grammar.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import lmdb

from lmdbq.ids import format_id
from lmdbq.model import ENDED, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_catalog import k8, k9, k12, k13
from lmdbq.store.dump import key_words
from lmdbq.store.environment import Environment


class _Place:
    """One standing of one task: in which database, with which queue, type and (for ready) place."""

    __slots__ = ("database", "key", "queue_no", "state", "type_no")

    def __init__(self, database: str, key: tuple[int, ...], queue_no: int, type_no: int, state: State) -> None:
        self.database = database
        self.key = key
        self.queue_no = queue_no
        self.type_no = type_no
        self.state = state


class File:
    """Everything the invariants speak of, read once. ``broken`` collects checksums that are wrong (K11)."""

    def __init__(self, shared: Environment, txn: lmdb.Transaction) -> None:
        self._txn = txn
        self._db = shared.databases
        self.broken: list[str] = []
        self.queues: dict[int, str] = {}
        self.graves: set[int] = set()
        self.types: dict[int, str] = {}
        self.stored: list[int] = []  # the ids of all records, sound or not
        self.records: dict[int, rec.TaskRecord] = {}
        self.histories: dict[int, rec.History] = {}
        self.leases: dict[int, rec.LeaseRun] = {}
        self.places: dict[int, list[_Place]] = {}
        self.overlaps: list[str] = []
        self._read_catalog()
        self._read_tasks()
        self._read_standings()

    def items(self, database: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and value of a database."""
        cursor: Any = self._txn.cursor(db=self._db[database])
        yield from cursor.iternext()

    def get(self, database: str, key: bytes) -> bytes | None:
        """Return one value."""
        value: Any = self._txn.get(key, db=self._db[database])
        return None if value is None else bytes(value)

    def sound(self, database: str, key: bytes, read: Callable[[], Any]) -> Any:
        """Return what ``read`` reads; None, and a broken line, if it is damaged."""
        try:
            return read()
        except rec.Damaged as error:
            line = f"K11: lmdbq/{database} {key_words(database, key)}: {error}"
            if line not in self.broken:
                self.broken.append(line)
            return None

    def _read_catalog(self) -> None:
        for key, value in self.items("catalog"):
            kind = key[:1]
            if kind == b"q":
                name = self.sound("catalog", key, lambda value=value: rec.read_name(value))  # type: ignore[misc]
                self.queues[ks.read_number(key)] = name or ""
            elif kind == b"t":
                name = self.sound("catalog", key, lambda value=value: rec.read_name(value))  # type: ignore[misc]
                self.types[ks.read_number(key)] = name or ""
            elif kind == ks.TYPE_RECORDS:
                self.sound("catalog", key, lambda value=value: rec.read_type(value))  # type: ignore[misc]
            elif kind == b"G":
                self.graves.add(ks.read_number(key))
                self.sound("catalog", key, lambda value=value: rec.read_grave(value))  # type: ignore[misc]
            elif kind == b"M":
                self.sound("catalog", key, lambda value=value: rec.read_meta(value))  # type: ignore[misc]

    def _read_tasks(self) -> None:
        for key, value in self.items("task"):
            self.stored.append(ks.read_id(key))
            record = self.sound("task", key, lambda value=value: rec.read_task(value))  # type: ignore[misc]
            if record is not None:
                record.payload = b""
                self.records[ks.read_id(key)] = record
        for key, value in self.items("history"):
            history = self.sound("history", key, lambda value=value: rec.read_history(value))  # type: ignore[misc]
            if history is not None:
                self.histories[ks.read_id(key)] = history

    def _read_standings(self) -> None:
        for key, value in self.items("ready"):
            run = self.sound("ready", key, lambda key=key, value=value: rec.read_ready_run(key, value))  # type: ignore[misc]
            if run is not None:
                parts = ks.read_ready(key)
                self._add_run("ready", parts[:4], parts.last_id, run.length, parts.queue_no, parts.type_no, State.READY)
        for key, value in self.items("lease"):
            lease = self.sound("lease", key, lambda key=key, value=value: rec.read_lease_run(key, value))  # type: ignore[misc]
            if lease is not None:
                last_id = ks.read_id(key)
                self.leases[last_id] = lease
                self._add_run("lease", (), last_id, lease.length, lease.queue_no, lease.type_no, State.RUNNING)
        for database in ("scheduled", "ended"):
            for key, value in self.items(database):
                standing = self.sound(database, key, lambda key=key, value=value: rec.read_standing(key, value))  # type: ignore[misc]
                if standing is None:
                    continue
                if database == "scheduled":
                    at = ks.read_timed(key)
                    place = _Place(database, (at.at,), at.queue_no, standing.type_no, State.SCHEDULED)
                    self.places.setdefault(at.id, []).append(place)
                else:
                    end = ks.read_ended(key)
                    place = _Place(database, (end.remove_at,), end.queue_no, standing.type_no, State(end.state))
                    self.places.setdefault(end.id, []).append(place)

    def _add_run(
        self, database: str, key: tuple[int, ...], last_id: int, length: int, queue_no: int, type_no: int, state: State
    ) -> None:
        held = self.stored[bisect_left(self.stored, last_id - length + 1) : bisect_right(self.stored, last_id)]
        if not held:
            self.overlaps.append(f"K2: a run of lmdbq/{database} that ends at {format_id(last_id)} has no task")
        for task_id in held:
            self.places.setdefault(task_id, []).append(_Place(database, key, queue_no, type_no, state))


def check_file(shared: Environment, txn: lmdb.Transaction) -> list[str]:
    """Return a line for each thing that does not hold; an empty list if all is well."""
    file = File(shared, txn)
    lines: list[str] = []
    for invariant in INVARIANTS:
        lines += invariant(file)
    return lines


def _k1(file: File) -> Iterator[str]:
    """Every task record has exactly one standing."""
    for task_id in file.records:
        held = file.places.get(task_id, [])
        if len(held) != 1:
            where = ", ".join(place.database for place in held)
            yield f"K1: task {format_id(task_id)} has {len(held)} standings: {where}"


def _k2(file: File) -> Iterator[str]:
    """Each standing has a record that agrees with its key (with _k1: runs do not overlap)."""
    yield from file.overlaps
    for task_id, held in file.places.items():
        record = file.records.get(task_id)
        for place in held:
            holds = f"lmdbq/{place.database} holds {format_id(task_id)}"
            if record is None:
                yield f"K2: {holds}, which has no sound record"
            elif (place.queue_no, place.type_no) != (record.queue_no, record.type_no):
                yield f"K2: {holds} under another queue or type than its record says"
            else:
                yield from _k2_place(file, task_id, record, place)


def _k2_place(file: File, task_id: int, record: rec.TaskRecord, place: _Place) -> Iterator[str]:
    history = file.histories.get(task_id, rec.History())
    rank = history.rank or record.scheduled_at
    task = f"task {format_id(task_id)}"
    if place.database == "ready" and place.key[2:] != (record.priority, rank):
        yield f"K2: {task} is ready at (priority, rank) {place.key[2:]}, not {(record.priority, rank)}"
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
    expected = set()
    for task_id, held in file.places.items():
        record = file.records.get(task_id)
        if record is not None and record.expires_at and held[0].state in (State.SCHEDULED, State.READY):
            expected.add(ks.expiry(record.queue_no, record.expires_at, task_id))
    found = {bytes(key) for key, _ in file.items("expiry")}
    yield from (f"K4: expiry {key_words('expiry', key)} is missing" for key in expected - found)
    yield from (f"K4: expiry {key_words('expiry', key)} belongs to no waiting task" for key in found - expected)


def _k5(file: File) -> Iterator[str]:
    """A slot names a stored task with that key, or is to be forgotten."""
    for key, value in file.items("dedupe"):
        slot = file.sound("dedupe", key, lambda value=value: rec.read_slot(value))  # type: ignore[misc]
        if slot is None:
            continue
        names = f"slot {key_words('dedupe', key)} names task {format_id(slot.id)}"
        record = file.records.get(slot.id)
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
    for held in file.places.values():
        for place in held:
            if place.queue_no in file.queues:
                expected[(place.queue_no, place.type_no, place.state)] += 1
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
        ("task id", max(file.records, default=0), numbers.last_id),
        ("queue number", max([*file.queues, *file.graves], default=0), numbers.last_queue_no),
        ("type number", max(file.types, default=0), numbers.last_type_no),
    ):
        if highest > given:
            yield f"K7: {what} {highest} is stored, but the sequence says {given} was the last"


def _k10(file: File) -> Iterator[str]:
    """A history belongs to a stored task; every ended task has one."""
    for task_id in file.histories:
        if task_id not in file.records:
            yield f"K10: task {format_id(task_id)} has a history and no record"
    for task_id, held in file.places.items():
        if held[0].state in ENDED and task_id not in file.histories:
            yield f"K10: task {format_id(task_id)} has ended and has no history"


def _k11(file: File) -> Iterator[str]:
    """Every checksum is right (the lines were collected while reading)."""
    yield from file.broken


INVARIANTS = (_k1, _k2, _k3, _k4, _k5, _k6, _k7, k8, k9, _k10, k12, k13, _k11)
