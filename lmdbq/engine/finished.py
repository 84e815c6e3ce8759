"""Tasks that succeeded lately and left nothing behind: a function that returns None has no result to keep.

Who waits for the end of such a task finds it gone, as it would a task that was deleted. So the last ones that succeeded
through this engine are remembered, in memory, and who waits is told. It is a hint: a restart forgets it, and of what
other processes report to the file nothing is known; what must be known later is kept (``keep``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lmdbq.model import Call, CallOutcome, Completion, Done, Outcome, Report, ReportDone, Reported, Status

REMEMBERED_MAX: Final = 10_000
CODE: Final = "succeeded_not_kept"
DETAIL: Final = "this task succeeded without a result, and was not kept (see `keep`)"


class Finished:
    """The ids of such tasks: the latest REMEMBERED_MAX, and at most as many before them.

    They come in two generations, and with a full one the older is forgotten whole. The trap that this avoids: a dict
    whose first key is taken out for each that comes in looks for it past all places that have become empty, and spent
    4 us per task so, as much as all that is done for it in batches of 1,000. Now it is 0.15 us.
    """

    def __init__(self) -> None:
        self._latest: set[int] = set()
        self._before: set[int] = set()

    def __contains__(self, task_id: int) -> bool:
        return task_id in self._latest or task_id in self._before

    def note(self, calls: Sequence[Call], outcomes: Sequence[CallOutcome]) -> None:
        """Take note of calls that were committed."""
        for call, outcome in zip(calls, outcomes, strict=True):
            for at, op in enumerate(call.ops):
                if isinstance(op, Report) and isinstance(outcome, Done) and not outcome.replayed:
                    told = outcome.outcomes[at]
                    assert isinstance(told, ReportDone)
                    self._latest.update(_left_nothing(op.completions, told.outcomes))
        if len(self._latest) >= REMEMBERED_MAX:
            self._latest, self._before = set(), self._latest


def _left_nothing(completions: Sequence[Completion], outcomes: Sequence[Reported]) -> list[int]:
    """Return the ids of tasks that succeeded and are no longer stored. Mostly all have ended alike."""
    if outcomes and outcomes.count(outcomes[0]) == len(outcomes):
        told = outcomes[0]
        if told.state is not None or told.outcome is not Outcome.OK:
            return []
        return [one.id for one in completions if one.status is Status.SUCCEEDED]
    return [
        one.id
        for one, told in zip(completions, outcomes, strict=True)
        if told.state is None and told.outcome is Outcome.OK and one.status is Status.SUCCEEDED
    ]
