"""Every cause that lets a parked dequeue find something wakes it: one test for each cause, on each store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.engine import Engine
from lmdbq.limits import SECOND_NS
from lmdbq.model import (
    Cancel,
    Claimed,
    Dedupe,
    Delete,
    Edit,
    Entry,
    Intervals,
    Op,
    Options,
    QueuePatch,
    QueuePut,
    QueueSettings,
    Retry,
    RetryStrategy,
    Status,
)
from lmdbq.store.base import Store
from tests.engine_tools import dequeue, done, enqueue, ids, open_any, park, report, running, within

AT_ONCE = RetryStrategy(max_attempts=3, backoff=Intervals((0,)))
IN_TEN_SECONDS = RetryStrategy(max_attempts=3, backoff=Intervals((10 * SECOND_NS,)))

Act = Callable[[], Awaitable[object]]
Prepare = Callable[[Engine, ManualClock], Awaitable[tuple[int, Act]]]


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_any(request.param, tmp_path)
    yield opened
    opened.close()


async def change(engine: Engine, op: Op) -> None:
    done(await within(engine.call(op)))


def retrying(strategy: RetryStrategy) -> Entry:
    return Entry(options=Options(retry=strategy, keepalive_ns=5 * SECOND_NS))


async def claim_one(engine: Engine, entry: Entry | None = None) -> Claimed:
    await enqueue(engine, entry or Entry())
    claimed = await dequeue(engine)
    assert len(claimed.tasks) == 1
    return claimed


# Each of these prepares a queue in which nothing can be claimed, and returns the task that can be, after the act.


async def an_enqueue(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    return 0, lambda: enqueue(engine)


async def a_promote(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    [task_id] = await enqueue(engine, Entry(delay_ns=10 * SECOND_NS))

    async def act() -> None:
        clock.advance(10)

    return task_id, act


async def a_step_of_the_wall_clock(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    [task_id] = await enqueue(engine, Entry(delay_ns=3600 * SECOND_NS))

    async def act() -> None:
        clock.step(7200)

    return task_id, act


async def a_lapse(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    claimed = await claim_one(engine, retrying(AT_ONCE))

    async def act() -> None:
        clock.advance(6)

    return claimed.tasks[0].id, act


async def a_release(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    claimed = await claim_one(engine)
    return claimed.tasks[0].id, lambda: engine.release(claimed)


async def an_automatic_retry_at_once(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    [task] = (await claim_one(engine, retrying(AT_ONCE))).tasks
    return task.id, lambda: report(engine, task, Status.FAILED)


async def an_automatic_retry_after_its_backoff(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    [task] = (await claim_one(engine, retrying(IN_TEN_SECONDS))).tasks

    async def act() -> None:
        await report(engine, task, Status.FAILED)
        clock.advance(10)

    return task.id, act


async def a_retry_by_hand(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    [task] = (await claim_one(engine)).tasks
    await report(engine, task, Status.FAILED, retry=False)
    return task.id, lambda: change(engine, Retry((task.id,)))


async def one_of_one_running(engine: Engine) -> tuple[Claimed, int]:
    await change(engine, QueuePut("default", QueueSettings(max_running=1)))
    claimed = await claim_one(engine)
    [waiting] = await enqueue(engine)
    return claimed, waiting


async def a_place_freed_by_success(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    claimed, waiting = await one_of_one_running(engine)
    return waiting, lambda: report(engine, claimed.tasks[0])


async def a_place_freed_by_failure(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    claimed, waiting = await one_of_one_running(engine)
    return waiting, lambda: report(engine, claimed.tasks[0], Status.FAILED, retry=False)


async def a_place_freed_by_delete(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    claimed, waiting = await one_of_one_running(engine)
    return waiting, lambda: change(engine, Delete((claimed.tasks[0].id,)))


async def a_place_freed_by_a_cancelled_failure(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    claimed, waiting = await one_of_one_running(engine)
    await change(engine, Cancel((claimed.tasks[0].id,)))
    return waiting, lambda: report(engine, claimed.tasks[0], Status.FAILED)


async def max_running_raised(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    _, waiting = await one_of_one_running(engine)
    return waiting, lambda: change(engine, QueuePatch("default", QueueSettings(max_running=2), ("max_running",)))


async def a_resume(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    await change(engine, QueuePut("default", QueueSettings(paused=True)))
    [waiting] = await enqueue(engine)
    return waiting, lambda: change(engine, QueuePatch("default", QueueSettings(), ("paused",)))


async def an_edit_of_scheduled_at(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    [waiting] = await enqueue(engine, Entry(delay_ns=3600 * SECOND_NS))
    return waiting, lambda: change(engine, Edit(waiting, Entry(), ("scheduled_at",)))


async def an_overwrite_of_scheduled_at(engine: Engine, clock: ManualClock) -> tuple[int, Act]:
    dedupe = Options(dedupe=Dedupe("k", overwrite=("scheduled_at",)))
    [waiting] = await enqueue(engine, Entry(delay_ns=3600 * SECOND_NS, options=dedupe))
    return waiting, lambda: enqueue(engine, Entry(options=dedupe))


CAUSES: list[Prepare] = [
    an_enqueue,
    a_promote,
    a_step_of_the_wall_clock,
    a_lapse,
    a_release,
    an_automatic_retry_at_once,
    an_automatic_retry_after_its_backoff,
    a_retry_by_hand,
    a_place_freed_by_success,
    a_place_freed_by_failure,
    a_place_freed_by_delete,
    a_place_freed_by_a_cancelled_failure,
    max_running_raised,
    a_resume,
    an_edit_of_scheduled_at,
    an_overwrite_of_scheduled_at,
]


@pytest.mark.parametrize("prepare", CAUSES, ids=lambda one: one.__name__)
async def test_a_parked_dequeue_is_woken_by(prepare: Prepare, store: Store):
    clock = ManualClock()
    async with running(store, clock) as engine:
        expected, act = await prepare(engine, clock)
        waiter = await park(engine)
        await act()
        found = ids(await within(waiter))
        assert len(found) == 1
        assert expected in (0, found[0])


async def test_an_edit_of_its_type_wakes_who_waits_for_that_type(store: Store):
    async with running(store, ManualClock()) as engine:
        [waiting] = await enqueue(engine, Entry(type="a"))
        waiter = await park(engine, types=("b",))
        await change(engine, Edit(waiting, Entry(type="b"), ("type",)))
        assert ids(await within(waiter)) == [waiting]


async def test_without_timers_a_claim_still_finds_what_is_due(store: Store):
    clock = ManualClock()
    async with running(store, clock, timers=False) as engine:
        [waiting] = await enqueue(engine, Entry(delay_ns=10 * SECOND_NS))
        assert (await dequeue(engine)).retry_at == clock.wall_ns() + 10 * SECOND_NS
        clock.advance(10)
        assert ids(await dequeue(engine)) == [waiting]
