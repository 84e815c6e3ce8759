"""Correct calls: mypy --strict and pyright must accept all of this, and infer what ``assert_type`` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_type

import lmdbq
from lmdbq import AsyncClient, AsyncHandle, Client, Dedupe, Entry, Handle, Keep, RetryStrategy, SetInfo, TaskInfo, Tasks


@dataclass
class Order:
    number: int
    total: float


def opened() -> Iterator[dict[str, int]]:
    yield {}


tasks = Tasks(lifespan=opened, queue="orders")


@tasks.task
def plain(order: Order, express: bool = False) -> str:
    return f"{order.number} {express}"


@tasks.task("mail.send", retry=[1, 10, timedelta(minutes=1)], dead_on=[ValueError], aliases=["mail"], run_in="process")
def send(to: str, *, copies: int = 1) -> None: ...


@tasks.task(timeout=30, priority=-5, keep=Keep(succeeded=3600, dead=timedelta(days=7)), tags=["net"])
async def fetch(url: str) -> list[int]:
    return [len(url)]


@tasks.task(
    retry=RetryStrategy(max_attempts=3, base=1, cap=60), dedupe=Dedupe("one", until="started"), cron="0 3 * * *"
)
def nightly() -> int:
    return 0


def produce(client: Client) -> None:
    handle = client.enqueue(plain, Order(1, 2.5), express=True)
    assert_type(handle, Handle[str])
    assert_type(handle.result(timeout=5), str)
    assert_type(client.enqueue(fetch, "http://localhost").result(), list[int])
    assert_type(client.enqueue(send.using(delay=60, dedupe="bob"), "bob", copies=2), Handle[None])
    assert_type(client.enqueue_many([nightly.entry(), nightly.using(priority=3).entry()]), list[Handle[int]])
    untyped = Entry[Any]("any", {"x": [1, None]}, scheduled_at=datetime.now().astimezone())
    assert_type(client.enqueue(untyped), Handle[Any])
    assert_type(client.task("tsk_00000000010").info(), TaskInfo)
    assert_type([task.state for task in client.tasks(queue="orders", state=["dead", "cancelled"])], list[str])
    assert_type(client.queue("orders").purge(), int)
    with client.set(condition="finished", callback=nightly, keep=timedelta(hours=1)) as batch:
        assert_type(batch.enqueue(plain, Order(1, 2.5)), Handle[str])
        assert_type(client.enqueue(fetch.using(set=batch), "http://localhost"), Handle[list[int]])
    assert_type(batch.wait(timeout=5), SetInfo)
    for lease in client.dequeue("orders", limit=10, wait=timedelta(seconds=1)):
        lease.succeed({"anything": 1})
    client.wait([handle, client.enqueue(nightly)], timeout=10)
    client.queue("orders").edit(max_running=3, paused=None or False)
    with client.environment().begin(write=True) as transaction:
        assert_type(client.within(transaction).enqueue(plain, Order(1, 2.5)), Handle[str])
        assert_type(client.within(transaction).enqueue_many([nightly.entry()]), list[Handle[int]])


async def produce_async(client: AsyncClient) -> None:
    handle = await client.enqueue(plain, Order(1, 2.5))
    assert_type(handle, AsyncHandle[str])
    assert_type(await handle.result(), str)
    assert_type(await (await client.enqueue(fetch, url="x")).result(timeout=1.5), list[int])
    assert_type(await client.enqueue_many([nightly.entry()]), list[AsyncHandle[int]])
    with client.environment().begin(write=True) as transaction:
        assert_type(client.within(transaction).enqueue(plain, Order(1, 2.5)), AsyncHandle[str])
    async for task in client.tasks(type="mail.send"):
        assert_type(task, TaskInfo)


async def call_directly() -> None:
    assert_type(plain(Order(1, 1.0)), str)
    assert_type(await fetch("x"), list[int])


def where() -> Client:
    try:
        return lmdbq.Client("./queue", durability="batch")
    except lmdbq.InvalidInput as error:
        raise SystemExit(error.detail) from error
