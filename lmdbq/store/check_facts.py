"""What the checker reads of a file before it compares: standings, records, histories, names and lanes.

About 300 bytes a task. Whatever cannot be read is noted as broken, and left out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import lmdb

from lmdbq.ids import format_id
from lmdbq.model import State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.dump import key_words
from lmdbq.store.environment import Environment


class Place:
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
        self.places: dict[int, list[Place]] = {}
        self.overlaps: list[str] = []
        self.lanes: dict[int, tuple[bytes, rec.LaneRecord]] = {}  # by number, with its lane_by_name key
        self.exposures: dict[bytes, int] = {}  # with the number of its lane
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
            elif kind == b"L":
                lane = self.sound("catalog", key, lambda value=value: rec.read_lane(value))  # type: ignore[misc]
                if lane is not None:
                    self.lanes[lane.no] = (key, lane)
            elif kind == b"R":
                self.sound("catalog", key, lambda value=value: rec.read_rule(value))  # type: ignore[misc]

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
                    place = Place(database, (at.at,), at.queue_no, standing.type_no, State.SCHEDULED)
                    self.places.setdefault(at.id, []).append(place)
                else:
                    end = ks.read_ended(key)
                    place = Place(database, (end.remove_at,), end.queue_no, standing.type_no, State(end.state))
                    self.places.setdefault(end.id, []).append(place)

        self._read_lanes()

    def _read_lanes(self) -> None:
        for key, value in self.items("lane"):
            parts = ks.read_lane(key)
            if not parts.lane_no:
                self.exposures[key] = self.sound("lane", key, lambda value=value: rec.read_number(value)) or 0  # type: ignore[misc]
                continue
            standing = self.sound("lane", key, lambda key=key, value=value: rec.read_lane_standing(key, value))  # type: ignore[misc]
            if standing is not None:
                place = Place("lane", (*parts[:5], *standing[:3]), parts.queue_no, standing.type_no, State.READY)
                self.places.setdefault(parts.id, []).append(place)

    def _add_run(
        self, database: str, key: tuple[int, ...], last_id: int, length: int, queue_no: int, type_no: int, state: State
    ) -> None:
        held = self.stored[bisect_left(self.stored, last_id - length + 1) : bisect_right(self.stored, last_id)]
        if not held:
            self.overlaps.append(f"K2: a run of lmdbq/{database} that ends at {format_id(last_id)} has no task")
        for task_id in held:
            self.places.setdefault(task_id, []).append(Place(database, key, queue_no, type_no, state))
