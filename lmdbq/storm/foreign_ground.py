"""Where a case of the storm of foreign hands happens: a directory, and what is needed to look at it from outside."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.storm.report import Report
from lmdbq.storm.served import Served

COMMAND_SECONDS: Final = 60.0


class Ground:
    """One case's directory. hold_seconds: how long those hold who hold something. chosen: of the case's own seed."""

    def __init__(self, data: Path, chosen: random.Random, hold_seconds: float, plant: str, report: Report) -> None:
        self.data = data
        self.chosen = chosen
        self.hold_seconds = hold_seconds
        self.is_damaged = False  # then no checker is asked at the end
        self._plant = plant
        self._report = report

    def skipped(self, why: str) -> None:
        """Note that a case cannot be run here."""
        self._report.count(f"not here: {why}")

    def count(self, what: str) -> None:
        """Add to a figure."""
        self._report.count(what)

    @contextmanager
    def served(self, *, before: tuple[str, ...] = ()) -> Iterator[Served]:
        """Serve the directory for the length of a block, and end the daemon in order if it still lives."""
        with Served(self.data, before=before, plant=self._plant) as served:
            yield served
            if served.is_alive:
                served.kill() if before else served.stop()  # unshare, its parent, does not pass signals on

    def lmdbq(self, *words: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Run a command to its end; return its status and all that it said. One that does not end is killed."""
        module = ["lmdbq.storm.planted_daemon", self._plant] if self._plant else ["lmdbq"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        try:
            ended = subprocess.run(
                [sys.executable, "-m", *module, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL, f"it had not ended after {seconds:g} s"
        return ended.returncode, (ended.stdout + ended.stderr).strip()

    def fill(self) -> None:
        """Make a store with tasks in it."""
        command = [sys.executable, "-m", "lmdbq.storm.foreign_user", "fill", str(self.data)]
        subprocess.run(command, check=True)

    def violations(self) -> list[str]:
        """Return what `lmdbq check` finds wrong in the end; nothing, if the file was to be damaged."""
        if self.is_damaged or not (self.data / "data.mdb").exists():
            return []
        status, said = self.lmdbq("check", str(self.data))
        return [] if status == 0 else [f"lmdbq check: {line}" for line in said.splitlines()[:5]]


Case = Callable[[Ground], Iterator[str]]
"""Does something to a ground, and yields what does not end as the docs say."""
