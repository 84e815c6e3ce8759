"""The reference: what a program can do that writes straight to LMDB, through py-lmdb, and is nothing but fast.

This script is the denominator of the harness, so it is kept as it is; who changes it measures everything again. It
stores a record (appended), one ready key per task and a sequence, and builds keys and values from payloads inside the
clock. For a whole life it moves each task from its ready key to a lease key and then removes lease and record. With
dedupe keys it also keeps an index from key to id, asks that index, and frees a key, which stands in the record, when
its task is removed. One call is one transaction, synced by default.

The trap: it does less than a queue. It checks no values, counts nothing, knows neither deadlines nor retries, and
keeps no checksums. It is a limit, not a competitor. ``python -m lmdbq.bench.raw`` runs it alone.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

# As many bytes as the queue writes in front of a payload, and between queue and id in a ready key.
RECORD_HEAD = bytes(45)
READY_HEAD = bytes(8)
_U64 = struct.Struct(">Q")
_READY = struct.Struct(">8sHQQ")  # queue and type, priority, rank, id
_KEY_HEAD = struct.Struct(">H")  # the length of a key, between the head of a record and its payload
_SEQUENCE = b"sequence"
_MAP_BYTES = 1 << 40


class RawQueue:
    """Tasks in an LMDB file, by hand. Not for use: see the module's text."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.env = lmdb.open(str(directory), map_size=_MAP_BYTES, max_dbs=5, sync=sync, lib_version=0)
        self.records, self.ready, self.leases, self.meta, self.keys = (
            self.env.open_db(name) for name in (b"record", b"ready", b"lease", b"meta", b"dedupe")
        )

    def close(self) -> None:
        self.env.close()

    def count(self) -> int:
        """Return how many records there are."""
        with self.env.begin() as txn:
            return int(txn.stat(self.records)["entries"])

    def enqueue(self, payloads: Sequence[bytes], priorities: Sequence[int] = (), keys: Sequence[bytes] = ()) -> int:
        """Store tasks in one transaction; return how many were new.

        priorities and keys: one per payload, or none, the same way in every call of a queue. A task whose key is taken,
        by an earlier call or in this one, is left out.
        """
        with self.env.begin(write=True) as txn:
            first = _U64.unpack(txn.get(_SEQUENCE, bytes(8), db=self.meta))[0] + 1
            rank = time.time_ns()
            ids: Sequence[int] = range(first, first + len(payloads))
            last = ids[-1]
            if keys:
                new = self._take_keys(txn, keys, ids)
                if len(new) < len(keys):
                    payloads = [payloads[index] for index in new]
                    priorities = [priorities[index] for index in new] if priorities else ()
                    ids = [ids[index] for index in new]
                    keys = [keys[index] for index in new]
                payloads = [_KEY_HEAD.pack(len(key)) + key + said for key, said in zip(keys, payloads, strict=True)]
            packed = [_U64.pack(task_id) for task_id in ids]
            records = [(key, RECORD_HEAD + payload) for key, payload in zip(packed, payloads, strict=True)]
            txn.cursor(self.records).putmulti(records, append=True)
            ready = txn.cursor(self.ready)
            if priorities:
                entries = [
                    (_READY.pack(READY_HEAD, priority, rank, task_id), b"")
                    for priority, task_id in zip(priorities, ids, strict=True)
                ]
                entries.sort()
                ready.putmulti(entries)
            else:
                head = _READY.pack(READY_HEAD, 0, rank, 0)[:-8]
                ready.putmulti([(head + key, b"") for key in packed], append=True)
            txn.put(_SEQUENCE, _U64.pack(last), db=self.meta)
        return len(payloads)

    def _take_keys(self, txn: Any, keys: Sequence[bytes], ids: Sequence[int]) -> Sequence[int]:
        """Take those keys that are free; return the positions of their tasks. Of equal keys the first wins."""
        index = txn.cursor(self.keys)
        numbered = sorted((key, _U64.pack(task_id)) for key, task_id in zip(keys, ids, strict=True))
        _, added = index.putmulti(numbered, overwrite=False)
        if added == len(keys):
            return range(len(keys))
        return [at for at, key in enumerate(keys) if index.get(key) == _U64.pack(ids[at])]

    def claim(self, limit: int) -> list[bytes]:
        """Move up to ``limit`` tasks from ready to leased, first by priority and age; return their ids, packed."""
        with self.env.begin(write=True) as txn:
            ready = txn.cursor(self.ready)
            if not ready.first():
                return []
            taken = list(islice(ready.iternext(values=False), limit))
            ready.first()
            for _ in taken:
                ready.delete()
            ids = [key[-8:] for key in taken]
            assert len(txn.cursor(self.records).getmulti(ids)) == len(ids)  # a worker needs the payloads
            lease = _U64.pack(time.monotonic_ns())
            txn.cursor(self.leases).putmulti([(task_id, lease) for task_id in sorted(ids)])
        return ids

    def report(self, ids: Sequence[bytes]) -> None:
        """Remove leased tasks. Raises KeyError for one that is not leased."""
        with self.env.begin(write=True) as txn:
            leases, records = txn.cursor(self.leases), txn.cursor(self.records)
            keyed, taken = txn.stat(self.keys)["entries"] > 0, []
            for task_id in ids:
                if leases.pop(task_id) is None:
                    raise KeyError(task_id)
                record = records.pop(task_id)
                if keyed and record is not None:
                    taken.append(record)
            self._free_keys(txn, taken)

    def _free_keys(self, txn: Any, records: Sequence[bytes]) -> None:
        """Free the keys of removed tasks, all of which have one, in the order of the index."""
        index, start = txn.cursor(self.keys), len(RECORD_HEAD) + _KEY_HEAD.size
        lengths = [_KEY_HEAD.unpack_from(record, len(RECORD_HEAD))[0] for record in records]
        for key in sorted(record[start : start + length] for record, length in zip(records, lengths, strict=True)):
            index.pop(key)


def main(seconds: float = 2.0, batch_len: int = 1_000) -> None:
    """Print the tasks per second of the plain script, and of the whole life."""
    payloads = [b'{"id":%08d,"scenario":"simple","timestamp":1770000000.123}' % number for number in range(batch_len)]
    with tempfile.TemporaryDirectory() as directory:
        queue = RawQueue(Path(directory))
        spent = {"enqueue": 0.0, "claim": 0.0, "report": 0.0}
        tasks = 0
        while sum(spent.values()) < seconds:
            begun = time.perf_counter()
            queue.enqueue(payloads)
            enqueued = time.perf_counter()
            ids = queue.claim(batch_len)
            claimed = time.perf_counter()
            queue.report(ids)
            reported = time.perf_counter()
            for name, length in zip(spent, (enqueued - begun, claimed - enqueued, reported - claimed), strict=True):
                spent[name] += length
            tasks += batch_len
        queue.close()
    rates = "  ".join(f"{name} {tasks / length:,.0f}/s" for name, length in spent.items())
    sys.stdout.write(f"{rates}  whole life {tasks / sum(spent.values()):,.0f}/s  (lmdb {lmdb.version()})\n")


if __name__ == "__main__":
    main()
