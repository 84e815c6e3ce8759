"""What a keyed batch that cannot be written without planning leaves behind: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.model import Call, Dedupe, Enqueue, Entry, Options, UniformEntries
from lmdbq.store.environment import open_environment
from lmdbq.store.lmdb import open_store
from lmdbq.store.lmdb_apply import open_work
from lmdbq.store.lmdb_keyed import write_keyed


@pytest.mark.parametrize("held", ["k100", "k139"])  # of the first slots that are put, and of the others
def test_slots_are_taken_out_again_if_one_of_their_keys_is_held(tmp_path: Path, held: str):
    clock, store = ManualClock(), open_store(tmp_path / "data")
    store.apply([Call((Enqueue((Entry(b"{}", "q", options=Options(dedupe=Dedupe(held))),)),))], clock)
    shared = open_environment(tmp_path / "data", max_bytes=0, metasync=True)
    with shared.env.begin(write=True) as txn:
        work = open_work(shared, txn, clock)
        before = list(work.cursor("dedupe").iternext())
        queue = work.queue("q")
        assert queue is not None
        entries = UniformEntries([b"{}"] * 40, "q", keys=[f"k{number}" for number in range(100, 140)])

        assert not write_keyed(work, queue, work.type_no("default"), work.last_id + 1, entries)

        assert list(work.cursor("dedupe").iternext()) == before
        txn.abort()
    shared.release()
    assert store.check() == []
    store.close()
