"""The clients of a simulation: producers, workers, and a user of the same file. ``sim_meddlers`` has the others.

Each is a coroutine in a process of its own, draws all it does, and may be killed at any await. They behave as clients
of an at-least-once queue do: what was not answered is asked again, with the same key or claim id if it had one, and a
report is repeated. Some misbehave: they report twice, forget what they hold, or come back with a lease long over.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from lmdbq.errors import LmdbqError
from lmdbq.limits import SECOND_NS
from lmdbq.model import (
    Call,
    Claim,
    Claimed,
    ClaimedTask,
    Completion,
    Dedupe,
    Enqueue,
    Entry,
    Extend,
    Extension,
    Fold,
    Intervals,
    Keep,
    Memo,
    Options,
    Order,
    Report,
    RetryStrategy,
    Status,
    Until,
)
from lmdbq.storm.sim_parts import seconds_ns
from lmdbq.storm.sim_spawned import AFTER, HOME
from lmdbq.storm.sim_world import Asked, Lost, World

QUEUES: Final = ("a", "b", "c", "c.s", HOME)
SERVED: Final = (*QUEUES, AFTER)
TYPES: Final = ("x", "y")
GROUPS: Final = ("g1", "g2", "h1")
SHARERS: Final = ("s1", "s2", "s3")  # groups that nothing holds up
BURST_LEN: Final = 12
FOLLOWER: Final = Entry(queue=HOME, type="x")
MEMBERS: Final = 0.3  # share of the tasks that join a set
ALIVE_MAX: Final = 80  # tasks; with more, producers pause


class Client(ABC):
    """What every client can do."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chosen = world.chosen

    @abstractmethod
    async def run(self) -> None:
        """Do what it does, until the world is calm or for ever."""

    async def insist(self, asked: Asked, times: int = 4) -> Any:
        """Ask until there is an answer, ``times`` times; None if there was none."""
        for _ in range(times):
            try:
                return await self.world.ask(asked)
            except (Lost, LmdbqError):
                await self.pause(0.3)
        return None

    async def pause(self, mean_seconds: float) -> None:
        """Do nothing for a while; for longer in a quiet world."""
        await asyncio.sleep(self.chosen.expovariate(1 / mean_seconds) * self.world.quiet)


class Producer(Client):
    """Enqueues a few tasks of every kind, again and again."""

    async def run(self) -> None:
        while not self.world.calm:
            await self.pause(0.15)
            if len(self.world.judge.lives) > ALIVE_MAX:
                continue
            taking = self.world.judge.sets.taking()
            set_id = self.chosen.choice(taking) if taking and self.chosen.random() < MEMBERS else 0
            memo = self.memo()
            is_burst = self.world.is_crowded and self.chosen.random() < 0.1
            entries = self._burst(set_id) if is_burst else self.entries(set_id, self.chosen.choice((1, 1, 1, 2, 5)))
            await self.insist(Asked(Enqueue(entries), memo=memo), 4 if memo else 1)

    def memo(self) -> Memo | None:
        """Draw whether a call has a key."""
        return Memo(f"m{next(self.world.words)}", b"body") if self.chosen.random() < 0.4 else None

    def entries(self, set_id: int, number: int) -> list[Entry]:
        """Draw some tasks."""
        return [self._entry(set_id) for _ in range(number)]

    def _burst(self, set_id: int) -> list[Entry]:
        """Draw many tasks that share a queue."""
        rules = self.world.judge.rules
        fair = [queue for queue in QUEUES if rules.queue(queue).order is Order.FAIR]
        queue, some = self.chosen.choice(fair or QUEUES), ("", *SHARERS)
        groups = [self.chosen.choice(some) for _ in range(BURST_LEN)]
        return [Entry(queue=queue, type="x", options=Options(group=group, set_id=set_id)) for group in groups]

    def _entry(self, set_id: int) -> Entry:
        chosen = self.chosen
        kind = chosen.random()
        dedupe = self._dedupe() if chosen.random() < 0.2 else None
        thread, group = self._lane()
        if dedupe is not None and dedupe.overwrite == ("payload",):
            thread, group = dedupe.key, ""  # coalesce: what comes while one runs waits behind it
        retry = RetryStrategy(chosen.choice((1, 2, 4)), Intervals((chosen.choice((0, seconds_ns(0.4))),)))
        keep = Keep(succeeded_ns=chosen.choice((0, 2 * SECOND_NS)), dead_ns=3 * SECOND_NS, cancelled_ns=2 * SECOND_NS)
        rejoin, on_dead = chosen.random() < 0.2, FOLLOWER if chosen.random() < 0.2 else None
        return Entry(
            payload=b"%d" % next(self.world.words),
            queue=chosen.choice(QUEUES),
            type=chosen.choice(TYPES),
            priority=chosen.choice((0, 0, 0, -1, 5)),
            delay_ns=seconds_ns(chosen.uniform(0.05, 2)) if kind < 0.25 else 0,
            expires_in_ns=seconds_ns(chosen.uniform(2.1, 6)) if 0.15 < kind < 0.4 else 0,
            options=Options(
                0, retry, keep, dedupe, thread=thread, group=group, rejoin=rejoin, on_dead=on_dead, set_id=set_id
            ),
        )

    def _lane(self) -> tuple[str, str]:
        """Draw a thread or a group, or neither."""
        kind = self.chosen.random()
        if kind < 0.15:
            return self.chosen.choice(("t1", "t2")), ""
        return ("", self.chosen.choice(GROUPS)) if kind < 0.4 else ("", "")

    def _dedupe(self) -> Dedupe:
        """Draw a key and its rules: plain, debounce, throttle, coalesce, or one of two folds.

        A key always has the same rules, as it has for a careful producer; what a fold needs is never overwritten.
        """
        number = self.chosen.randrange(7)
        started, key = Until.STARTED, f"k{number}"
        if number < 2:
            return Dedupe(key)
        if number == 2:
            wait_ns = seconds_ns(self.chosen.uniform(0.5, 3))
            return Dedupe(key, until=started, overwrite=("payload", "scheduled_at"), max_wait_ns=wait_ns)
        if number == 3:
            return Dedupe(key, until=Until.TTL, ttl_ns=seconds_ns(self.chosen.uniform(0.2, 3)))
        if number == 4:
            return Dedupe(key, until=started, overwrite=("payload",))
        return Dedupe(key, fold=Fold.SUM if number == 5 else Fold.APPEND)


