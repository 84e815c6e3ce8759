"""Report, Extend and Cancel: what the holders of leases say, and what is said to them.

A report of a whole batch is the common case, so completions are first sorted by id and the lease runs they belong to
are shortened once each; then every task goes its own way (removed, kept, tried again). A lease is (id, delivery): the
delivery is compared with the task's deliveries before anything else, so a stale holder changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmdbq import lifecycle
from lmdbq.clock import whole_us
from lmdbq.model import (
    Cancel,
    Changed,
    ChangeDone,
    Completion,
    ErrorInfo,
    Extend,
    ExtendDone,
    Extended,
    Extension,
    Outcome,
    Report,
    ReportDone,
    Reported,
    State,
    Status,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_standing import Located, find_lease, leave, locate, move_lease, shorten_lease
from lmdbq.store.lmdb_tasks import change_state, end, fail, note_report, quarantine
from lmdbq.store.lmdb_work import Queue, Work

_NO_ERROR = ErrorInfo()
_SUCCEEDED = Reported(Outcome.OK)  # and removed


# --- report ---


def report(work: Work, op: Report) -> ReportDone:
    """Run one Report."""
    outcomes: list[Reported | None] = [None] * len(op.completions)
    again: list[int] = []
    by_id = sorted(range(len(op.completions)), key=lambda index: op.completions[index].id)
    last_id = -1
    position = 0
    while position < len(by_id):
        index = by_id[position]
        completion = op.completions[index]
        if completion.id == last_id:  # the same task twice in one report: the second sees what the first did
            again.append(index)
            position += 1
            continue
        found = find_lease(work, completion.id)
        if found is None:
            outcomes[index] = _report_not_running(work, completion)
            last_id = completion.id
            position += 1
            continue
        run_last, run = found
        taken: list[int] = []
        while position < len(by_id):
            index = by_id[position]
            completion = op.completions[index]
            if completion.id > run_last:
                break
            if completion.id == last_id:
                again.append(index)
            elif work.queue_of(run.queue_no) is None:
                outcomes[index] = Reported(Outcome.NOT_FOUND)
            elif completion.delivery != run.deliveries:
                outcomes[index] = Reported(Outcome.STALE_LEASE)
            else:
                taken.append(index)
            last_id = completion.id
            position += 1
        if taken:
            shorten_lease(work, run_last, run, [op.completions[index].id for index in taken])
            _complete_all(work, run, op.completions, taken, outcomes)
    for index in again:
        outcomes[index] = report(work, Report((op.completions[index],))).outcomes[0]
    return ReportDone([outcome for outcome in outcomes if outcome is not None])


def _report_not_running(work: Work, completion: Completion) -> Reported:
    """Answer a report whose task is in no lease: a repeat, a stale one, or a task that is gone."""
    task = sound(work, completion.id)
    if task is None:
        return Reported(Outcome.NOT_FOUND)
    if task.deliveries != completion.delivery:
        return Reported(Outcome.STALE_LEASE)
    history = task.history
    if (history.last_delivery, history.last_status) == (completion.delivery, completion.status):
        return Reported(Outcome.OK, task.state)
    return Reported(Outcome.NOT_RUNNING)


def sound(work: Work, task_id: int) -> Located | None:
    """Return a stored task, None if there is none, or if it is damaged and now in quarantine."""
    try:
        return locate(work, task_id)
    except (rec.Damaged, ValueError) as error:
        quarantine(work, task_id, str(error))
        return None


def _complete_all(
    work: Work,
    run: rec.LeaseRun,
    completions: Sequence[Completion],
    taken: list[int],
    outcomes: list[Reported | None],
) -> None:
    """End the attempts whose tasks have left their lease run; those that simply succeed are counted once for all."""
    queue = work.queue_of(run.queue_no)
    assert queue is not None
    work.stirred.add(queue.name)
    is_removed = not lifecycle.resolve_keep(State.SUCCEEDED, False, queue.settings.keep)
    any_history = work.any_history(completions[taken[0]].id, completions[taken[-1]].id)
    pop = work.cursor("task").pop
    simple = 0
    for index in taken:
        completion = completions[index]
        if work.has_extensions:
            work.forget_extension(completion.id)
        if is_removed and completion.status is Status.SUCCEEDED and completion.result is None:
            key = ks.task(completion.id)
            value = pop(key)
            if value and rec.is_plain(value) and not (any_history and work.get("history", key)):
                outcomes[index] = _SUCCEEDED
                simple += 1
                continue
            if value:
                work.put("task", key, value)
        outcomes[index] = _complete(work, completion, run, queue)
    if simple:
        work.count(queue.no, run.type_no, leaves=State.RUNNING, length=simple)
        work.total(queue.no, "succeeded", simple)


def _complete(work: Work, completion: Completion, run: rec.LeaseRun, queue: Queue) -> Reported:
    """End one attempt whose task has left its lease run."""
    task_id = completion.id
    try:
        record = rec.read_task(work.get("task", ks.task(task_id)) or b"")
        history = work.get_history(task_id) or rec.History()
    except (rec.Damaged, ValueError) as error:
        work.count(run.queue_no, run.type_no, leaves=State.RUNNING)
        quarantine(work, task_id, str(error))
        return Reported(Outcome.NOT_FOUND)
    task = Located(task_id, queue, record, history, State.RUNNING, run.deliveries, run.failures, run)
    if completion.status is Status.SUCCEEDED:
        note_report(task, Status.SUCCEEDED)
        state = end(work, task, State.SUCCEEDED, "", completion.result, completion.result_encoding)
        return Reported(Outcome.OK, state)
    if completion.status is Status.FAILED:
        state = fail(
            work,
            task,
            completion.error or _NO_ERROR,
            status=Status.FAILED,
            may_retry=completion.retry,
            delay_ns=completion.delay_ns,
        )
        return Reported(Outcome.OK, state)
    return Reported(Outcome.OK, _release(work, task, completion.delay_ns or 0))


def _release(work: Work, task: Located, delay_ns: int) -> State | None:
    note_report(task, Status.RELEASED)
    if task.history.cancel_requested:
        return end(work, task, State.CANCELLED, "cancelled")
    work.total(task.queue.no, "released")
    if delay_ns:
        task.history.rank = work.now.wall + delay_ns
    change_state(work, task, State.SCHEDULED if delay_ns else State.READY)
    return task.state


# --- extend ---


def extend(work: Work, op: Extend) -> ExtendDone:
    """Run one Extend. It writes to the side file alone, unless a lease is made shorter or is of an earlier boot."""
    return ExtendDone([_extend_one(work, extension) for extension in op.extensions])


def _extend_one(work: Work, wanted: Extension) -> Extended:
    now = work.now
    found = find_lease(work, wanted.id)
    if found is None:
        return Extended(_extend_not_running(work, wanted))
    run = found[1]
    if work.queue_of(run.queue_no) is None:
        return Extended(Outcome.NOT_FOUND)
    if run.deliveries != wanted.delivery:
        return Extended(Outcome.STALE_LEASE)
    standing = work.get_extension(wanted.id, run.deliveries, run.boot_no)
    keepalive = wanted.keepalive_ns or (standing or run).keepalive
    progress = wanted.progress
    if progress is None and standing is not None:
        progress = standing.progress
    deadline = now.steady + keepalive
    if run.boot_no != now.boot_no or deadline < run.deadline:
        move_lease(work, wanted.id, now.boot_no, deadline)
    work.extensions[wanted.id] = rec.Extension(run.deliveries, now.boot_no, deadline, keepalive, progress)
    history = work.get_history(wanted.id)
    return Extended(Outcome.OK, whole_us(now.wall + keepalive), history is not None and history.cancel_requested)


def _extend_not_running(work: Work, wanted: Extension) -> Outcome:
    task = sound(work, wanted.id)
    if task is None:
        return Outcome.NOT_FOUND
    return Outcome.NOT_RUNNING if task.deliveries == wanted.delivery else Outcome.STALE_LEASE


# --- cancel ---


def cancel(work: Work, op: Cancel) -> ChangeDone:
    """Run one Cancel."""
    return ChangeDone([_cancel_one(work, task_id) for task_id in op.ids])


def _cancel_one(work: Work, task_id: int) -> Changed:
    task = sound(work, task_id)
    if task is None:
        return absent(work, task_id)
    if not lifecycle.may(task.state, lifecycle.Event.CANCEL):
        return Changed(task_id, Outcome.CONFLICT, task.state)
    if task.state is State.RUNNING:
        if not task.history.cancel_requested:
            task.history.cancel_requested = True
            work.put_history(task_id, task.history)
        return Changed(task_id, Outcome.CANCEL_REQUESTED, State.RUNNING)
    leave(work, task)
    return Changed(task_id, Outcome.OK, end(work, task, State.CANCELLED, "cancelled"))


def absent(work: Work, task_id: int) -> Changed:
    """Answer for a task that is not stored: GONE if its id was given once."""
    return Changed(task_id, Outcome.GONE if task_id <= work.last_id else Outcome.NOT_FOUND)
