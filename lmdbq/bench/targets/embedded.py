"""The library in this process: the store's own ``apply``, one call per transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.bench import inputs
from lmdbq.bench.inputs import QUEUE, Batch
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.inprocess import InProcess
from lmdbq.bench.workloads import DRAIN, ENQUEUE, EXPIRES, FAILS_ONCE, LIFE, RANDOM_ORDER, Workload
from lmdbq.clock import SystemClock
from lmdbq.limits import SECOND_NS
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
    ErrorInfo,
    Expire,
    Filter,
    Op,
    OpOutcome,
    Options,
    Report,
    Status,
    Swept,
    UniformEntries,
)
from lmdbq.store.lmdb import LmdbStore, open_store

LAYOUT: Final = "lmdbq"
DATA: Final = "data"  # in the directory of a target, beside the log of a daemon
FEATURES: Final = frozenset({"backlog", "keys", "priorities", "scheduled", FAILS_ONCE, RANDOM_ORDER, EXPIRES})
_HOUR_NS: Final = 3_600 * SECOND_NS
_ERROR: Final = ErrorInfo("the host did not answer", "TimeoutError")


class _Verbs:
    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._clock = SystemClock()

    def _apply(self, op: Op) -> OpOutcome:
        outcome = self._store.apply([Call((op,))], self._clock).outcomes[0]
        assert isinstance(outcome, Done), outcome
        return outcome.outcomes[0]

    def ready(self, batch: Batch) -> Batch:
        return batch

    def enqueue(self, batch: Batch) -> None:
        self._apply(Enqueue(_entries(batch)))

    def claim(self, limit: int) -> list[ClaimedTask]:
        claimed = self._apply(Claim((QUEUE,), limit=limit))
        assert isinstance(claimed, Claimed)
        return claimed.tasks

    def report(self, claimed: list[ClaimedTask]) -> None:
        succeeded = Status.SUCCEEDED
        self._apply(Report([Completion(task.id, task.deliveries, succeeded) for task in claimed]))

    def report_half_failed(self, claimed: list[ClaimedTask]) -> int:
        completions = [
            Completion(task.id, task.deliveries, Status.FAILED, error=_ERROR, delay_ns=0)
            if task.deliveries == 1 and index % 2
            else Completion(task.id, task.deliveries, Status.SUCCEEDED)
            for index, task in enumerate(claimed)
        ]
        self._apply(Report(completions))
        return sum(one.status is Status.FAILED for one in completions)

    def enqueue_half_short(self, batch: Batch, seconds: float) -> None:
        lives_ns = (int(seconds * SECOND_NS), _HOUR_NS)
        self._apply(
            Enqueue(
                [Entry(payload, QUEUE, expires_in_ns=lives_ns[at % 2]) for at, payload in enumerate(batch.payloads)]
            )
        )

    def expire(self) -> None:
        while True:
            swept = self._apply(Expire())
            assert isinstance(swept, Swept)
            if not swept.more:
                return

    def count(self) -> int:
        return self._store.count(Filter())


def _entries(batch: Batch) -> Sequence[Entry]:
    """Return a batch as the client and the daemon give it to the store: as lists, if nothing else differs."""
    if not batch.priorities and not batch.delays and all(batch.keys):
        return UniformEntries(batch.payloads, QUEUE, keys=batch.keys)
    priorities = batch.priorities or [0] * len(batch.payloads)
    delays = batch.delays or [0] * len(batch.payloads)
    options = [Options(dedupe=Dedupe(key)) if key else PLAIN for key in batch.keys] or [PLAIN] * len(batch.payloads)
    return [
        Entry(payload, QUEUE, priority=priority, delay_ns=delay * SECOND_NS, options=said)
        for payload, priority, delay, said in zip(batch.payloads, priorities, delays, options, strict=True)
    ]


class EmbeddedTarget:
    """lmdbq as a library."""

    kinds: tuple[str, ...] = (ENQUEUE, LIFE, DRAIN)
    layout = LAYOUT
    features = FEATURES

    def __init__(self, name: str, durability: str) -> None:
        self.name = name
        self.durability = durability

    def absent(self) -> str:
        return ""

    def fill(self, directory: Path, workload: Workload) -> None:
        fill(directory, workload)

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        store = open_store(directory / DATA, durability=self.durability)
        try:
            yield InProcess(_Verbs(store))
        finally:
            store.close()


def fill(directory: Path, workload: Workload) -> None:
    """Put a backlog into a directory of lmdbq's."""
    store = open_store(directory / DATA, durability="batch")
    try:
        verbs = _Verbs(store)
        for batch in inputs.backlog(workload):
            verbs.enqueue(batch)
    finally:
        store.close()


TARGETS: Final = (EmbeddedTarget("embedded", "full"), EmbeddedTarget("embedded, batch", "batch"))
