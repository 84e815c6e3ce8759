"""One core for two threads: the event loop and the writer take turns, and each finds what the other has just used.

Only one of the two runs Python at a time (see ``baton``), so a second core does nothing for them; but the system wakes
each on whichever core is idle. Every turn then begins on a core whose caches hold other things, and which has to be
woken. What it is worth to keep them on one, ``python -m bench profile workers`` measures.

What could be lost: the core is shared with whoever else runs there. The system moves those who may be moved; but from
a process that is tied to the core, or runs in real time, or from another daemon that has chosen the same core, the two
could not get away. So it is looked at, twice a second while there is work. If others had the core for at least half as
long as the two, while another core was idle, or for much longer than them, and that twice in a row, the two are let go
for FREE_SECONDS, and then stay where the system has put them. Whoever has chosen the cores for the process has chosen:
no others are used.

At the start a core is taken that serves fewer interrupts than the average: beside those of a disk that syncs for each
commit, half of the gain was lost.

The traps: threads inherit the cores of the one that starts them, so those of the loop's executor are told to take any.
And how long a thread has waited for a core says little: the two wait for each other as a matter of course, and a core
of a virtual machine can take its time to wake.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

FREE_SECONDS: Final = 10.0
OTHERS_SECONDS_MIN: Final = 0.1  # between two looks; less is no reason to move
_THREADS: Final = Path("/proc/self/task")
_CORES: Final = Path("/proc/stat")
_CORE_FIELD: Final = 36  # of a thread's stat, behind its name: the core that it was on last
_IDLE_FIELDS: Final = slice(3, 5)  # of a core's times: idle, and idle while somebody waits for a disk
_INTERRUPT_FIELDS: Final = slice(5, 7)  # hard and soft
_BUSY_FIELDS: Final = (0, 1, 2, 5, 6)  # user, nice, system, interrupts; what a hypervisor took is nobody's here


class Times(NamedTuple):
    """Seconds since the start: the threads', on whichever core; and each core's, busy and idle."""

    ours: float
    busy: dict[int, float]
    idle: dict[int, float]


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
        self._is_at_work = False  # whether the last look found work that was done
        self._was_taken = False  # whether others had the core between the last two looks
        self._before = Times(0.0, {}, {})
        self._allowed = _allowed(threads)
        if self._allowed:
            loop.set_default_executor(ThreadPoolExecutor(initializer=_go_to, initargs=(0, self._allowed)))
            with contextlib.suppress(OSError):  # what is told of cores cannot be read: they stay free
                self._keep(self._quiet_core())

    def look(self, work_done: int) -> None:
        """Let go of the core if others have it; take one again after a while. To be called now and then.

        work_done: by the threads, in any unit. Who has done none since the last look has no use for a core.
        """
        is_at_work, self._work_done = work_done != self._work_done, work_done
        was_at_work, self._is_at_work = self._is_at_work, is_at_work
        if self._allowed and is_at_work:
            with contextlib.suppress(OSError):  # no descriptor is left to look with, say: it stays as it is
                self._look(was_at_work=was_at_work)

    def _look(self, *, was_at_work: bool) -> None:
        if self.core is not None:
            before, self._before = self._before, self._times()
            is_taken = was_at_work and self._is_taken(before, self._before, self.core)
            if is_taken and self._was_taken:
                self._free_until = self._now() + FREE_SECONDS
                self.let_go()
            self._was_taken = is_taken
        elif self._now() >= self._free_until:
            self._keep(self._here())

    def _is_taken(self, before: Times, now: Times, core: int) -> bool:
        """Return whether others had too much of a core meanwhile. Cores that are not told of are not judged."""
        ours = now.ours - before.ours
        others = now.busy.get(core, 0) - before.busy.get(core, 0) - ours
        idle = max(now.idle.get(other, 0) - before.idle.get(other, 0) for other in self._allowed - {core})
        return others > OTHERS_SECONDS_MIN and (others > 4 * ours or (others > ours / 2 and idle > others / 2))

    def let_go(self) -> None:
        """Let the threads run on any core that was allowed at the start."""
        if self.core is not None:
            self.core = None
            self._put(self._allowed)

    _now = staticmethod(time.monotonic)

    def _keep(self, core: int) -> None:
        before = self._times()
        if self._put({core}):
            self.core, self._was_taken, self._before = core, False, before
        else:  # not for one of them at least: from now on the system alone places them
            self._put(self._allowed)
            self._allowed = set()

    def _here(self) -> int:
        """Return the core that the loop was on last."""
        text = (_THREADS / str(self._threads[0]) / "stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(") ")[2].split()[_CORE_FIELD])

    def _quiet_core(self) -> int:
        """Return the core that the loop is on, unless that serves more interrupts than most; else one that does not."""
        served = {core: sum(ticks[_INTERRUPT_FIELDS]) for core, ticks in _ticks().items() if core in self._allowed}
        quiet = [core for core in self._allowed if served.get(core, 0) * len(served) <= sum(served.values())]
        here = self._here()
        return here if here in quiet else random.choice(quiet)  # noqa: S311  (no secret)

    def _put(self, cores: set[int]) -> bool:
        """Have the threads run on these cores; return whether the system allows it."""
        return all(_go_to(thread, cores) for thread in self._threads)

    def _times(self) -> Times:
        rows = [(_THREADS / str(thread) / "schedstat").read_text(encoding="ascii").split() for thread in self._threads]
        per_second = os.sysconf("SC_CLK_TCK")
        cores = _ticks()
        busy = {core: sum(ticks[field] for field in _BUSY_FIELDS) / per_second for core, ticks in cores.items()}
        idle = {core: sum(ticks[_IDLE_FIELDS]) / per_second for core, ticks in cores.items()}
        return Times(sum(int(row[0]) for row in rows) / 1e9, busy, idle)


def _ticks() -> dict[int, list[int]]:
    """Return the times of each core, as the system's table says them."""
    lines = (line.split() for line in _CORES.read_text(encoding="ascii").splitlines())
    numbered = ((words[0].removeprefix("cpu"), words) for words in lines if words and words[0].startswith("cpu"))
    return {int(number): [int(text) for text in words[1:]] for number, words in numbered if number}


def _go_to(thread: int, cores: set[int]) -> bool:
    """Have a thread run on one of these cores; return whether the system allows it. thread 0: this one."""
    try:
        os.sched_setaffinity(thread, cores)
    except OSError:
        return False
    return True


def _allowed(threads: Sequence[int]) -> set[int]:
    """Return the cores that may be chosen from; none if there is no choice, or nobody tells how it goes."""
    told = [_CORES, *(_THREADS / str(thread) / "schedstat" for thread in threads)]
    if not threads or not all(path.exists() for path in told):
        return set()
    cores = os.sched_getaffinity(0)
    return cores if len(cores) > 1 else set()
