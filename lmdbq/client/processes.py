"""Tasks in processes of their own: one process for each slot, which can be killed, and is replaced when it was.

A slot talks with its child over a pipe: a task (by its name) and what was claimed go out, progress and one report come
back. The child is spawned, not forked, so it has no thread, lock or open file of its parent's; it imports the module of
the tasks by itself. It ends when the pipe does, however its parent ended. The trap: a child that is killed for one job
must not take the next one with it, so a kill names its job.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec

from lmdbq.client.attempts import Lifespans, attempt
from lmdbq.client.context import Context
from lmdbq.client.decoders import decoder_of
from lmdbq.client.info import task_info
from lmdbq.client.leases import Job
from lmdbq.client.reports import failed
from lmdbq.client.tasks import Task
from lmdbq.wire.answers import TaskAnswer
from lmdbq.wire.shapes import ReportEntry

STATM: Final = Path("/proc/self/statm")
END_SECONDS: Final = 0.5  # for an idle child to leave its lifespans
_spawning: Final = multiprocessing.get_context("spawn")


class ProcessSlot:
    """Runs one job at a time in a child process, and replaces it between two jobs when it has had enough of them.

    jobs_max: after so many jobs, memory_bytes_max: when more of it is in memory; None = never.
    """

    def __init__(self, jobs_max: int | None, memory_bytes_max: int | None = None) -> None:
        self._jobs_max = jobs_max
        self._memory_bytes_max = memory_bytes_max
        self._memory_bytes = 0
        self._jobs_done = 0
        self._is_killed = False
        self._lock = threading.Lock()  # guards who is killed for what
        self._job: Job | None = None
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, task: Task[..., Any], job: Job, progress: Callable[[float], None]) -> ReportEntry:
        """Run a job to its end and return its report."""
        if self._process is None:
            self._spawn()
        with self._lock:
            self._job = job
        job.when_over(lambda: self._kill(job))
        try:
            report = self._converse(task, job, progress)
        except (EOFError, OSError) as broken:
            report = self._died(job, broken)
        with self._lock:
            self._job = None
        self._jobs_done += 1
        if self._is_killed or self._jobs_done == self._jobs_max or self._is_too_large:
            self.end()
        return report

    @property
    def _is_too_large(self) -> bool:
        return self._memory_bytes_max is not None and self._memory_bytes > self._memory_bytes_max

    def _spawn(self) -> None:
        pipe, theirs = _spawning.Pipe()
        process = _spawning.Process(target=child_main, args=(theirs,), name="lmdbq-process")
        with theirs:
            process.start()
        self._process, self._pipe = process, pipe  # only now: a system without room for it may have some later
        self._jobs_done = 0
        self._is_killed = False

    def _converse(self, task: Task[..., Any], job: Job, progress: Callable[[float], None]) -> ReportEntry:
        assert self._pipe is not None
        self._pipe.send((task, msgspec.json.encode(job.task)))
        until = None if task.timeout_seconds is None else time.monotonic() + task.timeout_seconds
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not self._pipe.poll(left):
                self._kill(job)
                detail = f"it ran for more than {task.timeout_seconds:g} s, and was killed"
                return failed(job.lease, detail, kind="timeout")
            said = self._pipe.recv()
            if isinstance(said, tuple):
                report, self._memory_bytes = said
                return decoder_of(ReportEntry).decode(report)
            progress(said)

    def _died(self, job: Job, broken: Exception) -> ReportEntry:
        self._process.join()
        status = self._process.exitcode
        self._is_killed = True
        if job.over.is_set():
            return failed(job.lease, job.why_over, kind="ended")
        return failed(job.lease, f"its process ended with status {status} ({broken!r})", kind="process_died")

    def _kill(self, job: Job) -> None:
        with self._lock:
            if self._job is job:
                self._is_killed = True  # also if its report is here already: the next job must not meet a dying child
                self._process.kill()

    def end(self) -> None:
        """End the child: an idle one by itself, in a moment; one at work is killed, and ``run`` cleans up after it."""
        with self._lock:
            process, pipe = self._process, self._pipe
            if process is None or pipe is None:
                return
            if self._job is not None:
                process.kill()
                return
            self._process = self._pipe = None
        pipe.close()
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def memory_bytes() -> int:
    """Return how much memory this process has in use; where the system cannot say, the most it ever had."""
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def child_main(pipe: Connection) -> None:
    """What a child runs: one job after the other, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides who ends
    with asyncio.Runner() as runner:
        lifespans = Lifespans(runner.run)
        try:
            while True:
                task, claimed = pipe.recv()
                answer = msgspec.json.decode(claimed, type=TaskAnswer)
                report = _report(task, answer, pipe, lifespans, runner)
                pipe.send((msgspec.json.encode(report), memory_bytes()))
        except (EOFError, OSError):
            lifespans.close()


def _report(
    task: Task[..., Any], answer: TaskAnswer, pipe: Connection, lifespans: Lifespans, runner: asyncio.Runner
) -> ReportEntry:
    try:
        state = lifespans.state(task.tasks)
    except Exception as error:  # noqa: BLE001  (the attempt could not begin)
        return failed(answer.lease or "", error)
    context = Context(task_info(answer), threading.Event(), pipe.send, state)
    return attempt(task, answer, context, runner.run)
