"""Those who change things in a simulation: tasks, the settings of queues and groups, and schedules.

Each of them sets right, when the world grows calm, what it has set: or something would wait for ever, rightly.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from lmdbq.model import (
    NEW_SET,
    Cancel,
    CatchUp,
    Condition,
    Delete,
    Edit,
    Enqueue,
    Entry,
    GroupPatch,
    GroupRule,
    GroupSettings,
    Op,
    Options,
    Order,
    Purge,
    QueuePatch,
    QueuePut,
    QueueSettings,
    Rate,
    Retry,
    RuleDelete,
    RulePut,
    Schedule,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    SetClose,
    SetDelete,
    SetMake,
    TaskSet,
)
from lmdbq.storm.sim_clients import GROUPS, QUEUES, SHARERS, TYPES, Client, Making, Producer, Worker
from lmdbq.storm.sim_parts import seconds_ns
from lmdbq.storm.sim_spawned import AFTER, HOME, cron_of
from lmdbq.storm.sim_world import Asked

PURGED: Final = tuple(queue for queue in QUEUES if queue != HOME)
RULES: Final = ("g*", "h?")
GROUP_FIELDS: Final = ("paused", "max_running", "rate")
SCHEDULES_MAX: Final = 3
SETS_MAX: Final = 5


class Meddler(Client):
    """Cancels, edits, deletes and retries tasks; purges queues."""

    async def run(self) -> None:
        while not self.world.calm:
            await self.pause(0.5)
            await self.insist(Asked(self._op()), 1)

    def _op(self) -> Op:
        chosen = self.chosen
        known = list(self.world.judge.lives)
        some = tuple(chosen.sample(known, min(len(known), chosen.randint(1, 3)))) or (1,)
        kind = chosen.random()
        if kind < 0.3:
            return Cancel(some)
        if kind < 0.55:
            return self._edit(some[0])
        if kind < 0.8:
            return Retry(some)
        return Delete(some) if kind < 0.96 else Purge(chosen.choice(PURGED))

    def _edit(self, task_id: int) -> Op:
        chosen = self.chosen
        fields = tuple(chosen.sample(("payload", "priority", "scheduled_at"), chosen.randint(1, 2)))
        life = self.world.judge.lives.get(task_id)
        if life is not None and life.options.dedupe is not None and life.options.dedupe.fold is not None:
            fields = ("priority",)  # its payload is what the next one is folded into
        delay_ns = seconds_ns(chosen.choice((0.0, 0.3, 1.0)))
        payload = b"%d" % next(self.world.words)
        return Edit(task_id, Entry(payload, priority=chosen.choice((-3, 0, 7)), delay_ns=delay_ns), fields)


class Settler(Client):
    """Pauses, caps, weighs and slows down queues and groups."""

    async def run(self) -> None:
        while not self.world.calm:
            await self.pause(0.7)
            await self.insist(Asked(self._op()), 1)
        for queue in QUEUES:
            await self.insist(Asked(QueuePut(queue, QueueSettings())), 100)
        for pattern in RULES:
            await self.insist(Asked(RulePut(GroupRule(pattern, GroupSettings()))), 100)
            await self.insist(Asked(RuleDelete(pattern)), 1)
        for group in GROUPS:
            await self.insist(Asked(GroupPatch(group, GroupSettings(), GROUP_FIELDS)), 100)

    def _op(self) -> Op:
        chosen = self.chosen
        kind = chosen.random()
        if kind < 0.4:
            return self._queue_op()
        settings = self._group_settings()
        if kind < 0.47:
            return GroupPatch(chosen.choice(SHARERS), settings, ("weight",))
        if kind < 0.8:
            fields = tuple(chosen.sample(GROUP_FIELDS, chosen.randint(1, 3)))
            return GroupPatch(chosen.choice(GROUPS), settings, fields)
        pattern = chosen.choice(RULES)
        return RulePut(GroupRule(pattern, replace(settings, weight=0))) if kind < 0.92 else RuleDelete(pattern)

    def _queue_op(self) -> Op:
        chosen = self.chosen
        settings = QueueSettings(
            paused=chosen.random() < 0.5,
            max_running=chosen.choice((0, 0, 1, 3)),
            rate=self._rate(),
            weight=chosen.choice((0, 1, 2, 3)),
            order=chosen.choice((*Order, Order.FAIR)),
            ageing_ns=seconds_ns(chosen.choice((0.1, 1.0))),
            priority=chosen.choice((0, 0, 0, 1)),
        )
        fields = (("paused",), ("max_running",), ("rate",), ("weight",), ("order", "ageing_ns"), ("priority",))
        return QueuePatch(chosen.choice(QUEUES), settings, chosen.choice(fields))

    def _group_settings(self) -> GroupSettings:
        caps = (None, None, 1, 1, 2, 3, 0)
        weight = self.chosen.choice((0, 1, 2, 3))
        return GroupSettings(self.chosen.random() < 0.2, self.chosen.choice(caps), self._rate(), weight)

    def _rate(self) -> Rate | None:
        if self.chosen.random() < 0.6:
            return None
        return Rate(self.chosen.choice((1, 2, 5)), seconds_ns(self.chosen.choice((0.3, 1.0))))


class Planner(Client):
    """Has some schedules, changes them, and puts others in their place. A name is never given twice."""

    async def run(self) -> None:
        while not self.world.calm:
            await self.pause(3.0)
            await self.insist(Asked(self._op()), 1)
        while self.world.judge.spawned.schedules:
            await self.insist(Asked(ScheduleDelete(next(iter(self.world.judge.spawned.schedules)))), 1)

    def _op(self) -> Op:
        chosen = self.chosen
        names = list(self.world.judge.spawned.schedules)
        if len(names) < SCHEDULES_MAX:
            return SchedulePut(f"s{next(self.world.words)}", self._schedule())
        name, kind = chosen.choice(names), chosen.random()
        if kind < 0.3:
            return ScheduleDelete(name)
        if kind < 0.6:
            return SchedulePut(name, self._schedule(), keep_paused=False)
        return SchedulePatch(name, Schedule("", Entry(), paused=kind < 0.8), ("paused",))

    def _schedule(self) -> Schedule:
        chosen = self.chosen
        entry = Entry(queue=HOME, type="x", priority=chosen.choice((0, 2)))
        catch_up = chosen.choices((CatchUp.NONE, CatchUp.ONE, CatchUp.ALL), (4, 8, 1))[0]
        return Schedule(cron_of(chosen.choice((2, 5, 10, 20))), entry, catch_up=catch_up, paused=chosen.random() < 0.1)


class Gatherer(Producer):
    """Makes sets, adds to them, closes them and deletes them; none stays open."""

    async def run(self) -> None:
        while not self.world.calm:
            await self.pause(1.2)
            asked = self._asked()
            await self.insist(asked, 4 if asked.memo else self.chosen.choice((1, 3)))
        while taking := self.world.judge.sets.taking():
            await self.insist(Asked(SetClose(taking[0])), 1)

    def _asked(self) -> Asked:
        chosen, known = self.chosen, self.world.judge.sets
        kind = chosen.random()
        if len(known.taking()) < SETS_MAX and kind < 0.5:
            ops: list[Op] = [SetMake(self._set())]
            ops += [Enqueue(self.entries(NEW_SET, chosen.randint(1, 3)))] if kind < 0.3 else []
            ops += [SetClose(NEW_SET)] if kind < 0.15 else []
            return Asked(*ops, memo=self.memo())
        set_id = chosen.choice(list(known.sets) or [1])
        if kind < 0.8:
            return Asked(SetClose(set_id))
        if kind < 0.9:
            return Asked(Enqueue(self.entries(set_id, 1)), SetClose(set_id), memo=self.memo())
        return Asked(SetDelete(set_id)) if kind < 0.97 else Asked(Enqueue(self.entries(set_id, 1)))

    def _set(self) -> TaskSet:
        keep_ns = seconds_ns(self.chosen.choice((2.0, 60.0)))
        return TaskSet(self.chosen.choice(tuple(Condition)), self._follower(), self._follower(), keep_ns)

    def _follower(self) -> Entry | None:
        chosen = self.chosen
        if chosen.random() < 0.2:
            return None
        options = Options(group=chosen.choice(GROUPS)) if chosen.random() < 0.3 else Options()
        delay_ns = seconds_ns(chosen.choice((0.0, 0.0, 0.5)))
        queue, type_ = chosen.choice((HOME, AFTER)), chosen.choice(TYPES)
        return Entry(queue=queue, type=type_, priority=chosen.choice((0, -1)), delay_ns=delay_ns, options=options)


EVERYBODY: Final[tuple[tuple[Making, int], ...]] = (
    (Producer, 3),
    (Worker, 6),
    (Meddler, 1),
    (Settler, 1),
    (Planner, 1),
    (Gatherer, 1),
)
