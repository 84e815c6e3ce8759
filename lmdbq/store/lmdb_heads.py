"""The heads of ready lists, as a claim merges them, and which lists and how many tasks it may take of a queue."""

from __future__ import annotations

from typing import NamedTuple

from lmdbq import lifecycle
from lmdbq.model import Claim, Order, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_paces import Paces
from lmdbq.store.lmdb_rows import read_ready_run
from lmdbq.store.lmdb_work import Queue, Work


class Head(NamedTuple):
    """The first run of a ready list, or an exposed task; sorts as claims go."""

    priority: int
    rank: int
    first_id: int
    key: ks.ReadyKey
    run: rec.ReadyRun
    queue: Queue
    is_exposed: bool = False  # the task of a lane, not a run

    def list_prefix(self) -> bytes:
        """Return the prefix of what stands in order with a run: its ready list; where priorities age its priority's."""
        if self.queue.settings.order is Order.AGEING:
            return ks.place(*self.key[:3])
        return ks.of_ready_list(*self.key[:2])


def first_run(work: Work, queue: Queue, prefix: bytes) -> Head | None:
    """Return the first ready run under a prefix; None if there is none."""
    cursor = work.cursor("ready")
    if not cursor.set_range(prefix) or cursor.key()[: len(prefix)] != prefix:
        return None
    key = ks.read_ready(cursor.key())
    run = read_ready_run(cursor.key(), cursor.value())
    place = lifecycle.place_of(queue.settings, key.priority - ks.PRIORITY_BIAS, key.rank)
    return Head(*place, key.last_id - run.length + 1, key, run, queue)


def wanted_types(work: Work, op: Claim, queue: Queue) -> list[int]:
    """Return the wanted types of a queue that have ready tasks."""
    ready = [type_no for type_no, tally in work.queue_tallies(queue.no).items() if tally[State.READY]]
    if not op.types:
        return ready
    wanted = {work.type_no(name) for name in op.types}
    return [type_no for type_no in ready if type_no in wanted]


def room(work: Work, queue: Queue, paces: Paces) -> int | None:
    """Return how many more tasks of a queue may be taken; None without a limit."""
    if queue.settings.paused:
        return 0
    tokens = paces.tokens(queue)
    if not queue.settings.max_running:
        return tokens
    left = max(0, queue.settings.max_running - work.in_state(queue.no, State.RUNNING))
    return left if tokens is None else min(left, tokens)
