"""Every verb of both clients over every transport: one set of tests, run in all eight ways.

``TESTED`` names, for each verb of each class, the test that runs it; a verb that one class has and its twin has not, or
that no test is named for, fails the collection of this module.
"""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import lmdbq
from lmdbq import Cron, Dedupe, Entry, InvalidInput, Keep, NotFound, RetryStrategy
from lmdbq.store.lmdb import open_store
from tests.real_daemon import RealDaemon
from tests.sdk_places import IDS, WAYS, ask, each, http_daemon, make

UTC = timezone.utc  # noqa: UP017  (one spelling for pyright and 3.11)
TWINS = {
    lmdbq.Client: lmdbq.AsyncClient,
    lmdbq.Handle: lmdbq.AsyncHandle,
    lmdbq.Selection: lmdbq.AsyncSelection,
    lmdbq.QueueHandle: lmdbq.AsyncQueueHandle,
    lmdbq.Lease: lmdbq.AsyncLease,
    lmdbq.Enqueuer: lmdbq.AsyncEnqueuer,
    lmdbq.ScheduleHandle: lmdbq.AsyncScheduleHandle,
    lmdbq.GroupHandle: lmdbq.AsyncGroupHandle,
    lmdbq.SetHandle: lmdbq.AsyncSetHandle,
}
TESTED = {
    "Client": {
        "close": "test_what_is_in_a_queue_outlives_its_client",
        "delete_group_rule": "test_rules_for_groups_and_lists_of_lanes",
        "dequeue": "test_a_task_is_taken_and_reported",
        "environment": "test_tasks_of_a_transaction",
        "place": "test_a_client_says_where_it_is",
        "enqueue": "test_an_entry_is_enqueued_with_its_options",
        "enqueue_many": "test_many_are_enqueued_in_their_order",
        "group": "test_a_group_is_set_paused_and_removed",
        "group_rules": "test_rules_for_groups_and_lists_of_lanes",
        "groups": "test_rules_for_groups_and_lists_of_lanes",
        "put_group_rule": "test_rules_for_groups_and_lists_of_lanes",
        "queue": "test_a_queue_is_made_edited_and_removed",
        "queues": "test_queues_are_listed",
        "schedule": "test_a_schedule_is_put_edited_and_removed",
        "schedules": "test_a_schedule_is_put_edited_and_removed",
        "set": "test_a_set_is_made_joined_closed_and_followed",
        "sets": "test_a_set_is_made_at_once_listed_and_deleted",
        "task": "test_a_task_is_found_by_its_id",
        "tasks": "test_tasks_are_selected",
        "threads": "test_rules_for_groups_and_lists_of_lanes",
        "wait": "test_many_are_waited_for",
        "where": "test_a_client_says_where_it_is",
        "within": "test_tasks_of_a_transaction",
        "workers": "test_workers_are_listed_with_their_types",
    },
    "Enqueuer": {
        "enqueue": "test_tasks_of_a_transaction",
        "enqueue_many": "test_tasks_of_a_transaction",
        "set": "test_tasks_of_a_transaction",
    },
    "Handle": {
        "cancel": "test_a_task_is_cancelled_and_retried",
        "delete": "test_a_task_is_edited_and_deleted",
        "edit": "test_a_task_is_edited_and_deleted",
        "info": "test_an_entry_is_enqueued_with_its_options",
        "result": "test_a_result_is_waited_for",
        "retry": "test_a_task_is_cancelled_and_retried",
        "wait": "test_many_are_waited_for",
    },
    "Selection": {
        "cancel": "test_actions_on_a_selection",
        "count": "test_tasks_are_selected",
        "delete": "test_actions_on_a_selection",
        "edit": "test_a_selection_is_edited_and_retried_elsewhere",
        "retry": "test_actions_on_a_selection",
    },
    "QueueHandle": {
        "create": "test_a_queue_is_made_edited_and_removed",
        "delete": "test_a_queue_is_made_edited_and_removed",
        "edit": "test_a_queue_is_made_edited_and_removed",
        "info": "test_a_queue_is_made_edited_and_removed",
        "pause": "test_a_queue_is_paused_resumed_and_purged",
        "purge": "test_a_queue_is_paused_resumed_and_purged",
        "resume": "test_a_queue_is_paused_resumed_and_purged",
        "tasks": "test_tasks_are_selected",
    },
    "ScheduleHandle": {
        "delete": "test_a_schedule_is_put_edited_and_removed",
        "edit": "test_a_schedule_is_put_edited_and_removed",
        "info": "test_a_schedule_is_put_edited_and_removed",
        "next": "test_a_schedule_is_paused_resumed_and_run",
        "pause": "test_a_schedule_is_paused_resumed_and_run",
        "put": "test_a_schedule_is_put_edited_and_removed",
        "resume": "test_a_schedule_is_paused_resumed_and_run",
        "run": "test_a_schedule_is_paused_resumed_and_run",
    },
    "GroupHandle": {
        "delete": "test_a_group_is_set_paused_and_removed",
        "info": "test_a_group_is_set_paused_and_removed",
        "pause": "test_a_group_is_set_paused_and_removed",
        "put": "test_a_group_is_set_paused_and_removed",
        "resume": "test_a_group_is_set_paused_and_removed",
        "set": "test_a_group_is_set_paused_and_removed",
    },
    "SetHandle": {
        "close": "test_a_set_is_made_at_once_listed_and_deleted",
        "delete": "test_a_set_is_made_at_once_listed_and_deleted",
        "enqueue": "test_a_set_is_made_joined_closed_and_followed",
        "enqueue_many": "test_a_set_is_made_joined_closed_and_followed",
        "info": "test_a_set_is_made_joined_closed_and_followed",
        "make": "test_a_set_is_made_at_once_listed_and_deleted",
        "tasks": "test_a_set_is_made_joined_closed_and_followed",
        "wait": "test_a_set_is_made_joined_closed_and_followed",
    },
    "Lease": {
        "extend": "test_a_lease_is_extended_and_can_be_lost",
        "fail": "test_a_failed_attempt",
        "release": "test_a_task_is_handed_back",
        "succeed": "test_a_task_is_taken_and_reported",
    },
}


