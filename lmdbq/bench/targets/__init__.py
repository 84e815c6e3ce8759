"""The targets: the library, the daemon in its encodings, the limits, and the peers. Each is a few dozen lines."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

from lmdbq.bench.targets import (
    beanstalkd,
    client,
    embedded,
    http,
    limits,
    nats,
    postgres,
    redis,
    redis_queues,
    sqlite_queues,
)
from lmdbq.bench.targets.base import RATE, Sample, Session, Target

__all__ = ["PEERS", "RATE", "TARGETS", "Sample", "Session", "Target", "servers"]

_PEERS: tuple[Target, ...] = (
    *redis.TARGETS,
    *beanstalkd.TARGETS,
    *postgres.TARGETS,
    *sqlite_queues.TARGETS,
    *redis_queues.TARGETS,
    *nats.TARGETS,
)
_ALL: tuple[Target, ...] = (*limits.TARGETS, *embedded.TARGETS, *http.TARGETS, *client.TARGETS, *_PEERS)

TARGETS: Final = {target.name: target for target in _ALL}
PEERS: Final = {target.name: target for target in _PEERS}


def servers() -> dict[str, str]:
    """Return the versions of the servers that are here, by their programs' names."""
    asked = {
        "redis-server": (shutil.which("redis-server") or "", "--version"),
        "beanstalkd": (shutil.which("beanstalkd") or "", "-v"),
        "postgres": (postgres.program("postgres"), "--version"),
        "nats-server": (nats.nats_server()[0], "--version"),
    }
    return {name: _version(*command) for name, command in asked.items() if command[0]}


def _version(program: str, word: str) -> str:
    said = subprocess.run([program, word], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(?:\.\d+)+", said)
    return found[0] if found else said.strip()
