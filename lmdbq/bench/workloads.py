"""Workloads as data: what is done to a target, whoever it is.

A workload says what happens, never how: the adapters in ``targets`` know that. Adding one is a line here; a row of the
table names it in ``rows``. Times are bounded by the clock, not by a number of tasks, so that slow and fast targets are
looked at for as long.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

ENQUEUE: Final = "enqueue"
LIFE: Final = "life"
LATENCY: Final = "latency"
WORKERS: Final = "workers"
IDLE: Final = "idle"


class Workload(Struct, frozen=True):
    """One thing to do to a target.

    batch: tasks per call; for latency, what a worker asks for at a time (its producer sends one by one). callers: how
    many call at a time. payload_bytes: about how long a payload is. keys: dedupe keys: "" (none), "sequential" or
    "random". priorities: how many, each task's at random. backlog: tasks waiting before the clock starts, with keys and
    priorities alike. rate: tasks per second offered, 0 = as fast as it goes. take: for workers, tasks per dequeue.
    """

    name: str
    kind: str
    batch: int = 1_000
    callers: int = 1
    payload_bytes: int = 60
    keys: str = ""
    priorities: int = 1
    backlog: int = 0
    rate: int = 0
    take: int = 1


WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("enqueue 1,000", ENQUEUE, callers=2),
        Workload("enqueue 1,000, one caller", ENQUEUE),
        Workload("enqueue 1,000, four callers", ENQUEUE, callers=4),
        Workload("enqueue 100", ENQUEUE, batch=100, callers=2),
        Workload("enqueue 1,000 of 1 kB", ENQUEUE, callers=2, payload_bytes=1_000),
        Workload("enqueue 1, 64 callers", ENQUEUE, batch=1, callers=64),
        Workload("enqueue 1,000, random keys, 50 k waiting", ENQUEUE, callers=2, keys="random", backlog=50_000),
        Workload("enqueue 1,000, sequential keys", ENQUEUE, callers=2, keys="sequential"),
        Workload("whole life 1,000", LIFE, backlog=10_000),
        Workload("whole life 1,000, eight priorities", LIFE, backlog=10_000, priorities=8),
        Workload("workers, 1 in, 1 out", WORKERS, batch=1, callers=2),
        Workload("workers, 100 in, 10 out", WORKERS, batch=100, callers=2, take=10),
        Workload("workers, 100 in, 100 out", WORKERS, batch=100, callers=2, take=100),
        Workload("workers, 1,000 in, 1,000 out", WORKERS, callers=2, take=1_000),
        Workload("enqueue to start", LATENCY, batch=10, callers=16, rate=1_000),
        Workload("idle, 10 parked", IDLE, callers=10),
    )
}
