"""Sets in a simulation: who their members are, how these may stand, and what may follow.

Nobody is told when a set is decided: it happens in the transaction of what its last member met with. So here it is
known when it *can* have been, by the members' possible states, and when it *must* have been. Each time the store is
asked for all it has, its sets are looked at: one that must be decided has to be, one that cannot be may not; each count
lies between the members that surely ended so and those that may have; once decided it never changes. What follows a set
is a task like those of ``sim_spawned``: there is one, when the set can be decided, with the numbers of the set; and
none after a set that was deleted before.

The trap: members that come back (a retry by hand) would blot out that the set was once complete. So the set remembers
all that its members may have been since it was last known to be undecided.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from lmdbq.ids import format_set_id
from lmdbq.model import (
    NEW_SET,
    Call,
    Condition,
    Enqueue,
    Entry,
    Op,
    Refused,
    SetChanged,
    SetClose,
    SetDelete,
    SetMake,
    SetState,
    SetView,
    TaskSet,
)
from lmdbq.storm.sim_life import PENDING, Fault, Life

COUNTED: Final = (PENDING, "succeeded", "dead", "cancelled", "expired", "deleted")
_DECIDED: Final = (SetState.MET, SetState.UNMET)
_SUCCEEDED: Final = {"succeeded"}


class Known:
    """What is known of one set. low: wall time when it was last known to be undecided, or earlier.

    seen: what each member may have been since then, outcomes: what the set may have become since then. final: as the
    store has shown it once it was decided. followers: the tasks that have come after it.
    """

    def __init__(self, set_id: int, said: TaskSet, wall: int) -> None:
        self.id = set_id
        self.said = said
        self.low = wall
        self.is_closed = self.is_deleted = False
        self.was_over = False  # when it was deleted
        self.members: dict[int, Life] = {}
        self.seen: dict[int, set[str]] = {}
        self.outcomes: set[SetState] = set()
        self.final: SetView | None = None
        self.followers: set[int] = set()

    def look(self, latest: int, steady: int) -> None:
        """Take down what the members may be by now, and what the set may be."""
        for life in self.members.values():
            life.settle(latest, steady)
            self.seen[life.id] |= life.tallies
        self.outcomes |= self._possible()

    def _possible(self) -> set[SetState]:
        ends = [seen - {PENDING} for seen in self.seen.values()]
        may_be_over = self.is_closed and all(ends)
        if self.said.condition is Condition.ANY:
            met = any("succeeded" in end for end in ends)
            unmet = may_be_over and all(end - _SUCCEEDED for end in ends)
        else:
            met = may_be_over and (self.said.condition is Condition.FINISHED or all("succeeded" in end for end in ends))
            unmet = may_be_over and self.said.condition is Condition.ALL and any(end - _SUCCEEDED for end in ends)
        return {state for state, may in ((SetState.MET, met), (SetState.UNMET, unmet)) if may}

    @property
    def must_be_decided(self) -> bool:
        """Whether its members cannot leave it undecided any longer."""
        tallies = [life.tallies for life in self.members.values()]
        if self.said.condition is Condition.ANY and _SUCCEEDED in tallies:
            return True
        return self.is_closed and not any(PENDING in one for one in tallies)

    def undecided(self, wall: int) -> None:
        """Take down that it is not decided yet. Raises Fault."""
        if self.final is not None or self.must_be_decided:
            raise Fault("it is taken for undecided, and its members have ended", *self.subjects)
        self.low = wall
        self.outcomes.clear()
        self.seen = {task_id: life.tallies for task_id, life in self.members.items()}

    def template(self, state: SetState) -> Entry | None:
        """Return what follows a set that was decided so."""
        return self.said.callback if state is SetState.MET else self.said.on_unmet

    @property
    def subjects(self) -> tuple[object, ...]:
        """What its history is about."""
        return (format_set_id(self.id), *self.members, *self.followers)


class Sets:
    """Hears of sets, of members and of what follows; raises Fault. lives: those of the judge."""

    def __init__(self, lives: Mapping[int, Life]) -> None:
        self.sets: dict[int, Known] = {}
        self._lives = lives
        self._over: set[int] = set()  # all that there is to say of them was said
        self._made = 0
        self._wall = self._latest = self._steady = 0

    def at(self, wall: int, latest: int, steady: int) -> None:
        """What follows happens at that time."""
        if wall < self._wall:  # it steps back, and what is decided from now on is forgotten sooner
            for known in self.sets.values():
                known.low = min(known.low, wall)
        self._wall, self._latest, self._steady = wall, latest, steady

    def taking(self) -> list[int]:
        """Return the sets that take members."""
        return [known.id for known in self.sets.values() if not (known.is_closed or known.is_deleted)]

    # --- what is committed --------------------------------------------------------------------------------------------

    def follow(self, op: Op, said: object) -> str:
        """Take down what became of an op, and return words for it; "" if it is of no set."""
        if not isinstance(said, SetChanged):
            return ""
        name = format_set_id(said.id)
        if isinstance(op, SetMake):
            if said.id in self.sets or said.id in self._over:
                raise Fault(f"the id {name} was given twice", name)
            self._made = said.id
            self.sets[said.id] = Known(said.id, op.set, self._wall)
            return f"made {name}, {op.set.condition.name}"
        known = self._known(said.id)
        if isinstance(op, SetClose):
            self._closed(known, said)
        elif isinstance(op, SetDelete):
            self._look(known)
            known.is_deleted, known.was_over = True, known.must_be_decided
        return f"{type(op).__name__} of {name}"

    def subjects(self, said: SetChanged) -> tuple[object, ...]:
        """Return what a line of the history about a set is about."""
        known = self.sets.get(said.id)
        return (format_set_id(said.id),) if known is None else known.subjects

    def _known(self, set_id: int) -> Known:
        known = self.sets.get(set_id)
        if known is None or known.is_deleted:
            raise Fault(f"there is no {format_set_id(set_id)} any more", format_set_id(set_id))
        return known

    def _look(self, known: Known) -> None:
        if not known.is_deleted:  # then no matter what its members do
            known.look(self._latest, self._steady)

    def _closed(self, known: Known, said: SetChanged) -> None:
        self._look(known)
        if said.state is SetState.CLOSED:
            known.undecided(self._wall)
        elif said.state not in known.outcomes:
            raise Fault(f"it was closed when it was {said.state}, which it cannot have been", *known.subjects)
        known.is_closed = True

    def joined(self, op: Enqueue, entry: Entry, life: Life) -> None:
        """A new task of an Enqueue."""
        set_id = self._made if entry.options.set_id == NEW_SET else entry.options.set_id
        if not set_id:
            return
        known = self._known(set_id)
        self._look(known)
        if known.is_closed and not self._is_member(op.lease, set_id):
            raise Fault("it joined a set that is closed", life.id, *known.subjects)
        known.undecided(self._wall)
        life.set_id = set_id
        known.members[life.id] = life
        known.seen[life.id] = {PENDING} | life.tallies

    def _is_member(self, lease: tuple[int, int], set_id: int) -> bool:
        asks = self._lives.get(lease[0])
        return asks is not None and asks.set_id == set_id and asks.may_run and asks.delivery == lease[1]

    def look_at(self, life: Life) -> None:
        """A task is about to be moved by hand: it may come back."""
        known = self.sets.get(life.set_id)
        if known is not None:
            self._look(known)

    def cleared_up(self) -> None:
        """Nothing is left of queues that were purged."""
        for known in self.sets.values():
            self._look(known)
            for life in known.members.values():
                life.cleared_up()

    def refused(self, call: Call, said: Refused) -> None:
        """Check why a call was refused, if a set is the reason."""
        for problem in said.problems:
            known = self.sets.get(_set_of(call, problem.pointer))
            if known is None or known.is_deleted:
                continue
            self._look(known)
            if problem.code == "set_not_found" and not self._may_be_forgotten(known):
                raise Fault("it was not found, and nobody has deleted it", *known.subjects)
            if problem.code == "set_decided" and not known.outcomes:
                raise Fault("somebody was told that it is decided, and it cannot be", *known.subjects)
            if problem.code == "set_closed" and not (known.is_closed and known.final is None):
                raise Fault("somebody was told that it is closed, and it is not", *known.subjects)

    def _may_be_forgotten(self, known: Known) -> bool:
        remove_at = known.final.remove_at if known.final is not None else known.low + known.said.keep_ns
        return bool(known.outcomes) and self._latest >= remove_at

    # --- what follows -------------------------------------------------------------------------------------------------

    def born(self, task_id: int, set_id: int, payload: bytes) -> None:
        """Take down a task that follows a set."""
        known = self.sets.get(set_id)
        if known is None:
            raise Fault(f"it follows {format_set_id(set_id)}, after which nothing more may come", task_id)
        self._look(known)
        told = json.loads(payload)
        state = SetState[told["state"].upper()]
        known.followers.add(task_id)
        if state not in known.outcomes or known.template(state) is None:
            raise Fault(f"it follows a set that was {state.word}, which it cannot have been", *known.subjects)
        if len(known.followers) > 1:
            raise Fault(f"a set was followed by {len(known.followers)} tasks", *known.subjects)
        self._check_counts(known, told | {PENDING: None})
        if known.final is not None and any(told[name] != getattr(known.final, name) for name in COUNTED[1:]):
            raise Fault(f"it was told {told}, and its set says {known.final}", *known.subjects)

    def _check_counts(self, known: Known, told: Mapping[str, int | None]) -> None:
        """Check the counts of a decided set; None: not told."""
        tallies = known.seen.values()
        if known.said.condition is not Condition.ANY:
            tallies = [seen - {PENDING} for seen in known.seen.values()]  # type: ignore[assignment]
        _check(known, told, tallies)

    # --- what is stored -----------------------------------------------------------------------------------------------

    def compare(self, views: Iterable[SetView]) -> None:
        """Compare all sets that the store has with what there can be. Call it when all its tasks were compared."""
        found = {view.id: view for view in views}
        for set_id in found:
            self._known(set_id)
        for known in list(self.sets.values()):
            if known.is_deleted:
                self._end(known)
                continue
            self._look(known)
            view = found.get(known.id)
            if view is not None:
                self._compare_one(known, view)
            elif not self._may_be_forgotten(known):
                raise Fault("a set is gone, and its time was not over", *known.subjects)
            else:
                self._end(known)

    def _compare_one(self, known: Known, view: SetView) -> None:
        counts = {"members": view.members} | {name: getattr(view, name) for name in COUNTED}
        if view.state in _DECIDED:
            if known.final is not None and known.final != view:
                raise Fault(f"it was decided, and has changed: {known.final}, {view}", *known.subjects)
            if view.state not in known.outcomes:
                raise Fault(f"it is {view.state.word}, which it cannot be", *known.subjects)
            if known.final is None:
                self._check_counts(known, counts)
            known.final, known.outcomes = view, {view.state}
            self._check_followers(known, {known.template(view.state) is not None})
            return
        if known.is_closed != (view.state is SetState.CLOSED):
            raise Fault(f"it is {view.state.word}, and somebody was told otherwise", *known.subjects)
        known.undecided(self._wall)
        _check(known, counts, known.seen.values())
        self._check_followers(known, {False})

    def _end(self, known: Known) -> None:
        allowed = {known.template(state) is not None for state in known.outcomes}
        if known.is_deleted and known.final is None and not known.was_over:
            allowed.add(False)
        self._check_followers(known, allowed)
        del self.sets[known.id]
        self._over.add(known.id)

    def _check_followers(self, known: Known, allowed: set[bool]) -> None:
        if bool(known.followers) not in allowed:
            raise Fault(f"a set was followed by {len(known.followers)} tasks", *known.subjects)


def _check(known: Known, told: Mapping[str, int | None], tallies: Iterable[set[str]]) -> None:
    if told["members"] != len(known.members):
        raise Fault(f"it says {told['members']} members, and {len(known.members)} have joined", *known.subjects)
    least: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for seen in tallies:
        most.update(seen)
        least.update(seen if len(seen) == 1 else ())
    for name in COUNTED:
        number = told[name]
        if number is not None and not least[name] <= number <= most[name]:
            raise Fault(f"it says {number} are {name}; they are {least[name]} to {most[name]}", *known.subjects)


def _set_of(call: Call, pointer: str) -> int:
    """Return the set that a problem is about; 0: none that is known by its id."""
    for op in call.ops:
        if isinstance(op, SetClose | SetDelete) and pointer == "/set_id":
            return op.id
        if isinstance(op, Enqueue) and pointer.startswith("/entries/") and pointer.endswith("/set_id"):
            return op.entries[int(pointer.split("/")[2])].options.set_id
    return 0
