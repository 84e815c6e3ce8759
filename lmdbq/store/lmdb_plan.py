"""Planning an Enqueue call: what it would write and answer, found out without writing.

Entry by entry, each seeing the earlier ones: times are resolved, the dedupe slot is looked up, and the entry becomes a
new draft, a duplicate (skipped, or overwriting its holder's draft) or a problem. A plan with a problem is dropped and
leaves no trace.

How planning sees what is not written yet: a slot names a *draft* if a task of this transaction took it; a holder that
was changed has its newest draft in ``drafts`` (first the call's, then the batch's), because a later call's change must
not show in what an earlier one is answered.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from lmdbq import lifecycle, limits
from lmdbq.lifecycle import ExpiresTooEarly, ResolvedDedupe
from lmdbq.model import (
    NEW_SET,
    PLAIN,
    Enqueue,
    Entry,
    OnDuplicate,
    Outcome,
    Problem,
    QueueSettings,
    Scope,
    State,
    Until,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_blocking import blocks, fold_failed, too_many_types
from lmdbq.store.lmdb_drafts import Draft, draft_of, overwrite
from lmdbq.store.lmdb_externals import holder_id
from lmdbq.store.lmdb_known_lanes import is_laned
from lmdbq.store.lmdb_rows import read_slot
from lmdbq.store.lmdb_sets import refused
from lmdbq.store.lmdb_standing import locate
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work
from lmdbq.wire.folding import Full, Unfoldable, first, folded, resolve_wait

SlotName = tuple[Scope, str, str]  # scope; the queue's or type's name or ""; the key


ExternalName = tuple[int, str]  # namespace_no; the id


class Taken:
    """Who holds a slot, as planning sees it: a draft, or None for a task that is no longer stored."""

    __slots__ = ("blocks_until", "draft", "id", "taken_at")

    def __init__(self, task_id: int, draft: Draft | None, taken_at: int, blocks_until: int) -> None:
        self.id = task_id
        self.draft = draft
        self.taken_at = taken_at
        self.blocks_until = blocks_until


class Plan:
    """One call's plan: what it would write, and what each entry would be answered."""

    def __init__(self, *, spawned: bool) -> None:
        self.new: list[Draft] = []
        self.spawned = spawned
        self.drafts: dict[int, Draft] = {}  # changed tasks of the store or of earlier calls, by id
        self.slots: dict[SlotName, Taken] = {}
        self.externals: dict[ExternalName, Draft] = {}
        self.damaged: dict[int, str] = {}
        self.rows: list[tuple[Draft | None, Outcome, bool, str, int]] = []  # draft, outcome, deduped, reason, id
        self.problems: list[Problem] = []
        self.settings: dict[tuple[str, str], QueueSettings] = {}
        self.sound_types: set[tuple[str, str]] = set()
        self.new_types: dict[str, set[str]] = {}


