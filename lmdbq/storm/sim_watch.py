"""What must not last: looked for at short intervals while a simulated daemon is up.

A ready task beside a parked dequeue that may take it is a wake-up that was forgotten. A lease that nobody was told of
is lost until it lapses. Something that is due and not done is a timer that sleeps. Each of these may be seen for a
moment; seen at every look for PATIENCE_SECONDS it is a fault.

To read the store costs much: it is done each SIGHT_SECONDS, and at once where, by what the judge knows, somebody waits
beside a task that he may take.

The trap: a daemon that is down, or whose file refuses, does none of this; then the waiting begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from lmdbq.limits import CLAIM_TASKS_MAX
from lmdbq.model import Claim, Due, Filter, QueueView, State, Task
from lmdbq.sharing import seen_at
from lmdbq.storm.sim_life import Fault
from lmdbq.storm.sim_places import names
from lmdbq.storm.sim_world import Daemon, World

LOOK_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 0.4  # several of the slowest commits
LEASE_PATIENCE_SECONDS: Final = 1.0
END_PATIENCE_SECONDS: Final = 2.0
SIGHT_SECONDS: Final = 2.0
TIMERS_PATIENCE_SECONDS: Final = 12.0  # after an error timers wait, and for longer after several


class Trouble(NamedTuple):
    """What is known again at the next look, and for how long it may be seen."""

    name: str
    patience_seconds: float


class Sight(NamedTuple):
    """What the store has said at ``at``, when it was at ``version``. free, held: the ready tasks, by whether a lane has
    them wait. lapse_at: steady ns, None = no lease.
    """

    version: int
    at: float
    free: list[Task]
    held: list[Task]
    queues: dict[str, QueueView]
    due: Due
    lapse_at: int | None


class Watch:
    """Looks at a world, and remembers since when it has seen each trouble."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[Trouble, float] = {}
        self._daemon: Daemon | None = None
        self._unready_since = 0.0
        self._sight: Sight | None = None

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
        parked = [claim for one in daemon.parked.values() if not one.closed and (claim := one.asked.claim) is not None]
        if self._may_wait_in_vain(parked):
            yield from self._forgotten_wakeups(daemon, self._see(fresh=True))
        sight = self._see()
        yield from self._held_for_nothing(sight)
        for lease in self._world.judge.unclaimed:
            yield (
                Trouble(f"lease {lease}", LEASE_PATIENCE_SECONDS),
                Fault(f"delivery {lease[1]} was claimed, and nobody was given it", lease[0]),
            )
        yield from self._overdue(sight)

    def _may_wait_in_vain(self, parked: list[Claim]) -> bool:
        """Whether some task may be ready, by what is known, that one of these claims could take."""
        judge, clock = self._world.judge, self._world.clock
        wall, steady = clock.wall_ns(), clock.steady_ns()
        wanted: dict[tuple[str, str], bool] = {}  # by queue and type
        for life in judge.lives.values() if parked else ():
            if not life.may_be_ready(wall, steady):
                continue
            kind = life.queue, life.type
            if kind not in wanted:
                is_paused = judge.rules.queue(life.queue).paused
                wanted[kind] = not is_paused and any(names(claim, life) for claim in parked)
            if wanted[kind] and not judge.places.is_held(life, steady):
                return True
        return False

    def _see(self, *, fresh: bool = False) -> Sight:
        world, known = self._world, self._sight
        now, version = world.loop.time(), world.store.version
        if known is None or (fresh and known.version != version) or now > known.at + SIGHT_SECONDS:
            ready = world.store.tasks(Filter(states=(State.READY,)), world.clock, limit=CLAIM_TASKS_MAX).tasks
            queues = {view.name: view for view in world.store.queues()}
            due = world.store.due(world.clock)
            lapse_at = None if due.lapse_in_ns is None else world.clock.steady_ns() + due.lapse_in_ns
            free = [task for task in ready if not task.waiting_for]
            held = [task for task in ready if task.waiting_for]
            known = self._sight = Sight(version, now, free, held, queues, due, lapse_at)
        return known

    def _forgotten_wakeups(self, daemon: Daemon, sight: Sight) -> Iterator[tuple[Trouble, Fault]]:
        parked = [one for one in daemon.parked.values() if not one.closed]
        if not parked:
            return
        for task in self._startable(sight, sight.free):
            life = self._world.judge.lives.get(task.id)
            if life is None:
                continue
            # No commit tells of a token that comes in: for groups a timer does, and it may have to try again.
            by_timer = self._world.judge.rules.group(life.options.group).rate is not None
            patience_seconds = TIMERS_PATIENCE_SECONDS if by_timer else PATIENCE_SECONDS
            for one in parked:
                claim = one.asked.claim
                assert claim is not None
                if names(claim, life):
                    yield (
                        Trouble(f"#{one.number} {task.id}", patience_seconds),
                        Fault(f"it is ready, and #{one.number} waits for it", task.id, f"#{one.number}", task.queue),
                    )

    def _held_for_nothing(self, sight: Sight) -> Iterator[tuple[Trouble, Fault]]:
        judge, clock = self._world.judge, self._world.clock
        for task in self._startable(sight, sight.held):
            life = judge.lives.get(task.id)
            if life is None or judge.places.is_held(life, clock.steady_ns()):
                continue
            yield (
                Trouble(f"held {task.id}", TIMERS_PATIENCE_SECONDS),
                Fault(f"it waits for {task.waiting_for}, which does not hold it", task.id, task.options.group),
            )

    def _startable(self, sight: Sight, ready: list[Task]) -> Iterator[Task]:
        """Those of some ready tasks whose queues let them start."""
        if not ready:
            return
        clock = self._world.clock
        wall, steady = clock.wall_ns(), clock.steady_ns()
        is_open = {name: not seen_at(view, steady).blocked_by for name, view in sight.queues.items()}
        for task in ready:
            if is_open[task.queue] and not 0 < task.expires_at <= wall:
                yield task

    def _overdue(self, sight: Sight) -> Iterator[tuple[Trouble, Fault]]:
        clock, due = self._world.clock, sight.due
        wall = clock.wall_ns()
        dues = [("promote", due.promote_at), ("expire", due.expire_at), ("prune", due.prune_at)]
        schedules = self._world.judge.spawned.schedules
        dues += [(f"enqueue by schedule {name}", one.next_at) for name, one in schedules.items()]
        for name, at in dues:
            if 0 < at <= wall:
                yield (
                    Trouble(f"{name} {at}", TIMERS_PATIENCE_SECONDS),
                    Fault(f"something to {name} was due at {at}, and it is {wall}"),
                )
        if sight.lapse_at is not None and sight.lapse_at <= clock.steady_ns():
            yield (
                Trouble(f"lapse {sight.lapse_at}", TIMERS_PATIENCE_SECONDS),
                Fault("a lease is over, and its task still runs"),
            )
