"""Enqueue: plan first, then write neighbouring calls together.

A call is planned on drafts (``lmdb_plan``), reading but never writing. If its plan has a problem, it is dropped and
there is no trace of it. Otherwise the call is *accepted*: its ids are allotted and its drafts join the batch, where the
plans of later calls see them. ``write`` then puts the whole batch: new tasks (``lmdb_new_tasks``), changed and expired
holders, slots. Entries that are ready now and have no options need no planning, as nothing can be refused; those that
have a dedupe key, which nobody holds, and nothing else are written at once (``lmdb_keyed``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lmdbq import lifecycle, limits
from lmdbq.ids import next_id
from lmdbq.model import PLAIN, Enqueue, Enqueued, Entry, Outcome, Placed, Refused, Scope, State, UniformEntries
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_drafts import Draft, write_stored
from lmdbq.store.lmdb_externals import take
from lmdbq.store.lmdb_keyed import KEYED_MIN, write_keyed
from lmdbq.store.lmdb_new_tasks import Kind, NewTasks
from lmdbq.store.lmdb_plan import ExternalName, Plan, Planner, SlotName, Taken
from lmdbq.store.lmdb_standing import leave
from lmdbq.store.lmdb_tasks import long_key, put_slot, quarantine, remove
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work


class EnqueueBatch:
    """The accepted, not yet written Enqueue calls of a transaction."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._begin()

    def _begin(self) -> None:
        self._new = NewTasks(self._work)
        self._drafts: dict[int, Draft] = {}
        self._slots: dict[SlotName, Taken] = {}
        self._externals: dict[ExternalName, Draft] = {}
        self._planner = Planner(self._work, self._drafts, self._slots, self._externals)
        self._damaged: dict[int, str] = {}
        self._targets: dict[tuple[str, str], tuple[Queue, int]] = {}  # simple ones, which they stay until ``write``
        self.may_settle = False  # whether it takes away a member of a set, which may be decided by that

    def add(self, op: Enqueue) -> Enqueued | Refused:
        """Plan one call and accept it, or refuse it without a trace."""
        if isinstance(op.entries, UniformEntries):
            done = self._accept_keyed(op.entries) if op.entries.keys else self._accept_uniform(op.entries)
        else:
            done = self._accept_ready(op.entries)
        if done is not None:
            return done
        plan = self._planner.plan(op)
        if plan.problems:
            return Refused(plan.problems[0].code, tuple(plan.problems[: limits.PROBLEMS_MAX]))
        return self._accept(plan, op.entries)

    # --- without planning ---

    def _accept_uniform(self, entries: UniformEntries) -> Enqueued | None:
        """Accept entries that differ in nothing but their payload; None if they need planning after all."""
        place = (entries.queue, entries.type)
        target = self._targets.get(place) or self._simple_target(*place)
        length, now_wall = len(entries), self._work.now.wall
        if target is None or not length:
            return None
        self._targets[place] = target
        first_id = next_id(self._work.last_id, now_wall)
        self._new.add_stretch(*target, first_id, entries)
        self._take(first_id, length, ((target, length),))
        return Enqueued(now_wall, list(range(first_id, first_id + length)), {})

    def _accept_ready(self, entries: Sequence[Entry]) -> Enqueued | None:
        """Accept entries without options that are ready now; None if they need planning after all."""
        now_wall = self._work.now.wall
        kinds: dict[tuple[object, ...], tuple[Kind, list[int]]] = {}
        groups: dict[tuple[int, int], list[int]] = {}  # indexes by queue and priority, in the order of their ids
        kind_of: list[Kind] = []
        for index, entry in enumerate(entries):
            if entry.options is not PLAIN or entry.scheduled_at or entry.delay_ns:
                return None
            said = (
                entry.queue,
                entry.type,
                int(entry.encoding),
                entry.priority,
                entry.expires_at,
                entry.expires_in_ns,
            )
            known = kinds.get(said)
            if known is None:
                kind = self._kind(entry)
                if kind is None or len(kinds) > limits.TYPES_PER_QUEUE_MAX // 2:  # perhaps too many types for a queue
                    return None
                known = kinds[said] = (kind, groups.setdefault((kind.queue.no, kind.priority), []))
            kind_of.append(known[0])
            known[1].append(index)
        if not kind_of:
            return None
        first_id = number = next_id(self._work.last_id, now_wall)
        ids = [0] * len(kind_of)
        for indexes in groups.values():
            self._new.add_group(number, [(kind_of[index], entries[index].payload) for index in indexes])
            for index in indexes:
                ids[index] = number
                number += 1
        self._take(first_id, len(kind_of), Counter((kind.queue, kind.type_no) for kind in kind_of).items())
        odd = {
            index: Placed(ids[index], Outcome.ENQUEUED, State.READY, now_wall, kind.expires_at)
            for index, kind in enumerate(kind_of)
            if kind.expires_at
        }
        return Enqueued(now_wall, ids, odd)

    def _kind(self, entry: Entry) -> Kind | None:
        """Return what an entry shares with those that differ in their payload only; None if it must be planned."""
        target = self._simple_target(entry.queue, entry.type)
        if target is None:
            return None
        queue, type_no = target
        try:
            _, expires_at = lifecycle.resolve_times(entry, rules(self._work, queue, type_no), self._work.now.wall)
        except lifecycle.ExpiresTooEarly:
            return None
        return self._new.kind(queue, type_no, int(entry.encoding), entry.priority, expires_at)

    def _accept_keyed(self, entries: UniformEntries) -> Enqueued | None:
        """Accept and write entries that differ in payload and dedupe key; None if they need planning after all."""
        target = self._simple_target(entries.queue, entries.type)
        if target is None or len(entries) < KEYED_MIN or rules(self._work, *target).dedupe is not None:
            return None
        queue, type_no = target
        self.write()
        self._begin()
        first_id, length = next_id(self._work.last_id, self._work.now.wall), len(entries)
        if not write_keyed(self._work, queue, type_no, first_id, entries):
            return None
        self._take(first_id, length, ((target, length),))
        return Enqueued(self._work.now.wall, list(range(first_id, first_id + length)), {})

    def _simple_target(self, queue_name: str, type_name: str) -> tuple[Queue, int] | None:
        """Return a queue and a type_no if they are known, and leave nothing to be decided for a plain entry."""
        work = self._work
        queue, type_no = work.queue(queue_name), work.type_no(type_name)
        if queue is None or not type_no or rules(work, queue, type_no).expires_in_ns:
            return None
        if any(work.tally(queue.no, type_no)) or len(work.queue_tallies(queue.no)) <= limits.TYPES_PER_QUEUE_MAX // 2:
            return queue, type_no
        return None  # it is new among so many types that there may be no room for it

    def _take(self, first_id: int, count: int, lengths: Iterable[tuple[tuple[Queue, int], int]]) -> None:
        """Take the ids of ``count`` new ready tasks, and count them: so many of each target."""
        work = self._work
        work.take_ids(first_id, count)
        for (queue, type_no), length in lengths:
            work.count(queue.no, type_no, enters=State.READY, length=length)
            work.total(queue.no, "enqueued", length)

    # --- accepting ---

    def _accept(self, plan: Plan, entries: Sequence[Entry]) -> Enqueued:
        work = self._work
        for queue_name, type_name in plan.settings:
            if work.queue(queue_name) is None:
                work.create_queue(queue_name)
            work.create_type(type_name)
        self._allot(plan.new)
        tallies: dict[tuple[str, str, State], int] = {}
        for draft in plan.new:
            assert draft.state is not None
            key = (draft.queue_name, draft.type, draft.state)
            tallies[key] = tallies.get(key, 0) + 1
        for (queue_name, type_name, state), length in tallies.items():
            queue = work.queue(queue_name)
            assert queue is not None
            work.count(queue.no, work.create_type(type_name), enters=state, length=length)
            work.total(queue.no, "enqueued", length)
        for (scope, owner, _), taken in plan.slots.items():
            if taken.draft is not None and not taken.id:
                taken.draft.slot = (scope, self._owner_no(scope, owner))
        self._new.add_drafts(plan.new)
        self._drafts.update(plan.drafts)
        self._slots.update(plan.slots)
        self._externals.update(plan.externals)
        self._damaged.update(plan.damaged)
        self.may_settle |= bool(plan.damaged) or any(
            draft.state is None and draft.options.set_id for draft in plan.drafts.values()
        )
        return self._answer(plan, entries)

    def _owner_no(self, scope: Scope, owner: str) -> int:
        if scope is Scope.GLOBAL:
            return 0
        if scope is Scope.TYPE:
            return self._work.create_type(owner)
        queue = self._work.queue(owner)
        assert queue is not None
        return queue.no

    def _allot(self, new: list[Draft]) -> None:
        """Give ids: grouped by (queue, priority, rank), groups by first appearance, so that runs are long."""
        if not new:
            return
        first = number = next_id(self._work.last_id, self._work.now.wall)
        groups: dict[tuple[str, int, int], list[Draft]] = {}
        for draft in new:
            groups.setdefault((draft.queue_name, draft.priority, draft.rank), []).append(draft)
        for group in groups.values():
            for draft in group:
                draft.id = number
                number += 1
        if len(groups) > 1:
            new.sort(key=lambda draft: draft.id)
        self._work.take_ids(first, number - first)

    def _answer(self, plan: Plan, entries: Sequence[Entry]) -> Enqueued:
        now_wall = self._work.now.wall
        ids: list[int] = []
        odd: dict[int, Placed] = {}
        for index, (draft, outcome, deduped, reason, holder_id) in enumerate(plan.rows):
            if draft is not None:
                draft = plan.drafts.get(draft.id, draft)  # a later entry of the call may have overwritten it
            task_id = draft.id if draft is not None else holder_id
            ids.append(task_id)
            if outcome is not Outcome.ENQUEUED:
                queue = self._work.queue(entries[index].queue)
                assert queue is not None
                self._work.total(queue.no, "deduplicated")
            if (
                draft is None
                or deduped
                or draft.state is not State.READY
                or draft.scheduled_at != now_wall
                or draft.expires_at
            ):
                state = None if draft is None else draft.state
                scheduled_at = draft.scheduled_at if draft is not None else 0
                expires_at = draft.expires_at if draft is not None else 0
                odd[index] = Placed(task_id, outcome, state, scheduled_at, expires_at, deduped, reason)
        return Enqueued(now_wall, ids, odd)

    # --- writing ---

    def write(self) -> None:
        """Write everything that was accepted."""
        work = self._work
        for task_id, reason in self._damaged.items():
            quarantine(work, task_id, reason)
        for draft in self._drafts.values():
            if draft.stored is None:
                continue
            if draft.state is None:
                leave(work, draft.stored)
                remove(work, draft.stored, "expired")
                work.total(draft.stored.queue.no, "expired")
            elif draft.changed:
                write_stored(work, draft)
        self._new.write(self._current)
        for (namespace_no, external_id), draft in self._externals.items():
            take(work, namespace_no, external_id, draft.id)
        for (scope, owner, key), taken in self._slots.items():
            if taken.draft is not None and not taken.id:
                self._write_slot(scope, owner, key, taken)

    def _current(self, draft: Draft) -> Draft:
        """Return the newest draft of a new task; counts follow if a later call changed its type or state."""
        newest = self._drafts.get(draft.id)
        if newest is None or newest is draft:
            return draft
        queue = self._work.queue(draft.queue_name)
        assert queue is not None
        self._work.count(queue.no, self._work.create_type(draft.type), leaves=draft.state)
        self._work.count(queue.no, self._work.create_type(newest.type), enters=newest.state)
        return newest

    def _write_slot(self, scope: Scope, owner: str, key: str, taken: Taken) -> None:
        draft = taken.draft
        assert draft is not None
        queue = self._work.queue(draft.queue_name)
        assert queue is not None
        slot = rec.Slot(draft.id, queue.no, taken.taken_at, taken.blocks_until, long_key(key))
        put_slot(self._work, ks.slot(scope, self._owner_no(scope, owner), key), slot)
