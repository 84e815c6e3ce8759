"""One store and its clock, driven by words: what the tests of stores are written in.

``Driver`` turns ``add(delay_ns=5)`` into a call of ``apply`` and hands back the outcome; it asserts that the call was
done, so that a test says only what it is about. ``image`` is all that can be read, for "nothing has changed".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.model import (
    Applied,
    Call,
    CallOutcome,
    Cancel,
    Changed,
    Claim,
    Claimed,
    ClaimedTask,
    Completion,
    Dedupe,
    Delete,
    Done,
    Edit,
    Enqueue,
    Enqueued,
    Entry,
    ErrorInfo,
    Extend,
    Extended,
    Extension,
    Filter,
    Fire,
    Memo,
    Op,
    Options,
    Outcome,
    QueueChanged,
    QueuePatch,
    QueuePut,
    QueueSettings,
    Refused,
    Report,
    Reported,
    Retry,
    State,
    Status,
    Swept,
    Task,
    Totals,
)
from lmdbq.store.base import Store

S = limits.SECOND_NS
EVERYTHING = Filter()
_OPTIONS = frozenset(Options.__struct_fields__)


def entry(**fields: Any) -> Entry:
    """Return an Entry; fields of Options may be given beside its own, ``dedupe`` also as a bare key."""
    if isinstance(fields.get("dedupe"), str):
        fields["dedupe"] = Dedupe(key=fields["dedupe"])
    options = {name: fields.pop(name) for name in _OPTIONS & fields.keys()}
    return Entry(**fields, options=Options(**options))


@dataclass
class Driver:
    """A store, its clock, and a verb for each op."""

    store: Store
    clock: ManualClock

    @property
    def now(self) -> int:
        return self.clock.wall_ns()

    # --- calls

    def apply(self, *calls: Call) -> Applied:
        return self.store.apply(calls, self.clock)

    def call(self, *ops: Op, memo: Memo | None = None) -> CallOutcome:
        return self.apply(Call(ops, memo)).outcomes[0]

    def do(self, *ops: Op) -> Any:
        """Run one call that must be done; return its outcome, a tuple of them for several ops."""
        done = self.call(*ops)
        assert isinstance(done, Done), done
        return done.outcomes[0] if len(ops) == 1 else done.outcomes

    def refusal(self, *ops: Op) -> Refused:
        """Run one call that must be refused and leave no trace."""
        before = self.image()
        refused = self.call(*ops)
        assert isinstance(refused, Refused), refused
        assert self.image() == before
        return refused

    # --- verbs

    def enqueue(self, *entries: Entry, create_queues: bool = True) -> Enqueued:
        outcome: Enqueued = self.do(Enqueue(entries, create_queues))
        return outcome

    def add(self, **fields: Any) -> int:
        """Enqueue one new task; return its id."""
        enqueued = self.enqueue(entry(**fields))
        assert enqueued.placed(0).outcome is Outcome.ENQUEUED
        return enqueued.ids[0]

    def claim(self, *queues: str, **fields: Any) -> Claimed:
        claimed: Claimed = self.do(Claim(queues or ("default",), **fields))
        return claimed

    def claim_ids(self, *queues: str, limit: int = 1000, **fields: Any) -> list[int]:
        return [task.id for task in self.claim(*queues, limit=limit, **fields).tasks]

    def take(self, *queues: str, **fields: Any) -> ClaimedTask:
        """Claim the one task that must be there."""
        tasks = self.claim(*queues, **fields).tasks
        assert len(tasks) == 1, tasks
        return tasks[0]

    def report(self, task: ClaimedTask, status: Status, **fields: Any) -> Reported:
        outcome: Reported = self.do(Report((Completion(task.id, task.deliveries, status, **fields),))).outcomes[0]
        return outcome

    def succeed(self, task: ClaimedTask, **fields: Any) -> Reported:
        return self.report(task, Status.SUCCEEDED, **fields)

    def finish(self, task_id: int) -> Reported:
        """Report that a task which runs has succeeded."""
        completion = Completion(task_id, self.task(task_id).deliveries, Status.SUCCEEDED)
        outcome: Reported = self.do(Report((completion,))).outcomes[0]
        return outcome

    def fail(self, task: ClaimedTask, message: str = "no", **fields: Any) -> Reported:
        return self.report(task, Status.FAILED, error=ErrorInfo(message, "Error", "trace"), **fields)

    def release(self, task: ClaimedTask, **fields: Any) -> Reported:
        return self.report(task, Status.RELEASED, **fields)

    def extend(self, task: ClaimedTask, **fields: Any) -> Extended:
        outcome: Extended = self.do(Extend((Extension(task.id, task.deliveries, **fields),))).outcomes[0]
        return outcome

    def _change(self, op: Op) -> Changed:
        outcome: Changed = self.do(op).outcomes[0]
        return outcome

    def cancel(self, task_id: int) -> Changed:
        return self._change(Cancel((task_id,)))

    def delete(self, task_id: int) -> Changed:
        return self._change(Delete((task_id,)))

    def retry(self, task_id: int) -> Changed:
        return self._change(Retry((task_id,)))

    def edit(self, task_id: int, *fields: str, **values: Any) -> Changed:
        return self._change(Edit(task_id, entry(**values), fields))

    def sweep(self, op: Op) -> Swept:
        swept: Swept = self.do(op)
        return swept

    def apply_fire(self) -> frozenset[str]:
        """Fire what is due; return the queues that it stirred."""
        return self.apply(Call((Fire(),))).stirred

    def put_queue(self, name: str = "default", **settings: Any) -> QueueChanged:
        changed: QueueChanged = self.do(QueuePut(name, QueueSettings(**settings)))
        return changed

    def patch_queue(self, name: str = "default", **settings: Any) -> QueueChanged:
        changed: QueueChanged = self.do(QueuePatch(name, QueueSettings(**settings), tuple(settings)))
        return changed

    # --- whole stretches of a life

    def add_dead(self, **fields: Any) -> int:
        """Enqueue a task and let it die at once; its queue must hold nothing else that is ready."""
        task_id = self.add(**fields)
        task = self.take(fields.get("queue", "default"))
        assert task.id == task_id
        assert self.fail(task, retry=False).state is State.DEAD
        return task_id

    # --- reads

    def task(self, task_id: int) -> Task:
        task = self.store.task(task_id, self.clock)
        assert isinstance(task, Task), task
        return task

    def state(self, task_id: int) -> State | Outcome:
        """Return the state of a task, or GONE or NOT_FOUND."""
        task = self.store.task(task_id, self.clock)
        return task.state if isinstance(task, Task) else task

    def totals(self, queue: str = "default") -> Totals:
        view = self.store.queue(queue)
        assert view is not None
        return view.totals

    def number(self, state: State, queue: str = "default") -> int:
        return self.store.count(Filter(queue=queue, states=(state,)))

    def all_tasks(self, wanted: Filter = EVERYTHING, limit: int = 1000) -> list[Task]:
        """Return all matching tasks, page by page."""
        tasks: list[Task] = []
        after = 0
        while True:
            page = self.store.tasks(wanted, self.clock, after, limit)
            assert len(page.tasks) <= limit
            tasks += page.tasks
            if not page.after:
                return tasks
            assert page.after > after
            after = page.after

    def image(self) -> tuple[Any, ...]:
        """Return all that can be read of the store, but for when Prune has something to do."""
        due = self.store.due(self.clock)
        return (
            self.all_tasks(),
            self.store.queues(),
            self.store.schedules(),
            self.store.sets(),
            self.store.groups(self.clock),
            self.store.group_rules(),
            (due.promote_at, due.expire_at, due.lapse_in_ns),
            self.store.info().last_id,
        )
