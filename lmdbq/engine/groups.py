"""Groups and waiters: the data behind ``waiters``, where the rules are told.

A waiter is one place in the order of arrival, and a group is all waiters that ask the same question. Nothing here
submits or answers anything. The trap: ``held`` is meaningful only during one walk over all groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from lmdbq.engine.committer import Unit
from lmdbq.model import Call, CallOutcome, Claim, Claimed
from lmdbq.sharing import parent_of

Answer = tuple[Claimed, CallOutcome | None]

CREDIT_MAX: Final = 1_000
_NOTHING: Final = Claimed([], "empty")


class Consumers(Struct, frozen=True):
    """Who takes tasks of a queue: parked dequeues, and the types asked for within the last CONSUMER_SECONDS.

    any_type: at least one of them takes every type.
    """

    parked: int
    any_type: bool
    types: frozenset[str]


def consumers_of(found: Mapping[str, Consumers], queue: str) -> Consumers | None:
    """Return who takes tasks of a queue: those who ask for it, and those who ask for its parent."""
    own, parents = found.get(queue), found.get(parent_of(queue))
    if own is None or parents is None:
        return own or parents
    return Consumers(own.parked + parents.parked, own.any_type or parents.any_type, own.types.union(parents.types))


class Group:
    """Waiters that ask for the same queues and types."""

    __slots__ = (
        "credit",
        "flying_len",
        "fresh",
        "generation",
        "held",
        "last",
        "queues",
        "seen_at",
        "types",
        "waiters",
        "wet",
    )

    def __init__(self, queues: tuple[str, ...], types: tuple[str, ...], seen_at: float) -> None:
        self.queues = queues
        self.types = types
        self.waiters: dict[int, Waiter] = {}  # all of them, by arrival
        self.fresh: dict[int, Waiter] = {}  # those whose first attempt has not come back
        self.flying_len = 0  # how many of them have an attempt on its way
        self.wet = False
        self.held = False  # only during a walk: whoever is left in it must wait
        self.credit = 0
        self.generation = 0
        self.last = _NOTHING
        self.seen_at = seen_at  # when somebody last asked, by the loop's time

    def stir(self, tasks_len: int) -> None:
        """Note that up to ``tasks_len`` (>= 1) tasks may be found, which no attempt so far has seen."""
        self.generation += 1
        self.earn(tasks_len)

    def earn(self, tasks_len: int) -> None:
        """Let waiters be tried for ``tasks_len`` tasks more."""
        if self.waiters:
            self.wet = True
            self.credit = min(max(self.credit, 0) + tasks_len, CREDIT_MAX)
        else:
            self.dry()

    def dry(self) -> None:
        """Try nobody until the next stir."""
        self.wet = False
        self.credit = 0

    def candidates(self) -> Iterator[Waiter]:
        """Yield, by arrival, those who may be tried now, and those in ``hindsight``; end when the group is held."""
        for waiter in (self.waiters if self.wet else self.fresh).values():
            if self.held:
                return
            if not waiter.future.done() and (waiter.flying is None or waiter.hindsight):
                yield waiter


class Waiter:
    """One parked dequeue: a place in the order of arrival, held for whoever awaits ``future``."""

    __slots__ = ("after", "claim", "expired", "flying", "future", "generation", "group", "place", "reported", "timer")

    def __init__(
        self, claim: Claim, group: Group, place: int, after: Call | None, future: asyncio.Future[Answer]
    ) -> None:
        self.claim = claim
        self.group = group
        self.place = place
        self.after = after  # to be committed with the first attempt; then it has become ``reported``
        self.reported: CallOutcome | None = None
        self.future = future
        self.flying: Unit | None = None  # the attempt on its way
        self.generation = 0  # of the group, when that attempt was submitted
        self.expired = False
        self.timer: asyncio.TimerHandle | None = None

    @property
    def fresh(self) -> bool:
        """Whether its first attempt has not come back yet."""
        return self.place in self.group.fresh

    @property
    def hindsight(self) -> bool:
        """Whether it had been waiting when the attempt began that is on its way, and that may be too early for what
        stirred since. It will be tried again; until then nobody overtakes it."""
        return self.flying is not None and self.generation != self.group.generation and not self.fresh
