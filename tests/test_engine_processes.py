"""The engine beside other processes in the same file: their commits wake it, their locks do not freeze it, and it syncs
once for many callers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lmdbq.clock import SystemClock
from lmdbq.engine import Busy, Engine
from lmdbq.engine import queue as queue_module
from lmdbq.engine import watch as watch_module
from lmdbq.engine.committer import Commit
from lmdbq.model import Call, Claim, Enqueue, Entry, Filter, State
from lmdbq.store.base import Store
from tests.engine_tools import WatchedStore, barrier, dequeue, enqueue, ids, open_any, park, running, within

_CLAIM = Claim(("default",))

# Each is a program for another process; it says a line when it has done something, and waits for one.
ENQUEUE = """
import sys
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Enqueue, Entry
from lmdbq.store.lmdb import open_store
store = open_store(sys.argv[1])
store.info()
print("open", flush=True)
for line in sys.stdin:
    applied = store.apply([Call((Enqueue([Entry()]),))], SystemClock())
    print(applied.outcomes[0].outcomes[0].ids[0], flush=True)
"""
HOLD_THE_LOCK = """
import sys
from contextlib import contextmanager
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Promote
from lmdbq.store.lmdb import open_store
store = open_store(sys.argv[1])
@contextmanager
def gate():
    print("held", flush=True)
    sys.stdin.readline()
    yield
store.apply([Call((Promote(),))], SystemClock(), gate())
print("free", flush=True)
"""
SINGLE_ENQUEUES = """
import asyncio, sys
from lmdbq.clock import SystemClock
from lmdbq.engine import Engine
from lmdbq.model import Enqueue, Entry
from lmdbq.store.lmdb import open_store
store = open_store(sys.argv[1])
async def caller(engine, numbers):
    for number in numbers:
        await engine.call(Enqueue([Entry()]))
async def main():
    engine = Engine(store, SystemClock(), timers=False)
    await engine.start()
    sys.stderr.write("mark\\n")
    numbers = iter(range(1000))
    await asyncio.gather(*(caller(engine, numbers) for _ in range(64)))
    sys.stderr.write("mark\\n")
    await engine.stop()
asyncio.run(main())
assert store.check() == []
store.close()
"""


class Other:
    """Another process; ``ask`` sends it a line and returns its next one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> str:
        assert self._process.stdout is not None
        line = (await within(self._process.stdout.readline())).decode().strip()
        assert line, "the other process has ended"
        return line

    async def ask(self) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.answer()


