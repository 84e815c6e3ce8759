"""What the peers share: a session that loads a peer with drivers of ``lmdbq.bench.peer_load``, and what stops one.

Tasks one by one come from one process with many callers, as from a web server; batches and workers have a process each.
A peer without a server keeps its data in the drivers: then it is this process and its children whose syncs are counted.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from lmdbq.bench.processes import drive
from lmdbq.bench.targets.base import RATE, Sample
from lmdbq.bench.workloads import WORKERS, Workload

_BATCH_LEN: Final = 100  # from here on a call is a batch
_PROCESSES_MAX: Final = 4  # more callers than that share one
_WORKER_START_SECONDS: Final = 1.0  # in which a peer's own worker starts, and is not counted
BLOCKING: Final = "blocking"
LOOP: Final = "loop"
WORKER: Final = "worker"


class PeerSession:
    """A peer that is open.

    load: what its driver must know: ``adapter`` (the module with ``connect`` or ``worker``), ``mode`` and, for workers,
    ``worker_mode``, ``shared`` (one client for all threads), and what the adapter itself wants to know. pid: of the
    server; without one, the data is kept by the drivers.
    """

    def __init__(self, directory: Path, load: dict[str, Any], count: Callable[[], int], pid: int = 0) -> None:
        self.pids: tuple[int, ...] = (pid or os.getpid(),)
        self._directory = directory
        self._load = load
        self._count = count

    def stored(self) -> int:
        return self._count()

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        lives = workload.kind == WORKERS
        apart = lives or (workload.batch >= _BATCH_LEN and workload.callers <= _PROCESSES_MAX)
        processes = workload.callers if apart else 1
        spec = {
            "shared": False,
            **self._load,
            "mode": self._load.get("worker_mode", self._load["mode"]) if lives else self._load["mode"],
            "workload": msgspec.to_builtins(workload),
            "connections": workload.callers // processes,
        }
        specs = [{**spec, "seed": seed} for seed in range(processes)]
        warm_seconds = max(warm_seconds, _WORKER_START_SECONDS) if spec["mode"] == WORKER else warm_seconds
        done = drive("lmdbq.bench.peer_load", specs, self._directory, warm_seconds, seconds)
        rate = sum(one["counted"] for one in done) / seconds
        finished = sum(one["finished"] for one in done)
        return Sample({RATE: rate}, left=sum(one["sent"] for one in done) - finished, tasks=finished)


def missing(*modules: str) -> str:
    """Return what is to be done so that these modules can be imported; "" if they can."""
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    verb = "are" if len(lacking) > 1 else "is"
    return f"{' and '.join(lacking)} {verb} not installed: pip install 'lmdbq[bench]'" if lacking else ""
