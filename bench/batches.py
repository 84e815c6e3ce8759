"""``python -m bench profile batches``: where the time of 1,000 tasks per request goes, beside the script that writes
straight to LMDB.

What a request goes through in the daemon is done here in one thread, a stage after the other: the body is decoded, room
is made and the write lock taken, records and index entries are made and put, the transaction is committed, the answer
is written. Beside it the daemon itself has its turn, with the sockets, aiohttp and the hand-over between its threads;
and the script, with the same tasks. What is measured is processor time, so that a busy machine shows less than in
rates. ``bench/results/batches.md`` is written from ``batches.jsonl``; a test compares them.

The trap: commits wait for the disk, and waiting costs no processor time. Pages that are written cost both, so the
kernel's part of a commit is told apart.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import msgspec

from bench.profiles import RESULTS, daemon, medians, spending
from lmdbq.bench import inputs, procfs
from lmdbq.bench.inputs import Batch
from lmdbq.bench.processes import drivers
from lmdbq.bench.raw import RawQueue
from lmdbq.bench.targets import TARGETS, embedded
from lmdbq.bench.targets.base import Versatile
from lmdbq.bench.workloads import WORKLOADS, Workload
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Done, Enqueue, Enqueued
from lmdbq.store.lmdb import LmdbStore, open_store
from lmdbq.wire import render, requests
from lmdbq.wire.problems import JSON_CODEC

FACTS: Final = RESULTS / "batches.jsonl"
PAGE: Final = RESULTS / "batches.md"


class Kind(NamedTuple):
    """What is enqueued. ids_only: the answers leave the tasks out."""

    name: str
    workload: Workload
    ids_only: bool = False


PLAIN: Final = Kind("no keys", WORKLOADS["enqueue 1,000"])
IN_ORDER: Final = Kind("sequential keys", WORKLOADS["enqueue 1,000, sequential keys"])
KINDS: Final = (
    PLAIN,
    Kind("no keys, `return_tasks: false`", PLAIN.workload, ids_only=True),
    IN_ORDER,
    Kind("random keys, 50 k waiting", WORKLOADS["enqueue 1,000, random keys, 50 k waiting"]),
    Kind("random keys, 1 M waiting", WORKLOADS["enqueue 1,000, random keys, 1 M waiting"]),
)


class Cost(msgspec.Struct, frozen=True):
    """What a task costs, in us of processor time.

    The stages: decoding the body, making room and taking the lock (begin), records and index (put), the commit in LMDB
    and in the kernel, the answer. server, system: the daemon, its own code and the kernel's. raw, raw_system: the
    script.
    """

    decode: float
    begin: float
    put: float
    commit: float
    commit_system: float
    answer: float
    server: float
    system: float
    raw: float
    raw_system: float

    @property
    def stages(self) -> float:
        """Return what all stages take."""
        return self.decode + self.begin + self.put + self.commit + self.commit_system + self.answer

    @property
    def share(self) -> float:
        """Return what the script takes, as a share of what the daemon takes."""
        return (self.raw + self.raw_system) / (self.server + self.system)


class _Gate:
    """Tells when a store begins to put, and when it is through with it: it enters and leaves this there."""

    entered = left = left_system = 0.0

    def __enter__(self) -> None:
        self.entered, _ = _spent()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left, self.left_system = _spent()


def _spent() -> tuple[float, float]:
    """Return what this thread has spent, in seconds: all of it, and the kernel's part, which is told in ticks."""
    return time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_stime


def turns() -> int:
    """Return how many turns a round has."""
    return 3 * len(KINDS)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Return the machine's facts and, by kind, the cost in each round; stages, script and daemon take turns."""
    with tempfile.TemporaryDirectory() as directory:
        found = {kind.name: _of_kind(kind, Path(directory) / str(at), rounds, seconds) for at, kind in enumerate(KINDS)}
        machine = procfs.facts(Path(directory))
    return {"machine": machine, "kinds": msgspec.to_builtins(found)}


