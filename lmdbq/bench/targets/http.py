"""The daemon over HTTP: JSON, MessagePack and NDJSON, loaded by drivers of ``lmdbq.bench.http_load``."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from lmdbq.bench import inputs, procfs
from lmdbq.bench.http_load import Connection
from lmdbq.bench.inputs import JSON, MSGPACK, NDJSON
from lmdbq.bench.processes import drive, serving
from lmdbq.bench.stats import percentile
from lmdbq.bench.targets.base import RATE, Sample, Session
from lmdbq.bench.workloads import ENQUEUE, IDLE, LATENCY, WORKERS, Workload

_FILL: Final = 10_000
_WORKERS: Final = 4


class HttpSession:
    """A daemon that runs. keeps: whether what it acknowledges can be counted afterwards."""

    def __init__(
        self, directory: Path, pid: int, port: int, content_type: str, *, minimal: bool = False, keeps: bool = True
    ) -> None:
        self.pids: tuple[int, ...] = (pid,)
        self._directory = directory
        self._port = port
        self._load = {"port": port, "content_type": content_type, "minimal": minimal}
        self._keeps = keeps

    def stored(self) -> int | None:
        if not self._keeps:
            return None
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v1/tasks/count") as answer:
            return int(json.load(answer)["count"])

    def fill(self, workload: Workload) -> None:
        source = inputs.batches(structs.replace(workload, batch=_FILL), seed=99)
        connection = Connection(self._port)
        with closing(connection.sock):
            for batch in islice(source, workload.backlog // _FILL):
                connection.call(inputs.request("/v1/enqueue", inputs.body(batch, JSON, minimal=True)))

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        if workload.kind == IDLE:
            return self._idle(workload, warm_seconds, seconds)
        if workload.kind == LATENCY:
            return self._latency(workload, warm_seconds, seconds)
        return self._enqueue(workload, warm_seconds, seconds)

    def _spec(self, mode: str, workload: Workload, **said: Any) -> dict[str, Any]:
        return {"mode": mode, "workload": msgspec.to_builtins(workload), **self._load, **said}

    def _enqueue(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        """Batches: a process for each caller. Tasks one by one: all callers in one process, which is faster then."""
        length = warm_seconds + seconds
        if workload.batch >= 100 or workload.kind == WORKERS:
            mode = "life" if workload.kind == WORKERS else "batch"
            specs = [self._spec(mode, workload, seed=seed, seconds=length) for seed in range(workload.callers)]
        else:
            specs = [self._spec("single", workload, seed=0, seconds=length, connections=workload.callers)]
        done = drive("lmdbq.bench.http_load", specs, self._directory, warm_seconds, seconds)
        rate = sum(one["counted"] for one in done) / seconds
        return Sample({RATE: rate}, left=sum(one["sent"] for one in done))

    def _latency(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        """Workers that wait, a producer at its rate: from when a task was due to be sent to when its worker has it."""
        specs = [self._spec("worker", workload) for _ in range(_WORKERS)]
        specs.append(self._spec("paced", workload, connections=workload.callers))
        *workers, producer = drive("lmdbq.bench.http_load", specs, self._directory, warm_seconds, seconds)
        assert sum(worker["total"] for worker in workers) == producer["sent"], "tasks were lost, or started twice"
        late = sorted(one for worker in workers for one in worker["late_ms"])
        return Sample({f"p{share}_ms": percentile(late, share) for share in (50, 90, 99)}, left=0)

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


class HttpTarget:
    """``lmdbq serve`` with its defaults."""

    durability = "full"

    def __init__(self, name: str, content_type: str, *, minimal: bool = False) -> None:
        self.name = name
        self._content_type = content_type
        self._minimal = minimal
        self.kinds: tuple[str, ...] = (ENQUEUE, WORKERS, LATENCY, IDLE) if content_type == JSON else (ENQUEUE,)

    def absent(self) -> str:
        return ""

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        data = str(directory / "data")
        command = [sys.executable, "-m", "lmdbq.cli", "serve", "--listen", "127.0.0.1:0", "--data", data]
        with serving(command, directory) as (pid, port):
            yield HttpSession(directory, pid, port, self._content_type, minimal=self._minimal)


TARGETS: Final = (
    HttpTarget("HTTP JSON", JSON),
    HttpTarget("HTTP JSON, ids only", JSON, minimal=True),
    HttpTarget("HTTP MessagePack", MSGPACK),
    HttpTarget("HTTP NDJSON", NDJSON),
)