class Planner:
    """Plans calls against the store and the calls that were accepted but not yet written."""

    def __init__(
        self,
        work: Work,
        drafts: Mapping[int, Draft],
        slots: Mapping[SlotName, Taken],
        externals: Mapping[ExternalName, Draft],
    ) -> None:
        self._work = work
        self._drafts = drafts
        self._slots = slots
        self._externals = externals

    def plan(self, op: Enqueue) -> Plan:
        """Return the plan of one call."""
        plan = Plan(spawned=op.spawned)
        for index, entry in enumerate(op.entries):
            self._plan_entry(plan, index, entry, op)
        return plan

    def _plan_entry(self, plan: Plan, index: int, entry: Entry, op: Enqueue) -> None:
        settings = plan.settings.get((entry.queue, entry.type))
        if settings is None:
            settings = self._plan_target(plan, index, entry, op.create_queues)
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
        if entry.options.set_id:
            joining = self._joining(plan, index, entry, op)
            if joining is None:
                return
            entry = joining
        state = State.SCHEDULED if scheduled_at > now_wall else State.READY
        if entry.options.external_id and self._is_known(plan, entry):
            return
        rule = None if entry.options is PLAIN else lifecycle.resolve_dedupe(entry, settings)
        if rule is None:
            self._plan_new(plan, index, entry, Draft(entry, scheduled_at, expires_at, state))
            return
        name = self._slot_name(entry, rule)
        taken = self._taken(plan, name)
        if taken is not None and self._is_blocked(taken, rule):
            try:
                self._plan_duplicate(plan, index, entry, rule, taken, (scheduled_at, expires_at))
                return
            except Full:
                pass  # the holder stays as it is, and this is a new task
        draft = Draft(entry, scheduled_at, expires_at, state)
        if rule.fold is not None:
            try:
                draft.payload, draft.encoding = first(rule.fold, (entry.payload, entry.encoding))
            except Unfoldable as bad:
                if not plan.spawned:
                    plan.problems.append(fold_failed(index, bad))
                    return
        if self._plan_new(plan, index, entry, draft):
            until = now_wall + rule.ttl_ns if rule.until is Until.TTL else 0
            plan.slots[name] = Taken(0, draft, now_wall, until)

    def _joining(self, plan: Plan, index: int, entry: Entry, op: Enqueue) -> Entry | None:
        """Return an entry that names the set it may join; a problem (and None) if it may not."""
        named = entry.options.set_id
        set_id = self._work.made_set if named == NEW_SET else named
        if op.spawned:
            set_id = 0  # nothing refuses what is spawned, so it joins nothing
        elif (problem := refused(self._work, set_id, op.lease, f"/entries/{index}/set_id")) is not None:
            plan.problems.append(problem)
            return None
        return entry if set_id == named else replace(entry, options=replace(entry.options, set_id=set_id))

    def _is_known(self, plan: Plan, entry: Entry) -> bool:
        """Whether a stored task has the external id of an entry, which is skipped then."""
        name = (entry.options.namespace_no, entry.options.external_id)
        holder = plan.externals.get(name) or self._externals.get(name)
        if holder is not None:
            holder = self._newest(plan, holder)
        elif task_id := holder_id(self._work, *name):
            holder = self._holder(plan, task_id)
        if holder is None or holder.state is None:
            return False
        plan.rows.append((holder, Outcome.SKIPPED, True, "external_id", holder.id))
        return True

    def _plan_new(self, plan: Plan, index: int, entry: Entry, draft: Draft) -> bool:
        """Add a new task to the plan; False, and a problem, if its type is one too many."""
        if (entry.queue, entry.type) not in plan.sound_types:
            problem = self._plan_type(plan, self._work.queue(entry.queue), entry, f"/entries/{index}/type")
            if problem is not None:
                plan.problems.append(problem)
                return False
            plan.sound_types.add((entry.queue, entry.type))
        if is_laned(entry.options):
            ks.name_bytes(entry.options.thread or entry.options.group)
        plan.new.append(draft)
        if entry.options.external_id:
            plan.externals[(entry.options.namespace_no, entry.options.external_id)] = draft
        plan.rows.append((draft, Outcome.ENQUEUED, False, "", 0))
        return True

    def _plan_target(self, plan: Plan, index: int, entry: Entry, create_queues: bool) -> QueueSettings | None:
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
        settings = rules(self._work, queue, self._work.type_no(entry.type))
        plan.settings[(entry.queue, entry.type)] = settings
        return settings

    def _plan_type(self, plan: Plan, queue: Queue | None, entry: Entry, pointer: str) -> Problem | None:
        fresh = plan.new_types.setdefault(entry.queue, set())
        stored = 0
        if queue is not None:
            type_no = self._work.type_no(entry.type)
            if type_no and any(self._work.tally(queue.no, type_no)):
                return None
            stored = len(self._work.queue_tallies(queue.no))
        if not plan.spawned and entry.type not in fresh and stored + len(fresh) >= limits.TYPES_PER_QUEUE_MAX:
            return too_many_types(pointer, entry.queue)
        fresh.add(entry.type)
        return None

    def _taken(self, plan: Plan, name: SlotName) -> Taken | None:
        """Return who holds a slot, None if it is free."""
        taken = plan.slots.get(name) or self._slots.get(name)
        if taken is not None:
            draft = None if taken.draft is None else self._newest(plan, taken.draft)
            return Taken(taken.id, draft, taken.taken_at, taken.blocks_until)
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
        slot_key = ks.slot(scope, owner_no, key)
        value = work.get("dedupe", slot_key)
        if value is None:
            return None
        slot = read_slot(slot_key, value)
        if work.queue_of(slot.queue_no) is None or (slot.long_key and slot.long_key != key.encode()):
            return None
        holder = self._holder(plan, slot.id)
        if holder is None and slot.blocks_until <= work.now.wall:
            return None  # it went with its task
        taken = Taken(slot.id, holder, slot.taken_at, slot.blocks_until)
        plan.slots[name] = taken
        return taken

    def _holder(self, plan: Plan, task_id: int) -> Draft | None:
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

    def _newest(self, plan: Plan, draft: Draft) -> Draft:
        return plan.drafts.get(draft.id) or self._drafts.get(draft.id) or draft if draft.id else draft

    def _is_blocked(self, taken: Taken, rule: ResolvedDedupe) -> bool:
        state = None if taken.draft is None else taken.draft.state
        return blocks(rule, self._work.now.wall, taken.taken_at, taken.blocks_until, state)

    def _plan_duplicate(
        self,
        plan: Plan,
        index: int,
        entry: Entry,
        rule: ResolvedDedupe,
        taken: Taken,
        times: tuple[int, int],
    ) -> None:
        holder = taken.draft
        holder_id = holder.id if holder is not None else taken.id
        if rule.on_duplicate is OnDuplicate.REJECT and not plan.spawned:
            detail = f"the dedupe key {rule.key!r} is held by another task; wait for it, or choose skip or overwrite"
            plan.problems.append(Problem("duplicate", f"/entries/{index}/dedupe_key", detail, holder_id))
            return
        waits = holder is not None and holder.state in (State.SCHEDULED, State.READY)
        if holder is None or not waits or rule.on_duplicate is not OnDuplicate.OVERWRITE:
            reason = "ttl" if holder is None else "" if waits or holder.state is None else holder.state.word
            plan.rows.append((holder, Outcome.SKIPPED, True, reason, holder_id))
            return
        if rule.fold is not None:
            old, new = (holder.payload, holder.encoding), (entry.payload, entry.encoding)
            try:
                payload, encoding = folded(rule.fold, old, new, rule.fold_max)
            except Unfoldable as bad:
                if plan.spawned:
                    plan.rows.append((holder, Outcome.SKIPPED, True, "", holder_id))
                else:
                    plan.problems.append(fold_failed(index, bad))
                return
            entry = replace(entry, payload=payload, encoding=encoding)
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
        now_wall = self._work.now.wall
        created_at = now_wall if holder.stored is None else holder.stored.record.created_at
        scheduled_at = resolve_wait(rule, times[0], created_at, now_wall)
        overwrite(holder, entry, rule.overwrite, scheduled_at, times[1], now_wall)
        plan.rows.append((holder, Outcome.OVERWRITTEN, True, "", holder_id))

    @staticmethod
    def _slot_name(entry: Entry, rule: ResolvedDedupe) -> SlotName:
        """Return the slot that an entry of that rule asks for."""
        if rule.scope is Scope.GLOBAL:
            return (rule.scope, "", rule.key)
        return (rule.scope, entry.queue if rule.scope is Scope.QUEUE else entry.type, rule.key)
