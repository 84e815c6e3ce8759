"""The loop and the writer on one core: kept there, let go when others have it, and never a reason not to start."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from lmdbq.clock import SystemClock
from lmdbq.engine import one_core
from lmdbq.engine.one_core import FREE_SECONDS, OneCore, Spent
from lmdbq.store.lmdb import open_store
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import enqueue, running, within

SECOND_NS = 1_000_000_000


class Judged(OneCore):
    """What the threads have had, and the time, are what the test says."""

    spent = Spent(0, 0)
    now = 100.0

    def _spent(self) -> Spent:
        return self.spent

    def _now(self) -> float:
        return self.now

    def look_after(self, ran_seconds: float, waited_seconds: float) -> int | None:
        """Look when so much has been had since the last look, and return the core that is kept."""
        ran, waited = int(ran_seconds * SECOND_NS), int(waited_seconds * SECOND_NS)
        self.spent = Spent(self.spent.ran_ns + ran, self.spent.waited_ns + waited)
        self.look(self._work_done + 1)
        return self.core


@pytest.fixture
def here() -> set[int]:
    return os.sched_getaffinity(0)


async def kept() -> Judged:
    """Return what keeps the loop's thread on a core."""
    return Judged(asyncio.get_running_loop(), (threading.get_native_id(),))


def cores_of(threads: tuple[int, ...]) -> list[set[int]]:
    return [os.sched_getaffinity(thread) for thread in threads]


async def test_loop_and_writer_are_on_one_core_and_nobody_else_is(tmp_path: Path, here: set[int]):
    async with running(open_store(tmp_path), SystemClock(), one_core=True) as engine:
        threads = engine._committer.thread_ids
        assert len(set(threads)) == 2
        first, second = cores_of(threads)
        assert first == second <= here
        assert len(first) == 1
        assert await asyncio.to_thread(os.sched_getaffinity, 0) == here
        await within(enqueue(engine))
    assert os.sched_getaffinity(0) == here
    engine.store.close()


async def test_without_it_the_system_places_them(here: set[int]):
    async with running(MemoryStore(), SystemClock()) as engine:
        assert cores_of(engine._committer.thread_ids) == [here, here]


async def test_a_core_that_others_have_is_let_go_and_another_one_taken_later(here: set[int]):
    keeping = await kept()
    assert len(os.sched_getaffinity(0)) == 1
    assert keeping.look_after(0.9, 0.8) is not None
    assert keeping.look_after(0.01, 0.09) is not None, "that is no time"
    assert keeping.look_after(0.4, 0.5) is None
    assert os.sched_getaffinity(0) == here
    keeping.now += FREE_SECONDS - 1
    assert keeping.look_after(0.0, 9.0) is None
    keeping.now += 2
    assert keeping.look_after(0.0, 9.0) is not None
    assert len(os.sched_getaffinity(0)) == 1
    assert keeping.look_after(0.9, 0.8) is not None, "what was waited for while they were free does not count"
    keeping.let_go()
    assert os.sched_getaffinity(0) == here


async def test_who_has_done_nothing_is_not_looked_at(here: set[int]):
    keeping = await kept()
    keeping.spent = Spent(0, SECOND_NS)
    keeping.look(0)
    assert keeping.core is not None
    keeping.look(1)
    assert keeping.core is None
    assert os.sched_getaffinity(0) == here


@pytest.mark.parametrize("refused_at", [1, 2])
async def test_a_system_that_does_not_allow_it_places_them_itself(
    refused_at: int, here: set[int], monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[int, set[int]]] = []
    put = os.sched_setaffinity

    def refusing(thread: int, cores: set[int]) -> None:
        asked.append((thread, cores))
        if len(asked) == refused_at:
            raise PermissionError("a sandbox")
        put(thread, cores)

    monkeypatch.setattr(os, "sched_setaffinity", refusing)
    async with running(MemoryStore(), SystemClock(), one_core=True) as engine:
        assert cores_of(engine._committer.thread_ids) == [here, here]
        assert await asyncio.to_thread(os.sched_getaffinity, 0) == here
        await within(enqueue(engine))
        tried = len(asked)
        engine._one_core.look(10)
        assert len(asked) == tried


async def test_where_nothing_tells_of_waiting_nothing_is_done(
    here: set[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(one_core, "_THREADS", tmp_path)
    async with running(MemoryStore(), SystemClock(), one_core=True) as engine:
        assert cores_of(engine._committer.thread_ids) == [here, here]
        engine._one_core.look(10)
        assert engine._one_core.core is None
