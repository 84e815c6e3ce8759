"""Report, Extend and Cancel: what the holders of leases say, and what is said to them.

A lease is (id, delivery): the delivery is compared with the task's deliveries before anything else, so a stale holder
changes nothing. What a report does is in ``lmdb_reporter``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import lt

from lmdbq import lifecycle
from lmdbq.clock import whole_us
from lmdbq.model import (
    Cancel,
    Changed,
    ChangeDone,
    Extend,
    ExtendDone,
    Extended,
    Extension,
    Outcome,
    Report,
    ReportDone,
    Reported,
    State,
)
from lmdbq.store import records as rec
from lmdbq.store.lmdb_filter import Matcher
from lmdbq.store.lmdb_reporter import Reporter
from lmdbq.store.lmdb_standing import find_lease, leave, move_lease
from lmdbq.store.lmdb_tasks import end, sound
from lmdbq.store.lmdb_work import Work

# --- report ---


def report(work: Work, op: Report) -> ReportDone:
    """Run one Report. Of a task that comes twice in it, the second completion sees what the first did."""
    completions = op.completions
    ids = [completion.id for completion in completions]
    if all(map(lt, ids, ids[1:])):
        return ReportDone(Reporter(work, completions).run())
    outcomes: dict[int, Reported] = {}
    todo = sorted(range(len(ids)), key=ids.__getitem__)
    again: list[int] = []
    if len(set(ids)) < len(ids):
        todo, again = _firsts(ids, todo)
    while todo:
        reported = Reporter(work, [completions[index] for index in todo]).run()
        outcomes.update(zip(todo, reported, strict=True))
        todo, again = _firsts(ids, again)
    return ReportDone(list(map(outcomes.__getitem__, range(len(ids)))))


def _firsts(ids: Sequence[int], indexes: list[int]) -> tuple[list[int], list[int]]:
    """Return the indexes, which are in the order of their ids, of the first of each id, and the others."""
    firsts = [index for before, index in pairwise([-1, *indexes]) if before < 0 or ids[before] != ids[index]]
    return firsts, [index for before, index in pairwise(indexes) if ids[before] == ids[index]]


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
    matcher = Matcher(work, op.where)
    return ChangeDone([_cancel_one(work, task_id, matcher) for task_id in op.ids])


def _cancel_one(work: Work, task_id: int, matcher: Matcher) -> Changed:
    task = sound(work, task_id)
    if task is None:
        return absent(work, task_id)
    if not lifecycle.may(task.state, lifecycle.Event.CANCEL) or not matcher.matches(task):
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
