"""Workers that are broken off: cancelled while they begin, a second Ctrl-C while they end, a start that half fails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import lmdbq
from lmdbq import AsyncClient, Client, Worker
from lmdbq.client import processes
from tests import sdk_tasks

LONG_SECONDS = 300.0  # a grace that no test waits for


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(":memory:") as made:
        yield made
        assert made.place.embedded.queue().store.check() == []  # type: ignore[attr-defined]


class Holding:
    """Tasks that say when they run, and then wait until they are told to end."""

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()
        self.tasks = lmdbq.Tasks(lease=LONG_SECONDS)
        self.by_name: dict[str, Any] = {"thread": self.tasks.task(self.hold), "loop": self.tasks.task(self.hold_loop)}

    def hold(self) -> None:
        self.started.set()
        assert self.go_on.wait(LONG_SECONDS)

    async def hold_loop(self) -> None:
        self.started.set()
        await asyncio.Event().wait()


def test_a_second_ctrl_c_in_a_with_hands_back_what_runs(client: Client):
    holding = Holding()
    handle = client.enqueue(holding.by_name["thread"])
    worker = Worker(client, holding.tasks, grace=LONG_SECONDS)

    def interrupt() -> None:
        assert worker._stop.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    second = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), worker:
        assert holding.started.wait(60)
        second.start()
    assert handle.info().state == "ready"
    holding.go_on.set()
    second.join()


async def working(worker: Worker, inside: asyncio.Event) -> None:
    async with worker:
        inside.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("place", ["thread", "loop"])
@pytest.mark.parametrize("whole_loop", [False, True], ids=["cancelled twice", "the loop ends"])
async def test_who_does_not_wait_for_the_grace_of_an_app_hands_back_what_runs(place: str, whole_loop: bool):
    holding = Holding()
    async with AsyncClient(":memory:") as client:
        handle = await client.enqueue(holding.by_name[place])
        worker = Worker(client, holding.tasks, grace=LONG_SECONDS)
        inside = asyncio.Event()
        task = asyncio.create_task(working(worker, inside))
        await inside.wait()
        assert await asyncio.to_thread(holding.started.wait, 60)
        task.cancel()
        assert await asyncio.to_thread(worker._stop.wait, 60)
        for one in asyncio.all_tasks() - {asyncio.current_task()} if whole_loop else {task}:
            one.cancel()  # as asyncio.run does at its end
        done, _ = await asyncio.wait([task], timeout=60)
        assert [one.cancelled() for one in done] == [True]
        assert (await handle.info()).state == "ready"
        holding.go_on.set()


async def test_a_worker_that_is_cancelled_while_it_begins_does_not_go_on():
    entered, go_on, seen = asyncio.Event(), asyncio.Event(), []

    async def opened() -> AsyncIterator[None]:
        entered.set()
        await go_on.wait()
        yield
        seen.append("left")

    tasks = lmdbq.Tasks(lifespan=opened)
    never = tasks.task("never")(lambda: seen.append("ran"))
    async with AsyncClient(":memory:") as client:
        await client.enqueue(never)
        task = asyncio.create_task(working(Worker(client, tasks), asyncio.Event()))
        await entered.wait()
        task.cancel()
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert seen == ["left"]
        assert "lmdbq-claimer" not in {one.name for one in threading.enumerate()}


@pytest.mark.parametrize("begin", [Worker.run, Worker.drain, Worker.__enter__], ids=lambda begin: begin.__name__)
def test_a_lifespan_is_left_when_a_later_one_fails(client: Client, begin: Any):
    seen: list[str] = []

    def first() -> Iterator[None]:
        yield
        seen.append("left")

    def second() -> Iterator[None]:
        raise LookupError("no database")
        yield

    groups = [lmdbq.Tasks(lifespan=first), lmdbq.Tasks(lifespan=second)]
    for number, tasks in enumerate(groups):
        tasks.task(f"never-{number}")(lambda: None)
    with pytest.raises(LookupError, match="no database"):
        begin(Worker(client, *groups))
    assert seen == ["left"]


def test_a_process_that_could_not_be_started_is_started_for_the_next_attempt(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    start, failures = processes._spawning.Process.start, [BlockingIOError("no room for a process")]

    def start_later(process: Any) -> None:
        if failures:
            raise failures.pop()
        start(process)

    monkeypatch.setattr(processes._spawning.Process, "start", start_later)
    handle = client.enqueue(sdk_tasks.add.using(retry=[0]), 1)
    worker = Worker(client, sdk_tasks.tasks, processes=1)
    assert worker.drain(timeout=60) == 2
    assert handle.result() == 3


def test_a_word_is_not_taken_for_a_list_of_letters(client: Client):
    with pytest.raises(TypeError, match=r"queues=\['orders'\]"):
        Worker(client, sdk_tasks.tasks, queues="orders")
    with pytest.raises(TypeError, match=r"aliases=\['mail'\]"):
        lmdbq.Tasks().task("mail.send", aliases="mail")(len)
    with pytest.raises(lmdbq.InvalidInput, match="/tags"):
        client.enqueue(sdk_tasks.add.using(tags="urgent"), 1)


HEARD_ELSEWHERE = """
import signal, threading, lmdbq
tasks, works = lmdbq.Tasks(), threading.Event()

@tasks.task
def interrupt() -> None:  # as the kernel may have it, when a signal is for the whole process
    works.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

with lmdbq.Client(":memory:") as client:
    client.enqueue(interrupt)
    lmdbq.Worker(client, tasks).run(ready=works.set)
"""


def test_a_signal_that_another_thread_takes_ends_the_worker_too():
    assert subprocess.run([sys.executable, "-c", HEARD_ELSEWHERE], timeout=60, check=False).returncode == 0
