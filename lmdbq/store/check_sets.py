"""The invariant of sets: K18."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lmdbq import sets
from lmdbq.ids import format_set_id
from lmdbq.model import ENDED
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_facts import File
from lmdbq.store.check_tasks import MEMBER


def k18(file: File) -> Iterator[str]:
    """The counts of a set add up; of one that is undecided pending is a recount, and one that is decided will go."""
    pending: Counter[int] = Counter()
    for task_id in file.tasks.with_flags(MEMBER):
        record, places = file.tasks.record(task_id), file.tasks.places(task_id)
        if record is not None and (not places or places[0].state not in ENDED):
            pending[record.options.set_id] += 1
    for key, value in file.items("set"):
        one = file.sound("set", key, lambda value=value: rec.read_set(value))  # type: ignore[misc]
        if one is None:
            continue
        named = f"K18: set {format_set_id(ks.read_id(key))}"
        if one.id != ks.read_id(key):
            yield f"{named} stands under another id than its record says"
        if one.members != one.pending + sum(getattr(one, name) for name in sets.COUNTED):
            yield f"{named} has {one.members} members, but its counts do not add up to that"
        if sets.is_decided(one):
            if file.get("forget", ks.forget(one.remove_at, ks.MemoKind.SET, bytes(key))) is None:
                yield f"{named} is decided and has no forget key"
        elif one.pending != pending[one.id]:
            yield f"{named} has {one.pending} pending members, {pending[one.id]} counted"
        elif sets.decided(one, 0) is not None:
            yield f"{named} could be decided, and is not"
