"""One write transaction at work: its time, its names and numbers, its counts.

Everything an op reads or writes goes through a ``Work``: keys (``lmdb_rows``), counts (``lmdb_counts``), histories
(``lmdb_histories``), lanes (``lmdb_lanes``), sets (``lmdb_sets``), and here names. Names (queues, types) are looked up
once per transaction; one whose record is damaged is made anew.

A call that must be able to fail alone runs in a *child* (``fork``): a nested LMDB transaction with a copy of the names
and counts; ``adopt`` takes over what it did, dropping it forgets it whole. The trap: a cursor of the parent must not be
used while a child is open, so none is kept across its begin and end.
"""

from __future__ import annotations

import contextlib
import logging

import lmdb

from lmdbq import limits
from lmdbq.clock import Now
from lmdbq.model import DEFAULT_SETTINGS, Entry, Options, QueueSettings, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.environment import Environment
from lmdbq.store.lmdb_counts import TOTAL_INDEX
from lmdbq.store.lmdb_histories import Histories
from lmdbq.store.lmdb_lanes import Lanes
from lmdbq.store.lmdb_queue import Queue as Queue
from lmdbq.store.lmdb_sets import Sets
from lmdbq.store.side import Side

_log = logging.getLogger(__name__)


class Work(Histories):
    """The state of one write transaction (or of a child of it), or of a read."""

    def __init__(
        self, shared: Environment, txn: lmdb.Transaction, now: Now, meta: rec.Meta, side: Side, *, writing: bool
    ) -> None:
        super().__init__(shared.databases, txn, side, writing=writing)
        self.shared = shared
        self.now = now
        self.meta = meta
        self.stirred: set[str] = set()
        self._queues: dict[str, Queue | None] = {}
        self._queues_by_no: dict[int, Queue | None] = {}
        self._types: dict[str, int] = {}
        self.rules: dict[tuple[Queue | None, int], QueueSettings] = {}  # see lmdb_types
        self.any_types: bool | None = None
        self._type_names: dict[int, str] = {}
        self._lanes: Lanes | None = None
        self._sets: Sets | None = None
        self.made_set = 0  # the set that the call under way has made last
        self.spawned: list[Entry] = []  # to be enqueued when the op under way is through

    # --- children ---

    def fork(self, child: lmdb.Transaction) -> Work:
        """Return the work of ``child``, a nested transaction: a copy of everything kept in memory here."""
        other = object.__new__(Work)
        other.__dict__.update(self.__dict__)
        other.txn, other._kept = child, {}
        other.stirred = set(self.stirred)
        other._queues = dict(self._queues)
        other._queues_by_no = dict(self._queues_by_no)
        other._types = dict(self._types)
        other._type_names = dict(self._type_names)
        self.fork_counts(other)
        other.extensions = dict(self.extensions)
        other.spawned = list(self.spawned)
        other._lanes = self._lanes and self._lanes.fork(other)
        other._sets = self._sets and self._sets.fork(other)
        return other

    def adopt(self, child: Work) -> None:
        """Take over what a committed child kept in memory."""
        txn = self.txn
        self.__dict__.update(child.__dict__)
        self.txn, self._kept = txn, {}
        self._lanes = self._lanes and self._lanes.adopted(self)
        self._sets = self._sets and self._sets.fork(self)

    # --- lanes and sets ---

    @property
    def lanes(self) -> Lanes:
        """The threads and groups of this transaction."""
        if self._lanes is None:
            self._lanes = Lanes(self)
        return self._lanes

    def any_lanes(self) -> bool:
        """Whether any task is ready in a lane; what was learned about lanes is brought into the index first."""
        if self._lanes is not None:
            self._lanes.sync()
        return bool(self.txn.stat(self.db["lane"])["entries"])

    @property
    def sets(self) -> Sets:
        """The sets of this transaction."""
        if self._sets is None:
            self._sets = Sets(self)
        return self._sets

    def sets_left(self, options: Options, how: str) -> None:
        """Note that a task which had not ended is over; how: one of sets.COUNTED."""
        if options.set_id:
            self.sets.left(options.set_id, how)

    def settle_sets(self) -> None:
        """Decide the sets that can be decided since the op that has just run; what follows them is spawned."""
        if self._sets is not None:
            self._sets.settle()

    @property
    def boot_start(self) -> int:
        """Steady time of the first write of this boot."""
        return self.meta.boot_steady if self.meta.boot_no == self.now.boot_no else self.now.steady

    def flush(self) -> None:
        """Write what was kept in memory and has changed."""
        if self._lanes is not None:
            self._lanes.give_turns()
            self._lanes.flush()
        if self._sets is not None:
            self._sets.flush()
        super().flush()

    # --- queues ---

    def queue(self, name: str) -> Queue | None:
        """Return the live queue of that name."""
        if name in self._queues:
            return self._queues[name]
        value = self.get("catalog", ks.queue_by_name(name))
        found = None
        if value is not None:
            try:
                record = rec.read_queue(value)
                found = Queue(record.no, name, record.created_at, record.settings)
            except rec.Damaged as error:
                found = self._queue_anew(name, error)
            self._queues_by_no[found.no] = found
        self._queues[name] = found
        return found

    def _queue_anew(self, name: str, error: rec.Damaged) -> Queue:
        """Return a queue whose record is damaged, its settings as if none had been made."""
        for key, value in self.of("catalog", b"q"):
            if value == rec.write_name(name):
                _log.error("queue %r begins again with default settings, its own are lost: %s", name, error)
                queue = Queue(ks.read_number(key), name, self.now.wall, DEFAULT_SETTINGS)
                if self.writing:
                    self.save_queue(queue)
                return queue
        raise rec.Damaged(f"queue {name!r} has lost its number: {error}")

    def queue_of(self, queue_no: int) -> Queue | None:
        """Return the live queue of that number; None for a grave."""
        if queue_no in self._queues_by_no:
            return self._queues_by_no[queue_no]
        value = self.get("catalog", ks.queue_by_no(queue_no))
        found = None if value is None else self.queue(self._queue_name(queue_no, value))
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

    def queues_of(self, parent: str) -> list[Queue]:
        """Return the live queues whose name begins with that of a parent and a dot, by name."""
        if not parent or len(parent.encode()) + 2 > limits.NAME_BYTES_MAX:
            return []
        prefix = ks.queue_by_name(parent + ".")
        found = self.first_from("catalog", prefix)
        if found is None or not found[0].startswith(prefix):  # as for most; a claim asks for each of its queues
            return []
        names = [ks.read_name(key) for key, _ in self.of("catalog", prefix)]
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
            pace = self.get("catalog", ks.pace(queue.no))
            if pace is not None:
                self.put("catalog", ks.pace(heir.no), pace)
            self._totals[heir.no] = totals
            self._dirty.add((heir.no, 0))
        else:
            self.delete("catalog", ks.queue_by_name(queue.name))
            self._queues[queue.name] = None
        self.delete("catalog", ks.pace(queue.no))
        return removed

    # --- types ---

    def type_no(self, name: str) -> int:
        """Return a type's number, 0 if the name has none."""
        number = self._types.get(name, 0)
        if not number:
            value = self.get("catalog", ks.type_by_name(name))
            if value is not None:
                number = self._type_number(name, value)
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
            name = self._type_name(type_no, value)
            self._type_names[type_no] = name
        return name

    # --- damaged names ---

    def _queue_name(self, queue_no: int, value: bytes) -> str:
        """Return the name of a queue's number; if it is damaged, the one that points at the number."""
        try:
            return rec.read_name(value)
        except rec.Damaged:
            for key, record in self.of("catalog", b"Q"):
                with contextlib.suppress(rec.Damaged):
                    if rec.read_queue(record).no == queue_no:
                        self._mend_name(ks.queue_by_no(queue_no), ks.read_name(key))
                        return ks.read_name(key)
            raise

    def _type_name(self, type_no: int, value: bytes) -> str:
        """Return the name of a type's number; if it is damaged, the one that points at the number."""
        try:
            return rec.read_name(value)
        except rec.Damaged:
            for key, number in self.of("catalog", b"T"):
                if number == rec.write_number(type_no):
                    self._mend_name(ks.type_by_no(type_no), ks.read_name(key))
                    return ks.read_name(key)
            raise

    def _mend_name(self, key: bytes, name: str) -> None:
        if self.writing:
            self.put("catalog", key, rec.write_name(name))

    def _type_number(self, name: str, value: bytes) -> int:
        """Return the number of a type; if it is damaged, that which points at the name."""
        try:
            return rec.read_number(value)
        except rec.Damaged:
            for key, named in self.of("catalog", b"t"):
                if named == rec.write_name(name):
                    if self.writing:
                        self.put("catalog", ks.type_by_name(name), rec.write_number(ks.read_number(key)))
                    return ks.read_number(key)
            raise
