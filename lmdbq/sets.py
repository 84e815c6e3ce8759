"""The rules of sets: who may join, when a set is decided and how. Pure functions, for every store.

                make        close            the last member is over (or was, when it was closed)
    (nothing) ------> OPEN -------> CLOSED --------------------------------------> MET or UNMET --keep--> (nothing)
                       '---------------'---- condition ``any``: one has succeeded --> MET

A set is decided once, in the transaction of what decided it, and what is to follow is enqueued there. From then on
its counts stay as they are, whatever becomes of its members.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from lmdbq import limits
from lmdbq.model import Condition, Problem, SetState, SetView, State

UNDECIDED: Final = (SetState.OPEN, SetState.CLOSED)
COUNTED: Final = ("succeeded", "dead", "cancelled", "expired", "deleted")  # how a member may be over


def is_decided(one: SetView) -> bool:
    """Whether a set was met or will never be."""
    return one.state not in UNDECIDED


def joined(one: SetView) -> SetView:
    """Return a set with one more member, which is not over."""
    return replace(one, members=one.members + 1, pending=one.pending + 1)


def left(one: SetView, how: str, length: int = 1) -> SetView:
    """Return a set of which ``length`` members are over. how: one of COUNTED."""
    return replace(one, pending=one.pending - length, **{how: getattr(one, how) + length})


def came_back(one: SetView, state: State) -> SetView:
    """Return a set one of whose members had ended in ``state``, and was retried by hand."""
    return replace(one, pending=one.pending + 1, **{state.word: getattr(one, state.word) - 1})


def decided(one: SetView, now_wall: int) -> SetView | None:
    """Return an undecided set as it is once it is decided at ``now_wall``; None if it cannot be yet."""
    is_over = one.state is SetState.CLOSED and not one.pending
    if one.set.condition is Condition.ANY:
        if not one.succeeded and not is_over:
            return None
        is_met = one.succeeded > 0
    elif is_over:
        is_met = one.set.condition is Condition.FINISHED or one.succeeded == one.members
    else:
        return None
    return ended(one, SetState.MET if is_met else SetState.UNMET, now_wall)


def ended(one: SetView, state: SetState, now_wall: int, reason: str = "") -> SetView:
    """Return a set that ends in ``state`` at ``now_wall``."""
    remove_at = min(now_wall + one.set.keep_ns, limits.INSTANT_NS_MAX)
    return replace(one, state=state, ended_at=now_wall, remove_at=remove_at, reason=reason)


def refused(one: SetView | None, pointer: str, *, is_member: bool = False) -> Problem | None:
    """Return why an entry may not join a set (None: there is none), or a set may not be closed; None if it may.

    is_member: a running member of the set asks, which may add to it while it is closed.
    """
    if one is None:
        return unknown(pointer)
    if is_decided(one):
        detail = f"this set was decided already ({one.state.word}), and takes no more members; make another set"
        return Problem("set_decided", pointer, detail)
    if one.state is SetState.CLOSED and not is_member:
        detail = "this set is closed: only a running member may add to it, with its lease; add before you close it"
        return Problem("set_closed", pointer, detail)
    return None


def unknown(pointer: str) -> Problem:
    """Return the problem of a set that does not exist."""
    detail = "there is no such set: it was never made, was deleted, or was decided and not kept any longer (see `keep`)"
    return Problem("set_not_found", pointer, detail)
