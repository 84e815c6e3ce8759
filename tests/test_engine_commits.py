"""Group commit: one apply for all who wait, answers after it, and neighbours that cannot harm each other."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.engine import Busy, Draining, Engine
from lmdbq.engine import baton as baton_module
from lmdbq.engine.baton import Baton
from lmdbq.errors import CommitUnknown, NotCommitted, StoreClosed
from lmdbq.model import (
    Applied,
    Call,
    Claim,
    Completion,
    Dedupe,
    Done,
    Enqueue,
    Entry,
    OnDuplicate,
    Options,
    Promote,
    Refused,
    Report,
    Status,
)
from lmdbq.store.base import NO_GATE
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import (
    GENEROUS_SECONDS,
    WatchedStore,
    at_the_door,
    barrier,
    dequeue,
    enqueue,
    ids,
    park,
    running,
    within,
)

UNIQUE = Options(dedupe=Dedupe("k", on_duplicate=OnDuplicate.REJECT))


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore(MemoryStore())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def closed_door(engine: Engine, store: WatchedStore) -> asyncio.Task[Any]:
    """Hold an apply at the door, so that everything submitted now waits for the next one."""
    await barrier(engine)
    store.door.clear()
    store.at_the_door.clear()
    first = asyncio.create_task(enqueue(engine, Entry(queue="first")))
    await at_the_door(store)
    return first


async def start_all(coroutines: list[Any]) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(one) for one in coroutines]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


# --- together ---------------------------------------------------------------------------------------------------------


async def test_all_who_wait_go_into_one_apply(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        first = await closed_door(engine, store)
        tasks = await start_all([enqueue(engine) for _ in range(50)])
        applied_len = len(store.batches)
        store.door.set()
        found = await within(asyncio.gather(*tasks))
        await first
        assert len(store.batches) == applied_len + 2
        assert len(store.batches[-1]) == 50
        assert len({task_id for [task_id] in found}) == 50


async def test_64_callers_share_commits_and_every_answer_follows_its_commit(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        early: list[int] = []

        async def caller(number: int) -> None:
            for i in range(16):
                entry = Entry(payload=b"%d" % (number * 16 + i))
                await engine.call(Enqueue([entry]))
                covered = store.batches[: store.returned_len]
                if not any(entry in call.ops[0].entries for batch in covered for call in batch):
                    early.append(number)

        await within(asyncio.gather(*(caller(number) for number in range(64))))
        assert early == []
        assert sum(len(batch) for batch in store.batches) == 64 * 16
        assert len(store.batches) <= 64 * 16 / 3


async def test_a_transaction_holds_whole_calls_up_to_its_limit(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        first = await closed_door(engine, store)
        half = limits.TRANSACTION_ENTRIES_MAX // 2
        applied_len = len(store.batches)
        tasks = await start_all(
            [enqueue(engine, *[Entry(queue=name)] * len_) for name, len_ in (("a", half), ("b", half), ("c", 1))]
        )
        big = await start_all([engine.call(Enqueue([Entry()]), size_bytes=limits.TRANSACTION_BYTES_MAX + 1)])
        small = await start_all([enqueue(engine)])
        store.door.set()
        await within(asyncio.gather(first, *tasks, *big, *small))
        sizes = [[len(call.ops[0].entries) for call in batch] for batch in store.batches[applied_len + 1 :]]
        assert sizes == [[half, half], [1], [1], [1]]


async def test_a_refused_call_harms_no_neighbour(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        [holder] = await enqueue(engine, Entry(options=UNIQUE))
        first = await closed_door(engine, store)
        tasks = await start_all(
            [
                engine.call(Enqueue([Entry(queue="good")])),
                engine.call(Enqueue([Entry(queue="bad"), Entry(options=UNIQUE)])),
                engine.call(Enqueue([Entry(queue="good")])),
            ]
        )
        store.door.set()
        before, refused, after = await within(asyncio.gather(*tasks))
        await first
        assert isinstance(before, Done)
        assert isinstance(after, Done)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.problems[0].holder) == ("duplicate", holder)
        assert store.queue("bad") is None


# --- callers who go ---------------------------------------------------------------------------------------------------


async def test_a_call_whose_caller_has_gone_is_dropped_before_it_begins(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        first = await closed_door(engine, store)
        gone, stays = await start_all([enqueue(engine, Entry(queue="gone")), enqueue(engine, Entry(queue="stays"))])
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        store.door.set()
        await within(asyncio.gather(first, stays))
        assert store.queue("gone") is None
        assert store.queue("stays") is not None


async def test_a_call_whose_caller_goes_after_it_has_begun_is_committed(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        first = await closed_door(engine, store)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        store.door.set()
        await barrier(engine)
        assert store.queue("first") is not None


# --- a lock that somebody else holds ----------------------------------------------------------------------------------


async def test_while_the_lock_is_waited_for_too_long_new_calls_are_refused(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False, busy_seconds=0.0) as engine:
        waiting = await closed_door(engine, store)
        assert engine.status().lock_wait_seconds > 0
        with pytest.raises(Busy):
            await engine.call(Enqueue([Entry()]))
        with pytest.raises(Busy):
            await engine.dequeue(Claim(("default",)), 0)
        store.door.set()
        await within(waiting)
        await barrier(engine)
        assert engine.status().lock_wait_seconds == 0.0


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_not_committed_goes_to_all_of_that_apply_and_to_no_other(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        store.fault = NotCommitted("no")
        results = await within(
            asyncio.gather(*(engine.call(Enqueue([Entry()])) for _ in range(3)), return_exceptions=True)
        )
        assert [type(result) for result in results] == [NotCommitted] * 3
        assert engine.status().lock_wait_seconds == 0.0
        store.fault = None
        assert len(await enqueue(engine)) == 1


@pytest.mark.parametrize("fault", [CommitUnknown("EIO"), KeyError("a bug in the store")], ids=["EIO", "bug"])
async def test_after_an_unknown_commit_nothing_is_written_and_everybody_is_told(
    store: WatchedStore, clock: ManualClock, fault: Exception
):
    async with running(store, clock, timers=False) as engine:
        waiter = await park(engine, "other")
        await closed_door(engine, store)
        tasks = await start_all([engine.call(Enqueue([Entry()])) for _ in range(3)])
        store.fault, store.fault_after = fault, True
        applied_len = len(store.batches)
        store.door.set()
        results = await within(asyncio.gather(*tasks, return_exceptions=True))
        assert [type(result) for result in results] == [CommitUnknown] * 3
        assert isinstance(await within(asyncio.shield(engine.fatal)), CommitUnknown)
        with pytest.raises(CommitUnknown):
            await within(waiter)
        for late in (engine.call(Enqueue([Entry()])), engine.dequeue(Claim(("default",)), 1)):
            with pytest.raises(CommitUnknown):
                await within(late)
        assert len(store.batches) == applied_len + 1
        assert engine.status().failed is not None


async def test_a_closed_store_is_an_error_of_each_caller(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        store.fault = StoreClosed("closed")
        with pytest.raises(StoreClosed):
            await within(engine.call(Enqueue([Entry()])))


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_stop_answers_the_parked_and_finishes_the_pending(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        waiters = [await park(engine, "idle") for _ in range(3)]
        first = await closed_door(engine, store)
        pending = await start_all([enqueue(engine) for _ in range(3)])
        stopping = asyncio.create_task(engine.stop())
        assert [(await within(waiter)).reason for waiter in waiters] == ["draining"] * 3
        assert not stopping.done()
        with pytest.raises(Draining):
            await engine.call(Enqueue([Entry()]))
        store.door.set()
        await within(stopping)
        assert all([len(await task) == 1 for task in pending])
        await first
        assert engine.status().draining


async def test_a_claim_that_waits_at_the_stop_is_dropped_and_one_that_has_begun_is_answered(
    store: WatchedStore, clock: ManualClock
):
    async with running(store, clock, timers=False) as engine:
        task_ids = await enqueue(engine, Entry(), Entry())
        store.door.clear()
        store.at_the_door.clear()
        begun = asyncio.create_task(dequeue(engine, wait=60))
        await at_the_door(store)
        [waits] = await start_all([dequeue(engine, wait=60)])
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0)
        store.door.set()
        assert ids(await within(begun)) == task_ids[:1]
        assert (await within(waits)).reason == "draining"
        await within(stopping)


async def test_a_drained_engine_still_takes_reports(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine)
        [task] = (await dequeue(engine)).tasks
        parked = await park(engine)
        engine.drain()
        assert (await within(parked)).reason == "draining"
        report = Call((Report([Completion(task.id, task.deliveries, Status.SUCCEEDED)]),))
        claimed, reported = await within(engine.dequeue(Claim(("default",)), 60, after=report))
        assert claimed.reason == "draining"
        assert isinstance(reported, Done)


async def test_starting_and_stopping_twice_is_harmless(store: WatchedStore, clock: ManualClock):
    before = threading.active_count()
    engine = Engine(store, clock)
    await engine.start()
    await engine.start()
    await asyncio.gather(engine.stop(), engine.stop())
    await engine.stop()
    assert threading.active_count() == before
    with pytest.raises(Draining):
        await engine.call(Promote())
    assert store.check() == []


def test_a_loop_that_was_closed_without_stop_ends_the_thread(store: WatchedStore, clock: ManualClock):
    async def main() -> None:
        engine = Engine(store, clock, timers=False)
        await engine.start()
        store.door.clear()
        task = asyncio.create_task(engine.call(Enqueue([Entry()])))
        await asyncio.get_running_loop().run_in_executor(None, store.at_the_door.wait, GENEROUS_SECONDS)
        task.cancel()

    asyncio.run(main())
    [thread] = [one for one in threading.enumerate() if one.name == "lmdbq-writer"]
    store.door.set()
    thread.join(GENEROUS_SECONDS)
    assert not thread.is_alive()
    assert store.check() == []


# --- the baton --------------------------------------------------------------------------------------------------------


async def test_inside_the_gate_the_loop_stands_still_and_outside_it_runs():
    loop = asyncio.get_running_loop()
    baton = Baton(loop)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    def writer() -> list[int]:
        seen = []
        for _ in range(3):
            with baton:
                before = ticks
                loop.call_soon_threadsafe(tick)
                threading.Event().wait(0.02)  # a chance for the loop to do what it must not
                seen.append(ticks - before)
            ran = threading.Event()
            loop.call_soon_threadsafe(ran.set)
            assert ran.wait(GENEROUS_SECONDS)  # the loop is free again
        return seen

    assert await within(loop.run_in_executor(None, writer)) == [0, 0, 0]
    await asyncio.sleep(0)
    assert ticks == 3


async def test_a_store_is_given_the_gate_that_holds_the_loop(clock: ManualClock):
    loop = asyncio.get_running_loop()
    ran: list[bool] = []

    class Curious(WatchedStore):
        def apply(self, calls: Any, clock: Any, gate: Any = NO_GATE) -> Applied:
            event = threading.Event()
            with gate:
                loop.call_soon_threadsafe(event.set)
                ran.append(event.wait(0.02))
            ran.append(event.wait(GENEROUS_SECONDS))
            return super().apply(calls, clock)

    async with running(Curious(MemoryStore()), clock, timers=False) as engine:
        await enqueue(engine)
    assert ran == [False, True]


async def test_an_error_inside_the_gate_frees_the_loop():
    loop = asyncio.get_running_loop()
    baton = Baton(loop)

    def writer() -> None:
        with baton:
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        await within(loop.run_in_executor(None, writer))


def test_a_loop_that_does_not_run_is_not_waited_for():
    loop = asyncio.new_event_loop()
    with Baton(loop):
        pass
    loop.close()
    with Baton(loop) as nothing:
        assert nothing is None


async def test_a_loop_that_is_held_up_does_not_hold_up_the_writer_for_ever():
    baton = Baton(asyncio.get_running_loop())
    passed = threading.Event()

    def writer() -> None:
        with baton:
            passed.set()

    thread = threading.Thread(target=writer)
    thread.start()
    assert passed.wait(GENEROUS_SECONDS)  # this blocks the loop: it cannot park meanwhile
    thread.join(GENEROUS_SECONDS)
    await asyncio.wait_for(asyncio.sleep(0), GENEROUS_SECONDS)  # the late request to park is void
    assert not thread.is_alive()


async def test_the_loop_that_has_lent_stands_still_to_the_end_of_a_short_apply():
    baton = Baton(asyncio.get_running_loop())
    steps: list[str] = []

    def writer() -> None:
        with baton:
            steps.append("put")
        steps.append("synced")
        assert baton.end()  # the loop needs not be told

    turn = baton.lend(through=True)
    thread = threading.Thread(target=writer)
    thread.start()
    assert baton.wait(turn)
    assert steps == ["put", "synced"]
    thread.join(GENEROUS_SECONDS)


@pytest.mark.parametrize("through", [False, True])
async def test_the_loop_that_has_lent_is_not_held_by_a_lock_or_a_slow_disk(*, through: bool):
    loop = asyncio.get_running_loop()
    baton = Baton(loop)
    locked, synced = threading.Event(), threading.Event()
    told: list[bool] = []

    def tick() -> None:
        told.append(True)

    def writer() -> int:
        assert locked.wait(GENEROUS_SECONDS)
        with baton:
            before = len(told)
            loop.call_soon_threadsafe(tick)
            threading.Event().wait(0.02)  # a chance for the loop to do what it must not
            ran_len = len(told) - before
        assert synced.wait(GENEROUS_SECONDS)
        assert not baton.end()
        return ran_len

    turn = baton.lend(through=through)
    written = loop.run_in_executor(None, writer)
    assert not baton.wait(turn)  # somebody else has the lock
    locked.set()
    while not told:
        await asyncio.sleep(0)  # the loop parks for the puts, and is free during the sync
    synced.set()
    assert await within(written) == 0


async def test_a_sync_that_takes_long_does_not_hold_the_loop():
    baton = Baton(asyncio.get_running_loop())
    put, synced = threading.Event(), threading.Event()

    def writer() -> bool:
        with baton:
            put.set()
        assert synced.wait(GENEROUS_SECONDS)
        return baton.end()

    turn = baton.lend(through=True)
    written = asyncio.get_running_loop().run_in_executor(None, writer)
    assert not baton.wait(turn)
    synced.set()
    assert not await within(written)
    assert put.is_set()


async def test_an_apply_that_never_puts_frees_the_loop():
    baton = Baton(asyncio.get_running_loop())
    turn = baton.lend(through=False)
    assert baton.end()
    assert baton.wait(turn)


async def test_callers_who_come_round_after_round_share_a_commit(
    store: WatchedStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lmdbq.engine.committer.GATHER_SECONDS", 60.0)  # whatever else this machine does meanwhile
    async with running(store, clock, timers=False) as engine:
        await barrier(engine)
        applied_len = len(store.batches)

        async def late(rounds: int) -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)
            await enqueue(engine)

        await within(asyncio.gather(*(late(rounds) for rounds in range(4))))
        assert [len(batch) for batch in store.batches[applied_len:]] == [4]


async def test_a_large_call_is_put_before_the_answers_of_the_apply_before_it_are_written(
    store: WatchedStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    async with running(store, clock, timers=False) as engine:
        await barrier(engine)
        applied_len = len(store.batches)
        store.door.clear()
        store.at_the_door.clear()

        async def begun_len_at_the_answer() -> int:
            await engine.call(Enqueue([Entry()]))
            return len(store.batches) - applied_len

        small = asyncio.create_task(begun_len_at_the_answer())
        await at_the_door(store)
        [large] = await start_all([engine.call(Enqueue([Entry()] * 1_000))])
        monkeypatch.setattr(baton_module, "PARK_SECONDS", GENEROUS_SECONDS)  # however late the writer gets a processor
        store.door.set()
        assert await within(small) == 2
        await within(large)


async def test_the_wait_for_the_lock_is_measured_until_the_gate(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        assert engine.status().lock_wait_seconds == 0.0
        task = await closed_door(engine, store)
        first = engine.status().lock_wait_seconds
        assert 0 < first < engine.status().lock_wait_seconds
        store.door.set()
        await within(task)
