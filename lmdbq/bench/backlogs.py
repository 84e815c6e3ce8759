"""Directories to measure in: fresh ones, and such in which a backlog already waits.

Filling ten million tasks takes longer than all that is measured on them. So a large backlog is filled once in a run,
and every target that reads its layout begins with it, round after round. A workload that leaves the backlog as long as
it was works on the original, as on a file that has been in use for a while; one that does not gets a copy.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.bench.targets.base import Target, Versatile
from lmdbq.bench.workloads import DRAIN, ENQUEUE, Workload

SHARED_MIN: Final = 30_000  # tasks; fewer are filled anew each time
_ROOM_BYTES: Final = 1_000_000_000


@contextmanager
def fresh_directory(parent: Path | None) -> Iterator[Path]:
    """Make a directory for the length of a block. parent: None is the working directory, on whose disk it then is."""
    directory = Path(tempfile.mkdtemp(prefix=".bench-", dir=parent or Path.cwd()))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        os.sync()  # or the next cell pays for freeing this one's blocks


def _bytes_of(workload: Workload) -> int:
    """Return about how much a backlog takes on the disk, with its copy if it is worked on as one."""
    a_task = workload.payload_bytes + (350 if workload.keys else 100)
    copies = 2 if workload.kind in (ENQUEUE, DRAIN) else 1
    return workload.backlog * a_task * copies if workload.backlog >= SHARED_MIN else 0


def bytes_wanted(workloads: Iterable[Workload]) -> int:
    """Return about how much room on the disk backlogs need, and what is enqueued beside them."""
    return _ROOM_BYTES + sum(_bytes_of(one) for one in set(workloads))


class Backlogs:
    """The backlogs of one run, below ``directory``."""

    def __init__(self, directory: Path, note: Callable[[str], None]) -> None:
        self._directory = directory
        self._note = note
        self._filled: dict[tuple[object, ...], Path] = {}

    @contextmanager
    def place(self, target: Target, workload: Workload) -> Iterator[Path]:
        """Yield a directory for a target to be opened in, with the workload's backlog in it."""
        if workload.backlog < SHARED_MIN:
            with fresh_directory(self._directory) as parent:
                yield self._fill(target, workload, parent / "target")
            return
        shared = self._shared(target, workload)
        if workload.kind not in (ENQUEUE, DRAIN):
            yield shared
            return
        with fresh_directory(self._directory) as parent:
            copy = parent / "target"
            shutil.copytree(shared, copy)
            os.sync()
            yield copy

    def _shared(self, target: Target, workload: Workload) -> Path:
        assert isinstance(target, Versatile)
        wanted = (target.layout, workload.backlog, workload.keys, workload.priorities, workload.payload_bytes)
        if wanted not in self._filled:
            begun = time.monotonic()
            keys = f" with {workload.keys} keys" if workload.keys else ""
            self._note(f"filling {workload.backlog:,} tasks{keys} ({target.layout})")
            self._filled[wanted] = self._fill(target, workload, self._directory / f"backlog-{len(self._filled)}")
            os.sync()
            self._note(f"filled in {time.monotonic() - begun:.0f} s")
        return self._filled[wanted]

    @staticmethod
    def _fill(target: Target, workload: Workload, directory: Path) -> Path:
        if workload.backlog:
            assert isinstance(target, Versatile)
            directory.mkdir()
            target.fill(directory, workload)
        return directory
