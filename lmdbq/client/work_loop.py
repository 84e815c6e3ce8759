"""The loop of every worker: claim tasks, have them run, report how they went, until it is told to stop.

One thread claims, for as many tasks as there is room for, and takes finished tasks' reports along: one request, one
transaction. One thread, the keeper, extends every lease (``leases``). A *runner* runs the jobs, wherever it likes, and
says when each is done. The main thread only waits, so a signal finds it at rest: the first one (SIGINT, SIGTERM) lets
what runs end and hands back the rest, the second ends now. While no daemon answers, the claim is repeated with the same
claim id and the same reports, so nothing is claimed or counted twice.

The trap: a handler may run twice for one task (a lapsed lease, a lost report). It must be safe to repeat.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, Self

from lmdbq.client.claims import Claims
from lmdbq.client.leases import Held, Job, log
from lmdbq.client.places import Transport
from lmdbq.client.registration import Registrar, said_names
from lmdbq.client.reports import released
from lmdbq.client.signals import deafened, interrupts
from lmdbq.errors import LmdbqError
from lmdbq.limits import CLAIM_TASKS_MAX
from lmdbq.wire.shapes import ReportEntry

END_SECONDS: Final = 0.5  # for handlers to notice that they are over, and for threads that wait for a last answer
HEARD_SECONDS: Final = 0.5  # how long a signal may wait for the main thread: a lock's wait hears only what comes to it
LAST_SECONDS: Final = 1.0  # for the last reports, when the grace is over


class Runner(Protocol):
    """Runs jobs."""

    def open(self) -> None:
        """Make ready; called before the first job. Raises what makes working impossible."""
        ...

    def start(self, job: Job, done: Callable[[ReportEntry], None]) -> None:
        """Run ``job`` and call ``done`` with its report, once, from any thread. It does not wait for it."""
        ...

    def close(self, *, now: bool) -> None:
        """Let go of everything; jobs that still run are over. now: leave undone what takes time."""
        ...


class WorkLoop:
    """A worker. types: only these, empty = all. concurrency: how many jobs run at once. buffer: how many more are held.

    lease: seconds (1 s .. 12 h), None = each task's own. grace: seconds that running jobs get after a stop. said: what
    is known of the types, for the queue.
    """

    def __init__(
        self,
        transport: Transport,
        runner: Runner,
        *,
        queues: Sequence[str],
        types: Sequence[str],
        concurrency: int,
        buffer: int,
        lease: float | None,
        grace: float,
        said: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if isinstance(queues, str):  # its letters would be taken for names
            raise TypeError(f"queues is a list of names: queues=[{queues!r}]")
        if concurrency < 1 or buffer < 0:
            raise ValueError(f"concurrency is 1 or more and buffer 0 or more: they are {concurrency} and {buffer}")
        if not 0 <= grace <= threading.TIMEOUT_MAX:
            raise ValueError(f"grace is 0 seconds or more, and no infinity: it is {grace}")
        self.types = tuple(types)
        self._transport = transport
        self._runner = runner
        self._concurrency = concurrency
        self._buffer = buffer
        self._grace = grace
        self._stop = threading.Event()
        self._held = Held(transport, self._stop)
        self._registrar = Registrar(transport, queues=queues, types=said or said_names(types), concurrency=concurrency)
        self._claims = Claims(transport, self._held, self._stop, queues, types, lease)
        self._changed = threading.Condition()  # guards the three below
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._finished = 0
        self._failure: BaseException | None = None
        self._in_haste = False  # whether somebody does not want to wait for the grace
        self._keeper: threading.Thread | None = None
        self._claimer: threading.Thread | None = None

    # --- life

    def stop(self) -> None:
        """Begin to end: what runs finishes, the rest is handed back. From any thread; twice is harmless."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._transport.interrupt()

    def _stop_in_haste(self) -> None:
        self._in_haste = True
        self.stop()

    def run(self, *, ready: Callable[[], None] | None = None) -> None:
        """Work until ``stop`` or a signal. Signals are heard only if this is the main thread.

        ready: called once it works. Raises KeyboardInterrupt at a second signal, and what it could not go on with (a
        refused token, say).
        """
        with interrupts(self.running_now):
            try:
                self._begin()
                with contextlib.suppress(KeyboardInterrupt):
                    if ready is not None:
                        ready()
                    while not self._stop.wait(HEARD_SECONDS):
                        pass  # a signal that came just before the wait, or to another thread, is heard between two
                self._finish()
            except BaseException:  # a second signal; or it could not begin
                deafened()
                self._end_now()
                raise
            self._close()
        if self._failure is not None:
            raise self._failure

    def drain(self, *, timeout: float | None = None) -> int:
        """Work until nothing is ready, and return how many attempts ended. Tasks that are due later stay.

        timeout: seconds. Raises TimeoutError when they are over (what runs is handed back), what a claim raises, and
        RuntimeError once the worker was stopped.
        """
        if self._stop.is_set():
            raise RuntimeError("this worker was stopped; make another one")
        until = None if timeout is None else time.monotonic() + timeout
        begun = self._finished
        self._open()
        try:
            while not self._stop.is_set():
                finished, sent, room = self._finished, self._held.sent, self._room()
                jobs = self._claims.claim_once(self._claims.wanted(room, 0.0))
                self._take(jobs)
                if not jobs and not self._running:
                    self._held.send_owed()
                    if (finished, sent) == (self._finished, self._held.sent):
                        return self._finished - begun
                if not self._await_change(None if len(jobs) == room else finished, until):
                    self._end_jobs("the time to drain is over")
                    self._held.send_owed()
                    raise TimeoutError(f"after {timeout:g} s there is still work")
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure
        return self._finished - begun

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._finish()
        except BaseException:  # a second Ctrl-C
            self._end_now()
            raise
        self._close()
        if self._failure is not None:
            raise self._failure

    def _end_now(self) -> None:
        self._end_jobs("the worker ends now")
        self._send_last(LAST_SECONDS)
        self._close(now=True)

    def running_now(self) -> list[Job]:
        """Return the jobs whose leases are held."""
        return self._held.jobs()

    def _open(self) -> None:
        self._runner.open()
        self._held.reopen()
        self._keeper = threading.Thread(target=self._keep_on, name="lmdbq-keeper", daemon=True)
        self._keeper.start()

    def _begin(self) -> None:
        self._open()
        self._claimer = threading.Thread(target=self._claim_on, name="lmdbq-claimer", daemon=True)
        self._claimer.start()
        self._registrar.start()

    def _close(self, *, now: bool = False) -> None:
        self._held.close()
        self._runner.close(now=now)
        self._registrar.close(0 if now else END_SECONDS)
        for thread in (self._claimer, self._keeper):
            if thread is not None:
                thread.join(END_SECONDS)
        self._transport.close()

    def _finish(self) -> None:
        self.stop()
        log.info("stopping: what runs may finish within %g s; a second signal ends it now", self._grace)
        deadline = time.monotonic() + self._grace
        if self._claimer is not None:
            self._claimer.join(self._grace)  # it may be handing back what it was just given
        self._hand_back_waiting()
        self._send_last(max(LAST_SECONDS, deadline - time.monotonic()))
        with self._changed:
            while self._running and not self._in_haste and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, HEARD_SECONDS))
        self._end_jobs("the worker ends now" if self._in_haste else "the grace after the stop is over")
        self._send_last(max(LAST_SECONDS, deadline - time.monotonic()))

    def _send_last(self, timeout_seconds: float) -> None:
        """Send what is owed. A daemon that hangs must not keep a worker from ending when its grace is over."""
        try:
            self._held.send_owed(timeout_seconds)
        except LmdbqError as error:
            log.warning("the last reports could not be sent, their tasks will run again: %s", error)

    def _hand_back_waiting(self) -> None:
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
        for job in waiting:
            self._held.owe(released(job.lease))

    def _end_jobs(self, why: str) -> None:
        """Hand back what is held, and tell who works at it. Its handlers get a moment to notice."""
        self._hand_back_waiting()
        for job in self._held.jobs():
            job.abandoned = True
            self._held.owe(released(job.lease))
            job.end(why)
        until = time.monotonic() + END_SECONDS
        with self._changed:
            while self._running and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    # --- running

    def _take(self, jobs: Sequence[Job]) -> None:
        self._held.add(jobs)
        with self._changed:
            self._waiting.extend(jobs)
        self._start_some()

    def _start_some(self) -> None:
        """Start what waits, as far as there is room. What is over before it began is handed back."""
        while True:
            with self._changed:
                if self._stop.is_set() or self._running >= self._concurrency or not self._waiting:
                    return
                job = self._waiting.popleft()
                is_over = job.over.is_set()
                self._running += not is_over
            if is_over:
                self._held.owe(released(job.lease))
            else:
                self._runner.start(job, lambda report, job=job: self._done(job, report))  # type: ignore[misc]

    def _done(self, job: Job, report: ReportEntry) -> None:
        if not job.abandoned:
            self._held.owe(report)
        with self._changed:
            self._running -= 1
            self._finished += 1
            self._changed.notify_all()
        self._start_some()

    def _room(self) -> int:
        with self._changed:
            room = self._concurrency + self._buffer - self._running - len(self._waiting)
            return min(room, CLAIM_TASKS_MAX)

    def _await_change(self, finished: int | None, until: float | None) -> bool:
        """Wait for room; or, if ``finished`` is given, until more than so many jobs have, or none runs.

        False if the time is over first.
        """
        with self._changed:
            while not (self._stop.is_set() or self._has_changed(finished)):
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def _has_changed(self, finished: int | None) -> bool:
        if finished is None:
            return self._concurrency + self._buffer > self._running + len(self._waiting)
        return finished != self._finished or not self._running

    # --- the two threads; what ends one of them ends the worker, and ``run`` raises it

    def _claim_on(self) -> None:
        try:
            while not self._stop.is_set():
                self._await_change(None, None)
                self._take(self._claims.claim(self._room))
        except BaseException as error:  # noqa: BLE001
            self._fail(error)

    def _keep_on(self) -> None:
        try:
            self._held.run()
        except BaseException as error:  # noqa: BLE001
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self.stop()
