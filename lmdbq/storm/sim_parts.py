"""The parts of a simulation that take the place of threads, clocks and disks under the real engine.

``SimCommitter`` is the engine's committer without its thread: the transaction runs at one instant of virtual time,
after a drawn wait for the lock, and its end is told after a drawn wait for the disk. ``SimStore`` stands before a real
store: it shows each committed apply to the judge, and fails now and then. ``SimClock`` follows the loop; its wall time
steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from lmdbq.clock import Clock, ManualClock
from lmdbq.engine import Engine
from lmdbq.engine.committer import Commit, Committer
from lmdbq.errors import CommitUnknown, NotCommitted
from lmdbq.model import Applied, Call
from lmdbq.store.base import NO_GATE, Store
from lmdbq.storm.virtual_loop import VirtualLoop

TOGETHER: Final = 0.4  # share of the applies whose end the loop waits for, as it does for short ones
LOCK_SECONDS: Final = 0.002  # mean wait for the write lock
SYNC_SECONDS: Final = 0.004  # mean time of a commit
SLOW: Final = 0.01  # share of the applies that wait five times as long

Heard = Callable[[Sequence[Call], Applied, int, int], None]
"""Told of each committed apply: its calls, what became of them, and its wall and steady time."""


class SimClock(ManualClock):
    """A clock that follows a loop. ``step`` moves wall time, ``reboot`` begins a new boot."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._seen = 0.0

    def _follow(self) -> None:
        now = self._loop.time()
        if now > self._seen:
            self.advance(now - self._seen)
            self._seen = now

    def wall_ns(self) -> int:
        self._follow()
        return super().wall_ns()

    def steady_ns(self) -> int:
        self._follow()
        return super().steady_ns()


class SimCommitter(Committer):
    """A committer whose thread is drawn."""

    chosen: random.Random

    def start(self) -> None:
        """Nothing to start."""

    def _end_thread(self) -> None:
        """Nothing to end."""

    def _monotonic(self) -> float:
        return self._loop.time()

    def _apply(self, commit: Commit) -> None:
        super()._apply(commit)
        self._baton.end()  # the gate is not entered here, and the lock is waited for no longer

    def _hand_over(self, commit: Commit) -> None:
        if not commit.units:
            self._deliver(commit)
            return
        self._given = commit
        if self.chosen.random() < TOGETHER:
            self._apply(commit)
            self._deliver(commit)
        else:
            self._loop.call_later(self._drawn(LOCK_SECONDS), self._write, commit)

    def _write(self, commit: Commit) -> None:
        self._apply(commit)
        self._loop.call_later(self._drawn(SYNC_SECONDS), self._told, commit)

    def _drawn(self, mean_seconds: float) -> float:
        times = 5 if self.chosen.random() < SLOW else 1
        return min(self.chosen.expovariate(1 / mean_seconds), 3 * mean_seconds) * times


class SimEngine(Engine):
    """The real engine with a drawn thread."""

    committer_type = SimCommitter


class SimStore:
    """A store that shows what it has committed, and fails with a probability of ``failing`` per apply.

    A commit that fails in the middle may have happened or not: both are drawn.
    """

    def __init__(
        self, store: Store, chosen: random.Random, heard: Heard, refused: Callable[[Sequence[Call]], None]
    ) -> None:
        self.inner = store
        self.failing = 0.0
        self.version = 0  # of what is committed
        self._chosen = chosen
        self._heard = heard
        self._refused = refused

    def apply(self, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None] = NO_GATE) -> Applied:
        if self._chosen.random() < self.failing:
            if self._chosen.random() < 0.7:
                self._refused(calls)
                raise NotCommitted("the simulated disk is full")
            if self._chosen.random() < 0.5:
                self._commit(calls, clock)
            raise CommitUnknown("the simulated disk has failed")
        return self._commit(calls, clock)

    def _commit(self, calls: Sequence[Call], clock: Clock) -> Applied:
        self.version += 1
        applied = self.inner.apply(calls, clock)
        self._heard(calls, applied, clock.wall_ns(), clock.steady_ns())
        return applied

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def seconds_ns(seconds: float) -> int:
    """Return whole microseconds of ``seconds`` as nanoseconds."""
    return round(seconds * 1e6) * 1_000
