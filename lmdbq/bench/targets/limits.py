"""The limits: LMDB by hand (``raw``), and the daemon's own server that decodes a request and does nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from lmdbq.bench import inputs
from lmdbq.bench.inputs import JSON, Batch
from lmdbq.bench.processes import serving
from lmdbq.bench.raw import RawQueue
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.http import HttpSession
from lmdbq.bench.targets.inprocess import InProcess, PlainVerbs
from lmdbq.bench.workloads import DRAIN, ENQUEUE, LIFE, RANDOM_ORDER, Workload


class _Verbs(PlainVerbs):
    def __init__(self, queue: RawQueue) -> None:
        self._queue = queue

    def enqueue(self, batch: Batch) -> None:
        self._queue.enqueue(batch.payloads, batch.priorities, [key.encode("ascii") for key in batch.keys])

    def claim(self, limit: int) -> list[bytes]:
        return self._queue.claim(limit)

    def report(self, claimed: list[bytes]) -> None:
        self._queue.report(claimed)

    def count(self) -> int:
        return self._queue.count()


class RawTarget:
    """The reference script."""

    kinds: tuple[str, ...] = (ENQUEUE, LIFE, DRAIN)
    layout = "raw"
    features = frozenset({"backlog", "keys", "priorities", RANDOM_ORDER})

    def __init__(self, name: str, *, sync: bool) -> None:
        self.name = name
        self.durability = "synced" if sync else "none"
        self._sync = sync

    def absent(self) -> str:
        return ""

    def fill(self, directory: Path, workload: Workload) -> None:
        with closing(RawQueue(directory, sync=False)) as queue:
            for batch in inputs.backlog(workload):
                _Verbs(queue).enqueue(batch)
            queue.env.sync(True)

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        queue = RawQueue(directory, sync=self._sync)
        try:
            yield InProcess(_Verbs(queue))
        finally:
            queue.close()


class NoOpTarget:
    """An aiohttp application with the daemon's middleware, which decodes and answers at once."""

    name = "no-op aiohttp"
    durability = "none"
    kinds: tuple[str, ...] = (ENQUEUE,)

    def absent(self) -> str:
        return ""

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        with serving([sys.executable, "-m", "lmdbq.bench.noop_server"], directory) as (pid, port):
            yield HttpSession(directory, pid, port, JSON, keeps=False)


TARGETS: Final = (RawTarget("raw py-lmdb", sync=True), RawTarget("raw py-lmdb, unsynced", sync=False), NoOpTarget())
