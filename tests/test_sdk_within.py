"""``within``: tasks that are enqueued in the caller's own LMDB transaction, and come and go with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import pytest

import lmdbq
from lmdbq import AsyncClient, Client, Dedupe, Entry, Tasks, TransactionUnusable
from lmdbq.clock import ManualClock
from lmdbq.engine.queue import EngineStatus
from lmdbq.errors import NotOurFile, Unreachable
from lmdbq.model import Call, Done, Enqueue, Purge, Refused
from lmdbq.model import Entry as StoredEntry
from lmdbq.store.lmdb import LmdbStore, open_store
from tests.fake_daemon import FakeDaemon
from tests.sdk_places import run_python

tasks = Tasks()


@tasks.task(priority=-3)
def ship(order: int, fast: bool = False) -> str:
    return f"{order} {fast}"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path / "q") as made:
        yield made
        store = made.place.embedded.queue().store  # type: ignore[attr-defined]
        assert store.check() == []


@pytest.fixture
def orders(client: Client) -> Any:
    """A database of the user's own in the same file."""
    return client.environment().open_db(b"orders")


def stored(client: Client, orders: Any) -> tuple[int, int]:
    """How many orders and how many tasks there are."""
    with client.environment().begin() as reader:
        return reader.stat(orders)["entries"], client.tasks().count()


def status(client: Client) -> EngineStatus:
    found: EngineStatus = client.place.embedded.queue().engine.status()  # type: ignore[attr-defined]
    return found


def await_that(holds: Callable[[], object]) -> None:
    """Return when ``holds()`` does; the test's timeout ends a wait for what never comes."""
    while not holds():
        time.sleep(0.001)


def test_what_is_committed_is_enqueued(client: Client, orders: Any):
    with client.environment().begin(write=True) as transaction:
        transaction.put(b"7", b"a bicycle", db=orders)
        handle = client.within(transaction).enqueue(ship.using(delay=60), 7, fast=True)
        more = client.within(transaction).enqueue_many([Entry("n", 1), Entry("n", b"\xff"), ship.entry(8)])
        assert client.within(transaction).enqueue_many([]) == []
        assert stored(client, orders) == (0, 0), "nobody sees it yet"
    assert (handle.outcome, handle.deduped) == ("enqueued", False)
    task = handle.info()
    assert (task.type, task.payload, task.priority, task.state) == ("ship", {"order": 7, "fast": True}, -3, "scheduled")
    assert [one.info().payload for one in more] == [1, b"\xff", {"order": 8}]
    assert stored(client, orders) == (1, 4)
    assert handle.id < more[0].id < client.enqueue(Entry("n")).id


def test_a_result_comes_back_through_its_handle(client: Client):
    with client.environment().begin(write=True) as transaction:
        handle = client.within(transaction).enqueue(ship, 7)
    assert lmdbq.Worker(client, tasks).drain() == 1
    assert handle.result(timeout=30) == "7 False"


def test_what_is_aborted_leaves_no_trace(client: Client, orders: Any):
    first = client.enqueue(Entry("n"))
    with pytest.raises(ZeroDivisionError), client.environment().begin(write=True) as transaction:
        transaction.put(b"7", b"a bicycle", db=orders)
        lost = client.within(transaction).enqueue(ship.using(queue="other", dedupe="order 7"), 7)
        _ = 1 / 0
    assert stored(client, orders) == (0, 1)
    assert [queue.name for queue in client.queues()] == ["default"]
    with pytest.raises(lmdbq.NotFound):
        lost.info()
    again = client.enqueue(ship.using(queue="other", dedupe="order 7"), 7)
    assert (again.outcome, again.id > first.id) == ("enqueued", True)


def test_a_child_that_is_aborted_takes_only_its_own_along(client: Client, orders: Any):
    environment = client.environment()
    with environment.begin(write=True) as transaction:
        client.within(transaction).enqueue(Entry("n", "before"))
        child = environment.begin(write=True, parent=transaction)
        child.put(b"7", b"a bicycle", db=orders)
        client.within(child).enqueue(Entry("n", "lost"))
        child.abort()
        with environment.begin(write=True, parent=transaction) as kept:
            client.within(kept).enqueue(Entry("n", "in a child"))
        client.within(transaction).enqueue(Entry("n", "after"))
    assert [task.payload for task in client.tasks()] == ["before", "in a child", "after"]
    assert stored(client, orders) == (0, 3)


