"""What a target is: something that can be opened in a directory, loaded, and asked how much it holds.

An adapter is a ``Target`` and its ``Session``. It measures only what it is asked, and checks nothing itself: the runner
compares what a measurement says it has left behind with what is ``stored``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from lmdbq.bench.workloads import Workload

RATE: Final = "tasks_per_second"


class Sample(Struct, frozen=True):
    """One measurement: values by name (``tasks_per_second`` for a throughput), and how many tasks it has left behind,
    warm-up included: those that were acknowledged and not taken out again."""

    values: dict[str, float]
    left: int = 0


class Session(Protocol):
    """A target that is open. pids: the processes that keep the data, whose syncs are counted."""

    pids: tuple[int, ...]

    def fill(self, workload: Workload) -> None:
        """Put the workload's backlog in place."""
        ...

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        """Do the workload for ``seconds`` after ``warm_seconds`` that do not count."""
        ...

    def stored(self) -> int | None:
        """Return how many tasks are stored now; None if the target keeps none."""
        ...


class Target(Protocol):
    """A way to enqueue. durability: what it is configured to promise, in words. kinds: of workloads it can do."""

    name: str
    durability: str
    kinds: tuple[str, ...]

    def absent(self) -> str:
        """Return why this target cannot be measured here; "" if it can."""
        ...

    def open(self, directory: Path) -> AbstractContextManager[Session]:
        """Start it in an empty directory."""
        ...
