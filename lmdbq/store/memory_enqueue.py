"""Enqueue and Edit in memory: entry by entry, each on what the earlier ones left.

New tasks are stored at once under a provisional id (-1, -2, ...), so that a later entry of the call finds them like
any other task; when all entries are through, they get their ids. Problems are collected, and raised together at the
end: the journal then takes back what the good entries did.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from lmdbq import ids, lifecycle, limits
from lmdbq.clock import Now
from lmdbq.lifecycle import ExpiresTooEarly, ResolvedDedupe
from lmdbq.model import (
    DEFAULT_SETTINGS,
    Changed,
    ChangeDone,
    Edit,
    Enqueue,
    Enqueued,
    Entry,
    OnDuplicate,
    Options,
    Outcome,
    Placed,
    Problem,
    State,
)
from lmdbq.store import memory_sets
from lmdbq.store.memory_reads import matches
from lmdbq.store.memory_rows import Denied, Row, Slot, slot_name
from lmdbq.store.memory_state import Tables
from lmdbq.wire import folding

_OPTION_OF_FIELD = {
    "keepalive_timeout_in_seconds": "keepalive_ns",
    "retry_strategy": "retry",
    "keep": "keep",
    "tags": "tags",
    "metadata": "metadata",
}


@dataclass
class _Answer:
    """What became of one entry, while the ids are still provisional."""

    id: int
    outcome: Outcome
    reason: str = ""


@dataclass
class _Plan:
    """One Enqueue under way."""

    tables: Tables
    now: Now
    create_queues: bool
    spawned: bool = False
    lease: tuple[int, int] = (0, 0)
    answers: list[_Answer] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    new_ids: list[int] = field(default_factory=list)

    def place(self, index: int, entry: Entry) -> None:
        pointer = f"/entries/{index}"
        if not self._find_queue(entry.queue, pointer):
            return
        settings = self.tables.rules(entry.queue, entry.type)
        try:
            times = lifecycle.resolve_times(entry, settings, self.now.wall)
        except ExpiresTooEarly:
            if not self.spawned:
                self.problems.append(lifecycle.expires_too_early(pointer))
            return
        joining = self._joining(entry, pointer)
        if joining is None or self._is_known(joining):
            return
        entry = joining
        rule = lifecycle.resolve_dedupe(entry, settings)
        slot = rule and self.tables.blocking(rule, slot_name(rule, entry.queue, entry.type), self.now)
        if rule and slot:
            try:
                self._meet_duplicate(pointer, entry, rule, slot, times)
                return
            except folding.Full:
                pass  # the holder stays as it is, and this is a new task
        if rule and rule.fold is not None:
            try:
                payload, encoding = folding.first(rule.fold, (entry.payload, entry.encoding))
            except folding.Unfoldable as bad:
                if not self.spawned:
                    self.problems.append(Problem("fold_failed", f"{pointer}/payload", str(bad)))
                    return
            else:
                entry = replace(entry, payload=payload, encoding=encoding)
        self._store(pointer, entry, rule, times)

    def _joining(self, entry: Entry, pointer: str) -> Entry | None:
        """Return an entry with the set that it will be a member of; a problem, and None, if it may not be."""
        if not entry.options.set_id:
            return entry
        set_id = 0 if self.spawned else memory_sets.meant(self.tables, entry.options.set_id)
        problem = None if self.spawned else memory_sets.refused(self.tables, set_id, self.lease, f"{pointer}/set_id")
        if problem is not None:
            self.problems.append(problem)
            return None
        return replace(entry, options=replace(entry.options, set_id=set_id))

    def _is_known(self, entry: Entry) -> bool:
        """Whether a stored task has the external id of ``entry``, which is skipped then."""
        name = (entry.options.namespace_no, entry.options.external_id)
        holder = self.tables.rows.get(self.tables.externals.get(name, 0))
        if holder is not None and holder.has_expired(self.now):
            self.tables.expire(holder, self.now)
            holder = None
        if holder is None:
            return False
        self.tables.tally(entry.queue, "deduplicated")
        self.answers.append(_Answer(holder.id, Outcome.SKIPPED, "external_id"))
        return True

    def _find_queue(self, queue: str, pointer: str) -> bool:
        if queue in self.tables.queues:
            return True
        if not self.create_queues:
            self.problems.append(
                Problem("queue_not_found", f"{pointer}/queue_name", f"there is no queue {queue!r}; create it first")
            )
            return False
        self.tables.create_queue(queue, DEFAULT_SETTINGS)
        return True

    def _store(self, pointer: str, entry: Entry, rule: ResolvedDedupe | None, times: tuple[int, int]) -> None:
        if not self._has_room_for_type(pointer, entry.queue, entry.type):
            return
        scheduled_at, expires_at = times
        is_later = scheduled_at > self.now.wall
        row = Row(
            id=-1 - len(self.new_ids),
            queue=entry.queue,
            type=entry.type,
            payload=entry.payload,
            encoding=entry.encoding,
            priority=entry.priority,
            created_at=self.now.wall,
            scheduled_at=scheduled_at,
            expires_at=expires_at,
            rank=scheduled_at,
            state=State.SCHEDULED if is_later else State.READY,
            due_at=scheduled_at if is_later else 0,
            options=entry.options,
            slot=slot_name(rule, entry.queue, entry.type) if rule else None,
        )
        self.tables.put(row)
        if entry.options.set_id:
            memory_sets.join(self.tables, entry.options.set_id)
        if entry.options.external_id:
            name = (entry.options.namespace_no, entry.options.external_id)
            self.tables.assign(self.tables.externals, name, row.id)
        if rule:
            self.tables.take_slot(row, rule, self.now)
        self.tables.tally(entry.queue, "enqueued")
        self.new_ids.append(row.id)
        self.answers.append(_Answer(row.id, Outcome.ENQUEUED))

    def _meet_duplicate(
        self, pointer: str, entry: Entry, rule: ResolvedDedupe, slot: Slot, times: tuple[int, int]
    ) -> None:
        holder = self.tables.rows.get(slot.id)
        if rule.on_duplicate is OnDuplicate.REJECT and not self.spawned:
            detail = f"another task holds the dedupe key {rule.key!r}; wait for it, or choose skip or overwrite"
            self.problems.append(Problem("duplicate", f"{pointer}/dedupe_key", detail, holder=max(slot.id, 0)))
            return
        if rule.on_duplicate is OnDuplicate.OVERWRITE and holder is not None and holder.is_waiting():
            try:
                entry = self._folded(entry, rule, holder)
            except folding.Unfoldable as bad:
                if not self.spawned:
                    self.problems.append(Problem("fold_failed", f"{pointer}/payload", str(bad)))
                    return
                answer = _Answer(slot.id, Outcome.SKIPPED)
            else:
                if "type" in rule.overwrite and not self._has_room_for_type(pointer, holder.queue, entry.type):
                    return
                if "scheduled_at" in rule.overwrite:
                    self.tables.let_go(holder)
                start = folding.resolve_wait(rule, times[0], holder.created_at, self.now.wall)
                self.tables.put(overwritten(holder, entry, rule.overwrite, (start, times[1]), self.now))
                answer = _Answer(slot.id, Outcome.OVERWRITTEN)
        elif holder is None:
            answer = _Answer(slot.id, Outcome.SKIPPED, "ttl")
        else:
            answer = _Answer(slot.id, Outcome.SKIPPED, "" if holder.is_waiting() else holder.state.word)
        self.tables.tally(entry.queue, "deduplicated")
        self.answers.append(answer)

    @staticmethod
    def _folded(entry: Entry, rule: ResolvedDedupe, holder: Row) -> Entry:
        if rule.fold is None:
            return entry
        old, new = (holder.payload, holder.encoding), (entry.payload, entry.encoding)
        payload, encoding = folding.folded(rule.fold, old, new, rule.fold_max)
        return replace(entry, payload=payload, encoding=encoding)

    def _has_room_for_type(self, pointer: str, queue: str, type_: str) -> bool:
        if self.spawned or self.tables.has_room_for_type(queue, type_, limits.TYPES_PER_QUEUE_MAX):
            return True
        self.problems.append(too_many_types(f"{pointer}/type", queue))
        return False

    def allot_ids(self) -> None:
        groups: dict[tuple[str, int, int], list[Row]] = {}
        for provisional in self.new_ids:
            row = self.tables.rows[provisional]
            groups.setdefault((row.queue, row.priority, row.rank), []).append(row)
        real: dict[int, int] = {}
        task_id = ids.next_id(self.tables.last_id[""], self.now.wall)
        for row in (row for group in groups.values() for row in group):
            self.tables.rename(row, task_id)
            real[row.id] = task_id
            task_id += 1
        if real:
            self.tables.assign(self.tables.last_id, "", task_id - 1)
        for answer in self.answers:
            answer.id = real.get(answer.id, answer.id)

    def placed(self, answer: _Answer) -> Placed:
        row = self.tables.rows.get(answer.id)
        return Placed(
            id=answer.id,
            outcome=answer.outcome,
            state=row.state if row else None,
            scheduled_at=row.scheduled_at if row else 0,
            expires_at=row.expires_at if row else 0,
            deduped=answer.outcome is not Outcome.ENQUEUED,
            reason=answer.reason,
        )


def enqueue(tables: Tables, op: Enqueue, now: Now) -> Enqueued:
    """Accept the entries of ``op``. Raises Denied with the problems of all of them."""
    plan = _Plan(tables, now, op.create_queues, op.spawned, op.lease)
    for index, entry in enumerate(op.entries):
        plan.place(index, entry)
    if plan.problems:
        raise Denied(plan.problems)
    plan.allot_ids()
    odd: dict[int, Placed] = {}
    for index, answer in enumerate(plan.answers):
        placed = plan.placed(answer)
        if placed != Placed(answer.id, Outcome.ENQUEUED, State.READY, now.wall, 0):
            odd[index] = placed
    return Enqueued(now.wall, [answer.id for answer in plan.answers], odd)


def overwritten(row: Row, entry: Entry, fields: tuple[str, ...], times: tuple[int, int], now: Now) -> Row:
    """Return a waiting task with ``fields`` as ``entry`` has them; ``times`` are the entry's, resolved."""
    scheduled_at, expires_at = times
    options = _changed_options(row.options, entry.options, fields)
    row = replace(row, options=options)
    if "payload" in fields:
        row = replace(row, payload=entry.payload, encoding=entry.encoding)
    if "type" in fields:
        row = replace(row, type=entry.type)
    if "priority" in fields:
        row = replace(row, priority=entry.priority)
    if "expires_at" in fields:
        row = replace(row, expires_at=expires_at)
    if "scheduled_at" in fields:
        is_later = scheduled_at > now.wall
        row = replace(
            row,
            scheduled_at=scheduled_at,
            rank=scheduled_at,
            state=State.SCHEDULED if is_later else State.READY,
            due_at=scheduled_at if is_later else 0,
        )
    return row