def test_a_refused_entry_leaves_the_transaction_as_it_was(client: Client, orders: Any):
    client.enqueue(Entry("n", dedupe="taken"))
    rejected = Entry("n", dedupe=Dedupe("taken", on_duplicate="reject"))
    with client.environment().begin(write=True) as transaction:
        transaction.put(b"7", b"a bicycle", db=orders)
        inside = client.within(transaction)
        skipped = inside.enqueue(Entry("n", dedupe="taken"))
        assert (skipped.outcome, skipped.deduped) == ("skipped", True)
        with pytest.raises(lmdbq.Duplicate):
            inside.enqueue_many([Entry("n", "would be new"), rejected])
        with pytest.raises(lmdbq.InvalidInput, match="priority"):
            inside.enqueue(Entry("n", priority=99_999))
        with pytest.raises(TypeError, match="order"):
            inside.enqueue(ship)  # type: ignore[call-arg]
        inside.enqueue(Entry("n", "kept"))
    assert [task.payload for task in client.tasks()] == [None, "kept"]
    assert stored(client, orders) == (1, 2)


def test_who_waits_hears_of_it(client: Client):
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.dequeue, wait=60)
        await_that(lambda: status(client).parked)
        with client.environment().begin(write=True) as transaction:
            client.within(transaction).enqueue(Entry("n", 1))
        (lease,) = waiting.result(30)
    assert lease.task.payload == 1


def test_another_process_that_waits_hears_of_it(client: Client, tmp_path: Path):
    client.queues()
    code = "import sys, lmdbq\nprint(lmdbq.Client(sys.argv[1]).dequeue(wait=60)[0].task.payload)"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run_python, code, str(tmp_path / "q"))
        with client.environment().begin(write=True) as transaction:
            client.within(transaction).enqueue(Entry("n", 1))
        assert waiting.result(60) == "1\n"


# --- what is no such transaction --------------------------------------------------------------------------------------


def test_a_transaction_of_another_environment(client: Client, tmp_path: Path):
    client.queues()
    with (
        lmdb.open(str(tmp_path / "other"), lib_version=0) as other,
        other.begin(write=True) as foreign,
        pytest.raises(TransactionUnusable, match="another environment"),
    ):
        client.within(foreign)


def test_a_transaction_that_only_reads(client: Client):
    with client.environment().begin() as reader, pytest.raises(TransactionUnusable, match="only reads"):
        client.within(reader)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_that_has_ended(client: Client, end: str):
    transaction = client.environment().begin(write=True)
    inside = client.within(transaction)
    getattr(transaction, end)()
    for late in (lambda: inside.enqueue(Entry("n")), lambda: client.within(transaction)):
        with pytest.raises(TransactionUnusable, match="committed or aborted"):
            late()
    client.enqueue(Entry("n"))  # and nothing is in the way of other calls


def test_a_transaction_with_an_open_child(client: Client):
    environment = client.environment()
    with environment.begin(write=True) as transaction:
        inside = client.within(transaction)
        child = environment.begin(write=True, parent=transaction)
        for wrong in (lambda: inside.enqueue(Entry("n")), lambda: client.within(transaction)):
            with pytest.raises(TransactionUnusable, match="pass the child"):
                wrong()
        client.within(child).enqueue(Entry("n", "in the child"))
        child.commit()
        inside.enqueue(Entry("n", "in the parent"))
    assert [task.payload for task in client.tasks()] == ["in the child", "in the parent"]


def test_a_call_that_would_wait_for_the_transaction_of_its_own_thread(client: Client):
    with client.environment().begin(write=True) as transaction:
        client.within(transaction).enqueue(Entry("n", "inside"))
        with pytest.raises(TransactionUnusable, match="would wait for itself"):
            client.enqueue(Entry("n"))
        assert client.queues() == [], "a read waits for nobody"
        with ThreadPoolExecutor(1) as threads:
            beside = threads.submit(client.enqueue, Entry("n", "of another thread"))
            await_that(lambda: status(client).lock_wait_seconds)
            transaction.commit()
            beside.result(30)
    assert [task.payload for task in client.tasks()] == ["inside", "of another thread"]


def test_a_call_beside_a_transaction_that_nobody_was_told_of_gives_up(tmp_path: Path):
    with Client(tmp_path / "q", timeout=0.2) as client:
        with client.environment().begin(write=True), pytest.raises(Unreachable, match=r"client.within\(transaction\)"):
            client.enqueue(Entry("n"))
        client.enqueue(Entry("n"))


async def test_an_awaited_call_beside_such_a_transaction_gives_up_too(tmp_path: Path):
    async with AsyncClient(tmp_path / "q", timeout=0.2) as client:
        with client.environment().begin(write=True), pytest.raises(Unreachable, match="may still be done"):
            await client.enqueue(Entry("n"))
        await client.enqueue(Entry("n"))


def test_another_thread(client: Client):
    with client.environment().begin(write=True) as transaction:
        inside = client.within(transaction)
        with ThreadPoolExecutor(1) as threads, pytest.raises(TransactionUnusable, match="thread"):
            threads.submit(inside.enqueue, Entry("n")).result(30)


@pytest.mark.parametrize("what", [None, 7, "transaction"])
def test_what_is_no_transaction(client: Client, what: Any):
    with pytest.raises(TransactionUnusable, match="no transaction"):
        client.within(what)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_place_without_a_file_of_this_process(kind: Any):
    with FakeDaemon() as fake:
        for where, word in ((fake.where, r"Client\('./DIRECTORY'\)"), (":memory:", "directory")):
            made = kind(where)
            for refused in (made.environment, lambda made=made: made.within(object())):
                with pytest.raises(TransactionUnusable, match=word):
                    refused()


