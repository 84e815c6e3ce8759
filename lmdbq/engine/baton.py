"""The baton: only one of the event loop and the writer thread runs Python while tasks are being written.

LMDB gives up the interpreter lock in every call. Beside a busy event loop the writer thread would then wait a switch
interval for it after each single put, which costs most of the throughput. So while the writer puts, the loop *parks*:
one of its callbacks blocks on a plain lock until the writer is done with Python. While the writer waits for the file's
write lock, and while the disk syncs, the loop is free.

The trap is a loop that never comes to park: it was stopped, it was closed, or one of its callbacks runs for long. The
writer holds the file's lock meanwhile and must not wait for ever, so it waits LOOP_WAIT_SECONDS and then goes on beside
the loop, which is slow and otherwise harmless. Each passage has locks of its own: whoever comes late, or is interrupted
by a signal, finds nothing of the next passage to disturb.
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType
from typing import Final

LOOP_WAIT_SECONDS: Final = 1.0


class Baton:
    """The gate that a store's ``apply`` enters when it holds the write lock and leaves before the commit.

    It may be entered any number of times, one after the other, by one thread that is not the loop's. It also knows for
    how long the write lock has been waited for: from ``arm`` to the first entry.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free: threading.Lock | None = None
        self._armed_at = 0.0

    def arm(self) -> None:
        """Begin to measure the wait for the write lock."""
        self._armed_at = time.monotonic()

    def disarm(self) -> None:
        """Stop measuring, for an apply that ended without having entered."""
        self._armed_at = 0.0

    @property
    def lock_wait_seconds(self) -> float:
        """How long the write lock has been waited for, 0.0 if it is not."""
        armed_at = self._armed_at
        return time.monotonic() - armed_at if armed_at else 0.0

    def __enter__(self) -> None:
        self._armed_at = 0.0
        if not self._loop.is_running():
            return
        parked, free, decided = threading.Lock(), threading.Lock(), threading.Lock()
        parked.acquire()
        free.acquire()
        try:
            self._loop.call_soon_threadsafe(_park, parked, free, decided)
        except RuntimeError:
            return  # the loop was closed in this moment: nobody is left to be in the way
        if parked.acquire(timeout=LOOP_WAIT_SECONDS) or not decided.acquire(blocking=False):
            self._free = free

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        free, self._free = self._free, None
        if free is not None:
            free.release()


def _park(parked: threading.Lock, free: threading.Lock, decided: threading.Lock) -> None:
    """Block the loop until the writer frees it, unless the writer gave up waiting for us (``decided`` is taken)."""
    if decided.acquire(blocking=False):
        parked.release()
        free.acquire()
