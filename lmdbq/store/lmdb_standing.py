"""Where a task stands: the functions that find, add and take away standings.

A ready or a lease standing is a place in a *run*, an interval of ids behind one key, named by its last id: it holds
those of them that are stored. A task that is removed leaves its run with its record; one that goes elsewhere is taken
out, which shortens the run or splits it in two. A run that holds no task any more is removed at once.

The trap: a run is found by ``set_range`` with the id sought, which answers the first run that *ends* at or behind it;
whether the run begins at or before it must still be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from lmdbq.clock import whole_us
from lmdbq.model import ENDED, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Member, is_laned
from lmdbq.store.lmdb_located import Located as Located
from lmdbq.store.lmdb_rows import read_lane_standing, read_lease_run, read_ready_run, read_standing
from lmdbq.store.lmdb_work import Queue, Work

RUN_IDS_MAX: Final = 1 << 16  # of a run that others are joined to, so that nothing walks it for long


class Missing(rec.Damaged):
    """A key says that a task is where it is not."""


def locate(work: Work, task_id: int) -> Located | None:
    """Return a stored task of a live queue, None if there is none. Raises Damaged, Missing."""
    value = work.get("task", ks.task(task_id))
    if value is None:
        return None
    record = rec.read_task(value)
    queue = work.queue_of(record.queue_no)
    if queue is None:
        return None
    history = work.get_history(task_id) or rec.History()
    return stand(work, task_id, queue, record, history)


def stand(work: Work, task_id: int, queue: Queue, record: rec.TaskRecord, history: rec.History) -> Located:
    """Return where a task of known record and history stands. Raises Missing if it stands nowhere."""
    if history.ended_state >= 0:
        state = State(history.ended_state)
        key = ks.ended(queue.no, state, history.remove_at, task_id)
        value = work.get("ended", key)
        if value is None:
            raise Missing("it has ended, but stands among no ended tasks")
        standing = read_standing("ended", key, value)
        return Located(task_id, queue, record, history, state, standing.deliveries, standing.failures)
    found = lease_over(work, task_id)
    if found is not None:
        lease = found[1]
        return Located(task_id, queue, record, history, State.RUNNING, lease.deliveries, lease.failures, lease)
    rank = history.rank or record.scheduled_at
    key = ks.scheduled(queue.no, rank, task_id)
    value = work.get("scheduled", key)
    if value is not None:
        standing = read_standing("scheduled", key, value)
        return Located(task_id, queue, record, history, State.SCHEDULED, standing.deliveries, standing.failures)
    counted = _ready_counts(work, queue.no, record, rank, task_id)
    if counted is None:
        raise Missing("it stands in no index")
    return Located(task_id, queue, record, history, State.READY, *counted)


# --- ready ---


def _ready_counts(work: Work, queue_no: int, record: rec.TaskRecord, rank: int, task_id: int) -> tuple[int, int] | None:
    """Return (deliveries, failures) of a ready task, from its lane or its run; None if it is in neither."""
    if is_laned(record.options):
        key = work.lanes.standing_key(Member(record.options, queue_no, record.type_no, record.priority, rank, task_id))
        value = work.get("lane", key) if key is not None else None
        return None if key is None or value is None else read_lane_standing(key, value)[-2:]
    found = _find_ready(work, queue_no, record, rank, task_id)
    return None if found is None else found[1][-2:]


def _find_ready(
    work: Work, queue_no: int, record: rec.TaskRecord, rank: int, task_id: int
) -> tuple[ks.ReadyKey, rec.ReadyRun] | None:
    found = work.first_from("ready", ks.ready(queue_no, record.type_no, record.priority, rank, task_id))
    if found is None:
        return None
    key = ks.read_ready(found[0])
    if key[:4] != (queue_no, record.type_no, record.priority, rank):
        return None
    run = read_ready_run(*found)
    return (key, run) if key.last_id - run.length < task_id else None


def add_ready(
    work: Work, queue: Queue, type_no: int, priority: int, rank: int, last_id: int, run: rec.ReadyRun
) -> None:
    """Put a run of ready tasks, and note that their queue has more to claim.

    It is joined to the run before it if they say the same and nothing is stored between them.
    """
    key = ks.ready(queue.no, type_no, priority, rank, last_id)
    length = run.length
    before = work.last_before("ready", key)
    if before is not None and before[0][: -ks.U64.size] == key[: -ks.U64.size]:
        before_last = ks.read_ready(before[0]).last_id
        joined = read_ready_run(*before)
        first_id = before_last - joined.length + 1
        if (
            joined[1:] == run[1:]
            and last_id - first_id < RUN_IDS_MAX
            and not work.any_task(before_last + 1, last_id - length)
        ):
            work.delete("ready", before[0])
            length = last_id - first_id + 1
    work.put("ready", key, rec.write_ready_run(key, length, run.deliveries, run.failures))
    work.stirred.add(queue.name)


class ReadyStretch(NamedTuple):
    """Tasks that are to become ready: all that are stored of an interval of ids. Those of one place sort together."""

    type_no: int
    priority: int
    rank: int
    deliveries: int
    failures: int
    first_id: int
    last_id: int


def add_stretches(work: Work, queue: Queue, stretches: Iterable[ReadyStretch]) -> None:
    """Put ready tasks of a queue: those of one place as one run, if nothing is stored between them."""
    runs: list[ReadyStretch] = []
    for stretch in sorted(stretches):
        if runs:
            last = runs[-1]
            is_near = stretch[:-2] == last[:-2] and stretch.last_id - last.first_id < RUN_IDS_MAX
            if is_near and not work.any_task(last.last_id + 1, stretch.first_id - 1):
                runs[-1] = last._replace(last_id=stretch.last_id)
                continue
        runs.append(stretch)
    for type_no, priority, rank, deliveries, failures, first_id, last_id in runs:
        run = rec.ReadyRun(last_id - first_id + 1, deliveries, failures)
        add_ready(work, queue, type_no, priority, rank, last_id, run)


def find_ready(work: Work, task: Located) -> tuple[ks.ReadyKey, rec.ReadyRun]:
    """Return the ready run that holds a task. Raises Missing."""
    found = _find_ready(work, task.queue.no, task.record, task.rank, task.id)
    if found is None:
        raise Missing("it stands in no ready run")
    return found


def remove_ready(work: Work, task: Located) -> None:
    """Take one task out of its ready run."""
    cut_ready(work, *find_ready(work, task), task.id)


def cut_ready(work: Work, key: ks.ReadyKey, run: rec.ReadyRun, task_id: int) -> None:
    """Take a task out of a ready run, though it is stored."""
    work.delete("ready", ks.ready(*key))
    for first, last in without(key.last_id - run.length + 1, key.last_id, [(task_id, task_id)]):
        if work.any_task(first, last):
            part = ks.ready(*key[:4], last)
            work.put("ready", part, rec.write_ready_run(part, last - first + 1, run.deliveries, run.failures))


def without(first: int, last: int, taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of the interval ``first..last`` when the rising intervals ``taken`` are taken out of it.

    >>> without(5, 9, [(5, 5), (7, 8)])
    [(6, 6), (9, 9)]
    """
    left: list[tuple[int, int]] = []
    start = first
    for taken_first, taken_last in taken:
        if taken_first > start:
            left.append((start, taken_first - 1))
        start = taken_last + 1
    if start <= last:
        left.append((start, last))
    return left


