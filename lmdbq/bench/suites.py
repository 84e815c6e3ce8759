"""What ``lmdbq bench`` offers: suites of cells for people who want to know what their own machine does.

What lmdbq itself must reach is not here but beside the clone; these are the same workloads and targets.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from lmdbq.bench.peer_cells import PEER_CELLS
from lmdbq.bench.runner import Pair, Plan
from lmdbq.bench.targets import TARGETS
from lmdbq.bench.targets.base import can
from lmdbq.bench.workloads import BACKLOGS, BATCHES, KEYS, WORKLOADS, enqueue_name, growth_name

_HTTP: Final = "HTTP JSON"
_RAW: Final = "raw py-lmdb"
_CLIENTS: Final = ("Client, in the process", "Client, over HTTP")
_BRIEF: Final = Plan(rounds=3, warm_seconds=0.2, seconds=0.5, count_syncs=False, patience_seconds=0.3)
_LONGER: Final = Plan(rounds=3, warm_seconds=0.3, seconds=1.0, count_syncs=True, patience_seconds=1.0)


class Suite(NamedTuple):
    """A suite: what it answers, in a line; who does what; and how it is measured if nothing else is said."""

    title: str
    pairs: tuple[Pair, ...]
    plan: Plan = _LONGER


def _each(workloads: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Pair, ...]:
    return tuple(
        (workload, target) for workload in workloads for target in targets if can(TARGETS[target], WORKLOADS[workload])
    )


_WORKERS: Final = tuple(name for name in WORKLOADS if name.startswith("workers, "))

SUITES: Final = {
    "quick": Suite(
        "A first look, in under a minute.",
        (
            *_each(("enqueue 1,000",), (_RAW, "embedded", _HTTP, "Redis always, pipelined")),
            *_each(("enqueue 1, 64 callers",), (_HTTP, "Redis always, threads")),
            *_each(("workers, 100 in, 100 out",), (_HTTP, "Redis always, LMOVE pipelined")),
            ("enqueue to start", _HTTP),
        ),
        _BRIEF,
    ),
    "enqueue": Suite(
        "Enqueueing, by size of the batch and of the payload, for later, mixed, and in each encoding.",
        (
            *_each(tuple(enqueue_name(batch, 1) for batch in BATCHES), (_RAW, "embedded", _HTTP)),
            *_each(tuple(enqueue_name(batch, 64) for batch in BATCHES), (_HTTP,)),
            *_each(("enqueue 1,000 of 1 kB", "enqueue 1,000 of 16 kB"), (_RAW, "embedded", _HTTP)),
            *_each(("enqueue 1,000, scheduled", "enqueue 1,000, mixed"), ("embedded", _HTTP)),
            *_each(("enqueue 1,000",), (_HTTP, "HTTP JSON, ids only", "HTTP MessagePack", "HTTP NDJSON", *_CLIENTS)),
        ),
    ),
    "keys": Suite(
        "Enqueueing with dedupe keys, sequential and random.",
        (
            *_each(("enqueue 1,000", "enqueue 1,000, sequential keys"), ("embedded", _HTTP)),
            *_each(("enqueue 1,000, random keys, 50 k waiting",), (_RAW, "embedded", _HTTP)),
            *_each(("enqueue 1,000, random keys, 1 M waiting",), (_RAW, "embedded", _HTTP)),
        ),
    ),
    "life": Suite(
        "Whole lives in one process: plain, by priority, failing, out of order, expiring; and a drain.",
        (
            *_each(tuple(name for name in WORKLOADS if name.startswith("whole life 1,000")), (_RAW, "embedded")),
            *_each(("drain 1,000",), (_RAW, "embedded", _HTTP)),
        ),
    ),
    "workers": Suite(
        "Whole lives over HTTP with two workers, beside Redis.",
        _each(_WORKERS, (_HTTP, "Redis always, BLMOVE", "Redis always, LMOVE pipelined")),
    ),
    "latency": Suite(
        "From enqueue to start in a waiting worker, and one call after the other.",
        (
            *_each(("enqueue to start", "enqueue to start, half load"), (_HTTP,)),
            *_each(("enqueue 1, one caller",), (_RAW, "embedded", _HTTP, *_CLIENTS, "Redis always, threads")),
        ),
    ),
    "growth": Suite(
        "Cost of a task, start and memory with up to 10 M tasks waiting.",
        (
            *_each(tuple(growth_name(backlog, KEYS[0]) for backlog in BACKLOGS), ("embedded",)),
            *_each(("start, none waiting", "start, 10 M waiting"), (_HTTP,)),
        ),
    ),
    "idle": Suite(
        "Memory, CPU and bytes written: idle, and per task and heartbeat.",
        _each(("idle, 10 parked", "written, 1 by 1", "written, 1,000 per call"), (_HTTP,)),
    ),
    "peers": Suite("Every queue that is installed here, on the same workloads; takes some minutes.", PEER_CELLS),
}


def chosen(suite: Suite, words: tuple[str, ...]) -> tuple[Pair, ...]:
    """Return the cells of a suite whose target has one of ``words`` in its name; all, if there are none.

    Raises ValueError, which says what there is, if no target is left.
    """
    wanted = [word.casefold() for word in words]
    found = tuple(pair for pair in suite.pairs if not wanted or any(word in pair[1].casefold() for word in wanted))
    if not found:
        names = "; ".join(dict.fromkeys(target for _, target in suite.pairs))
        raise ValueError(f"no target here is called {' or '.join(words)}; there are: {names}")
    return found