class Worker(Client):
    """Takes tasks, works on them, and says how that ended."""

    async def run(self) -> None:
        after: Call | None = None
        while True:
            await self.pause(0.1)
            claimed = await self._take(after)
            after = None
            for task in claimed:
                completion = await self._work(task)
                if completion is None:
                    continue
                if self.chosen.random() < 0.2:
                    after = Call((Report([completion]),))  # it goes with the next dequeue
                else:
                    await self._report(completion)

    async def _take(self, after: Call | None) -> list[ClaimedTask]:
        chosen, calm = self.chosen, self.world.calm
        claim = Claim(
            SERVED if calm else self._queues(),
            () if calm else chosen.choice(((), (), ("x",), TYPES)),
            limit=chosen.choice((1, 1, 2, 4)),
            keepalive_ns=SECOND_NS * chosen.choice((1, 2, 5)),
            claim_id=f"c{next(self.world.words)}" if chosen.random() < 0.5 else "",
        )
        wait_seconds = chosen.choice((0.0, 0.5, 5.0, 20.0, 20.0))
        said = await self.insist(Asked.dequeue(claim, wait_seconds, after), 3 if claim.claim_id else 1)
        return said[0].tasks if said is not None and isinstance(said[0], Claimed) else []

    def _queues(self) -> tuple[str, ...]:
        """Draw what to wait for."""
        chosen = self.chosen
        return (AFTER,) if chosen.random() < 0.1 else tuple(chosen.sample(SERVED, chosen.randint(1, 3)))

    async def _work(self, task: ClaimedTask) -> Completion | None:
        """Return how it ended, None if it was forgotten."""
        for _ in range(self.chosen.randrange(3)):
            await self.pause(0.3)
            extension = Extension(task.id, task.deliveries, SECOND_NS * self.chosen.choice((0, 2)))
            await self.insist(Asked(Extend((extension,))), 1)
        if task.options.set_id and self.chosen.random() < 0.2:
            another = Entry(queue=task.queue, type=task.type, options=Options(set_id=task.options.set_id))
            await self.insist(Asked(Enqueue([another], lease=(task.id, task.deliveries))), 1)
        end = self.chosen.random()
        if end < 0.05 and not self.world.calm:
            return None
        await self.pause(4.0 if end < 0.1 else 0.05)  # some come back when their lease is over
        status = self.chosen.choices((Status.SUCCEEDED, Status.FAILED, Status.RELEASED), (8, 2, 1))[0]
        delay_ns = None if status is Status.SUCCEEDED else self.chosen.choice((None, seconds_ns(0.3)))
        return Completion(task.id, task.deliveries, status, delay_ns=delay_ns)

    async def _report(self, completion: Completion) -> None:
        await self.insist(Asked(Report([completion])))
        if self.chosen.random() < 0.1:
            other = self.chosen.choice((Status.SUCCEEDED, Status.FAILED, Status.RELEASED))
            await self.insist(Asked(Report([Completion(completion.id, completion.delivery, other)])))


class Neighbour(Client):
    """Another process with the same file open: it commits without the daemon, which must see it."""

    async def run(self) -> None:
        while not self.world.calm:
            await self.pause(0.4)
            entry = Entry(queue=self.chosen.choice(QUEUES), type=self.chosen.choice(TYPES))
            failing, self.world.store.failing = self.world.store.failing, 0.0
            self.world.note("a neighbour enqueues into", entry.queue)
            self.world.store.apply([Call((Enqueue([entry]),))], self.world.clock)
            self.world.store.failing = failing


Making = Callable[[World], Client]
