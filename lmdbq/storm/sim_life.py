"""What is known of one task in a simulation: the states it may be in, by ``lifecycle.MOVES`` and the clock alone."""

from __future__ import annotations

from lmdbq.lifecycle import MOVES, Event
from lmdbq.model import State, Status

MaybeState = State | None


def word(state: MaybeState) -> str:
    """Return a state for people."""
    return "gone" if state is None else state.word


class Fault(Exception):
    """The history cannot be; ``subjects`` are the tasks, queues and requests whose history shows it."""

    def __init__(self, problem: str, *subjects: object) -> None:
        super().__init__(problem)
        self.subjects = {str(subject) for subject in subjects}


class Life:
    """What is known of one task."""

    def __init__(self, task_id: int, queue: str, type_: str, possible: MaybeState) -> None:
        self.id = task_id
        self.queue = queue
        self.type = type_
        self.possible: set[MaybeState] = {possible}
        self.delivery = 0
        self.claim_id = ""
        self.claimed_ns = 0  # the length of its lease when it was claimed
        self.keepalive_ns = 0
        self.deadline = 0  # steady ns: the lease does not end before
        self.expires_at = 0
        self.due_at = 0  # 0: not known
        self.ended: dict[int, Status] = {}  # delivery -> the report that was accepted

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
        if state is State.READY and self.delivery:  # met by a claim after too many deliveries
            found |= MOVES[state, Event.CLAIM] - {State.RUNNING}
        if state is State.RUNNING and steady >= self.deadline:
            self.due_at = 0
            found |= MOVES[state, Event.LAPSE]
        if state in (State.SUCCEEDED, State.DEAD, State.CANCELLED):
            found |= MOVES[state, Event.PRUNE]
        return found

    @property
    def may_run(self) -> bool:
        """Whether its present delivery may not have ended yet."""
        return State.RUNNING in self.possible

    def move(self, event: Event, state: MaybeState, what: str) -> None:
        """Take down that ``event`` has led to ``state``."""
        allowed = {before for before in self.possible if state in MOVES.get((before, event), ())}
        if not allowed:
            raise Fault(f"{what} led to {word(state)}; the task can only have been {self.words()}", self.id)
        self.possible = {state}

    def words(self) -> str:
        """Return its possible states for people."""
        return " or ".join(sorted(map(word, self.possible)))
