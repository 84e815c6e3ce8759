"""Between the queues of one claim: which of them it takes from, in what order, and how weights share. Pure.

A claim that names ``parent`` takes from every ``parent.sub`` as well (the parent is what stands before the first dot).
Queues are drained level by level: all of a lower ``priority`` first. On a level without weights tasks are taken in
their own order over all of its queues. With weights (any queue of the level has one; the others then weigh 1) its
queues take turns by start-time fair queueing: each has a *start*, and the one whose start is least is served and moved
on by 1 / weight. A queue that had nothing for a while begins at the time of the others, so it neither starves nor is
made up for.

Between the groups of a queue whose order is fair it goes the same way, but for those that come anew: there may be any
number of them, with one task each, so they begin one turn of their own behind the last turn that was had. Else they
would all go before a group that has waited; and a group that is empty after each task may be forgotten meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from lmdbq.buckets import Bucket, until_tokens_ns
from lmdbq.model import QueueSettings, QueueView

_TURN: Final = 1 << 20  # what a turn of weight 1 costs


class Pace(Struct, frozen=True, omit_defaults=True):
    """How fast a queue has been served. bucket: its tokens, None = full, or no rate. start: of its next turn.

    If its order is fair, time: of the last turn that one of its groups had; others: of the next turn of those of its
    tasks that have no group.
    """

    bucket: Bucket | None = None
    start: int = 0
    time: int = 0
    others: int = 0

    def after_others(self, count: int) -> Pace:
        """Return the pace after ``count`` turns, at least one, of the tasks without a group."""
        last = max(self.others, self.time) + (count - 1) * _TURN
        return replace(self, time=last, others=next_turn(last, 1))

    def others_before(self, turn: int) -> int:
        """Return how many turns the tasks without a group have until a group has its turn, which is before an equal one
        of theirs."""
        if self.others >= turn:
            return 0
        return max(1, -((max(self.others, self.time) - turn) // _TURN))


NO_PACE: Final = Pace()


def next_turn(time: int, weight: int) -> int:
    """Return when the next turn comes of who had one at ``time``; of a group that comes anew, ``time`` being that of
    the last turn that was had. weight 0: 1.

    >>> next_turn(0, 4) * 4 == next_turn(0, 1)
    True
    """
    return time + _TURN // (weight or 1)


def parent_of(name: str) -> str:
    """Return the queue a claim of which takes from ``name`` as well; "" if there is none.

    >>> parent_of("mail.bulk.eu"), parent_of("mail"), parent_of(".mail")
    ('mail', '', '')
    """
    parent, dot, _ = name.partition(".")
    return parent if dot else ""


def is_weighted(settings: Iterable[QueueSettings]) -> bool:
    """Whether the queues of a level take turns by weight."""
    return any(one.weight for one in settings)


def no_token_until(settings: QueueSettings, pace: Pace) -> int:
    """Return when (steady ns of the bucket's boot) a queue without a token gets one; 0 = it has some, or no rate."""
    bucket = pace.bucket
    if settings.rate is None or bucket is None or bucket.tokens:
        return 0
    return bucket.at + until_tokens_ns(bucket, 1)


def seen_at(queue: QueueView, steady: int) -> QueueView:
    """Return a queue with what time has to say about it: "rate_limited" if nothing else holds it up."""
    is_limited = not queue.blocked_by and steady < queue.no_token_until
    return replace(queue, blocked_by="rate_limited") if is_limited else queue


class Turns:
    """Whose turn it is among the queues of a level. starts: of each by name, in the order of the claim.

    time: the start of the last turn that any queue of the file had.
    """

    def __init__(self, starts: dict[str, int], weights: dict[str, int], time: int) -> None:
        self.starts = {name: max(start, time) for name, start in starts.items()}
        self._waited = dict(starts)
        self.served: set[str] = set()
        self.time = time
        self._costs = {name: next_turn(0, weights[name]) for name in starts}
        self._left = dict.fromkeys(starts)

    def next(self) -> str | None:
        """Return whose turn it is: of those with the least start who was served least lately. None: all are empty.

        Claims of other queues move the time on; then several begin at it, and the first of the claim must not have all.
        """
        return min(self._left, key=lambda name: (self.starts[name], self._waited[name]), default=None)

    def ahead(self, name: str, count: int) -> int:
        """Return how many of the next ``count`` turns are those of ``name``, whose turn it is, if nobody's tasks end;
        else they are more.

        >>> Turns({"a": 0, "b": 0}, {"a": 3, "b": 1}, 0).ahead("a", 8)
        6
        """
        cost, names = self._costs[name], list(self._left)
        own = names.index(name)

        def place(number: int) -> int:
            """Return the place, from 1, of a turn of its own among all turns."""
            time, before = self.starts[name] + (number - 1) * cost, 0
            for index, other in enumerate(names if number > 1 else ()):
                start = self.starts[other]
                goes_first = index < own or (start == time and self._waited[other] < time)  # if turns are equal
                late = time - start + goes_first
                if other != name and late > 0:
                    before += -(-late // self._costs[other])
            return before + number

        return bisect_right(range(1, count + 1), count, key=place)

    def empty(self, name: str) -> None:
        """A queue has nothing more to give."""
        del self._left[name]

    def serve(self, name: str) -> None:
        """A queue gave one task."""
        self.served.add(name)
        self.time = self.starts[name]
        self.starts[name] += self._costs[name]
        self._waited[name] = self.starts[name]
