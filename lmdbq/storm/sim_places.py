"""Whether a claim of a simulation took what it may take: in order, within caps and rates, one of a thread, by turns.

The trap: most of what a claim saw is not known for sure. Only tasks that can have been nothing but ready (or running)
count here, and only those whose place is known; what may have moved by itself excuses everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lmdbq.lifecycle import place_of
from lmdbq.model import Claim, Order, State
from lmdbq.sharing import parent_of
from lmdbq.storm.sim_life import READY, RUNNING, Fault, Life
from lmdbq.storm.sim_rules import Rules

_PASSED_MORE: Final = 2  # a turn that was being had, and one for the rounding of weights


def names(op: Claim, life: Life) -> bool:
    """Whether a claim asks for tasks like this one."""
    is_asked_for = life.queue in op.queues or parent_of(life.queue) in op.queues
    return is_asked_for and (not op.types or life.type in op.types)


class Places:
    """Hears of each claimed task, before it runs, and raises Fault."""

    def __init__(self, lives: Mapping[int, Life], rules: Rules) -> None:
        self._lives = lives
        self._rules = rules
        self._holders: dict[tuple[str, str], Life] = {}
        self._passed: dict[tuple[str, str], int] = {}  # (who was passed over, by whom) -> how often

    def claimed(self, op: Claim, life: Life, wall: int, steady: int) -> None:
        """Check one task of a claim."""
        self._check_order(op, life, wall, steady)
        self._check_queue(life, wall, steady)
        if life.options.thread:
            self._check_thread(life, wall, steady)
        if life.options.group:
            self._check_group(life, wall, steady)

    def let_go(self, life: Life) -> None:
        """An edit of when it starts, or a retry by hand, gives its thread back."""
        if self._holders.get((life.queue, life.options.thread)) is life:
            del self._holders[life.queue, life.options.thread]

    def rules_changed(self) -> None:
        """Turns are counted anew."""
        self._passed.clear()

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

    # --- caps and rates -----------------------------------------------------------------------------------------------

    def _check_queue(self, life: Life, wall: int, steady: int) -> None:
        settings = self._rules.queue(life.queue)
        if settings.paused:
            raise Fault(f"it was claimed from {life.queue}, which is paused", life.id, life.queue)
        if settings.max_running:
            running = sum(other.queue == life.queue for other in self._surely_running(wall, steady))
            if running >= settings.max_running:
                raise Fault(f"{running + 1} of {life.queue} run, and {settings.max_running} may", life.id, life.queue)
        if settings.rate and not self._rules.tokens.spend(f"queue {life.queue}", settings.rate, steady):
            raise Fault(f"it was claimed from {life.queue} without a token", life.id, life.queue)

    def _check_group(self, life: Life, wall: int, steady: int) -> None:
        name = life.options.group
        limits = self._rules.group(name)
        if limits.paused:
            raise Fault(f"it was claimed, and its group {name} is paused", life.id, name)
        if limits.max_running is not None:
            running = sum(other.options.group == name for other in self._surely_running(wall, steady))
            if running >= limits.max_running:
                raise Fault(f"{running + 1} of group {name} run, and {limits.max_running} may", life.id, name)
        if limits.rate and not self._rules.tokens.spend(f"group {name}", limits.rate, steady):
            raise Fault(f"it was claimed, and its group {name} had no token", life.id, name)

    def _surely_running(self, wall: int, steady: int) -> Iterator[Life]:
        for life in self._lives.values():
            if life.possible == RUNNING:
                life.settle(wall, steady)
                if life.possible == RUNNING:
                    yield life

    # --- threads ------------------------------------------------------------------------------------------------------

    def _check_thread(self, life: Life, wall: int, steady: int) -> None:
        key = life.queue, life.options.thread
        holder = self._holders.get(key)
        if holder is not None and holder is not life:
            holder.settle(wall, steady)
            held_by = RUNNING if holder.options.rejoin else {State.RUNNING, State.READY, State.SCHEDULED}
            if holder.possible <= held_by:
                problem = f"it was claimed, and {holder.id}, which holds its thread, is {holder.words()}"
                raise Fault(problem, life.id, holder.id)
        if holder is not life:
            self._check_first(key, life, wall, steady)
        self._holders[key] = life

    def _check_first(self, key: tuple[str, str], life: Life, wall: int, steady: int) -> None:
        for other in self._surely_ready(wall, steady):
            is_of_it = other is not life and (other.queue, other.options.thread) == key
            if is_of_it and other.rank and (other.rank, other.id) < (life.rank, life.id):
                raise Fault(f"it was claimed before {other.id}, the first of their thread", life.id, other.id)

    # --- order --------------------------------------------------------------------------------------------------------

    def _surely_ready(self, wall: int, steady: int) -> Iterator[Life]:
        for life in self._lives.values():
            if life.possible == READY:
                life.settle(wall, steady)
                if life.possible == READY:
                    yield life

    def _check_order(self, op: Claim, life: Life, wall: int, steady: int) -> None:
        queues = {life.queue}
        for other in self._surely_ready(wall, steady):
            if other is life or other.options.thread or other.options.group or not names(op, other):
                continue
            if self._is_before(op, other, life):
                raise Fault(f"it was claimed before {other.id}, whose turn it was", life.id, other.id)
            queues.add(other.queue)
        self._check_turns(op, life.queue, queues)

    def _is_before(self, op: Claim, other: Life, life: Life) -> bool:
        own, its = self._rules.queue(life.queue), self._rules.queue(other.queue)
        if other.queue != life.queue:
            if not self._is_free(other.queue):
                return False
            if own.priority != its.priority:
                return its.priority < own.priority
            if self._rules.has_weights:
                return False
        if not (other.rank and life.rank) or not {own.order, its.order} <= {Order.STRICT, Order.AGEING}:
            return False
        place = (*place_of(own, life.priority, life.rank), life.id)
        return (*place_of(its, other.priority, other.rank), other.id) < place

    def _is_free(self, queue: str) -> bool:
        settings = self._rules.queue(queue)
        return not (settings.paused or settings.max_running or settings.rate)

    def _check_turns(self, op: Claim, served: str, ready: set[str]) -> None:
        """Queues that have something to give and share by weight are passed over only as often as weights say."""
        level = self._rules.queue(served).priority
        for queue in ready:
            settings = self._rules.queue(queue)
            if queue == served or settings.priority != level or not settings.weight or not self._is_free(queue):
                continue
            weight = self._rules.queue(served).weight or 1
            # Where weights were changed, the last turn of a queue may have been as long as that of weight 1.
            passed = self._passed[queue, served] = self._passed.get((queue, served), -weight) + 1
            if passed > weight / settings.weight + _PASSED_MORE:
                raise Fault(f"{queue} had something to give, and {served} was served {passed} times before", queue)
        self._passed |= {pair: 0 for pair in self._passed if pair[0] == served}
