"""What the two in-process targets share: a loop that times calls one by one, and makes the input of each outside of it.

Input is made anew for every call, payload bytes only; keys, values and entries are built from them inside the clock.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any, Final, Protocol

from msgspec import structs

from lmdbq.bench import inputs
from lmdbq.bench.inputs import Batch
from lmdbq.bench.targets.base import RATE, Sample
from lmdbq.bench.workloads import LIFE, Workload

_FILL: Final = 1_000
_POOL: Final = 64


class Verbs(Protocol):
    """The three calls of a task's life; each is one transaction."""

    def enqueue(self, batch: Batch) -> None: ...

    def claim(self, limit: int) -> Any: ...

    def report(self, claimed: Any) -> None: ...

    def count(self) -> int: ...


class InProcess:
    """A session around verbs that run in this process."""

    def __init__(self, verbs: Verbs) -> None:
        self.pids: tuple[int, ...] = (os.getpid(),)
        self._verbs = verbs

    def stored(self) -> int:
        return self._verbs.count()

    def fill(self, workload: Workload) -> None:
        source = inputs.batches(structs.replace(workload, batch=_FILL), seed=99)
        for _ in range(0, workload.backlog, _FILL):
            self._verbs.enqueue(next(source))

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        source = self._source(workload)
        warm, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + warm_seconds:
            self._once(workload, next(source))
            warm += workload.batch
        spent: dict[str, float] = {}
        tasks = 0
        while sum(spent.values()) < seconds:
            for verb, length in self._once(workload, next(source)).items():
                spent[verb] = spent.get(verb, 0.0) + length
            tasks += workload.batch
        values = {RATE: tasks / sum(spent.values())}
        if workload.kind == LIFE:
            values |= {f"{verb}_per_second": tasks / length for verb, length in spent.items()}
        return Sample(values, left=0 if workload.kind == LIFE else warm + tasks)

    @staticmethod
    def _source(workload: Workload) -> Iterator[Batch]:
        """Return batches without end: always new where keys must differ, else a few again and again."""
        source = inputs.batches(workload)
        if workload.keys:
            return source
        return itertools.cycle([next(source) for _ in range(_POOL)])

    def _once(self, workload: Workload, batch: Batch) -> dict[str, float]:
        verbs = self._verbs
        begun = time.perf_counter()
        verbs.enqueue(batch)
        enqueued = time.perf_counter()
        if workload.kind != LIFE:
            return {"enqueue": enqueued - begun}
        claimed = verbs.claim(workload.batch)
        claimed_at = time.perf_counter()
        verbs.report(claimed)
        return {"enqueue": enqueued - begun, "claim": claimed_at - enqueued, "report": time.perf_counter() - claimed_at}
