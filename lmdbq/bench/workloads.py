"""Workloads as data: what is done to a target, whoever it is.

A workload says what happens, never how: the adapters in ``targets`` know that. Adding one is a line here; a suite or a
row of a table names it. Times are bounded by the clock, not by a number of tasks, so that slow and fast targets are
looked at for as long.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

ENQUEUE: Final = "enqueue"
LIFE: Final = "life"
DRAIN: Final = "drain"
LATENCY: Final = "latency"
WORKERS: Final = "workers"
IDLE: Final = "idle"
START: Final = "start"
WRITTEN: Final = "written"

# How tasks come to their end in a whole life.
SUCCEEDS: Final = ""
FAILS_ONCE: Final = "fails once"
RANDOM_ORDER: Final = "random order"
EXPIRES: Final = "expires"

SMALL: Final = 500  # what a backlog is divided by where a run must take seconds: --scale small
SMALL_BACKLOG_MIN: Final = 2_000


class Workload(Struct, frozen=True):
    """One thing to do to a target.

    batch: tasks per call; for latency, what a worker asks for at a time (its producer sends one by one). callers: how
    many call at a time. payload_bytes: about how long a payload is. keys: dedupe keys: "" (none), "sequential" or
    "random". priorities: how many, each task's at random. scheduled: tasks are due at random in the next day. share:
    how many of the tasks have a key, or are scheduled, 0..1. backlog: tasks waiting before the clock starts, with keys
    and priorities alike. rate: tasks per second offered, 0 = as fast as it goes; for latency, half of that. take: for
    workers, tasks per dequeue. ending: "", or that half of the tasks fail once, that they are reported in random order,
    that half of them expire before anybody takes them.
    """

    name: str
    kind: str
    batch: int = 1_000
    callers: int = 1
    payload_bytes: int = 60
    keys: str = ""
    priorities: int = 1
    scheduled: bool = False
    share: float = 1.0
    backlog: int = 0
    rate: int = 0
    take: int = 1
    ending: str = SUCCEEDS

    def small(self) -> Workload:
        """Return the same with a backlog that is there in a moment, for tests and first looks."""
        backlog = max(self.backlog // SMALL, SMALL_BACKLOG_MIN) if self.backlog else 0
        return structs.replace(self, backlog=min(backlog, self.backlog))


def _in(number: int) -> str:
    """Return a number of tasks as names have it.

    >>> _in(50_000), _in(1_000_000), _in(1_000)
    ('50 k', '1 M', '1,000')
    """
    if number >= 1_000_000:
        return f"{number // 1_000_000} M"
    return f"{number // 1_000} k" if number >= 10_000 else f"{number:,}"


def enqueue_name(batch: int, callers: int) -> str:
    """Return the name of the workload that enqueues ``batch`` tasks per call."""
    words = {1: ", one caller", 2: "", 4: ", four callers"}
    return f"enqueue {batch:,}{words.get(callers, f', {callers} callers')}"


def growth_name(backlog: int, keys: str) -> str:
    """Return the name of the whole life beside a backlog."""
    return f"whole life, {_in(backlog)} waiting" + (f", {keys} keys" if keys else "")


BATCHES: Final = (1, 10, 100, 1_000, 10_000)
BACKLOGS: Final = (10_000, 1_000_000, 10_000_000)
KEYS: Final = ("", "sequential", "random")

_ALL: Final = (
    Workload("enqueue 1,000", ENQUEUE, callers=2),
    Workload("enqueue 1,000, four callers", ENQUEUE, callers=4),
    Workload("enqueue 100", ENQUEUE, batch=100, callers=2),
    *(
        Workload(enqueue_name(batch, callers), ENQUEUE, batch=batch, callers=callers)
        for batch in BATCHES
        for callers in (1, 64)
    ),
    Workload("enqueue 1,000 of 1 kB", ENQUEUE, callers=2, payload_bytes=1_000),
    Workload("enqueue 1,000 of 16 kB", ENQUEUE, callers=2, payload_bytes=16_000),
    Workload("enqueue 1,000, random keys, 50 k waiting", ENQUEUE, callers=2, keys="random", backlog=50_000),
    Workload("enqueue 1,000, random keys, 1 M waiting", ENQUEUE, callers=2, keys="random", backlog=1_000_000),
    Workload("enqueue 1,000, sequential keys", ENQUEUE, callers=2, keys="sequential"),
    Workload("enqueue 1,000, scheduled", ENQUEUE, callers=2, scheduled=True),
    Workload(
        "enqueue 1,000, mixed",
        ENQUEUE,
        callers=2,
        payload_bytes=250,
        keys="random",
        priorities=8,
        scheduled=True,
        share=0.3,
    ),
    Workload("whole life 1,000", LIFE, backlog=10_000),
    Workload("whole life 1,000, eight priorities", LIFE, backlog=10_000, priorities=8),
    Workload("whole life 1,000, half fail once", LIFE, backlog=10_000, ending=FAILS_ONCE),
    Workload("whole life 1,000, random completion order", LIFE, backlog=10_000, ending=RANDOM_ORDER),
    Workload("whole life 1,000, half expire", LIFE, ending=EXPIRES),
    *(Workload(growth_name(backlog, keys), LIFE, keys=keys, backlog=backlog) for keys in KEYS for backlog in BACKLOGS),
    Workload("drain 1,000", DRAIN, callers=2, take=1_000, backlog=1_000_000),
    Workload("workers, 1 in, 1 out", WORKERS, batch=1, callers=2),
    Workload("workers, 100 in, 10 out", WORKERS, batch=100, callers=2, take=10),
    Workload("workers, 100 in, 100 out", WORKERS, batch=100, callers=2, take=100),
    Workload("workers, 1,000 in, 1,000 out", WORKERS, callers=2, take=1_000),
    Workload("enqueue to start", LATENCY, batch=10, callers=16, rate=1_000),
    Workload("enqueue to start, half load", LATENCY, batch=10, callers=16),
    Workload("idle, 10 parked", IDLE, callers=10),
    Workload("start, none waiting", START),
    Workload("start, 10 M waiting", START, backlog=10_000_000),
    Workload("written, 1 by 1", WRITTEN, batch=1),
    Workload("written, 1,000 per call", WRITTEN),
)

WORKLOADS: Final = {workload.name: workload for workload in _ALL}
assert len(WORKLOADS) == len(_ALL), "two workloads have one name"
