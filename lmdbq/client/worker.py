"""``Worker``: runs the functions of ``Tasks`` for the tasks of some queues."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from lmdbq.client.aio import AsyncClient
from lmdbq.client.cron_tasks import put_schedules
from lmdbq.client.options import Seconds, seconds
from lmdbq.client.registration import said_types
from lmdbq.client.runners import TaskRunner
from lmdbq.client.sync import Client
from lmdbq.client.tasks import Tasks
from lmdbq.client.work_loop import WorkLoop
from lmdbq.limits import GRACE_WORKER_SECONDS

T = TypeVar("T")


class Worker(WorkLoop):
    """Runs the functions of ``tasks`` for the tasks of ``queues``: at least once each, so make them safe to run twice.

    client: where. concurrency: how many run at once (1 or more); async functions share an event loop, others have a
    thread each. processes: run plain functions in so many processes instead; 0: only those with run_in="process", in
    one for each CPU. max_tasks_per_process: after so many a process is replaced. max_memory_per_process: bytes; one
    that has more in memory when a task has ended is replaced. buffer: how many tasks more than it runs it claims, to
    have them at hand. lease: seconds (1 s .. 12 h) after which others get its tasks if it falls silent; None = each
    task's own. grace: seconds for what runs after a stop. It puts the schedules of functions that have a cron when it
    starts (see ``cron_tasks``).

    Raises ValueError without any task and for a number that is too small, TypeError for a function whose arguments
    cannot be read from JSON.
    """

    def __init__(
        self,
        client: Client | AsyncClient,
        /,
        *tasks: Tasks,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        processes: int = 0,
        max_tasks_per_process: int | None = None,
        max_memory_per_process: int | None = None,
        buffer: int = 0,
        lease: Seconds | None = None,
        grace: Seconds = GRACE_WORKER_SECONDS,
    ) -> None:
        groups = list(dict.fromkeys(group for one in tasks for group in one.groups()))
        runner = TaskRunner(
            groups,
            concurrency=concurrency,
            processes=processes,
            jobs_max=max_tasks_per_process,
            memory_bytes_max=max_memory_per_process,
        )
        if all(runner.place_of(task) == "process" for task in runner.tasks.values()):
            concurrency = runner.slots  # more would be claimed than can run
        super().__init__(
            client.place.worker_transport(),
            runner,
            queues=queues,
            types=list(runner.tasks),
            concurrency=concurrency,
            buffer=buffer,
            lease=None if lease is None else seconds(lease),
            grace=seconds(grace),
            said=said_types(runner.tasks),
        )
        runner.tell = self._held.note_progress
        self._tasks = runner

    def drain(self, *, timeout: float | None = None) -> int:
        put_schedules(self._transport, self._tasks.tasks.values())
        return super().drain(timeout=timeout)

    def _claim_on(self) -> None:
        put_schedules(self._transport, self._tasks.tasks.values(), self._stop)
        super()._claim_on()

    async def __aenter__(self) -> Self:
        """Begin to work; async functions run on this event loop. Cancelled meanwhile, it ends what it has begun."""
        self._tasks.loop = asyncio.get_running_loop()
        begun = _in_thread(self.__enter__)
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            self._stop_in_haste()  # it claims nothing, whenever it has begun
            await asyncio.wait([begun])
            if begun.exception() is None:
                await asyncio.wait([_in_thread(self._end_on_loop)])
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, and return when what runs has finished; cancelled meanwhile (a second Ctrl-C), hand it back instead."""
        ended = _in_thread(self._end_on_loop)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self._stop_in_haste()
            await asyncio.wait([ended])
            raise

    def _end_on_loop(self) -> None:
        try:
            self.__exit__()
        finally:
            self._tasks.loop = None


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Begin ``work`` in a thread. Unlike ``asyncio.to_thread`` it is no task, which the end of a loop would cancel."""
    return asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, work)
