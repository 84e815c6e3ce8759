"""``python -m bench profile singles``: what one task per request costs, layer by layer, and what that allows.

Every layer is a server of its own under the same 64 callers; the next one adds something to it: an event loop, aiohttp,
its Application with the daemon's middleware and decoding, the queue. What is measured is processor time per request, of
the server (in its own code and in the kernel) and of its callers, so that a busy machine shows less than in rates.
``bench/results/singles.md`` is written from ``singles.jsonl``; a test compares them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.profiles import RESULTS, Opened, daemon, medians, most, python, spending
from lmdbq.bench import inputs, procfs
from lmdbq.bench.processes import drivers
from lmdbq.bench.targets.redis import absent_server, redis_server
from lmdbq.bench.workloads import WORKLOADS, enqueue_name

FACTS: Final = RESULTS / "singles.jsonl"
PAGE: Final = RESULTS / "singles.md"
DAEMON: Final = "the daemon: all of it, synced"
BARE: Final = "aiohttp Server: parsing, request, response"
APPLICATION: Final = "aiohttp Application: routes, the daemon's middleware, decoding"
REDIS: Final = ("Redis, appendfsync always, redis-py threads", "Redis, appendfsync always, redis-py asyncio")
ASKED: Final = 1.8  # of redis-py's rate
_WORKLOAD: Final = WORKLOADS[enqueue_name(1, 64)]


class Layer(NamedTuple):
    """Who answers. open: starts it in a directory; the value is (pid, port). mode: of the driver."""

    name: str
    open: Opened
    module: str
    mode: str


_HTTP: Final = ("lmdbq.bench.http_load", "single")
LAYERS: Final = (
    Layer("kernel and event loop (uvloop): a constant answer", python("lmdbq.bench.bare_servers", "protocol"), *_HTTP),
    Layer(BARE, python("lmdbq.bench.bare_servers", "server"), *_HTTP),
    Layer(APPLICATION, python("lmdbq.bench.noop_server"), *_HTTP),
    Layer(DAEMON, daemon, *_HTTP),
    *(
        Layer(name, lambda directory: redis_server(directory, "always"), "lmdbq.bench.redis_load", mode)
        for name, mode in zip(REDIS, ("threads", "asyncio"), strict=True)
    ),
)


class Cost(msgspec.Struct, frozen=True):
    """What a request costs, in us of processor time: the server's own code, the kernel for it, its callers. rate:
    requests per second in this round."""

    server: float
    system: float
    callers: float
    rate: float

    def most(self, cores: int) -> float:
        """Return the highest rate that processor time allows."""
        return most(self.server + self.system, self.callers, cores)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Return the machine's facts and, by layer, the cost in each round; layers take turns."""
    layers = [layer for layer in LAYERS if layer.name not in REDIS or not absent_server()]
    found: dict[str, list[Cost]] = {layer.name: [] for layer in layers}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        places = [Path(directory) / str(at) for at in range(len(layers))]
        servers = [stack.enter_context(layer.open(place)) for layer, place in zip(layers, places, strict=True)]
        for _ in range(rounds):
            for layer, place, (pid, port) in zip(layers, places, servers, strict=True):
                found[layer.name].append(_one(layer, place, pid, port, seconds))
        machine = procfs.facts(Path(directory))
    return {"machine": machine, "layers": msgspec.to_builtins(found)}


def _one(layer: Layer, directory: Path, pid: int, port: int, seconds: float) -> Cost:
    spec = {
        "mode": layer.mode,
        "workload": msgspec.to_builtins(_WORKLOAD),
        "port": port,
        "connections": _WORKLOAD.callers,
        "seed": os.getpid(),
        "seconds": seconds,
        "content_type": inputs.JSON,
        "minimal": False,
    }
    with drivers(layer.module, [spec], directory) as (driver,), spending(pid) as spent:
        begin = time.monotonic()
        driver.go(begin, begin + seconds)
        done = driver.result()
    sent = done["sent"]
    own, system, callers = (1e6 * part / sent for part in (spent.own, spent.system, done["cpu_seconds"]))
    return Cost(own, system, callers, sent / seconds)


def turns() -> int:
    """Return how many turns a round has."""
    return len(LAYERS)


# --- what it says -----------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """Return the page that says it."""
    costs, cores = {name: medians(Cost, rounds) for name, rounds in facts["layers"].items()}, facts["machine"]["cores"]
    lines = [
        "# One task per request, 64 connections: where the time goes",
        "",
        f"Processor time per request in us, medians of {len(next(iter(facts['layers'].values())))} rounds on {cores} "
        "cores. Each layer is a server of its own that holds",
        "the one above it. Written by `python -m bench profile singles --record`.",
        "",
        "| layer | own code | kernel | callers | adds | requests/s seen | most that it allows |",
        "|---|---|---|---|---|---|---|",
    ]
    before = 0.0
    for name, cost in costs.items():
        server = cost.server + cost.system
        adds = "" if name in REDIS else f"{server - before:.0f}"
        before = server
        parts = f"{cost.server:.0f} | {cost.system:.0f} | {cost.callers:.0f} | {adds}"
        lines.append(f"| {name} | {parts} | {cost.rate:,.0f} | {cost.most(cores):,.0f} |")
    return "\n".join([*lines, "", *_limits(costs, cores)]) + "\n"


def _limits(costs: dict[str, Cost], cores: int) -> Iterator[str]:
    bare, application, daemon = costs[BARE], costs[APPLICATION], costs[DAEMON]
    share = (application.server + application.system) / (daemon.server + daemon.system)
    yield f"- The daemon ÷ the Application that does nothing, by processor time: {share:.2f}."
    peers = [costs[name].most(cores) for name in REDIS if name in costs]
    if peers:
        wanted = ASKED * max(peers)
        yield (
            f"- {ASKED} times the better of redis-py's two would be {wanted:,.0f} requests/s: "
            f"{1e6 / wanted:.0f} us for all that a server does. aiohttp's Application alone takes "
            f"{application.server + application.system:.0f}; its Server, which has no routes, "
            f"{bare.server + bare.system:.0f}."
        )