def verbs_of(kind: type) -> set[str]:
    """The public methods and properties of a class; a field is neither."""
    return {name for name, what in vars(kind).items() if not (name.startswith("_") or inspect.ismemberdescriptor(what))}


for _sync, _async in TWINS.items():
    assert verbs_of(_sync) == verbs_of(_async) == TESTED[_sync.__name__].keys(), f"{_sync.__name__}: verbs and tests"
    for _name in verbs_of(_sync):
        _twins = [inspect.getattr_static(_kind, _name) for _kind in (_sync, _async)]
        if callable(_twins[0]):
            _said = [str(inspect.signature(_one)).replace("Async", "") for _one in _twins]
            assert _said[0] == _said[1], f"{_sync.__name__}.{_name}: the twins differ"


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for each_one in ("http", "unix"):
            (base / each_one).mkdir()
        with http_daemon(base / "http") as url, RealDaemon(base / "unix") as daemon:
            yield {"http": url, "unix": daemon.where, "directory": str(base / "file"), "memory": ":memory:"}
        store = open_store(base / "file")
        assert store.check() == []
        store.close()


@pytest.fixture(params=WAYS, ids=IDS)
async def client(request: pytest.FixtureRequest, places: dict[str, str]) -> AsyncIterator[Any]:
    kind, place = request.param
    made = make(kind, places[place])
    yield made
    await ask(made.close())


@pytest.fixture
def q() -> str:
    """A queue of the test's own."""
    return f"q-{uuid4().hex}"


