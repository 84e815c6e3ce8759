"""What must not last: looked for at short intervals while a simulated daemon is up.

A ready task beside a parked dequeue that may take it is a wake-up that was forgotten. A lease that nobody was told of
is lost until it lapses. Something that is due and not done is a timer that sleeps. Each of these may be seen for a
moment; seen at every look for PATIENCE_SECONDS it is a fault.

The trap: a daemon that is down, or whose file refuses, does none of this; then the waiting begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from lmdbq.limits import CLAIM_TASKS_MAX
from lmdbq.model import Filter, State
from lmdbq.storm.sim_life import Fault
from lmdbq.storm.sim_world import Daemon, World

LOOK_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 0.4  # several of the slowest commits
LEASE_PATIENCE_SECONDS: Final = 1.0
END_PATIENCE_SECONDS: Final = 2.0
TIMERS_PATIENCE_SECONDS: Final = 12.0  # after an error timers wait, and for longer after several


class Trouble(NamedTuple):
    """What is known again at the next look, and for how long it may be seen."""

    name: str
    patience_seconds: float


class Watch:
    """Looks at a world, and remembers since when it has seen each trouble."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[Trouble, float] = {}
        self._daemon: Daemon | None = None
        self._unready_since = 0.0

    def look(self) -> None:
        """Look now. Raises Fault."""
        world, daemon = self._world, self._world.daemon
        now = world.loop.time()
        if daemon is None or not daemon.is_ready or daemon is not self._daemon:
            if daemon is not self._daemon or daemon is None:
                self._daemon, self._unready_since = daemon, now
            self._since.clear()
            if now - self._unready_since > END_PATIENCE_SECONDS and daemon is not None:
                raise Fault("a daemon that was asked to start or to end has done neither")
            return
        self._unready_since = now
        seen = dict(self._troubles(daemon))
        self._since = {trouble: self._since.get(trouble, now) for trouble in seen}
        for trouble, since in self._since.items():
            if now - since > trouble.patience_seconds:
                raise seen[trouble]

    def _troubles(self, daemon: Daemon) -> Iterator[tuple[Trouble, Fault]]:
        yield from self._forgotten_wakeups(daemon)
        for lease in self._world.judge.unclaimed:
            yield (
                Trouble(f"lease {lease}", LEASE_PATIENCE_SECONDS),
                Fault(f"delivery {lease[1]} was claimed, and nobody was given it", lease[0]),
            )
        yield from self._overdue()

    def _forgotten_wakeups(self, daemon: Daemon) -> Iterator[tuple[Trouble, Fault]]:
        parked = [one for one in daemon.parked.values() if not one.closed]
        if not parked:
            return
        world = self._world
        wall = world.clock.wall_ns()
        open_queues = {view.name for view in world.store.queues() if not view.blocked_by}
        ready = world.store.tasks(Filter(states=(State.READY,)), world.clock, limit=CLAIM_TASKS_MAX).tasks
        for task in ready:
            if task.queue not in open_queues or 0 < task.expires_at <= wall:
                continue
            for one in parked:
                claim = one.asked.claim
                assert claim is not None
                if task.queue in claim.queues and (not claim.types or task.type in claim.types):
                    yield (
                        Trouble(f"#{one.number} {task.id}", PATIENCE_SECONDS),
                        Fault(f"it is ready, and #{one.number} waits for it", task.id, f"#{one.number}", task.queue),
                    )

    def _overdue(self) -> Iterator[tuple[Trouble, Fault]]:
        clock = self._world.clock
        due = self._world.store.due(clock)
        wall = clock.wall_ns()
        for name, at in (("promote", due.promote_at), ("expire", due.expire_at), ("prune", due.prune_at)):
            if 0 < at <= wall:
                yield (
                    Trouble(f"{name} {at}", TIMERS_PATIENCE_SECONDS),
                    Fault(f"something to {name} was due at {at}, and it is {wall}"),
                )
        if due.lapse_in_ns is not None and due.lapse_in_ns <= 0:
            at = clock.steady_ns() + due.lapse_in_ns
            yield Trouble(f"lapse {at}", TIMERS_PATIENCE_SECONDS), Fault("a lease is over, and its task still runs")
