"""A wall clock for one process, which a storm steps as it likes while the steady clock goes on undisturbed.

libfaketime stands between the process and the C library (LD_PRELOAD) and adds to every reading of the wall clock what a
small file says; the file is read anew at each reading. ``WallClock`` writes that file, and keeps the spans of time in
which the process could see the clock, so that a judge knows from when on an instant had come for it. Spans overlap by
the moment that a step takes: in it, the process may have seen either time.

The trap: readings of the real clock and of the steady one are put together here; a machine whose own clock is set
during a storm spoils it.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lmdbq.storm.trace import Unclear

DEBIAN_PLACES: Final = "*/faketime/libfaketime.so.1"  # below /usr/lib: of the package faketime
_SHARED: Final = ("/dev/shm/faketime_shm_{pid}", "/dev/shm/sem.faketime_sem_{pid}")  # it stays if a process is killed
SLEW_SECONDS: Final = 0.02  # how far a machine's clocks may drift apart meanwhile


class Span(NamedTuple):
    """From when to when (steady seconds) the process saw a wall clock ``ahead`` of the machine's by so many seconds.

    maybe_from: when it began to start; it may have seen that clock long before anybody found it ready, at ``begin``.
    Until then that is infinite.
    """

    begin: float
    end: float
    ahead: float
    maybe_from: float


def library() -> Path:
    """Return libfaketime. Raises Unclear if there is none that works here."""
    candidates = list(Path("/usr/lib").glob(DEBIAN_PLACES))
    found = importlib.util.find_spec("libfaketime")
    if found is not None and found.submodule_search_locations:
        own = [Path(place, "vendor/libfaketime/src/libfaketime.so.1") for place in found.submodule_search_locations]
        candidates = own + candidates
    for candidate in candidates:
        if candidate.is_file() and _works(candidate):
            return candidate
    raise Unclear("this needs libfaketime: `pip install libfaketime`, or the Debian package faketime (Linux only)")


def _works(candidate: Path) -> bool:
    """Whether a process sees another date with it."""
    environment = {**os.environ, "LD_PRELOAD": str(candidate), "FAKETIME": "-400d", "DONT_FAKE_MONOTONIC": "1"}
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], env=environment, capture_output=True, check=False
    )
    try:
        return float(told.stdout) < time.time() - 399 * 86_400
    except ValueError:
        return False


class WallClock:
    """The wall clock of one process; it begins as the machine's. For one thread that sets it and many that ask.

    A context: at its end nothing is left of it, of processes that were killed either.
    """

    def __init__(self, directory: Path) -> None:
        self._preloaded = library()
        self._file = directory / "ahead"
        self._epoch = time.time() - time.monotonic()
        self._ended: list[Span] = []
        self._current: Span | None = None
        self._stepping = threading.Lock()
        self._pids: set[int] = set()
        self.ahead = 0.0
        self._write()

    def __enter__(self) -> WallClock:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._pids:
            for name in _SHARED:
                Path(name.format(pid=pid)).unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """Return the variables that give a process this clock."""
        return {
            "LD_PRELOAD": str(self._preloaded),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # with it, waiting for CPython's GIL takes far too long
        }

    def now(self) -> float:
        """Return what the process sees now, or would see: Unix seconds."""
        return self.wall(time.monotonic(), self.ahead)

    def wall(self, steady: float, ahead: float) -> float:
        """Return the wall clock's time at a steady one."""
        return self._epoch + steady + ahead

    def step(self, seconds: float) -> None:
        """Set the clock forward, or back."""
        with self._stepping:
            began = time.monotonic()
            self.ahead += seconds
            self._write()
            if self._current is not None:
                self._ended.append(self._current._replace(end=time.monotonic()))
                self._current = Span(began, math.inf, self.ahead, began)

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self.ahead:+.6f}\n", encoding="ascii")
        fresh.rename(self._file)

    def starting(self) -> None:
        """Note that the process may run, from now on."""
        self._current = Span(math.inf, math.inf, self.ahead, time.monotonic())

    def seen(self, pid: int) -> None:
        """Note that the process runs, from now on."""
        self._pids.add(pid)
        now = time.monotonic()
        self._current = (self._current or Span(now, math.inf, self.ahead, now))._replace(begin=now)

    def unseen(self) -> None:
        """Note that it does not, from now on."""
        assert self._current is not None
        self._ended.append(self._current._replace(end=time.monotonic()))
        self._current = None

    def latest(self, since: float, until: float) -> float:
        """Return the latest time that the process can have seen between two steady ones: Unix seconds."""
        return max(
            (
                self.wall(min(span.end, until), span.ahead)
                for span in self.spans()
                if span.maybe_from <= until and span.end >= since
            ),
            default=-math.inf,
        )

    def due(self, instant: float, since: float, until: float) -> Iterator[tuple[float, float]]:
        """Yield each stretch between two steady times in which an instant (Unix seconds) had come, by the steady clock.

        A stretch ends when the clock is set back to before it, or the process stops.
        """
        open_at = math.nan
        last_end = math.nan
        for span in self.spans():
            begin = max(span.begin, since, instant - self._epoch - span.ahead)
            end = min(span.end, until)
            if begin >= end:
                continue
            if not begin <= last_end:  # not without a break
                if not math.isnan(open_at):
                    yield open_at, last_end
                open_at = begin
            last_end = end
        if not math.isnan(open_at):
            yield open_at, last_end

    def spans(self) -> list[Span]:
        """Return all spans, the earliest first."""
        with self._stepping:
            return [*self._ended, *([self._current] if self._current else [])]