def _of_kind(kind: Kind, directory: Path, rounds: int, seconds: float) -> list[Cost]:
    ours, theirs = directory / "ours", directory / "raw"
    ours.mkdir(parents=True)
    embedded.fill(ours, kind.workload)
    by_hand = TARGETS["raw py-lmdb"]
    assert isinstance(by_hand, Versatile)
    by_hand.fill(theirs, kind.workload)
    found = []
    with (
        closing(open_store(ours / embedded.DATA)) as store,
        closing(RawQueue(theirs)) as script,
        daemon(ours) as server,
    ):
        source = inputs.batches(kind.workload, seed=time.time_ns() // 1_000_000)
        _stages(kind, store, source, 0.0)  # not counted: a queue is made by its first batch, which is planned
        for _ in range(rounds):
            stages = _stages(kind, store, source, seconds)
            found.append(
                Cost(**stages, **_daemon(kind, directory, server, seconds), **_script(script, source, seconds))
            )
    return found


def _stages(kind: Kind, store: LmdbStore, source: Iterator[Batch], seconds: float) -> dict[str, float]:
    decode = begin = put = commit = system = answer = 0.0
    clock, gate, tasks = SystemClock(), _Gate(), 0
    end = time.monotonic() + seconds
    while not tasks or time.monotonic() < end:
        body = inputs.body(next(source), inputs.JSON, minimal=kind.ids_only)
        begun, _ = _spent()
        batch = requests.read_enqueue(body, JSON_CODEC)
        decoded, _ = _spent()
        outcome = store.apply([Call((Enqueue(batch.entries),))], clock, gate).outcomes[0]
        committed, committed_system = _spent()
        assert isinstance(outcome, Done), outcome
        done = outcome.outcomes[0]
        assert isinstance(done, Enqueued)
        render.enqueue_answer(batch, done, {}, JSON_CODEC)
        answered, _ = _spent()
        decode += decoded - begun
        begin += gate.entered - decoded
        put += gate.left - gate.entered
        commit += committed - gate.left
        system += committed_system - gate.left_system
        answer += answered - committed
        tasks += len(batch.entries)
    system = min(commit, system)
    stages = {"decode": decode, "begin": begin, "put": put, "commit": commit - system, "commit_system": system}
    return {name: 1e6 * length / tasks for name, length in {**stages, "answer": answer}.items()}


def _daemon(kind: Kind, directory: Path, server: tuple[int, int], seconds: float) -> dict[str, float]:
    pid, port = server
    spec = {
        "mode": "batch",
        "workload": msgspec.to_builtins(kind.workload),
        "port": port,
        "seed": time.time_ns() // 1_000_000,
        "seconds": seconds,
        "content_type": inputs.JSON,
        "minimal": kind.ids_only,
    }
    specs = [{**spec, "seed": spec["seed"] + caller} for caller in range(kind.workload.callers)]
    with drivers("lmdbq.bench.http_load", specs, directory) as callers, spending(pid) as spent:
        begin = time.monotonic()
        for caller in callers:
            caller.go(begin, begin + seconds)
        sent = sum(caller.result()["sent"] for caller in callers)
    return {"server": 1e6 * spent.own / sent, "system": 1e6 * spent.system / sent}


def _script(script: RawQueue, source: Iterator[Batch], seconds: float) -> dict[str, float]:
    whole = system = 0.0
    tasks, end = 0, time.monotonic() + seconds
    while not tasks or time.monotonic() < end:
        batch = next(source)
        keys = [key.encode("ascii") for key in batch.keys]
        begun, begun_system = _spent()
        script.enqueue(batch.payloads, (), keys)
        ended, ended_system = _spent()
        whole, system = whole + ended - begun, system + ended_system - begun_system
        tasks += len(batch.payloads)
    system = min(whole, system)
    return {"raw": 1e6 * (whole - system) / tasks, "raw_system": 1e6 * system / tasks}


# --- what it says -----------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """Return the page that says it."""
    costs = {name: medians(Cost, rounds) for name, rounds in facts["kinds"].items()}
    rounds = len(next(iter(facts["kinds"].values())))
    lines = [
        "# 1,000 tasks per request: where the time goes",
        "",
        f"Processor time per task in us, medians of {rounds} rounds. The stages are done one after the other in one",
        "thread; the daemon's figure holds them and the sockets, aiohttp and the hand-over between its threads; the",
        "script writes the same tasks straight to LMDB. Written by `python -m bench profile batches --record`.",
        "",
        "| | decode | begin | records and index | commit: LMDB | commit: kernel | answer | all stages |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        stages = (cost.decode, cost.begin, cost.put, cost.commit, cost.commit_system, cost.answer, cost.stages)
        lines.append(_row(name, stages))
    lines += [
        "",
        "| | daemon: own code | kernel | script: own code | kernel | script ÷ daemon |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        lines.append(_row(name, (cost.server, cost.system, cost.raw, cost.raw_system, cost.share)))
    return "\n".join([*lines, "", *_limits(costs)]) + "\n"


def _row(name: str, figures: Sequence[float]) -> str:
    return f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |"


def _limits(costs: dict[str, Cost]) -> Iterator[str]:
    plain, keyed = costs[PLAIN.name], costs[IN_ORDER.name]
    ours = (plain.server + plain.system) / (keyed.server + keyed.system)
    by_hand = (plain.raw + plain.raw_system) / (keyed.raw + keyed.raw_system)
    yield f"- No keys ÷ sequential keys, by processor time: {ours:.2f} in the daemon, {by_hand:.2f} in the script."
