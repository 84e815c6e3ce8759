"""Where functions run: async ones on an event loop, plain ones in threads, and those that say so in processes.

The event loop is that of the caller inside ``async with worker``, else one on a thread of its own. A job that is over
(cancelled, its lease lost, the worker ending) is cancelled on the loop, killed in a process, and in a thread told by
``Context.stop``: a thread cannot be stopped from outside.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import queue
from collections.abc import Callable, Sequence
from typing import Any, Final

from lmdbq.client.attempts import Lifespans, attempt, attempt_async
from lmdbq.client.context import Context
from lmdbq.client.info import task_info
from lmdbq.client.leases import Job
from lmdbq.client.loop_thread import LoopThread
from lmdbq.client.processes import ProcessSlot
from lmdbq.client.reports import failed, released
from lmdbq.client.slots import Threads
from lmdbq.client.tasks import RunIn, Task, Tasks
from lmdbq.wire.shapes import ReportEntry

Done = Callable[[ReportEntry], None]
LIFESPAN_SECONDS: Final = 60.0  # for what an async lifespan does at the start, and at the end
END_SECONDS: Final = 0.5  # for an event loop to stop; one that a function blocks is left behind


class TaskRunner:
    """Runs the functions of ``groups``. tell: takes a job's progress.

    processes: how many process slots there are, for plain functions that do not say where they run as well; 0: one for
    each CPU, if a function says so.
    Raises ValueError if there is no task or a name is there twice, TypeError for a function that cannot be run.
    """

    def __init__(
        self,
        groups: Sequence[Tasks],
        *,
        concurrency: int,
        processes: int,
        jobs_max: int | None,
        memory_bytes_max: int | None,
    ) -> None:
        self.tell: Callable[[Job, float], None] = _tell_nobody
        self.loop: asyncio.AbstractEventLoop | None = None
        self._processes = processes
        self._groups = list(groups)
        self.tasks: dict[str, Task[..., Any]] = {}
        for group in self._groups:
            for name, task in group.by_name().items():
                if self.tasks.setdefault(name, task) is not task:
                    raise ValueError(f"there are two tasks of the name {name!r}")
                self._check(task)
        if not self.tasks:
            raise ValueError("there is no task to run: decorate functions with @tasks.task")
        if processes < 0:
            raise ValueError(f"processes is 0 or more: it is {processes}")
        for name, most in (("tasks", jobs_max), ("memory", memory_bytes_max)):
            if most is not None and most < 1:
                raise ValueError(f"max_{name}_per_process is 1 or more, or None: it is {most}")
        self.slots = processes
        if not processes and any(task.run_in == "process" for task in self.tasks.values()):
            self.slots = os.cpu_count() or 1
        self._own_loop = LoopThread("lmdbq-loop")
        self._concurrency = concurrency
        self._slots: queue.SimpleQueue[ProcessSlot] = queue.SimpleQueue()
        self._all_slots = [ProcessSlot(jobs_max, memory_bytes_max) for _ in range(self.slots)]
        for slot in self._all_slots:
            self._slots.put(slot)
        self._lifespans = Lifespans(self._run_on_loop)

    def place_of(self, task: Task[..., Any]) -> RunIn:
        """Return where a task runs."""
        plain: RunIn = "process" if self._processes else "thread"
        return task.run_in or ("async" if task.is_coroutine else plain)

    def _check(self, task: Task[..., Any]) -> None:
        task.binding.check()
        for around in task.tasks.arounds:
            if inspect.isasyncgenfunction(around) and self.place_of(task) != "async":
                raise TypeError(f"{task.name} is not run on an event loop, so {around.__name__} cannot be async")

    def open(self) -> None:
        """Enter the lifespans. Raises what they raise; those that were entered before are left again."""
        self._threads = Threads("lmdbq-task", self._concurrency)
        self._attendants = Threads("lmdbq-attendant", max(1, self.slots))
        try:
            for group in self._groups:
                if any(self.place_of(task) != "process" for task in group.by_name().values()):
                    self._lifespans.state(group)
        except BaseException:
            self.close(now=False)
            raise

    def start(self, job: Job, done: Done) -> None:
        """Run a job and call ``done`` with its report."""
        task = self.tasks[job.type]  # others are not asked for
        tell = functools.partial(self.tell, job)
        if self.place_of(task) == "process":
            self._attendants.submit(lambda: done(self._run_in_process(task, job, tell)))
            return
        context = Context(task_info(job.task), job.over, tell, self._lifespans.state(task.tasks))
        if self.place_of(task) == "async":
            asyncio.run_coroutine_threadsafe(self._run_async(task, job, context, done), self._loop())
        else:
            self._threads.submit(lambda: done(attempt(task, job.task, context, _no_loop)))

    def _run_in_process(self, task: Task[..., Any], job: Job, tell: Callable[[float], None]) -> ReportEntry:
        slot = self._slots.get()
        try:
            return slot.run(task, job, tell)
        except Exception as error:  # noqa: BLE001  (a process that cannot be started, say, is its attempt's failure)
            return failed(job.lease, error)
        finally:
            self._slots.put(slot)

    async def _run_async(self, task: Task[..., Any], job: Job, context: Context, done: Done) -> None:
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(attempt_async(task, job.task, context))

        def cancel() -> None:
            loop.call_soon_threadsafe(running.cancel)

        job.when_over(cancel)
        try:
            finished, _ = await asyncio.wait([running], timeout=task.timeout_seconds)
            if timed_out := not finished:
                running.cancel()
                await asyncio.wait([running])
        except asyncio.CancelledError:  # the program's loop ends, and all that runs on it
            running.cancel()
            done(released(job.lease))
            raise
        if not running.cancelled():
            done(running.result())
        elif timed_out:
            done(
                failed(job.lease, f"it ran for more than {task.timeout_seconds:g} s, and was cancelled", kind="timeout")
            )
        else:
            done(failed(job.lease, job.why_over or "it cancelled itself", kind="ended"))

    def _loop(self) -> asyncio.AbstractEventLoop:
        return self.loop or self._own_loop.loop()

    def _run_on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop()).result(LIFESPAN_SECONDS)

    def close(self, *, now: bool) -> None:
        """Leave the lifespans, but not ``now``, and end what was started. Raises what they raise."""
        for slot in self._all_slots:
            slot.end()
        self._threads.close()
        self._attendants.close()
        try:
            if not now:
                self._lifespans.close()
        finally:
            self._own_loop.close(END_SECONDS)


def _tell_nobody(_job: Job, _share: float) -> None:
    return


def _no_loop(_coroutine: Any) -> Any:
    raise AssertionError("an async task is not run in a thread")
