"""The targets: the library, the daemon in its encodings, the limits, and the peers. Each is a few dozen lines."""

from __future__ import annotations

from typing import Final

from lmdbq.bench.targets import (
    beanstalkd,
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

__all__ = ["PEERS", "RATE", "TARGETS", "Sample", "Session", "Target"]

_PEERS: tuple[Target, ...] = (
    *redis.TARGETS,
    *beanstalkd.TARGETS,
    *postgres.TARGETS,
    *sqlite_queues.TARGETS,
    *redis_queues.TARGETS,
    *nats.TARGETS,
)
_ALL: tuple[Target, ...] = (*limits.TARGETS, *embedded.TARGETS, *http.TARGETS, *_PEERS)

TARGETS: Final = {target.name: target for target in _ALL}
PEERS: Final = {target.name: target for target in _PEERS}
