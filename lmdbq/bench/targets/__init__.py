"""The targets: the library, the daemon in its encodings, the limits, and the peers. Each is a few dozen lines."""

from __future__ import annotations

from typing import Final

from lmdbq.bench.targets import embedded, http, limits, redis
from lmdbq.bench.targets.base import RATE, Sample, Session, Target

__all__ = ["RATE", "TARGETS", "Sample", "Session", "Target"]

_ALL: tuple[Target, ...] = (*limits.TARGETS, *embedded.TARGETS, *http.TARGETS, *redis.TARGETS)

TARGETS: Final = {target.name: target for target in _ALL}
