"""The judge of a simulation: follows every task through what was committed, by ``lifecycle.MOVES`` alone.

A task has a set of *possible* states, for some moves are told to nobody: a promotion, a lapse, an expiry. Each op that
names the task narrows the set, and its answer must be one that some possible state allows. A delivery is a fence: one
claim may have it, one report may end it, and no other may start before it has ended or its lease is over. What the
judge knows it has read from answers; once in a while the store is asked whether each task is where it may be.

What else must hold is asked of others: ``sim_answers`` (what callers are told), ``sim_places`` (order, caps, rates,
threads), ``sim_keys`` (dedupe keys), ``sim_sets`` (sets), ``sim_spawned`` (schedules, what follows a death).

The trap: silent moves must be allowed exactly when the clock allows them, or the judge excuses everything. So leases,
schedules and expiries are kept here as they were answered; a lease may be longer than that, never shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from lmdbq.lifecycle import Event
from lmdbq.model import (
    Applied,
    Call,
    Cancel,
    Changed,
    Claim,
    Claimed,
    ClaimedTask,
    Completion,
    DaemonStart,
    Delete,
    Edit,
    Enqueue,
    Enqueued,
    Entry,
    Extend,
    Extended,
    Extension,
    Op,
    Outcome,
    Placed,
    Prune,
    Purge,
    QueueDelete,
    Refused,
    Report,
    Reported,
    Retry,
    SetView,
    State,
    Status,
    Swept,
    Task,
)
from lmdbq.store.base import phase
from lmdbq.storm.sim_answers import Answers
from lmdbq.storm.sim_keys import Keys
from lmdbq.storm.sim_life import Fault, Life, word
from lmdbq.storm.sim_places import Places, names
from lmdbq.storm.sim_rules import Rules
from lmdbq.storm.sim_sets import Sets
from lmdbq.storm.sim_spawned import Spawned

_GONE: Final = (Outcome.GONE, Outcome.NOT_FOUND)
_REPORT_EVENTS: Final = {
    Status.SUCCEEDED: Event.SUCCEED,
    Status.FAILED: Event.FAIL,
    Status.RELEASED: Event.RELEASE,
}
_CHANGE_EVENTS: Final[dict[type, Event]] = {
    Cancel: Event.CANCEL,
    Edit: Event.EDIT,
    Retry: Event.RETRY,
    Delete: Event.DELETE,
}


class Judge:
    """Hears what is committed, in its order, and raises Fault. ``note`` writes the history."""

    def __init__(self, note: Callable[..., None]) -> None:
        self.lives: dict[int, Life] = {}
        self.rules = Rules()
        self.places = Places(self.lives, self.rules)
        self.spawned = Spawned()
        self._keys = Keys()
        self.sets = Sets(self.lives)
        self.answers = Answers()
        self.unclaimed = self.answers.unclaimed
        self.accepted = 0
        self._note = note
        self.latest = 0  # wall time may step back, and what it has done by then stays
        self._gone: set[int] = set()

    # --- what is committed --------------------------------------------------------------------------------------------

    def hear(self, calls: Sequence[Call], applied: Applied, wall: int, steady: int) -> None:
        """Follow an apply, in the order in which its calls ran."""
        self.latest = max(self.latest, wall)
        self.sets.at(wall, self.latest, steady)
        for index in sorted(range(len(calls)), key=lambda index: phase(calls[index].ops[0])):
            call, outcome = calls[index], applied.outcomes[index]
            self.answers.committed(call, outcome, wall, self.latest)
            if isinstance(outcome, Refused):
                self.sets.refused(call, outcome)
            elif not outcome.replayed:
                for op, said in zip(call.ops, outcome.outcomes, strict=True):
                    self._follow(op, said, wall, steady)

    def _follow(self, op: Op, said: Any, wall: int, steady: int) -> None:
        if isinstance(op, Enqueue):
            self._enqueued(op, said, wall, steady)
        elif isinstance(op, Claim):
            self._claimed(op, said, wall, steady)
        elif isinstance(op, Report):
            for completion, reported in zip(op.completions, said.outcomes, strict=True):
                self._reported(completion, reported, wall, steady)
        elif isinstance(op, Extend):
            for extension, extended in zip(op.extensions, said.outcomes, strict=True):
                self._extended(extension, extended, wall, steady)
        elif isinstance(op, Cancel | Edit | Retry | Delete):
            for changed in said.outcomes:
                self._changed(op, changed, wall, steady)
        elif isinstance(op, DaemonStart):
            self._note("a daemon starts")
        else:
            self._set(op, said, wall, steady)

    def _set(self, op: Op, said: Any, wall: int, steady: int) -> None:
        if isinstance(op, Purge | QueueDelete):
            for life in self.lives.values():
                if life.queue == op.queue:
                    self.places.purged(life)
                    life.settle(max(wall, self.latest), steady)
                    life.purge()
            self._keys.purged(op.queue)
            self._note("removed all of", op.queue)
        if isinstance(op, Prune) and not said.more:
            self.places.cleared_up()
            self.sets.cleared_up()
        if words := self.sets.follow(op, said):
            self._note(words, *self.sets.subjects(said))
        elif self.rules.follow(op):
            self.places.rules_changed()
            self._note(f"set: {op}", getattr(op, "queue", ""), getattr(op, "group", ""))
        elif self.spawned.follow(op, said, wall) and not isinstance(said, Swept):
            self._note(f"set: {op}", getattr(op, "name", ""))
        elif getattr(said, "count", 0):
            self._note(f"{type(op).__name__} moved {said.count}")

    def settle(self, wall: int, steady: int) -> None:
        """Take down that time has passed, before one of the clocks begins anew."""
        self.latest = max(self.latest, wall)
        for life in self.lives.values():
            life.settle(self.latest, steady)
        self.rules.tokens.settle(steady)

    def rearm(self, steady: int) -> None:
        """A new boot: every lease begins anew, with the length that its claim gave it."""
        for life in self.lives.values():
            life.keepalive_ns = life.claimed_ns
            life.deadline = steady + life.keepalive_ns
        self.rules.tokens.rearm(steady)

    def _enqueued(self, op: Enqueue, said: Enqueued, wall: int, steady: int) -> None:
        for index, entry in enumerate(op.entries):
            placed = said.placed(index)
            if placed.outcome is Outcome.ENQUEUED and (placed.id in self.lives or placed.id in self._gone):
                raise Fault("an id was given twice", placed.id)
            if entry.options.dedupe is not None:
                for life in self.lives.values():
                    life.settle(max(wall, self.latest), steady)
                self._keys.check(entry, placed, said.now, self.latest)
            if placed.outcome is Outcome.ENQUEUED:
                life = self.lives[placed.id] = Life(placed.id, entry.queue, entry.type, placed.state, entry)
                life.due_at, life.expires_at = placed.scheduled_at, placed.expires_at
                life.rank = placed.scheduled_at
                self._keys.taken(entry, life, said.now)
                self.sets.joined(op, entry, life)
                self._note("enqueued into", entry.queue, placed.id)
            elif placed.outcome is Outcome.OVERWRITTEN:
                self._overwritten(entry, placed)

    def _overwritten(self, entry: Entry, placed: Placed) -> None:
        life = self._known(placed.id)
        assert placed.state is not None
        life.move(Event.EDIT, placed.state, "an overwrite")
        self._keys.overwritten(entry, life)
        if entry.options.dedupe is not None and "scheduled_at" in entry.options.dedupe.overwrite:
            life.due_at = life.rank = placed.scheduled_at
            self.places.let_go(life)
        self._note("overwritten", placed.id)

    def _claimed(self, op: Claim, said: Claimed, wall: int, steady: int) -> None:
        self.places.begin()
        for task in said.tasks:
            life = self.lives.get(task.id) or self._born(task)
            life.settle(max(wall, self.latest), steady)
            if op.claim_id and life.claim_id == op.claim_id and life.delivery == task.deliveries:
                self._note("claimed again by its claim id", task.id)
                continue
            self._check_claim(op, task, life, wall)
            self.places.claimed(op, life, max(wall, self.latest), steady)
            life.move(Event.CLAIM, State.RUNNING, "a claim")
            life.delivery, life.claim_id = task.deliveries, op.claim_id
            life.claimed_ns = life.keepalive_ns = task.keepalive_ns
            life.deadline = steady + task.keepalive_ns
            self.unclaimed[task.id, task.deliveries] = said
            self._note(f"claimed, delivery {task.deliveries}, from", task.queue, task.id)

    def _check_claim(self, op: Claim, task: ClaimedTask, life: Life, wall: int) -> None:
        if task.deliveries != life.delivery + 1:
            raise Fault(f"delivery {task.deliveries} follows {life.delivery}", task.id)
        if State.READY not in life.possible:
            raise Fault(f"it was claimed, and can only have been {life.words()}", task.id)
        if not names(op, life):
            raise Fault(f"it was claimed from {life.queue} by {op}", task.id, life.queue)
        if life.payload is not None and life.payload != task.payload:
            raise Fault(f"it was given with {task.payload!r} instead of {life.payload!r}", task.id)
        if 0 < task.expires_at <= wall:
            raise Fault("it was claimed after its time", task.id)

    def _reported(self, completion: Completion, said: Reported, wall: int, steady: int) -> None:
        life = self._known(completion.id)
        life.settle(max(wall, self.latest), steady)
        delivery = completion.delivery
        self._note(f"report {completion.status.name} of delivery {delivery}: {said.outcome.value}", completion.id)
        if said.outcome is not Outcome.OK:
            life.refuse(delivery, said.outcome)
        elif delivery != life.delivery:
            raise Fault(f"a report of delivery {delivery} was accepted; it is at {life.delivery}", life.id)
        elif delivery in life.ended:
            if life.ended[delivery] is not completion.status:
                raise Fault(f"two reports of delivery {delivery} were accepted", life.id)
        else:
            life.move(_REPORT_EVENTS[completion.status], said.state, f"a report {completion.status.name}")
            life.ended[delivery] = completion.status
            life.due_at = 0 if completion.delay_ns is None else wall + completion.delay_ns
            if completion.status is not Status.RELEASED or completion.delay_ns is not None:
                life.rank = life.due_at
            self.unclaimed.pop((life.id, delivery), None)
            self.accepted += 1

    def _extended(self, extension: Extension, said: Extended, wall: int, steady: int) -> None:
        life = self._known(extension.id)
        life.settle(max(wall, self.latest), steady)
        if said.outcome is not Outcome.OK:
            life.refuse(extension.delivery, said.outcome)
            return
        if extension.delivery != life.delivery or not life.may_run:
            raise Fault(f"delivery {extension.delivery} was extended; it is {life.words()}", life.id)
        life.possible = {State.RUNNING}
        life.keepalive_ns = extension.keepalive_ns or life.keepalive_ns
        life.deadline = steady + life.keepalive_ns
        self._note(f"delivery {extension.delivery} extended", life.id)

    def _changed(self, op: Op, said: Changed, wall: int, steady: int) -> None:
        life = self._known(said.id)
        life.settle(max(wall, self.latest), steady)
        self._note(f"{type(op).__name__}: {said.outcome.value}", said.id)
        if said.outcome in _GONE:
            if None not in life.possible:
                raise Fault(f"{type(op).__name__} found it gone; it can only be {life.words()}", life.id)
            life.possible = {None}
        elif said.outcome in (Outcome.OK, Outcome.CANCEL_REQUESTED):
            self.sets.look_at(life)
            life.move(_CHANGE_EVENTS[type(op)], said.state, type(op).__name__)
            if isinstance(op, Retry):
                life.rank, life.death_is_known = wall, False
                life.retries += 1
                self._keys.retried(life, wall)
                self.places.let_go(life)
            elif isinstance(op, Edit):
                self._edited(op, life, wall)

    def _edited(self, op: Edit, life: Life, wall: int) -> None:
        if "payload" in op.fields:
            life.payload = op.entry.payload
        if "priority" in op.fields:
            life.priority = op.entry.priority
        if "scheduled_at" in op.fields:
            life.due_at = life.rank = wall + op.entry.delay_ns
            self.places.let_go(life)

    def _born(self, task: ClaimedTask | Task) -> Life:
        """Return a task that nobody has enqueued, or raise Fault: somebody must have had a reason to."""
        if task.id in self._gone:
            return self._known(task.id)
        if task.options.callback_of:
            self.sets.born(task.id, task.options.callback_of, task.payload)
        else:
            self.spawned.born(task.id, task.payload, task.options.metadata)
        said = Entry(task.payload, priority=task.priority, options=task.options)
        waits = isinstance(task, Task) and task.state is State.SCHEDULED
        state = State.SCHEDULED if waits else State.READY
        life = self.lives[task.id] = Life(task.id, task.queue, task.type, state, said)
        life.due_at = life.rank = task.scheduled_at
        life.expires_at = task.expires_at
        self._note("came by itself into", task.queue, task.id)
        return life

    def _known(self, task_id: int) -> Life:
        life = self.lives.get(task_id)
        if life is None and task_id in self._gone:
            return Life(task_id, "", "", None)
        if life is None:
            raise Fault("nobody has ever enqueued it", task_id)
        return life

    # --- what is stored -----------------------------------------------------------------------------------------------

    def compare(self, stored: Iterable[Task], wall: int, steady: int, sets: Iterable[SetView] = ()) -> None:
        """Compare all that the store has with what there can be, and forget those that are gone for good."""
        self.sets.at(wall, max(wall, self.latest), steady)
        found = {task.id: task for task in stored}
        for task in found.values():
            if task.id not in self.lives:
                self._born(task)
        for life in list(self.lives.values()):
            state = found[life.id].state if life.id in found else None
            life.settle(max(wall, self.latest), steady)
            if state not in life.possible:
                raise Fault(f"it is {word(state)}; it can only be {life.words()}", life.id)
            life.narrow(state)
            self.spawned.check_death(life)
            if state is None:
                del self.lives[life.id]
                self._gone.add(life.id)
        self.spawned.check()
        self.sets.compare(sets)
