"""The seam: what every store promises. Two exist, ``store.lmdb`` (the file) and ``store.memory`` (dicts, for tests).

A store has one way to write, ``apply(calls, clock)``, and a few reads. This text is the whole promise; the memory
store is written from it and from ``lifecycle`` alone, and ``tests/store_contract.py`` holds every store to it.

**Calls.** A call commits whole or leaves no trace: no id, no count, no total, no lazily expired holder. Calls of one
``apply`` are independent; they run in the order of the phase of their first op, stable within a phase, and outcomes
are answered in the order the calls came:

    phase 0: Report, Extend, Cancel          phase 2: DaemonStart, Fire, Promote, Lapse, Expire, Prune, Refill
    phase 1: Enqueue and every other edit    phase 3: Claim

All calls of an ``apply`` share one ``Now``, read when the store has its write lock. A later call sees what an earlier
one did. ``apply`` raises only NotCommitted, CommitUnknown or StoreClosed; a bug inside one call is that call's
``Refused("internal")``.

**Memo.** A call with a memo whose key is remembered (now.wall < time of the call + its kept_ns) answers the remembered
outcomes (same body_hash; ``replayed``) or ``Refused("key_reused")``. Only calls that were Done are remembered.

**Queues and types** come into being with the first Enqueue that names them (create_queues False: ``queue_not_found``,
pointer /entries/i/queue_name). At most 1,000 types have stored tasks in a queue: ``too_many_types``, /entries/i/type.
Purge and QueueDelete remove all tasks at once, running ones too, and free their dedupe keys; ``tasks`` counts them,
and they count as ``deleted`` in the totals, which survive a purge but not a delete. QueuePatch, QueueDelete and Purge
of an unknown queue: ``queue_not_found``, pointer /name. QueuePut answers ``created``.

**Types** may decide for their tasks what queues do (TypePut; the type need not be known before). Wherever a rule below
takes something from a task's queue, and in resolve_times, resolve_dedupe, resolve_keepalive, resolve_retry and
resolve_keep, that is ``precedence.settings_of(type, queue)``. A TypePut replaces all that was known of the type; one
that says nothing removes it. It holds at once, for tasks that are stored, too. Purge and QueueDelete leave types alone.

**Enqueue**, entry by entry in order, each seeing the earlier ones of its call:
1. ``lifecycle.resolve_times`` (a failure is a problem of the call: ``expires_too_early``).
   Then, if a stored task (expired first, if overdue) has its external_id in its namespace, in whatever state, the entry
   is ``skipped``, with the reason "external_id" and that task's id, and takes no slot.
2. If it has a dedupe key, the slot (scope; queue or type or nothing; key) is looked up. A *holder* that is scheduled
   or ready with expires_at <= now is expired first. The slot *blocks* the newcomer as follows:
   - it was taken with ``until`` ttl: it blocks iff now < taken_at + its taker's ttl, whatever became of the task;
   - else, newcomer's until = ttl: iff now < taken_at + the newcomer's ttl, whatever became of the task;
   - else iff the holder is stored, in a state of the newcomer's until (started: scheduled, ready; finished: those and
     running; deleted: any), and, if the newcomer gives a ttl, now < taken_at + that ttl.
   Tasks of a purged or deleted queue never block.
3. Not blocked (or no key): a new task, SCHEDULED if scheduled_at > now, else READY; it takes the slot (taken_at =
   now).
4. Blocked, on_duplicate: SKIP answers ``skipped``; OVERWRITE changes the listed fields of a holder that is scheduled
   or ready, as Edit does (``overwritten``), and is ``skipped`` for any other; REJECT is the problem ``duplicate`` with
   the holder's id at /entries/i/dedupe_key. ``Placed.reason`` is said for holders that are neither scheduled nor
   ready. With a rule that folds, the payload of a new task is ``folding.first`` of the entry's, and an overwritten one
   ``folding.folded`` of both; what cannot be folded is the problem ``fold_failed`` at /entries/i/payload (spawned: the
   new task keeps its payload, the duplicate is skipped), and ``Full`` makes the entry a new task after all (step 3).
   An overwritten scheduled_at is that of ``folding.resolve_wait``.
Any problem refuses the whole call; ``Refused.code`` is that of the first problem, and at most 20 are listed. A problem
does not stop the planning of later entries; a rejected entry takes no slot.
Then ids are allotted to the new tasks: grouped by (queue, priority, rank) as they stand after the whole call, groups
in the order of their first task, tasks of a group in input order; first id = ``ids.next_id(last id, now)``, then +1
each.
``Enqueued.odd`` holds exactly the entries whose ``Placed`` differs from the plain case. If a later entry of the call
overwrote a new task, the earlier one's Placed shows the final state and times.
Totals: enqueued +1 per new task, deduplicated +1 per skipped or overwritten entry (of the entry's queue).
An entry has at most one problem: queue_not_found, expires_too_early, one of its set, duplicate, fold_failed or
too_many_types, asked in this order.
"The call" in these steps is one Enqueue op: ids are given at its end, so that a later op can use them; the holder of a
duplicate that is new in the same op has no id yet (0). A purge frees also the slots that a ttl holds for tasks gone.

**Spawned** entries are those that an op enqueues by itself: what follows a death, a set, an instant of a schedule.
They are enqueued when the op that made them is through, in its call, in the order in which they were made, one by one
as Enqueue ops of one entry; and those that these make, after them. Nothing refuses them: their times are relative, a
duplicate that would be rejected is skipped, the limit on types does not hold, and one that would expire before it may
start is left out.

**Sets.** SetMake takes an id as a new task does; the set is open and has no members. NEW_SET stands for the set that
the call made last, in the Enqueue and SetClose ops behind it. A new task whose entry has a set_id is a *member* of that
set, and pending. An entry is a problem at /entries/i/set_id, ``set_not_found``, ``set_decided`` or ``set_closed``, as
``sets.refused`` says; a running member asks if ``Enqueue.lease`` is the lease of one. It is asked behind the times,
before the external id. A duplicate joins nothing; what is spawned neither. A member is over, and counted as such, when
it ends, expires, is deleted or found damaged (deleted); one of a purged or deleted queue when a Prune has come to it.
Retry takes a member of an undecided set back. When an op is through, what ``sets.decided`` says is done with each
undecided set, in the order of ids, and ``wire.followups.after_set`` is spawned. A set that is decided changes no more,
and Prune removes it at remove_at. SetClose of one that is closed or decided changes nothing. SetClose and SetDelete of
an unknown set: ``set_not_found``, /set_id.

**Death.** When a task becomes dead, ``followups.resolve_on_dead`` (entry, then queue) may say a template; the entry
that ``wire.followups.after_death`` makes of it is spawned, also if the dead task is not kept.

**Order.** A ready task stands at (priority, rank, id). rank is scheduled_at as accepted. Edit and overwrite set it
anew (to the new scheduled_at) only if scheduled_at is among the fields; a failure sets it to due_at; a release with a
delay to now + delay, one without keeps it; Retry sets it to now.

**Lanes.** A task may have a thread (of its queue) or a group (of the file), which never change; the caller has seen to
it that it has not both. Only its ready tasks wait in a lane.
A *thread* lets one task be tried at a time. A task of it that is claimed becomes its *holder*, and stays so until it
has ended or is removed, or Edit or an overwrite has scheduled_at among its fields, or, if it asks for ``rejoin``, until
it no longer runs. Of a thread with a holder only that may start; of one without, only the first ready task by (rank,
id), whatever the priorities and types. So a task that is tried again keeps its place, and those that are scheduled
block nobody.
A *group* lets a task start while it is not paused, fewer than max_running of its tasks run (None: any number), and
there is a whole token, if it has a rate. Each of these is what its own settings say; where they say nothing, what the
best rule says that matches its name; else there is no limit; it is paused if either says so. All tasks of the group
that run count, in all queues; those of a purged or deleted queue until a Prune has come to them.
Tokens: a group begins with as many as the rate's capacity; a claim of one of its tasks spends one; tokens come in
evenly by steady time, never beyond the capacity. In a new boot they go on from its first write. When a group's settings
or the rules change, what has come in so far is kept, as far as the new capacity holds it (a full bucket stays full),
and forgotten if there is no rate any more.
GroupPut and GroupPatch give a group settings of its own, GroupDelete takes them away (``group_not_found``, /name, if it
has none); RulePut and RuleDelete change the rules (``rule_not_found``, /pattern; more than limits.GROUP_RULES_MAX:
``too_many_rules``, /pattern). All of it holds at once for what may not start any more, and for at least 1,000 groups
also for what may; Refill, or a Claim, brings it to the others. What Refill counts is its own affair.
``waiting_for`` of a ready task is ``lanes.waiting_for_group`` or, behind the holder, else the first ready task of its
thread, ``lanes.waiting_for_thread``.

**Claim.** With a claim_id that is remembered (1 h; now.wall < time + limits.MEMO_KEPT_NS): those of its tasks that
still run under the same delivery are answered again, in the same order, nothing extended, nothing else done; if none
does, it is a new claim. Otherwise its *queues* are those of the named ones that exist, each followed by the queues that
it is the parent of (``sharing.parent_of``), by name. For each of them: lapse, promote, expire what is due (as the timed
ops do, up to 1,000 each). Then tasks are taken from those that are not paused, have fewer than max_running running and
a token left, each time the first of those that their lanes let start, until ``limit``, or until the payloads would
exceed bytes_max (the first is always taken): from queues of a lower ``priority`` first; of one priority by
(``lifecycle.place_of``, id) over all of them (of a fair queue: of the task that is next there), or, if
``sharing.is_weighted``, from one after the other as ``sharing.Turns`` says, each giving the first in its own order.
Turns begin at the starts that queues had after their last turn (0 if none; a purge keeps it), and at the time of the
last turn of the store.
In a *fair* queue the parties are its groups, and its tasks without one together; next is, among the wanted tasks that
may start, of the lowest priority, the party whose turn is first, a group before the others, and of groups with the same
turn that with the least id among the firsts of its types; it gives its first by (rank, id). Groups get turns before a
claim and at the end of ``apply``: each that has ready tasks in the queue and no turn there ``sharing.next_turn`` of the
queue's ``Pace.time``, and one that has none any more loses its turn; a purge takes them all, and keeps the Pace. A task
that is taken moves its party: a group to the next turn after max(its own, Pace.time), which is then the time, by the
weight that holds for it now; the others as ``Pace.after_others`` says. A queue whose order is made fair, or is not any
more, is so at once for at least 1,000 groups; for others as a rule is that was changed.
A task met that has expired is expired; one with deliveries - deliveries at its last Retry by hand - releases with a
delay since then (somebody asked for these) >= max_deliveries becomes dead ("max_deliveries", total dead; kept or
removed as any dead one). deliveries +1, total claimed +1; its lease ends at now.steady + ``resolve_keepalive(claim,
entry, type, queue)``. ``max_attempts`` is resolved now.
A queue with a rate has a bucket (``buckets``), which begins full, survives a purge, and gives a token for each task
taken; one of an earlier boot goes on from the first claim of this boot that has the queue (not paused).
``token_in_ns`` is the shortest time until one of the queues that is not paused and still has ready tasks of the wanted
types, but no token, has one. With no tasks, ``reason`` is that of the first queue which has ready tasks of the wanted
types: "paused", else "max_running", else "rate_limited", else that of a lane in which such tasks wait (of any, if there
are several): "thread", "paused", "max_running" or "rate_limited"; "empty" if none has; and ``retry_at`` is the earliest
due_at of a scheduled task in the queues (any type), or now.wall + token_in_ns, or when the next token comes in for a
group in which such tasks wait for nothing else (of groups that are many, it may not be known), whatever is first.

**Leases** are (id, delivery). Every op on one answers: not stored: NOT_FOUND; delivery is not the task's deliveries:
STALE_LEASE; not running: NOT_RUNNING. A lease past its deadline stays valid until Lapse (or a Claim) has moved it.
Extend sets the deadline to now.steady + (given, else the lease's length) and the length to that; progress is kept
while the lease lives; lease_expires_at = now.wall + the length. A lease of an earlier boot may be extended and
reported.

**Report.** A repeat (same delivery, same status) of the report that ended the task's last delivery is OK while the
task is stored and not running, and answers its present state. SUCCEEDED: the task ends succeeded (also if its cancel
was asked for). FAILED: failures +1, a Failure is appended (the last 20 are kept; message and backtrace as given), then
``lifecycle.after_failure``; dead counts in totals. With cancel requested it ends cancelled (the failure is still
recorded; total cancelled, not failed). RELEASED: nothing is counted but total released; ready again with its old rank,
or scheduled until now + delay; with cancel requested it ends cancelled (total cancelled, not released). Ended tasks:
``lifecycle.resolve_keep`` (entry, then queue); 0 removes it at once, else remove_at = now.wall + keep, ended_at =
now.wall.

**Cancel**: waiting: ends cancelled (reason "cancelled"), OK; running: cancel_requested is set, CANCEL_REQUESTED;
ended: CONFLICT.
**Edit**: waiting only, else CONFLICT; a waiting task that has expired is expired first (GONE). Times are resolved from
the entry alone (if one of them is among the fields: ``resolve_times`` without the queue's expires_in, its problem at
/expires_at; an overwrite by Enqueue takes those of step 1); scheduled_at among the fields: state, due_at and rank
follow it; else they stay. The dedupe slot, failures and deliveries stay. A type that would be the 1,001st: Refused
too_many_types at /type.
**Delete**: any state; OK.
**Retry**: DEAD and CANCELLED only, else CONFLICT; expires_at passed: EXPIRED; its dedupe slot is held by another task
(expired first, if overdue) and blocks it by the rules of now: DEDUPE_CONFLICT; else READY with rank now, failures 0,
result and reason forgotten, errors and deliveries kept, cancel_requested False, and the slot is its own again
(taken_at = now, unless it still named this task). With ``queue`` (unknown: queue_not_found, pointer /queue_name) it is
then a task of that queue, by whose settings all this is decided; a key that is unique in its queue is looked up there,
and is free in the queue that it left, even if a ttl would hold it. The limit on types does not hold.
All four: an id that is not stored is GONE if it is at most the last id given, else NOT_FOUND; a task that does not
match ``where`` is a CONFLICT. Totals: cancelled, deleted.

**Filters** restrict by all that they name. ``attempts`` are those that a Task shows. A task matches ``dedupe_key`` if
that is its own key, and the slot of it still names this task.

**Timed ops** take the earliest due first, at most ``limit``, and answer how many tasks they moved. Promote: due_at <=
now.wall. Expire: waiting and expires_at <= now.wall; removed, total expired. Lapse: deadline <= now.steady in this boot
(after the daemon's grace: a lease due before DaemonStart + min(its length, 5 s) is due then instead): a Failure of type
"lease_lapsed" is appended, failures +1, total lapsed, then as FAILED (cancel requested: cancelled, total cancelled, not
lapsed); leases of an earlier boot get deadline now.steady + their length and are not counted. A new boot forgets what
Extend said (in a file, heartbeats are never synced): the length is then that of the claim, progress None. Refill: the
groups whose tokens have come in are looked at again. Prune: remove_at <= now.wall, and the earliest-to-go above
``lifecycle.ended_max`` per queue and state; counts those tasks only. A death in a queue with a max_dead removes the
earliest-to-go of its dead tasks above that at once.

**Schedules** have names and, in the order of their creation, numbers. SchedulePut of what ``schedules.problems_of``
finds something wrong with is refused with those problems; so is a new one beside 10,000 others
(``too_many_schedules``, /name), and, create_queues False, one whose entry's queue does not exist (``queue_not_found``,
/task/queue_name). keep_paused: ``paused`` is what it was, if the schedule exists. SchedulePatch replaces the named
fields, and is refused as the whole would be. SchedulePatch and ScheduleDelete of an unknown name:
``schedule_not_found``, /name. Where it stands after a Put or Patch is ``schedules.standing``; ``reason`` is forgotten.
Fire takes the schedules whose next_at <= now.wall, the earliest first, of the same instant the oldest: it spawns
``schedules.entry_of`` for each instant that ``schedules.firing`` gives (count_max: what is left of the limit), counts
them (``fired``, and Swept.count), notes the last as last_at, and the schedule stands at the new next_at (0: no instant
is left). ``more``: the limit was reached while a schedule was due. One that cannot be read any more is paused by the
store: next_at 0 and the ``reason``, until it is put or patched; the others go on.

**Removed** with a task, however it goes: its dedupe slot, if it still names this task and, when taken with until ttl,
that time is over (else Prune removes the slot when it is).

An external id goes with its task, too; those of a purged or deleted queue are free at once.

**stirred** names at least every queue in which this apply made a task ready, freed a running place, or changed
settings, or let a task start that waited in a lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from lmdbq.clock import Clock
from lmdbq.model import (
    Applied,
    Call,
    Cancel,
    Claim,
    DaemonStart,
    Due,
    Expire,
    Extend,
    Filter,
    Fire,
    GroupRule,
    GroupView,
    Lapse,
    Op,
    Outcome,
    Page,
    Promote,
    Prune,
    QueueView,
    Refill,
    Report,
    ScheduleView,
    SetState,
    SetView,
    StoreInfo,
    Task,
    ThreadView,
    TypeView,
)

_PHASES: dict[type, int] = {
    **dict.fromkeys((Report, Extend, Cancel), 0),
    **dict.fromkeys((DaemonStart, Fire, Promote, Lapse, Expire, Prune, Refill), 2),
    Claim: 3,
}

NO_GATE: AbstractContextManager[None] = nullcontext()


def phase(op: Op) -> int:
    """Return the phase (0..3) in which a call that begins with ``op`` runs."""
    return _PHASES.get(type(op), 1)


class Store(Protocol):
    """A durable (or, in memory, forgetful) home of tasks. Not safe for concurrent ``apply`` from several threads;
    reads may run beside it."""

    def apply(self, calls: Sequence[Call], clock: Clock, gate: AbstractContextManager[None] = NO_GATE) -> Applied:
        """Run ``calls`` in one transaction and return when it is committed (by default: synced).

        gate: entered when the write lock is held, left before the commit; the engine parks its event loop in it.
        Raises NotCommitted (nothing happened), CommitUnknown (write no more), StoreClosed.
        """
        ...

    def task(self, task_id: int, clock: Clock) -> Task | Outcome:
        """Return the task, Outcome.GONE (given once, no longer stored), Outcome.NOT_FOUND, or, for a file, QUARANTINED
        (its bytes were damaged and are kept aside)."""
        ...

    def tasks(self, wanted: Filter, clock: Clock, after: int = 0, limit: int = 100) -> Page:
        """Return tasks with id > ``after`` by rising id, at most ``limit`` (1..1,000). A page may be short or empty
        while ``page.after`` is not 0: it ended because it had looked at enough."""
        ...

    def count(self, wanted: Filter) -> int:
        """Return how many tasks match: from the counts, exact, if only queue, type and states are named; else tasks are
        looked at step by step, and of those that change meanwhile some may be missed."""
        ...

    def queues(self) -> list[QueueView]:
        """Return every queue by name."""
        ...

    def queue(self, name: str) -> QueueView | None:
        """Return one queue, None if it does not exist."""
        ...

    def schedules(self) -> list[ScheduleView]:
        """Return every schedule by name."""
        ...

    def schedule(self, name: str) -> ScheduleView | None:
        """Return one schedule, None if it does not exist."""
        ...

    def sets(self, after: int = 0, limit: int = 1_000, states: tuple[SetState, ...] = ()) -> list[SetView]:
        """Return the sets with id > ``after`` by rising id, at most ``limit``; of these states, if any are named."""
        ...

    def set(self, set_id: int) -> SetView | None:
        """Return one set, None if it does not exist."""
        ...

    def types(self) -> list[TypeView]:
        """Return every type of which something is known, by name."""
        ...

    def groups(self, clock: Clock, after: str = "", limit: int = 1_000) -> list[GroupView]:
        """Return the groups with settings of their own, or with ready or running tasks, by name (as bytes), those
        behind ``after``, at most ``limit``."""
        ...

    def group(self, name: str, clock: Clock) -> GroupView | None:
        """Return one of these groups, None for any other name."""
        ...

    def group_rules(self) -> list[GroupRule]:
        """Return every rule for groups, by pattern (as bytes)."""
        ...

    def threads(self, queue: str, after: str = "", limit: int = 1_000) -> list[ThreadView]:
        """Return the threads of a queue that have ready tasks or a holder, by name (as bytes), those behind ``after``,
        at most ``limit``; none of an unknown queue."""
        ...

    def due(self, clock: Clock) -> Due:
        """Return when each timed op has something to do next."""
        ...

    def info(self) -> StoreInfo:
        """Return facts about the file."""
        ...

    def changed(self) -> int:
        """Return a number that differs whenever anything was committed since, by any process."""
        ...

    def check(self) -> list[str]:
        """Verify every invariant; return one line for each that does not hold (an empty list: all is well)."""
        ...

    def close(self) -> None:
        """Give up the file. Closing twice is harmless; any other call then raises StoreClosed."""
        ...