# --- leases ---


def find_lease(work: Work, task_id: int) -> tuple[int, rec.LeaseRun] | None:
    """Return (last id, run) of the lease run that holds a task; None if it is not running, or not stored."""
    found = lease_over(work, task_id)
    return found if found is not None and work.any_task(task_id, task_id) else None


def lease_over(work: Work, task_id: int) -> tuple[int, rec.LeaseRun] | None:
    """Return (last id, run) of the lease run whose interval an id is in; None if it is in none."""
    found = work.first_from("lease", ks.lease(task_id))
    if found is None:
        return None
    last_id = ks.read_id(found[0])
    run = read_lease_run(*found)
    return (last_id, run) if last_id - run.length < task_id else None


def put_lease(work: Work, last_id: int, run: rec.LeaseRun) -> None:
    """Put a lease run and its deadline."""
    key = ks.lease(last_id)
    work.put("lease", key, rec.write_lease_run(key, run))
    work.put("deadline", ks.deadline(run.queue_no, run.boot_no, run.deadline, last_id))


def shorten_lease(work: Work, last_id: int, run: rec.LeaseRun, taken: Sequence[tuple[int, int]]) -> None:
    """Take the rising intervals ``taken`` of ids out of a lease run; what is left keeps its deadline.

    Ids of tasks that are removed need not be taken out, they leave with their records; but the run goes when it holds
    no task any more.
    """
    first_id = last_id - run.length + 1
    left = [part for part in without(first_id, last_id, taken) if work.any_task(*part)]
    if left == [(first_id, last_id)]:
        return
    if left and left[-1][1] == last_id:  # its deadline stays as it is
        first, _ = left.pop()
        key = ks.lease(last_id)
        work.put("lease", key, rec.write_lease_run(key, run._replace(length=last_id - first + 1)))
    else:
        work.delete("lease", ks.lease(last_id))
        work.delete("deadline", ks.deadline(run.queue_no, run.boot_no, run.deadline, last_id))
    for first, last in left:
        put_lease(work, last, run._replace(length=last - first + 1))


