"""What must be reached, as data: the rows of the table, the cells that take turns for them, and those beside them."""

from __future__ import annotations

from typing import Final

from lmdbq.bench.runner import Pair
from lmdbq.bench.tables import Row

_RAW: Final = "raw py-lmdb"
_BATCH: Final = "enqueue 1,000"
_ONE: Final = "enqueue 1, 64 callers"
_LIFE: Final = "whole life 1,000"
_LIFE_8: Final = "whole life 1,000, eight priorities"
_REDIS: Final = "Redis always, LMOVE pipelined"
_BLMOVE: Final = "Redis always, BLMOVE"
_IDLE: Final = ("idle, 10 parked", "HTTP JSON")

ROWS: Final = (
    Row("batches", "embedded, 1,000 per transaction ÷ raw", 0.7, (_BATCH, "embedded"), ((_BATCH, _RAW),)),
    Row("batches", "HTTP JSON, 1,000 per POST, full answer ÷ raw", 0.4, (_BATCH, "HTTP JSON"), ((_BATCH, _RAW),)),
    Row("batches", "the same, `return_tasks: false` ÷ raw", 0.5, (_BATCH, "HTTP JSON, ids only"), ((_BATCH, _RAW),)),
    Row(
        "batches",
        "HTTP JSON, 1,000 per POST ÷ redis-py pipelined, appendfsync always",
        8,
        (_BATCH, "HTTP JSON"),
        ((_BATCH, "Redis always, pipelined"),),
    ),
    Row(
        "batches",
        "the same, appendfsync no",
        6,
        (_BATCH, "HTTP JSON"),
        ((_BATCH, "Redis no, pipelined"),),
    ),
    Row("life", "whole life in-process ÷ raw, one priority", 0.8, (_LIFE, "embedded"), ((_LIFE, _RAW),)),
    Row("life", "the same, eight random priorities", 0.5, (_LIFE_8, "embedded"), ((_LIFE_8, _RAW),)),
    Row(
        "singles",
        "HTTP, one task per POST, 64 connections ÷ no-op aiohttp",
        0.65,
        (_ONE, "HTTP JSON"),
        ((_ONE, "no-op aiohttp"),),
    ),
    Row(
        "singles",
        "the same ÷ redis-py, one per round trip, appendfsync always",
        1.8,
        (_ONE, "HTTP JSON"),
        ((_ONE, "Redis always, threads"), (_ONE, "Redis always, asyncio")),
    ),
    *(
        Row("workers", f"whole life over HTTP, two workers, {name}", asked, (cell, "HTTP JSON"), ((cell, peer),))
        for name, asked, cell, peer in (
            ("dequeue 10 ÷ Redis BLMOVE one by one", 3, "workers, 100 in, 10 out", _BLMOVE),
            ("100 ÷ Redis pipelined alike", 1.3, "workers, 100 in, 100 out", _REDIS),
            ("1,000 ÷ Redis pipelined alike", 2.5, "workers, 1,000 in, 1,000 out", _REDIS),
            ("one by one, report and dequeue in one ÷ Redis one by one", 0.8, "workers, 1 in, 1 out", _BLMOVE),
        )
    ),
    Row("idle", "idle daemon: anonymous memory", 40, _IDLE, metric="anonymous_mb", at_most=True, unit=" MB"),
    Row("idle", "CPU with 10 parked waiters", 0.2, _IDLE, metric="cpu_percent", at_most=True, unit=" %"),
    Row("idle", "bytes written when idle", 0, _IDLE, metric="written_bytes", at_most=True, unit=" B"),
    Row(
        "latency",
        "enqueue to start in a waiting worker, 1,000/s: p99",
        10,
        ("enqueue to start", "HTTP JSON"),
        metric="p99_ms",
        at_most=True,
        unit=" ms",
    ),
)

# Groups of which nothing is required, but which a reader will ask for.
BESIDE: Final = {
    "more batches": (
        (_BATCH, _RAW),
        (_BATCH, "HTTP JSON"),
        ("enqueue 1,000, four callers", "HTTP JSON"),
        (_BATCH, "HTTP MessagePack"),
        (_BATCH, "HTTP NDJSON"),
        (_BATCH, "Redis always, pipelined, two clients"),
        (_BATCH, "Redis no, pipelined, two clients"),
        ("enqueue 100", "Redis no, pipelined"),
        (_BATCH, "raw py-lmdb, unsynced"),
    ),
    "keys": (
        ("enqueue 1,000, random keys, 50 k waiting", "HTTP JSON"),
        ("enqueue 1,000, random keys, 50 k waiting", _RAW),
        ("enqueue 1,000, sequential keys", "HTTP JSON"),
        (_BATCH, "HTTP JSON"),
    ),
}


def groups() -> list[str]:
    """Return the names of the groups."""
    return list(dict.fromkeys([*(row.group for row in ROWS), *BESIDE]))


def cells_of(group: str) -> list[Pair]:
    """Return the (workload, target) pairs that take turns in a group."""
    wanted: dict[Pair, None] = {}
    for row in ROWS:
        if row.group == group:
            wanted |= dict.fromkeys((*row.denominators, row.numerator))
    return list(wanted | dict.fromkeys(BESIDE.get(group, ())))
