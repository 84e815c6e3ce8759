"""The checker keeps a few bytes of each task, so that files of many millions can be checked on small machines."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

from lmdbq.clock import ManualClock
from lmdbq.model import Completion, Report, Status
from tests.store_driver import Driver, S, entry
from tests.store_factories import FACTORIES

BYTES_MAX = 200
KINDS: tuple[dict[str, Any], ...] = ({}, {"delay_ns": 9 * S}, {"group": "g"}, {"expires_in_ns": 9 * S})


def test_the_checker_keeps_less_of_a_task_than_its_record(tmp_path: Path):
    q = Driver(FACTORIES["lmdb"](tmp_path / "store"), ManualClock())
    for kind in KINDS:
        q.enqueue(*(entry(payload=b"{}" * 20, **kind) for _ in range(2_000)))
    died = [Completion(task.id, task.deliveries, Status.FAILED, retry=False) for task in q.claim(limit=1_000).tasks]
    q.do(Report(died))
    assert q.store.check() == []  # what is loaded at the first use does not count

    tracemalloc.start()
    try:
        assert q.store.check() == []
        assert tracemalloc.get_traced_memory()[1] / (2_000 * len(KINDS)) < BYTES_MAX
    finally:
        tracemalloc.stop()
        q.store.close()
