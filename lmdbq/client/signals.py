"""Signals of a worker, heard in the main thread only: SIGINT and SIGTERM end it, SIGUSR2 shows what runs."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from lmdbq.client.leases import Job


@contextlib.contextmanager
def interrupts(running_now: Callable[[], Sequence[Job]]) -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt as SIGINT does, for the length of a block; all are given back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def show(_number: int, _frame: FrameType | None) -> None:
        _show(running_now())

    wanted: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.default_int_handler}
    if hasattr(signal, "SIGUSR2"):
        wanted[signal.SIGUSR2] = show
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(jobs: Sequence[Job]) -> None:
    """Write what runs, and where every thread stands, to standard error."""
    for job in jobs:
        since = time.monotonic() - job.claimed_at
        sys.stderr.write(f"{job.id} {job.type} attempt {job.attempts}, claimed {since:.1f} s ago\n")
    sys.stderr.write(f"{len(jobs)} leases held; the threads:\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(all_threads=True)


def deafened() -> None:
    """Ignore further signals: a third one must not keep the second from ending what still runs."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
