"""What must be reached, as data: the rows of the table, the cells that take turns for them, and those beside them."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from lmdbq.bench.peer_cells import PEER_CELLS
from lmdbq.bench.runner import Pair, Plan
from lmdbq.bench.tables import Row
from lmdbq.bench.targets import TARGETS
from lmdbq.bench.targets.base import can
from lmdbq.bench.workloads import BACKLOGS, BATCHES, KEYS, WORKLOADS, enqueue_name, growth_name

_RAW: Final = "raw py-lmdb"
_HTTP: Final = "HTTP JSON"
_BATCH: Final = "enqueue 1,000"
_ONE: Final = "enqueue 1, 64 callers"
_LIFE: Final = "whole life 1,000"
_LIFE_8: Final = "whole life 1,000, eight priorities"
_REDIS: Final = "Redis always, LMOVE pipelined"
_BLMOVE: Final = "Redis always, BLMOVE"
_IDLE: Final = ("idle, 10 parked", _HTTP)
_KEYS_50_K: Final = "enqueue 1,000, random keys, 50 k waiting"
_KEYS_1_M: Final = "enqueue 1,000, random keys, 1 M waiting"
_KEYS_IN_ORDER: Final = "enqueue 1,000, sequential keys"
_FULL: Final = ("start, 10 M waiting", _HTTP)
_EMPTY: Final = (("start, none waiting", _HTTP),)
_VERBS: Final = {"enqueue": "enqueue", "dequeue": "claim", "report": "report"}


def _growth(keys: str) -> list[Row]:
    """Return the rows of what 10 M waiting tasks add to the cost of one; with random keys beyond what raw loses."""
    few, many = (growth_name(backlog, keys) for backlog in (BACKLOGS[0], BACKLOGS[-1]))
    said = f"{keys} keys" if keys else "no keys"
    beyond = " ÷ what raw loses" if keys == "random" else ""
    return [
        Row(
            "growth",
            f"cost of {verb} at 10 M waiting ÷ at 10 k, {said}{beyond}",
            1.3,
            (few, "embedded"),
            ((many, "embedded"),),
            metric=f"{metric}_per_second",
            at_most=True,
            over=((few, _RAW), (many, _RAW)) if beyond else None,
        )
        for verb, metric in _VERBS.items()
    ]


ROWS: Final = (
    Row("batches", "embedded, 1,000 per transaction ÷ raw", 0.7, (_BATCH, "embedded"), ((_BATCH, _RAW),)),
    Row("batches", "HTTP JSON, 1,000 per POST, full answer ÷ raw", 0.4, (_BATCH, _HTTP), ((_BATCH, _RAW),)),
    Row("batches", "the same, `return_tasks: false` ÷ raw", 0.5, (_BATCH, "HTTP JSON, ids only"), ((_BATCH, _RAW),)),
    Row(
        "batches",
        "HTTP JSON, 1,000 per POST ÷ redis-py pipelined, appendfsync always",
        8,
        (_BATCH, _HTTP),
        ((_BATCH, "Redis always, pipelined"),),
    ),
    Row("batches", "the same, appendfsync no", 6, (_BATCH, _HTTP), ((_BATCH, "Redis no, pipelined"),)),
    Row("life", "whole life in-process ÷ raw, one priority", 0.8, (_LIFE, "embedded"), ((_LIFE, _RAW),)),
    Row("life", "the same, eight random priorities", 0.5, (_LIFE_8, "embedded"), ((_LIFE_8, _RAW),)),
    Row(
        "singles",
        "HTTP, one task per POST, 64 connections ÷ no-op aiohttp",
        0.65,
        (_ONE, _HTTP),
        ((_ONE, "no-op aiohttp"),),
    ),
    Row(
        "singles",
        "the same ÷ redis-py, one per round trip, appendfsync always",
        1.8,
        (_ONE, _HTTP),
        ((_ONE, "Redis always, threads"), (_ONE, "Redis always, asyncio")),
    ),
    *(
        Row("workers", f"whole life over HTTP, two workers, {name}", asked, (cell, _HTTP), ((cell, peer),))
        for name, asked, cell, peer in (
            ("dequeue 10 ÷ Redis BLMOVE one by one", 3, "workers, 100 in, 10 out", _BLMOVE),
            ("100 ÷ Redis pipelined alike", 1.3, "workers, 100 in, 100 out", _REDIS),
            ("1,000 ÷ Redis pipelined alike", 2.5, "workers, 1,000 in, 1,000 out", _REDIS),
            ("one by one, report and dequeue in one ÷ Redis one by one", 0.8, "workers, 1 in, 1 out", _BLMOVE),
        )
    ),
    Row("keys", "random keys, 1,000 per POST ÷ raw, 50 k keys", 0.45, (_KEYS_50_K, _HTTP), ((_KEYS_50_K, _RAW),)),
    Row("keys", "the same, 1 M keys", 0.5, (_KEYS_1_M, _HTTP), ((_KEYS_1_M, _RAW),)),
    Row("keys", "sequential keys ÷ no keys, 1,000 per POST", 0.6, (_KEYS_IN_ORDER, _HTTP), ((_BATCH, _HTTP),)),
    *(
        Row("endings", f"whole life in-process, {name} ÷ plain", 0.5, (cell, "embedded"), ((_LIFE, "embedded"),))
        for name, cell in (
            ("half of the tasks fail once", "whole life 1,000, half fail once"),
            ("random completion order", "whole life 1,000, random completion order"),
            ("half of the tasks expire", "whole life 1,000, half expire"),
        )
    ),
    *(row for keys in KEYS for row in _growth(keys)),
    Row(
        "start",
        "anonymous memory of the daemon, 10 M waiting ÷ none",
        1.2,
        _FULL,
        _EMPTY,
        metric="anonymous_mb",
        at_most=True,
    ),
    Row(
        "start",
        "start to `/readyz`, 10 M waiting less none",
        100,
        _FULL,
        _EMPTY,
        metric="ready_ms",
        at_most=True,
        unit=" ms",
        minus=True,
    ),
    Row("idle", "idle daemon: anonymous memory", 40, _IDLE, metric="anonymous_mb", at_most=True, unit=" MB"),
    Row("idle", "CPU with 10 parked waiters", 0.2, _IDLE, metric="cpu_percent", at_most=True, unit=" %"),
    Row("idle", "bytes written when idle", 0, _IDLE, metric="written_bytes", at_most=True, unit=" B"),
    Row(
        "latency",
        "enqueue to start in a waiting worker, 1,000/s: p99",
        10,
        ("enqueue to start", _HTTP),
        metric="p99_ms",
        at_most=True,
        unit=" ms",
    ),
)

# Groups of which nothing is required, but which a reader will ask for.
_BESIDE: Final[dict[str, tuple[Pair, ...]]] = {
    "endings": ((_LIFE, _RAW), ("whole life 1,000, random completion order", _RAW)),  # what LMDB itself loses by it
    "more batches": (
        (_BATCH, _RAW),
        (_BATCH, _HTTP),
        ("enqueue 1,000, four callers", _HTTP),
        (_BATCH, "HTTP MessagePack"),
        (_BATCH, "HTTP NDJSON"),
        (_BATCH, "embedded, batch"),
        (_BATCH, "Client, in the process"),
        (_BATCH, "Client, over HTTP"),
        (_BATCH, "Redis always, pipelined, two clients"),
        (_BATCH, "Redis no, pipelined, two clients"),
        ("enqueue 100", "Redis no, pipelined"),
        (_BATCH, "raw py-lmdb, unsynced"),
    ),
    "sizes of a batch": (
        *((enqueue_name(batch, callers), _HTTP) for batch in BATCHES for callers in (1, 64)),
        *((enqueue_name(batch, 1), "embedded") for batch in BATCHES),
    ),
    "payloads": tuple(
        (workload, target)
        for workload in (_BATCH, "enqueue 1,000 of 1 kB", "enqueue 1,000 of 16 kB")
        for target in (_RAW, "embedded", _HTTP)
    ),
    "kinds of task": tuple(
        (workload, target)
        for workload in ("enqueue 1,000, scheduled", "enqueue 1,000, mixed")
        for target in ("embedded", _HTTP)
    ),
    "drain": tuple(("drain 1,000", target) for target in (_RAW, "embedded", _HTTP)),
    "half load": (("enqueue to start, half load", _HTTP),),
    "peers": PEER_CELLS,
    "one by one": tuple(
        (enqueue_name(1, 1), target)
        for target in (_RAW, "embedded", _HTTP, "Client, in the process", "Client, over HTTP")
    ),
    "written": (("written, 1 by 1", _HTTP), ("written, 1,000 per call", _HTTP)),
}

_SECONDS: Final = {"sizes of a batch": 2.0}  # 64 calls of 10,000 tasks that are under way take more than one
_SYNCS_SEEN: Final = ("more batches", "sizes of a batch", "peers")  # of those beside; the others sync no otherwise


def groups() -> list[str]:
    """Return the names of the groups."""
    return list(dict.fromkeys([*(row.group for row in ROWS), *_BESIDE]))


def cells_of(group: str) -> list[Pair]:
    """Return the (workload, target) pairs that take turns in a group."""
    wanted: dict[Pair, None] = {}
    for row in ROWS:
        if row.group == group:
            wanted |= dict.fromkeys((*row.denominators, row.numerator, *(row.over or ())))
    wanted |= dict.fromkeys(_BESIDE.get(group, ()))
    if group == "growth":  # between the ends of the rows
        wanted |= dict.fromkeys((growth_name(BACKLOGS[1], keys), "embedded") for keys in KEYS)
    return [pair for pair in wanted if can(TARGETS[pair[1]], WORKLOADS[pair[0]])]


def plan_of(group: str, plan: Plan) -> Plan:
    """Return how a group is measured: those of which nothing is required have fewer and shorter turns."""
    if any(row.group == group for row in ROWS):
        return plan
    return structs.replace(
        plan,
        rounds=min(plan.rounds, 3),
        seconds=min(plan.seconds, _SECONDS.get(group, 1.0)),
        warm_seconds=min(plan.warm_seconds, 0.25),
        count_syncs=plan.count_syncs and group in _SYNCS_SEEN,
    )
