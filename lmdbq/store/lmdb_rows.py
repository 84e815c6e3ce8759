"""Reading and writing keys in one transaction, and the one way to read the values of an index.

The trap: a damaged value in an index must not be taken for a damaged task, because the run behind it may hold
thousands, and the run that a search ends at may not even hold the task that was searched for. So the values of indexes
are read here, and raise ``Broken``, which is no ``records.Damaged``: no op catches it. The call is undone, the key is
made anew from the records (``lmdb_mend``), and the call runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

import lmdb

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec


class Broken(Exception):
    """A value in an index is damaged: the one at ``key`` of ``database``."""

    def __init__(self, database: str, key: bytes) -> None:
        super().__init__(f"lmdbq/{database} {key.hex()} is damaged")
        self.database = database
        self.key = key


def read_ready_run(key: bytes, value: bytes) -> rec.ReadyRun:
    """Return the run behind a ready key. Raises Broken."""
    try:
        return rec.read_ready_run(key, value)
    except rec.Damaged as error:
        raise Broken("ready", key) from error


def read_lease_run(key: bytes, value: bytes | None) -> rec.LeaseRun:
    """Return the run behind a lease key. Raises Broken, also for None: then a deadline key is one too many."""
    try:
        return rec.read_lease_run(key, value or b"")
    except rec.Damaged as error:
        raise Broken("lease", key) from error


def read_standing(database: str, key: bytes, value: bytes) -> rec.Standing:
    """Return the value behind a scheduled or ended key. Raises Broken."""
    try:
        return rec.read_standing(key, value)
    except rec.Damaged as error:
        raise Broken(database, key) from error


def read_lane_standing(key: bytes, value: bytes) -> rec.LaneStanding:
    """Return the value behind a lane key. Raises Broken."""
    try:
        return rec.read_lane_standing(key, value)
    except rec.Damaged as error:
        raise Broken("lane", key) from error


def read_exposure(key: bytes, value: bytes) -> int:
    """Return the number of the lane that an exposure is of. Raises Broken."""
    try:
        return rec.read_number(value)
    except rec.Damaged as error:
        raise Broken("lane", key) from error


def read_slot(key: bytes, value: bytes) -> rec.Slot:
    """Return a dedupe slot. Raises Broken."""
    try:
        return rec.read_slot(value)
    except rec.Damaged as error:
        raise Broken("dedupe", key) from error


def read_memo(key: bytes, value: bytes) -> rec.Memo:
    """Return what was answered. Raises Broken."""
    try:
        return rec.read_memo(value)
    except rec.Damaged as error:
        raise Broken("memo", key) from error


class Rows:
    """The keys of one transaction, or of a child of it."""

    def __init__(self, databases: dict[str, lmdb._Database], txn: lmdb.Transaction) -> None:
        self.db = databases
        self.txn = txn
        self.wrote = False  # whether anything was put or deleted: else the transaction is aborted, and costs no sync
        self._kept: dict[str, Any] = {}  # a cursor for each database: a key near the last one costs it half a descent

    def get(self, database: str, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is none."""
        cursor = self._kept.get(database) or self._keep(database)
        value: bytes | None = cursor.get(key)
        return value

    def put(self, database: str, key: bytes, value: bytes = b"") -> None:
        """Write a key, new or not."""
        self.wrote = True
        cursor = self._kept.get(database) or self._keep(database)
        cursor.put(key, value)

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key; False if there was none."""
        self.wrote = True
        cursor = self._kept.get(database) or self._keep(database)
        found: bool = cursor.set_key(key) and cursor.delete()
        return found

    def first_from(self, database: str, key: bytes) -> tuple[bytes, bytes] | None:
        """Return the first key at or behind ``key``, and its value; None if there is none."""
        cursor = self._kept.get(database) or self._keep(database)
        found: tuple[bytes, bytes] | None = cursor.item() if cursor.set_range(key) else None
        return found

    def last_before(self, database: str, key: bytes) -> tuple[bytes, bytes] | None:
        """Return the last key before ``key``, and its value; None if there is none."""
        cursor = self._kept.get(database) or self._keep(database)
        is_there = cursor.prev() if cursor.set_range(key) else cursor.last()
        found: tuple[bytes, bytes] | None = cursor.item() if is_there else None
        return found

    def any_task(self, first_id: int, last_id: int) -> bool:
        """Whether a task of ``first_id`` .. ``last_id`` is stored."""
        if first_id > last_id:
            return False
        cursor = self._kept.get("task") or self._keep("task")
        found: bool = cursor.set_range(ks.task(first_id)) and cursor.key() <= ks.task(last_id)
        return found

    def stored_ids(self, first_id: int, last_id: int) -> list[int]:
        """Return the tasks of ``first_id`` .. ``last_id`` that are stored."""
        cursor = self.cursor("task")
        if not cursor.set_range(ks.task(first_id)):
            return []
        return [ks.read_id(key) for key in takewhile(ks.task(last_id).__ge__, cursor.iternext(values=False))]

    def _keep(self, database: str) -> Any:
        cursor = self._kept[database] = self.cursor(database)
        return cursor

    def delete_between(self, database: str, first: bytes, last: bytes) -> None:
        """Remove every key from ``first`` to ``last``, both included; half the time of as many ``delete``."""
        self.wrote = True
        cursor = self.cursor(database)
        if cursor.set_range(first):
            while cursor.key() <= last and cursor.delete():  # which moves on to the next key
                pass

    def delete_each(self, database: str, keys: Iterable[bytes]) -> None:
        """Remove those of rising ``keys`` that there are; among neighbours in half the time of ``delete``."""
        self.wrote = True
        cursor = self.cursor(database)
        for key in keys:
            if cursor.key() == key or cursor.set_key(key):
                cursor.delete()  # which moves on to the next key

    def put_each(self, database: str, items: list[tuple[bytes, bytes]]) -> None:
        """Write many keys, new or not, in one call: a third of the time of as many ``put`` if they rise."""
        self.wrote = True
        self.cursor(database).putmulti(items)

    def append_tasks(self, items: list[tuple[bytes, bytes]]) -> None:
        """Append new task records; their ids rise, and are higher than any stored."""
        self.wrote = True
        _, added = self.txn.cursor(db=self.db["task"]).putmulti(items, append=True)
        if added != len(items):
            raise rec.Damaged(
                f"the task table holds an id above {ks.read_id(items[added][0]) - 1}, which was never given"
            )

    def cursor(self, database: str) -> Any:
        """Return a new cursor of this transaction (it answers bytes, which py-lmdb's types do not say)."""
        return self.txn.cursor(db=self.db[database])

    def of(self, database: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values of ``database`` that begin with ``prefix``; nothing may be written meanwhile."""
        cursor = self.cursor(database)
        if cursor.set_range(prefix):
            for key, value in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield key, value
