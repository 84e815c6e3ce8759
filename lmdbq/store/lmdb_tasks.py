"""What becomes of one task: it ends, is tried again, is removed, or is found damaged. Shared by all ops.

Each function takes a ``Located`` task whose standing was already left (``lmdb_standing.leave``, or a whole run at once
by the caller) and puts it where it belongs, with counts, totals, history and dedupe slot.
"""

from __future__ import annotations

from lmdbq import lifecycle, limits
from lmdbq.model import ENDED, ErrorInfo, Failure, State, Status
from lmdbq.store import keyspace as ks
from lmdbq.store import lmdb_externals as externals
from lmdbq.store import records as rec
from lmdbq.store.lmdb_followers import follow_death
from lmdbq.store.lmdb_known_lanes import is_laned
from lmdbq.store.lmdb_lane_repair import forget_in_lanes
from lmdbq.store.lmdb_rows import read_lane_standing, read_ready_run, read_slot, read_standing
from lmdbq.store.lmdb_standing import Located, ReadyStretch, cut_ready, enter, lease_over, leave, locate, shorten_lease
from lmdbq.store.lmdb_types import retry_rule, rules
from lmdbq.store.lmdb_work import Work


def remove(work: Work, task: Located, how: str) -> None:
    """Remove a task that has left its standing: record, history, slot, count. how: why its set has one less that is
    pending, one of sets.COUNTED; no matter for one that has ended."""
    if task.state not in ENDED:
        work.sets_left(task.record.options, how)
    if is_laned(task.record.options):
        is_running = task.state is State.RUNNING
        work.lanes.stopped(task.member, is_running=is_running, keeps_head=False)
    work.delete("task", ks.task(task.id))
    work.delete_history(task.id)
    release_slot(work, task.id, task.record)
    externals.release(work, task.id, task.record)
    work.count(task.queue.no, task.record.type_no, leaves=task.state)


def release_slot(work: Work, task_id: int, record: rec.TaskRecord) -> None:
    """Remove a removed task's dedupe slot if it still names it, unless its ttl is not over (then Prune will)."""
    if record.slot_scope == rec.NO_SLOT:
        return
    key, slot = get_slot(work, record)
    if slot is None or slot.id != task_id:
        return
    forget_key = ks.forget(slot.blocks_until, ks.MemoKind.SLOT, key)
    if slot.blocks_until > work.now.wall:
        work.put("forget", forget_key)  # it is there already, unless the clock has stepped back over its time
        return
    work.delete("dedupe", key)
    if slot.blocks_until:
        work.delete("forget", forget_key)


def get_slot(work: Work, record: rec.TaskRecord) -> tuple[bytes, rec.Slot | None]:
    """Return the key of a task's dedupe slot, and who took it last. The record must have one."""
    dedupe = record.options.dedupe
    assert dedupe is not None
    key = ks.slot(ks.SCOPES[record.slot_scope], record.slot_owner, dedupe.key)
    value = work.get("dedupe", key)
    return key, None if value is None else read_slot(key, value)


def long_key(key: str) -> bytes:
    """Return what a slot's value holds of its key: all of it, if the slot's own key holds only a part."""
    raw = key.encode()
    return raw if len(raw) > limits.DEDUPE_RAW_BYTES_MAX else b""


def put_slot(work: Work, key: bytes, slot: rec.Slot) -> None:
    """Write a slot, and when it may be forgotten if it was taken with a ttl."""
    old = work.get("dedupe", key)
    if old is not None and (until := read_slot(key, old).blocks_until):
        work.delete("forget", ks.forget(until, ks.MemoKind.SLOT, key))
    work.put("dedupe", key, rec.write_slot(slot))
    if slot.blocks_until:
        work.put("forget", ks.forget(slot.blocks_until, ks.MemoKind.SLOT, key))


