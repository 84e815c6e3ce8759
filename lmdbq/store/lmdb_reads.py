"""What readers see: tasks, pages, counts, queues and due times, from one read transaction."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from lmdbq import lifecycle
from lmdbq.clock import Clock
from lmdbq.model import ENDED, Due, Filter, Outcome, Page, QueueView, State, Task, Totals
from lmdbq.sharing import no_token_until
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_filter import Search, is_counted, wanted_queues
from lmdbq.store.lmdb_known_lanes import is_laned
from lmdbq.store.lmdb_lane_reads import waiting_for
from lmdbq.store.lmdb_ops_schedule import first_fire
from lmdbq.store.lmdb_paces import read_pace
from lmdbq.store.lmdb_standing import Located, locate, seen_lease
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work


def task(work: Work, task_id: int) -> Task | Outcome:
    """Return one task, or why there is none."""
    if not 0 <= task_id < 2**64:
        return Outcome.NOT_FOUND
    try:
        found = locate(work, task_id)
    except (rec.Damaged, ValueError):
        return Outcome.QUARANTINED
    if found is not None:
        return view(work, found)
    if work.get("quarantine", ks.quarantine(task_id)) is not None:
        return Outcome.QUARANTINED
    return Outcome.GONE if task_id <= work.last_id else Outcome.NOT_FOUND


def view(work: Work, found: Located) -> Task:
    """Return everything stored about a task."""
    record, history, lease = found.record, found.history, found.lease
    retry = lifecycle.resolve_retry(record.options.retry, rules(work, found.queue, record.type_no).retry)
    running: dict[str, object] = {}
    if lease is not None:
        _, lease_expires_at, progress = seen_lease(work, found.id, lease)
        running = {"lease_expires_at": lease_expires_at, "progress": progress}
    shown = Task(
        id=found.id,
        queue=found.queue.name,
        type=work.type_name(record.type_no),
        payload=record.payload,
        encoding=record.encoding,
        priority=record.priority - ks.PRIORITY_BIAS,
        created_at=record.created_at,
        scheduled_at=record.scheduled_at,
        expires_at=record.expires_at,
        options=record.options,
        state=found.state,
        deliveries=found.deliveries,
        failures=found.failures,
        attempts=lifecycle.attempts(found.state, found.failures, retry.max_attempts),
        max_attempts=retry.max_attempts,
        due_at=found.rank if found.state is State.SCHEDULED else 0,
        cancel_requested=history.cancel_requested,
        errors=history.errors,
        result=history.result,
        result_encoding=history.result_encoding,
        ended_at=history.ended_at,
        remove_at=history.remove_at,
        reason=history.reason,
    )
    if found.state is State.READY and is_laned(record.options):
        running = {"waiting_for": waiting_for(work, found)}
    return replace(shown, **running) if running else shown


def tasks(work: Work, wanted: Filter, after: int, limit: int) -> Page:
    """Return the next tasks that match, by id; gives up after limits.SCAN_TASKS_MAX records."""
    found: list[Task] = []
    search = Search(work, wanted, after)
    for matched in search:
        found.append(view(work, matched))
        if len(found) >= limit:
            return Page(found, matched.id)
    return Page(found, search.stopped_at)


def count(work: Work, wanted: Filter, after: int = 0) -> tuple[int, int]:
    """Return how many tasks match, and where to go on counting, 0 = that was all.

    By queue, type and states the tallies tell; by anything else tasks are looked at, limits.SCAN_TASKS_MAX at a time.
    """
    if is_counted(wanted):
        return _counted(work, wanted), 0
    search = Search(work, wanted, after)
    return sum(1 for _ in search), search.stopped_at


def _counted(work: Work, wanted: Filter) -> int:
    type_no = work.type_no(wanted.type) if wanted.type else 0
    if wanted.type and not type_no:
        return 0
    return sum(
        sum(tally[state] for state in wanted.states or State)
        for queue in wanted_queues(work, wanted)
        for number, tally in work.queue_tallies(queue.no).items()
        if not type_no or number == type_no
    )


def queues(work: Work) -> list[QueueView]:
    """Return every queue by name."""
    return [_queue_view(work, queue) for queue in work.all_queues()]


def queue(work: Work, name: str) -> QueueView | None:
    """Return one queue."""
    try:
        found = work.queue(name)
    except ks.BadKey:  # no queue can have such a name
        return None
    return None if found is None else _queue_view(work, found)


def _queue_view(work: Work, queue: Queue) -> QueueView:
    counts: dict[str, dict[str, int]] = {}
    running = ready = 0
    ranks: list[int] = []
    for type_no, tally in work.queue_tallies(queue.no).items():
        counts[work.type_name(type_no)] = {state.word: tally[state] for state in State if tally[state]}
        running += tally[State.RUNNING]
        ready += tally[State.READY]
        cursor = work.cursor("ready")
        if tally[State.READY] and cursor.set_range(ks.of_ready_list(queue.no, type_no)):
            key = ks.read_ready(cursor.key())
            ranks += [key.rank] if key[:2] == (queue.no, type_no) else []
        exposed = work.first_from("lane", ks.of_lane_list(0, queue.no, type_no)) if tally[State.READY] else None
        if exposed is not None and (found := ks.read_lane(exposed[0]))[:3] == (0, queue.no, type_no):
            ranks.append(found.rank)
    settings = queue.settings
    full = bool(settings.max_running) and running >= settings.max_running
    return QueueView(
        name=queue.name,
        settings=settings,
        counts=counts,
        totals=Totals(*work.totals(queue.no)),
        oldest_ready_at=min(ranks, default=0),
        next_due_at=_head_at(work, "scheduled", queue),
        blocked_by="paused" if settings.paused else "max_running" if full else "",
        no_token_until=no_token_until(settings, read_pace(work, queue.no)) if settings.rate is not None else 0,
    )


def _head_at(work: Work, database: str, queue: Queue) -> int:
    cursor = work.cursor(database)
    if not cursor.set_range(ks.of_queue(queue.no)):
        return 0
    key = ks.read_timed(cursor.key())
    return key.at if key.queue_no == queue.no else 0


class RawDue(NamedTuple):
    """Due times that do not change while nothing is committed. deadline: (boot_no, steady) of the first lease."""

    promote_at: int
    expire_at: int
    prune_at: int
    deadline: tuple[int, int] | None
    boot_no: int
    fire_at: int
    wake: tuple[int, int] | None

    def at(self, clock: Clock) -> Due:
        """Return the due times as seen now."""
        lapse_in, refill_in = (self._left(at, clock) for at in (self.deadline, self.wake))
        return Due(self.promote_at, self.expire_at, self.prune_at, lapse_in, self.fire_at, refill_in)

    def _left(self, at: tuple[int, int] | None, clock: Clock) -> int | None:
        if at is None:
            return None
        boot_no, steady = at
        return steady - clock.steady_ns() if boot_no == self.boot_no else 0


def raw_due(work: Work) -> RawDue:
    """Return the earliest due time of each kind."""
    every = work.all_queues()
    promotes = [at for queue in every if (at := _head_at(work, "scheduled", queue))]
    expires = [at for queue in every if (at := _head_at(work, "expiry", queue))]
    deadlines = [lease for queue in every if (lease := _first_deadline(work, queue))]
    prunes = [at for queue in every if (at := _first_prune(work, queue))]
    cursor = work.cursor("forget")
    if cursor.first():
        prunes.append(ks.read_forget(cursor.key()).remove_at)
    cursor = work.cursor("catalog")
    if cursor.set_range(ks.grave(0)) and cursor.key()[:1] == b"G":
        prunes.append(1)
    first = min(deadlines, default=None)
    found = work.first_from("wake", b"")
    wake = None if found is None else (ks.read_wake(found[0]).boot_no, ks.read_wake(found[0]).steady)
    if work.get("catalog", ks.rules_cursor()) is not None:
        wake = (0, 0)
    ats = (min(promotes, default=0), min(expires, default=0), min(prunes, default=0))
    return RawDue(*ats, first, work.now.boot_no, first_fire(work), wake)


def _first_deadline(work: Work, queue: Queue) -> tuple[int, int] | None:
    cursor = work.cursor("deadline")
    if not cursor.set_range(ks.of_queue(queue.no)):
        return None
    key = ks.read_deadline(cursor.key())
    return (key.boot_no, key.deadline) if key.queue_no == queue.no else None


def _first_prune(work: Work, queue: Queue) -> int:
    """Return when the first ended task of a queue goes; 1 (now) if a state holds more than its cap."""
    first = 0
    for state in ENDED:
        held = work.in_state(queue.no, state)
        if not held:
            continue
        if held > lifecycle.ended_max(state, queue.settings):
            return 1
        cursor = work.cursor("ended")
        if cursor.set_range(ks.of_ended_state(queue.no, state)):
            at = ks.read_ended(cursor.key()).remove_at
            first = min(first, at) if first else at
    return first
