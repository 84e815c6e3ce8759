"""What a simulated store enqueues by itself: tasks of schedules, and those that follow a death.

Nobody is told of them: they are seen when they are claimed, or when the store is asked for all it has. So each says
whose it is (``metadata.schedule``, or the ``task_id`` in its payload), and here it is known which there must be: for a
schedule a task for each instant that was dealt with, by arithmetic of seconds; for a death, one.

The trap: they must not vanish unseen. So they are in a queue that is never purged, and never expire.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from msgspec.structs import replace

from lmdbq import limits
from lmdbq.ids import parse_id
from lmdbq.limits import SECOND_NS
from lmdbq.model import (
    CatchUp,
    Fire,
    Op,
    Schedule,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    Swept,
)
from lmdbq.storm.sim_life import Fault, Life

HOME: Final = "d"  # the queue of what is spawned
AFTER: Final = "e"  # that of some which follows sets: nothing else comes there and makes up for a forgotten wake-up


def cron_of(seconds: int) -> str:
    """Return the expression of "each so many seconds"; ``seconds`` divides a minute."""
    return f"*/{seconds} * * * * *"


class Planned(NamedTuple):
    """A schedule, when it was created among others, and where it stands: the next instant and the last (0: none)."""

    number: int
    schedule: Schedule
    next_at: int
    last_at: int = 0

    @property
    def period_ns(self) -> int:
        """How long it is from one instant to the next."""
        return int(self.schedule.cron.removeprefix("*/").partition(" ")[0]) * SECOND_NS

    def after(self, instant: int) -> int:
        """Return the first instant that is later."""
        return (instant // self.period_ns + 1) * self.period_ns


class Spawned:
    """Hears of schedules, of instants and of tasks nobody has enqueued; raises Fault."""

    def __init__(self) -> None:
        self.schedules: dict[str, Planned] = {}
        self._instants: dict[tuple[str, int], int] = {}  # -> the task, 0 = not seen yet
        self._followers: dict[int, set[int]] = {}  # of whom -> who
        self._numbers = 0

    # --- schedules ----------------------------------------------------------------------------------------------------

    def follow(self, op: Op, said: object, wall: int) -> bool:
        """Take down what became of an op; False if it is of no schedule."""
        if isinstance(op, SchedulePut):
            self._put(op.name, op.schedule, wall)
        elif isinstance(op, SchedulePatch):
            fields = {name: getattr(op.schedule, name) for name in op.fields}
            self._put(op.name, replace(self.schedules[op.name].schedule, **fields), wall)
        elif isinstance(op, ScheduleDelete):
            del self.schedules[op.name]
        elif isinstance(op, Fire) and isinstance(said, Swept):
            count = self._fire(op.limit, wall)
            if count != said.count:
                raise Fault(f"{said.count} tasks were enqueued by schedules, and {count} were due", "Fire")
        else:
            return False
        return True

    def _put(self, name: str, schedule: Schedule, wall: int) -> None:
        known = self.schedules.get(name)
        if known is None:
            self._numbers += 1
            known = Planned(self._numbers, schedule, 0)
        goes_on = known.next_at and not schedule.paused and schedule.cron == known.schedule.cron
        new = known._replace(schedule=schedule)
        if not goes_on:
            new = new._replace(next_at=0 if schedule.paused else new.after(max(wall, known.last_at)))
        self.schedules[name] = new

    def _fire(self, limit: int, wall: int) -> int:
        count = 0
        while count < limit:
            due = [(one.next_at, one.number, name) for name, one in self.schedules.items() if 0 < one.next_at <= wall]
            if not due:
                break
            count += self._fire_one(min(due)[2], limit - count, wall)
        return count

    def _fire_one(self, name: str, room: int, wall: int) -> int:
        one = self.schedules[name]
        missed_upto = wall - limits.FIRE_GRACE_NS
        first, most = one.next_at, limits.CATCH_UP_INSTANTS_MAX
        if first <= missed_upto and one.schedule.catch_up is CatchUp.ONE:
            most = 1
        elif one.schedule.catch_up is CatchUp.NONE:
            first = max(first, one.after(missed_upto))
        last = one.after(wall) - one.period_ns
        instants = list(range(max(first, last - (most - 1) * one.period_ns), last + 1, one.period_ns))
        given, rest = instants[:room], instants[room:]
        self._instants |= dict.fromkeys(((name, instant) for instant in given), 0)
        self.schedules[name] = one._replace(
            next_at=rest[0] if rest else one.after(wall), last_at=max(given, default=one.last_at)
        )
        return len(given)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def born(self, task_id: int, payload: bytes, metadata: bytes) -> None:
        """Take down a task that nobody has enqueued: somebody must have had a reason."""
        told = json.loads(metadata or b"{}").get("schedule")
        if told is not None:
            key = told["name"], told["instant_at"]
            if key not in self._instants:
                raise Fault(f"schedule {key[0]} gave a task for {key[1]}, which was not due", task_id, *key)
            if self._instants[key]:
                other = self._instants[key]
                raise Fault(f"schedule {key[0]} gave another task for {key[1]}: {other}", task_id, other, *key)
            self._instants[key] = task_id
            return
        follows = json.loads(payload)
        if not isinstance(follows, dict) or "task_id" not in follows:
            raise Fault("nobody has ever enqueued it", task_id)
        self._followers.setdefault(parse_id(follows["task_id"]), set()).add(task_id)

    def check(self) -> None:
        """All that was due by now must have been seen. Call it when the store was asked for all it has."""
        for (name, instant), task_id in self._instants.items():
            if not task_id:
                raise Fault(f"schedule {name} gave no task for {instant}", name)
        self._instants = {key: task_id for key, task_id in self._instants.items() if key[0] in self.schedules}

    def check_death(self, life: Life) -> None:
        """A task has been followed as often as it died. Call it when the store was asked for all it has."""
        if life.options.on_dead is not None:
            followers = len(self._followers.get(life.id, ()))
            if not life.deaths <= followers <= life.retries + 1:
                raise Fault(f"it died {life.deaths} times, and was followed {followers} times", life.id)
