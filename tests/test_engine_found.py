"""What reading the engine beside its simulation has found, each with its mend: dequeues that were answered wrongly."""

from __future__ import annotations

import asyncio

from lmdbq.clock import ManualClock
from lmdbq.engine import Engine
from lmdbq.model import Call, Claim, Completion, Entry, Report, Status
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import (
    WatchedStore,
    at_the_door,
    barrier,
    dequeue,
    done,
    enqueue,
    park,
    running,
    within,
)


async def shut_the_door(engine: Engine, store: WatchedStore) -> asyncio.Task[list[int]]:
    """Have an apply wait at the door, so that what is asked for now goes into the next one."""
    store.door.clear()
    store.at_the_door.clear()
    held_up = asyncio.create_task(enqueue(engine, Entry(queue="other")))
    await at_the_door(store)
    return held_up


async def a_few_rounds() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_report_whose_dequeue_must_wait_its_turn_is_committed_though_the_engine_drains():
    store = WatchedStore(MemoryStore())
    async with running(store, ManualClock(), timers=False) as engine:
        await enqueue(engine)
        [task] = (await dequeue(engine)).tasks
        first = await park(engine)
        held_up = await shut_the_door(engine, store)
        engine._waiters.stir({"default": 1})
        engine._waiters.stir({"default": 1})  # the first is being tried, and that may be too early: nobody overtakes it
        report = Call((Report([Completion(task.id, task.deliveries, Status.SUCCEEDED)]),))
        both = asyncio.create_task(engine.dequeue(Claim(("default",)), 60, after=report))
        await a_few_rounds()
        engine.drain()
        store.door.set()
        claimed, reported = await within(both)
        assert claimed.reason in ("draining", "empty")
        assert reported is not None
        assert done(reported).outcomes[0].outcome == "ok"
        assert (await within(first)).reason == "draining"
        await held_up


async def test_who_takes_the_place_of_one_who_has_gone_is_answered_when_its_time_is_over():
    store = WatchedStore(MemoryStore())
    async with running(store, ManualClock(), timers=False) as engine:
        gone, other = await park(engine, claim_id="c1"), await park(engine)
        held_up = await shut_the_door(engine, store)
        engine._waiters.stir({"default": 2})
        await a_few_rounds()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        again = asyncio.create_task(dequeue(engine, claim_id="c1"))
        await a_few_rounds()
        store.door.set()
        assert (await within(again)).reason == "empty"
        await held_up
        await barrier(engine)
        assert not other.done()
        other.cancel()
