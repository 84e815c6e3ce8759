"""Counts, totals and the last numbers given: kept in memory through a transaction, and written once.

A transaction of a thousand tasks puts one tally and not a thousand. What is damaged is made anew: a tally by a recount,
the last numbers from what is stored; totals, which nothing else knows, begin again at zero. The trap: a recount in the
middle of an op would count what the op has moved already. So a damaged tally raises ``Broken`` in a transaction that
writes, and is recounted between calls; a read recounts on the spot.
"""

from __future__ import annotations

import logging

import lmdb

from lmdbq.model import State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_rows import Broken, Rows, read_lane_standing, read_lease_run, read_ready_run, read_standing

TOTAL_INDEX = {field: index for index, field in enumerate(rec.TOTALS_ORDER)}

_log = logging.getLogger(__name__)


class Counts(Rows):
    """The counts of a transaction."""

    def __init__(self, databases: dict[str, lmdb._Database], txn: lmdb.Transaction, *, writing: bool) -> None:
        super().__init__(databases, txn)
        self.writing = writing
        self._sequence = self.get("count", ks.SEQUENCE) or b""
        self._numbers = self._read_numbers(self._sequence)
        self.last_id = self._numbers.last_id  # the last id given, also to calls of this transaction
        self._tallies: dict[tuple[int, int], list[int]] = {}
        self._whole_queues: set[int] = set()  # queues all of whose tallies are in _tallies
        self._totals: dict[int, list[int]] = {}
        self._dirty: set[tuple[int, int]] = set()

    def fork_counts(self, other: Counts) -> None:
        """Give ``other``, which shares everything with this, a copy of what changes."""
        other._tallies = {key: list(tally) for key, tally in self._tallies.items()}
        other._whole_queues = set(self._whole_queues)
        other._totals = {key: list(totals) for key, totals in self._totals.items()}
        other._dirty = set(self._dirty)

    def take_ids(self, first: int, length: int) -> None:
        """Note that ``first`` .. ``first + length - 1`` were given."""
        self.last_id = first + length - 1

    def _take_queue_no(self) -> int:
        self._numbers = self._numbers._replace(last_queue_no=self._numbers.last_queue_no + 1)
        return self._numbers.last_queue_no

    def _read_numbers(self, value: bytes) -> rec.LastNumbers:
        try:
            return rec.read_sequence(value)
        except rec.Damaged as error:
            _log.error("the last numbers given are taken from what is stored: %s", error)
            return self._highest_numbers()

    def _highest_numbers(self) -> rec.LastNumbers:
        """Return the highest numbers that are stored anywhere, as the last ones given."""
        highest = {b"q": 0, b"G": 0, b"t": 0}
        for key in self.cursor("catalog").iternext(values=False):
            if key[:1] in highest:
                highest[key[:1]] = max(highest[key[:1]], ks.read_number(key))
        ids = [
            ks.read_id(cursor.key()) for name in ("task", "quarantine", "set") if (cursor := self.cursor(name)).last()
        ]
        return rec.LastNumbers(max(ids, default=0), max(highest[b"q"], highest[b"G"]), highest[b"t"])

    # --- counts ---

    def tally(self, queue_no: int, type_no: int) -> list[int]:
        """Return the counts by state of a type in a queue; do not change them, call ``count``."""
        key = (queue_no, type_no)
        known = self._tallies.get(key)
        if known is None:
            value = None if queue_no in self._whole_queues else self.get("count", ks.count(queue_no, type_no))
            known = [0] * len(State) if value is None else self._read_tally(queue_no, type_no, value)
            self._tallies[key] = known
        return known

    def _read_tally(self, queue_no: int, type_no: int, value: bytes) -> list[int]:
        try:
            return rec.read_tally(value)
        except rec.Damaged as error:
            if self.writing:
                raise Broken("count", ks.count(queue_no, type_no)) from error
            return self._recounted(queue_no, type_no)

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
                    self._tallies[key] = self._read_tally(*key, cursor.value())
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

    def recount(self, queue_no: int, type_no: int) -> None:
        """Count a type of a queue anew, between calls. Raises Broken if a value that it needs is damaged."""
        self._tallies[(queue_no, type_no)] = self._recounted(queue_no, type_no)
        self._dirty.add((queue_no, type_no))

    def _recounted(self, queue_no: int, type_no: int) -> list[int]:
        tally = [0] * len(State)
        for key, value in self.of("ready", ks.of_ready_list(queue_no, type_no)):
            last_id, length = ks.read_ready(key).last_id, read_ready_run(key, value).length
            tally[State.READY] += len(self.stored_ids(last_id - length + 1, last_id))
        for key, value in self.of("lane", b""):
            parts = ks.read_lane(key)
            if parts.lane_no and parts.queue_no == queue_no:
                tally[State.READY] += read_lane_standing(key, value).type_no == type_no
        for key, value in self.of("lease", b""):
            run = read_lease_run(key, value)
            if (run.queue_no, run.type_no) == (queue_no, type_no):
                last_id = ks.read_id(key)
                tally[State.RUNNING] += len(self.stored_ids(last_id - run.length + 1, last_id))
        for key, value in self.of("scheduled", ks.of_queue(queue_no)):
            tally[State.SCHEDULED] += read_standing("scheduled", key, value).type_no == type_no
        for key, value in self.of("ended", ks.of_queue(queue_no)):
            tally[ks.read_ended(key).state] += read_standing("ended", key, value).type_no == type_no
        return tally

    def totals(self, queue_no: int) -> list[int]:
        """Return a live queue's totals; do not change them, call ``total``."""
        known = self._totals.get(queue_no)
        if known is None:
            value = self.get("count", ks.count(queue_no, 0))
            try:
                known = [0] * len(rec.TOTALS_ORDER) if value is None else rec.read_totals(value)
            except rec.Damaged as error:
                _log.error("the totals of queue %d are lost, and begin again at zero: %s", queue_no, error)
                known = [0] * len(rec.TOTALS_ORDER)
                self._dirty.add((queue_no, 0))
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
        sequence = rec.write_sequence(self._numbers._replace(last_id=self.last_id))
        if sequence != self._sequence:
            self.put("count", ks.SEQUENCE, sequence)
            self._sequence = sequence