@contextlib.asynccontextmanager
async def other_process(program: str, directory: Path) -> AsyncIterator[Other]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(directory / "q")), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Other(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await within(process.wait())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_any("lmdb", tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("how", ["inotify", "poll"])
async def test_a_commit_of_another_process_wakes_who_waits(
    store: Store, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
):
    if how == "poll":
        monkeypatch.setattr(watch_module, "open_watch", lambda _path: None)
    else:
        monkeypatch.setattr(queue_module, "LOOK_SECONDS", 3600)  # so that it cannot be the regular look that finds it
    async with running(store, SystemClock()) as engine, other_process(ENQUEUE, tmp_path) as other:
        assert await other.answer() == "open"
        for _ in range(5):
            waiter = await park(engine)
            task_id = int(await other.ask())
            assert ids(await within(waiter)) == [task_id]


async def test_foreign_commits_between_our_own_lose_no_wake_up(store: Store, tmp_path: Path):
    async with running(store, SystemClock()) as engine, other_process(ENQUEUE, tmp_path) as other:
        assert await other.answer() == "open"
        busy = asyncio.create_task(enqueue_until_cancelled(engine))
        for _ in range(50):
            waiter = asyncio.create_task(dequeue(engine, wait=60))
            task_id = int(await other.ask())
            assert ids(await within(waiter)) == [task_id]
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


async def test_a_foreign_commit_between_our_commit_and_its_answers_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue_module, "LOOK_SECONDS", 3600)
    clock = SystemClock()
    async with running(store, clock, timers=False) as engine:
        waiter = await park(engine)
        deliver = engine._committer._deliver
        assert engine._watch._file is not None
        asyncio.get_running_loop().remove_reader(engine._watch._file.fileno())  # heard once, at the worst moment

        def deliver_late(commit: Commit) -> None:
            engine._committer._deliver = deliver  # type: ignore[method-assign]
            store.apply([Call((Enqueue([Entry()]),))], clock)
            engine._watch._heard()  # comes while our own apply is not settled, and so must not be judged yet
            deliver(commit)

        engine._committer._deliver = deliver_late  # type: ignore[method-assign]
        await enqueue(engine, Entry(queue="elsewhere"))
        assert len((await within(waiter)).tasks) == 1


async def enqueue_until_cancelled(engine: Engine) -> None:
    while True:  # without wait_for, which forgets a cancellation that comes together with the result (until 3.12)
        await engine.call(Enqueue([Entry(queue="elsewhere")]))


async def test_our_own_commits_are_not_taken_for_foreign_ones(store: Store):
    watched = WatchedStore(store)
    async with running(watched, SystemClock(), timers=False) as engine:
        idle = await park(engine)
        tried_len = watched.claims_len()
        for _ in range(20):
            await enqueue(engine, Entry(queue="elsewhere"))
            await barrier(engine)
        assert watched.claims_len() == tried_len
        idle.cancel()


async def test_while_another_process_holds_the_lock_the_loop_is_free_and_calls_wait(store: Store, tmp_path: Path):
    async with running(store, SystemClock()) as engine, other_process(HOLD_THE_LOCK, tmp_path) as other:
        assert await other.answer() == "held"
        waiting = asyncio.create_task(enqueue(engine))
        loop = asyncio.get_running_loop()
        free_since = loop.time()
        async with asyncio.timeout(60):  # a machine with much to do may halt it now and then, but not all the time
            while loop.time() < free_since + 3.0 or engine.status().lock_wait_seconds <= 1.0:
                at = loop.time()
                await asyncio.sleep(0.01)
                if loop.time() > at + 0.5:  # it stood still
                    free_since = loop.time()
        assert not waiting.done()
        assert await other.ask() == "free"
        assert len(await within(waiting)) == 1
        await barrier(engine)
        assert engine.status().lock_wait_seconds == 0.0


async def test_a_lock_that_is_held_for_too_long_makes_new_calls_busy(store: Store, tmp_path: Path):
    async with (
        running(store, SystemClock(), busy_seconds=0.2) as engine,
        other_process(HOLD_THE_LOCK, tmp_path) as other,
    ):
        assert await other.answer() == "held"
        waiting = asyncio.create_task(enqueue(engine))
        while engine.status().lock_wait_seconds <= 0.2:
            await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await engine.call(Enqueue([Entry()]))
        assert await other.ask() == "free"
        assert len(await within(waiting)) == 1
        assert len(await enqueue(engine)) == 1


async def test_a_caller_who_has_gone_leases_nothing_in_the_file(store: Store):
    clock = SystemClock()
    async with running(store, clock, timers=False) as engine:
        await enqueue(engine, *[Entry()] * 10)
        for yields in range(8):
            task = asyncio.create_task(engine.dequeue(_CLAIM, 60))
            for _ in range(yields):
                await asyncio.sleep(0)
            task.cancel()
            [result] = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result, BaseException):
                await engine.release(result[0])
        await barrier(engine)
        assert store.count(Filter(states=(State.READY,))) == 10


async def test_an_idle_engine_leaves_the_file_alone(store: Store):
    async with running(store, SystemClock()) as engine:
        waiters = [await park(engine), await park(engine, "other", types=("x",))]
        changed = store.changed()
        looks = asyncio.Event()
        remaining = [3]
        original = engine._watch.look

        def look() -> None:
            original()
            remaining[0] -= 1
            if remaining[0] == 0:
                looks.set()

        engine._watch.look = look  # type: ignore[method-assign]
        await within(looks.wait())
        assert store.changed() == changed
        for waiter in waiters:
            waiter.cancel()


def test_64_callers_and_a_thousand_single_enqueues_share_syncs(tmp_path: Path):
    strace = shutil.which("strace")
    assert strace, "install strace"
    traced = tmp_path / "trace"
    calls = "trace=fdatasync,fsync,msync,pwrite64,pwritev,openat,write"
    subprocess.run(
        [strace, "-f", "-qq", "-e", calls, "-o", traced, sys.executable, "-c", SINGLE_ENQUEUES, tmp_path / "q"],
        check=True,
        timeout=600,
        stderr=subprocess.PIPE,
    )
    lines = traced.read_text().splitlines()
    first, last = (index for index, line in enumerate(lines) if 'write(2, "mark' in line)
    synced_writes = {match[1] for line in lines[:first] if (match := re.search(r"DSYNC.* = (\d+)$", line))}
    sync = re.compile(rf"\b(fdatasync|fsync|msync)\(|\bpwrite\w*\(({'|'.join(synced_writes)}),")
    assert 0 < sum(bool(sync.search(line)) for line in lines[first:last]) <= 1000 / 3
