"""Report, Extend and Cancel: what the holders of leases say, and what is said to them.

A report of a whole batch is the common case, so completions are brought in the order of their ids, and the lease runs
that they belong to are shortened once each; then every task goes its own way (removed, kept, tried again). A lease is
(id, delivery): the delivery is compared with the task's deliveries before anything else, so a stale holder changes
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import le

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
_NOT_FOUND = Reported(Outcome.NOT_FOUND)
_STALE = Reported(Outcome.STALE_LEASE)


# --- report ---


def report(work: Work, op: Report) -> ReportDone:
    """Run one Report. Of a task that comes twice in it, the second completion sees what the first did."""
    ids = [completion.id for completion in op.completions]
    if all(map(le, ids, ids[1:])):
        return ReportDone(_report_rising(work, op.completions))
    order = sorted(range(len(ids)), key=ids.__getitem__)
    outcomes = [_SUCCEEDED] * len(ids)
    for index, outcome in zip(order, _report_rising(work, [op.completions[at] for at in order]), strict=True):
        outcomes[index] = outcome
    return ReportDone(outcomes)


def _report_rising(work: Work, completions: Sequence[Completion]) -> list[Reported]:
    """Run completions whose ids rise, a lease run at a time."""
    outcomes: list[Reported] = []
    while len(outcomes) < len(completions):
        position = len(outcomes)
        found = find_lease(work, completions[position].id)
        if found is None:
            outcomes.append(_report_not_running(work, completions[position]))
        else:
            last_id, run = found
            outcomes += _report_run(work, last_id, run, completions[position : position + run.length])
    return outcomes


def _report_run(work: Work, last_id: int, run: rec.LeaseRun, completions: Sequence[Completion]) -> list[Reported]:
    """Run the first of ``completions``, and those behind it that are of the same lease run, each of another task.

    Tasks that simply succeed are removed on the spot if their records say nothing but a place and a payload. Only the
    bytes that say so are looked at, and no checksum is made: nobody reads the record again, and rot that makes just
    these bytes of others leaves, at worst, a slot that names nobody, which blocks nobody. 0.7 us per task; each of the
    others goes its own way, for 10.
    """
    queue = work.queue_of(run.queue_no)
    is_removed = queue is not None and not lifecycle.resolve_keep(State.SUCCEEDED, False, queue.settings.keep)
    with_history = work.with_history(last_id - run.length + 1, last_id)
    records, pack_id, succeeded, previous_id = work.cursor("task"), ks.U64.pack, Status.SUCCEEDED, -1
    outcomes: list[Reported] = []
    taken: list[int] = []
    others: list[tuple[int, Completion]] = []
    for completion in completions:
        task_id = completion.id
        if not previous_id < task_id <= last_id:
            break
        previous_id = task_id
        if queue is None or completion.delivery != run.deliveries:
            outcomes.append(_NOT_FOUND if queue is None else _STALE)
            continue
        taken.append(task_id)
        key = pack_id(task_id)
        if (
            is_removed
            and completion.status is succeeded
            and completion.result is None
            and task_id not in with_history
            and (records.key() == key or records.set_key(key))  # a deletion moves on to the next
            and rec.says_nothing(records.value())
        ):
            records.delete()
        else:
            others.append((len(outcomes), completion))
        outcomes.append(_SUCCEEDED)
    if queue is not None and taken:
        _leave_run(work, queue, last_id, run, taken, simple=len(taken) - len(others))
        for position, completion in others:
            outcomes[position] = _complete(work, completion, run, queue)
    return outcomes


def _leave_run(work: Work, queue: Queue, last_id: int, run: rec.LeaseRun, taken: list[int], simple: int) -> None:
    """Take tasks out of their lease run; ``simple`` of them are gone already, and are counted here."""
    work.stirred.add(queue.name)
    shorten_lease(work, last_id, run, taken)
    if work.has_extensions:
        for task_id in taken:
            work.forget_extension(task_id)
    if simple:
        work.count(queue.no, run.type_no, leaves=State.RUNNING, length=simple)
        work.total(queue.no, "succeeded", simple)


def _report_not_running(work: Work, completion: Completion) -> Reported:
    """Answer a report whose task is in no lease: a repeat, a stale one, or a task that is gone."""
    task = sound(work, completion.id)
    if task is None:
        return _NOT_FOUND
    if task.deliveries != completion.delivery:
        return _STALE
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


def _complete(work: Work, completion: Completion, run: rec.LeaseRun, queue: Queue) -> Reported:
    """End one attempt whose task has left its lease run."""
    task_id = completion.id
    try:
        record = rec.read_task(work.get("task", ks.task(task_id)) or b"")
        history = work.get_history(task_id) or rec.History()
    except (rec.Damaged, ValueError) as error:
        work.count(run.queue_no, run.type_no, leaves=State.RUNNING)
        quarantine(work, task_id, str(error))
        return _NOT_FOUND
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
