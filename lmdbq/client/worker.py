"""A plain worker: claims tasks, runs a handler for each, reports how it went, until it is told to stop.

``concurrency`` lanes (threads) each claim up to ``limit`` tasks and run them one by one; what a lane has finished is
reported with its next claim, in one request and one transaction. One keeper thread extends every lease (``leases``).
The main thread only waits, so a signal finds it at rest: the first one (SIGINT, SIGTERM) lets the running handlers end
and releases the rest, the second ends now. While no daemon answers the lanes try again, with the same claim id and the
same reports, so nothing is claimed or counted twice.

The trap: a handler may run twice for one task (a lapsed lease, a lost report). It must be safe to repeat.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from lmdbq.client.http import HttpClient, subscription
from lmdbq.client.leases import Held, Job, log, note_outcomes
from lmdbq.client.reports import succeeded
from lmdbq.errors import InvalidInput, LmdbqError, Refusal
from lmdbq.limits import GRACE_WORKER_SECONDS, RESULT_BYTES_MAX
from lmdbq.wire.answers import DequeueAnswer, ReportAnswer
from lmdbq.wire.shapes import DequeueRequest, ErrorBody, ReportEntry

Handler = Callable[[Job], Any]
POLL_SECONDS: Final = 20.0
KEEPER_SECONDS: Final = 1.0  # it may be waiting for an answer that nobody needs any more
RETRY_SECONDS: Final = 0.5  # between two claims when the daemon refused one for now
_FOR_NOW: Final = frozenset({408, 429, 500, 502, 503, 504, 507})


class TaskFailed(Exception):
    """Raised by a handler that wants to say more than an exception does. retry False: dead at once.

    delay: seconds until the next attempt, instead of the backoff.
    """

    def __init__(
        self, message: str, *, kind: str = "", backtrace: str = "", retry: bool = True, delay: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__
        self.backtrace = backtrace
        self.retry = retry
        self.delay = delay


class Worker:
    """Runs ``handler(job)`` for each task of ``queues``; what it returns is the result, what it raises the failure.

    types: only these, empty = all. limit: tasks claimed at once by a lane (1..1,000). lease: seconds (1 s .. 12 h),
    None = each task's own. grace: seconds that running handlers get after a stop.
    """

    def __init__(
        self,
        client: HttpClient,
        handler: Handler,
        queues: Sequence[str] = ("default",),
        *,
        types: Sequence[str] = (),
        limit: int = 10,
        concurrency: int = 1,
        lease: float | None = None,
        grace: float = GRACE_WORKER_SECONDS,
    ) -> None:
        self._client = client
        self._handler = handler
        self._queues = tuple(queues)
        self._types = tuple(types)
        self._limit = limit
        self._concurrency = concurrency
        self._lease = lease
        self._grace = grace
        self._stop = threading.Event()
        self._held = Held(client, self._stop)
        self._failure: BaseException | None = None

    def stop(self) -> None:
        """Begin to end: running handlers finish, the rest is released. From any thread; twice is harmless."""
        self._stop.set()
        self._client.interrupt()

    def run(self) -> None:
        """Work until ``stop`` or a signal. Signals are heard only if this is the main thread.

        Raises KeyboardInterrupt at a second signal, and what a lane could not go on with (a refused token, say).
        """
        keeper = threading.Thread(target=self._held.run, name="lmdbq-keeper", daemon=True)
        lanes = [
            threading.Thread(target=self._lane, name=f"lmdbq-lane-{number}", daemon=True)
            for number in range(self._concurrency)
        ]
        with _interrupts():
            try:
                keeper.start()
                for lane in lanes:
                    lane.start()
                with contextlib.suppress(KeyboardInterrupt):
                    self._stop.wait()
                self._finish(lanes)
            except KeyboardInterrupt:
                _deafen()
                self._end_jobs("the worker ends now")
                raise
            finally:
                self._held.close()
        keeper.join(KEEPER_SECONDS)
        if self._failure is not None:
            raise self._failure

    def _finish(self, lanes: Sequence[threading.Thread]) -> None:
        self.stop()
        log.info("stopping: what runs may finish within %g s; a second signal ends it now", self._grace)
        deadline = time.monotonic() + self._grace
        for lane in lanes:
            lane.join(max(0.0, deadline - time.monotonic()))
        left = self._end_jobs("the grace after the stop is over")
        for job in left:
            self._held.owe(ReportEntry(lease=job.lease, status="released"))
        try:
            self._held.send_owed()
        except LmdbqError as error:
            log.warning("the last reports could not be sent, their tasks will run again: %s", error)

    def _end_jobs(self, why: str) -> list[Job]:
        jobs = self._held.jobs()
        for job in jobs:
            job.end(why)
        return jobs

    # --- a lane

    def _lane(self) -> None:
        try:
            while jobs := self._claim():
                for job in jobs:
                    if self._stop.is_set() or job.over.is_set():  # over before it began: lost, or to be cancelled
                        self._held.owe(ReportEntry(lease=job.lease, status="released"))
                    else:
                        self._held.owe(self._attempt(job))
        except BaseException as error:  # noqa: BLE001  (run raises it in the main thread)
            self._failure = error
            self.stop()

    def _attempt(self, job: Job) -> ReportEntry:
        """Run the handler and return the report of how it went."""
        try:
            report = succeeded(job.lease, self._handler(job))
            if report.result_base64 is None and len(bytes(report.result or b"")) > RESULT_BYTES_MAX:
                raise TaskFailed(f"the result is larger than {RESULT_BYTES_MAX} bytes; store it elsewhere", retry=False)
        except Exception as error:  # noqa: BLE001  (whatever a handler raises is its task's failure)
            return _failed(job.lease, error)
        return report

    def _claim(self) -> list[Job]:
        """Report what is owed and claim more; returns with tasks, or with none once the worker is told to stop."""
        wanted = self._wanted()
        while not self._stop.is_set():
            owed = self._held.take_owed()
            try:
                answer = self._send(owed, wanted)
            except LmdbqError as error:
                self._held.unsettled(owed)
                if self._stop.is_set():
                    self._hand_back(wanted)
                    break
                if not _is_for_now(error):
                    raise
                log.warning("claiming: %s", error)
                self._stop.wait(RETRY_SECONDS)
                continue
            if isinstance(answer, ReportAnswer):
                note_outcomes(answer.outcomes)
            jobs = [Job(task, self._lease) for task in answer.tasks or ()]
            if jobs:
                self._held.add(jobs)
                return jobs
            if answer.reason == "draining":
                self._stop.wait(RETRY_SECONDS)
            wanted = self._wanted()
        return []

    def _wanted(self) -> DequeueRequest:
        return subscription(*self._queues, types=self._types, limit=self._limit, wait=POLL_SECONDS, lease=self._lease)

    def _send(self, owed: list[ReportEntry], wanted: DequeueRequest) -> DequeueAnswer | ReportAnswer:
        if owed:
            return self._client.report(owed, dequeue=wanted, stop=self._stop)
        return self._client.dequeue(wanted, stop=self._stop)

    def _hand_back(self, wanted: DequeueRequest) -> None:
        """Release what a claim that was broken off may have got: the same claim id answers the same tasks again."""
        again = msgspec.structs.replace(wanted, wait_in_seconds=0.0)
        try:
            tasks = self._client.dequeue(again, stop=self._stop).tasks
        except LmdbqError as error:
            log.info("nothing to hand back: %s", error)
            return
        for task in tasks:
            self._held.owe(ReportEntry(lease=task.lease or "", status="released"))


def _is_for_now(error: LmdbqError) -> bool:
    """Whether the same request may be accepted later: no daemon, a draining one, a full disk, a proxy's trouble."""
    if isinstance(error, Refusal):
        return error.status in _FOR_NOW
    return not isinstance(error, InvalidInput)


def _failed(lease: str, error: Exception) -> ReportEntry:
    if isinstance(error, TaskFailed):
        said = ErrorBody(message=_text(error), type=_text(error.kind), backtrace=_text(error.backtrace))
        return ReportEntry(lease=lease, status="failed", error=said, retry=error.retry, delay_in_seconds=error.delay)
    trace = "".join(traceback.format_exception(error))
    said = ErrorBody(message=_text(error), type=type(error).__name__, backtrace=_text(trace))
    return ReportEntry(lease=lease, status="failed", error=said)


def _text(value: object) -> str:
    """Return ``value`` as text that JSON can carry: a lone surrogate (a file name's odd byte) is spelt out."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt as SIGINT does, where signals can be had, and give both back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deafen() -> None:
    """Ignore further signals: a third one must not keep the second from ending the programs that still run."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
