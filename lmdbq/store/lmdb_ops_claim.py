"""Claim: lease the best ready tasks of some queues, or answer again what a claim id was answered.

What is due in the queues is done first (lapse, promote, expire), so a file without a daemon works. Then ``lmdb_taker``
takes; with nothing taken, the answer says why, and when to ask again.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmdbq import lifecycle, limits
from lmdbq.clock import whole_us
from lmdbq.model import Claim, Claimed, ClaimedTask, Refill, State
from lmdbq.sharing import Turns, is_weighted
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_exposed import blocked_lanes, lane_reason, refill, token_at
from lmdbq.store.lmdb_heads import wanted_types
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_leasing import put_leases
from lmdbq.store.lmdb_memos import put_memo
from lmdbq.store.lmdb_ops_timed import sweep_queue
from lmdbq.store.lmdb_paces import TIME_NO, Paces
from lmdbq.store.lmdb_rows import read_memo
from lmdbq.store.lmdb_standing import Located, locate, seen_lease
from lmdbq.store.lmdb_taker import Taker
from lmdbq.store.lmdb_turns import take_in_turns
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work


def claim(work: Work, op: Claim) -> Claimed:
    """Run one Claim."""
    if op.claim_id:
        again = _remembered(work, op)
        if again:
            return Claimed(again)
    queues = _queues(work, op)
    for queue in queues:
        sweep_queue(work, queue)
    if work.any_lanes():
        refill(work, Refill())
        work.lanes.give_turns()
    paces = Paces(work)
    for queue in queues:
        if not queue.settings.paused:
            paces.tokens(queue)  # a bucket of an earlier boot goes on from here
    taker = Taker(work, op, paces)
    for level in sorted({queue.settings.priority for queue in queues}):
        _take_level(taker, paces, [queue for queue in queues if queue.settings.priority == level])
    put_leases(work, taker.taken)
    paced = [queue for queue in queues if queue.settings.rate is not None]
    for queue in paced:
        if count := sum(taken.length for taken in taker.taken if taken.shared.queue_no == queue.no):
            paces.spend(queue, count)
    asked = paced if taker.tasks else queues  # who got tasks need not hear why others gave none
    wanted = {queue.no: types for queue in asked if (types := wanted_types(work, op, queue))}
    wanting = [queue for queue in asked if queue.no in wanted]
    waits = [wait for queue in wanting if not queue.settings.paused and (wait := paces.until_token_ns(queue))]
    token_in_ns = min(waits, default=0)
    paces.write()
    if taker.tasks:
        if op.claim_id:
            _remember(work, op, taker.tasks)
        return Claimed(taker.tasks, token_in_ns=token_in_ns)
    lanes = list(blocked_lanes(work, wanted)) if wanted and work.any_lanes() else []
    dues = [*_next_dues(work, queues), *(at for lane in lanes if (at := token_at(work, lane)))]
    dues += [whole_us(work.now.wall + token_in_ns)] if waits else []
    return Claimed([], _reason(work, wanting, paces, lanes), min(dues, default=0), token_in_ns)


def _queues(work: Work, op: Claim) -> list[Queue]:
    """Return the queues of a claim: each that it names, and behind it, by name, those that it is the parent of."""
    found: dict[str, Queue] = {}
    for name in op.queues:
        queue = work.queue(name)
        if queue is not None:
            found[name] = queue
        if "." not in name:
            found |= {sub.name: sub for sub in work.queues_of(name)}
    return list(found.values())


def _take_level(taker: Taker, paces: Paces, queues: list[Queue]) -> None:
    """Take from queues of one priority: as one list, or in turns by weight."""
    if len(queues) < 2 or not is_weighted(queue.settings for queue in queues):
        taker.take(queues)
        return
    by_name = {queue.name: queue for queue in queues}
    starts = {queue.name: paces.of(queue.no).start for queue in queues}
    weights = {queue.name: queue.settings.weight for queue in queues}
    turns = Turns(starts, weights, paces.of(TIME_NO).start)
    take_in_turns(taker, by_name, turns)
    for name in turns.served:
        paces.start(by_name[name].no, turns.starts[name])
    paces.start(TIME_NO, turns.time)


def _reason(work: Work, wanting: list[Queue], paces: Paces, lanes: list[Lane]) -> str:
    """Return why nothing was taken: what holds up the first queue that has something."""
    for queue in wanting:
        most = queue.settings.max_running
        if queue.settings.paused:
            return "paused"
        if most and work.in_state(queue.no, State.RUNNING) >= most:
            return "max_running"
        if paces.tokens(queue) == 0:
            return "rate_limited"
        words = (lane_reason(work, lane) for lane in lanes)  # "" of one that waits only in a queue that is paused
        return next(filter(None, words), "max_running")
    return "empty"


def _next_dues(work: Work, queues: list[Queue]) -> Iterator[int]:
    cursor = work.cursor("scheduled")
    for queue in queues:
        if cursor.set_range(ks.of_queue(queue.no)):
            key = ks.read_timed(cursor.key())
            if key.queue_no == queue.no:
                yield key.at


# --- claim ids ---


def _remembered(work: Work, op: Claim) -> list[ClaimedTask]:
    """Return the tasks of an earlier claim with this id that still run under its leases, in its order."""
    memo_key = ks.memo(ks.MemoKind.CLAIM, op.claim_id.encode())
    value = work.get("memo", memo_key)
    if value is None:
        return []
    memo = read_memo(memo_key, value)
    if work.now.wall >= memo.remove_at:
        return []
    tasks: list[ClaimedTask] = []
    flat = memo.leases
    for first, length, delivery in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        for task_id in work.stored_ids(first, first + length - 1):
            task = locate(work, task_id)
            if task is not None and task.state is State.RUNNING and task.deliveries == delivery:
                tasks.append(_claimed_again(work, task))
    return tasks


def _claimed_again(work: Work, task: Located) -> ClaimedTask:
    record, lease = task.record, task.lease
    assert lease is not None
    keepalive, lease_expires_at, _ = seen_lease(work, task.id, lease)
    retry = lifecycle.resolve_retry(record.options.retry, rules(work, task.queue, record.type_no).retry)
    return ClaimedTask(
        task.id,
        task.queue.name,
        work.type_name(record.type_no),
        record.payload,
        record.encoding,
        record.priority - ks.PRIORITY_BIAS,
        record.created_at,
        record.scheduled_at,
        record.expires_at,
        task.deliveries,
        lifecycle.attempts(State.RUNNING, task.failures, retry.max_attempts),
        retry.max_attempts,
        keepalive,
        lease_expires_at,
        record.options,
    )


def _remember(work: Work, op: Claim, tasks: list[ClaimedTask]) -> None:
    leases: list[int] = []
    for task in tasks:
        if leases and (leases[-3] + leases[-2], leases[-1]) == (task.id, task.deliveries):
            leases[-2] += 1
        else:
            leases += (task.id, 1, task.deliveries)
    put_memo(
        work,
        ks.MemoKind.CLAIM,
        op.claim_id.encode(),
        rec.Memo(work.now.wall, work.now.wall + limits.MEMO_KEPT_NS, leases=tuple(leases)),
    )
