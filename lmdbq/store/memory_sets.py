"""Sets in memory: made, joined, closed, decided, forgotten. What ``sets`` says of one set, done to the tables."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from lmdbq import ids, sets
from lmdbq.clock import Now
from lmdbq.model import (
    ENDED,
    NEW_SET,
    Problem,
    SetChanged,
    SetClose,
    SetDelete,
    SetMake,
    SetState,
    SetView,
    State,
)
from lmdbq.store.memory_rows import Denied
from lmdbq.store.memory_state import Tables
from lmdbq.wire.followups import after_set


def make(tables: Tables, op: SetMake, now: Now) -> SetChanged:
    """Make a set."""
    set_id = ids.next_id(tables.last_id[""], now.wall)
    tables.assign(tables.last_id, "", set_id)
    tables.made_set = set_id
    tables.assign(tables.sets, set_id, SetView(set_id, op.set, created_at=now.wall))
    return SetChanged(set_id, SetState.OPEN)


def close(tables: Tables, op: SetClose, _: Now) -> SetChanged:
    """Close a set. Raises Denied."""
    one = _known(tables, meant(tables, op.id))
    state = SetState.CLOSED if one.state is SetState.OPEN else one.state
    tables.assign(tables.sets, one.id, replace(one, state=state))
    return SetChanged(one.id, state)


def delete(tables: Tables, op: SetDelete, _: Now) -> SetChanged:
    """Forget a set. Raises Denied."""
    one = _known(tables, op.id)
    tables.discard(tables.sets, one.id)
    tables.discard(tables.set_ghosts, one.id)
    return SetChanged(one.id, None)


def _known(tables: Tables, set_id: int) -> SetView:
    one = tables.sets.get(set_id)
    if one is None:
        raise Denied([sets.unknown("/set_id")])
    return one


def meant(tables: Tables, set_id: int) -> int:
    """Return the set that an id in a call means."""
    return tables.made_set if set_id == NEW_SET else set_id


def refused(tables: Tables, set_id: int, lease: tuple[int, int], pointer: str) -> Problem | None:
    """Return why an entry may not join a set, None if it may."""
    asks = tables.rows.get(lease[0])
    runs = asks is not None and asks.state is State.RUNNING and asks.deliveries == lease[1]
    is_member = asks is not None and runs and asks.options.set_id == set_id
    return sets.refused(tables.sets.get(set_id), pointer, is_member=is_member)


def join(tables: Tables, set_id: int) -> None:
    """Count a new member."""
    tables.assign(tables.sets, set_id, sets.joined(tables.sets[set_id]))


def settle(tables: Tables, now: Now) -> None:
    """Decide the sets that can be decided, the oldest first; what follows them is spawned."""
    for set_id in sorted(tables.sets):
        one = tables.sets[set_id]
        ended = None if sets.is_decided(one) else sets.decided(one, now.wall)
        if ended is not None:
            tables.assign(tables.sets, set_id, ended)
            follower = after_set(ended)
            tables.spawned += [] if follower is None else [follower]


def forget_sets(tables: Tables, now: Now) -> None:
    """Forget sets whose time is over; count members that went with their queue as deleted."""
    for one in [one for one in tables.sets.values() if 0 < one.remove_at <= now.wall]:
        tables.discard(tables.sets, one.id)
    for set_id, length in list(tables.set_ghosts.items()):
        known = tables.sets.get(set_id)
        if known is not None and not sets.is_decided(known):
            tables.assign(tables.sets, set_id, sets.left(known, "deleted", length))
        tables.discard(tables.set_ghosts, set_id)


def set_faults(tables: Tables) -> list[str]:
    """Return a line for each set whose counts are not those of its members."""
    rows = [row for row in tables.rows.values() if row.options.set_id and row.state not in ENDED]
    pending = Counter(row.options.set_id for row in rows) + Counter(tables.set_ghosts)
    wrong = []
    for one in tables.sets.values():
        over = sum(getattr(one, name) for name in sets.COUNTED)
        if one.members != one.pending + over:
            wrong.append(f"set {one.id}: {one.members} members are not {one.pending} and {over}")
        if not sets.is_decided(one) and one.pending != pending[one.id]:
            wrong.append(f"set {one.id} says {one.pending} are pending, the tasks say {pending[one.id]}")
    return wrong
