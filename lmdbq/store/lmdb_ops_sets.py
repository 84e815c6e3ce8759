"""SetMake, SetClose and SetDelete. What becomes of a set when its members end is in ``lmdb_sets``."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq import sets as rules
from lmdbq.ids import next_id
from lmdbq.model import NEW_SET, Refused, SetChanged, SetClose, SetDelete, SetMake, SetState, SetView
from lmdbq.store import keyspace as ks
from lmdbq.store.lmdb_work import Work


def make_set(work: Work, op: SetMake) -> SetChanged:
    """Run one SetMake. Raises BadKey for a name that what follows it must not be the first to find."""
    for template in (op.set.callback, op.set.on_unmet):
        if template is not None:
            ks.name_bytes(template.queue or "default")
            ks.name_bytes(template.type)
    set_id = next_id(work.last_id, work.now.wall)
    work.take_ids(set_id, 1)
    work.made_set = set_id
    work.sets.put(SetView(set_id, op.set, created_at=work.now.wall))
    return SetChanged(set_id, SetState.OPEN)


def close_set(work: Work, op: SetClose) -> SetChanged | Refused:
    """Run one SetClose; ``state`` is said before it may be decided."""
    set_id = work.made_set if op.id == NEW_SET else op.id
    one = work.sets.find(set_id)
    if one is None:
        return _unknown()
    if one.state is SetState.OPEN:
        one = replace(one, state=SetState.CLOSED)
        work.sets.put(one)
    return SetChanged(set_id, one.state)


def delete_set(work: Work, op: SetDelete) -> SetChanged | Refused:
    """Run one SetDelete."""
    one = work.sets.find(op.id)
    if one is None:
        return _unknown()
    work.sets.delete(one)
    return SetChanged(op.id, None)


def _unknown() -> Refused:
    problem = rules.unknown("/set_id")
    return Refused(problem.code, (problem,))
