"""The loop and the writer on one core: kept there, let go when others have it, and never a reason not to start."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from lmdbq.clock import SystemClock
from lmdbq.engine import one_core
from lmdbq.engine.one_core import FREE_SECONDS, OneCore, Times
from lmdbq.store.lmdb import open_store
from lmdbq.store.memory import MemoryStore
from tests.engine_tools import enqueue, running, within


class Judged(OneCore):
    """What the cores have done, and the time, are what the test says. There are two cores."""

    ours = 0.0
    others = 0.0
    idle = 0.0
    now = 100.0

    def _times(self) -> Times:
        cores = sorted(self._allowed)[:2]
        busy = dict.fromkeys(cores, self.ours + self.others)
        return Times(self.ours, busy, dict.fromkeys(cores, self.idle))

    def _now(self) -> float:
        return self.now

    def look_after(self, ours: float, others: float, idle: float, *, work: int = 1) -> bool:
        """Look when the threads and others had the core for so long, and another one was idle; return if it is kept."""
        self.ours, self.others, self.idle = self.ours + ours, self.others + others, self.idle + idle
        self.look(self._work_done + work)
        return self.core is not None


@pytest.fixture
def here() -> set[int]:
    return os.sched_getaffinity(0)


async def kept() -> Judged:
    """Return what keeps the loop's thread on a core."""
    return Judged(asyncio.get_running_loop(), (threading.get_native_id(),))


async def kept_for_real() -> OneCore:
    return OneCore(asyncio.get_running_loop(), (threading.get_native_id(),))


def cores_of(threads: tuple[int, ...]) -> list[set[int]]:
    return [os.sched_getaffinity(thread) for thread in threads]


async def test_loop_and_writer_are_on_one_core_and_nobody_else_is(tmp_path: Path, here: set[int]) -> None:
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


async def test_without_it_the_system_places_them(here: set[int]) -> None:
    async with running(MemoryStore(), SystemClock()) as engine:
        assert cores_of(engine._committer.thread_ids) == [here, here]


@pytest.mark.parametrize(
    ("ours", "others", "idle", "is_kept"),
    [
        (0.4, 0.1, 0.4, True),  # whoever asks us runs there now and then
        (0.25, 0.25, 0.0, True),  # all cores are busy: there is no better one
        (0.25, 0.25, 0.4, False),  # another daemon has chosen the same
        (0.25, 0.25, 0.1, True),  # the other one is not much better
        (0.05, 0.45, 0.0, False),  # somebody in real time
        (0.01, 0.08, 0.4, True),  # that is no time
    ],
)
async def test_a_core_is_let_go_if_others_have_it(
    ours: float, others: float, idle: float, is_kept: bool, here: set[int]
) -> None:
    keeping = await kept()
    assert keeping.look_after(0.4, 0.0, 0.5)
    assert keeping.look_after(ours, others, idle), "once is an accident"
    assert keeping.look_after(ours, others, idle) == is_kept
    assert (len(os.sched_getaffinity(0)) == 1) == is_kept
    keeping.let_go()
    assert os.sched_getaffinity(0) == here


async def test_another_core_is_taken_after_a_while(here: set[int]) -> None:
    keeping = await kept()
    assert keeping.look_after(0.4, 0.0, 0.5)
    assert keeping.look_after(0.0, 0.5, 0.5)
    assert keeping.look_after(0.4, 0.0, 0.5), "they have gone"
    assert keeping.look_after(0.0, 0.5, 0.5)
    assert not keeping.look_after(0.0, 0.5, 0.5)
    keeping.now += FREE_SECONDS - 1
    assert not keeping.look_after(0.4, 0.0, 0.5)
    assert os.sched_getaffinity(0) == here
    keeping.now += 2
    assert keeping.look_after(0.0, 0.5, 0.5)
    assert keeping.look_after(0.4, 0.0, 0.5), "what others had while the threads were free does not count"
    assert len(os.sched_getaffinity(0)) == 1
    keeping.let_go()


async def test_what_others_had_while_there_was_no_work_does_not_count(here: set[int]) -> None:
    keeping = await kept()
    assert keeping.look_after(0.4, 0.0, 0.5)
    assert keeping.look_after(0.0, 9.0, 9.0, work=0)
    assert keeping.look_after(0.0, 9.0, 9.0), "there was none before it"
    assert keeping.look_after(0.0, 9.0, 9.0)
    assert not keeping.look_after(0.0, 9.0, 9.0)
    assert os.sched_getaffinity(0) == here


async def test_the_core_with_the_interrupts_is_left_alone(
    here: set[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(one_core, "_CORES", tmp_path / "stat")
    for loud in here:
        told = (f"cpu{core} 1 2 3 4 5 {900 if core == loud else 7} 20 0 0 0\n" for core in here)
        (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8 9 10\n" + "".join(told), encoding="ascii")
        keeping = await kept_for_real()
        assert keeping.core in here - {loud}
        keeping.let_go()


async def test_times_are_those_of_the_system() -> None:
    keeping = await kept_for_real()
    before = keeping._times()
    while keeping._times().ours < before.ours + 0.05:
        assert keeping.core is not None
    now = keeping._times()
    assert keeping.core is not None
    assert now.busy.keys() == now.idle.keys() >= {keeping.core}
    spent = now.busy[keeping.core] - before.busy[keeping.core]
    assert spent > 0.02, "told in steps of 10 ms"
    keeping.let_go()


async def test_cores_that_are_not_told_of_are_not_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu 1 2 3 4\nintr 7 8\ncpu900 1 2 3 4 5 6 7 8 9 10\n", encoding="ascii")
    monkeypatch.setattr(one_core, "_CORES", tmp_path / "stat")
    keeping = await kept_for_real()
    for done in range(1, 4):
        keeping.look(done)
        assert keeping.core is not None
    keeping.let_go()


@pytest.mark.parametrize("refused_at", [1, 2])
async def test_a_system_that_does_not_allow_it_places_them_itself(
    refused_at: int, here: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
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
) -> None:
    monkeypatch.setattr(one_core, "_THREADS", tmp_path)
    async with running(MemoryStore(), SystemClock(), one_core=True) as engine:
        assert cores_of(engine._committer.thread_ids) == [here, here]
        engine._one_core.look(10)
        assert engine._one_core.core is None


async def test_what_cannot_be_read_ends_neither_the_start_nor_the_looks(
    here: set[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keeping = await kept_for_real()
    kept_on = keeping.core
    with monkeypatch.context() as context:
        context.setattr(one_core, "_CORES", tmp_path)  # a directory: reading it fails
        keeping.look(1)
        keeping.look(2)
        assert keeping.core == kept_on
        keeping.let_go()
        free = await kept_for_real()
        assert free.core is None
        assert os.sched_getaffinity(0) == here
    free.look(1)
    assert free.core is not None, "it can be read again"
    free.let_go()
