"""One write transaction at work: its time, its names and numbers, its counts.

Everything an op reads or writes goes through a ``Work``. Names (queues, types) are looked up once per transaction.
Counts, totals and the sequence are kept here in memory, changed as ops run, and written once by ``flush``, so that a
transaction of a thousand tasks puts one tally and not a thousand.

A call that must be able to fail alone runs in a *child* (``fork``): a nested LMDB transaction with a copy of the names
and counts; ``adopt`` takes over what it did, dropping it forgets it whole. The trap: a cursor of the parent must not be
used while a child is open, so cursors are opened where they are used.
"""

from __future__ import annotations

from typing import Any, cast

import lmdb

from lmdbq.clock import Now
from lmdbq.model import DEFAULT_SETTINGS, QueueSettings, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.environment import Environment
from lmdbq.store.side import Side


class Queue:
    """A live queue: its number, name and settings, as this transaction sees them. Never changed: replaced."""

    __slots__ = ("created_at", "name", "no", "settings")

    def __init__(self, no: int, name: str, created_at: int, settings: QueueSettings) -> None:
        self.no = no
        self.name = name
        self.created_at = created_at
        self.settings = settings


TOTAL_INDEX = {field: index for index, field in enumerate(rec.TOTALS_ORDER)}


class Work:
    """The state of one write transaction (or of a child of it)."""

    def __init__(self, shared: Environment, txn: lmdb.Transaction, now: Now, meta: rec.Meta, side: Side) -> None:
        self.shared = shared
        self.db = shared.databases
        self.txn = txn
        self.now = now
        self.meta = meta
        self.side = side
        self.stirred: set[str] = set()
        self.wrote = False  # whether anything was put or deleted: else the transaction is aborted, and costs no sync
        self._numbers = rec.read_sequence(self.get("count", ks.SEQUENCE) or b"")
        self._first_numbers = self._numbers
        self._queues: dict[str, Queue | None] = {}
        self._queues_by_no: dict[int, Queue | None] = {}
        self._types: dict[str, int] = {}
        self._type_names: dict[int, str] = {}
        self._tallies: dict[tuple[int, int], list[int]] = {}
        self._whole_queues: set[int] = set()  # queues all of whose tallies are in _tallies
        self._totals: dict[int, list[int]] = {}
        self._dirty: set[tuple[int, int]] = set()
        self._has_history = bool(txn.stat(self.db["history"])["entries"])
        self._has_extensions = not side.is_empty()
        self.extensions: dict[int, rec.Extension | None] = {}  # to be written to the side file; None removes

    # --- children ---

    def fork(self, child: lmdb.Transaction) -> Work:
        """Return the work of ``child``, a nested transaction: a copy of everything kept in memory here."""
        other = object.__new__(Work)
        other.__dict__.update(self.__dict__)
        other.txn = child
        other.stirred = set(self.stirred)
        other._queues = dict(self._queues)
        other._queues_by_no = dict(self._queues_by_no)
        other._types = dict(self._types)
        other._type_names = dict(self._type_names)
        other._tallies = {key: list(tally) for key, tally in self._tallies.items()}
        other._whole_queues = set(self._whole_queues)
        other._totals = {key: list(totals) for key, totals in self._totals.items()}
        other._dirty = set(self._dirty)
        other.extensions = dict(self.extensions)
        return other

    def adopt(self, child: Work) -> None:
        """Take over what a committed child kept in memory."""
        txn = self.txn
        self.__dict__.update(child.__dict__)
        self.txn = txn

    # --- reading and writing ---

    def get(self, database: str, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is none."""
        value: Any = self.txn.get(key, db=self.db[database])
        return cast("bytes | None", value)

    def put(self, database: str, key: bytes, value: bytes = b"") -> None:
        """Write a key, new or not."""
        self.wrote = True
        self.txn.put(key, value, db=self.db[database])

    def delete(self, database: str, key: bytes) -> bool:
        """Remove a key; False if there was none."""
        self.wrote = True
        found: bool = self.txn.delete(key, db=self.db[database])
        return found

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

    def get_history(self, task_id: int) -> rec.History | None:
        """Return a task's history, None if it has none. Raises Damaged."""
        if not self._has_history:
            return None
        value = self.get("history", ks.history(task_id))
        return None if value is None else rec.read_history(value)

    def has_history(self, task_id: int) -> bool:
        """Whether a task has a history."""
        return self._has_history and self.get("history", ks.history(task_id)) is not None

    def put_history(self, task_id: int, history: rec.History) -> None:
        """Write a task's history."""
        self._has_history = True
        self.put("history", ks.history(task_id), rec.write_history(history))

    def delete_history(self, task_id: int) -> None:
        """Remove a task's history, if it has one."""
        if self._has_history:
            self.delete("history", ks.history(task_id))

    def get_extension(self, task_id: int, delivery: int, boot_no: int) -> rec.Extension | None:
        """Return where heartbeats moved the lease of one delivery to, None if nowhere in this boot."""
        if task_id in self.extensions:
            extension = self.extensions[task_id]
        elif self._has_extensions:
            extension = self.side.get(task_id)
        else:
            return None
        if extension is None or (extension.delivery, extension.boot_no) != (delivery, boot_no):
            return None
        return extension

    def forget_extension(self, task_id: int) -> None:
        """Remove a task's extension, if it has one."""
        if self._has_extensions or task_id in self.extensions:
            self.extensions[task_id] = None

    @property
    def has_extensions(self) -> bool:
        """Whether any lease may have been extended."""
        return self._has_extensions or bool(self.extensions)

    # --- numbers ---

    @property
    def last_id(self) -> int:
        """The last id given, also to calls of this transaction."""
        return self._numbers.last_id

    def take_ids(self, first: int, length: int) -> None:
        """Note that ``first`` .. ``first + length - 1`` were given."""
        self._numbers = self._numbers._replace(last_id=first + length - 1)

    def _take_queue_no(self) -> int:
        self._numbers = self._numbers._replace(last_queue_no=self._numbers.last_queue_no + 1)
        return self._numbers.last_queue_no

    # --- queues ---

    def queue(self, name: str) -> Queue | None:
        """Return the live queue of that name."""
        if name in self._queues:
            return self._queues[name]
        value = self.get("catalog", ks.queue_by_name(name))
        found = None
        if value is not None:
            record = rec.read_queue(value)
            found = Queue(record.no, name, record.created_at, record.settings)
            self._queues_by_no[found.no] = found
        self._queues[name] = found
        return found

    def queue_of(self, queue_no: int) -> Queue | None:
        """Return the live queue of that number; None for a grave."""
        if queue_no in self._queues_by_no:
            return self._queues_by_no[queue_no]
        value = self.get("catalog", ks.queue_by_no(queue_no))
        found = None if value is None else self.queue(rec.read_name(value))
        self._queues_by_no[queue_no] = found
        return found

    def all_queues(self) -> list[Queue]:
        """Return every live queue, by name."""
        cursor = self.cursor("catalog")
        names: list[str] = []
        found = cursor.set_range(b"Q")
        while found and cursor.key()[:1] == b"Q":
            names.append(ks.read_name(cursor.key()))
            found = cursor.next()
        return [queue for name in names if (queue := self.queue(name)) is not None]

    def create_queue(self, name: str, settings: QueueSettings = DEFAULT_SETTINGS) -> Queue:
        """Make a queue and return it."""
        queue = Queue(self._take_queue_no(), name, self.now.wall, settings)
        self.save_queue(queue)
        self._totals[queue.no] = [0] * len(rec.TOTALS_ORDER)
        self._dirty.add((queue.no, 0))
        self._whole_queues.add(queue.no)
        return queue

    def save_queue(self, queue: Queue) -> None:
        """Write a queue's record, under its name and its number."""
        self._queues[queue.name] = queue
        self._queues_by_no[queue.no] = queue
        record = rec.QueueRecord(queue.no, queue.created_at, queue.settings)
        self.put("catalog", ks.queue_by_name(queue.name), rec.write_map(record))
        self.put("catalog", ks.queue_by_no(queue.no), rec.write_name(queue.name))

    def bury(self, queue: Queue, *, keep_name: bool) -> int:
        """Take a queue's number away, with all its tasks; return how many they were. The name may get a new number."""
        tallies = self.queue_tallies(queue.no)
        removed = sum(sum(tally) for tally in tallies.values())
        totals = self.totals(queue.no)
        totals[TOTAL_INDEX["deleted"]] += removed
        for type_no in tallies:
            self._tallies[(queue.no, type_no)] = [0] * len(State)
            self._dirty.add((queue.no, type_no))
        self._totals.pop(queue.no)
        self._dirty.discard((queue.no, 0))
        self.delete("count", ks.count(queue.no, 0))
        self.delete("catalog", ks.queue_by_no(queue.no))
        self.put("catalog", ks.grave(queue.no), rec.write_map(rec.Grave(queue.name, self.now.wall)))
        self._queues_by_no[queue.no] = None
        if keep_name:
            heir = Queue(self._take_queue_no(), queue.name, queue.created_at, queue.settings)
            self.save_queue(heir)
            self._totals[heir.no] = totals
            self._dirty.add((heir.no, 0))
        else:
            self.delete("catalog", ks.queue_by_name(queue.name))
            self._queues[queue.name] = None
        return removed

    # --- types ---

    def type_no(self, name: str) -> int:
        """Return a type's number, 0 if the name has none."""
        number = self._types.get(name, 0)
        if not number:
            value = self.get("catalog", ks.type_by_name(name))
            if value is not None:
                number = rec.read_number(value)
                self._types[name] = number
        return number

    def create_type(self, name: str) -> int:
        """Return a type's number, giving it one if it has none."""
        number = self.type_no(name)
        if not number:
            number = self._numbers.last_type_no + 1
            self._numbers = self._numbers._replace(last_type_no=number)
            self.put("catalog", ks.type_by_name(name), rec.write_number(number))
            self.put("catalog", ks.type_by_no(number), rec.write_name(name))
            self._types[name] = number
        return number

    def type_name(self, type_no: int) -> str:
        """Return the name of a type's number."""
        name = self._type_names.get(type_no)
        if name is None:
            value = self.get("catalog", ks.type_by_no(type_no))
            if value is None:
                raise rec.Damaged(f"type number {type_no} has no name")
            name = rec.read_name(value)
            self._type_names[type_no] = name
        return name

    # --- counts ---

    def tally(self, queue_no: int, type_no: int) -> list[int]:
        """Return the counts by state of a type in a queue; do not change them, call ``count``."""
        key = (queue_no, type_no)
        known = self._tallies.get(key)
        if known is None:
            value = None if queue_no in self._whole_queues else self.get("count", ks.count(queue_no, type_no))
            known = [0] * len(State) if value is None else rec.read_tally(value)
            self._tallies[key] = known
        return known

    def queue_tallies(self, queue_no: int) -> dict[int, list[int]]:
        """Return the counts by state of every type with stored tasks in a queue."""
        if queue_no not in self._whole_queues:
            cursor = self.cursor("count")
            found = cursor.set_range(ks.count(queue_no, 1))
            while found:
                key = ks.read_count(cursor.key())
                if key[0] != queue_no:
                    break
                if key not in self._tallies:
                    self._tallies[key] = rec.read_tally(cursor.value())
                found = cursor.next()
            self._whole_queues.add(queue_no)
        return {
            type_no: tally for (number, type_no), tally in self._tallies.items() if number == queue_no and any(tally)
        }

    def count(
        self, queue_no: int, type_no: int, leaves: State | None = None, enters: State | None = None, length: int = 1
    ) -> None:
        """Move ``length`` tasks of a type from one state to another; None is outside the store."""
        tally = self.tally(queue_no, type_no)
        if leaves is not None:
            tally[leaves] -= length
        if enters is not None:
            tally[enters] += length
        self._dirty.add((queue_no, type_no))

    def in_state(self, queue_no: int, state: State) -> int:
        """Return how many tasks of a queue are in a state."""
        return sum(tally[state] for tally in self.queue_tallies(queue_no).values())

    def totals(self, queue_no: int) -> list[int]:
        """Return a live queue's totals; do not change them, call ``total``."""
        known = self._totals.get(queue_no)
        if known is None:
            value = self.get("count", ks.count(queue_no, 0))
            known = [0] * len(rec.TOTALS_ORDER) if value is None else rec.read_totals(value)
            self._totals[queue_no] = known
        return known

    def total(self, queue_no: int, field: str, length: int = 1) -> None:
        """Add to one of a queue's totals (a field of model.Totals)."""
        self.totals(queue_no)[TOTAL_INDEX[field]] += length
        self._dirty.add((queue_no, 0))

    def flush(self) -> None:
        """Write the counts, totals and numbers that changed."""
        for queue_no, type_no in sorted(self._dirty):
            key = ks.count(queue_no, type_no)
            if not type_no:
                self.put("count", key, rec.write_totals(self._totals[queue_no]))
            elif any(tally := self._tallies[(queue_no, type_no)]):
                self.put("count", key, rec.write_tally(tally))
            else:
                self.delete("count", key)
        self._dirty.clear()
        if self._numbers != self._first_numbers:
            self.put("count", ks.SEQUENCE, rec.write_sequence(self._numbers))
            self._first_numbers = self._numbers
