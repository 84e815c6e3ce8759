"""The sets of a transaction: who joins and who is over is counted in memory, and written once.

Whatever makes a member says ``joined``; whatever ends or removes one that was pending says ``left``. When an op is
through, ``settle`` decides those that can be, in the order of their ids, and spawns what follows them: so a set is
decided, and its callback enqueued, in the transaction of what decided it, and never again, because a set that is
decided changes no more.

The trap: which set a damaged task was in, its record cannot tell any more. So when one is put aside the pending members
of all undecided sets are counted anew, from the records.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lmdbq import sets as rules
from lmdbq.model import Problem, SetState, SetView, State, TaskSet
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_rows import Broken
from lmdbq.wire.followups import after_set

if TYPE_CHECKING:
    from lmdbq.store.lmdb_work import Work

LOST: Final = "its record was damaged, and what it waited for is lost"

_log = logging.getLogger(__name__)


class Sets:
    """The sets that a transaction has met."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._known: dict[int, SetView | None] = {}
        self._changed: set[int] = set()  # to be written
        self._unsettled: set[int] = set()  # whose members changed in the op under way

    def fork(self, work: Work) -> Sets:
        """Return the sets of a child, or of a parent that adopts it: a copy of all that changes."""
        other = Sets(work)
        other._known = dict(self._known)
        other._changed = set(self._changed)
        other._unsettled = set(self._unsettled)
        return other

    def find(self, set_id: int) -> SetView | None:
        """Return a set, None if there is none. Raises Broken."""
        if set_id in self._known:
            return self._known[set_id]
        key = ks.task_set(set_id) if 0 < set_id < 2**64 else b""
        value = self._work.get("set", key) if key else None
        try:
            found = None if value is None else rec.read_set(value)
        except rec.Damaged as error:
            raise Broken("set", key) from error
        self._known[set_id] = found
        return found

    def put(self, one: SetView) -> None:
        """Note a set that was made or changed."""
        self._known[one.id] = one
        self._changed.add(one.id)
        self._unsettled.add(one.id)

    def delete(self, one: SetView) -> None:
        """Remove a set."""
        self._known[one.id] = None
        self._changed.discard(one.id)
        self._unsettled.discard(one.id)
        self._work.delete("set", ks.task_set(one.id))
        if one.remove_at:
            self._work.delete("forget", _forget_key(one))

    # --- members ---

    def _undecided(self, set_id: int) -> SetView | None:
        one = self.find(set_id)
        return None if one is None or rules.is_decided(one) else one

    def joined(self, set_id: int) -> None:
        """Note a new member."""
        one = self._undecided(set_id)
        if one is not None:
            self.put(rules.joined(one))

    def left(self, set_id: int, how: str) -> None:
        """Note that a task which was pending is over; how: one of sets.COUNTED."""
        one = self._undecided(set_id)
        if one is not None:
            self.put(rules.left(one, how))

    def came_back(self, set_id: int, state: State) -> None:
        """Note that a task which had ended in ``state`` was retried by hand."""
        one = self._undecided(set_id)
        if one is not None:
            self.put(rules.came_back(one, state))

    def recount(self) -> None:
        """Count the pending members of every undecided set anew; those that are missing count as deleted."""
        every = {ks.read_id(key) for key, _ in self._work.of("set", b"")} | self._known.keys()
        undecided = [one for set_id in sorted(every) if (one := self._undecided(set_id)) is not None]
        if not undecided:
            return
        counted = pending_members(self._work)
        for one in undecided:
            if counted[one.id] != one.pending:
                self.put(rules.left(one, "deleted", one.pending - counted[one.id]))

    # --- deciding ---

    def settle(self) -> None:
        """Decide what can be decided; what follows is spawned."""
        for set_id in sorted(self._unsettled):
            one = self._undecided(set_id)
            ended = None if one is None else rules.decided(one, self._work.now.wall)
            if ended is None:
                continue
            self._known[set_id] = ended
            self._work.put("forget", _forget_key(ended))
            follower = after_set(ended)
            if follower is not None:
                self._work.spawned.append(follower)
        self._unsettled.clear()

    def flush(self) -> None:
        """Write the sets that changed."""
        for set_id in sorted(self._changed):
            one = self._known[set_id]
            assert one is not None
            self._work.put("set", ks.task_set(set_id), rec.write_map(one))
        self._changed.clear()


def _forget_key(one: SetView) -> bytes:
    return ks.forget(one.remove_at, ks.MemoKind.SET, ks.task_set(one.id))


def pending_members(work: Work) -> Counter[int]:
    """Return how many tasks that have not ended each set has, by the records; those that are damaged are left out."""
    counted: Counter[int] = Counter()
    for key, value in work.of("task", b""):
        with contextlib.suppress(rec.Damaged):
            options = rec.read_task(value).options
            if options.set_id:
                history = work.get_history(ks.read_id(key))
                counted[options.set_id] += history is None or history.ended_state < 0
    return counted


def refused(work: Work, set_id: int, lease: tuple[int, int], pointer: str) -> Problem | None:
    """Return why an entry may not join a set, None if it may. lease: of the running task whose worker asks."""
    one = work.sets.find(set_id)
    is_closed = one is not None and one.state is SetState.CLOSED
    return rules.refused(one, pointer, is_member=is_closed and lease[0] > 0 and _runs_in(work, set_id, lease))


def _runs_in(work: Work, set_id: int, lease: tuple[int, int]) -> bool:
    from lmdbq.store.lmdb_standing import lease_over  # which needs Work, which needs this module

    task_id, delivery = lease
    found = lease_over(work, task_id) if 0 < task_id < 2**64 else None
    value = work.get("task", ks.task(task_id)) if found is not None else None
    if found is None or value is None or found[1].deliveries != delivery:
        return False
    try:
        record = rec.read_task(value)
    except rec.Damaged:
        return False  # whoever touches it next will find out
    return record.options.set_id == set_id and work.queue_of(record.queue_no) is not None


# --- reads and repair ---


def set_view(work: Work, set_id: int) -> SetView | None:
    """Return one set. Raises Broken."""
    return work.sets.find(set_id)


def set_views(work: Work, after: int, limit: int, states: tuple[SetState, ...]) -> list[SetView]:
    """Return the sets behind ``after``, by rising id, at most ``limit``; of these states, if any are named."""
    return list(_matching(work, after, limit, states))


def _matching(work: Work, after: int, limit: int, states: tuple[SetState, ...]) -> Iterator[SetView]:
    cursor = work.cursor("set")
    if after >= 2**64 - 1 or not cursor.set_range(ks.task_set(after + 1)):
        return
    for key, value in cursor.iternext():
        try:
            one = rec.read_set(value)
        except rec.Damaged as error:
            raise Broken("set", key) from error
        if not states or one.state in states:
            yield one
            limit -= 1
            if not limit:
                return


def mend(work: Work, key: bytes) -> None:
    """Make a damaged set anew: it was not met, and nothing follows it, as what it said is lost."""
    set_id = ks.read_id(key)
    for found in [found for found, _ in work.of("forget", b"") if ks.read_forget(found)[1:] == (ks.MemoKind.SET, key)]:
        work.delete("forget", found)
    pending = pending_members(work)[set_id]
    _log.error("set %d is taken for unmet: %s", set_id, LOST)
    whole = SetView(set_id, TaskSet(), members=pending, pending=pending, created_at=work.now.wall)
    lost = rules.ended(whole, SetState.UNMET, work.now.wall, LOST)
    work.put("forget", _forget_key(lost))
    work.put("set", key, rec.write_map(lost))
