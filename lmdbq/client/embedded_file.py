"""An open queue of this process, without a daemon: a directory, or memory. Opened once, however often it is asked for.

``OpenQueue`` is a store, its engine, and who waits for what. Those of directories are shared: two clients of one
directory, in whatever spelling, get the same one, and the last to give it up closes it. The clock of a directory is
kept by one of the processes that wait for tasks there (a flock on ``timers.lock``); keeping it twice would be harmless.
All methods run on the loop of ``loop_thread``; ``open_*`` and ``give_up`` are for any other thread.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmdbq.client.loop_thread import engine_thread
from lmdbq.clock import Clock, SystemClock
from lmdbq.engine.groups import consumers_of
from lmdbq.engine.inline import InlineEngine
from lmdbq.engine.queue import Engine
from lmdbq.engine.registry import Registry
from lmdbq.engine.timers import Timers
from lmdbq.errors import InvalidInput, LmdbqError
from lmdbq.model import CallOutcome, Op, Problem
from lmdbq.store.base import Store

if TYPE_CHECKING:
    from lmdbq.client.embedded_within import Inside

LOCK_NAME: Final = "timers.lock"
LOCK_SECONDS: Final = 1.0  # between two tries to become the one who keeps the time
STOP_SECONDS: Final = 5.0  # at the end of the process


class OpenQueue:
    """A store and its engine. directory None: in memory; then its own engine keeps the time, by ``clock``."""

    def __init__(self, store: Store, clock: Clock, directory: Path | None, durability: str) -> None:
        self.store = store
        self.clock = clock
        self.directory = directory
        self.durability = durability
        self.users = 1
        self.workers = Registry()
        self.inside: dict[int, Inside] = {}  # transactions of callers, by thread
        self.engine = InlineEngine(store, clock) if directory is None else Engine(store, clock, timers=False)
        self._move: asyncio.Future[None] | None = None
        self._timers = Timers(store, clock, self._commit)
        self._timekeeper: asyncio.Task[None] | None = None
        self._lock_descriptor = -1

    async def started(self) -> OpenQueue:
        """Return this queue once its file is open and its engine runs."""
        if self.directory is not None:
            await asyncio.to_thread(self.store.info)  # opens the file; what is wrong with it is raised here
        await self.engine.start()
        return self

    async def stop(self) -> None:
        """Finish what is pending and close the file."""
        if self._timekeeper is not None:
            self._timekeeper.cancel()
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1
        with contextlib.suppress(LmdbqError):  # what failed was told to those whom it concerned
            await self.engine.stop()
        self.store.close()

    def is_consumed(self, queue: str, kind: str) -> bool:
        """Whether somebody asks for tasks of this type. In a directory others may, of whom nobody here knows."""
        if self.directory is not None:
            return True
        consumers = consumers_of(self.engine.consumers(), queue)
        if self.workers.takes(queue, kind, self.clock.wall_ns()):
            return True
        return consumers is not None and (consumers.any_type or kind in consumers.types)

    # --- who waits for the end of a task

    def next_move(self) -> asyncio.Future[None]:
        """Return a future that is done when something was changed through this queue."""
        if self._move is None:
            self._move = asyncio.get_running_loop().create_future()
        return self._move

    def moved(self) -> None:
        """Tell who waits that something was changed, and the timekeeper that something may be due sooner."""
        if self._move is not None and not self._move.done():
            self._move.set_result(None)
        self._move = None
        self._timers.poke()

    # --- keeping the time of a directory

    def keep_time(self) -> None:
        """Be, from now on, one of those of whom one keeps the time: somebody here waits for tasks."""
        if self.directory is not None and self._timekeeper is None:
            self._timekeeper = asyncio.get_running_loop().create_task(self._keep_time(self.directory / LOCK_NAME))

    async def _keep_time(self, lock: Path) -> None:
        self._lock_descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
        await self._timers.run()

    async def _commit(self, op: Op) -> CallOutcome:
        return await self.engine.call(op)

    def forget_in_child(self) -> None:
        """Let go, in a forked child, of the lock that its parent holds."""
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)


_lock = threading.Lock()
_open: dict[str, OpenQueue] = {}


def _forget_in_child() -> None:
    """After a fork: the parent's queues are not ours, and a thread that is not here may have held the lock."""
    global _lock
    _lock = threading.Lock()
    for queue in _open.values():
        queue.forget_in_child()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def open_directory(directory: Path, durability: str | None) -> OpenQueue:
    """Return the queue of a directory, shared with who else has it open here. Blocks while it is opened.

    durability: "full" or "batch"; None: as it is open already, else full. Raises InvalidInput if it is open with
    another durability, NotOurFile, FormatUnknown, CorruptFile, StoreFull.
    """
    from lmdbq.store.lmdb import open_store

    key = os.path.realpath(directory)
    with _lock:
        known = _open.get(key)
        if known is None:
            store = open_store(key, durability=durability or "full")
            known = OpenQueue(store, SystemClock(), Path(key), durability or "full")
            try:
                engine_thread.submit(known.started()).result()
            except BaseException:
                store.close()
                raise
            _open[key] = known
        elif durability not in (None, known.durability):
            detail = f"{directory} is open here with durability {known.durability!r}; one process has one"
            raise InvalidInput([Problem("bad_durability", "durability", detail)])
        else:
            known.users += 1
        return known


def open_memory(clock: Clock) -> OpenQueue:
    """Return a queue in memory that nobody else has."""
    from lmdbq.store.memory import MemoryStore

    queue = OpenQueue(MemoryStore(), clock, None, "none")
    engine_thread.submit(queue.started()).result()
    return queue


def give_up(queue: OpenQueue, *, wait: bool) -> None:
    """Give up one use of a queue; with the last one it is closed. wait: until that is done."""
    with _lock:
        queue.users -= 1
        if queue.users > 0:
            return
        if queue.directory is not None:
            _open.pop(str(queue.directory), None)
        stopped = engine_thread.submit(queue.stop())
        if wait:
            stopped.result()


@atexit.register
def _close_all() -> None:
    """Let the engines finish what they are at when the process ends; nothing unanswered is owed to anybody."""
    while _open:
        _, queue = _open.popitem()
        with contextlib.suppress(TimeoutError):
            engine_thread.submit(queue.stop()).result(STOP_SECONDS)
