"""An asyncio event loop in which time is a number and every order is drawn from a seed: one thread, many processes.

A simulated *process* is a queue of callbacks. Within one, callbacks run in the order in which they became ready, as
asyncio promises; which process takes its next round is drawn. When nobody is ready, time jumps to the next timer. A
process that is killed runs nothing any more: its callbacks and timers are forgotten, its tasks end where they are, at
any await.

Who a callback belongs to is told by its context (a contextvar), so that code under test needs to know nothing of it:
what a process schedules is its own, and a callback of a future belongs to whoever has asked for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
import itertools
import os
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")
ROUND_SECONDS: Final = 20e-6  # what a round of callbacks takes


class Process:
    """One simulated process. Killed, it does nothing any more."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.ready: deque[asyncio.Handle] = deque()
        self.coroutines: list[Coroutine[Any, Any, Any]] = []
        self.descriptors: set[int] = set()  # those it watches
        self.context = contextvars.copy_context()
        self.context.run(_OWNER.set, self)

    def kill(self) -> None:
        """End it here and now: what it has opened is closed (``finally``), as the system does for a process."""
        self.is_alive = False
        self.ready.clear()
        for coroutine in self.coroutines:
            if inspect.getcoroutinestate(coroutine) != inspect.CORO_RUNNING:  # ours ends by itself
                coroutine.close()
        self.coroutines.clear()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


_OWNER: contextvars.ContextVar[Process] = contextvars.ContextVar("owner")


class _Future(asyncio.Future[Any]):
    """A future that knows whose it is."""

    owner: Process


class _Task(asyncio.Task[Any]):
    """A task that knows whose it is."""

    owner: Process


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop. ``failures`` is what no callback caught. What is not here, nothing under test may use."""

    def __init__(self, chosen: random.Random) -> None:
        self.failures: list[str] = []
        self.outside = Process("outside")
        self.is_over = False
        self._chosen = chosen
        self._now = 0.0
        self._ready: list[Process] = []  # those with callbacks
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._numbers = itertools.count()
        self._processes: dict[Process, None] = {}
        self._readers: dict[int, Callable[[], None]] = {}

    # --- what a simulation does ---------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass, or less, if ``is_over`` is set meanwhile."""
        end = self._now + seconds
        asyncio._set_running_loop(self)
        try:
            while not self.is_over and self._now < end:
                if not self._ready and not self._jump(end):
                    self._now = end
                    return
                self._round()
        finally:
            asyncio._set_running_loop(None)

    def start(self, process: Process, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as a task of ``process``."""
        self._processes.setdefault(process)
        process.coroutines.append(coroutine)
        return self.create_task(coroutine, context=process.context)

    def end(self) -> None:
        """Kill everybody."""
        for process in self._processes:
            process.kill()

    def later(self, process: Process, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Have ``process`` run a callback in ``seconds``."""
        self.call_later(seconds, callback, *args, context=process.context)

    def wake_readers(self) -> None:
        """Tell all who watch a descriptor that there is something to read."""
        for callback in list(self._readers.values()):
            callback()

    def _jump(self, end: float) -> bool:
        """Move on to the next timer, and make all ready that are due; False if none is before ``end``."""
        while self._timers and (self._timers[0][2].cancelled() or not self._timers[0][3].is_alive):
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0][0] > end:
            return False
        self._now = max(self._now, self._timers[0][0])
        self._take_due()
        return True

    def _take_due(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            _, _, handle, process = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._push(process, handle)

    def _round(self) -> None:
        """Let one process, drawn from those that are ready, run what is ready now."""
        index = self._chosen.randrange(len(self._ready))
        process, self._ready[index] = self._ready[index], self._ready[-1]
        self._ready.pop()
        for _ in range(len(process.ready)):
            if not process.ready:  # killed by itself
                break
            handle = process.ready.popleft()
            if not handle.cancelled():
                handle._run()
        if process.ready:
            self._ready.append(process)
        self._now += ROUND_SECONDS
        self._take_due()

    def _push(self, process: Process, handle: asyncio.Handle) -> None:
        if process.is_alive:
            if not process.ready and process not in self._ready:
                self._ready.append(process)
            process.ready.append(handle)

    def _owner(self, context: Context | None) -> Process:
        return _OWNER.get(self.outside) if context is None else context.get(_OWNER, self.outside)

    # --- what asyncio asks for ----------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        future = _Future(loop=self)
        future.owner = self._owner(None)
        return future

    def create_task(
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[T]:
        task = _Task(coro, loop=self, name=name, context=context)
        task.owner = self._owner(context)
        return task

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._push(self._owner(context), handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle, self._owner(context)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return  # it is left out when its time comes

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        owner = _OWNER.get(self.outside)
        owner.descriptors.add(fd)
        self._readers[fd] = lambda: self._push(owner, asyncio.Handle(callback, args, self, owner.context))

    def remove_reader(self, fd: Any) -> bool:
        _OWNER.get(self.outside).descriptors.discard(fd)
        return self._readers.pop(fd, None) is not None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        whose = context.get("task") or context.get("future")
        is_orphan = whose is not None and not whose.owner.is_alive  # who was killed retrieves nothing
        if error is not None and not is_orphan:
            self.failures.append(f"{context.get('message')}: {error!r}, {whose}")
