"""A claim from queues that take turns by weight: what it takes is as if each turn had been taken by itself.

It is taken a stretch at a time. When a queue whose turn it is has nothing in hand, so many tasks of it are taken as
turns are sure to come to it within this claim; then they are dealt out, one a turn. The number is sure, because a queue
that ends only gives its turns to the others.

The trap: that is true only of tasks that have nothing to do with other queues. Those in lanes (whose group may be at
its cap) and those delivered before (which may die, and be followed by something) are taken one by one. And if the bytes
of the claim do not suffice, what is in hand is put back, for it may stand behind what no longer fits.
"""

from __future__ import annotations

from collections import deque

from lmdbq.model import ClaimedTask, Order
from lmdbq.sharing import Turns
from lmdbq.store import keyspace as ks
from lmdbq.store.lmdb_leasing import Taken
from lmdbq.store.lmdb_taker import Taker
from lmdbq.store.lmdb_work import Queue


def take_in_turns(taker: Taker, queues: dict[str, Queue], turns: Turns) -> None:
    """Take from queues of one priority, by name, as it is their turn."""
    Dealer(taker, queues, turns).run()


class Dealer:
    """What was taken of each queue and has yet to be dealt."""

    def __init__(self, taker: Taker, queues: dict[str, Queue], turns: Turns) -> None:
        self._taker = taker
        self._queues = queues
        self._turns = turns
        self._hands: dict[str, deque[ClaimedTask]] = {name: deque() for name in queues}
        self._parts: list[tuple[Taken, ks.ReadyKey]] = []
        self._dealt = list(taker.tasks)
        self._ahead = True  # whether more than one task at a time is taken

    def run(self) -> None:
        """Deal until the claim has enough, or nothing is left."""
        turns, hands, dealt, limit = self._turns, self._hands, self._dealt, self._taker.limit
        while len(dealt) < limit and (name := turns.next()) is not None:
            hand = hands[name]
            if not hand:
                self._take(name)
                if self._taker.is_full:
                    break
            if hand:
                dealt.append(hand.popleft())
                turns.serve(name)
            else:
                turns.empty(name)
        self._taker.tasks = dealt

    def _take(self, name: str) -> None:
        """Take what is sure to be dealt of a queue."""
        taker, queue = self._taker, self._queues[name]
        before = len(taker.tasks)
        is_simple = self._ahead and queue.settings.order is not Order.FAIR  # whose own turns cannot be put back
        count = self._turns.ahead(name, taker.limit - len(self._dealt)) if is_simple else 1
        taker.latest.clear()
        taker.take([queue], count, only_alike=True)
        self._hands[name].extend(taker.tasks[before:])
        self._parts += taker.latest
        if taker.is_full and self._ahead and any(self._hands.values()):
            self._put_back()
            self._take(name)

    def _put_back(self) -> None:
        """Put back what is in hand, and take one by one from now on."""
        self._ahead = False
        for part, key in self._parts:
            name = next(name for name, queue in self._queues.items() if queue.no == key.queue_no)
            tasks = [task for task in self._hands[name] if part.first_id <= task.id <= part.last_id]
            if tasks:
                self._taker.put_back(part, key, tasks)
        for hand in self._hands.values():
            hand.clear()
        self._taker.tasks = list(self._dealt)
