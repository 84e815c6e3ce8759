"""The leases a worker holds, and the thread that keeps them.

Every claimed task is in ``Held`` from the answer that brought it until its report was accepted. The keeper extends each
lease at a third of its length, so that two heartbeats may be lost; and it sends reports that have waited long enough,
so that a long task does not hold back the results of those before it. The trap is the clock: ``lease_expires_at`` is
the daemon's wall clock and this machine's may differ, so it can only make a heartbeat sooner, never later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from lmdbq.client.core import extend, payload_of, report
from lmdbq.client.places import Transport
from lmdbq.errors import LmdbqError, Unreachable
from lmdbq.limits import KEEPALIVE_NS_DEFAULT, SECOND_NS
from lmdbq.wire.answers import ReportOutcome, TaskAnswer
from lmdbq.wire.shapes import ExtendEntry, ReportEntry

log: Final = logging.getLogger("lmdbq.worker")
HEARTBEATS_PER_LEASE: Final = 3
REPORT_DELAY_SECONDS: Final = 0.1  # how long a finished task may wait for others to be reported with it
PARKED_DELAY_SECONDS: Final = 0.005  # the same while the next claim waits for tasks, and so will not take it along
PROGRESS_SECONDS: Final = 1.0  # at most so often is progress sent
EXTEND_LEASES_MAX: Final = 1_000


class Job:
    """One delivery of a task. ``task`` is the whole answer; the plain fields are its own under the API's names.

    ``over`` is set when going on is pointless: the lease was lost, a cancel was asked for, or the worker ends now.
    """

    def __init__(self, task: TaskAnswer, lease_seconds: float | None) -> None:
        self.task: Final = task
        self.id: Final = task.id
        self.lease: Final = task.lease or ""
        self.type: Final = task.type
        self.queue_name: Final = task.queue_name
        self.attempts: Final = task.attempts
        self.deliveries: Final = task.deliveries
        self.lease_seconds: Final = (
            lease_seconds or task.keepalive_timeout_in_seconds or KEEPALIVE_NS_DEFAULT / SECOND_NS
        )
        self.over: Final = threading.Event()
        self.why_over = ""
        self.abandoned = False  # the worker has handed it back: what its handler still says comes too late
        self.progress: float | None = None
        self.extended_at = time.monotonic()
        self.claimed_at: Final = self.extended_at
        self.extend_at = self.extended_at + self._first_beat_seconds()
        self._lock = threading.Lock()
        self._when_over: list[Callable[[], None]] = []

    @property
    def payload(self) -> Any:
        """The payload: a JSON value, or bytes."""
        return payload_of(self.task)

    def _first_beat_seconds(self) -> float:
        beat = self.lease_seconds / HEARTBEATS_PER_LEASE
        expires_at = self.task.lease_expires_at
        if not expires_at:
            return beat
        left = expires_at / SECOND_NS - time.time()
        return min(beat, max(0.0, left - (self.lease_seconds - beat)))

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the job is over, or at once if it is already."""
        with self._lock:
            if not self.over.is_set():
                self._when_over.append(callback)
                return
        callback()

    def end(self, why: str) -> None:
        """Say that going on is pointless. A second time changes nothing."""
        with self._lock:
            if self.over.is_set():
                return
            self.why_over = why
            self.over.set()
            callbacks = tuple(self._when_over)
        for callback in callbacks:
            callback()


