"""Timers: what is due is done, nothing else is written, and trouble makes them slower, not hotter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from lmdbq.clock import ManualClock
from lmdbq.engine.timers import due_ops, run_once, seconds_until
from lmdbq.errors import NotCommitted
from lmdbq.limits import LOOK_SECONDS, SECOND_NS, SWEEP_MAX
from lmdbq.model import (
    Call,
    CallOutcome,
    Claim,
    DaemonStart,
    Due,
    Enqueue,
    Entry,
    Expire,
    Keep,
    Lapse,
    Op,
    Options,
    Outcome,
    Promote,
    Prune,
    State,
    Status,
    Task,
)
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import WatchedStore, dequeue, enqueue, report, running, within

NOW = 1_700_000_000 * SECOND_NS


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore(MemoryStore())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def timed_ops(store: WatchedStore) -> list[type[Op]]:
    ops = [op for batch in store.batches for call in batch for op in call.ops]
    return [type(op) for op in ops if isinstance(op, Promote | Lapse | Expire | Prune)]


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (Due(), []),
        (Due(promote_at=NOW + 1, expire_at=NOW + 1, prune_at=NOW + 1, lapse_in_ns=1), []),
        (Due(promote_at=NOW), [Promote]),
        (Due(expire_at=NOW - 1), [Expire]),
        (Due(prune_at=NOW), [Prune]),
        (Due(lapse_in_ns=0), [Lapse]),
        (Due(promote_at=1, expire_at=1, prune_at=1, lapse_in_ns=-1), [Lapse, Promote, Expire, Prune]),
    ],
)
def test_what_is_due_is_chosen(due: Due, expected: list[type[Op]]):
    assert [type(op) for op in due_ops(due, NOW)] == expected


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (Due(), LOOK_SECONDS),
        (Due(promote_at=NOW + SECOND_NS // 4), 0.25),
        (Due(expire_at=NOW + SECOND_NS // 5, prune_at=NOW + SECOND_NS), 0.2),
        (Due(lapse_in_ns=SECOND_NS // 10), 0.1),
        (Due(lapse_in_ns=-5), 0.0),
        (Due(promote_at=NOW + 3600 * SECOND_NS), LOOK_SECONDS),
        (Due(prune_at=NOW - SECOND_NS), 0.0),
    ],
)
def test_the_wait_is_for_the_nearest_and_never_longer_than_a_look(due: Due, expected: float):
    assert seconds_until(due, NOW) == expected


async def test_a_round_goes_on_while_there_is_more(store: WatchedStore, clock: ManualClock):
    entries = [Entry(delay_ns=SECOND_NS)] * (2 * SWEEP_MAX + 1)
    store.apply([Call((Enqueue(entries),))], clock)
    clock.advance(2)

    async def commit(op: Op) -> CallOutcome:
        return store.apply([Call((op,))], clock).outcomes[0]

    assert await run_once(store, clock, commit) == 2 * SWEEP_MAX + 1
    assert timed_ops(store) == [Promote] * 3
    assert await run_once(store, clock, commit) == 0
    assert timed_ops(store) == [Promote] * 3
    assert store.check() == []


async def test_the_start_of_a_daemon_is_written_before_anything_else(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await within(engine.dequeue(Claim(("default",)), 0))
        assert store.batches[0][0] == Call((DaemonStart(),))
    assert timed_ops(store) == []


async def test_without_timers_no_start_is_written(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        await enqueue(engine)
    assert len(store.batches) == 1


async def test_a_start_that_could_not_be_written_is_written_later(store: WatchedStore, clock: ManualClock):
    store.fault = NotCommitted("not now")
    async with running(store, clock) as engine:
        with pytest.raises(NotCommitted):
            await within(engine.call(Promote()))
        store.fault = None
        await until(store, lambda calls: calls[-1] == Call((DaemonStart(),)))


async def test_ended_and_expired_tasks_go_by_themselves(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine, Entry(options=Options(keep=Keep(succeeded_ns=5 * SECOND_NS))))
        [kept] = (await dequeue(engine)).tasks
        await report(engine, kept, Status.SUCCEEDED)
        [expiring] = await enqueue(engine, Entry(expires_in_ns=5 * SECOND_NS))
        task = store.task(kept.id, clock)
        assert isinstance(task, Task)
        assert task.state is State.SUCCEEDED
        clock.advance(6)
        await until(store, lambda _calls: {Expire, Prune} <= set(timed_ops(store)))
        assert [store.task(one, clock) for one in (kept.id, expiring)] == [Outcome.GONE, Outcome.GONE]


async def test_something_that_stays_due_does_not_heat_the_loop(store: WatchedStore, clock: ManualClock):
    looks: list[float] = []
    enough = asyncio.Event()

    def due(_clock: ManualClock) -> Due:
        looks.append(asyncio.get_running_loop().time())
        if len(looks) >= 7:
            enough.set()
        return Due(promote_at=1)

    store.due = due  # type: ignore[attr-defined]
    async with running(store, clock) as engine:
        await within(enough.wait())
        assert engine.status().commits <= 7
    assert looks[-1] - looks[0] >= LOOK_SECONDS


async def test_errors_make_the_timers_slower_and_do_not_end_them(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine, Entry(delay_ns=SECOND_NS))
        store.fault = NotCommitted("not now")
        clock.advance(2)
        await until(store, lambda calls: isinstance(calls[-1].ops[0], Promote))
        failed_len = len(store.batches)
        store.fault = None
        await until(store, lambda _calls: len(store.batches) > failed_len)
        assert len((await dequeue(engine)).tasks) == 1


async def until(store: WatchedStore, true: Callable[[Sequence[Call]], bool]) -> None:
    """Return when ``true(calls so far)`` holds after an apply; asked again at each apply, and once now."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    original = store.apply

    def apply(*args: object) -> object:
        try:
            return original(*args)  # type: ignore[arg-type]
        finally:
            loop.call_soon_threadsafe(changed.set)

    def holds() -> bool:
        calls: Sequence[Call] = [call for batch in store.batches for call in batch]
        return bool(calls) and true(calls)

    store.apply = apply  # type: ignore[method-assign,assignment]
    try:
        while not holds():
            await within(changed.wait())
            changed.clear()
    finally:
        store.apply = original  # type: ignore[method-assign]
