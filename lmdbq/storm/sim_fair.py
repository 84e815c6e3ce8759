"""Whether a fair queue shares as it should: what each of its parties may be passed over by another, and no more.

A turn of a party of weight w costs C / w, and whoever has the least turn is served; ``time`` is the turn that was had
last. So two things always hold: a party that waits has its turn at most C / w after the time (it was given it at an
earlier time, or served then); and one that is served has its next turn C / w after the time, at least. Let *a* and *b*
wait, and *b* be served B times while *a* is served A times. The B-th turn of *b* is at least (B - 1) C / w_b after the
time at which we began to count; *a* stands at most (A + 1) C / w_a after it, and was not passed by. Hence

    B <= w_b * (A + 1) / w_a + 1

over any stretch in which *a* had tasks all the time, and could have started one each time when *b* did. When others
were served while it could not, time may have gone past its turn, and its next turn is counted from there: so counting
begins anew with its next turn. A change of weights holds from the next turn on; until *a* has had one, its weight is
taken for 1, the least there is.

The trap: that *a* had tasks all the time is sure only if one of them was ready at one turn and has not moved until the
next. Without that *a* may have lost its turn, and come anew behind the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lmdbq.storm.sim_life import Fault

_ROUNDING: Final = 1e-3  # a turn is a whole number of 2^-20

Ready = frozenset[tuple[int, int]]
"""Tasks of a party that surely could have been taken: (id, how often it had moved)."""


class Waiting:
    """A party since we count. had: A; passed: B of each other; is_behind: others were served when it could not be."""

    def __init__(self, ready: Ready, weight: int) -> None:
        self.ready = ready
        self.weight = weight
        self.had = 0
        self.passed: dict[str, int] = {}
        self.is_behind = False


class Shares:
    """Hears of each task that a fair queue gave, and raises Fault."""

    def __init__(self) -> None:
        self.judged = 0  # turns beside which somebody waited
        self._waiting: dict[str, dict[str, Waiting]] = {}
        self._weighed: set[tuple[str, str]] = set()  # those that had a turn since weights were changed

    def changed(self) -> None:
        """Weights or orders were changed."""
        self._waiting.clear()
        self._weighed.clear()

    def served(self, queue: str, party: str, ready: Mapping[str, Ready], weights: Mapping[str, int]) -> None:
        """Check one turn. ready: of each party that surely could have had it, ``party`` among them; "" has no group."""
        known = self._waiting.setdefault(queue, {})
        for name, waiting in known.items():
            waiting.is_behind |= name not in ready
        for name, tasks in ready.items():
            if name not in known or known[name].ready.isdisjoint(tasks):
                known[name] = Waiting(tasks, weights[name] if (queue, name) in self._weighed else 1)
            known[name].ready = tasks
            if name != party:
                self._pass_over(queue, party, name, known[name], weights[party])
        self._had(queue, party, ready, weights[party])

    def _pass_over(self, queue: str, party: str, name: str, waiting: Waiting, weight: int) -> None:
        self.judged += 1
        number = waiting.passed[party] = waiting.passed.get(party, 0) + 1
        most = weight * (waiting.had + 1) / waiting.weight + 1
        if number > most + _ROUNDING:
            problem = f"group {name or '-'} waited in {queue}, had {waiting.had} turns, and {party or '-'} {number}"
            raise Fault(f"{problem}: weights {waiting.weight} and {weight}", queue, *(one for one, _ in waiting.ready))

    def _had(self, queue: str, party: str, ready: Mapping[str, Ready], weight: int) -> None:
        self._weighed.add((queue, party))
        waiting = self._waiting[queue].get(party)
        if waiting is None:
            return
        if party not in ready:
            del self._waiting[queue][party]
        elif waiting.is_behind or waiting.weight != weight:
            self._waiting[queue][party] = Waiting(ready[party], weight)
        else:
            waiting.had += 1