def end(
    work: Work,
    task: Located,
    state: State,
    reason: str = "",
    result: bytes | None = None,
    result_encoding: int = 0,
) -> State | None:
    """End a task in SUCCEEDED, DEAD or CANCELLED: keep it as long as its rules say, or remove it.

    Returns the state it is kept in, None if it was removed. Totals: the state's own.
    """
    work.total(task.queue.no, state.word)
    options = task.record.options
    settings = rules(work, task.queue, task.record.type_no)
    if state is State.DEAD:
        follow_death(work, task, reason)
    keep = lifecycle.resolve_keep(state, result is not None, options.keep, settings.keep)
    if not keep:
        remove(work, task, state.word)
        return None
    work.sets_left(options, state.word)
    history = task.history
    history.ended_state = state
    history.ended_at = work.now.wall
    history.remove_at = min(work.now.wall + keep, limits.INSTANT_NS_MAX)
    history.reason = reason
    history.result = result
    history.result_encoding = rec.ENCODINGS[result_encoding]
    change_state(work, task, state)
    return state if state is not State.DEAD or _trim_dead(work, task) else None


def _trim_dead(work: Work, newest: Located) -> bool:
    """Remove the dead tasks that a queue keeps too many of, the earliest to go first; whether the newest stays."""
    queue, stays = newest.queue, True
    cap = queue.settings.max_dead
    while cap and work.in_state(queue.no, State.DEAD) > cap:
        found = work.first_from("ended", ks.of_ended_state(queue.no, State.DEAD))
        if found is None:
            return stays
        task_id = ks.read_ended(found[0]).id
        task = sound_or_quarantined(work, task_id)
        if task is not None:
            leave(work, task)
            remove(work, task, "deleted")
        stays = stays and task_id != newest.id
    return stays


def change_state(work: Work, task: Located, state: State, ready: list[ReadyStretch] | None = None) -> None:
    """Move a task that has left its standing to another state: standing (ready: see ``enter``), count, history."""
    work.count(task.queue.no, task.record.type_no, leaves=task.state, enters=state)
    options = task.record.options
    if is_laned(options):
        is_running, keeps_head = task.state is State.RUNNING, state not in ENDED and not options.rejoin
        work.lanes.stopped(task.member, is_running=is_running, keeps_head=keeps_head)
    task.state = state
    work.put_history(task.id, task.history)
    enter(work, task, ready)


def note_report(task: Located, status: Status) -> None:
    """Remember how a task's last delivery ended, for a repeat of the report."""
    task.history.last_delivery = task.deliveries
    task.history.last_status = status


def note_failure(history: rec.History, at: int, delivery: int, error: ErrorInfo, status: Status) -> None:
    """Remember that a delivery ended in a failure, and what was said of it."""
    failure = Failure(at, delivery, error.message, error.type, error.backtrace)
    history.errors = (*history.errors, failure)[-limits.ERRORS_KEPT_MAX :]
    history.last_delivery = delivery
    history.last_status = status


def fail(
    work: Work,
    task: Located,
    error: ErrorInfo,
    *,
    status: Status,
    may_retry: bool = True,
    delay_ns: int | None = None,
    ready: list[ReadyStretch] | None = None,
) -> State | None:
    """A running task's attempt failed, or its lease lapsed: try it again (ready: see ``enter``), or end it.

    Returns its state.
    """
    task.failures += 1
    history = task.history
    note_failure(history, work.now.wall, task.deliveries, error, status)
    said = task.record.options.retry
    after = lifecycle.after_failure(
        task_id=task.id,
        failures=task.failures,
        retry=retry_rule(work, task.queue, task.record.type_no, said),
        now_wall=work.now.wall,
        expires_at=task.record.expires_at,
        cancel_requested=history.cancel_requested,
        may_retry=may_retry,
        delay_ns=delay_ns,
    )
    if after.state is not State.CANCELLED:
        work.total(task.queue.no, "lapsed" if status is Status.LAPSED else "failed")
    if after.state in (State.DEAD, State.CANCELLED):
        return end(work, task, after.state, after.reason)
    history.rank = after.due_at
    change_state(work, task, after.state, ready)
    return after.state


def sound(work: Work, task_id: int) -> Located | None:
    """Return a stored task, None if there is none, or if it is damaged and now in quarantine."""
    try:
        return locate(work, task_id)
    except (rec.Damaged, ValueError) as error:
        quarantine(work, task_id, str(error))
        return None


