"""The simulation storm: the real engine in a drawn world, one seed for each run; see ``sim_world``.

A run lives through STEPS_PER_RUN lines of history with crashes, steps of the clock, errors and clients that die; then
the world grows calm, everybody finishes, and nothing may be left waiting. Runs alternate between the memory store and a
file. A seed with a slash is one run: ``SEED/17`` is the 17th of ``SEED``, which a fault names.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lmdbq.limits import PAGE_TASKS_MAX, SECOND_NS
from lmdbq.model import Call, Enqueue, Entry, Filter, State
from lmdbq.store.base import Store
from lmdbq.store.lmdb import open_store
from lmdbq.store.memory import MemoryStore
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory
from lmdbq.storm.sim_clients import SERVED, Client, Making, Neighbour, Worker
from lmdbq.storm.sim_life import ALIVE, Fault
from lmdbq.storm.sim_meddlers import EVERYBODY
from lmdbq.storm.sim_plants import PLANTS
from lmdbq.storm.sim_watch import LOOK_SECONDS, Watch
from lmdbq.storm.sim_world import QUIET, World
from lmdbq.storm.virtual_loop import Process

STEPS_PER_RUN: Final = 4_000
CALM_SECONDS: Final = 300.0  # at the most; less if nothing waits any more
COMPARE_EVERY: Final = 20  # looks
STORES: Final = ("memory", "lmdb")


class Run:
    """One run; ``fault`` is what it has found."""

    def __init__(self, seed: str, store: Store, reopen: Callable[[], Store] | None) -> None:
        self.chosen = random.Random(seed)
        self.world = World(self.chosen, store, reopen)
        self._watch = Watch(self.world)
        self._looks = 0
        self._people: list[tuple[Process, Making, asyncio.Task[None]]] = []
        self._crowd = [*EVERYBODY, (Neighbour, 1)] if reopen is not None else list(EVERYBODY)

    @property
    def fault(self) -> Fault | None:
        """What is not as it must be, None if all is well."""
        return self.world.fault

    def live(self, steps: int) -> None:
        """Live through ``steps`` lines of history, then through the calm, and look at what is left."""
        world = self.world
        world.store.apply([Call((Enqueue([Entry(queue=queue)]),)) for queue in SERVED], world.clock)
        world.boot()
        for making, number in self._crowd:
            for _ in range(number):
                self._come(making)
        while world.steps < steps and self.fault is None:
            self._advance(LOOK_SECONDS)
            self._strike()
        world.calm, world.quiet = True, min(QUIET)
        world.store.failing = 0.0
        behind_ns = world.judge.latest - world.clock.wall_ns()
        if behind_ns > 0:  # what was scheduled before the last step back would not be due for hours
            world.clock.step(behind_ns / SECOND_NS)
            world.note_for_all("wall time is set right")
        self._calm_down()

    def _calm_down(self) -> None:
        world, until = self.world, self.world.loop.time() + CALM_SECONDS
        while self.fault is None and world.loop.time() < until:
            self._advance(LOOK_SECONDS)
            if self._looks % COMPARE_EVERY == 0 and self._is_done():
                break
        if self.fault is None:
            self._check_end()

    def _is_done(self) -> bool:
        """Whether nobody changes things any more, and everything has ended."""
        if any(making is not Worker and not task.done() for _, making, task in self._people):
            return False
        return not any(self.world.store.count(Filter(states=(state,))) for state in ALIVE)

    def _come(self, making: Making) -> None:
        client: Client = making(self.world)
        process = Process(making.__name__)
        self._people.append((process, making, self.world.loop.start(process, client.run())))

    def _advance(self, seconds: float) -> None:
        self.world.loop.run(seconds)
        self._looks += 1
        try:
            if self.world.loop.failures:
                raise Fault(self.world.loop.failures[0])
            self._watch.look()
            if self._looks % COMPARE_EVERY == 0:
                self._compare()
        except Fault as fault:
            self.world.blame(fault)

    def _strike(self) -> None:
        """Let something happen that nobody has asked for."""
        world, what = self.world, self.chosen.random()
        if what < 0.008:
            world.loop.later(world.loop.outside, self.chosen.random() * LOOK_SECONDS, world.crash)
        elif what < 0.011:
            world.stop()
        elif what < 0.019:
            seconds = self.chosen.choice((-3_600, -5, 2, 7_200))
            world.clock.step(seconds)
            world.note_for_all(f"wall time steps by {seconds} s")
        elif what < 0.04:
            index = self.chosen.randrange(len(self._people))
            process, making, _ = self._people.pop(index)
            process.kill()
            world.note(f"a {process.name} is killed")
            self._come(making)

    def _compare(self) -> None:
        world = self.world
        wall, steady = world.clock.wall_ns(), world.clock.steady_ns()
        world.judge.compare(world.stored(), wall, steady, world.store.sets(0, PAGE_TASKS_MAX))

    def _check_end(self) -> None:
        world = self.world
        try:
            self._compare()
            left = world.store.tasks(Filter(states=(State.READY, State.SCHEDULED)), world.clock).tasks
            if left:
                raise Fault("the world has been calm for long, and it still waits", left[0].id)
            problems = world.store.check()
            if problems:
                raise Fault(f"the checker: {problems[0]}")
        except Fault as fault:
            world.blame(fault)


def run(
    seed: str, tell: Tell, steps_max: int, minutes: float = 0.0, *, stores: tuple[str, ...] = STORES, plant: str = ""
) -> Report:
    """Live through runs until they have ``steps_max`` steps together, or for ``minutes``.

    plant: the name of a fault of ``sim_plants.PLANTS`` to put in. Raises KeyError (plant).
    """
    report = Report("simulate", seed, "steps")
    stores = ("memory",) if plant else stores
    began = time.monotonic()
    until = began + minutes * 60 if minutes else None
    with PLANTS[plant](), _silence(), scratch_directory() as scratch:
        for number in itertools.count() if "/" not in seed else [int(seed.rpartition("/")[2])]:
            kind = stores[number % len(stores)]
            one = f"{seed.partition('/')[0]}/{number}"
            with _store(kind, scratch) as (store, reopen):
                life = Run(one, store, reopen)
                life.live(STEPS_PER_RUN)
                life.world.loop.end()
            _take_down(report, one, kind, life)
            report.seconds = time.monotonic() - began
            tell(report.tried, 0 if until else steps_max, "")
            if life.fault is not None or (time.monotonic() > until if until else report.tried >= steps_max):
                break
    return report


def _take_down(report: Report, seed: str, kind: str, life: Run) -> None:
    world = life.world
    report.tried += world.steps
    report.count("runs")
    report.count("crashes", world.crashes)
    report.count("reports accepted", world.judge.accepted)
    report.count("virtual minutes", round(world.loop.time() / 60))
    if life.fault is not None:
        report.blame(f"run {seed}, {kind}", [str(life.fault), "its history:", *world.tail(life.fault)])


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the engine from telling of errors that were put into it."""
    log = logging.getLogger("lmdbq.engine")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _store(kind: str, scratch: Path) -> Iterator[tuple[Store, Callable[[], Store] | None]]:
    """A store for one run, and how to open it again if it outlives its process."""
    if kind == "memory":
        yield MemoryStore(), None
        return
    with TemporaryDirectory(dir=scratch) as place:
        opened: list[Store] = []

        def reopen() -> Store:
            opened.append(open_store(Path(place)))
            return opened[-1]

        try:
            yield reopen(), reopen
        finally:
            opened[-1].close()
    gc.collect()
