"""One event loop on a thread of its own, for all that a process has open without a daemon.

The engine lives on an event loop, and callers may have none (the sync client), have one that ends before the next
begins (``asyncio.run`` twice), or be many threads. So every embedded queue of a process runs here, and callers on any
thread or loop wait for futures. The thread starts with the first call and is a daemon thread: it keeps no process
alive. The trap is fork: the child has no such thread, so it makes its own when it first needs one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop that runs until the process ends. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.reset()

    def reset(self) -> None:
        """Forget the loop; the next call makes another. For a forked child, where its thread is not."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run ``work`` on the loop. Cancelling the future cancels the work."""
        return asyncio.run_coroutine_threadsafe(work, self.loop())

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def close(self, seconds: float) -> None:
        """Stop and close the loop, if there is one. The next call makes another.

        seconds: for how long to wait for it; one that is blocked is left to its thread, which keeps no process alive.
        """
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(seconds)
            if not self._thread.is_alive():
                loop.close()


engine_thread = LoopThread("lmdbq-engine")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=engine_thread.reset)