async def test_an_entry_is_enqueued_with_its_options(client: Any, q: str):
    later = datetime(2100, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    entry = Entry[Any](
        "mail.send",
        {"to": "ada", "at": later},
        queue=q,
        priority=-3,
        scheduled_at=later,
        expires_at=later + timedelta(days=1),
        dedupe="ada",
        lease=90,
        retry=RetryStrategy(max_attempts=7, base=timedelta(seconds=2), factor=3.0),
        keep=Keep(succeeded=timedelta(hours=1)),
        tags=["urgent"],
        metadata={"by": "test"},
    )
    handle = await ask(client.enqueue(entry))
    assert (handle.outcome, handle.deduped) == ("enqueued", False)
    info = await ask(handle.info())
    assert info.payload == {"to": "ada", "at": "2100-01-02T03:04:05.678901Z"}
    assert (info.queue, info.type, info.state, info.priority) == (q, "mail.send", "scheduled", -3)
    assert (info.scheduled_at, info.due_at, info.expires_at) == (later, later, later + timedelta(days=1))
    assert (info.dedupe_key, info.max_attempts, info.tags) == ("ada", 7, ("urgent",))
    assert info.metadata == {"by": "test"}
    assert info.waiting_for.reason == "scheduled"
    again = await ask(client.enqueue(entry))
    assert (again.id, again.outcome, again.deduped) == (handle.id, "skipped", True)


async def test_many_are_enqueued_in_their_order(client: Any, q: str):
    handles = await ask(client.enqueue_many([Entry("n", number, queue=q) for number in range(100)]))
    assert [(await ask(handle.info())).payload for handle in handles[::33]] == [0, 33, 66, 99]
    assert sorted(handle.id for handle in handles) == [handle.id for handle in handles]
    assert await ask(client.enqueue_many([])) == []


async def test_wrong_values_are_all_named(client: Any, q: str):
    with pytest.raises(lmdbq.InvalidInput) as caught:
        await ask(client.enqueue_many([Entry("n", queue=q), Entry("n", priority=99_999), Entry("n", tags=[""])]))
    assert [one.pointer for one in caught.value.problems] == ["/entries/1/priority", "/entries/2/tags/0"]
    assert await ask(client.tasks(queue=q).count()) == 0


async def test_what_json_cannot_say_is_refused_before_it_is_sent(client: Any, q: str):
    for wrong in ({"x": float("nan")}, [None, float("inf")], object(), {1: object()}):
        with pytest.raises(lmdbq.InvalidInput, match=r"/entries/0/payload"):
            await ask(client.enqueue(Entry("n", wrong, queue=q)))
    with pytest.raises(lmdbq.InvalidInput, match="time zone"):
        await ask(client.enqueue(Entry("n", scheduled_at=datetime(2100, 1, 1))))


async def test_a_rejected_duplicate_names_its_holder(client: Any, q: str):
    entry = Entry[Any]("n", queue=q, dedupe=Dedupe("key", on_duplicate="reject"))
    handle = await ask(client.enqueue(entry))
    with pytest.raises(lmdbq.Duplicate) as caught:
        await ask(client.enqueue(entry))
    assert (caught.value.code, caught.value.status) == ("duplicate", 409)
    assert caught.value.problems[0].pointer.startswith("/entries/0")
    assert handle.id


async def test_a_task_is_found_by_its_id(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", b"\x00\xff", queue=q)))
    info = await ask(client.task(handle.id).info())
    assert (info.id, info.payload, info.state, info.attempts) == (handle.id, b"\x00\xff", "ready", 0)
    with pytest.raises(lmdbq.NotFound) as caught:
        await ask(client.task("no id").info())
    assert caught.value.code == "not_found"


async def test_tasks_are_selected(client: Any, q: str):
    await ask(client.enqueue_many([Entry("a", 1, queue=q), Entry("b", 2, queue=q, tags=["t"]), Entry("a", 3, queue=q)]))
    assert [task.payload for task in await each(client.tasks(queue=q))] == [1, 2, 3]
    assert [task.payload for task in await each(client.queue(q).tasks(type="a"))] == [1, 3]
    assert await ask(client.tasks(queue=q, tag="t").count()) == 1
    assert await ask(client.tasks(queue=q, state=["ready", "running"]).count()) == 3
    assert await ask(client.tasks(queue=q, state="dead").count()) == 0
    with pytest.raises(lmdbq.InvalidInput):
        await ask(client.tasks(queue=q, state="rotten").count())
    with pytest.raises(TypeError, match="did you mean 'queue'"):
        client.tasks(queu=q)


async def test_a_selection_goes_on_from_page_to_page(client: Any, q: str):
    await ask(client.enqueue_many([Entry("n", number, queue=q) for number in range(1_234)]))
    assert [task.payload for task in await each(client.tasks(queue=q))] == list(range(1_234))
    deleted = await ask(client.tasks(queue=q).delete())
    assert deleted == (1_234, 1_234)


async def test_actions_on_a_selection(client: Any, q: str):
    await ask(client.enqueue_many([Entry("n", number, queue=q) for number in range(3)]))
    some = client.tasks(queue=q)
    assert await ask(some.cancel(dry_run=True)) == (3, 3)
    assert await ask(some.cancel()) == (3, 3)
    assert await ask(client.tasks(queue=q, state="cancelled").count()) == 3
    assert await ask(some.retry()) == (3, 3)
    assert await ask(client.tasks(queue=q, state="ready").count()) == 3
    assert await ask(some.delete()) == (3, 3)
    assert await ask(some.count()) == 0
    with pytest.raises(lmdbq.InvalidInput, match="all"):
        await ask(client.tasks().cancel())
    every = await ask(client.tasks().cancel(all=True, dry_run=True))
    assert every.changed == every.matched


async def test_a_selection_is_edited_and_retried_elsewhere(client: Any, q: str):
    await ask(client.enqueue_many([Entry("n", number, queue=q) for number in range(3)]))
    some = client.tasks(queue=q, priority_max=0, created_from=datetime(2020, 1, 1, tzinfo=UTC))
    assert await ask(some.edit(priority=4, tags=["x"], dry_run=True)) == (3, 3)
    assert await ask(some.edit(payload={"a": 1}, priority=4, tags=["x"])) == (3, 3)
    assert {(task.priority, task.payload["a"]) for task in await each(client.tasks(queue=q, tag="x"))} == {(4, 1)}
    await ask(client.tasks(queue=q).cancel())
    with pytest.raises(lmdbq.NotFound):
        await ask(client.tasks(queue=q).retry(queue=f"{q}-other"))
    await ask(client.queue(f"{q}-other").create())
    assert await ask(client.tasks(queue=q, reason="cancelled").retry(queue=f"{q}-other")) == (3, 3)
    assert await ask(client.tasks(queue=f"{q}-other", state="ready").count()) == 3


async def test_what_follows_a_death_is_an_entry(client: Any, q: str):
    alert = Entry("alert", queue=q, tags=["pager"])
    dead = await ask(client.enqueue(Entry("n", 1, queue=q, on_dead=alert)))
    (lease,) = await ask(client.dequeue(q))
    await ask(lease.fail("boom", retry=False))
    (told,) = await each(client.tasks(queue=q, tag="pager"))
    assert (told.payload["task_id"], told.payload["payload"], told.payload["reason"]) == (dead.id, 1, "no_retry")
    await ask(client.queue(q).create(on_dead=alert))
    assert (await ask(dead.retry())).state == "ready"


async def test_a_task_is_cancelled_and_retried(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", queue=q)))
    assert (await ask(handle.cancel())).state == "cancelled"
    with pytest.raises(lmdbq.Conflict):
        await ask(handle.cancel())
    with pytest.raises(lmdbq.TaskCancelled) as caught:
        await ask(handle.result(timeout=10))
    assert caught.value.task.state == "cancelled"
    assert (await ask(handle.retry())).state == "ready"


async def test_a_task_is_edited_and_deleted(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", 1, queue=q)))
    info = await ask(handle.edit(payload={"a": 2}, priority=5, retry=[1, 2], delay=60))
    assert (info.payload, info.priority, info.max_attempts, info.state) == ({"a": 2}, 5, 3, "scheduled")
    assert (await ask(handle.edit(payload=b"\xff"))).payload == b"\xff"
    await ask(handle.delete())
    with pytest.raises(lmdbq.TaskGone) as caught:
        await ask(handle.info())
    assert (caught.value.code, caught.value.status) == ("gone", 410)


async def test_a_task_is_taken_and_reported(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", {"x": 1}, queue=q)))
    (lease,) = await ask(client.dequeue(q, limit=5, wait=10))
    assert (lease.task.id, lease.task.payload, lease.task.deliveries) == (handle.id, {"x": 1}, 1)
    await ask(lease.succeed({"when": datetime(2030, 1, 1, tzinfo=UTC)}))
    assert await ask(handle.result(timeout=10)) == {"when": "2030-01-01T00:00:00Z"}
    assert await ask(client.dequeue(q, wait=0)) == []


async def test_a_dequeue_waits_for_a_task_that_is_due_later(client: Any, q: str):
    await ask(client.enqueue(Entry("n", "late", queue=q, delay=0.2)))
    (lease,) = await ask(client.dequeue(q, types=["n"], wait=30, lease=5))
    assert lease.task.payload == "late"
    assert lease.task.scheduled_at <= datetime.now(UTC)
    await ask(lease.succeed())


async def test_a_task_is_handed_back(client: Any, q: str):
    await ask(client.enqueue(Entry("n", queue=q)))
    (lease,) = await ask(client.dequeue(q))
    await ask(lease.release())
    (again,) = await ask(client.dequeue(q))
    assert (again.task.id, again.task.attempts, again.task.deliveries) == (lease.task.id, 1, 2)
    await ask(again.release(delay=timedelta(hours=1)))
    assert (await ask(client.task(again.task.id).info())).state == "scheduled"


async def test_a_failed_attempt(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", queue=q)))
    (lease,) = await ask(client.dequeue(q))
    await ask(lease.fail(ValueError("no such customer"), retry=False))
    with pytest.raises(lmdbq.TaskDead, match="ValueError: no such customer") as caught:
        await ask(handle.result(timeout=10))
    assert caught.value.task.errors[0].type == "ValueError"
    await ask(handle.retry())
    (lease,) = await ask(client.dequeue(q))
    await ask(lease.fail("in words", delay=0))
    (lease,) = await ask(client.dequeue(q))
    assert lease.task.attempts == 2


async def test_a_lease_is_extended_and_can_be_lost(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", queue=q)))
    (lease,) = await ask(client.dequeue(q))
    extended = await ask(lease.extend(600, progress=0.5))
    assert (extended.cancel_requested, extended.lease_expires_at > datetime.now(UTC) + timedelta(minutes=9)) == (
        False,
        True,
    )
    assert (await ask(handle.info())).progress == 0.5
    assert (await ask(handle.cancel())).outcome == "cancel_requested"
    assert (await ask(lease.extend())).cancel_requested
    await ask(handle.delete())
    for verb in (lease.extend, lease.succeed, lease.release):
        with pytest.raises(lmdbq.LeaseLost) as caught:
            await ask(verb())
        assert caught.value.code == "not_found"


async def test_a_result_is_waited_for(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", queue=q)))
    with pytest.raises(lmdbq.ResultTimeout, match="is ready after") as caught:
        await ask(handle.result(timeout=0.05))
    assert isinstance(caught.value, TimeoutError)
    (lease,) = await ask(client.dequeue(q))
    await ask(lease.succeed(b"\xff"))
    assert await ask(handle.result(timeout=timedelta(seconds=10))) == b"\xff"


async def test_a_result_that_was_not_kept_is_gone(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", queue=q)))
    await ask(handle.delete())
    with pytest.raises(lmdbq.TaskGone, match="kept"):
        await ask(handle.result(timeout=10))


async def test_a_task_that_returned_none_has_the_result_none(client: Any, q: str):
    handle, parked = await ask(client.enqueue_many([Entry("n", queue=q)] * 2))
    leases = await ask(client.dequeue(q, limit=2))
    with ThreadPoolExecutor(1) as threads:
        if isinstance(parked, lmdbq.Handle):
            waiting: Any = asyncio.wrap_future(threads.submit(parked.result, timeout=30))
        else:
            waiting = asyncio.ensure_future(parked.result(timeout=30))
        await asyncio.sleep(0.02)
        for lease in leases:
            await ask(lease.succeed(None))
        assert await waiting is None, "it waited when the task ended"
    for timeout in (10, 0):
        assert await ask(handle.result(timeout=timeout)) is None, "it asked a moment later"
    assert await ask(handle.wait(timeout=0)) is None
    with pytest.raises(lmdbq.TaskGone):
        await ask(handle.info())


async def test_many_are_waited_for(client: Any, q: str):
    handles = await ask(client.enqueue_many([Entry("n", number, queue=q) for number in range(3)]))
    with pytest.raises(lmdbq.ResultTimeout):
        await ask(client.wait(handles, timeout=0.05))
    for lease in await ask(client.dequeue(q, limit=3)):
        await ask(lease.succeed(lease.task.payload or None))
    ended = await ask(client.wait(handles, timeout=10))
    assert [one and (one.state, one.result) for one in ended] == [None, ("succeeded", 1), ("succeeded", 2)]


async def test_a_queue_is_made_edited_and_removed(client: Any, q: str):
    queue = client.queue(q)
    with pytest.raises(lmdbq.NotFound) as caught:
        await ask(queue.info())
    assert caught.value.code == "queue_not_found"
    made = await ask(queue.create(max_running=3, lease=timedelta(minutes=2), retry=4))
    assert (made.settings.max_running, made.settings.keepalive_timeout_in_seconds) == (3, 120)
    edited = await ask(queue.edit(max_running=None, keep=60, expires=3600))
    assert edited.settings.max_running in (0, None)
    assert edited.settings.keep.succeeded_in_seconds == 60
    assert (await ask(queue.info())).settings == edited.settings
    await ask(queue.delete())
    with pytest.raises(lmdbq.NotFound):
        await ask(queue.delete())


async def test_a_queue_is_paused_resumed_and_purged(client: Any, q: str):
    await ask(client.enqueue_many([Entry("n", queue=q)] * 3))
    assert (await ask(client.queue(q).pause())).blocked_by == "paused"
    assert await ask(client.dequeue(q, wait=0)) == []
    assert (await ask(client.queue(q).resume())).blocked_by == ""
    assert await ask(client.queue(q).purge()) == 3
    assert (await ask(client.queue(q).info())).counts["ready"] == 0


async def test_queues_are_listed(client: Any, q: str):
    await ask(client.enqueue(Entry("n", queue=q)))
    (mine,) = [queue for queue in await ask(client.queues()) if queue.name == q]
    assert mine.counts["ready"] == 1


async def test_what_is_in_a_queue_outlives_its_client(client: Any, q: str):
    handle = await ask(client.enqueue(Entry("n", 5, queue=q)))
    await ask(client.close())
    await ask(client.close())
    if client.where == ":memory:":
        with pytest.raises(lmdbq.StoreError, match="in memory"):
            await ask(handle.info())
    else:
        assert (await ask(client.task(handle.id).info())).payload == 5


async def test_tasks_of_a_transaction(client: Any, q: str):
    if "://" in client.where or client.where == ":memory:":
        for refused in (client.environment, lambda: client.within(object())):
            with pytest.raises(lmdbq.TransactionUnusable):
                refused()
        return
    with client.environment().begin(write=True) as transaction:
        inside = client.within(transaction)
        one = inside.enqueue(Entry("n", 1, queue=q))
        two = inside.enqueue_many([Entry("n", 2, queue=q)])
        whole = inside.set([Entry("n", 3, queue=q)], callback=Entry("after", queue=q))
        begun = inside.set(condition="any", close=False)
        inside.enqueue(Entry("n", 4, queue=q, set=begun))
    assert [(await ask(handle.info())).payload for handle in (one, *two)] == [1, 2]
    assert [((await ask(one.info())).state, (await ask(one.info())).pending) for one in (whole, begun)] == [
        ("closed", 1),
        ("open", 1),
    ]


async def test_workers_are_listed_with_their_types(client: Any, q: str):
    tasks = lmdbq.Tasks()
    kind = f"type-{q}"

    @tasks.task(kind, lease=90, retry=[1, 10], dedupe=Dedupe("", on_duplicate="reject"))
    def some(number: int, name: str = "") -> None: ...

    worker = lmdbq.Worker(client, tasks, queues=[q], concurrency=3)

    async def known() -> list[Any]:
        return [one for one in await ask(client.workers()) if q in one.queue_names]

    with worker:
        while not (found := await known()):
            await asyncio.sleep(0.01)
        (one,) = found
        assert (one.types, one.concurrency) == ([kind], 3)
        assert one.registered_at <= one.seen_at
    while await known():
        await asyncio.sleep(0.01)
    handle = await ask(client.enqueue(Entry(kind, queue=q)))
    assert (await ask(handle.info())).max_attempts == 3, "what it said of its type outlives it"
    (lease,) = await ask(client.dequeue(q))
    left = lease.task.lease_expires_at - datetime.now(UTC)
    assert timedelta(seconds=45) < left <= timedelta(seconds=90)


async def test_a_client_says_where_it_is(client: Any, places: dict[str, str]):
    assert client.where in places.values()
    assert repr(client) == f"{type(client).__name__}({client.where!r})"


def test_each_verb_has_its_test():
    assert {name for tests in TESTED.values() for name in tests.values()} <= globals().keys()


async def test_a_schedule_is_put_edited_and_removed(client: Any, q: str):
    schedule = client.schedule(q)
    entry = Entry[Any]("report", {"a": 1}, queue=q, dedupe="report {instant}", tags=["x"])

    put = await ask(schedule.put(entry, Cron("0 3 * * *", timezone="Europe/Berlin", catch_up="all")))

    assert put.cron == Cron("0 3 * * *", "Europe/Berlin", "all")
    assert put.task == {
        "type": "report",
        "payload": {"a": 1},
        "queue_name": q,
        "dedupe_key": "report {instant}",
        "tags": ["x"],
    }
    assert (put.paused, put.paused_because, put.fired, put.last_at) == (False, "", 0, None)
    assert put.next_at == put.upcoming[0].at > datetime.now(UTC)
    assert await ask(schedule.info()) == put
    assert await ask(schedule.put(entry, put.cron)) == put
    listed = [one for one in await ask(client.schedules()) if one.name == q]
    assert [(one.cron, one.next_at, one.upcoming) for one in listed] == [(put.cron, put.next_at, [])]
    edited = await ask(schedule.edit(cron="@hourly", entry=Entry("other", b"\0\xff")))
    assert (edited.cron, edited.task["type"]) == (Cron("@hourly"), "other")
    assert edited.task["payload_base64"] == "AP8="
    with pytest.raises(InvalidInput, match="cron"):
        await ask(schedule.put(entry, "not a cron"))
    await ask(schedule.delete())
    with pytest.raises(NotFound):
        await ask(schedule.info())


async def test_a_schedule_is_paused_resumed_and_run(client: Any, q: str):
    schedule = client.schedule(q)
    await ask(schedule.put(Entry("report", {"a": 1}, queue=q), "@daily"))

    paused = await ask(schedule.pause())
    assert (paused.paused, paused.next_at) == (True, None)
    ran = await ask(schedule.run())
    info = await ask(ran.info())
    assert (ran.outcome, info.type, info.payload, info.queue) == ("enqueued", "report", {"a": 1}, q)
    assert info.metadata["schedule"]["name"] == q
    coming = await ask(schedule.next(3))
    assert [one.at.hour for one in coming] == [0, 0, 0]
    assert coming[0].local.endswith("T00:00:00+00:00")
    resumed = await ask(schedule.resume())
    assert (resumed.paused, resumed.next_at) == (False, coming[0].at)
    assert (await ask(schedule.put(Entry("report"), "@daily", paused=True))).paused
    await ask(schedule.delete())


async def test_a_group_is_set_paused_and_removed(client: Any, q: str):
    group = client.group(f"{q}/a b")
    assert q in repr(group)
    made = await ask(group.put(max_running=3, rate=(10, 60)))
    assert (made.limits.max_running, made.tokens, made.settings.rate.tokens) == (3, 10, 10)
    changed = await ask(group.set(max_running=1, rate=lmdbq.Rate(5, timedelta(seconds=1), burst=7)))
    assert (changed.limits.max_running, changed.tokens) == (1, 7)
    entries = [Entry("t", queue=q, group=group.key), Entry("t", queue=q, group=group.key)]
    first, second = await ask(client.enqueue_many(entries))
    (lease,) = await ask(client.dequeue(q, limit=9))
    assert (lease.task.id, (await ask(first.info())).group) == (first.id, group.key)
    assert (await ask(second.info())).waiting_for.reason == "group"
    await ask(lease.succeed())
    assert (await ask(group.pause())).blocked_by == "paused"
    assert await ask(client.dequeue(q, limit=9, wait=0)) == []
    assert (await ask(group.resume())).blocked_by == ""
    assert [one.task.id for one in await ask(client.dequeue(q))] == [second.id]
    await ask(group.delete())
    assert (await ask(group.info())).settings is None
    with pytest.raises(lmdbq.NotFound):
        await ask(group.delete())


async def test_rules_for_groups_and_lists_of_lanes(client: Any, q: str):
    pattern = f"{q}:*"
    rule = await ask(client.put_group_rule(pattern, max_running=1, weight=2, priority=3))
    assert (rule.pattern, rule.settings.max_running, rule.priority) == (pattern, 1, 3)
    assert pattern in [one.pattern for one in await ask(client.group_rules())]
    await ask(
        client.enqueue_many(
            [
                Entry("t", queue=q, group=f"{q}:1"),
                Entry("t", queue=q, group=f"{q}:1"),
                Entry("t", queue=q, thread="x"),
                Entry("t", queue=q, thread="x", rejoin=True),
            ]
        )
    )
    assert len(await ask(client.dequeue(q, limit=9))) == 2
    mine = [one for one in await ask(client.groups()) if one.group_key.startswith(q)]
    assert [(one.group_key, one.rule, one.running, one.ready) for one in mine] == [(f"{q}:1", pattern, 1, 1)]
    assert [(one.thread_id, one.ready, one.state) for one in await ask(client.threads(q))] == [("x", 1, "running")]
    assert await ask(client.tasks(thread="x", queue=q).count()) == 2
    assert await ask(client.tasks(group=f"{q}:1").count()) == 2
    await ask(client.delete_group_rule(pattern))
    with pytest.raises(lmdbq.NotFound):
        await ask(client.delete_group_rule(pattern))
    with pytest.raises(lmdbq.InvalidInput, match="thread_id for strict order"):
        await ask(client.enqueue(Entry("t", queue=q, thread="x", group="y")))


async def test_once_for_many_calls(client: Any, q: str):
    bounced = lmdbq.Debounce("b", wait=timedelta(minutes=1), max_wait=300)
    handles = [await ask(client.enqueue(Entry("n", number, queue=q, debounce=bounced))) for number in range(3)]
    assert len({handle.id for handle in handles}) == 1
    assert (await ask(handles[0].info())).payload == 2
    throttled = lmdbq.Throttle("t", period=60)
    assert [(await ask(client.enqueue(Entry("n", queue=q, throttle=throttled)))).outcome for _ in range(2)] == [
        "enqueued",
        "skipped",
    ]
    folded = Dedupe("f", fold="sum")
    for number in (1, 2, 3):
        handle = await ask(client.enqueue(Entry("n", number, queue=q, dedupe=folded)))
    assert (await ask(handle.info())).payload == 6
    assert not (await ask(client.enqueue(Entry("n", queue=q, coalesce="c")))).deduped
    assert (await ask(client.enqueue(Entry("n", queue=q, coalesce="c")))).deduped


async def entered(one: Any) -> Any:
    return await one.__aenter__() if hasattr(one, "__aenter__") else one.__enter__()


async def left(one: Any, error: BaseException | None = None) -> None:
    said = (type(error) if error else None, error, None)
    await one.__aexit__(*said) if hasattr(one, "__aexit__") else one.__exit__(*said)


async def test_a_set_is_made_joined_closed_and_followed(client: Any, q: str):
    """What ``with client.set(...) as batch`` does."""
    callback = Entry[Any]("report", queue=f"{q}.after", tags=["x"])
    batch = await entered(client.set(callback=callback, keep=timedelta(minutes=1)))
    first = await ask(batch.enqueue(Entry("n", 1, queue=q)))
    await ask(batch.enqueue_many([Entry("n", 2, queue=q)]))
    assert await ask(batch.enqueue_many([])) == []
    await ask(client.enqueue(Entry("n", 3, queue=q, set=batch)))
    await ask(client.enqueue(Entry("n", 4, queue=q, set=batch.id)))
    assert (await ask(first.info())).set == batch.id
    assert [one.payload for one in await each(batch.tasks())] == [1, 2, 3, 4]
    assert [one.payload for one in await each(client.tasks(set=batch, type="n"))] == [1, 2, 3, 4]
    with pytest.raises(lmdbq.ResultTimeout, match="nobody has closed it"):
        await ask(batch.wait(timeout=0.01))
    await left(batch)
    info = await ask(batch.info())
    assert (info.state, info.condition, info.members, info.pending, info.is_decided) == ("closed", "all", 4, 4, False)
    with pytest.raises(lmdbq.Conflict) as caught:
        await ask(batch.enqueue(Entry("n", queue=q)))
    assert caught.value.code == "set_closed"

    for lease in await ask(client.dequeue(q, limit=10)):
        assert lease.task.set == batch.id
        await ask(lease.succeed())

    met = await ask(client.set(batch.id).wait(timeout=30))
    assert (met.state, met.succeeded, met.is_decided, met.reason) == ("met", 4, True, "")
    assert met.remove_at - met.ended_at == timedelta(minutes=1)
    (report,) = await each(client.tasks(queue=f"{q}.after"))
    assert (report.type, report.callback_of, report.payload["succeeded"]) == ("report", batch.id, 4)


async def test_a_set_is_made_at_once_listed_and_deleted(client: Any, q: str):
    batch = client.set(condition="finished", on_unmet=Entry("never"))
    (handle,) = await ask(batch.make([Entry("n", queue=q)]))
    with pytest.raises(RuntimeError, match="made already"):
        await ask(batch.make())
    (last,) = await ask(batch.close([Entry("n", queue=q)]))
    assert await ask(batch.close()) == []
    await ask(handle.cancel())
    await ask(last.delete())
    info = await ask(batch.info())
    assert (info.state, info.cancelled, info.deleted) == ("met", 1, 1)

    closed = client.set(keep=0)
    assert await ask(closed.make(close=True)) == []
    listed = {one.id: one for one in await ask(client.sets(state=["met", "open"]))}
    assert listed[batch.id] == info
    assert batch.id not in {one.id for one in await ask(client.sets(state="open"))}
    await ask(batch.delete())
    with pytest.raises(NotFound):
        await ask(batch.info())


async def test_a_set_whose_block_raises_stays_open(client: Any, q: str):
    batch = await entered(client.set())
    await left(batch, ValueError("no"))
    assert (await ask(batch.info())).state == "open"
    await ask(batch.delete())


def test_what_cannot_follow_a_set_is_refused_at_once():
    tasks = lmdbq.Tasks()

    @tasks.task
    def silent() -> None: ...

    @tasks.task
    def whole(set_id: str, **counts: Any) -> None: ...

    @tasks.task
    def strange(name: str, **counts: Any) -> None: ...

    @tasks.task
    def narrow(set_id: str) -> None: ...

    with lmdbq.Client(":memory:") as client:
        for right in (silent, whole, strange.entry("x")):
            client.set(callback=right)
        for wrong in (strange, narrow):
            with pytest.raises(TypeError, match="it is told set_id, state, members"):
                client.set(on_unmet=wrong)
        with pytest.raises(TypeError, match="did you mean 'callback'"):
            client.set(calback=silent)  # type: ignore[call-overload]
