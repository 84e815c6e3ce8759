"""Storms: callers who come and go at any moment lose nothing, lease nothing for ever, and leave nothing behind."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmdbq.clock import ManualClock
from lmdbq.engine import Engine
from lmdbq.model import (
    Claim,
    Claimed,
    Completion,
    Enqueue,
    Entry,
    Filter,
    Options,
    Report,
    RetryStrategy,
    State,
    Status,
    Task,
)
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import WatchedStore, barrier, dequeue, done, enqueue, running, within

QUEUES = ("a", "b", "c")

Steps = list[tuple[str, int]]


class Storm:
    """Callers of one engine; ``held`` is what they were given and still have."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.running: list[asyncio.Task[None]] = []
        self.held: dict[int, int] = {}
        self.enqueued: set[int] = set()
        self.twice: list[int] = []

    async def produce(self, len_: int) -> None:
        entries = [Entry(queue=self.random.choice(QUEUES)) for _ in range(len_)]
        self.enqueued.update(done(await self.engine.call(Enqueue(entries))).ids)

    async def consume(self, limit: int) -> None:
        queues = tuple(self.random.sample(QUEUES, self.random.randint(1, 3)))
        claim_id = f"c{self.random.randint(0, 2)}" if self.random.random() < 0.2 else ""
        claimed, _ = await self.engine.dequeue(Claim(queues, limit=limit, claim_id=claim_id), 60)
        for task in claimed.tasks:
            if not claim_id and task.id in self.held:
                self.twice.append(task.id)
            self.held[task.id] = task.deliveries

    async def finish(self, len_: int) -> None:
        some = [self.held.popitem() for _ in range(min(len_, len(self.held)))]
        if some:
            await self.engine.call(Report([Completion(*one, Status.SUCCEEDED) for one in some]))

    @staticmethod
    def check_ends(results: list[object]) -> None:
        """Whoever was cancelled was cancelled, and nothing else."""
        assert [one for one in results if one is not None and not isinstance(one, asyncio.CancelledError)] == []

    async def run(self, steps: Steps) -> None:
        for verb, number in steps:
            if verb == "cancel":
                if self.running:
                    self.running[number % len(self.running)].cancel()
            elif verb == "wait":
                await barrier(self.engine)
            elif verb == "yield":
                for _ in range(number):
                    await asyncio.sleep(0)
            elif verb == "finish":
                await self.finish(number)
            else:
                self.running.append(asyncio.create_task(getattr(self, verb)(number)))
        for task in self.running:
            task.cancel()
        self.check_ends(await asyncio.gather(*self.running, return_exceptions=True))
        await barrier(self.engine)


step = st.one_of(
    st.tuples(st.sampled_from(["produce", "consume"]), st.integers(1, 4)),
    st.tuples(st.sampled_from(["produce", "consume", "cancel", "cancel", "finish"]), st.integers(1, 4)),
    st.tuples(st.just("yield"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.just(0)),
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps=st.lists(step, max_size=60), seed=st.integers(0, 2**16))
def test_whoever_goes_whenever_nothing_is_leased_for_nobody(steps: Steps, seed: int):
    async def main() -> None:
        store = MemoryStore()
        async with running(store, ManualClock(), timers=False) as engine:
            storm = Storm(engine, seed)
            await within(storm.run(steps))
            assert storm.twice == []
            assert engine.status().parked == 0
            assert engine._waiters._by_claim_id == {}
            leased = {task.id for view in store.queues() for task in running_in(store, view.name)}
            assert leased <= set(storm.held), "leased to somebody who has gone"

    asyncio.run(main())


def running_in(store: MemoryStore, queue: str) -> list[Task]:
    return list(store.tasks(Filter(queue=queue, states=(State.RUNNING,)), ManualClock(), limit=1_000).tasks)


async def test_workers_drain_a_queue_while_others_give_up_all_the_time():
    store = WatchedStore(MemoryStore())
    async with running(store, ManualClock()) as engine:
        finished: list[int] = []
        odd: list[BaseException] = []
        all_done = asyncio.Event()

        async def worker() -> None:
            while True:
                claimed = await dequeue(engine, wait=60, limit=3)
                await engine.call(Report([Completion(t.id, t.deliveries, Status.SUCCEEDED) for t in claimed.tasks]))
                finished.extend(task.id for task in claimed.tasks)
                if len(finished) >= 600:
                    all_done.set()

        async def quitter() -> None:
            while True:
                task = asyncio.create_task(dequeue(engine, wait=60, limit=5))
                for _ in range(random.randint(0, 4)):
                    await asyncio.sleep(0)
                task.cancel()
                [result] = await asyncio.gather(task, return_exceptions=True)
                if isinstance(result, Claimed):  # the answer was faster
                    await engine.release(result)
                elif not isinstance(result, asyncio.CancelledError):
                    odd.append(result)

        tasks = [asyncio.create_task(one()) for one in [worker] * 4 + [quitter] * 4]
        patient = Options(retry=RetryStrategy(max_deliveries=1_000_000))  # else some are dead by what the quitters do
        expected = [await enqueue(engine, *[Entry(options=patient)] * 20) for _ in range(30)]
        await within(all_done.wait())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert odd == []
        assert sorted(finished) == sorted(task_id for ids in expected for task_id in ids)


async def test_a_thousand_waiters_that_come_and_go_leave_nothing_behind():
    store = WatchedStore(MemoryStore())
    threads_len = threading.active_count()
    async with running(store, ManualClock(), timers=False) as engine:
        tasks = [asyncio.create_task(dequeue(engine, f"q{i % 7}", wait=60)) for i in range(1_000)]
        await barrier(engine)
        assert engine.status().parked == 1_000
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.status().parked == 0
        assert all(not group.waiters and not group.fresh for group in engine._waiters._groups.values())
        assert engine._waiters._by_claim_id == {}
    assert threading.active_count() == threads_len


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_it_runs_on_plain_asyncio_and_on_uvloop(loop_name: str):
    async def main() -> None:
        store = MemoryStore()
        async with running(store, ManualClock()) as engine:
            waiter = asyncio.create_task(dequeue(engine, wait=60))
            await barrier(engine)
            [task_id] = await enqueue(engine)
            assert [task.id for task in (await within(waiter)).tasks] == [task_id]

    factory = asyncio.new_event_loop if loop_name == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
