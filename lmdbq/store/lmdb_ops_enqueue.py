"""Enqueue: plan first, then write neighbouring calls together.

A call is *planned* on drafts, reading but never writing: entry by entry, each seeing the earlier ones. If it has a
problem, the plan is dropped and there is no trace of it. Otherwise it is *accepted*: its ids are allotted and its drafts
join the batch, where the plans of later calls see them. ``write`` then puts the whole batch: records appended in order
of id, one ready run for each stretch of ids that share their place, slots, counts.

How planning sees what is not written yet: a slot names a *draft* if a task of this batch took it; a holder that was
changed has its newest draft in ``_drafts`` (first the call's, then the batch's), because a later call's change must not show
in what an earlier one is answered.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from lmdbq import lifecycle, limits
from lmdbq.ids import next_id
from lmdbq.lifecycle import ExpiresTooEarly, ResolvedDedupe
from lmdbq.model import (
    DEFAULT_SETTINGS,
    PLAIN,
    Enqueue,
    Enqueued,
    Entry,
    OnDuplicate,
    Outcome,
    Placed,
    Problem,
    QueueSettings,
    Refused,
    Scope,
    State,
    Until,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_drafts import Draft, draft_of, overwrite, write_stored
from lmdbq.store.lmdb_standing import leave, locate
from lmdbq.store.lmdb_tasks import put_slot, quarantine, remove
from lmdbq.store.lmdb_work import Queue, Work

BLOCKING: dict[Until, frozenset[State]] = {
    Until.STARTED: frozenset({State.SCHEDULED, State.READY}),
    Until.FINISHED: frozenset({State.SCHEDULED, State.READY, State.RUNNING}),
    Until.DELETED: frozenset(State),
}
SlotName = tuple[Scope, str, str]  # scope; the queue's or type's name or ""; the key


class _Taken:
    """Who holds a slot, as planning sees it: a draft, or None for a task that is no longer stored."""

    __slots__ = ("blocks_until", "draft", "id", "taken_at")

    def __init__(self, task_id: int, draft: Draft | None, taken_at: int, blocks_until: int) -> None:
        self.id = task_id
        self.draft = draft
        self.taken_at = taken_at
        self.blocks_until = blocks_until


class _Plan:
    """One call's plan: what it would write, and what each entry would be answered."""

    def __init__(self) -> None:
        self.new: list[Draft] = []
        self.drafts: dict[int, Draft] = {}  # changed tasks of the store or of earlier calls, by id
        self.slots: dict[SlotName, _Taken] = {}
        self.damaged: dict[int, str] = {}
        self.rows: list[tuple[Draft | None, Outcome, bool, str, int]] = []  # draft, outcome, deduped, reason, id
        self.problems: list[Problem] = []
        self.settings: dict[tuple[str, str], QueueSettings] = {}
        self.sound_types: set[tuple[str, str]] = set()
        self.new_types: dict[str, set[str]] = {}


