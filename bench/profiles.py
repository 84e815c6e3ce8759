"""What the profiles share: servers to measure, the processor time they spend, and the rate that this allows.

Processor time is measured and not rates, so that a busy machine shows less. A rate is bounded thrice: a server that is
one thread of Python gives at most a task per its own processor time, so do callers who share a process, and all cores
together no more than the time of both allows. The trap is what is not processor time: a server that waits for its disk
stays below all three.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

from lmdbq.bench import procfs
from lmdbq.bench.processes import serving
from lmdbq.bench.targets.embedded import DATA

RESULTS: Final = Path(__file__).parent / "results"

Opened = Callable[[Path], AbstractContextManager[tuple[int, int]]]
"""Starts a server in a directory; the value is (pid, port)."""

Cost = TypeVar("Cost")


def python(*words: str) -> Opened:
    """Return how a server of Python is started."""
    return lambda directory: serving([sys.executable, "-m", *words], directory)


@contextmanager
def daemon(directory: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Run ``lmdbq serve`` with its defaults, but for these options."""
    words = ["lmdbq.cli", "serve", "--listen", "127.0.0.1:0", "--data", str(directory / DATA), *options]
    with python(*words)(directory) as found:
        yield found


class Spent:
    """What a server has spent when the block of ``spending`` is over, in seconds: in its own code, in the kernel."""

    own = 0.0
    system = 0.0


@contextmanager
def spending(pid: int) -> Iterator[Spent]:
    """Measure the processor time of a process for the length of a block."""
    spent = Spent()
    before, system = procfs.cpu_seconds(pid), procfs.system_seconds(pid)
    yield spent
    all_of_it = procfs.cpu_seconds(pid) - before
    spent.system = min(all_of_it, procfs.system_seconds(pid) - system)  # the kernel's part is told in steps of 10 ms
    spent.own = all_of_it - spent.system


def most(server: float, callers: float, cores: int, processes: int = 1) -> float:
    """Return the highest rate that processor time allows: the server is one thread of Python, so is each of the
    ``processes`` that the callers are in. server, callers: us per task."""
    return 1e6 / max(server, callers / processes, (server + callers) / cores)


def medians(kind: type[Cost], rounds: Sequence[Mapping[str, Any]]) -> Cost:
    """Return the median of each field of a cost over its rounds."""
    return kind(**{name: median(one[name] for one in rounds) for name in rounds[0]})