def move_lease(work: Work, task_id: int, boot_no: int, deadline: int) -> None:
    """Give one running task a deadline of its own in the main file; its length there stays that of the claim."""
    found = find_lease(work, task_id)
    if found is None:
        raise Missing("it stands in no lease run")
    last_id, run = found
    shorten_lease(work, last_id, run, [(task_id, task_id)])
    moved = run._replace(length=1, boot_no=boot_no, deadline=deadline)
    put_lease(work, task_id, moved)


def seen_lease(work: Work, task_id: int, run: rec.LeaseRun) -> tuple[int, int, float | None]:
    """Return (length in ns, end in wall ns, an estimate, progress) of a lease, with what heartbeats made of it."""
    extension = work.get_extension(task_id, run.deliveries, run.boot_no)
    keepalive, deadline = (extension or run).keepalive, (extension or run).deadline
    left = deadline - work.now.steady if run.boot_no == work.now.boot_no else keepalive
    return keepalive, whole_us(work.now.wall + left), extension.progress if extension else None


# --- one task, any standing ---


def leave(work: Work, task: Located) -> None:
    """Take a task away from where it stands, with its expiry key if it waits; counts and record stay."""
    if task.state is State.READY and is_laned(task.record.options):
        work.lanes.leave(task.member)
    elif task.state is State.READY:
        remove_ready(work, task)
    elif task.state is State.SCHEDULED:
        work.delete("scheduled", ks.scheduled(task.queue.no, task.rank, task.id))
    elif task.state is State.RUNNING:
        found = lease_over(work, task.id)
        if found is None:
            raise Missing("it stands in no lease run")
        shorten_lease(work, *found, [(task.id, task.id)])
        work.forget_extension(task.id)
        work.stirred.add(task.queue.name)
    else:
        work.delete("ended", ks.ended(task.queue.no, task.state, task.history.remove_at, task.id))
    if task.record.expires_at and task.state in (State.READY, State.SCHEDULED):
        work.delete("expiry", ks.expiry(task.queue.no, task.record.expires_at, task.id))


def enter(work: Work, task: Located, ready: list[ReadyStretch] | None = None) -> None:
    """Put a task where its state, rank and history say it stands (any state but RUNNING), with its expiry key.

    ready: takes the task, if it is ready, instead of the index; the caller calls ``add_stretches`` in the end.
    """
    queue_no, record = task.queue.no, task.record
    if task.state is State.READY and is_laned(record.options):
        work.lanes.enter(task.member, task.deliveries, task.failures)
        work.stirred.add(task.queue.name)
    elif task.state is State.READY and ready is not None:
        place = record.type_no, record.priority, task.rank
        ready.append(ReadyStretch(*place, task.deliveries, task.failures, task.id, task.id))
    elif task.state is State.READY:
        run = rec.ReadyRun(1, task.deliveries, task.failures)
        add_ready(work, task.queue, record.type_no, record.priority, task.rank, task.id, run)
    elif task.state is State.SCHEDULED:
        key = ks.scheduled(queue_no, task.rank, task.id)
        work.put("scheduled", key, rec.write_standing(key, record.type_no, task.deliveries, task.failures))
        work.stirred.add(task.queue.name)
    else:
        assert task.state in ENDED
        key = ks.ended(queue_no, task.state, task.history.remove_at, task.id)
        work.put("ended", key, rec.write_standing(key, record.type_no, task.deliveries, task.failures))
        return
    if record.expires_at:
        work.put("expiry", ks.expiry(queue_no, record.expires_at, task.id))
