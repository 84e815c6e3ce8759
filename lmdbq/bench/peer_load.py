"""The load on a peer that is no Redis list: a driver that lets the peer's own client enqueue, take and finish tasks.

What it takes to talk to a peer is in its adapter under ``targets``: a ``Client`` that blocks, an ``AsyncClient``, or a
``Worker`` where the peer brings one that calls the task's function itself. Modes: ``blocking`` (a thread for each
caller, each with its client, or all with one that may be shared), ``loop`` (a client on one event loop, a coroutine for
each caller), ``worker``. What is enqueued is made ready before the clock; what a client does with it is inside of it.

In a whole life each driver enqueues a batch whenever it has finished as many tasks as the last one had. So there is
always something to do for all of them until the window closes, whoever takes whose task; what is left then is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import cycle, islice
from typing import Any, Final, Protocol

import msgspec

from lmdbq.bench import inputs
from lmdbq.bench.processes import driver_main
from lmdbq.bench.workloads import WORKERS, Workload

Run = Callable[[float, float], dict[str, Any]]
_POOL_TASKS: Final = 16_000  # made ready before the clock, and then sent again and again


class Tally:
    """What one caller has done: ``counted`` inside the window, ``sent`` and ``finished`` in all."""

    def __init__(self, workload: Workload, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self._lives = workload.kind == WORKERS
        self._batch = workload.batch
        self.counted = self.sent = self.finished = 0

    def enqueued(self) -> bool:
        """Count a batch that was acknowledged; return whether there is time for more."""
        now = time.monotonic()
        self.sent += self._batch
        self.counted += self._batch if not self._lives and self.begin <= now < self.end else 0
        return now < self.end

    def worked(self, tasks: int) -> bool:
        """Count tasks that were finished; return whether there is time for more."""
        now = time.monotonic()
        self.finished += tasks
        self.counted += tasks if self.begin <= now < self.end else 0
        return now < self.end

    @property
    def hungry(self) -> bool:
        """Whether it is time to enqueue a batch: all that this caller has sent, or as many, are finished."""
        return self.finished >= self.sent


class Client(Protocol):
    """A client that waits for its answers. Each call returns when the peer has acknowledged it."""

    def prepare(self, payloads: Sequence[bytes]) -> Any:
        """Make a batch ready, before the clock."""
        ...

    def enqueue(self, batch: Any) -> None: ...

    def work(self, limit: int) -> int:
        """Take up to ``limit`` tasks and finish them; return how many there were."""
        ...

    def close(self) -> None: ...


class AsyncClient(Protocol):
    """The same on an event loop; several calls may be under way at a time."""

    def prepare(self, payloads: Sequence[bytes]) -> Any: ...

    async def enqueue(self, batch: Any) -> None: ...

    async def work(self, limit: int) -> int: ...

    async def close(self) -> None: ...


class Worker(Protocol):
    """A peer's own worker, which calls the function of each task."""

    def prepare(self, payloads: Sequence[bytes]) -> Any: ...

    def serve(self, batches: cycle[Any], tally: Tally) -> None:
        """Enqueue a batch whenever the tally is hungry, and run the worker until the window has closed."""
        ...


def _ready(spec: dict[str, Any], prepare: Callable[[Sequence[bytes]], Any]) -> list[Any]:
    workload = msgspec.convert(spec["workload"], Workload)
    source = inputs.batches(workload, spec["seed"])
    return [prepare(batch.payloads) for batch in islice(source, max(1, _POOL_TASKS // workload.batch))]


def _tallies(spec: dict[str, Any], begin: float, end: float) -> list[Tally]:
    workload = msgspec.convert(spec["workload"], Workload)
    return [Tally(workload, begin, end) for _ in range(spec["connections"])]


def _together(tallies: Sequence[Tally]) -> dict[str, Any]:
    return {
        "counted": sum(one.counted for one in tallies),
        "sent": sum(one.sent for one in tallies),
        "finished": sum(one.finished for one in tallies),
    }


def blocking(spec: dict[str, Any]) -> Run:
    """A thread for each caller."""
    adapter, take, lives = import_module(spec["adapter"]), spec["workload"]["take"], spec["workload"]["kind"] == WORKERS
    clients: list[Client] = [adapter.connect(spec) for _ in range(1 if spec["shared"] else spec["connections"])]
    pool = _ready(spec, clients[0].prepare)

    def call(client: Client, tally: Tally) -> None:
        batches = cycle(pool)
        while tally.hungry or not lives:
            client.enqueue(next(batches))
            if not tally.enqueued():
                return
            while lives and not tally.hungry:
                if not tally.worked(client.work(take)):
                    return

    def run(begin: float, end: float) -> dict[str, Any]:
        tallies = _tallies(spec, begin, end)
        with ThreadPoolExecutor(len(tallies)) as callers:
            for done in [callers.submit(call, *one) for one in zip(cycle(clients), tallies, strict=False)]:
                done.result()
        for client in clients:
            client.close()
        return _together(tallies)

    return run


def on_loop(spec: dict[str, Any]) -> Run:
    """A coroutine for each caller."""
    adapter, take, lives = import_module(spec["adapter"]), spec["workload"]["take"], spec["workload"]["kind"] == WORKERS

    async def call(client: AsyncClient, batches: cycle[Any], tally: Tally) -> None:
        while tally.hungry or not lives:
            await client.enqueue(next(batches))
            if not tally.enqueued():
                return
            while lives and not tally.hungry:
                if not tally.worked(await client.work(take)):
                    return

    async def callers(client: AsyncClient, pool: Sequence[Any], begin: float, end: float) -> dict[str, Any]:
        tallies = _tallies(spec, begin, end)
        await asyncio.gather(*(call(client, cycle(pool), tally) for tally in tallies))
        await client.close()
        return _together(tallies)

    import uvloop

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    client: AsyncClient = runner.run(adapter.connect(spec))
    pool = _ready(spec, client.prepare)

    def run(begin: float, end: float) -> dict[str, Any]:
        with runner:
            return runner.run(callers(client, pool, begin, end))

    return run


def worker(spec: dict[str, Any]) -> Run:
    """The peer's own worker."""
    served: Worker = import_module(spec["adapter"]).worker(spec)
    pool = _ready(spec, served.prepare)

    def run(begin: float, end: float) -> dict[str, Any]:
        (tally,) = _tallies(spec, begin, end)
        served.serve(cycle(pool), tally)
        return _together([tally])

    return run


MODES: Final = {"blocking": blocking, "loop": on_loop, "worker": worker}


if __name__ == "__main__":
    driver_main(lambda spec: MODES[spec["mode"]](spec))