def test_a_file_that_the_program_has_opened_itself(tmp_path: Path):
    with Client(tmp_path / "q") as first:
        first.queues()
    with lmdb.open(str(tmp_path / "q"), lib_version=0), pytest.raises(NotOurFile, match=r"client.environment\(\)"):
        Client(tmp_path / "q").queues()


# --- on an event loop -------------------------------------------------------------------------------------------------


async def test_the_async_client_enqueues_without_an_await(tmp_path: Path):
    async with AsyncClient(tmp_path / "q") as client:
        with client.environment().begin(write=True) as transaction:
            handle = client.within(transaction).enqueue(ship, 7)
        assert (await handle.info()).payload == {"order": 7}


async def test_an_await_in_between_is_an_error(tmp_path: Path):
    async with AsyncClient(tmp_path / "q") as client:
        with client.environment().begin(write=True) as transaction:
            inside = client.within(transaction)
            await asyncio.sleep(0)
            with pytest.raises(TransactionUnusable, match="await"):
                inside.enqueue(ship, 7)
            with pytest.raises(TransactionUnusable, match="await"):
                client.within(transaction).enqueue(ship, 7)
        assert await client.tasks().count() == 0


async def test_another_task_is_an_error(tmp_path: Path):
    async with AsyncClient(tmp_path / "q") as client:
        with client.environment().begin(write=True) as transaction:
            inside = client.within(transaction)

            async def other() -> None:
                inside.enqueue(ship, 7)

            with pytest.raises(TransactionUnusable, match="await"):
                await asyncio.create_task(other())
            with pytest.raises(TransactionUnusable, match="would wait for itself"):
                await client.enqueue(ship, 7)


# --- the store --------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    made = open_store(tmp_path / "q")
    yield made
    assert made.check() == []
    made.close()


def test_only_enqueues_can_be_undone_with_a_transaction(store: LmdbStore):
    with store.environment().begin(write=True) as transaction, pytest.raises(ValueError, match="only enqueues"):
        store.apply_in(transaction, Call((Purge("default"),)), ManualClock())


def test_a_full_file_refuses_and_leaves_the_transaction_open(tmp_path: Path):
    small = open_store(tmp_path / "small", max_bytes=16 * 1024 * 1024)
    orders = small.environment().open_db(b"orders")
    call = Call((Enqueue([StoredEntry(b'"%s"' % (b"x" * 100_000))] * 10),))
    with small.environment().begin(write=True) as transaction:
        transaction.put(b"7", b"a bicycle", db=orders)
        outcomes = [small.apply_in(transaction, call, ManualClock()) for _ in range(20)]
    assert isinstance(outcomes[0], Done)
    assert isinstance(outcomes[-1], Refused)
    assert outcomes[-1].code == "full"
    with small.environment().begin() as reader:
        assert reader.get(b"7", db=orders) == b"a bicycle"
    assert small.check() == []
    small.close()


def test_the_room_for_a_transaction_is_allocated_before_it_is_written(store: LmdbStore, tmp_path: Path):
    call = Call((Enqueue([StoredEntry(b'"%s"' % (b"x" * 100_000))] * 50),))
    with store.environment().begin(write=True) as transaction:
        before = (tmp_path / "q" / "data.mdb").stat().st_blocks
        for _ in range(3):
            assert isinstance(store.apply_in(transaction, call, ManualClock()), Done)
        allocated = ((tmp_path / "q" / "data.mdb").stat().st_blocks - before) * 512
    assert allocated >= 3 * 50 * 100_000


def test_a_damaged_count_is_mended_in_the_child(store: LmdbStore):
    from lmdbq.store import keyspace as ks

    clock = ManualClock()
    entries = Call((Enqueue([StoredEntry(b"1")] * 3),))
    assert isinstance(store.apply([entries], clock).outcomes[0], Done)
    environment = store.environment()
    count = environment.open_db(ks.PREFIX + b"count", create=False)
    with environment.begin(write=True) as transaction:
        key = next(key for key, _ in transaction.cursor(db=count) if bytes(key) not in (ks.SEQUENCE, ks.count(1, 0)))
        transaction.put(key, b"damaged", db=count)
        assert isinstance(store.apply_in(transaction, entries, clock), Done)


def test_threads_take_turns(client: Client, orders: Any):
    together = threading.Barrier(4)

    def work(thread: int) -> None:
        together.wait(30)
        for number in range(20):
            with client.environment().begin(write=True) as transaction:
                transaction.put(b"%d %d" % (thread, number), b"", db=orders)
                client.within(transaction).enqueue(Entry("n", number))
            client.enqueue(Entry("n", "beside"))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [None] * 4
    assert stored(client, orders) == (80, 160)
