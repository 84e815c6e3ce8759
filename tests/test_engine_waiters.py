"""Parked dequeues: who is served first, what waiting costs, and what becomes of callers who go or come again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmdbq.clock import ManualClock
from lmdbq.engine import Consumers
from lmdbq.engine.groups import Waiter
from lmdbq.errors import NotCommitted, StoreError
from lmdbq.limits import SECOND_NS
from lmdbq.model import (
    Applied,
    Call,
    Claim,
    Claimed,
    Completion,
    Done,
    Enqueue,
    Entry,
    Problem,
    QueuePut,
    QueueSettings,
    Refused,
    Report,
    State,
    Status,
    Task,
)
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import (
    WatchedStore,
    at_the_door,
    barrier,
    dequeue,
    done,
    enqueue,
    ids,
    park,
    reached,
    running,
    within,
)


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore(MemoryStore())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def state_of(store: WatchedStore, clock: ManualClock, task_id: int) -> State:
    task = store.task(task_id, clock)
    assert isinstance(task, Task)
    return task.state


# --- order of arrival -------------------------------------------------------------------------------------------------


async def test_who_came_first_is_served_first(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        waiters = [await park(engine) for _ in range(5)]
        for waiter in waiters:
            [task_id] = await enqueue(engine)
            assert ids(await within(waiter)) == [task_id]


async def test_many_tasks_at_once_go_out_in_order_of_arrival(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        waiters = [await park(engine, *(("default", "other") if i % 3 else ("default",))) for i in range(20)]
        task_ids = await enqueue(engine, *[Entry() for _ in range(20)])
        assert [ids(await within(waiter)) for waiter in waiters] == [[task_id] for task_id in task_ids]


async def test_a_newcomer_does_not_overtake_those_who_are_being_woken(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        first, second = await park(engine), await park(engine)
        store.door.clear()
        enqueued = asyncio.create_task(enqueue(engine, Entry(), Entry()))
        await at_the_door(store)
        newcomer = asyncio.create_task(dequeue(engine, wait=60))
        await asyncio.sleep(0)
        store.door.set()
        task_ids = await within(enqueued)
        assert [ids(await within(first)), ids(await within(second))] == [[task_ids[0]], [task_ids[1]]]
        assert not newcomer.done()
        [last] = await enqueue(engine)
        assert ids(await within(newcomer)) == [last]


async def test_a_newcomer_who_must_wait_its_turn_is_tried_though_its_time_is_over(
    store: WatchedStore, clock: ManualClock
):
    async with running(store, clock, timers=False) as engine:
        first, second = await park(engine), await park(engine)
        store.door.clear()
        store.at_the_door.clear()
        enqueued = asyncio.create_task(enqueue(engine))
        await at_the_door(store)  # the first is being tried, the second has to wait for that
        store.inner.apply([Call((Enqueue([Entry(), Entry()]),))], clock)
        impatient = asyncio.create_task(dequeue(engine, wait=0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not impatient.done()
        store.door.set()
        answers = [ids(await within(task)) for task in (first, second, impatient)]
        assert len({task_id for [task_id] in answers}) == 3
        await enqueued


async def test_who_is_tried_too_early_is_not_overtaken(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        waiters = [await park(engine) for _ in range(6)]
        store.shut_after = len(store.batches) + 1
        await enqueue(engine)
        await within(waiters[0])
        await at_the_door(store)  # with the next ones, who were tried because the first succeeded
        enqueued = asyncio.create_task(enqueue(engine))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        store.door.set()
        task_ids = await within(enqueued)
        assert ids(await within(waiters[1])) == task_ids
        await barrier(engine)
        assert [waiter.done() for waiter in waiters] == [True] * 2 + [False] * 4
        for waiter in waiters:
            waiter.cancel()


async def test_a_stir_that_comes_after_the_claim_and_before_its_answer_is_not_lost(
    store: WatchedStore, clock: ManualClock
):
    async with running(store, clock, timers=False) as engine:
        store.back_door.clear()
        waiter = asyncio.create_task(dequeue(engine, wait=60))
        await reached(store.at_the_back_door)
        store.inner.apply([Call((Enqueue([Entry()]),))], clock)
        engine._waiters.stir({"default": 1})
        store.back_door.set()
        assert len((await within(waiter)).tasks) == 1


async def test_a_waiter_for_another_type_is_not_held_up(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        idle = await park(engine, types=("a",))
        wanted = await park(engine, types=("b",))
        [task_id] = await enqueue(engine, Entry(type="b"))
        assert ids(await within(wanted)) == [task_id]
        assert not idle.done()
        idle.cancel()


async def test_a_report_that_asks_for_more_lets_those_go_first_who_have_waited(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        done(await engine.call(QueuePut("default", QueueSettings(max_running=1))))
        task_ids = await enqueue(engine, Entry(), Entry())
        [task] = (await dequeue(engine)).tasks
        patient = await park(engine)
        report = Call((Report([Completion(task.id, task.deliveries, Status.SUCCEEDED)]),))
        greedy = asyncio.create_task(engine.dequeue(Claim(("default",)), 0, after=report))
        assert ids(await within(patient)) == [task_ids[1]]
        claimed, reported = await within(greedy)
        assert (claimed.tasks, claimed.reason) == ([], "empty")
        assert isinstance(reported, Done)


# --- what waiting costs -----------------------------------------------------------------------------------------------


async def test_a_hundred_idle_waiters_cost_one_empty_claim(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        waiters = [await park(engine) for _ in range(100)]
        tried_len = store.claims_len()
        done(await engine.call(QueuePut("default", QueueSettings(max_running=7))))  # stirs the queue, brings nothing
        await barrier(engine)
        assert store.claims_len() - tried_len <= 1
        assert engine.status().parked == 100
        for waiter in waiters:
            waiter.cancel()


async def test_a_claim_with_room_left_says_that_nothing_more_is_there(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        first, second = await park(engine, limit=10), await park(engine, limit=10)
        tried_len = store.claims_len()
        await enqueue(engine)
        assert len((await within(first)).tasks) == 1
        await barrier(engine)
        assert store.claims_len() == tried_len + 1
        second.cancel()


async def test_an_idle_engine_applies_nothing(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        waiter = await park(engine)
        applied_len = len(store.batches)
        looks = 0

        def look(_clock: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks == 3:
                looked.set()
            return MemoryStore.due(store.inner, clock)  # type: ignore[arg-type]

        looked = asyncio.Event()
        store.due = look  # type: ignore[attr-defined]
        await within(looked.wait())
        assert len(store.batches) == applied_len
        waiter.cancel()


async def test_an_enqueue_and_the_claim_of_who_waits_share_an_apply(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        waiter = await park(engine)
        applied_len = len(store.batches)
        [task_id] = await enqueue(engine)
        assert ids(await within(waiter)) == [task_id]
        assert len(store.batches) == applied_len + 1


async def test_a_report_and_the_first_claim_share_an_apply(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        await enqueue(engine, Entry(), Entry())
        [task] = (await dequeue(engine)).tasks
        applied_len = len(store.batches)
        report = Call((Report([Completion(task.id, task.deliveries, Status.SUCCEEDED)]),))
        claimed, reported = await within(engine.dequeue(Claim(("default",)), 5, after=report))
        assert len(claimed.tasks) == 1
        assert reported is not None
        assert done(reported).outcomes[0].outcome == "ok"
        assert len(store.batches) == applied_len + 1


async def test_a_report_whose_claim_waits_is_answered_with_it(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine)
        [task] = (await dequeue(engine)).tasks
        report = Call((Report([Completion(task.id, task.deliveries, Status.SUCCEEDED)]),))
        both = asyncio.create_task(engine.dequeue(Claim(("default",)), 60, after=report))
        await barrier(engine)
        [next_id] = await enqueue(engine)
        claimed, reported = await within(both)
        assert ids(claimed) == [next_id]
        assert reported is not None
        assert done(reported).outcomes[0].outcome == "ok"


# --- the end of waiting -----------------------------------------------------------------------------------------------


async def test_a_wait_that_ends_says_why_and_when(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine, Entry(delay_ns=60 * SECOND_NS))
        claimed = await dequeue(engine, wait=0.01)
        assert (claimed.reason, claimed.retry_at) == ("empty", clock.wall_ns() + 60 * SECOND_NS)
        done(await engine.call(QueuePut("default", QueueSettings(paused=True))))
        await enqueue(engine)
        assert (await dequeue(engine, wait=0.01)).reason == "paused"


async def test_no_wait_still_means_one_attempt(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        [task_id] = await enqueue(engine)
        assert ids(await dequeue(engine, wait=0)) == [task_id]
        assert (await dequeue(engine, wait=0)).reason == "empty"


# --- callers who go ---------------------------------------------------------------------------------------------------


async def test_a_caller_who_has_gone_leases_nothing(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        waiter = await park(engine)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        tried_len = store.claims_len()
        [task_id] = await enqueue(engine)
        await barrier(engine)
        assert store.claims_len() == tried_len
        assert state_of(store, clock, task_id) is State.READY


async def test_a_caller_who_has_just_gone_is_not_tried(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        waiter = asyncio.create_task(engine.dequeue(Claim(("default",)), 60))
        await barrier(engine)
        tried_len = store.claims_len()
        waiter.cancel()  # it will notice at its next step
        engine._waiters.stir({"default": 1})
        await barrier(engine)
        assert store.claims_len() == tried_len


async def test_a_caller_who_goes_before_the_transaction_begins_leases_nothing(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        [task_id] = await enqueue(engine)
        store.door.clear()
        store.at_the_door.clear()
        other = asyncio.create_task(enqueue(engine, Entry(queue="other")))
        await at_the_door(store)
        gone = asyncio.create_task(dequeue(engine, wait=60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        store.door.set()
        await within(other)
        await barrier(engine)
        assert store.claims_len() == 0
        assert state_of(store, clock, task_id) is State.READY


async def test_what_was_claimed_for_a_caller_who_goes_meanwhile_is_released(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        [task_id] = await enqueue(engine)
        store.door.clear()
        store.at_the_door.clear()
        gone = asyncio.create_task(dequeue(engine, wait=60))
        await at_the_door(store)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        store.door.set()
        await barrier(engine)
        task = store.task(task_id, clock)
        assert (task.state, task.deliveries, task.failures) == (State.READY, 1, 0)


async def test_what_is_released_for_one_who_has_gone_goes_to_the_next(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        [task_id] = await enqueue(engine)
        store.door.clear()
        store.at_the_door.clear()
        gone = asyncio.create_task(dequeue(engine, wait=60))
        await at_the_door(store)
        patient = asyncio.create_task(dequeue(engine, wait=60))
        await asyncio.sleep(0)
        gone.cancel()
        store.door.set()
        assert ids(await within(patient)) == [task_id]


async def test_an_answer_that_came_in_the_moment_its_caller_went_is_released(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        [task_id] = await enqueue(engine)
        waiting = asyncio.create_task(engine.dequeue(Claim(("default",)), 60))
        answer = engine._waiters._finish

        def answer_and_cancel(waiter: Waiter, claimed: Claimed) -> None:
            answer(waiter, claimed)
            waiting.cancel()  # between its answer and its next step

        engine._waiters._finish = answer_and_cancel  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await within(waiting)
        await barrier(engine)
        assert state_of(store, clock, task_id) is State.READY


async def test_an_empty_answer_that_came_in_the_moment_its_caller_went_is_no_trouble(
    store: WatchedStore, clock: ManualClock
):
    async with running(store, clock, timers=False) as engine:
        waiting = asyncio.create_task(engine.dequeue(Claim(("default",)), 60))
        settle = engine._waiters._settle_claimed

        def cancel_and_settle(waiter: Waiter, claimed: Claimed) -> None:
            waiting.cancel()  # its future is cancelled now, it runs only later
            settle(waiter, claimed)

        engine._waiters._settle_claimed = cancel_and_settle  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await within(waiting)
        assert engine.status().parked == 0


async def test_release_goes_on_when_its_caller_is_cancelled(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        [task_id] = await enqueue(engine)
        claimed = await dequeue(engine)
        releasing = asyncio.create_task(engine.release(claimed))
        await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.gather(releasing, return_exceptions=True)
        await barrier(engine)
        assert state_of(store, clock, task_id) is State.READY


# --- callers who come again -------------------------------------------------------------------------------------------


async def test_the_same_claim_id_takes_the_place_of_the_first(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        first = await park(engine, claim_id="c1")
        second = await park(engine)
        again = await park_again(engine, "c1")
        answer = await within(first)
        assert (answer.tasks, answer.reason) == ([], "empty")
        [task_id] = await enqueue(engine)
        assert ids(await within(again)) == [task_id]
        assert not second.done()
        second.cancel()


async def park_again(engine: Any, claim_id: str) -> asyncio.Task[Claimed]:
    task = asyncio.create_task(dequeue(engine, wait=60, claim_id=claim_id))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_who_takes_over_while_the_claim_is_committed_gets_its_tasks(store: WatchedStore, clock: ManualClock):
    async with running(store, clock, timers=False) as engine:
        [task_id] = await enqueue(engine)
        store.door.clear()
        store.at_the_door.clear()
        lost = asyncio.create_task(dequeue(engine, wait=60, claim_id="c1"))
        await at_the_door(store)
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        again = await park_again(engine, "c1")
        store.door.set()
        [task] = (await within(again)).tasks
        assert (task.id, task.deliveries) == (task_id, 1)
        assert state_of(store, clock, task_id) is State.RUNNING


async def test_a_lost_answer_is_given_again_though_others_wait(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine)
        lost = await dequeue(engine, claim_id="c1")
        idle = await park(engine)
        assert await dequeue(engine, claim_id="c1") == lost
        idle.cancel()


async def test_one_claim_id_for_two_questions_is_two_dequeues(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        one = await park(engine, "a", claim_id="c1")
        two = await park(engine, "b", claim_id="c1")
        [task_id] = await enqueue(engine, Entry(queue="b"))
        assert ids(await within(two)) == [task_id]
        assert not one.done()
        one.cancel()


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_a_dequeue_that_could_not_be_committed_says_so_and_others_are_tried_later(
    store: WatchedStore, clock: ManualClock
):
    async with running(store, clock, timers=False) as engine:
        first, second = await park(engine), await park(engine)
        await enqueue(engine, Entry(queue="other"))
        store.fault = NotCommitted("the lock could not be taken")
        enqueued = asyncio.create_task(engine.call(Enqueue([Entry()])))
        with pytest.raises(NotCommitted):
            await within(first)
        with pytest.raises(NotCommitted):
            await within(enqueued)
        store.fault = None
        store.inner.apply([Call((Enqueue([Entry()]),))], clock)  # without the engine's knowledge
        assert len((await within(second)).tasks) == 1


async def test_a_refused_claim_is_an_error_of_its_caller(store: WatchedStore, clock: ManualClock):
    class Refusing(WatchedStore):
        def apply(self, calls: Any, *rest: Any) -> Applied:
            super().apply(calls, *rest)
            return Applied([Refused("internal", (Problem("internal", "", "KeyError: 7"),)) for _ in calls], frozenset())

    refusing = Refusing(MemoryStore())
    async with running(refusing, clock, timers=False) as engine:
        with pytest.raises(StoreError, match="KeyError: 7"):
            await dequeue(engine, wait=60)


# --- what is seen from outside ----------------------------------------------------------------------------------------


async def test_consumers_are_told_by_queue_and_type(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        tasks = [
            await park(engine, "a", "b", types=("x",)),
            await park(engine, "b", types=("y",)),
            await park(engine, "c"),
        ]
        assert engine.status().parked == 3
        assert engine.consumers() == {
            "a": Consumers(1, False, frozenset({"x"})),
            "b": Consumers(2, False, frozenset({"x", "y"})),
            "c": Consumers(1, True, frozenset()),
        }
        for task in tasks:
            task.cancel()


async def test_a_worker_that_is_at_work_is_still_a_consumer(store: WatchedStore, clock: ManualClock):
    async with running(store, clock) as engine:
        await enqueue(engine, Entry(type="x"))
        await dequeue(engine, types=("x",))
        assert engine.consumers()["default"] == Consumers(0, False, frozenset({"x"}))
