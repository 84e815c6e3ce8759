"""What the two in-process targets share: a loop that times calls one by one, and makes the input of each outside of it.

Input is made anew for every call, payload bytes only; keys, values and entries are built from them inside the clock.
Tasks are held in order to be reported in another one; whatever is still held at the end is reported after the clock.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from lmdbq.bench import inputs
from lmdbq.bench.inputs import Batch
from lmdbq.bench.stats import call_lengths
from lmdbq.bench.targets.base import RATE, Sample
from lmdbq.bench.workloads import DRAIN, EXPIRES, FAILS_ONCE, LIFE, RANDOM_ORDER, Workload

_POOL: Final = 64
_POOL_BYTES: Final = 32_000_000
_HELD_BATCHES: Final = 10  # that are reported in random order
_SHORT_SECONDS: Final = 0.0005  # the life of a task that is meant to expire before anybody takes it

Spent = dict[str, float]  # seconds by verb


class Verbs(Protocol):
    """The calls of a task's life; each is one transaction."""

    def ready(self, batch: Batch) -> Any:
        """Return what ``enqueue`` is to be given, made outside of the clock."""
        ...

    def enqueue(self, batch: Any) -> None: ...

    def claim(self, limit: int) -> list[Any]: ...

    def report(self, claimed: list[Any]) -> None: ...

    def count(self) -> int: ...

    def report_half_failed(self, claimed: list[Any]) -> int:
        """Report tasks, every other one that has its first attempt as failed, to be tried again at once; return how
        many have failed."""
        ...

    def enqueue_half_short(self, batch: Batch, seconds: float) -> None:
        """Enqueue tasks of which every other one expires in ``seconds``, and the rest in an hour."""
        ...

    def expire(self) -> None:
        """Remove what has expired."""
        ...


class PlainVerbs:
    """For those that take a batch as it is, and can do no more than the plain life; ``can`` says so."""

    def ready(self, batch: Batch) -> Any:
        return batch

    def report_half_failed(self, claimed: list[Any]) -> int:
        raise NotImplementedError

    def enqueue_half_short(self, batch: Batch, seconds: float) -> None:
        raise NotImplementedError

    def expire(self) -> None:
        raise NotImplementedError


