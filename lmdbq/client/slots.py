"""Threads that run what they are handed, at most so many at once, started when they are needed and kept.

They are daemon threads: a handler that does not end must not keep a program alive that was told to end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Threads:
    """Up to ``limit`` threads. name: what they are called. Once closed they take nothing more."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, in one of the threads, as soon as one is free."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._started < self._limit:
                self._started += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        """End the threads that are idle, and the others when they become so."""
        with self._lock:
            for _ in range(self._started):
                self._work.put(None)
