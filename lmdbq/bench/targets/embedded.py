"""The library in this process: the store's own ``apply``, one call per transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.bench.inputs import QUEUE, Batch
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.inprocess import InProcess
from lmdbq.bench.workloads import ENQUEUE, LIFE
from lmdbq.clock import SystemClock
from lmdbq.model import (
    PLAIN,
    Call,
    Claim,
    Claimed,
    ClaimedTask,
    Completion,
    Dedupe,
    Done,
    Enqueue,
    Entry,
    Filter,
    Op,
    OpOutcome,
    Options,
    Report,
    Status,
)
from lmdbq.store.lmdb import LmdbStore, open_store


class _Verbs:
    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._clock = SystemClock()

    def _apply(self, op: Op) -> OpOutcome:
        outcome = self._store.apply([Call((op,))], self._clock).outcomes[0]
        assert isinstance(outcome, Done), outcome
        return outcome.outcomes[0]

    def enqueue(self, batch: Batch) -> None:
        if batch.priorities or batch.keys:
            self._apply(Enqueue(_entries(batch)))
        else:
            self._apply(Enqueue([Entry(payload, QUEUE) for payload in batch.payloads]))

    def claim(self, limit: int) -> list[ClaimedTask]:
        claimed = self._apply(Claim((QUEUE,), limit=limit))
        assert isinstance(claimed, Claimed)
        return claimed.tasks

    def report(self, claimed: list[ClaimedTask]) -> None:
        succeeded = Status.SUCCEEDED
        self._apply(Report([Completion(task.id, task.deliveries, succeeded) for task in claimed]))

    def count(self) -> int:
        return self._store.count(Filter())


def _entries(batch: Batch) -> list[Entry]:
    priorities = batch.priorities or [0] * len(batch.payloads)
    options = [Options(dedupe=Dedupe(key)) for key in batch.keys] or [PLAIN] * len(batch.payloads)
    return [
        Entry(payload, QUEUE, priority=priority, options=said)
        for payload, priority, said in zip(batch.payloads, priorities, options, strict=True)
    ]


class EmbeddedTarget:
    """lmdbq as a library."""

    kinds: tuple[str, ...] = (ENQUEUE, LIFE)

    def __init__(self, name: str, durability: str) -> None:
        self.name = name
        self.durability = durability

    def absent(self) -> str:
        return ""

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        store = open_store(directory, durability=self.durability)
        try:
            yield InProcess(_Verbs(store))
        finally:
            store.close()


TARGETS: Final = (EmbeddedTarget("embedded", "full"), EmbeddedTarget("embedded, batch", "batch"))