class InProcess:
    """A session around verbs that run in this process. pids: who keeps the data, if it is not this process."""

    def __init__(self, verbs: Verbs, pids: tuple[int, ...] = ()) -> None:
        self.pids: tuple[int, ...] = pids or (os.getpid(),)
        self._verbs = verbs

    def stored(self) -> int:
        return self._verbs.count()

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        if workload.kind == DRAIN:
            return self._drain(workload, seconds)
        if workload.kind == LIFE:
            return self._life(workload, warm_seconds, seconds)
        source = _source(workload)
        warm, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + warm_seconds:
            self._verbs.enqueue(self._verbs.ready(next(source)))
            warm += workload.batch
        lengths: list[float] = []
        begun = now = time.perf_counter()
        while sum(lengths) < seconds and now < begun + 4 * seconds:
            batch = self._verbs.ready(next(source))
            started = time.perf_counter()
            self._verbs.enqueue(batch)
            now = time.perf_counter()
            lengths.append(now - started)
        return Sample(
            {RATE: workload.batch * len(lengths) / sum(lengths)} | call_lengths(lengths),
            left=warm + workload.batch * len(lengths),
        )

    def _drain(self, workload: Workload, seconds: float) -> Sample:
        """Take and report what waits, from the first task on, until there is none or the time is over."""
        drained = 0
        begun = now = time.perf_counter()
        while now < begun + seconds:
            claimed = self._verbs.claim(workload.take)
            if not claimed:
                break
            self._verbs.report(claimed)
            drained += len(claimed)
            now = time.perf_counter()
        return Sample({RATE: drained / (now - begun)}, left=-drained, tasks=drained)

    def _life(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        life = _Life(self._verbs, workload)
        warm, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + warm_seconds:
            warm += life.step()
        life.spent.clear()
        tasks = 0
        while sum(life.spent.values()) < seconds:
            tasks += life.step()
        values = {RATE: tasks / sum(life.spent.values())}
        values |= {f"{verb}_per_second": tasks / length for verb, length in life.spent.items()}
        life.finish()
        return Sample(values, left=life.left, tasks=warm + tasks)


class _Life:
    """The whole life of tasks, a batch per step, however they are to end."""

    def __init__(self, verbs: Verbs, workload: Workload) -> None:
        self.spent: Spent = {}
        self.left = 0
        self._verbs = verbs
        self._workload = workload
        self._source = _source(workload)
        self._chance = random.Random(1)
        self._held: list[Any] = []
        if workload.ending == RANDOM_ORDER:
            for _ in range(_HELD_BATCHES - 1):
                self._verbs.enqueue(next(self._source))
                self._held += self._verbs.claim(workload.batch)
        ways = {FAILS_ONCE: self._failing, RANDOM_ORDER: self._shuffled, EXPIRES: self._expiring}
        self._way = ways.get(workload.ending, self._plain)

    def step(self) -> int:
        """Enqueue a batch and bring as many tasks to their end; return how many."""
        self._way(next(self._source))
        return self._workload.batch

    def finish(self) -> None:
        """Report what is held, and let go what is to expire."""
        for start in range(0, len(self._held), self._workload.batch):
            self._verbs.report(self._held[start : start + self._workload.batch])
        if self._workload.ending == EXPIRES:
            time.sleep(_SHORT_SECONDS)
            self._verbs.expire()
            while claimed := self._verbs.claim(self._workload.batch):
                self._verbs.report(claimed)

    def _timed(self, verb: str, call: Callable[..., Any], *said: Any) -> Any:
        begun = time.perf_counter()
        found = call(*said)
        self.spent[verb] = self.spent.get(verb, 0.0) + time.perf_counter() - begun
        return found

    def _plain(self, batch: Batch) -> None:
        self._timed("enqueue", self._verbs.enqueue, batch)
        claimed = self._timed("claim", self._verbs.claim, self._workload.batch)
        self._timed("report", self._verbs.report, claimed)

    def _failing(self, batch: Batch) -> None:
        """One and a half attempts a task: those that fail are taken again by a later claim, and then succeed."""
        self._timed("enqueue", self._verbs.enqueue, batch)
        self.left += len(batch.payloads)
        for limit in (self._workload.batch, self._workload.batch // 2):
            claimed = self._timed("claim", self._verbs.claim, limit)
            failed = self._timed("report", self._verbs.report_half_failed, claimed)
            self.left -= len(claimed) - failed

    def _shuffled(self, batch: Batch) -> None:
        """Report tasks at random of all that were taken lately."""
        self._timed("enqueue", self._verbs.enqueue, batch)
        held = self._held
        held += self._timed("claim", self._verbs.claim, self._workload.batch)
        chosen = []
        while len(held) > (_HELD_BATCHES - 1) * self._workload.batch:
            at = self._chance.randrange(len(held))
            held[at], held[-1] = held[-1], held[at]
            chosen.append(held.pop())
        self._timed("report", self._verbs.report, chosen)

    def _expiring(self, batch: Batch) -> None:
        """Half of the tasks have expired when the other half is taken; the claim removes them."""
        self._timed("enqueue", self._verbs.enqueue_half_short, batch, _SHORT_SECONDS)
        claimed = self._timed("claim", self._verbs.claim, self._workload.batch // 2)
        self._timed("report", self._verbs.report, claimed)


def _source(workload: Workload) -> Iterator[Batch]:
    """Return batches without end: always new where keys must differ, else a few again and again."""
    if workload.keys:
        # A shared backlog still holds tasks of earlier rounds: later keys are others, and greater where they rise.
        return inputs.batches(workload, seed=time.time_ns() // 1_000_000)
    source = inputs.batches(workload)
    length = max(2, min(_POOL, _POOL_BYTES // (workload.batch * workload.payload_bytes)))
    return itertools.cycle([next(source) for _ in range(length)])
