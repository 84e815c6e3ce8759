"""A worker of one handler that takes tasks of any type as they come: what ``lmdbq worker --exec`` runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmdbq.client.directives import report_of
from lmdbq.client.leases import Job
from lmdbq.client.places import Transport
from lmdbq.client.reports import succeeded
from lmdbq.client.slots import Threads
from lmdbq.client.work_loop import WorkLoop
from lmdbq.limits import GRACE_WORKER_SECONDS
from lmdbq.wire.shapes import ReportEntry

Handler = Callable[[Job], Any]


class _HandlerRunner:
    """Runs one handler, in threads."""

    def __init__(self, handler: Handler, concurrency: int) -> None:
        self._handler = handler
        self._concurrency = concurrency

    def open(self) -> None:
        self._threads = Threads("lmdbq-job", self._concurrency)

    def start(self, job: Job, done: Callable[[ReportEntry], None]) -> None:
        self._threads.submit(lambda: done(self._attempt(job)))

    def _attempt(self, job: Job) -> ReportEntry:
        try:
            return succeeded(job.lease, self._handler(job))
        except BaseException as error:  # noqa: BLE001  (whatever a handler raises is its task's failure)
            return report_of(error, job.lease)

    def close(self, *, now: bool) -> None:
        self._threads.close()


class JobWorker(WorkLoop):
    """Runs ``handler(job)`` for each task of ``queues``; what it returns is the result, what it raises the failure.

    types: only these, empty = all. limit: how many tasks are claimed for each that runs (1..1,000). concurrency:
    how many run at once. lease: seconds (1 s .. 12 h), None = each task's own. grace: seconds for running ones after
    a stop. The transport is closed at the end. Raises ValueError for a number that is too small.
    """

    def __init__(
        self,
        transport: Transport,
        handler: Handler,
        queues: Sequence[str] = ("default",),
        *,
        types: Sequence[str] = (),
        limit: int = 10,
        concurrency: int = 1,
        lease: float | None = None,
        grace: float = GRACE_WORKER_SECONDS,
    ) -> None:
        super().__init__(
            transport,
            _HandlerRunner(handler, concurrency),
            queues=queues,
            types=types,
            concurrency=concurrency,
            buffer=concurrency * (limit - 1),
            lease=lease,
            grace=grace,
        )
