"""Faults of sets put into a simulation on purpose; ``sim_plants`` has the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from msgspec.structs import replace

from lmdbq import sets
from lmdbq.clock import Now
from lmdbq.model import (
    ENDED,
    Completion,
    Enqueue,
    Enqueued,
    Entry,
    Reported,
    SetChanged,
    SetClose,
    SetDelete,
    SetView,
)
from lmdbq.store import memory_enqueue, memory_leases, memory_ops, memory_sets
from lmdbq.store.memory_state import Tables
from lmdbq.storm.sim_planting import every, replaced
from lmdbq.wire.followups import after_set


def miscount_an_end() -> AbstractContextManager[None]:
    """Now and then a member that has ended is counted as deleted, or a deleted one as dead."""

    def wrongly(one: SetView, how: str, length: int = 1) -> SetView:
        return left(one, "dead" if how == "deleted" else "deleted", length)

    left = sets.left
    return replaced(sets, "left", every(4, left, wrongly))


def count_a_report_twice() -> AbstractContextManager[None]:
    """A report that is repeated ends a member once more."""

    def report_one(tables: Tables, completion: Completion, now: Now) -> Reported:
        row = tables.rows.get(completion.id)
        one = tables.sets.get(row.options.set_id) if row is not None else None
        if row is not None and row.state in ENDED and one is not None and one.pending and not sets.is_decided(one):
            tables.assign(tables.sets, one.id, sets.left(one, row.state.word))
        return before(tables, completion, now)

    before = memory_leases._report_one
    return replaced(memory_leases, "_report_one", report_one)


def decide_too_early() -> AbstractContextManager[None]:
    """A set does not wait for its last member."""

    def hasty(one: SetView, now_wall: int) -> SetView | None:
        return decided(replace(one, pending=0), now_wall) if one.pending == 1 else decided(one, now_wall)

    decided = sets.decided
    return replaced(sets, "decided", hasty)


def follow_a_set_twice() -> AbstractContextManager[None]:
    """Now and then a set is followed by its callback, and by another."""

    def twice(tables: Tables, now: Now) -> None:
        before = len(tables.spawned)
        settle(tables, now)
        tables.spawned += tables.spawned[before:]

    settle = memory_sets.settle
    return replaced(memory_sets, "settle", every(2, settle, twice))


def forget_a_set() -> AbstractContextManager[None]:
    """Now and then nothing follows a set that was decided."""
    return replaced(memory_sets, "after_set", every(3, after_set, lambda _: None))


def leave_a_deleted_set() -> AbstractContextManager[None]:
    """A set is said to be deleted, and stays."""
    stubborn: Any = lambda tables, op, now: SetChanged(op.id, None)  # noqa: E731
    return replaced(memory_ops, "_HANDLERS", {**memory_ops._HANDLERS, SetDelete: stubborn})


def leave_a_set_open() -> AbstractContextManager[None]:
    """Now and then a set is said to be closed, and takes members as before."""

    def stubborn(tables: Tables, op: SetClose, now: Now) -> SetChanged:
        set_id = memory_sets.meant(tables, op.id)
        one = tables.sets.get(set_id)
        closed = close(tables, op, now)
        if one is not None:
            tables.assign(tables.sets, set_id, one)
        return closed

    close = memory_sets.close
    return replaced(memory_ops, "_HANDLERS", {**memory_ops._HANDLERS, SetClose: every(3, close, stubborn)})


@contextmanager
def wake_nobody_for_a_set() -> Iterator[None]:
    """Who waits for a queue is not told that what follows a set has come there."""

    def noted(one: SetView) -> Entry | None:
        follower = after_set(one)
        followers.append(follower)
        return follower

    def quiet(tables: Tables, op: Enqueue, now: Now) -> Enqueued:
        stirred = set(tables.stirred)
        said = enqueue(tables, op, now)
        if any(op.entries[0] is follower for follower in followers):
            for queue in tables.stirred.keys() - stirred:
                del tables.stirred[queue]
        return said

    followers: list[Entry | None] = []
    enqueue = memory_enqueue.enqueue
    with replaced(memory_sets, "after_set", noted), replaced(memory_enqueue, "enqueue", quiet):
        yield


SET_PLANTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "miscount-an-end": miscount_an_end,
    "count-a-report-twice": count_a_report_twice,
    "decide-too-early": decide_too_early,
    "follow-a-set-twice": follow_a_set_twice,
    "forget-a-set": forget_a_set,
    "leave-a-deleted-set": leave_a_deleted_set,
    "leave-a-set-open": leave_a_set_open,
    "wake-nobody-for-a-set": wake_nobody_for_a_set,
}
