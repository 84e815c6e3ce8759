"""The daemon over HTTP: JSON, MessagePack and NDJSON, loaded by drivers of ``http_load``."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from lmdbq.bench import inputs, procfs, written
from lmdbq.bench.http_load import Connection
from lmdbq.bench.inputs import JSON, MSGPACK, NDJSON
from lmdbq.bench.processes import START_SECONDS, Failed, drive, serving
from lmdbq.bench.stats import call_lengths, percentile
from lmdbq.bench.targets import embedded
from lmdbq.bench.targets.base import RATE, Sample, Session
from lmdbq.bench.workloads import DRAIN, ENQUEUE, IDLE, LATENCY, START, WORKERS, WRITTEN, Workload

_DRIVER: Final = "lmdbq.bench.http_load"
_WORKERS: Final = 4
_PROCESSES_MAX: Final = 4  # of drivers; more callers than that share one, which is faster on few cores
_UNLIMITED: Final = 10**9  # tasks per second: as fast as the connections answer
_LIVES: Final = 30  # of a batch each, before the memory of a daemon is looked at


class HttpSession:
    """A daemon that runs. keeps: whether what it acknowledges can be counted afterwards."""

    def __init__(
        self,
        directory: Path,
        pid: int,
        port: int,
        content_type: str,
        *,
        minimal: bool = False,
        keeps: bool = True,
        ready_seconds: float = 0.0,
    ) -> None:
        self.pids: tuple[int, ...] = (pid,)
        self._directory = directory
        self._port = port
        self._load = {"port": port, "content_type": content_type, "minimal": minimal}
        self._keeps = keeps
        self._ready_seconds = ready_seconds

    def stored(self) -> int | None:
        if not self._keeps:
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v1/tasks/count") as answer:
            return int(json.load(answer)["count"])

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        ways = {
            IDLE: self._idle,
            LATENCY: self._latency,
            DRAIN: self._drain,
            START: self._start,
            WRITTEN: self._written,
        }
        return ways.get(workload.kind, self._enqueue)(workload, warm_seconds, seconds)

    def _drive(self, specs: list[dict[str, Any]], warm_seconds: float, seconds: float) -> list[dict[str, Any]]:
        return drive(_DRIVER, specs, self._directory, warm_seconds, seconds)

    def _spec(self, mode: str, workload: Workload, **said: Any) -> dict[str, Any]:
        return {"mode": mode, "workload": msgspec.to_builtins(workload), **self._load, **said}

    def _enqueue(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        """Few callers of batches: a process for each. Else all callers in one process."""
        length = warm_seconds + seconds
        if workload.kind == WORKERS or (workload.batch >= 100 and workload.callers <= _PROCESSES_MAX):
            mode = "life" if workload.kind == WORKERS else "batch"
            specs = [self._spec(mode, workload, seed=seed + 1, seconds=length) for seed in range(workload.callers)]
        else:
            specs = [self._spec("single", workload, seed=1, seconds=length, connections=workload.callers)]
        done = self._drive(specs, warm_seconds, seconds)
        values = {RATE: sum(one["counted"] for one in done) / seconds}
        values |= call_lengths(list(chain.from_iterable(one.get("lengths", ()) for one in done)))
        return Sample(values, sum(one["sent"] for one in done), sum(one.get("total", 0) for one in done))

    def _drain(self, workload: Workload, _warm_seconds: float, seconds: float) -> Sample:
        """What waits is counted from the first task on; the rate ends when nothing waits any more."""
        done = self._drive([self._spec("drain", workload) for _ in range(workload.callers)], 0.0, seconds)
        drained = sum(one["counted"] for one in done)
        return Sample(
            {RATE: drained / max(one["seconds"] for one in done)},
            left=-drained,
            tasks=drained,
        )

    def _latency(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        """Workers that wait, a producer at its rate: from when a task was due to be sent to when its worker has it."""
        values = {}
        if not workload.rate:
            most = self._produce_and_work(structs.replace(workload, rate=_UNLIMITED), warm_seconds, seconds)
            rate = int(sum(worker["counted"] for worker in most) / seconds / 2)
            workload = structs.replace(workload, rate=max(1, rate))
            values["offered_per_second"] = float(workload.rate)
        workers = self._produce_and_work(workload, warm_seconds, seconds)
        late = sorted(one for worker in workers for one in worker["late_ms"])
        if not late:
            raise Failed("no task was sent while it counted: the machine is too busy, or the time too short")
        return Sample(values | {f"p{share}_ms": percentile(late, share) for share in (50, 90, 99)})

    def _produce_and_work(self, workload: Workload, warm_seconds: float, seconds: float) -> list[dict[str, Any]]:
        specs = [self._spec("worker", workload) for _ in range(_WORKERS)]
        specs.append(self._spec("paced", workload, connections=workload.callers))
        *workers, producer = self._drive(specs, warm_seconds, seconds)
        assert sum(worker["total"] for worker in workers) == producer["sent"], "tasks were lost, or started twice"
        return workers

    def _idle(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        """Dequeues that are parked while nothing happens."""
        wanted = json.dumps({"queue_names": [inputs.QUEUE], "wait_in_seconds": 60}).encode()
        parked = [Connection(self._port) for _ in range(workload.callers)]
        for connection in parked:
            connection.send(inputs.request("/v1/dequeue", wanted))
        values = procfs.usage(self.pids[0], warm_seconds, seconds)
        for connection in parked:
            connection.sock.close()
        return Sample(values)

    def _start(self, workload: Workload, _warm_seconds: float, _seconds: float) -> Sample:
        """How long the start took, and what memory is the daemon's own when it has worked a little."""
        written.lives(Connection(self._port), workload.batch, _LIVES)
        anonymous = procfs.anonymous_bytes(self.pids[0])
        return Sample({"ready_ms": self._ready_seconds * 1e3, "anonymous_mb": anonymous / 1e6})

    def _written(self, workload: Workload, _warm_seconds: float, seconds: float) -> Sample:
        return Sample(written.measure(self._port, self.pids[0], workload.batch, seconds))


class HttpTarget:
    """``lmdbq serve`` with its defaults."""

    durability = "full"
    layout = embedded.LAYOUT
    features = frozenset({"backlog", "keys", "priorities", "scheduled"})

    def __init__(self, name: str, content_type: str, *, minimal: bool = False) -> None:
        self.name = name
        self._content_type = content_type
        self._minimal = minimal
        self.kinds: tuple[str, ...] = (
            (ENQUEUE, WORKERS, DRAIN, LATENCY, IDLE, START, WRITTEN) if content_type == JSON else (ENQUEUE,)
        )

    def absent(self) -> str:
        return ""

    def fill(self, directory: Path, workload: Workload) -> None:
        embedded.fill(directory, workload)

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        command = [
            sys.executable,
            "-m",
            "lmdbq.cli",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            str(directory / embedded.DATA),
        ]
        begun = time.monotonic()
        with serving(command, directory) as (pid, port):
            _wait_until_ready(port)
            ready_seconds = time.monotonic() - begun
            yield HttpSession(
                directory, pid, port, self._content_type, minimal=self._minimal, ready_seconds=ready_seconds
            )


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return
        except urllib.error.HTTPError as answer:
            if answer.code != 503:
                raise
            time.sleep(0.002)
    raise Failed(f"not ready after {START_SECONDS:.0f} s")


TARGETS: Final = (
    HttpTarget("HTTP JSON", JSON),
    HttpTarget("HTTP JSON, ids only", JSON, minimal=True),
    HttpTarget("HTTP MessagePack", MSGPACK),
    HttpTarget("HTTP NDJSON", NDJSON),
)
