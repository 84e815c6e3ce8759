"""Functions with a cron: a worker puts their schedules, and what fires is run."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

import lmdbq
from lmdbq import Cron, InvalidInput, Unreachable
from lmdbq.testing import MemoryClient
from lmdbq.testing import queue as queue


def nightly() -> tuple[lmdbq.Tasks, list[str]]:
    tasks, ran = lmdbq.Tasks(), []

    @tasks.task(cron=Cron("0 3 * * *", timezone="Europe/Berlin"), priority=-1)
    def report(day: str = "today") -> None:
        ran.append(day)

    @tasks.task("tick", cron="* * * * *")
    async def ticking() -> None:
        ran.append("tick")

    return tasks, ran


def test_a_worker_puts_the_schedules_of_its_functions_and_runs_what_fires():
    queue = MemoryClient(at=datetime(2026, 3, 4, 5, 6, 30, tzinfo=UTC))
    tasks, ran = nightly()
    worker = lmdbq.Worker(queue, tasks)
    assert worker.drain() == 0
    assert [(one.name, one.cron.expression, one.task["type"]) for one in queue.schedules()] == [
        ("cron:report", "0 3 * * *", "report"),
        ("cron:tick", "* * * * *", "tick"),
    ]

    queue.advance(40)
    assert lmdbq.Worker(queue, tasks).drain() == 1
    queue.advance(86_400)
    assert lmdbq.Worker(queue, tasks).drain() == 2

    assert sorted(ran) == ["tick", "tick", "today"]
    assert queue.check() == []
    queue.close()


def test_a_worker_that_starts_again_changes_nothing_and_leaves_a_pause(queue: MemoryClient):
    tasks, _ = nightly()
    lmdbq.Worker(queue, tasks).drain()
    queue.schedule("cron:tick").pause()
    before = queue.schedules()

    lmdbq.Worker(queue, tasks).drain()

    assert queue.schedules() == before
    assert before[1].paused


def test_a_schedule_whose_function_is_gone_stays(queue: MemoryClient):
    lmdbq.Worker(queue, nightly()[0]).drain()
    other = lmdbq.Tasks()
    other.task("other")(lambda: None)

    lmdbq.Worker(queue, other).drain()
    queue.advance(86_400)

    assert len(queue.schedules()) == 2
    assert queue.tasks(state="ready").count() == 2


def test_a_running_worker_waits_for_its_queue_and_then_puts_them(queue: MemoryClient):
    tasks, _ran = nightly()
    seen = threading.Event()

    @tasks.task
    def done() -> None:
        seen.set()

    with lmdbq.Worker(queue, tasks):
        queue.enqueue(done)
        assert seen.wait(30)
        assert len(queue.schedules()) == 2


def test_without_a_daemon_a_drain_says_so():
    tasks, _ = nightly()
    with lmdbq.Client("http://127.0.0.1:1", timeout=0.1) as client, pytest.raises(Unreachable):
        lmdbq.Worker(client, tasks).drain()


@pytest.mark.parametrize("cron", ["", "* * * *", Cron("@daily", timezone="Mars/Phobos")])
def test_a_cron_that_cannot_be_is_refused_where_it_stands(cron: Any):
    with pytest.raises(InvalidInput, match="greet"):
        lmdbq.Tasks().task("greet", cron=cron)(lambda: None)


def test_a_function_that_needs_arguments_cannot_have_a_cron():
    def greet(name: str) -> str:
        return name

    with pytest.raises(TypeError, match="without arguments"):
        lmdbq.Tasks().task(cron="@daily")(greet)
