"""What is measured of the peers: who does what, as (workload, target), and what lmdbq does beside it.

Each gets the tasks one per call, from one caller and from 64; in batches where it has a call for them; and the whole
life with two workers where several processes may take tasks. Nothing is required of these figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

ONE: Final = "enqueue 1, one caller"
MANY: Final = "enqueue 1, 64 callers"
BATCH: Final = "enqueue 1,000"
WORK: Final = "workers, 100 in, 10 out"

_LMDBQ: Final = ("HTTP JSON", (ONE, MANY, BATCH, WORK)), ("embedded", (ONE, BATCH))
_REDIS: Final = tuple(
    (f"Redis {fsync}, {how}", what)
    for fsync in ("always", "everysec", "in memory")
    for how, what in (
        ("threads", (ONE, MANY)),
        ("asyncio", (MANY,)),
        ("pipelined", (BATCH,)),
        ("bulk", (BATCH,)),
        ("BLMOVE", (WORK,)),
    )
)
_PEERS: Final = (
    ("beanstalkd", (ONE, MANY, BATCH, WORK)),
    ("beanstalkd, as it comes", (ONE, MANY, BATCH, WORK)),
    ("procrastinate", (ONE, MANY, BATCH, WORK)),
    ("procrastinate, unsynced", (ONE, MANY, BATCH, WORK)),
    ("huey", (ONE, MANY, WORK)),
    ("litequeue", (ONE, MANY, BATCH, WORK)),
    ("litequeue, synced", (ONE, MANY, BATCH, WORK)),
    ("persist-queue", (ONE, MANY)),
    ("persist-queue, files", (ONE, MANY)),
    *((f"RQ, Redis {fsync}", (ONE, MANY, BATCH, WORK)) for fsync in ("always", "everysec")),
    *((f"Celery, Redis {fsync}", (ONE, MANY, WORK)) for fsync in ("always", "everysec")),
    ("NATS JetStream", (ONE, MANY, BATCH, WORK)),
    ("NATS JetStream, as it comes", (ONE, MANY, BATCH, WORK)),
)


def _cells() -> Iterator[tuple[str, str]]:
    """Yield them workload by workload, so that those which will be compared have their turns one after the other."""
    for workload in (ONE, MANY, BATCH, WORK):
        for target, workloads in (*_LMDBQ, *_REDIS, *_PEERS):
            if workload in workloads:
                yield workload, target


PEER_CELLS: Final = tuple(_cells())
