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
    """The ids of such tasks, the latest REMEMBERED_MAX."""

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}

    def __contains__(self, task_id: int) -> bool:
        return task_id in self._ids

    def note(self, calls: Sequence[Call], outcomes: Sequence[CallOutcome]) -> None:
        """Take note of calls that were committed."""
        for call, outcome in zip(calls, outcomes, strict=True):
            for at, op in enumerate(call.ops):
                if isinstance(op, Report) and isinstance(outcome, Done) and not outcome.replayed:
                    told = outcome.outcomes[at]
                    assert isinstance(told, ReportDone)
                    self._note(op.completions, told.outcomes)
        while len(self._ids) > REMEMBERED_MAX:
            del self._ids[next(iter(self._ids))]

    def _note(self, completions: Sequence[Completion], outcomes: Sequence[Reported]) -> None:
        for completion, told in zip(completions, outcomes, strict=True):
            if told.state is None and told.outcome is Outcome.OK and completion.status is Status.SUCCEEDED:
                self._ids[completion.id] = None
