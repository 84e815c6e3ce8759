"""Every verb of the API as a method, in the API's own words, over whatever carries a request.

Answers are the Structs of ``wire``. Every enqueue carries an idempotency key and every ``subscription`` a claim id, so
both may be repeated. ``http`` is these verbs of a daemon, ``transport_verbs`` of any place.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from lmdbq.client import core, core_actions, core_groups, core_schedules, core_sets
from lmdbq.client.core import Fields, Request, T
from lmdbq.client.keys import new_key
from lmdbq.errors import Refusal
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.wire import answers
from lmdbq.wire.group_shapes import GroupAnswer, GroupsAnswer, RuleAnswer, ThreadsAnswer
from lmdbq.wire.schedule_shapes import ScheduleAnswer, ScheduleNext
from lmdbq.wire.set_shapes import SetAnswer, SetsAnswer
from lmdbq.wire.shapes import DequeueRequest, EntryBody, ExtendEntry, ReportEntry
from lmdbq.wire.workers import WorkersAnswer


class Verbs(ABC):
    """The verbs. Every method raises Unreachable, InvalidInput (a value is wrong) or Refusal (its code says why)."""

    @abstractmethod
    def call(self, request: Request[T], stop: threading.Event | None = None) -> T:
        """Carry out a request. stop: once it is set, a call neither waits for tasks nor tries again."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    # --- tasks

    def enqueue(
        self,
        entries: Sequence[EntryBody | Fields],
        *,
        queue_name: str | None = None,
        return_tasks: bool = False,
        idempotency_key: str | None = None,
        lease: str = "",
    ) -> answers.EnqueueAnswer:
        """Enqueue 1..10,000 entries, all or none. A mapping has the API's field names; its payload may be bytes."""
        key = idempotency_key or new_key()
        said = core.enqueue(entries, queue_name=queue_name, return_tasks=return_tasks, key=key, lease=lease)
        return self.call(said)

    def dequeue(self, wanted: DequeueRequest, *, stop: threading.Event | None = None) -> answers.DequeueAnswer:
        """Claim tasks; see ``subscription``. stop: see ``call``."""
        return self.call(core.dequeue(wanted), stop)

    def report(
        self,
        reports: Sequence[ReportEntry],
        *,
        dequeue: DequeueRequest | None = None,
        stop: threading.Event | None = None,
    ) -> answers.ReportAnswer:
        """Say how attempts ended, and with ``dequeue`` claim more in the same transaction. stop: see ``call``."""
        return self.call(core.report(reports, dequeue), stop)

    def extend(self, leases: Sequence[ExtendEntry], *, stop: threading.Event | None = None) -> answers.ExtendAnswer:
        """Prolong leases; each outcome says whether a cancel was asked for. stop: see ``call``."""
        return self.call(core.extend(leases), stop)

    def task(self, task_id: str, *, wait: float = 0.0, payload: str | None = None) -> answers.TaskAnswer:
        """Return a task with its history. wait: hold the answer until it has ended, at most so many seconds (<= 60)."""
        return self.call(core.task(task_id, wait=wait, payload=payload))

    def tasks(self, **filters: object) -> answers.TasksAnswer:
        """Return a page of tasks; ``next`` is the ``cursor`` of the following page."""
        return self.call(core.tasks(filters))

    def each_task(self, *, at_most: int | None = None, **filters: object) -> Iterator[answers.TaskAnswer]:
        """Yield the tasks that match, page by page."""
        left = at_most
        cursor = filters.pop("cursor", None)
        while left is None or left > 0:
            limit = PAGE_TASKS_MAX if left is None else min(left, PAGE_TASKS_MAX)
            page = self.tasks(**filters, limit=limit, cursor=cursor)
            yield from page.tasks
            cursor = page.next
            if not cursor:
                return
            left = None if left is None else left - len(page.tasks)

    def count(self, **filters: object) -> int:
        """Return how many tasks match."""
        return self.call(core.count(filters)).count

    def actions(
        self,
        action: str,
        *,
        every: bool = False,
        dry_run: bool = False,
        cursor: str | None = None,
        to: str | None = None,
        fields: Fields | None = None,
        **filters: object,
    ) -> answers.ActionAnswer:
        """Cancel, retry (in the queue ``to``), delete or edit (``fields``) a page of the tasks that match."""
        key = new_key()
        return self.call(
            core_actions.actions(
                action, filters, every=every, dry_run=dry_run, cursor=cursor, key=key, to=to, fields=fields
            )
        )

    def cancel(self, task_id: str) -> answers.ChangeAnswer:
        """Cancel a waiting task; ask a running one to stop."""
        return self.call(core.cancel(task_id))

    def retry(self, task_id: str, to: str | None = None) -> answers.ChangeAnswer:
        """Make a dead or cancelled task ready again, in the queue ``to`` if one is named."""
        return self.call(core.retry(task_id, to))

    def edit(self, task_id: str, **fields: object) -> answers.TaskAnswer:
        """Overwrite fields of a waiting task."""
        return self.call(core.edit(task_id, fields))

    def delete(self, task_id: str) -> None:
        """Remove a task in any state."""
        self.call(core.delete(task_id))

    # --- queues

    def queues(self) -> list[answers.QueueAnswer]:
        """Return every queue, by name."""
        return self.call(core.queues()).queues

    def queue(self, name: str) -> answers.QueueAnswer:
        """Return one queue."""
        return self.call(core.queue(name))

    def put_queue(self, name: str, **settings: object) -> answers.QueueAnswer:
        """Create a queue, or replace all its settings."""
        return self.call(core.put_queue(name, settings))

    def patch_queue(self, name: str, **settings: object) -> answers.QueueAnswer:
        """Replace the named settings of a queue."""
        return self.call(core.patch_queue(name, settings))

    def delete_queue(self, name: str) -> None:
        """Remove a queue and every task of it."""
        self.call(core.delete_queue(name))

    def pause(self, name: str) -> answers.QueueAnswer:
        """Stop handing out tasks of a queue."""
        return self.call(core.pause(name))

    def resume(self, name: str) -> answers.QueueAnswer:
        """Hand out tasks of a queue again."""
        return self.call(core.resume(name))

    def purge(self, name: str) -> answers.QueueRemoved:
        """Remove every task of a queue."""
        return self.call(core.purge(name))

    # --- groups and threads

    def groups(self, cursor: str | None = None, limit: int | None = None) -> GroupsAnswer:
        """Return a page of groups; ``next`` is the cursor of the following page."""
        return self.call(core_groups.groups(cursor, limit))

    def group(self, key: str) -> GroupAnswer:
        """Return one group."""
        return self.call(core_groups.group(key))

    def patch_group(self, key: str, **settings: object) -> GroupAnswer:
        """Replace the named settings of a group."""
        return self.call(core_groups.patch_group(key, settings))

    def pause_group(self, key: str) -> GroupAnswer:
        """Start nothing more of a group."""
        return self.call(core_groups.pause_group(key))

    def resume_group(self, key: str) -> GroupAnswer:
        """Start tasks of a group again."""
        return self.call(core_groups.resume_group(key))

    def delete_group(self, key: str) -> None:
        """Take a group's own settings away."""
        self.call(core_groups.delete_group(key))

    def group_rules(self) -> list[RuleAnswer]:
        """Return every rule for groups."""
        return self.call(core_groups.group_rules()).rules

    def put_group_rule(self, pattern: str, **settings: object) -> RuleAnswer:
        """Make a rule for groups, or replace it."""
        return self.call(core_groups.put_group_rule(pattern, settings))

    def delete_group_rule(self, pattern: str) -> None:
        """Remove a rule for groups."""
        self.call(core_groups.delete_group_rule(pattern))

    def threads(self, queue: str, cursor: str | None = None, limit: int | None = None) -> ThreadsAnswer:
        """Return a page of a queue's threads; ``next`` is the cursor of the following page."""
        return self.call(core_groups.threads(queue, cursor, limit))

    # --- sets

    def make_set(self, entries: core_sets.Entries = (), **fields: object) -> SetAnswer:
        """Make a set, with its first members."""
        return self.call(core_sets.make_set(fields, entries, key=new_key()))

    def sets(self, **query: object) -> SetsAnswer:
        """Return a page of sets; ``next`` is the ``cursor`` of the following page."""
        return self.call(core_sets.sets(query))

    def task_set(self, set_id: str, *, wait: float = 0.0) -> SetAnswer:
        """Return a set. wait: hold the answer until it is decided, at most so many seconds (<= 60)."""
        return self.call(core_sets.task_set(set_id, wait=wait))

    def close_set(self, set_id: str, entries: core_sets.Entries = ()) -> SetAnswer:
        """Close a set, with its last members."""
        return self.call(core_sets.close_set(set_id, entries, lease="", key=new_key()))

    def delete_set(self, set_id: str) -> None:
        """Forget a set; its members stay."""
        self.call(core_sets.delete_set(set_id))

    # --- schedules

    def schedules(self) -> list[ScheduleAnswer]:
        """Return every schedule, by name."""
        return self.call(core_schedules.schedules()).schedules

    def schedule(self, name: str) -> ScheduleAnswer:
        """Return one schedule and its next instants."""
        return self.call(core_schedules.schedule(name))

    def put_schedule(self, name: str, **fields: object) -> ScheduleAnswer:
        """Create a schedule, or replace it."""
        return self.call(core_schedules.put_schedule(name, fields))

    def patch_schedule(self, name: str, **fields: object) -> ScheduleAnswer:
        """Replace the named fields of a schedule."""
        return self.call(core_schedules.patch_schedule(name, fields))

    def next_instants(self, name: str, count: int | None = None) -> ScheduleNext:
        """Return the next instants of a schedule."""
        return self.call(core_schedules.next_instants(name, count))

    def pause_schedule(self, name: str) -> ScheduleAnswer:
        """Let a schedule enqueue nothing until it is resumed."""
        return self.call(core_schedules.pause_schedule(name))

    def resume_schedule(self, name: str) -> ScheduleAnswer:
        """Let a paused schedule go on."""
        return self.call(core_schedules.resume_schedule(name))

    def run_schedule(self, name: str) -> answers.TaskCreated:
        """Enqueue a schedule's task now."""
        return self.call(core_schedules.run_schedule(name))

    def delete_schedule(self, name: str) -> None:
        """Remove a schedule; its tasks stay."""
        self.call(core_schedules.delete_schedule(name))

    def workers(self) -> WorkersAnswer:
        """Return who works, and what is known of types."""
        return self.call(core.workers())

    # --- the daemon

    def info(self) -> answers.InfoAnswer:
        """Return facts about the daemon and its file."""
        return self.call(core.info())

    def healthy(self, *, ready: bool = True) -> bool:
        """Whether the daemon takes writes (``ready``), or lives at all; False only if it answers that it does not."""
        try:
            self.call(core.health(ready))
        except Refusal:
            return False
        return True


def subscription(
    *queue_names: str,
    types: Sequence[str] = (),
    limit: int = 1,
    wait: float = 0.0,
    lease: float | None = None,
    claim_id: str | None = None,
) -> DequeueRequest:
    """Return what a dequeue asks for: up to ``limit`` (<= 1,000) tasks, waiting up to ``wait`` seconds (<= 60).

    lease: its length in seconds (1 s .. 12 h), None = each task's own. claim_id: None = a fresh one.
    """
    return DequeueRequest(
        queue_names=list(queue_names) or None,
        types=list(types) or None,
        limit=limit,
        wait_in_seconds=wait,
        keepalive_timeout_in_seconds=lease,
        claim_id=claim_id or new_key(),
    )
