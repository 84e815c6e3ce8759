"""Whether what callers are told is what was committed, and whether a claimed task reaches one caller.

Ops are known by their identity; they are kept, so that it stays theirs. The trap is a call with an Idempotency-Key: its
repetition says what was committed before, and must not be carried out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmdbq.model import Call, Claim, Claimed, Done, Op, Report
from lmdbq.storm.sim_life import Fault


class Answers:
    """Hears what is committed and what is answered, and raises Fault."""

    def __init__(self) -> None:
        self.unclaimed: dict[tuple[int, int], Claimed] = {}  # what claims took, until somebody was given it
        self._committed: dict[int, list[Any]] = {}  # of an op, by its identity
        self._kept: list[Op] = []
        self._by_key: dict[str, tuple[Any, int]] = {}  # -> what was first committed, and until when that is remembered

    def committed(self, call: Call, outcome: Any, wall: int, latest: int) -> None:
        """Take down one call of an apply. latest: wall time has been as late as that."""
        for op in call.ops:
            self._committed.setdefault(id(op), []).append(outcome)
            self._kept.append(op)
        if call.memo is None or not isinstance(outcome, Done):
            return
        first, until = self._by_key.get(call.memo.key, (None, 0))
        if outcome.replayed:
            if first is None or outcome.outcomes != first.outcomes:
                raise Fault(f"a call was answered as if it had been carried out before: {outcome}", call.memo.key)
            return
        if latest < until:
            raise Fault("a call was carried out twice under one key", call.memo.key)
        self._by_key[call.memo.key] = outcome, wall + call.memo.kept_ns

    def excuse(self, calls: Sequence[Call]) -> None:
        """Calls were not committed: what they would have given back stays leased, until the lease lapses."""
        for call in calls:
            for op in call.ops:
                for completion in op.completions if isinstance(op, Report) else ():
                    self.unclaimed.pop((completion.id, completion.delivery), None)

    def answered(self, op: Op, outcome: object) -> None:
        """Check that an answer is what the store has committed for this op, before the answer."""
        if not any(outcome is known for known in self._committed.get(id(op), ())):
            raise Fault(f"{type(op).__name__} was answered, and no commit has said so: {outcome}")

    def given(self, op: Claim, claimed: Claimed) -> None:
        """Check that claimed tasks are what a commit gave to this claim, and that nobody else was given them."""
        known = self._committed.get(id(op), ())
        if not any(claimed is one.outcomes[0] for one in known if isinstance(one, Done)):
            raise Fault("a claim was answered with what no commit gave it", *(task.id for task in claimed.tasks))
        for task in claimed.tasks:
            if self.unclaimed.pop((task.id, task.deliveries), None) is None and not op.claim_id:
                raise Fault(f"delivery {task.deliveries} was given to two callers", task.id)
