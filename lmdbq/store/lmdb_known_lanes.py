"""Threads and groups as a transaction knows them: which there are, their numbers, and what holds for them now.

A lane is read when it is first met and kept; it is made when it gets its first ready task, or settings of its own. What
a group may do follows from its own settings, the rules of the file, its running tasks and its tokens (``lmdbq.lanes``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from lmdbq import buckets
from lmdbq import lanes as rules
from lmdbq.buckets import Bucket
from lmdbq.model import GroupRule, GroupSettings, Options, Scope
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_rows import Broken

if TYPE_CHECKING:
    from lmdbq.store.lmdb_work import Work

LANES_NO_MAX: Final = 2**32 - 1
List = tuple[int, int, int]  # queue_no, type_no, priority (the last two 0 for a thread)

_log = logging.getLogger(__name__)


class Member(NamedTuple):
    """A task of a lane, and where it stands, or would, while it is ready. priority: the biased one."""

    options: Options
    queue_no: int
    type_no: int
    priority: int
    rank: int
    id: int

    @property
    def lane_key(self) -> bytes:
        """The lane_by_name key of its lane."""
        if self.options.thread:
            return ks.lane_by_name(Scope.QUEUE, self.queue_no, self.options.thread)
        return ks.lane_by_name(Scope.GLOBAL, 0, self.options.group)


class Lane:
    """A thread or group as this transaction sees it."""

    __slots__ = ("changed", "key", "lists", "name", "owner_no", "record", "scope")

    def __init__(self, key: bytes, record: rec.LaneRecord) -> None:
        self.key = key
        self.scope, self.owner_no, self.name = ks.lane_owner(key)
        self.record = record
        self.lists: set[List] = set()  # whose first task may be another one since the last sync
        self.changed = False  # since the last sync

    @property
    def no(self) -> int:
        """Its number."""
        return self.record.no

    @property
    def is_thread(self) -> bool:
        """Whether it is a thread, and not a group."""
        return self.scope is Scope.QUEUE

    @property
    def ready(self) -> int:
        """How many of its tasks are ready."""
        return sum(ready for ready, _ in self.record.counts.values())

    @property
    def running(self) -> int:
        """How many of its tasks run."""
        return sum(running for _, running in self.record.counts.values())

    def copy(self) -> Lane:
        """Return a lane that can be changed while this one stays."""
        record = self.record
        other = Lane(
            self.key,
            rec.LaneRecord(
                record.no,
                record.settings,
                dict(record.counts),
                record.held_by,
                record.bucket,
                record.exposed,
                record.wake,
                dict(record.turns),
            ),
        )
        other.lists, other.changed = set(self.lists), self.changed
        return other


class KnownLanes:
    """The lanes that a transaction has met."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lanes: dict[bytes, Lane | None] = {}
        self._keys: dict[int, bytes] = {}
        self._rules: list[GroupRule] | None = None
        self._limits: dict[bytes, tuple[GroupSettings | None, GroupSettings]] = {}  # what holds, beside its own
        self._last_no = 0

    def fork(self, work: Work) -> Self:
        """Return the lanes of a child: a copy of all that changes."""
        other = type(self)(work)
        other._lanes = {key: lane and lane.copy() for key, lane in self._lanes.items()}
        other._keys = dict(self._keys)
        other._rules, other._last_no = self._rules, self._last_no
        return other

    def adopted(self, work: Work) -> Self:
        """Return the lanes of a child that was committed, as its parent's."""
        self._work = work
        return self

    # --- finding a lane ---

    def find(self, key: bytes) -> Lane | None:
        """Return the lane of a lane_by_name key; None if it has neither tasks nor settings. Raises Broken."""
        if key in self._lanes:
            return self._lanes[key]
        value = self._work.get("catalog", key)
        lane = None
        if value is not None:
            try:
                lane = Lane(key, rec.read_lane(value))
            except rec.Damaged as error:
                raise Broken("catalog", key) from error
            self._keys[lane.no] = key
        self._lanes[key] = lane
        return lane

    def by_no(self, lane_no: int) -> Lane | None:
        """Return the lane of a number; None if nobody has it. Raises Broken."""
        key = self._keys.get(lane_no)
        if key is None:
            value = self._work.get("catalog", ks.lane_by_no(lane_no))
            if value is None:
                return None
            try:
                key = b"L" + rec.unseal(value)
            except rec.Damaged as error:
                raise Broken("catalog", ks.lane_by_no(lane_no)) from error
        lane = self.find(key)
        return lane if lane is not None and lane.no == lane_no else None

    def all(self) -> list[Lane]:
        """Return every lane there is."""
        keys = [key for key, _ in self._work.of("catalog", b"L")]
        keys += [key for key in self._lanes if key not in set(keys)]
        return [lane for key in keys if (lane := self.find(key)) is not None]

    def make(self, key: bytes) -> Lane:
        """Return the lane of a lane_by_name key, making it if there is none."""
        lane = self.find(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, rec.LaneRecord(self._take_no()))
            self._keys[lane.no] = key
            self._work.put("catalog", ks.lane_by_no(lane.no), rec.seal(key[1:]))
            lane.changed = True
        return lane

    def remake(self, key: bytes, record: rec.LaneRecord) -> Lane:
        """Return the lane of a key, with a record made anew."""
        lane = self._lanes[key] = Lane(key, record)
        self._keys[lane.no] = key
        lane.changed = True
        return lane

    def _take_no(self) -> int:
        if not self._last_no:
            self._last_no = self._read_last_no()
        while True:
            self._last_no = self._last_no % LANES_NO_MAX + 1
            if self._work.get("catalog", ks.lane_by_no(self._last_no)) is None:
                self._work.put("catalog", ks.last_lane(), rec.write_number(self._last_no))
                return self._last_no

    def _read_last_no(self) -> int:
        value = self._work.get("catalog", ks.last_lane())
        try:
            return 0 if value is None else rec.read_number(value)
        except rec.Damaged as error:
            _log.error("the last lane number is taken from those in use: %s", error)
            found = self._work.last_before("catalog", ks.lane_by_no(LANES_NO_MAX))
            return ks.read_number(found[0]) if found is not None and found[0][:1] == b"l" else 0

    # --- what a group may do ---

    def rules(self) -> list[GroupRule]:
        """Return every rule for groups."""
        if self._rules is None:
            self._rules = []
            for key, value in list(self._work.of("catalog", b"R")):
                try:
                    self._rules.append(rec.read_rule(value))
                except rec.Damaged as error:
                    _log.error("rule %r is damaged, and holds for no group: %s", key[1:], error)
        return self._rules

    def rules_changed(self) -> None:
        """Forget the rules that were read."""
        self._rules = None
        self._limits = {}

    def rule_of(self, lane: Lane) -> GroupRule | None:
        """Return the rule that holds for a group."""
        return rules.best_rule(self.rules(), lane.name)

    def limits(self, lane: Lane) -> GroupSettings:
        """Return what holds for a group."""
        own, known = lane.record.settings, self._limits.get(lane.key)
        if known is None or known[0] is not own:
            known = self._limits[lane.key] = (own, rules.resolve(own, self.rule_of(lane)))
        return known[1]

    def _bucket(self, lane: Lane) -> Bucket | None:
        return self.bucket(lane, self.limits(lane))

    def bucket(self, lane: Lane, limits: GroupSettings) -> Bucket | None:
        """Return a group's tokens as they are now."""
        if lane.record.bucket is None:
            return None
        return buckets.counted(lane.record.bucket, limits.rate, self._work.now, self._work.boot_start)

    def blocked_by(self, lane: Lane) -> str:
        """Return why a group may not start a task now, "" if it may; of a thread always ""."""
        if lane.is_thread:
            return ""
        limits = self.limits(lane)
        return rules.blocked_by(limits, lane.running, self.bucket(lane, limits))


def is_laned(options: Options) -> bool:
    """Whether a task is in a thread or a group."""
    return bool(options.thread or options.group)