def _changed_options(options: Options, given: Options, fields: tuple[str, ...]) -> Options:
    wanted = {name: getattr(given, name) for field_, name in _OPTION_OF_FIELD.items() if field_ in fields}
    return replace(options, **wanted)


def edit(tables: Tables, op: Edit, now: Now) -> ChangeDone:
    """Overwrite fields of a waiting task. Raises Denied for impossible times and for a type too many."""
    row = tables.rows.get(op.id)
    if row is None:
        return ChangeDone([Changed(op.id, tables.missing(op.id))])
    if not row.is_waiting() or not matches(tables, row, op.where):
        return ChangeDone([Changed(op.id, Outcome.CONFLICT, row.state)])
    if row.has_expired(now):
        tables.expire(row, now)
        return ChangeDone([Changed(op.id, Outcome.GONE)])
    try:
        are_times_edited = "scheduled_at" in op.fields or "expires_at" in op.fields
        times = lifecycle.resolve_times(op.entry, DEFAULT_SETTINGS, now.wall) if are_times_edited else (0, 0)
    except ExpiresTooEarly:
        raise Denied([lifecycle.expires_too_early("")]) from None
    if "type" in op.fields and not tables.has_room_for_type(row.queue, op.entry.type, limits.TYPES_PER_QUEUE_MAX):
        raise Denied([too_many_types("/type", row.queue)])
    if "scheduled_at" in op.fields:
        tables.let_go(row)
    row = overwritten(row, op.entry, op.fields, times, now)
    tables.put(row)
    return ChangeDone([Changed(op.id, Outcome.OK, row.state)])


def too_many_types(pointer: str, queue: str) -> Problem:
    """Return the problem of a type for which a queue has no room."""
    return Problem(
        "too_many_types",
        pointer,
        f"queue {queue!r} holds tasks of {limits.TYPES_PER_QUEUE_MAX} types already; use a type that is there",
    )
