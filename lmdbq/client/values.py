"""Small values that both clients answer with, and the errors they make of answers."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from msgspec import UNSET

from lmdbq.client.info import task_info
from lmdbq.client.options import Seconds, moment, seconds
from lmdbq.errors import LeaseLost, ResultTimeout, TaskCancelled, TaskDead, TaskError
from lmdbq.limits import WAIT_SECONDS_MAX
from lmdbq.wire.answers import ExtendOutcome, TaskAnswer
from lmdbq.wire.set_shapes import SetAnswer

SUCCEEDED_NOT_KEPT: Final = "succeeded_not_kept"
WAIT_SECONDS_MIN: Final = 0.001  # how a task ended that was not kept is told to those who wait only


class ActionResult(NamedTuple):
    """How many tasks an action met, and how many of them it changed (a dry run: would change)."""

    matched: int
    changed: int


class Extended(NamedTuple):
    """A lease that was prolonged. cancel_requested: somebody wants this task to stop."""

    lease_expires_at: datetime | None
    cancel_requested: bool

    @classmethod
    def of(cls, outcome: ExtendOutcome) -> Extended:
        """Return it from the API's outcome."""
        at = outcome.lease_expires_at
        return cls(moment(0 if at is UNSET else at), outcome.cancel_requested is True)


class Deadline:
    """When a wait is over: ``timeout`` seconds after ``now`` (of a clock that never steps), or never."""

    def __init__(self, timeout: Seconds | None, now: float) -> None:
        self._seconds = None if timeout is None else seconds(timeout)
        self._until = None if self._seconds is None else now + self._seconds

    def next_wait(self, now: float) -> float:
        """Return how long the next request may wait: 0 .. 60 s."""
        return WAIT_SECONDS_MAX if self._until is None else min(WAIT_SECONDS_MAX, max(0.0, self._until - now))

    def check(self, now: float, task: TaskAnswer) -> None:
        """Raise ResultTimeout if the time is over. It says what the task waits for, if that is known."""
        if self.is_over(now):
            why = f": {task.waiting_for.detail}" if task.waiting_for else ""
            said = f"{task.id} is {task.state} after {self._seconds:g} s{why}. It goes on: ask again, or cancel it"
            raise ResultTimeout(said)

    def check_set(self, now: float, one: SetAnswer) -> None:
        """Raise ResultTimeout if the time is over. It says how many members a set waits for."""
        if self.is_over(now):
            why = "nobody has closed it" if one.state == "open" else f"{one.pending} of {one.members} are pending"
            raise ResultTimeout(f"{one.id} is {one.state} after {self._seconds:g} s: {why}. It goes on: ask again")

    def is_over(self, now: float) -> bool:
        """Whether the time is over."""
        return self._until is not None and now >= self._until


def dead_or_cancelled(task: TaskAnswer) -> TaskError:
    """Return the error of a task that ended without a result."""
    info = task_info(task)
    last = info.errors[-1] if info.errors else None
    said = f": {last.type}: {last.message}" if last else ""
    kind = TaskDead if task.state == "dead" else TaskCancelled
    return kind(f"{task.id} is {task.state} ({info.reason or 'no reason given'}){said}", info)


_LOST = {
    "stale_lease": "this lease is over, and somebody else may have the task",
    "not_running": "this task no longer runs: its lease lapsed, or it was reported before",
    "not_found": "this task is no longer stored",
}


def lease_lost(lease: str, outcome: str) -> LeaseLost:
    """Return the error of a lease that no longer holds."""
    return LeaseLost(f"{lease}: {_LOST.get(outcome, outcome)}; drop what was done for it", outcome)
