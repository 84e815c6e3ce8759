"""What a target is: something that can be opened in a directory, loaded, and asked how much it holds.

An adapter is a ``Target`` and its ``Session``. It measures only what it is asked, and checks nothing itself: the runner
compares what a measurement says it has left behind with what is ``stored``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from lmdbq.bench.workloads import SUCCEEDS, Workload

RATE: Final = "tasks_per_second"


class Sample(Struct, frozen=True):
    """One measurement: values by name (``tasks_per_second`` for a throughput), and how many tasks it has left behind,
    warm-up included: those that were acknowledged and not taken out again. tasks: how many it has worked on in all, if
    that is not ``left``; 0 = not said."""

    values: dict[str, float]
    left: int = 0
    tasks: int = 0


class Session(Protocol):
    """A target that is open."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that keep the data, whose syncs and bytes are counted; those they have forked need no name."""
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
        """Return why this target cannot be measured here, and the remedy; "" if it can."""
        ...

    def open(self, directory: Path) -> AbstractContextManager[Session]:
        """Start it in an empty directory, or in one that was filled."""
        ...


@runtime_checkable
class Versatile(Target, Protocol):
    """A target that can do more than plain tasks. features: see ``needs``. layout: targets of the same layout read each
    other's directories."""

    layout: str
    features: frozenset[str]

    def fill(self, directory: Path, workload: Workload) -> None:
        """Put the workload's backlog into an empty directory, before anything is opened there."""
        ...


def needs(workload: Workload) -> set[str]:
    """Return what a target must be able to do besides the workload's kind.

    >>> sorted(needs(Workload("", "enqueue", keys="random", backlog=10)))
    ['backlog', 'keys']
    """
    asked = {
        "backlog": workload.backlog > 0,
        "keys": workload.keys != "",
        "priorities": workload.priorities > 1,
        "scheduled": workload.scheduled,
        workload.ending: workload.ending != SUCCEEDS,
    }
    return {feature for feature, wanted in asked.items() if wanted}


def can(target: Target, workload: Workload) -> bool:
    """Whether a target can do a workload."""
    features = target.features if isinstance(target, Versatile) else frozenset()
    return workload.kind in target.kinds and needs(workload) <= features
