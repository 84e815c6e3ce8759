"""Sets in programs: handlers that add to their own set, callbacks that are functions, in memory and in a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lmdbq
from lmdbq import Client, Dead, Worker
from lmdbq.testing import MemoryClient
from lmdbq.testing import queue as queue


def crawler(client: Client) -> tuple[lmdbq.Tasks, Any]:
    """Return tasks that spread, a page adding those that it links to; and their functions, with what they were told."""
    tasks, told = lmdbq.Tasks(), list[Any]()

    @tasks.task
    def page(depth: int) -> None:
        for _ in range(depth):
            client.enqueue(page.using(set=lmdbq.current().task.set), depth - 1)
        if depth < 0:
            raise Dead("too deep")

    @tasks.task
    def report(set_id: str, state: str, **counts: Any) -> None:
        assert lmdbq.current().task.callback_of == set_id
        told.append((state, counts["members"], counts["succeeded"], counts["dead"]))

    @tasks.task
    def done() -> None:
        told.append(lmdbq.current().task.callback_of)

    return tasks, SimpleNamespace(page=page, report=report, done=done, told=told)


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_a_handler_adds_to_its_set_while_it_is_closed(place: str, tmp_path: Path):
    with MemoryClient() if place == "memory" else Client(tmp_path / "q") as client:
        tasks, names = crawler(client)
        with client.set(callback=names.report) as pages:
            pages.enqueue(names.page, 3)
        assert Worker(client, tasks).drain() == 17  # 1 + 3 + 6 + 6 pages, and what follows
        assert names.told == [("met", 16, 16, 0)]
        store = client.place.embedded.queue().store  # type: ignore[attr-defined]
        assert store.check() == []


def test_an_unmet_set_and_a_function_that_is_told_nothing(queue: MemoryClient):
    tasks, names = crawler(queue)
    with queue.set(callback=names.done, on_unmet=names.report) as first:
        first.enqueue(names.page, 0)
        first.enqueue(names.page, -1)
    second = queue.set(condition="any", callback=names.done)
    second.make([names.page.entry(0), names.page.entry(-1)], close=True)

    Worker(queue, tasks).drain()

    assert sorted(names.told, key=str) == [("unmet", 2, 1, 1), second.id]
