"""What the checker remembers of each task: some 30 bytes if it stands in a run, 60 if it stands alone.

Arrays side by side, in the order of ids: what the record says that decides what is looked at, and where the task
stands: a run, which its tasks share, or a key of its own, whose bytes are kept. Records, histories and the values of
standings are read again when they are asked for. What is wrong (a task that stands twice, a standing without a record)
is rare, and kept as it comes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from lmdbq.model import ENDED, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import is_laned

SOUND: Final = 1
EXPIRES: Final = 2
LANED: Final = 4
EXTERNAL: Final = 8
HISTORY: Final = 16
IS_ENDED: Final = 32
MEMBER: Final = 64

_NOWHERE: Final = 0
_TWICE: Final = 255
_RUN: Final = 254
_SINGLE: Final = ("", "scheduled", "ended", "lane")  # by code
_KEY_BYTES: Final = (0, 20, 21, 30)

Get = Callable[[str, bytes], bytes | None]


class Place:
    """One standing of one task: in which database, with which queue, type and (for ready) place."""

    __slots__ = ("database", "key", "queue_no", "state", "type_no")

    def __init__(self, database: str, key: tuple[int, ...], queue_no: int, type_no: int, state: State) -> None:
        self.database = database
        self.key = key
        self.queue_no = queue_no
        self.type_no = type_no
        self.state = state


def single_place(database: str, key: bytes, value: bytes) -> tuple[int, Place]:
    """Return the task of a standing that is its own, and the standing. Raises Damaged."""
    if database == "lane":
        parts, own = ks.read_lane(key), rec.read_lane_standing(key, value)
        return parts.id, Place(database, (*parts[:5], *own[:3]), parts.queue_no, own.type_no, State.READY)
    standing = rec.read_standing(key, value)
    if database == "scheduled":
        at = ks.read_timed(key)
        return at.id, Place(database, (at.at,), at.queue_no, standing.type_no, State.SCHEDULED)
    end = ks.read_ended(key)
    return end.id, Place(database, (end.remove_at,), end.queue_no, standing.type_no, State(end.state))


class Tasks:
    """Every stored task, and every standing. get: reads a key of a database."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._ids = array("Q")
        self._flags = bytearray()
        self._codes = bytearray()
        self._refs = array("Q")  # into _runs, or where a key of its own begins
        self._runs: list[Place] = []
        self._keys = bytearray()
        self._more: dict[int, list[Place]] = {}  # of tasks that stand twice, or have no record
        self.counted: Counter[tuple[int, int, State]] = Counter()  # standings by queue_no, type_no and state

    # --- reading ---

    def add_record(self, task_id: int, record: rec.TaskRecord | None) -> None:
        """Add a record, the ids rising; None: it is damaged."""
        flags = 0
        if record is not None:
            options = record.options
            flags = SOUND | EXPIRES * bool(record.expires_at) | LANED * is_laned(options)
            flags |= EXTERNAL * bool(options.external_id) | MEMBER * bool(options.set_id)
        self._ids.append(task_id)
        self._flags.append(flags)

    def records_end(self) -> None:
        """Every record was added: histories and standings follow."""
        self._codes = bytearray(len(self._ids))
        self._refs = array("Q", bytes(8 * len(self._ids)))

    def add_history(self, task_id: int) -> bool:
        """Note that a task has a sound history; False if there is no sound record for it."""
        index = self._index(task_id)
        if index is None:
            return False
        self._flags[index] |= HISTORY
        return bool(self._flags[index] & SOUND)

    def add_run(self, last_id: int, length: int, place: Place) -> bool:
        """Add a standing of all that is stored of an interval of ids; False if that is nothing."""
        low, high = bisect_left(self._ids, last_id - length + 1), bisect_right(self._ids, last_id)
        self._runs.append(place)
        self.counted[place.queue_no, place.type_no, place.state] += high - low
        for index in range(low, high):
            self._stand(index, _RUN, len(self._runs) - 1, place)
        return high > low

    def add_single(self, task_id: int, key: bytes, place: Place) -> None:
        """Add a standing of one task."""
        self.counted[place.queue_no, place.type_no, place.state] += 1
        index = self._index(task_id)
        if index is None:
            self._more.setdefault(task_id, []).append(place)
            return
        if place.state in ENDED:
            self._flags[index] |= IS_ENDED
        self._stand(index, _SINGLE.index(place.database), len(self._keys), place)
        if self._codes[index] != _TWICE:
            self._keys += key

    def _stand(self, index: int, code: int, ref: int, place: Place) -> None:
        if self._codes[index] != _NOWHERE:
            self._more[self._ids[index]] = [*self._places_at(index), place]
            self._codes[index] = _TWICE
            return
        self._codes[index] = code
        self._refs[index] = ref

    # --- asking ---

    def _index(self, task_id: int) -> int | None:
        index = bisect_left(self._ids, task_id)
        return index if index < len(self._ids) and self._ids[index] == task_id else None

    def highest(self) -> int:
        """Return the highest id of a sound record, 0 if there is none."""
        return next((self._ids[at] for at in range(len(self._ids) - 1, -1, -1) if self._flags[at] & SOUND), 0)

    def record(self, task_id: int) -> rec.TaskRecord | None:
        """Return a record; None if there is no sound one."""
        value = self._get("task", ks.task(task_id)) if self.has(task_id, SOUND) else None
        return None if value is None else rec.read_task(value)

    def history(self, task_id: int) -> rec.History | None:
        """Return a history; None if there is no sound one."""
        value = self._get("history", ks.history(task_id)) if self.has(task_id, HISTORY) else None
        return None if value is None else rec.read_history(value)

    def with_flags(self, flags: int) -> Iterator[int]:
        """Yield the tasks that have all of some flags."""
        return (task_id for task_id, own in zip(self._ids, self._flags, strict=True) if own & flags == flags)

    def has(self, task_id: int, flags: int) -> bool:
        """Whether a task is stored and has all of some flags."""
        index = self._index(task_id)
        return index is not None and self._flags[index] & flags == flags

    def places(self, task_id: int) -> list[Place]:
        """Return the standings of a task."""
        index = self._index(task_id)
        return self._more.get(task_id, []) if index is None else self._places_at(index)

    def _places_at(self, index: int) -> list[Place]:
        code, ref = self._codes[index], self._refs[index]
        if code == _RUN:
            return [self._runs[ref]]
        if code in (_NOWHERE, _TWICE):
            return self._more.get(self._ids[index], [])
        key = bytes(self._keys[ref : ref + _KEY_BYTES[code]])
        value = self._get(_SINGLE[code], key)
        assert value is not None
        return [single_place(_SINGLE[code], key, value)[1]]

    def not_once(self) -> Iterator[int]:
        """Yield the tasks with a sound record that stand nowhere, or twice."""
        for index, code in enumerate(self._codes):
            if code in (_NOWHERE, _TWICE) and self._flags[index] & SOUND:
                yield self._ids[index]

    def standings(self) -> Iterator[tuple[int, list[Place]]]:
        """Yield the standings of every task that has any, and of those without a record."""
        for index, task_id in enumerate(self._ids):
            if self._codes[index]:
                yield task_id, self._places_at(index)
        yield from self.strays()

    def strays(self) -> Iterator[tuple[int, list[Place]]]:
        """Yield the standings that have no record."""
        return ((task_id, held) for task_id, held in self._more.items() if self._index(task_id) is None)
