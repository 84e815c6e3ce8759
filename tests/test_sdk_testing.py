"""What lmdbq gives to the tests of others: memory, a clock to move, a drain, a fixture."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import lmdbq
from lmdbq.testing import AsyncMemoryClient, MemoryClient

tasks = lmdbq.Tasks()


@tasks.task(retry=[1, 10, 60])
def greet(name: str, loud: bool = False) -> str:
    if name == "nobody":
        raise ValueError(name)
    return f"Hello, {name}{'!!!' if loud else '.'}"


@pytest.fixture
def queue():
    with MemoryClient() as client:
        yield client
        assert client.check() == []


def test_time_moves_only_when_it_is_told_to(queue: MemoryClient):
    job = queue.enqueue(greet.using(delay=60), "Ada", loud=True)
    assert lmdbq.Worker(queue, tasks).drain() == 0
    queue.advance(timedelta(seconds=59))
    assert job.info().state == "scheduled"
    queue.advance(1)
    assert job.info().state == "ready"
    assert lmdbq.Worker(queue, tasks).drain() == 1
    assert job.result() == "Hello, Ada!!!"


def test_a_backoff_is_walked_through(queue: MemoryClient):
    job = queue.enqueue(greet, "nobody")
    worker = lmdbq.Worker(queue, tasks)
    for seconds in (1, 10, 60):
        assert worker.drain() == 1
        assert job.info().state == "scheduled"
        queue.advance(seconds)
    assert worker.drain() == 1
    assert (job.info().state, len(job.info().errors)) == ("dead", 4)
    queue.advance(timedelta(days=31))
    with pytest.raises(lmdbq.TaskGone):
        job.info()


def test_a_lease_lapses_and_a_task_expires(queue: MemoryClient):
    silent = queue.enqueue(greet.using(lease=30), "Ada")
    queue.dequeue(wait=0)
    late = queue.enqueue(greet.using(expires=10), "Bob")
    queue.advance(31)
    assert silent.info().errors[0].type == "lease_lapsed"
    with pytest.raises(lmdbq.TaskGone):
        late.info()


def test_a_parked_worker_sees_time_move():
    async def scenario() -> str:
        async with AsyncMemoryClient() as client, lmdbq.Worker(client, tasks):
            job = await client.enqueue(greet.using(delay=3600), "Ada")
            client.advance(3600)
            return await job.result(timeout=30)

    assert asyncio.run(scenario()) == "Hello, Ada."


def test_a_test_begins_now_or_when_it_says():
    before = datetime.now(UTC)
    with MemoryClient() as queue:
        created_at = queue.enqueue(greet, "Ada").info().created_at
        assert before - timedelta(seconds=1) < created_at < datetime.now(UTC) + timedelta(seconds=1)
        assert queue.check() == []
    with MemoryClient(at=datetime(2030, 3, 31, 0, 59, tzinfo=UTC)) as queue:
        job = queue.enqueue(greet.using(scheduled_at=datetime(2030, 3, 31, 1, tzinfo=UTC)), "Ada")
        assert lmdbq.Worker(queue, tasks).drain() == 0
        queue.advance(60)
        assert lmdbq.Worker(queue, tasks).drain() == 1
        assert job.result() == "Hello, Ada."
        assert queue.check() == []
    with pytest.raises(lmdbq.InvalidInput, match="no time zone"):
        MemoryClient(at=datetime(2030, 1, 1))


def one_test() -> None:
    with MemoryClient() as queue:
        job = queue.enqueue(greet.using(delay=60), "Ada")
        queue.advance(60)
        assert lmdbq.Worker(queue, tasks).drain() == 1
        assert job.result() == "Hello, Ada."
        assert queue.check() == []


def empty_loop() -> None:
    asyncio.run(asyncio.sleep(0))


def processor_seconds(work: Callable[[], None]) -> float:
    """Return what ``work`` takes, of this process's processor time: a busy machine disturbs little."""
    began_at = time.process_time()
    for _ in range(20):
        work()
    return (time.process_time() - began_at) / 20


def test_what_it_adds_to_a_test_is_little():
    """Under 5 ms, said as a ratio: an event loop that is made, does nothing and is closed takes 0.15 ms there."""
    rounds = [(processor_seconds(one_test), processor_seconds(empty_loop)) for _ in range(6)]
    tests, loops = zip(*rounds, strict=True)
    assert min(tests) / min(loops) < 33  # it is about 17


CONFTEST = "from lmdbq.testing import queue\n"
TEST = """
import lmdbq
tasks = lmdbq.Tasks()

@tasks.task
def add(a: int, b: int) -> int:
    return a + b

def test_add(queue):
    job = queue.enqueue(add, 1, 2)
    assert lmdbq.Worker(queue, tasks).drain() == 1
    assert job.result() == 3
"""


@pytest.mark.parametrize("conftest", [CONFTEST, 'pytest_plugins = ["lmdbq.testing"]\n'], ids=["import", "plugin"])
def test_the_fixture(tmp_path: Path, conftest: str):
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_add.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000, check=False)
    assert "1 passed" in done.stdout, done.stdout
