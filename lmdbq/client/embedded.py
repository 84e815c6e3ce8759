"""A queue in this process, and the transports to it: the requests of HTTP, answered by an engine on its own thread.

Lazy, thread-safe, and fork-checked: the process id is compared at each call, and a child opens a directory for itself.
What is in memory belongs to the process that made it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from lmdbq.client.core import Request, T
from lmdbq.client.embedded_file import OpenQueue, give_up
from lmdbq.client.embedded_verbs import answer
from lmdbq.client.loop_thread import engine_thread
from lmdbq.errors import StoreClosed, Unreachable

if TYPE_CHECKING:
    from lmdbq.client.embedded_within import Within


class Embedded:
    """Opens a queue at the first call. is_memory: it cannot be opened a second time, nor in a forked child."""

    def __init__(self, opener: Callable[[], OpenQueue], where: str, *, is_memory: bool) -> None:
        self.where = where
        self._opener = opener
        self._is_memory = is_memory
        self._was_closed = False
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._open: OpenQueue | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is open, in this process."""
        return self._open is not None and self._pid == os.getpid()

    def queue(self) -> OpenQueue:
        """Return the open queue. Blocks while it is opened. Raises StoreError if it cannot be."""
        if self._pid != os.getpid():
            if self._is_memory:
                raise StoreClosed("a queue in memory belongs to the process that made it; this one was forked from it")
            self._forget()
        known = self._open
        if known is not None:
            return known
        with self._lock:
            if self._open is None:
                if self._was_closed and self._is_memory:
                    raise StoreClosed("this queue was in memory, and has been closed; make another one")
                self._open = self._opener()
                self._finalizer = weakref.finalize(self, give_up, self._open, wait=False)
                self._finalizer.atexit = False
            return self._open

    def submit(self, request: Request[T]) -> Future[T]:
        """Begin a request. Cancelling the future drops it where that is still possible.

        Raises TransactionUnusable if it writes and this thread is inside a transaction, see ``within``.
        """
        queue = self.queue()
        if queue.inside and request.method != "GET":
            from lmdbq.client.embedded_within import refuse_inside

            refuse_inside(queue)
        return engine_thread.submit(answer(queue, request))

    def within(self, transaction: object) -> Within:
        """Return a way to enqueue in the caller's transaction. Raises TransactionUnusable."""
        from lmdbq.client.embedded_within import Within

        return Within(self.queue(), transaction)

    def environment(self) -> Any:
        """Return the LMDB environment of the file. Raises TransactionUnusable for a queue in memory."""
        from lmdbq.client.embedded_within import store_of

        return store_of(self.queue()).environment()

    def close(self) -> None:
        """Give up the queue. What is in a directory is there when it is opened again."""
        if self._pid != os.getpid():
            return
        with self._lock:
            queue, self._open, self._was_closed = self._open, None, True
            if self._finalizer is not None:
                self._finalizer.detach()
        if queue is not None:
            give_up(queue, wait=True)


class EmbeddedTransport:
    """Calls for threads. owns: whether closing it closes the queue; a worker's does not.

    timeout: for how long (seconds, beside what the request itself waits) a change waits for the file's write lock; a
    thread may hold that itself, in a transaction of its own. None: for ever, as a worker does, whose task it is.
    """

    def __init__(self, embedded: Embedded, *, owns: bool, timeout: float | None = None) -> None:
        self._embedded = embedded
        self._owns = owns
        self._timeout = timeout
        self._parked: set[Future[Any]] = set()

    def call(self, request: Request[T], stop: threading.Event | None = None) -> T:
        """Carry out a request and return its answer. stop: see ``interrupt``."""
        future = self._embedded.submit(request)
        if request.wait_seconds:
            self._parked.add(future)
            if stop is not None and stop.is_set():
                future.cancel()
        try:
            return future.result(_patience(request, self._timeout))
        except TimeoutError:
            future.cancel()
            raise _locked_out(self._timeout) from None
        except CancelledError:
            raise Unreachable("the call was interrupted") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._parked.discard(future)

    def interrupt(self) -> None:
        """Break off the calls that wait for tasks; they raise Unreachable."""
        for future in tuple(self._parked):
            future.cancel()

    def renew(self) -> None:
        """Do nothing: there is no connection that could lead to somebody else."""

    def close(self) -> None:
        """Give up the queue, if it is ours."""
        if self._owns:
            self._embedded.close()


def _patience(request: Request[Any], timeout: float | None) -> float | None:
    """Return for how long to wait for an answer; a read waits for no lock, only for its turn."""
    return None if timeout is None or request.method == "GET" else timeout + request.wait_seconds


def _locked_out(timeout: float | None) -> Unreachable:
    return Unreachable(
        f"no answer within {timeout:g} s, as somebody holds the file's write lock; it may still be done. "
        "If it is a transaction of this program, end it first, or enqueue with client.within(transaction)"
    )


class AsyncEmbedded:
    """Calls for any event loop. timeout: as in ``EmbeddedTransport``."""

    def __init__(self, embedded: Embedded, *, timeout: float | None = None) -> None:
        self.embedded = embedded
        self._timeout = timeout

    async def call(self, request: Request[T]) -> T:
        """Carry out a request and return its answer."""
        if not self.embedded.is_open:
            await asyncio.to_thread(self.embedded.queue)
        patience = _patience(request, self._timeout)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.embedded.submit(request)), patience)
        except TimeoutError:
            raise _locked_out(self._timeout) from None

    async def close(self) -> None:
        """Give up the queue."""
        await asyncio.to_thread(self.embedded.close)
