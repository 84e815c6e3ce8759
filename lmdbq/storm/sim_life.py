"""What is known of one task in a simulation: the states it may be in, by ``lifecycle.MOVES`` and the clock alone."""

from __future__ import annotations

from typing import Final

from lmdbq import limits
from lmdbq.lifecycle import MOVES, Event
from lmdbq.model import ENDED, Entry, Options, Outcome, State, Status

MaybeState = State | None
READY: Final = {State.READY}
RUNNING: Final = {State.RUNNING}
ALIVE: Final = frozenset({State.SCHEDULED, State.READY, State.RUNNING})
PENDING: Final = "pending"
_PLAIN: Final = Entry()
_GONE_BY: Final = {
    Event.SUCCEED: {"succeeded"},
    Event.FAIL: {"dead", "cancelled"},
    Event.RELEASE: {"cancelled"},
    Event.CANCEL: {"cancelled"},
}


def word(state: MaybeState) -> str:
    """Return a state for people."""
    return "gone" if state is None else state.word


class Fault(Exception):
    """The history cannot be; ``subjects`` are the tasks, queues and requests whose history shows it."""

    def __init__(self, problem: str, *subjects: object) -> None:
        super().__init__(problem)
        self.subjects = {str(subject) for subject in subjects}


class Life:
    """What is known of one task. rank: where it stands in its queue, 0 = not known. moves: how often it was moved.

    gone_as: how it may have ended, in the words in which sets count, if it is gone.
    """

    def __init__(self, task_id: int, queue: str, type_: str, possible: MaybeState, said: Entry = _PLAIN) -> None:
        self.id = task_id
        self.queue = queue
        self.type = type_
        self.possible: set[MaybeState] = {possible}
        self.priority = said.priority
        self.rank = 0
        self.options: Options = said.options
        self.payload: bytes | None = None  # what its worker must get, None = not known
        self.delivery = 0
        self.claim_id = ""
        self.claimed_ns = 0  # the length of its lease when it was claimed
        self.keepalive_ns = 0
        self.deadline = 0  # steady ns: the lease does not end before
        self.expires_at = 0
        self.due_at = 0  # 0: not known
        self.ended: dict[int, Status] = {}  # delivery -> the report that was accepted
        self.retries = 0  # by hand
        self.deaths = 0  # that are known of
        self.death_is_known = False
        self.set_id = 0
        self.gone_as: set[str] = set()
        self.moves = 0

    def settle(self, wall: int, steady: int) -> None:
        """Add the states it may have come to by itself."""
        while True:
            more = {after for before in self.possible for after in self._silent(before, wall, steady)}
            if more <= self.possible:
                return
            self.possible |= more

    def _silent(self, state: MaybeState, wall: int, steady: int) -> set[MaybeState]:
        found: set[MaybeState] = set()
        if state is State.SCHEDULED and self.due_at <= wall:
            found |= MOVES[state, Event.PROMOTE]
        if state in (State.SCHEDULED, State.READY) and 0 < self.expires_at <= wall:
            found |= MOVES[state, Event.EXPIRE]
            self.gone_as.add("expired")
        if state is State.READY and self.delivery >= self.deliveries_max:  # a claim that meets it ends it
            found |= MOVES[state, Event.CLAIM] - RUNNING
            self.gone_as.add("dead")
        if state is State.RUNNING and steady >= self.deadline:
            self.due_at = self.rank = 0
            found |= MOVES[state, Event.LAPSE]
            self.gone_as |= _GONE_BY[Event.FAIL]
        if state is not None and state in ENDED:
            found |= MOVES[state, Event.PRUNE]
            self.gone_as.add(state.word)
        return found

    def may_be_ready(self, wall: int, steady: int) -> bool:
        """Whether it may be ready by now."""
        possible = self.possible
        return (
            State.READY in possible
            or (State.SCHEDULED in possible and self.due_at <= wall)
            or (State.RUNNING in possible and steady >= self.deadline)
        )

    @property
    def deliveries_max(self) -> int:
        """With how many deliveries a claim may find that it was given often enough."""
        retry = self.options.retry
        attempts = (retry.max_attempts if retry is not None else 0) or limits.ATTEMPTS_DEFAULT
        return attempts * limits.DELIVERIES_PER_ATTEMPT_DEFAULT

    @property
    def may_run(self) -> bool:
        """Whether its present delivery may not have ended yet."""
        return State.RUNNING in self.possible

    @property
    def may_live(self) -> bool:
        """Whether it may be still to be done."""
        return not self.possible.isdisjoint(ALIVE)

    def move(self, event: Event, state: MaybeState, what: str) -> None:
        """Take down that ``event`` has led to ``state``."""
        allowed = {before for before in self.possible if state in MOVES.get((before, event), ())}
        if not allowed:
            raise Fault(f"{what} led to {word(state)}; the task can only have been {self.words()}", self.id)
        self.moves += 1
        self.possible = {state}
        self.gone_as = set()
        if state is None:
            self.gone_as = {*_GONE_BY[event]} if event in _GONE_BY else _tallies(allowed, "deleted")
        if state is State.DEAD:
            self.note_death()

    def narrow(self, state: MaybeState) -> None:
        """Take down in which of its possible states it was seen."""
        self.possible = {state}
        if state is not None:
            self.gone_as = set()
        if state is State.DEAD:
            self.note_death()

    def purge(self) -> None:
        """Take down that its queue was purged: its set counts it when somebody has cleared up (``cleared_up``)."""
        self.gone_as |= _tallies(self.possible, PENDING, "deleted")
        self.possible = {None}

    def cleared_up(self) -> None:
        """Take down that nothing is left of what was purged."""
        self.gone_as.discard(PENDING)

    @property
    def tallies(self) -> set[str]:
        """As what its set may count it."""
        found = _tallies(self.possible - {None}, PENDING)
        return found | self.gone_as if None in self.possible else found

    def note_death(self) -> None:
        """Take down that it is dead, once for each time it dies."""
        self.deaths += not self.death_is_known
        self.death_is_known = True

    def refuse(self, delivery: int, outcome: Outcome) -> None:
        """Take down that one of its leases was refused, for a reason that can be."""
        if outcome is Outcome.NOT_FOUND:
            may = None in self.possible
        elif outcome is Outcome.STALE_LEASE:
            may = delivery != self.delivery
        else:
            may = delivery == self.delivery and bool(self.possible - {State.RUNNING, None})
        if not may:
            raise Fault(f"delivery {delivery} was {outcome.value}; the task is {self.words()}", self.id)
        if outcome is Outcome.NOT_FOUND:
            self.possible = {None}
        elif outcome is Outcome.NOT_RUNNING:
            self.possible -= {State.RUNNING, None}

    def words(self) -> str:
        """Return its possible states for people."""
        return " or ".join(sorted(map(word, self.possible)))


def _tallies(states: set[MaybeState], *alive: str) -> set[str]:
    """Return in which words sets count tasks in ``states``; alive: those for tasks that have not ended."""
    found: set[str] = set()
    for state in states:
        if state is not None:
            found |= {state.word} if state in ENDED else {*alive}
    return found