class EnqueueBatch:
    """The accepted, not yet written Enqueue calls of a transaction."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._new: list[Draft] = []
        self._drafts: dict[int, Draft] = {}
        self._slots: dict[SlotName, _Taken] = {}
        self._damaged: dict[int, str] = {}

    def add(self, op: Enqueue) -> Enqueued | Refused:
        """Plan one call and accept it, or refuse it without a trace."""
        plan = _Plan()
        for index, entry in enumerate(op.entries):
            self._plan_entry(plan, index, entry, op.create_queues)
        if plan.problems:
            return Refused(plan.problems[0].code, tuple(plan.problems[: limits.PROBLEMS_MAX]))
        return self._accept(plan, op.entries)

    # --- planning ---

    def _plan_entry(self, plan: _Plan, index: int, entry: Entry, create_queues: bool) -> None:
        settings = plan.settings.get((entry.queue, entry.type))
        if settings is None:
            settings = self._plan_target(plan, index, entry, create_queues)
            if settings is None:
                return
        now_wall = self._work.now.wall
        scheduled_at, expires_at = now_wall, 0
        if entry.scheduled_at or entry.delay_ns or entry.expires_at or entry.expires_in_ns or settings.expires_in_ns:
            try:
                scheduled_at, expires_at = lifecycle.resolve_times(entry, settings, now_wall)
            except ExpiresTooEarly:
                plan.problems.append(lifecycle.expires_too_early(f"/entries/{index}"))
                return
        state = State.SCHEDULED if scheduled_at > now_wall else State.READY
        rule = None if entry.options is PLAIN else lifecycle.resolve_dedupe(entry, settings)
        if rule is None:
            self._plan_new(plan, index, entry, Draft(entry, scheduled_at, expires_at, state))
            return
        name = (rule.scope, {Scope.QUEUE: entry.queue, Scope.TYPE: entry.type, Scope.GLOBAL: ""}[rule.scope], rule.key)
        taken = self._taken(plan, name)
        if taken is not None and self._blocks(taken, rule):
            self._plan_duplicate(plan, index, entry, rule, taken, (scheduled_at, expires_at))
            return
        draft = Draft(entry, scheduled_at, expires_at, state)
        if self._plan_new(plan, index, entry, draft):
            until = now_wall + rule.ttl_ns if rule.until is Until.TTL else 0
            plan.slots[name] = _Taken(0, draft, now_wall, until)

    def _plan_new(self, plan: _Plan, index: int, entry: Entry, draft: Draft) -> bool:
        """Add a new task to the plan; False, and a problem, if its type is one too many."""
        if (entry.queue, entry.type) not in plan.sound_types:
            problem = self._plan_type(plan, self._work.queue(entry.queue), entry, f"/entries/{index}/type")
            if problem is not None:
                plan.problems.append(problem)
                return False
            plan.sound_types.add((entry.queue, entry.type))
        plan.new.append(draft)
        plan.rows.append((draft, Outcome.ENQUEUED, False, "", 0))
        return True

    def _plan_target(self, plan: _Plan, index: int, entry: Entry, create_queues: bool) -> QueueSettings | None:
        """Return the settings of an entry's queue; a problem (and None) if the queue may not be made."""
        queue = self._work.queue(entry.queue)
        if queue is None and not create_queues:
            plan.problems.append(
                Problem(
                    "queue_not_found",
                    f"/entries/{index}/queue_name",
                    f"there is no queue {entry.queue!r}; create it with PUT /v1/queues/{entry.queue}",
                )
            )
            return None
        ks.name_bytes(entry.queue)
        ks.name_bytes(entry.type)
        settings = DEFAULT_SETTINGS if queue is None else queue.settings
        plan.settings[(entry.queue, entry.type)] = settings
        return settings

    def _plan_type(self, plan: _Plan, queue: Queue | None, entry: Entry, pointer: str) -> Problem | None:
        fresh = plan.new_types.setdefault(entry.queue, set())
        stored = 0
        if queue is not None:
            type_no = self._work.type_no(entry.type)
            if type_no and any(self._work.tally(queue.no, type_no)):
                return None
            stored = len(self._work.queue_tallies(queue.no))
        if entry.type not in fresh and stored + len(fresh) >= limits.TYPES_PER_QUEUE_MAX:
            return too_many_types(pointer, entry.queue)
        fresh.add(entry.type)
        return None

    def _taken(self, plan: _Plan, name: SlotName) -> _Taken | None:
        """Return who holds a slot, None if it is free."""
        taken = plan.slots.get(name) or self._slots.get(name)
        if taken is not None:
            draft = None if taken.draft is None else self._newest(plan, taken.draft)
            return _Taken(taken.id, draft, taken.taken_at, taken.blocks_until)
        work = self._work
        scope, owner, key = name
        owner_no = 0
        if scope is Scope.QUEUE:
            queue = work.queue(owner)
            owner_no = queue.no if queue else 0
        elif scope is Scope.TYPE:
            owner_no = work.type_no(owner)
        if not owner_no and scope is not Scope.GLOBAL:
            return None
        value = work.get("dedupe", ks.slot(scope, owner_no, key))
        if value is None:
            return None
        slot = rec.read_slot(value)
        if work.queue_of(slot.queue_no) is None or (slot.long_key and slot.long_key != key.encode()):
            return None
        taken = _Taken(slot.id, self._holder(plan, slot.id), slot.taken_at, slot.blocks_until)
        plan.slots[name] = taken
        return taken

    def _holder(self, plan: _Plan, task_id: int) -> Draft | None:
        """Return the newest draft of a stored task; an expired one is planned to be removed, and is None then."""
        draft = plan.drafts.get(task_id) or self._drafts.get(task_id)
        if draft is None:
            try:
                task = locate(self._work, task_id)
            except (rec.Damaged, ValueError) as error:
                plan.damaged[task_id] = str(error)
                return None
            if task is None:
                return None
            draft = draft_of(self._work, task)
            if draft.state is None:
                plan.drafts[task_id] = draft
        return None if draft.state is None else draft

    def _newest(self, plan: _Plan, draft: Draft) -> Draft:
        return plan.drafts.get(draft.id) or self._drafts.get(draft.id) or draft if draft.id else draft

    def _blocks(self, taken: _Taken, rule: ResolvedDedupe) -> bool:
        now_wall = self._work.now.wall
        if taken.blocks_until:
            return now_wall < taken.blocks_until
        young = now_wall < taken.taken_at + rule.ttl_ns
        if rule.until is Until.TTL:
            return young
        if taken.draft is None or taken.draft.state not in BLOCKING[rule.until]:
            return False
        return young or not rule.ttl_ns

    def _plan_duplicate(
        self,
        plan: _Plan,
        index: int,
        entry: Entry,
        rule: ResolvedDedupe,
        taken: _Taken,
        times: tuple[int, int],
    ) -> None:
        holder = taken.draft
        holder_id = holder.id if holder is not None else taken.id
        if rule.on_duplicate is OnDuplicate.REJECT:
            detail = f"the dedupe key {rule.key!r} is held by another task; wait for it, or choose skip or overwrite"
            plan.problems.append(Problem("duplicate", f"/entries/{index}/dedupe_key", detail, holder_id))
            return
        waits = holder is not None and holder.state in (State.SCHEDULED, State.READY)
        if holder is None or not waits or rule.on_duplicate is OnDuplicate.SKIP:
            reason = "ttl" if holder is None else "" if waits or holder.state is None else holder.state.word
            plan.rows.append((holder, Outcome.SKIPPED, True, reason, holder_id))
            return
        if "type" in rule.overwrite and entry.type != holder.type:
            queue = self._work.queue(holder.queue_name)
            problem = self._plan_type(plan, queue, entry, f"/entries/{index}/type")
            if problem is not None:
                plan.problems.append(problem)
                return
        if holder.id and holder.id not in plan.drafts:
            holder = holder.copy()
            plan.drafts[holder.id] = holder
            taken.draft = holder
            plan.slots[self._slot_name(entry, rule)] = taken
        overwrite(holder, entry, rule.overwrite, *times, self._work.now.wall)
        plan.rows.append((holder, Outcome.OVERWRITTEN, True, "", holder_id))

    @staticmethod
    def _slot_name(entry: Entry, rule: ResolvedDedupe) -> SlotName:
        owner = {Scope.QUEUE: entry.queue, Scope.TYPE: entry.type, Scope.GLOBAL: ""}[rule.scope]
        return (rule.scope, owner, rule.key)

    # --- accepting ---

    def _accept(self, plan: _Plan, entries: Sequence[Entry]) -> Enqueued:
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
        self._new += plan.new
        self._drafts.update(plan.drafts)
        self._slots.update(plan.slots)
        self._damaged.update(plan.damaged)
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

    def _answer(self, plan: _Plan, entries: Sequence[Entry]) -> Enqueued:
        now_wall = self._work.now.wall
        ids: list[int] = []
        odd: dict[int, Placed] = {}
        for index, (draft, outcome, deduped, reason, holder_id) in enumerate(plan.rows):
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
                remove(work, draft.stored)
                work.total(draft.stored.queue.no, "expired")
            elif draft.changed:
                write_stored(work, draft)
        if self._new:
            self._write_new([self._current(draft) for draft in self._new])
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

    def _write_slot(self, scope: Scope, owner: str, key: str, taken: _Taken) -> None:
        draft = taken.draft
        assert draft is not None
        queue = self._work.queue(draft.queue_name)
        assert queue is not None
        raw = key.encode()
        long_key = raw if len(raw) > limits.DEDUPE_RAW_BYTES_MAX else b""
        slot = rec.Slot(draft.id, queue.no, taken.taken_at, taken.blocks_until, long_key)
        put_slot(self._work, ks.slot(scope, self._owner_no(scope, owner), key), slot)

    def _write_new(self, drafts: list[Draft]) -> None:
        work = self._work
        numbers = self._numbers(drafts)
        heads: dict[tuple[object, ...], tuple[bytes, int]] = {}
        items: list[tuple[bytes, bytes]] = []
        created_at, crc32, pack_crc = work.now.wall, zlib.crc32, ks.U32.pack
        for draft in drafts:
            place = (draft.queue_name, draft.type, draft.encoding, draft.priority, draft.scheduled_at, draft.expires_at)
            shared = heads.get(place) if draft.options is PLAIN else None
            if shared is None:
                head = rec.write_task_head(
                    *numbers[(draft.queue_name, draft.type)],
                    draft.encoding,
                    draft.priority + ks.PRIORITY_BIAS,
                    created_at,
                    draft.scheduled_at,
                    draft.expires_at,
                    *draft.slot,
                    draft.options,
                )
                shared = (head, crc32(head))
                if draft.options is PLAIN:
                    heads[place] = shared
            head, head_crc = shared
            payload = draft.payload
            record = b"".join((head, payload, pack_crc(crc32(payload, head_crc))))
            items.append((ks.U64.pack(draft.id), record))
        work.append_tasks(items)
        self._write_standings(drafts, numbers)

    def _numbers(self, drafts: list[Draft]) -> dict[tuple[str, str], tuple[int, int]]:
        numbers: dict[tuple[str, str], tuple[int, int]] = {}
        for draft in drafts:
            name = (draft.queue_name, draft.type)
            if name not in numbers:
                queue = self._work.queue(draft.queue_name)
                assert queue is not None
                numbers[name] = (queue.no, self._work.create_type(draft.type))
        return numbers

    def _write_standings(self, drafts: list[Draft], numbers: dict[tuple[str, str], tuple[int, int]]) -> None:
        """Put ready runs, scheduled and expiry keys; ``drafts`` rise by id."""
        work = self._work
        runs: list[list[int]] = []  # queue_no, type_no, priority, rank, last id, length
        for draft in drafts:
            queue_no, type_no = numbers[(draft.queue_name, draft.type)]
            work.stirred.add(draft.queue_name)
            if draft.state is State.READY:
                last = runs[-1] if runs else None
                priority = draft.priority + ks.PRIORITY_BIAS
                if last and last[4] == draft.id - 1 and last[:4] == [queue_no, type_no, priority, draft.rank]:
                    last[4] += 1
                    last[5] += 1
                else:
                    runs.append([queue_no, type_no, priority, draft.rank, draft.id, 1])
            else:
                key = ks.scheduled(queue_no, draft.rank, draft.id)
                work.put("scheduled", key, rec.write_standing(key, type_no, 0, 0))
            if draft.expires_at:
                work.put("expiry", ks.expiry(queue_no, draft.expires_at, draft.id))
        for *place, length in runs:
            key = ks.ready(*place)
            work.put("ready", key, rec.write_ready_run(key, length, 0, 0))


def too_many_types(pointer: str, queue_name: str) -> Problem:
    """Return the problem of a type that would be one too many in a queue."""
    return Problem(
        "too_many_types",
        pointer,
        f"queue {queue_name!r} already holds tasks of {limits.TYPES_PER_QUEUE_MAX} types; "
        "put what varies in the payload or a tag, not in the type",
    )
