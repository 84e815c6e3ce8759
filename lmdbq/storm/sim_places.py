"""Whether a claim of a simulation took what it may take: in order, within caps and rates, one of a thread, by turns.

The order is that of the queue, strict, ageing or fair (whose turns are those of ``sim_fair``), and over the queues of a
claim that of their heads. Tasks in lanes count where their lane surely lets them start.

The trap: most of what a claim saw is not known for sure. Only tasks that can have been nothing but ready (or running)
count here, and only those whose place is known; what may have moved by itself excuses everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from lmdbq.lifecycle import place_of
from lmdbq.model import Claim, Order, State
from lmdbq.sharing import parent_of
from lmdbq.storm.sim_fair import Ready, Shares
from lmdbq.storm.sim_life import READY, RUNNING, Fault, Life
from lmdbq.storm.sim_rules import Rules

_PASSED_MORE: Final = 2  # a turn that was being had, and one for the rounding of weights


def names(op: Claim, life: Life) -> bool:
    """Whether a claim asks for tasks like this one."""
    is_asked_for = life.queue in op.queues or parent_of(life.queue) in op.queues
    return is_asked_for and (not op.types or life.type in op.types)


class Scene:
    """What a claim met. ready: surely; running: surely, by queue and by ("", group); starting: the same, perhaps;
    alive: how many of a thread may be still to be done. One pass over all tasks; a claimed one is moved on."""

    def __init__(self, lives: Iterable[Life], wall: int, steady: int) -> None:
        self.ready: dict[int, Life] = {}
        self.running: Counter[tuple[str, str]] = Counter()
        self.starting: Counter[str] = Counter()
        self.alive: Counter[tuple[str, str]] = Counter()
        for life in lives:
            options = life.options
            if options.thread and life.may_live:
                self.alive[life.queue, options.thread] += 1
            if life.possible == READY:
                life.settle(wall, steady)
                if life.possible == READY:
                    self.ready[life.id] = life
            elif life.may_run:
                self.starting[options.group] += 1
                if life.possible == RUNNING:
                    life.settle(wall, steady)
                    if life.possible == RUNNING:
                        self._count(life)

    def _count(self, life: Life) -> None:
        self.running[life.queue, ""] += 1
        self.running["", life.options.group] += 1

    def claimed(self, life: Life) -> None:
        """One of them runs now."""
        self.ready.pop(life.id, None)
        self.starting[life.options.group] += 1
        self._count(life)


class Places:
    """Hears of each claimed task, before it runs, and raises Fault."""

    def __init__(self, lives: Mapping[int, Life], rules: Rules) -> None:
        self._lives = lives
        self._rules = rules
        self._holders: dict[tuple[str, str], Life] = {}
        self._passed: dict[tuple[str, str], int] = {}  # (who was passed over, by whom) -> how often
        self._scene: Scene | None = None
        self._haunted: set[str] = set()  # groups that tasks of a purged queue may still run in
        self._sharing: dict[str, object] = {}  # what turns of fair queues depend on
        self.shares = Shares()

    def begin(self) -> None:
        """What is claimed next is of another claim."""
        self._scene = None

    def claimed(self, op: Claim, life: Life, wall: int, steady: int) -> None:
        """Check one task of a claim."""
        scene = self._scene = self._scene or Scene(self._lives.values(), wall, steady)
        self._check_order(op, life, scene)
        self._check_queue(life, scene, steady)
        if life.options.thread:
            self._check_thread(life, scene, wall, steady)
        if life.options.group:
            self._check_group(life, scene, steady)
        scene.claimed(life)

    def let_go(self, life: Life) -> None:
        """An edit of when it starts, or a retry by hand, gives its thread back."""
        if self._holders.get((life.queue, life.options.thread)) is life:
            del self._holders[life.queue, life.options.thread]

    def purged(self, life: Life) -> None:
        """The queue of a task is about to be purged: until somebody clears up, it may count as running."""
        if life.may_run and life.options.group:
            self._haunted.add(life.options.group)

    def cleared_up(self) -> None:
        """Nothing is left of what was purged."""
        self._haunted.clear()

    def rules_changed(self) -> None:
        """Turns are counted anew."""
        self._passed.clear()
        sharing = self._rules.sharing()
        if sharing != self._sharing:
            self._sharing = sharing
            self.shares.changed()

    def is_held(self, life: Life, steady: int) -> bool:
        """Whether a lane may have reason not to let a ready task start."""
        if not (life.options.thread or life.options.group):
            return False
        if life.options.thread:
            key = life.queue, life.options.thread
            return any(
                other is not life and (other.queue, other.options.thread) == key and other.may_live
                for other in self._lives.values()
            )
        name = life.options.group
        limits = self._rules.group(name)
        if limits.paused or (limits.rate and self._rules.tokens.at(f"group {name}", limits.rate, steady) < 1):
            return True
        running = sum(other.options.group == name and other.may_run for other in self._lives.values())
        return limits.max_running is not None and running >= limits.max_running

    def _is_free(self, life: Life, scene: Scene) -> bool:
        """Whether its lane surely lets a ready task start."""
        thread, group = life.options.thread, life.options.group
        if thread:
            return scene.alive[life.queue, thread] == 1
        if not group:
            return True
        limits = self._rules.group(group)
        if limits.paused or limits.rate:  # how many tokens there are is known as a bound only
            return False
        return limits.max_running is None or (group not in self._haunted and scene.starting[group] < limits.max_running)

    # --- caps and rates -----------------------------------------------------------------------------------------------

    def _check_queue(self, life: Life, scene: Scene, steady: int) -> None:
        settings = self._rules.queue(life.queue)
        if settings.paused:
            raise Fault(f"it was claimed from {life.queue}, which is paused", life.id, life.queue)
        running = scene.running[life.queue, ""]
        if settings.max_running and running >= settings.max_running:
            raise Fault(f"{running + 1} of {life.queue} run, and {settings.max_running} may", life.id, life.queue)
        if settings.rate and not self._rules.tokens.spend(f"queue {life.queue}", settings.rate, steady):
            raise Fault(f"it was claimed from {life.queue} without a token", life.id, life.queue)

    def _check_group(self, life: Life, scene: Scene, steady: int) -> None:
        name = life.options.group
        limits = self._rules.group(name)
        if limits.paused:
            raise Fault(f"it was claimed, and its group {name} is paused", life.id, name)
        running = scene.running["", name]
        if limits.max_running is not None and running >= limits.max_running:
            raise Fault(f"{running + 1} of group {name} run, and {limits.max_running} may", life.id, name)
        if limits.rate and not self._rules.tokens.spend(f"group {name}", limits.rate, steady):
            raise Fault(f"it was claimed, and its group {name} had no token", life.id, name)

    # --- threads ------------------------------------------------------------------------------------------------------

    def _check_thread(self, life: Life, scene: Scene, wall: int, steady: int) -> None:
        key = life.queue, life.options.thread
        holder = self._holders.get(key)
        if holder is not None and holder is not life:
            holder.settle(wall, steady)
            held_by = RUNNING if holder.options.rejoin else {State.RUNNING, State.READY, State.SCHEDULED}
            if holder.possible <= held_by:
                problem = f"it was claimed, and {holder.id}, which holds its thread, is {holder.words()}"
                raise Fault(problem, life.id, holder.id)
        if holder is not life:
            self._check_first(key, life, scene)
        self._holders[key] = life

    def _check_first(self, key: tuple[str, str], life: Life, scene: Scene) -> None:
        for other in scene.ready.values():
            is_of_it = other is not life and (other.queue, other.options.thread) == key
            if is_of_it and other.rank and (other.rank, other.id) < (life.rank, life.id):
                raise Fault(f"it was claimed before {other.id}, the first of their thread", life.id, other.id)

    # --- order --------------------------------------------------------------------------------------------------------

    def _check_order(self, op: Claim, life: Life, scene: Scene) -> None:
        free = [other for other in scene.ready.values() if names(op, other) and self._is_free(other, scene)]
        for other in free:
            if other is not life and self._is_before(other, life):
                raise Fault(f"it was claimed before {other.id}, whose turn it was", life.id, other.id)
        self._check_turns(life.queue, {life.queue} | {other.queue for other in free})
        if self._rules.queue(life.queue).order is Order.FAIR:
            self._check_shares(life, free)

    def _is_before(self, other: Life, life: Life) -> bool:
        own, its = self._rules.queue(life.queue), self._rules.queue(other.queue)
        if other.queue != life.queue:
            if not self._is_open(other.queue):
                return False
            if own.priority != its.priority:
                return its.priority < own.priority
            if self._rules.has_weights or its.order is Order.FAIR:  # of which we do not know the head
                return False
        elif own.order is Order.FAIR and (other.priority != life.priority or other.options.group != life.options.group):
            return other.priority < life.priority
        if not (other.rank and life.rank):
            return False
        place = (*place_of(own, life.priority, life.rank), life.id)
        return (*place_of(its, other.priority, other.rank), other.id) < place

    def _is_open(self, queue: str) -> bool:
        settings = self._rules.queue(queue)
        return not (settings.paused or settings.max_running or settings.rate)

    def _check_shares(self, life: Life, free: Iterable[Life]) -> None:
        ready: dict[str, set[tuple[int, int]]] = {}
        for other in free:
            if other.queue == life.queue and other.priority == life.priority:
                ready.setdefault(other.options.group, set()).add((other.id, other.moves))
        parties: dict[str, Ready] = {name: frozenset(tasks) for name, tasks in ready.items()}
        weights = {name: self._rules.weight(name) for name in (*parties, life.options.group)}
        self.shares.served(life.queue, life.options.group, parties, weights)

    def _check_turns(self, served: str, ready: set[str]) -> None:
        """Queues that have something to give and share by weight are passed over only as often as weights say."""
        level = self._rules.queue(served).priority
        for queue in ready:
            settings = self._rules.queue(queue)
            if queue == served or settings.priority != level or not settings.weight or not self._is_open(queue):
                continue
            weight = self._rules.queue(served).weight or 1
            # Where weights were changed, the last turn of a queue may have been as long as that of weight 1.
            passed = self._passed[queue, served] = self._passed.get((queue, served), -weight) + 1
            if passed > weight / settings.weight + _PASSED_MORE:
                raise Fault(f"{queue} had something to give, and {served} was served {passed} times before", queue)
        self._passed |= {pair: 0 for pair in self._passed if pair[0] == served}