def sound_or_quarantined(work: Work, task_id: int) -> Located | None:
    """Return a task that some key names; None if it is damaged or missing, and now in quarantine."""
    reason = "it has no record"
    try:
        task = locate(work, task_id)
    except (rec.Damaged, ValueError) as error:
        task, reason = None, str(error)
    if task is None:
        quarantine(work, task_id, reason)
    return task


def quarantine(work: Work, task_id: int, reason: str, *, taken_from: ks.ReadyKey | None = None) -> None:
    """Move a damaged task aside: its bytes and the reason are kept under its id, every other key of it is removed.

    Slow on purpose: what the record would have said is not trusted, so every index is searched for the id.
    taken_from: the ready run that a claim is taking it from, and will shorten itself.
    """
    put_aside(work, task_id, reason)
    forget_in_lanes(work, task_id, is_running=taken_from is None and lease_over(work, task_id) is not None)
    if taken_from is None:
        _quarantine_runs(work, task_id)
    else:
        work.count(taken_from.queue_no, taken_from.type_no, leaves=State.READY)
    for database in ("scheduled", "ended", "expiry"):
        cursor = work.cursor(database)
        for key, item in [(key, item) for key, item in cursor.iternext() if ks.of_task(key, task_id)]:
            work.delete(database, key)
            if database != "expiry":
                _uncount(work, database, key, item)
    free_slots(work, task_id)
    externals.free(work, task_id)


def put_aside(work: Work, task_id: int, reason: str) -> None:
    """Move a task's bytes to quarantine; where it stands is left to the caller."""
    value = work.get("task", ks.task(task_id)) or b""
    work.put("quarantine", ks.quarantine(task_id), reason.encode() + b"\0" + value)
    work.delete("task", ks.task(task_id))
    work.delete("history", ks.history(task_id))
    work.forget_extension(task_id)
    work.sets.recount()


def free_slots(work: Work, task_id: int, *, with_ttl: bool = False) -> None:
    """Remove every slot of a task whose record cannot tell which it has; those with a ttl stay for their time."""
    slots = [(key, read_slot(key, value)) for key, value in work.of("dedupe", b"")]
    for key, slot in slots:
        if slot.id == task_id and (with_ttl or not slot.blocks_until):
            work.delete("dedupe", key)
            if slot.blocks_until:
                work.delete("forget", ks.forget(slot.blocks_until, ks.MemoKind.SLOT, key))


def _uncount(work: Work, database: str, key: bytes, value: bytes) -> None:
    if database == "scheduled":
        queue_no, state = ks.read_timed(key).queue_no, State.SCHEDULED
    else:
        parts = ks.read_ended(key)
        queue_no, state = parts.queue_no, State(parts.state)
    if work.queue_of(queue_no) is not None:
        work.count(queue_no, read_standing(database, key, value).type_no, leaves=state)


def _quarantine_runs(work: Work, task_id: int) -> None:
    found = lease_over(work, task_id)
    if found is not None:
        last_id, run = found
        shorten_lease(work, last_id, run, [(task_id, task_id)])
        if work.queue_of(run.queue_no) is not None:
            work.count(run.queue_no, run.type_no, leaves=State.RUNNING)
        return
    for key, _ in [item for item in work.of("lane", b"") if ks.read_lane(item[0])[::5] == (0, task_id)]:
        work.delete("lane", key)  # its exposure; the lane makes another one
    for key, value in list(work.of("lane", b"")):
        place = ks.read_lane(key)
        if place.id != task_id:
            continue
        standing = read_lane_standing(key, value)
        work.delete("lane", key)
        lane = work.lanes.by_no(place.lane_no)
        if lane is not None:
            work.lanes.left(lane, key)
        if work.queue_of(place.queue_no) is not None:
            work.count(place.queue_no, standing.type_no, leaves=State.READY)
        return
    for key, value in list(work.cursor("ready").iternext()):
        parts = ks.read_ready(key)
        ready_run = read_ready_run(key, value)
        if not parts.last_id - ready_run.length < task_id <= parts.last_id:
            continue
        cut_ready(work, parts, ready_run, task_id)
        if work.queue_of(parts.queue_no) is not None:
            work.count(parts.queue_no, parts.type_no, leaves=State.READY)
