"""``python -m bench profile workers``: what a task's whole life over HTTP costs, with two processes that enqueue and
work, and the same of Redis and its clients.

For each row that is asked of such workers, both sides have turns: who is its server, what that spends per task in its
own code and in the kernel, what the drivers spend to enqueue and to work, how many commits it took, and which rate all
that allows. The daemon has turns also with its threads on any core, which tells what it is worth to keep them on one.
``bench/results/workers.md`` is written from ``workers.jsonl``; a test compares them.

The trap is to read the allowed rate as one that can be had: who waits for a disk between two requests has idle cores.
How far the rate that was seen lies below it is what waiting costs.
"""

from __future__ import annotations

import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.profiles import RESULTS, Opened, daemon, medians, most, spending
from bench.rows import ROWS
from lmdbq.bench import inputs, procfs
from lmdbq.bench.processes import drivers
from lmdbq.bench.tables import Row
from lmdbq.bench.targets.redis import absent_server, redis_server
from lmdbq.bench.workloads import WORKLOADS

FACTS: Final = RESULTS / "workers.jsonl"
PAGE: Final = RESULTS / "workers.md"
ASKED: Final = tuple(row for row in ROWS if row.group == "workers")
_COMMITS: Final = "lmdbq_commits_total "
_OURS: Final = "lmdbq.bench.http_load"
_FREE: Final = "HTTP JSON, any core"
_REDIS_MODES: Final = {"Redis always, BLMOVE": "life one by one", "Redis always, LMOVE pipelined": "life"}


class Side(NamedTuple):
    """Who is measured. module, mode: of its drivers."""

    name: str
    open: Opened
    module: str
    mode: str

    @property
    def is_lmdbq(self) -> bool:
        """Whether it is the daemon."""
        return self.module == _OURS


class Cost(msgspec.Struct, frozen=True):
    """What a task costs, in us of processor time: the server's own code, the kernel for it, those who enqueue, those
    who work. commits: per 1,000 tasks, 0 = nobody tells. rate: tasks per second in this round."""

    server: float
    system: float
    producer: float
    workers: float
    commits: float
    rate: float

    def most(self, cores: int, processes: int) -> float:
        """Return the highest rate that processor time allows."""
        return most(self.server + self.system, self.producer + self.workers, cores, processes)


class Server(NamedTuple):
    """A server that runs."""

    directory: Path
    pid: int
    port: int


def sides(row: Row) -> list[Side]:
    """Return who has turns for a row: the daemon, the same on any core, and the peer if it is installed."""
    found = [Side(row.numerator[1], daemon, _OURS, "life"), Side(_FREE, _on_any_core, _OURS, "life")]
    for _, peer in row.denominators if not absent_server() else ():
        found.append(Side(peer, _redis, "lmdbq.bench.redis_load", _REDIS_MODES[peer]))
    return found


def _on_any_core(directory: Path) -> Any:
    return daemon(directory, "--any-core")


def _redis(directory: Path) -> Any:
    return redis_server(directory, "always")


def turns() -> int:
    """Return how many turns a round has."""
    return sum(len(sides(row)) for row in ASKED)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Return the machine's facts and, by row and side, the cost in each round; sides take turns."""
    found: dict[str, dict[str, list[Cost]]] = {}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        servers: dict[str, Server] = {}
        for row in ASKED:
            costs = found[row.title] = {side.name: [] for side in sides(row)}
            for side in sides(row) * rounds:
                if side.name not in servers:
                    place = Path(directory) / str(len(servers))
                    servers[side.name] = Server(place, *stack.enter_context(side.open(place)))
                costs[side.name].append(_one(side, row, servers[side.name], seconds))
        machine = procfs.facts(Path(directory))
    return {"machine": machine, "rows": msgspec.to_builtins(found)}


