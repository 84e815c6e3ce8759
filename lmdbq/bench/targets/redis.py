"""The peer Redis, through redis-py: started on a free port in a directory of its own, and stopped by its pid."""

from __future__ import annotations

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
from lmdbq.bench.targets.peers import missing
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


def absent_server() -> str:
    """Return what is to be done to have a Redis and its client; "" if they are there."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed: apt-get install redis-server"
    return missing("redis")


@contextmanager
def redis_server(directory: Path, fsync: str) -> Iterator[tuple[int, int]]:
    """Run a Redis; the value is (pid, port). fsync: as of its append-only file; "" = it has none, all is in memory."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = {"port": str(port), "bind": "127.0.0.1", "dir": str(directory), "save": ""}
    words |= {"appendonly": "yes", "appendfsync": fsync} if fsync else {"appendonly": "no"}
    command = ["redis-server", *(word for name, value in words.items() for word in (f"--{name}", value))]
    log = directory / "server.log"
    with log.open("ab") as said, running(command, log, stdin=subprocess.DEVNULL, stdout=said) as server:
        wait_for_port(port, server)
        yield server.pid, port


class RedisTarget:
    """redis-server with its append-only file, synced as ``fsync`` says; without a file if that is empty."""

    def __init__(self, name: str, fsync: str, mode: str, clients: int = 1) -> None:
        self.name = name
        self.durability = f"appendfsync {fsync}" if fsync else "none: appendonly no"
        self._fsync = fsync
        self._mode = mode
        self._clients = clients
        self.kinds: tuple[str, ...] = (WORKERS,) if mode.startswith("life") else (ENQUEUE,)

    def absent(self) -> str:
        return absent_server()

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        with redis_server(directory, self._fsync) as (pid, port):
            yield RedisSession(directory, pid, port, self._mode, self._clients)


def _targets() -> Iterator[RedisTarget]:
    for fsync, word in (("always", "always"), ("everysec", "everysec"), ("no", "no"), ("", "in memory")):
        yield RedisTarget(f"Redis {word}, pipelined", fsync, "pipeline")
        yield RedisTarget(f"Redis {word}, pipelined, two clients", fsync, "pipeline", clients=2)
        yield RedisTarget(f"Redis {word}, bulk", fsync, "bulk")
        yield RedisTarget(f"Redis {word}, threads", fsync, "threads")
        yield RedisTarget(f"Redis {word}, asyncio", fsync, "asyncio")
        yield RedisTarget(f"Redis {word}, LMOVE pipelined", fsync, "life", clients=2)
        yield RedisTarget(f"Redis {word}, BLMOVE", fsync, "life one by one", clients=2)


TARGETS: Final = tuple(_targets())
