"""A fork while other threads are inside LMDB: it waits for them, for a moment.

LMDB refuses to open in a child what the parent has open, until the child has let go of it. But the parent's threads are
not in the child, and what they refer to at the moment of the fork is never given up there: an environment that one of
them is at work in would stay open for ever. So before a fork nobody begins anything, and what is under way is waited
for, FORK_SECONDS at most; a commit takes less. The trap is a thread that waits for another process's lock, or for the
one that forks: then the child cannot open the file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Final, Protocol

FORK_SECONDS: Final = 2.0


class Lock(Protocol):
    """A lock of any kind."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it; return whether that was possible within ``timeout`` seconds."""
        ...

    def release(self) -> None:
        """Give it up."""
        ...


class Pause(threading.local):
    """What the thread that forks has taken before it does."""

    def __init__(self) -> None:
        self._until = 0.0
        self._taken = contextlib.ExitStack()

    def begin(self) -> None:
        """Begin to count the seconds."""
        self._until = time.monotonic() + FORK_SECONDS

    @property
    def seconds_left(self) -> float:
        """How long may still be waited."""
        return max(0.0, self._until - time.monotonic())

    def take(self, lock: Lock) -> bool:
        """Take a lock, and return whether that was possible in time."""
        is_taken = lock.acquire(timeout=self.seconds_left)
        if is_taken:
            self._taken.callback(lock.release)
        return is_taken

    def end(self) -> None:
        """Give up the locks."""
        self._taken.close()

    def forget(self) -> None:
        """Let go of the locks in a child, where nobody waits for them."""
        self._taken.pop_all()
