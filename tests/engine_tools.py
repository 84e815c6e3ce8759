"""What the engine's tests share: an engine for the length of a block, a store that is watched and disturbed, signals.

No test here waits for a while. ``barrier`` is the signal that everything submitted so far has been settled: units are
settled in the order in which they were submitted, so it is enough to commit one more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from lmdbq.clock import Clock
from lmdbq.engine import Engine
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Claim,
    Claimed,
    ClaimedTask,
    Completion,
    Done,
    Enqueue,
    Enqueued,
    Entry,
    Report,
    Status,
)
from lmdbq.store.base import NO_GATE, Store

GENEROUS_SECONDS = 60

T = TypeVar("T")


def open_any(kind: str, directory: Path) -> Store:
    if kind == "memory":
        from lmdbq.store.memory import MemoryStore

        return MemoryStore()
    from lmdbq.store.lmdb import open_store

    return open_store(directory / "q")


class WatchedStore:
    """A store that remembers what was applied, can be held at its doors, and can fail.

    batches: the calls of each apply. door: an apply waits until it is set, like one whose lock is taken. back_door: the
    same after the commit. shut_after: the number of applies after which the door shuts by itself, 0 = never. fault:
    raised instead of, or, if ``fault_after`` is set, after the apply.
    """

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.batches: list[list[Call]] = []
        self.returned_len = 0
        self.door = threading.Event()
        self.door.set()
        self.at_the_door = threading.Event()
        self.back_door = threading.Event()
        self.back_door.set()
        self.at_the_back_door = threading.Event()
        self.shut_after = 0
        self.fault: Exception | None = None
        self.fault_after = False

    def apply(self, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None] = NO_GATE) -> Applied:
        self.at_the_door.set()
        assert self.door.wait(GENEROUS_SECONDS)
        self.batches.append(list(calls))
        if self.fault is not None and not self.fault_after:
            raise self.fault
        applied = self.inner.apply(calls, clock, gate)
        if self.fault is not None:
            raise self.fault
        self.at_the_back_door.set()
        assert self.back_door.wait(GENEROUS_SECONDS)
        self.returned_len += 1
        if len(self.batches) == self.shut_after:
            self.door.clear()
            self.at_the_door.clear()
        return applied

    def claims_len(self, queue: str = "default") -> int:
        """How often somebody tried to claim from ``queue``."""
        ops = [op for batch in self.batches for call in batch for op in call.ops]
        return sum(isinstance(op, Claim) and queue in op.queues for op in ops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextlib.asynccontextmanager
async def running(store: Any, clock: Clock, **options: Any) -> AsyncIterator[Engine]:
    """An engine that is stopped at the end, whose store then passes its check."""
    engine = Engine(store, clock, **options)
    await engine.start()
    try:
        yield engine
    finally:
        await asyncio.wait_for(engine.stop(), GENEROUS_SECONDS)
    assert engine.status().pending_calls == 0
    assert engine.status().parked == 0
    assert store.check() == []


async def barrier(engine: Engine) -> None:
    """Return when everything that was submitted, and what followed from it, has been settled."""
    await asyncio.sleep(0)  # let tasks that were just made run to their first await
    while True:
        await within(engine.call(Claim(("no-such-queue",))))
        if engine.status().pending_calls == 0:
            return


async def within(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, GENEROUS_SECONDS)


async def at_the_door(store: WatchedStore) -> None:
    """Return when an apply has begun and waits at the closed door."""
    await reached(store.at_the_door)


async def reached(event: threading.Event) -> None:
    """Return when another thread has set ``event``."""
    await within(asyncio.get_running_loop().run_in_executor(None, event.wait, GENEROUS_SECONDS))


async def park(engine: Engine, *queues: str, wait: float = 60, **claim: Any) -> asyncio.Task[Claimed]:
    """Return a dequeue that found nothing at its first attempt and waits."""
    task = asyncio.create_task(dequeue(engine, *queues, wait=wait, **claim))
    await barrier(engine)
    assert not task.done()
    return task


async def dequeue(engine: Engine, *queues: str, wait: float = 0, **claim: Any) -> Claimed:
    claimed, reported = await within(engine.dequeue(Claim(queues or ("default",), **claim), wait))
    assert reported is None
    return claimed


async def enqueue(engine: Engine, *entries: Entry) -> list[int]:
    """Enqueue and return the ids."""
    outcome = done(await within(engine.call(Enqueue(list(entries) or [Entry()]))))
    assert isinstance(outcome, Enqueued)
    return outcome.ids


def done(outcome: CallOutcome) -> Any:
    """Return the outcome of the only op of a call that was committed."""
    assert isinstance(outcome, Done), outcome
    return outcome.outcomes[0]


async def report(engine: Engine, task: ClaimedTask, status: Status = Status.SUCCEEDED, **said: Any) -> None:
    call = await within(engine.call(Report([Completion(task.id, task.deliveries, status, **said)])))
    assert done(call).outcomes[0].outcome == "ok"


def ids(claimed: Claimed) -> list[int]:
    return [task.id for task in claimed.tasks]