class Held:
    """The leases of a worker and the reports it still owes. Thread-safe. ``run`` is the keeper's loop."""

    def __init__(self, transport: Transport, stop: threading.Event) -> None:
        self._transport = transport
        self._stop = stop  # once set, no request is tried twice: an end must not wait for a daemon that is away
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._owed: list[ReportEntry] = []
        self._send_at = 0.0
        self._sending = threading.Lock()  # held while reports are on their way
        self.sent = 0  # reports that were sent other than with a claim
        self._closed = False
        self.parked = False  # whether the claim on its way waits for tasks

    def add(self, jobs: Sequence[Job]) -> None:
        """Keep the leases of ``jobs`` from now on."""
        with self._changed:
            self._jobs.update((job.lease, job) for job in jobs)
            self._changed.notify()

    def jobs(self) -> list[Job]:
        """Return the jobs whose leases are held."""
        with self._changed:
            return list(self._jobs.values())

    def note_progress(self, job: Job, share: float) -> None:
        """Take a job's progress (0..1), which goes with its next heartbeat; that is not far off."""
        with self._changed:
            job.progress = share
            job.extend_at = min(job.extend_at, job.extended_at + PROGRESS_SECONDS)
            self._changed.notify()

    def owe(self, said: ReportEntry) -> None:
        """Take a report, which is sent with the next claim, or alone after ``REPORT_DELAY_SECONDS``.

        Its lease is not extended any more: two thirds of it are left at least, and the report will not take so long.
        """
        with self._changed:
            self._jobs.pop(said.lease, None)
            if not self._owed:
                self._send_at = time.monotonic() + (PARKED_DELAY_SECONDS if self.parked else REPORT_DELAY_SECONDS)
            self._owed.append(said)
            self._changed.notify()

    def take_owed(self) -> list[ReportEntry]:
        """Return the reports to send now; what cannot be sent is given back by ``unsettled``."""
        with self._changed:
            owed, self._owed = self._owed, []
            return owed

    def unsettled(self, reports: Sequence[ReportEntry]) -> None:
        """Owe again what could not be sent."""
        with self._changed:
            if reports and not self._owed:
                self._send_at = time.monotonic() + REPORT_DELAY_SECONDS
            self._owed = [*reports, *self._owed]

    def send_owed(self, timeout_seconds: float | None = None) -> None:
        """Send the reports that are owed; when it returns, those that were on their way have arrived, too.

        timeout_seconds: how long it may take, None = as the client says. Raises LmdbqError if it cannot; they stay
        owed.
        """
        if not self._sending.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds):
            raise Unreachable("reports are on their way, and nobody has answered")
        try:
            owed = self.take_owed()
            if not owed:
                return
            try:
                answer = self._transport.call(report(owed)._replace(timeout_seconds=timeout_seconds), self._stop)
            except LmdbqError:
                self.unsettled(owed)
                raise
            self.sent += len(owed)
        finally:
            self._sending.release()
        note_outcomes(answer.outcomes)

    def close(self) -> None:
        """End ``run``. What is held and owed stays so."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def reopen(self) -> None:
        """Let ``run`` be called again after ``close``."""
        with self._changed:
            self._closed = False

    def run(self) -> None:
        """Extend and report until ``close``; a daemon that is away is tried again at the next turn."""
        while True:
            with self._changed:
                while not self._closed and (seconds := self._seconds_left()) != 0:
                    self._changed.wait(seconds)  # woken early, it looks again: what is due next may have changed
                if self._closed:
                    return
            self._turn(time.monotonic())

    def _seconds_left(self) -> float | None:
        """Return how long nothing is due (None: nothing ever is, as things stand)."""
        due = [job.extend_at for job in self._jobs.values()]
        if self._owed:
            due.append(self._send_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _turn(self, now: float) -> None:
        try:
            with self._changed:
                send = bool(self._owed) and self._send_at <= now
                due = [job for job in self._jobs.values() if job.extend_at <= now][:EXTEND_LEASES_MAX]
            if send:
                self.send_owed()
            if due:
                self._extend(due)
        except LmdbqError as error:
            log.warning("heartbeat: %s", error)

    def _extend(self, due: Sequence[Job]) -> None:
        now = time.monotonic()
        said = []
        for job in due:
            job.extended_at, job.extend_at = now, now + job.lease_seconds / HEARTBEATS_PER_LEASE
            said.append(
                ExtendEntry(lease=job.lease, keepalive_timeout_in_seconds=job.lease_seconds, progress=job.progress)
            )
        for job, outcome in zip(due, self._transport.call(extend(said), self._stop).outcomes, strict=True):
            if outcome.outcome != "ok":
                with self._changed:
                    self._jobs.pop(job.lease, None)
                job.end(f"the lease was lost ({outcome.outcome})")
            elif outcome.cancel_requested:
                job.end("a cancel was asked for")


def note_outcomes(outcomes: Sequence[ReportOutcome]) -> None:
    """Log the reports that changed nothing. After a repetition ``not_found`` is common: the first one was heard."""
    for outcome in outcomes:
        if outcome.outcome != "ok":
            level = logging.INFO if outcome.outcome == "not_found" else logging.WARNING
            log.log(level, "the report of %s came to nothing: %s", outcome.lease, outcome.outcome)
