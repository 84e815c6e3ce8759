"""The peer Redis, through redis-py: started on a free port in a directory of its own, and stopped by its pid."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from lmdbq.bench.processes import drive, free_port, running, wait_for_port
from lmdbq.bench.redis_load import PENDING
from lmdbq.bench.targets.base import RATE, Sample, Session
from lmdbq.bench.workloads import ENQUEUE, WORKERS, Workload


class RedisSession:
    """A redis-server that runs."""

    def __init__(self, directory: Path, pid: int, port: int, mode: str, clients: int) -> None:
        self.pids: tuple[int, ...] = (pid,)
        self._directory = directory
        self._port = port
        self._mode = mode
        self._clients = clients

    def stored(self) -> int:
        import redis

        with redis.Redis(port=self._port) as client:
            length: Any = client.llen(PENDING)
            return int(length)

    def fill(self, workload: Workload) -> None:
        if workload.backlog:
            raise ValueError("no workload with a backlog is meant for this target")

    def measure(self, workload: Workload, warm_seconds: float, seconds: float) -> Sample:
        spec = {
            "mode": self._mode,
            "port": self._port,
            "workload": msgspec.to_builtins(workload),
            "connections": workload.callers,
        }
        specs = [{**spec, "seed": seed} for seed in range(self._clients)]
        done = drive("lmdbq.bench.redis_load", specs, self._directory, warm_seconds, seconds)
        rate = sum(one["counted"] for one in done) / seconds
        return Sample({RATE: rate}, left=sum(one["sent"] for one in done))


class RedisTarget:
    """redis-server with its append-only file, synced as ``fsync`` says."""

    def __init__(self, name: str, fsync: str, mode: str, clients: int = 1) -> None:
        self.name = name
        self.durability = f"appendfsync {fsync}"
        self._fsync = fsync
        self._mode = mode
        self._clients = clients
        self.kinds: tuple[str, ...] = (WORKERS,) if mode.startswith("life") else (ENQUEUE,)

    def absent(self) -> str:
        if shutil.which("redis-server") is None:
            return "redis-server is not installed"
        return "" if importlib.util.find_spec("redis") else "redis-py is not installed"

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        words = {"port": str(port), "bind": "127.0.0.1", "dir": str(directory), "save": "", "appendonly": "yes"}
        words |= {"appendfsync": self._fsync}
        command = ["redis-server", *(word for name, value in words.items() for word in (f"--{name}", value))]
        log = directory / "server.log"
        with log.open("ab") as said, running(command, log, stdin=subprocess.DEVNULL, stdout=said) as server:
            wait_for_port(port, server)
            yield RedisSession(directory, server.pid, port, self._mode, self._clients)


def _targets() -> Iterator[RedisTarget]:
    for fsync in ("always", "everysec", "no"):
        yield RedisTarget(f"Redis {fsync}, pipelined", fsync, "pipeline")
        yield RedisTarget(f"Redis {fsync}, pipelined, two clients", fsync, "pipeline", clients=2)
        yield RedisTarget(f"Redis {fsync}, threads", fsync, "threads")
        yield RedisTarget(f"Redis {fsync}, asyncio", fsync, "asyncio")
        yield RedisTarget(f"Redis {fsync}, LMOVE pipelined", fsync, "life", clients=2)
        yield RedisTarget(f"Redis {fsync}, BLMOVE", fsync, "life one by one", clients=2)


TARGETS: Final = tuple(_targets())
