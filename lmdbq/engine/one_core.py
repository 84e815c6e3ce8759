"""One core for two threads: the event loop and the writer take turns, and each finds what the other has just used.

Only one of the two runs Python at a time (see ``baton``), so a second core does nothing for them; but the system wakes
each on whichever core is idle. Every turn then begins on a core whose caches hold other things, and which has to be
woken. What it is worth to keep them on one, ``python -m bench profile workers`` measures.

What could be lost: a core is shared with whoever else runs there, and from one that is given away for good (a process
in real time, or one that is tied to it) the two could not go elsewhere. So it is looked at, twice a second while there
is work: if the two have waited for the core for longer than they had it, they are let go for FREE_SECONDS, and then
stay where the system has put them. Whoever has chosen the cores for the process has chosen: others are never used.

The traps: threads inherit the cores of the one that starts them, so those of the loop's executor are told to take any;
and waiting is judged for both together, since each of the two waits for the other as a matter of course.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

FREE_SECONDS: Final = 10.0
WAITED_NS_MIN: Final = 100_000_000  # since the last look; less is no reason to move
_THREADS: Final = Path("/proc/self/task")
_CORE_FIELD: Final = 36  # of a thread's stat, behind its name: the core that it was on last


class Spent(NamedTuple):
    """What threads have had of a core, and for how long they were ready for one and had none, in ns."""

    ran_ns: int
    waited_ns: int


class OneCore:
    """Keeps threads of this process on one core. Made on the event loop's thread, which is the first of them.

    Does nothing where there is only one core, or where the system does not tell or allow what is needed (it is not
    Linux, or a sandbox). threads: their native ids; none: there is nothing to do.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: Sequence[int]) -> None:
        self._threads = threads
        self.core: int | None = None  # which it is now; None while they are free
        self._free_until = 0.0
        self._work_done = 0
        self._before = Spent(0, 0)
        self._allowed = _allowed(threads)
        if self._allowed:
            loop.set_default_executor(ThreadPoolExecutor(initializer=_go_to, initargs=(0, self._allowed)))
            self._keep()

    def look(self, work_done: int) -> None:
        """Let go of the core if others have it; take one again after a while. To be called now and then.

        work_done: by the threads, in any unit. Who has done none since the last look waits for no core.
        """
        if not self._allowed or work_done == self._work_done:
            return
        self._work_done = work_done
        if self.core is None:
            if self._now() >= self._free_until:
                self._keep()
            return
        before, self._before = self._before, self._spent()
        waited_ns = self._before.waited_ns - before.waited_ns
        if waited_ns > max(self._before.ran_ns - before.ran_ns, WAITED_NS_MIN):
            self._free_until = self._now() + FREE_SECONDS
            self.let_go()

    def let_go(self) -> None:
        """Let the threads run on any core that was allowed at the start."""
        if self.core is not None:
            self.core = None
            self._put(self._allowed)

    _now = staticmethod(time.monotonic)

    def _keep(self) -> None:
        text = (_THREADS / str(self._threads[0]) / "stat").read_text(encoding="utf-8", errors="replace")
        core = int(text.rpartition(") ")[2].split()[_CORE_FIELD])
        if self._put({core}):
            self.core = core
            self._before = self._spent()
        else:  # not for one of them at least: from now on the system alone places them
            self._put(self._allowed)
            self._allowed = set()

    def _put(self, cores: set[int]) -> bool:
        """Have the threads run on these cores; return whether the system allows it."""
        return all(_go_to(thread, cores) for thread in self._threads)

    def _spent(self) -> Spent:
        rows = [(_THREADS / str(thread) / "schedstat").read_text(encoding="ascii").split() for thread in self._threads]
        return Spent(sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows))


def _go_to(thread: int, cores: set[int]) -> bool:
    """Have a thread run on one of these cores; return whether the system allows it. thread 0: this one."""
    try:
        os.sched_setaffinity(thread, cores)
    except OSError:
        return False
    return True


def _allowed(threads: Sequence[int]) -> set[int]:
    """Return the cores that may be chosen from; none if there is no choice, or nobody tells how it goes."""
    if not threads or not all((_THREADS / str(thread) / "schedstat").exists() for thread in threads):
        return set()
    cores = os.sched_getaffinity(0)
    return cores if len(cores) > 1 else set()