def _one(side: Side, row: Row, server: Server, seconds: float) -> Cost:
    workload = WORKLOADS[row.numerator[0]]
    spec = {
        "mode": side.mode,
        "workload": msgspec.to_builtins(workload),
        "port": server.port,
        "seconds": seconds,
        "content_type": inputs.JSON,
        "minimal": False,
    }
    specs = [{**spec, "seed": seed + 1} for seed in range(workload.callers)]
    with drivers(side.module, specs, server.directory) as ready:
        before = _commits(side, server)
        begin = time.monotonic()
        with spending(server.pid) as spent:
            for driver in ready:
                driver.go(begin, begin + seconds)
            done = [driver.result() for driver in ready]
        length = time.monotonic() - begin  # a batch that was begun is ended
        commits = _commits(side, server) - before
    tasks = sum(one["total"] for one in done)
    producing, all_of_it = (sum(one[what] for one in done) for what in ("producing_seconds", "cpu_seconds"))
    parts = (spent.own, spent.system, producing, all_of_it - producing)
    return Cost(*(1e6 * part / tasks for part in parts), 1e3 * commits / tasks, tasks / length)


def _commits(side: Side, server: Server) -> float:
    """Return how many transactions a daemon has committed; 0 for a peer, which does not tell."""
    if not side.is_lmdbq:
        return 0.0
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(_COMMITS):
                return float(line.removeprefix(_COMMITS))
    raise LookupError(f"/metrics has no {_COMMITS}")


# --- what it says -----------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """Return the page that says it."""
    cores = facts["machine"]["cores"]
    rounds = len(next(iter(next(iter(facts["rows"].values())).values())))
    lines = [
        "# Whole lives over HTTP with two worker processes: where the time goes",
        "",
        f"Processor time per task in us, medians of {rounds} rounds on {cores} cores. Two processes enqueue and work, "
        "each on a connection",
        "of its own; each report goes with the next dequeue. Written by `python -m bench profile workers --record`.",
        "",
        "| what | server | own code | kernel | enqueuing | working | commits per 1,000 | tasks/s seen | "
        "most that it allows |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    limits = []
    for row in ASKED:
        costs = {name: medians(Cost, rounds) for name, rounds in facts["rows"][row.title].items()}
        lines += [_line(row, name, cost, cores) for name, cost in costs.items()]
        limits += [_limit(row, costs, peer, cores) for _, peer in row.denominators if peer in costs]
        limits.append(_placing(row, costs))
    return "\n".join([*lines, "", *limits]) + "\n"


def _title(row: Row) -> str:
    """Return what a row is about, in few words."""
    return row.title.rpartition("two workers, ")[2].partition(" ÷ ")[0]


def _most(row: Row, cost: Cost, cores: int) -> float:
    return cost.most(cores, WORKLOADS[row.numerator[0]].callers)


def _line(row: Row, name: str, cost: Cost, cores: int) -> str:
    parts = " | ".join(f"{part:.1f}" for part in (cost.server, cost.system, cost.producer, cost.workers))
    commits = f"{cost.commits:,.1f}" if cost.commits else ""
    return f"| {_title(row)} | {name} | {parts} | {commits} | {cost.rate:,.0f} | {_most(row, cost, cores):,.0f} |"


def _limit(row: Row, costs: dict[str, Cost], peer: str, cores: int) -> str:
    ours, theirs = costs[row.numerator[1]], costs[peer]
    allowed = _most(row, ours, cores) / _most(row, theirs, cores)
    server, other = ours.server + ours.system, theirs.server + theirs.system
    return (
        f"- {_title(row)}: asked is {row.asked:g}, seen {ours.rate / theirs.rate:.2f}; processor time allows "
        f"{allowed:.2f}. A task costs the daemon {server:.0f} us, Redis' server {other:.0f}, and its clients "
        f"{theirs.producer + theirs.workers:.0f}; reaching what is asked of Redis' rate leaves "
        f"{1e6 / (row.asked * theirs.rate):.0f} us for all of a task."
    )


def _placing(row: Row, costs: dict[str, Cost]) -> str:
    kept, free = costs[row.numerator[1]], costs[_FREE]
    spent = (kept.server + kept.system) / (free.server + free.system)
    return (
        f"- {_title(row)}: with its threads on one core the daemon spends {spent:.2f} of what it does on any core, "
        f"and its rate is {kept.rate / free.rate:.2f} of that."
    )
