"""The baton: only one of the event loop and the writer thread runs Python while tasks are being written.

LMDB gives up the interpreter lock in every call. Beside a busy event loop the writer thread would then wait a switch
interval for it after each single put, which costs most of the throughput. So while the writer puts, the loop *parks*:
it blocks on a plain lock until the writer is done with Python. While the writer waits for the file's write lock, and
while a slow disk syncs, the loop is free.

The loop parks by itself when it has handed an apply over (``lend``, ``wait``): nobody has to wake it for that, and the
writer finds the interpreter free. Where puts and sync are short, the loop stays parked to the end of the apply: with 4
to 16 callers the switches between the threads cost more than what the loop could do meanwhile (their rate is 4 to 17 %
higher so; that of a lone caller is the same on a busy machine, and up to 9 % lower on an idle one). It never waits
longer than PARK_SECONDS for somebody else's lock or for the disk; then it goes its way, and the writer asks it to park
when it comes to put.

The trap is a loop that never comes to park: it was stopped, it was closed, or one of its callbacks runs for long. The
writer holds the file's lock meanwhile and must not wait for ever, so it waits LOOP_WAIT_SECONDS and then goes on beside
the loop, which is slow and otherwise harmless. Each turn has locks of its own: whoever comes late, or is interrupted
by a signal, finds nothing of the next turn to disturb.
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType
from typing import Final

LOOP_WAIT_SECONDS: Final = 1.0
PARK_SECONDS: Final = 0.002  # an apply of a few tasks takes 0.3 ms on a fast disk


class Turn:
    """One time that the loop lends the interpreter.

    free: a lock that is held; releasing it wakes the loop. taken: held by whoever decides what is next: the writer
    while it puts, and for good by the one who ends the turn. through: whether the loop waits for the whole apply.
    ended: whether the apply was over before the loop went on.
    """

    __slots__ = ("ended", "free", "taken", "through")

    def __init__(self, *, through: bool) -> None:
        self.free, self.taken = threading.Lock(), threading.Lock()
        self.free.acquire()
        self.through = through
        self.ended = False


class Baton:
    """The gate that a store's ``apply`` enters when it holds the write lock and leaves before the commit.

    It may be entered any number of times, one after the other, by one thread that is not the loop's. It also knows for
    how long the write lock has been waited for: from ``arm`` to the first entry.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lent: Turn | None = None  # what the loop has lent for this apply, as long as it may be waiting
        self._held: Turn | None = None  # the turn in which the writer is inside the gate
        self._armed_at = 0.0

    # --- the loop -----------------------------------------------------------------------------------------------------

    def lend(self, *, through: bool) -> Turn:
        """Make the turn for an apply, before it is handed to the writer; then ``wait`` at once."""
        self._lent = turn = Turn(through=through)
        return turn

    def wait(self, turn: Turn) -> bool:
        """Park until the writer has put (or, through, has committed); return whether the apply is over.

        After PARK_SECONDS in which the writer neither puts nor ends it returns False.
        """
        while not turn.free.acquire(timeout=PARK_SECONDS):
            if turn.taken.acquire(blocking=False):
                return False
        return turn.ended

    # --- the writer ---------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Begin to measure the wait for the write lock."""
        self._armed_at = time.monotonic()

    @property
    def lock_wait_seconds(self) -> float:
        """How long the write lock has been waited for, 0.0 if it is not."""
        armed_at = self._armed_at
        return time.monotonic() - armed_at if armed_at else 0.0

    def end(self) -> bool:
        """End an apply, entered or not; return whether the loop has waited for it, and need not be told."""
        self._armed_at = 0.0
        turn, self._lent = self._lent, None
        if turn is None or not turn.taken.acquire(blocking=False):
            return False
        turn.ended = True
        turn.free.release()
        return True

    def __enter__(self) -> None:
        self._armed_at = 0.0
        turn = self._lent
        if turn is None or not turn.taken.acquire(blocking=False):
            self._lent, turn = None, self._ask()
        self._held = turn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        turn, self._held = self._held, None
        if turn is None:
            return
        if turn.through:
            turn.taken.release()  # the loop goes on waiting, but may leave
        else:
            self._lent = None
            turn.free.release()

    def _ask(self) -> Turn | None:
        """Have the loop park in a callback; None if it cannot, or does not come to it."""
        if not self._loop.is_running():
            return None
        turn, parked = Turn(through=False), threading.Lock()
        parked.acquire()
        try:
            self._loop.call_soon_threadsafe(_park, turn, parked)
        except RuntimeError:
            return None  # the loop was closed in this moment: nobody is left to be in the way
        if parked.acquire(timeout=LOOP_WAIT_SECONDS) or not turn.taken.acquire(blocking=False):
            return turn
        return None


def _park(turn: Turn, parked: threading.Lock) -> None:
    """Block the loop until the writer frees it, unless the writer gave up waiting for us (the turn is taken)."""
    if turn.taken.acquire(blocking=False):
        parked.release()
        turn.free.acquire()
