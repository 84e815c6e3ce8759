"""What eddyq's users rely on of their handlers: its checks by their numbers, as ``peer_checks`` counts them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lmdbq
from lmdbq import RetryStrategy, Worker
from lmdbq.testing import MemoryClient

AT_ONCE = RetryStrategy(max_attempts=2, intervals=[0, 0])


@pytest.fixture
def client() -> Any:
    with MemoryClient() as made:
        yield made
        assert made.check() == []


def work(client: MemoryClient, tasks: lmdbq.Tasks) -> int:
    return Worker(client, tasks).drain(timeout=60)


def test_eddyq_7_56_a_handler_that_raises_harms_no_other(client: MemoryClient):
    tasks = lmdbq.Tasks(retry=1)

    @tasks.task()
    def halve(number: int) -> float:
        return 1 / number

    jobs = [client.enqueue(halve, number) for number in (2, 0, 4)]
    work(client, tasks)

    assert [jobs[0].result(), jobs[2].result()] == [0.5, 0.25]
    assert jobs[1].info().errors[0].type == "ZeroDivisionError"


def test_eddyq_7_59_a_result_that_json_cannot_say_is_an_error_that_says_so(client: MemoryClient):
    tasks = lmdbq.Tasks(retry=1)

    @tasks.task()
    def odd() -> Any:
        return object()

    job = client.enqueue(odd)
    work(client, tasks)

    info = job.info()
    assert info.state == "dead"
    assert "result" in info.errors[0].message


def test_eddyq_7_60_a_handler_that_hangs_is_stopped_each_time_and_dead_in_the_end(client: MemoryClient):
    tasks = lmdbq.Tasks(retry=AT_ONCE)
    begun = []

    @tasks.task(timeout=0.05)
    async def hang() -> None:
        begun.append("one more")
        await asyncio.Event().wait()

    job = client.enqueue(hang)
    work(client, tasks)

    assert len(begun) == 2
    assert (job.info().state, {error.type for error in job.info().errors}) == ("dead", {"timeout"})


def test_eddyq_7_62_a_second_attempt_begins_when_the_first_has_been_stopped(client: MemoryClient):
    tasks = lmdbq.Tasks(retry=AT_ONCE)
    steps = []

    @tasks.task(timeout=0.05)
    async def hang() -> None:
        steps.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("stopped")

    client.enqueue(hang)
    work(client, tasks)

    assert steps == ["begun", "stopped"] * 2


def test_eddyq_7_71_a_worker_without_tasks_says_so(client: MemoryClient):
    with pytest.raises(ValueError, match="task"):
        Worker(client)


def test_eddyq_7_28_nothing_to_enqueue_is_nothing_done(client: MemoryClient):
    assert client.enqueue_many([]) == []
    assert client.queues() == []
