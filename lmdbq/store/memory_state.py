"""What the memory store holds: plain dicts of immutable rows, and a journal that can take a call back.

Every change goes through the journal (``Tables.assign`` and ``Tables.discard``), which notes the value that stood
there. A call that is refused is undone by writing the old values back in reverse, so no code above needs to plan ahead.
Rows are found by id; ``standing`` groups their ids by (queue, state), and ``counts`` counts them by (queue, type,
state): both follow from the rows, are kept by ``put`` and ``remove`` only, and are compared with the rows by ``check``.

The trap: a dict that is changed past the journal keeps the trace of a refused call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from lmdbq import lifecycle, precedence, sets
from lmdbq.buckets import Bucket
from lmdbq.clock import Now
from lmdbq.lifecycle import ResolvedDedupe, ResolvedRetry
from lmdbq.model import (
    ENDED,
    Entry,
    GroupRule,
    GroupSettings,
    Outcome,
    QueueSettings,
    SetView,
    State,
    Totals,
    TypePut,
    Until,
)
from lmdbq.sharing import Pace
from lmdbq.store.memory_rows import LaneName, Queue, Remembered, RememberedClaim, Row, Slot, SlotName
from lmdbq.wire.followups import after_death, resolve_on_dead

_ABSENT: Final = object()
_BLOCKING_STATES: Final = {
    Until.STARTED: frozenset({State.SCHEDULED, State.READY}),
    Until.FINISHED: frozenset({State.SCHEDULED, State.READY, State.RUNNING}),
    Until.DELETED: frozenset(State),
}


@dataclass
class Tables:
    """All that is stored. Only ``assign`` and ``discard`` write to the dicts."""

    rows: dict[int, Row] = field(default_factory=dict)
    standing: dict[tuple[str, State], dict[int, None]] = field(default_factory=dict)
    counts: dict[tuple[str, str, State], int] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    types: dict[str, TypePut] = field(default_factory=dict)
    slots: dict[SlotName, Slot] = field(default_factory=dict)
    externals: dict[tuple[int, str], int] = field(default_factory=dict)
    memos: dict[str, Remembered] = field(default_factory=dict)
    claims: dict[str, RememberedClaim] = field(default_factory=dict)
    schedules: dict[str, Any] = field(default_factory=dict)  # memory_schedules.ScheduleRow by name
    last_id: dict[str, int] = field(default_factory=lambda: {"": 0})
    daemon_start: dict[int, int] = field(default_factory=dict)  # boot_no -> steady ns
    turn_time: dict[str, int] = field(default_factory=lambda: {"": 0})  # the start of the last turn of any queue
    stirred: dict[str, None] = field(default_factory=dict)
    spawned: list[Entry] = field(default_factory=list)  # to be enqueued when the op under way is through
    lanes: dict[LaneName, dict[int, None]] = field(default_factory=dict)  # the ids of all tasks of a lane
    holders: dict[LaneName, int] = field(default_factory=dict)  # the task that holds a thread
    groups: dict[str, GroupSettings] = field(default_factory=dict)
    group_rules: dict[str, GroupRule] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    turns: dict[tuple[str, str], int] = field(default_factory=dict)  # of (queue, group), see memory_fair
    ghosts: dict[str, int] = field(default_factory=dict)  # group -> its running tasks of purged queues, until Prune
    sets: dict[int, SetView] = field(default_factory=dict)
    set_ghosts: dict[int, int] = field(default_factory=dict)  # set -> its members of purged queues, until Prune
    boot_start: dict[int, int] = field(default_factory=dict)  # boot_no -> steady ns of its first write
    made_set: int = 0  # the set that the call under way has made last
    _journal: list[tuple[dict[Any, Any], Any, Any]] = field(default_factory=list)

    # --- the journal

    def assign(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Set ``table[key]``, and note what stood there."""
        self._journal.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    def discard(self, table: dict[Any, Any], key: Any) -> None:
        """Remove ``key`` if it is there, and note what stood there."""
        if key in table:
            self._journal.append((table, key, table.pop(key)))

    def keep(self) -> None:
        """Make what happened since the last ``keep`` or ``undo`` permanent."""
        self._journal.clear()

    def undo(self) -> None:
        """Take back everything since the last ``keep`` or ``undo``."""
        for table, key, before in reversed(self._journal):
            if before is _ABSENT:
                table.pop(key, None)
            else:
                table[key] = before
        self._journal.clear()
        self.spawned.clear()

    # --- rows

    def put(self, row: Row) -> None:
        """Store ``row``, in place of the one with its id."""
        self._unindex(self.rows.get(row.id))
        self.assign(self.rows, row.id, row)
        self.assign(self.standing.setdefault((row.queue, row.state), {}), row.id, None)
        self._count(row, +1)
        if row.lane is not None:
            self.assign(self.lanes.setdefault(row.lane, {}), row.id, None)
            if row.state in ENDED:
                self.let_go(row)
        if row.state is State.READY:
            self.stir(row.queue)

    def remove(self, row: Row, now: Now) -> None:
        """Remove a task for good, and its dedupe slot with it unless a ttl still holds that."""
        self._unindex(row)
        self.let_go(row)
        self.discard(self.rows, row.id)
        name = (row.options.namespace_no, row.options.external_id)
        if self.externals.get(name) == row.id:
            self.discard(self.externals, name)
        slot = self.slots.get(row.slot) if row.slot else None
        if slot and slot.id == row.id and (slot.blocks_until is None or slot.blocks_until <= now.wall):
            self.discard(self.slots, row.slot)

    def rename(self, row: Row, new_id: int) -> None:
        """Give a task that was stored under a provisional id its own."""
        self._unindex(row)
        self.discard(self.rows, row.id)
        self.put(replace(row, id=new_id))
        if row.options.external_id:
            self.assign(self.externals, (row.options.namespace_no, row.options.external_id), new_id)
        slot = self.slots.get(row.slot) if row.slot else None
        if slot and slot.id == row.id:
            self.assign(self.slots, row.slot, replace(slot, id=new_id))

    def _unindex(self, row: Row | None) -> None:
        if row is None:
            return
        self.discard(self.standing[row.queue, row.state], row.id)
        self._count(row, -1)
        if row.lane is not None:
            self.discard(self.lanes[row.lane], row.id)
        if row.state is State.RUNNING:
            self.stir(row.queue)
            self._stir_lane(row)

    # --- lanes

    def in_lane(self, name: LaneName, state: State) -> list[Row]:
        """Return the tasks of a lane in ``state``."""
        rows = [self.rows[task_id] for task_id in self.lanes.get(name, ())]
        return [row for row in rows if row.state is state]

    def let_go(self, row: Row) -> None:
        """Let a task hold its thread no longer, if it does."""
        if row.lane is not None and self.holders.get(row.lane) == row.id:
            self.discard(self.holders, row.lane)
            self._stir_lane(row)

    def _stir_lane(self, row: Row) -> None:
        if row.lane is not None:
            for other in self.in_lane(row.lane, State.READY):
                self.stir(other.queue)

    def _count(self, row: Row, by: int) -> None:
        key = (row.queue, row.type, row.state)
        number = self.counts.get(key, 0) + by
        if number:
            self.assign(self.counts, key, number)
        else:
            self.discard(self.counts, key)

    def standing_in(self, *states: State, queue: str | None = None) -> Iterator[Row]:
        """Yield the rows of a queue (of all queues) in ``states``. Do not change any of them while it runs."""
        for name in self.queues if queue is None else (queue,):
            for state in states:
                for task_id in self.standing.get((name, state), ()):
                    yield self.rows[task_id]

    def number_in(self, queue: str, state: State) -> int:
        """Return how many tasks of ``queue`` are in ``state``."""
        return len(self.standing.get((queue, state), ()))

    def missing(self, task_id: int) -> Outcome:
        """Return how an op on a task that is not stored answers."""
        return Outcome.GONE if task_id <= self.last_id[""] else Outcome.NOT_FOUND

    # --- queues

    def settings(self, queue: str) -> QueueSettings:
        """Return the settings of an existing queue."""
        return self.queues[queue].settings

    def rules(self, queue: str, type_: str) -> QueueSettings:
        """Return the settings that hold for tasks of a type in an existing queue."""
        known = self.types.get(type_)
        own = self.settings(queue)
        return own if known is None else precedence.settings_of(known.settings, own)

    def stir(self, queue: str) -> None:
        """Note that a claim may now find more in ``queue``."""
        self.assign(self.stirred, queue, None)

    def tally(self, queue: str, name: str, by: int = 1) -> None:
        """Add ``by`` to the total ``name`` of a queue."""
        known = self.queues[queue]
        totals = replace(known.totals, **{name: getattr(known.totals, name) + by})
        self.assign(self.queues, queue, replace(known, totals=totals))

    def set_pace(self, queue: str, pace: Pace) -> None:
        """Note how fast a queue is served."""
        self.assign(self.queues, queue, replace(self.queues[queue], pace=pace))

    def create_queue(self, queue: str, settings: QueueSettings) -> None:
        """Create a queue without tasks."""
        self.assign(self.queues, queue, Queue(settings, Totals()))

    def has_room_for_type(self, queue: str, type_: str, types_max: int) -> bool:
        """Whether a task of ``type_`` may be stored in ``queue``: it is known there, or there are few enough others."""
        if any((queue, type_, state) in self.counts for state in State):
            return True
        return len({known for name, known, _ in self.counts if name == queue}) < types_max

    # --- the life of a task

    def retry_of(self, row: Row) -> ResolvedRetry:
        """Return the retry strategy that holds for a task now."""
        return lifecycle.resolve_retry(row.options.retry, self.rules(row.queue, row.type).retry)

    def end(self, row: Row, state: State, reason: str, now: Now) -> State | None:
        """End a task in ``state``; return that state, or None if it is not kept."""
        rules = self.rules(row.queue, row.type)
        keep_ns = lifecycle.resolve_keep(state, row.result is not None, row.options.keep, rules.keep)
        self.tally(row.queue, state.word)
        if state is State.DEAD:
            self._follow_death(row, reason)
        self.leave_set(row, state.word)
        if not keep_ns:
            self.remove(row, now)
            return None
        self.put(
            replace(
                row,
                state=state,
                reason=reason,
                due_at=0,
                lease=None,
                ended_at=now.wall,
                remove_at=now.wall + keep_ns,
            )
        )
        if state is State.DEAD and self.settings(row.queue).max_dead:
            self._trim_dead(row.queue, now)
        return state if row.id in self.rows else None

    def _trim_dead(self, queue: str, now: Now) -> None:
        """Remove the dead tasks that a queue keeps too many of, the earliest to go first."""
        dead = sorted(self.standing_in(State.DEAD, queue=queue), key=lambda row: (row.remove_at, row.id))
        for row in dead[: max(0, len(dead) - self.settings(queue).max_dead)]:
            self.remove(row, now)

    def _follow_death(self, row: Row, reason: str) -> None:
        template = resolve_on_dead(row.options.on_dead, self.settings(row.queue), row.queue, row.type)
        if template is not None:
            place = (row.id, row.queue, row.type)
            self.spawned.append(after_death(template, *place, row.payload, row.encoding, reason, row.errors))

    def expire(self, row: Row, now: Now) -> None:
        """Remove a task that waited for too long."""
        self.tally(row.queue, "expired")
        self.leave_set(row, "expired")
        self.remove(row, now)

    def leave_set(self, row: Row, how: str) -> None:
        """Count a task that had not ended as over, in its set if that is not decided."""
        one = self.sets.get(row.options.set_id)
        if one is not None and row.state not in ENDED and not sets.is_decided(one):
            self.assign(self.sets, one.id, sets.left(one, how))

    # --- dedupe

    def blocking(self, rule: ResolvedDedupe, name: SlotName, now: Now) -> Slot | None:
        """Return the slot ``name`` if it blocks a newcomer with ``rule``; an overdue holder is expired first."""
        slot = self.slots.get(name)
        if slot is None:
            return None
        holder = self.rows.get(slot.id)
        if holder is not None and holder.has_expired(now):
            self.expire(holder, now)
            holder = None
            slot = self.slots.get(name)
            if slot is None:
                return None
        if slot.blocks_until is not None:
            return slot if now.wall < slot.blocks_until else None
        is_fresh = now.wall < slot.taken_at + rule.ttl_ns
        if rule.until is Until.TTL:
            return slot if is_fresh else None
        if holder is None or holder.state not in _BLOCKING_STATES[rule.until]:
            return None
        return slot if is_fresh or not rule.ttl_ns else None

    def take_slot(self, row: Row, rule: ResolvedDedupe, now: Now) -> None:
        """Make a task the holder of its dedupe key."""
        until = now.wall + rule.ttl_ns if rule.until is Until.TTL else None
        self.assign(self.slots, row.slot, Slot(row.id, row.queue, now.wall, until))
