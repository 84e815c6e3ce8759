"""What the checker reads of a file before it compares: standings, records, histories, names and lanes.

Of tasks only a few bytes are kept (``check_tasks``). Whatever cannot be read is noted as broken, and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lmdb

from lmdbq.ids import format_id
from lmdbq.model import State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_tasks import Place, Tasks, single_place
from lmdbq.store.dump import key_words
from lmdbq.store.environment import Environment


class File:
    """Everything the invariants speak of, read once. ``broken`` collects checksums that are wrong (K11)."""

    def __init__(self, shared: Environment, txn: lmdb.Transaction) -> None:
        self._txn = txn
        self._db = shared.databases
        self.broken: list[str] = []
        self.queues: dict[int, str] = {}
        self.graves: set[int] = set()
        self.types: dict[int, str] = {}
        self.tasks = Tasks(self.get)
        self.lost_histories: list[int] = []  # of no stored task
        self.leases: dict[int, rec.LeaseRun] = {}
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
            record = self.sound("task", key, lambda value=value: rec.read_task(value))  # type: ignore[misc]
            self.tasks.add_record(ks.read_id(key), record)
        self.tasks.records_end()
        for key, value in self.items("history"):
            history = self.sound("history", key, lambda value=value: rec.read_history(value))  # type: ignore[misc]
            if history is not None and not self.tasks.add_history(ks.read_id(key)):
                self.lost_histories.append(ks.read_id(key))

    def _read_standings(self) -> None:
        for key, value in self.items("ready"):
            run = self.sound("ready", key, lambda key=key, value=value: rec.read_ready_run(key, value))  # type: ignore[misc]
            if run is not None:
                parts = ks.read_ready(key)
                place = Place("ready", parts[:4], parts.queue_no, parts.type_no, State.READY)
                self._add_run(parts.last_id, run.length, place)
        for key, value in self.items("lease"):
            lease = self.sound("lease", key, lambda key=key, value=value: rec.read_lease_run(key, value))  # type: ignore[misc]
            if lease is not None:
                last_id = ks.read_id(key)
                self.leases[last_id] = lease
                self._add_run(last_id, lease.length, Place("lease", (), lease.queue_no, lease.type_no, State.RUNNING))
        for database in ("scheduled", "ended", "lane"):
            for key, value in self.items(database):
                if database == "lane" and not ks.read_lane(key).lane_no:
                    number = self.sound("lane", key, lambda value=value: rec.read_number(value))  # type: ignore[misc]
                    self.exposures[key] = number or 0
                    continue
                read = partial(single_place, database, key, value)
                found = self.sound(database, key, read)
                if found is not None:
                    self.tasks.add_single(found[0], key, found[1])

    def _add_run(self, last_id: int, length: int, place: Place) -> None:
        if not self.tasks.add_run(last_id, length, place):
            self.overlaps.append(f"K2: a run of lmdbq/{place.database} that ends at {format_id(last_id)} has no task")
