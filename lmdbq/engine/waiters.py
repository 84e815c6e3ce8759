"""Waiters: parked dequeues, in order of arrival, and who of them is tried when.

Waiters that ask the same question (queues and types) form a *group*. A group is *wet* when it may find something and
*dry* when a claim of it has come up empty and nothing has stirred since; a dry group costs nothing, however many wait
in it. A stir makes the groups of a queue wet and gives them *credit*, counted in tasks: trying a waiter spends its
limit, a success earns twice that, an empty claim dries the group. So one task wakes one waiter, many tasks wake 1, 2,
4 ... of them, and a stir for nothing costs one empty claim per group. A newcomer is *fresh*: its first attempt needs no
credit.

Order: waiters are tried by arrival. Whoever may find something and has to wait, for credit or for an attempt that comes
too early, holds its queues against all who came later, so nobody overtakes. What is tried together goes into the same
apply, where claims run as they came.

The traps: (1) a stir that arrives while a claim flies may be older or newer than what the claim saw, so the group dries
only if its ``generation`` is still that of the attempt. (2) The stir of an apply is not news to the claims of the same
apply, they ran last: groups that dried in it are left out. (3) The
caller may go at any time: a waiter whose future is done is not tried, and tasks claimed for it are given back.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lmdbq.engine.committer import Settlement, Unit
from lmdbq.engine.groups import Answer, Consumers, Group, Waiter
from lmdbq.errors import LmdbqError, StoreError
from lmdbq.limits import LOOK_SECONDS, PAYLOAD_BYTES_MAX, SECOND_NS
from lmdbq.model import Call, Claim, Claimed, Refused
from lmdbq.sharing import parent_of

CONSUMER_SECONDS: Final = 60.0  # a worker that asked this recently is a consumer, though it may be at work just now
DRAINING: Final = Claimed([], "draining")


class Waiters:
    """The parked dequeues of an engine; lives on the event loop's thread.

    submit: hands a unit to the committer. give_back: releases tasks that were claimed for a caller who has gone.
    """

    def __init__(self, submit: Callable[[Unit], None], give_back: Callable[[Claimed], None]) -> None:
        self._submit = submit
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._groups: dict[tuple[tuple[str, ...], tuple[str, ...]], Group] = {}
        self._by_claim_id: dict[str, Waiter] = {}
        self._places = 0
        self._dried: set[Group] = set()
        self._draining = False
        self.parked = 0

    # --- coming and going ---------------------------------------------------------------------------------------------

    def add(self, claim: Claim, wait_seconds: float, after: Call | None) -> Waiter:
        """Park a dequeue, try it at once, and return its waiter; the answer is that of its present ``future``.

        A parked dequeue with the same claim_id and question gives up its place to this one and is answered empty.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        waiter = self._takeover(claim, future) if claim.claim_id and after is None else None
        if waiter is None:
            waiter = self._park(claim, after, future)
        self._try()
        if wait_seconds > 0:
            waiter.timer = self._loop.call_later(wait_seconds, self._expire, waiter)
        else:
            self._expire(waiter)  # once its first attempt is back
        return waiter

    def contended(self, claim: Claim) -> bool:
        """Whether somebody waits whom this claim must not overtake, or whose place it would take."""
        return claim.claim_id in self._by_claim_id or any(
            len(group.waiters) > group.flying_len and not set(claim.queues).isdisjoint(group.queues)
            for group in self._groups.values()
        )

    def leave(self, waiter: Waiter, future: asyncio.Future[Answer]) -> None:
        """The caller that awaited ``future`` has gone: forget it, and give back what was claimed for it."""
        if future.done() and not future.cancelled():
            if future.exception() is None and (claimed := future.result()[0]).tasks:
                self._give_back(claimed)
            return
        future.cancel()
        if waiter.future is not future or waiter.place not in waiter.group.waiters:
            return  # another caller has taken its place, or its attempt came back between the cancel and this
        if waiter.flying is not None:
            waiter.flying.wanted = False  # its settlement removes the waiter
        else:
            self._remove(waiter)

    def drain(self) -> None:
        """Answer everybody with reason "draining", now or when their attempt comes back, and all who come later."""
        self._draining = True
        for waiter in self._all():
            if waiter.after is not None:
                continue  # its report is still to be committed, and it may have to wait its turn for that
            if waiter.flying is None:
                self._finish(waiter, DRAINING)
            else:
                waiter.flying.wanted = False

    def fail(self, error: LmdbqError) -> None:
        """Answer everybody whose attempt is not on its way with ``error``."""
        for waiter in self._all():
            if waiter.flying is None:
                self._raise(waiter, type(error)(error.detail))

    # --- waking -------------------------------------------------------------------------------------------------------

    def stir(self, expected: Mapping[str, int]) -> None:
        """Wake who waits for the named queues; the numbers say how many tasks may be found there."""
        self._wet(expected)
        self._try()

    def settled(self, stirred: Iterable[str]) -> None:
        """After the units of an apply were settled: wake who waits for the queues that it stirred."""
        self._wet(dict.fromkeys(stirred, 1))
        self._dried.clear()
        self._try()

    def stir_all(self) -> None:
        """Wake every group: somebody else has changed the file."""
        for group in self._groups.values():
            if group.waiters:
                group.stir(1)
        self._try()

    def look(self) -> None:
        """Forget groups that nobody has asked for in a while."""
        oldest = self._loop.time() - CONSUMER_SECONDS
        for key in [key for key, group in self._groups.items() if not group.waiters and group.seen_at < oldest]:
            del self._groups[key]

    def consumers(self) -> dict[str, Consumers]:
        """Return, by queue, who takes tasks of it."""
        oldest = self._loop.time() - CONSUMER_SECONDS
        found: dict[str, Consumers] = {}
        for group in self._groups.values():
            if not group.waiters and group.seen_at < oldest:
                continue
            for name in group.queues:
                known = found.get(name, Consumers(0, False, frozenset()))
                found[name] = Consumers(
                    known.parked + len(group.waiters),
                    known.any_type or not group.types,
                    known.types.union(group.types),
                )
        return found

    # --- inside -------------------------------------------------------------------------------------------------------

    def _wet(self, expected: Mapping[str, int]) -> None:
        if not expected:
            return
        found: Counter[str] = Counter(expected)
        for name, tasks_len in expected.items():
            if parent := parent_of(name):  # whose claims take from it, too
                found[parent] += tasks_len
        for group in self._groups.values():
            if group.waiters and group not in self._dried:
                tasks_len = sum(found.get(name, 0) for name in group.queues)
                if tasks_len:
                    group.stir(tasks_len)

    def _all(self) -> list[Waiter]:
        return [waiter for group in self._groups.values() for waiter in group.waiters.values()]

    def _takeover(self, claim: Claim, future: asyncio.Future[Answer]) -> Waiter | None:
        waiter = self._by_claim_id.get(claim.claim_id)
        if waiter is None or waiter.after is not None:
            return None
        if (waiter.claim.queues, waiter.claim.types) != (claim.queues, claim.types):
            return None
        if not waiter.future.done():
            waiter.future.set_result((waiter.group.last, waiter.reported))
        if waiter.timer is not None:
            waiter.timer.cancel()
        waiter.claim, waiter.future, waiter.reported, waiter.expired = claim, future, None, False
        return waiter

    def _park(self, claim: Claim, after: Call | None, future: asyncio.Future[Answer]) -> Waiter:
        key = (claim.queues, claim.types)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(claim.queues, claim.types, self._loop.time())
        self._places += 1
        waiter = Waiter(claim, group, self._places, after, future)
        group.waiters[waiter.place] = group.fresh[waiter.place] = waiter
        if claim.claim_id:
            self._by_claim_id[claim.claim_id] = waiter
        self.parked += 1
        return waiter

    def _remove(self, waiter: Waiter) -> None:
        group = waiter.group
        del group.waiters[waiter.place]
        group.fresh.pop(waiter.place, None)
        group.seen_at = self._loop.time()
        if self._by_claim_id.get(waiter.claim.claim_id) is waiter:
            del self._by_claim_id[waiter.claim.claim_id]
        if waiter.timer is not None:
            waiter.timer.cancel()
        self.parked -= 1

    def _finish(self, waiter: Waiter, claimed: Claimed) -> None:
        self._remove(waiter)
        if not waiter.future.done():
            waiter.future.set_result((claimed, waiter.reported))
        elif claimed.tasks:
            self._give_back(claimed)

    def _raise(self, waiter: Waiter, error: LmdbqError) -> None:
        self._remove(waiter)
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _expire(self, waiter: Waiter) -> None:
        """The waiting time is over: answer empty, but not before the first attempt, nor while one flies."""
        if waiter.flying is not None or waiter.fresh:
            waiter.expired = True
        else:
            self._finish(waiter, waiter.group.last)

    def _try(self) -> None:
        """Submit the claims of all who may be tried now, by arrival."""
        queues_held: set[str] = set()
        groups_held: list[Group] = []
        streams = [group.candidates() for group in self._groups.values() if group.wet or group.fresh]
        for waiter in heapq.merge(*streams, key=lambda one: one.place):
            group = waiter.group
            may = waiter.flying is None and (waiter.fresh or group.credit > 0)
            if may and queues_held.isdisjoint(group.queues):
                if not waiter.fresh:
                    group.credit -= waiter.claim.limit
                self._attempt(waiter)
            else:
                group.held = True
                groups_held.append(group)
                queues_held.update(group.queues)
        for group in groups_held:
            group.held = False

    def _attempt(self, waiter: Waiter) -> None:
        claim = Call((waiter.claim,))
        calls = (claim,) if waiter.after is None else (waiter.after, claim)
        waiter.flying = Unit(calls, lambda settlement: self._settle(waiter, settlement))
        waiter.generation = waiter.group.generation
        waiter.group.flying_len += 1
        self._submit(waiter.flying)

    def _settle(self, waiter: Waiter, settlement: Settlement) -> None:
        waiter.flying = None
        group = waiter.group
        group.flying_len -= 1
        if settlement is None:
            self._settle_dropped(waiter)
        elif isinstance(settlement, LmdbqError):
            self._raise(waiter, settlement)
            self._retry_later(group)
        else:
            if waiter.after is not None:
                waiter.after, waiter.reported = None, settlement[0]
            outcome = settlement[-1]
            if isinstance(outcome, Refused):
                self._raise(waiter, StoreError(outcome.problems[0].detail))
                self._retry_later(group)
            else:
                claimed = outcome.outcomes[0]
                assert isinstance(claimed, Claimed)
                self._settle_claimed(waiter, claimed)

    def _settle_claimed(self, waiter: Waiter, claimed: Claimed) -> None:
        group = waiter.group
        group.fresh.pop(waiter.place, None)
        if claimed.tasks:
            self._finish(waiter, claimed)
        else:
            group.last = claimed
        if claimed.token_in_ns and group.waiters:  # no commit will tell of a token that comes in
            self._loop.call_later(claimed.token_in_ns / SECOND_NS, self.stir, dict.fromkeys(group.queues, 1))
        if _may_be_more(waiter.claim, claimed):
            group.earn(2 * waiter.claim.limit)
        elif group.generation == waiter.generation:
            group.dry()
            self._dried.add(group)
        else:
            group.credit = max(group.credit, 1)
        if not claimed.tasks and (self._draining or waiter.expired or waiter.future.done()):
            self._finish(waiter, DRAINING if self._draining else claimed)

    def _settle_dropped(self, waiter: Waiter) -> None:
        """Its caller had gone when the transaction began, or the engine drains, or another caller has taken over."""
        group = waiter.group
        if group.wet:
            group.credit = max(group.credit, 1)
        if self._draining:
            self._finish(waiter, DRAINING)
        elif waiter.future.done():
            self._remove(waiter)
        elif waiter.expired and not waiter.fresh:
            self._finish(waiter, group.last)

    def _retry_later(self, group: Group) -> None:
        """After an error: whoever else waits is tried again in a moment, not at once."""
        group.dry()
        self._loop.call_later(LOOK_SECONDS, self.stir, dict.fromkeys(group.queues, 1))


def _may_be_more(claim: Claim, claimed: Claimed) -> bool:
    """Whether another claim right behind this one could find something: not if there was room left in this one."""
    if len(claimed.tasks) == claim.limit:
        return True
    size_bytes = sum(len(task.payload) for task in claimed.tasks)
    return bool(claimed.tasks) and size_bytes + PAYLOAD_BYTES_MAX > claim.bytes_max
