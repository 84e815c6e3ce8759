"""Claim: lease the best ready tasks of some queues, or answer again what a claim id was answered.

What is due in the queues is done first (lapse, promote, expire), so a file without a daemon works. Then ``lmdb_taker``
takes; with nothing taken, the answer says why, and when to ask again.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmdbq import lifecycle, limits
from lmdbq.model import Claim, Claimed, ClaimedTask, Refill, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_exposed import blocked_lanes, lane_reason, refill, token_at
from lmdbq.store.lmdb_known_lanes import Lane
from lmdbq.store.lmdb_leasing import Taken, put_leases
from lmdbq.store.lmdb_memos import put_memo
from lmdbq.store.lmdb_ops_timed import sweep_queue
from lmdbq.store.lmdb_rows import read_memo
from lmdbq.store.lmdb_standing import Located, locate, seen_lease
from lmdbq.store.lmdb_taker import Taker, room, wanted_types
from lmdbq.store.lmdb_types import rules
from lmdbq.store.lmdb_work import Queue, Work


def claim(work: Work, op: Claim) -> Claimed:
    """Run one Claim."""
    if op.claim_id:
        again = _remembered(work, op)
        if again:
            return Claimed(again)
    queues = [queue for name in dict.fromkeys(op.queues) if (queue := work.queue(name)) is not None]
    for queue in queues:
        sweep_queue(work, queue)
    if work.any_lanes():
        refill(work, Refill())
    taker = Taker(work, op)
    taker.take(queues)
    put_leases(work, taker.taken)
    if taker.tasks:
        if op.claim_id:
            _remember(work, op, taker.taken)
        return Claimed(taker.tasks)
    wanted = {queue.no: types for queue in queues if (types := wanted_types(work, op, queue))}
    lanes = list(blocked_lanes(work, wanted)) if wanted and work.any_lanes() else []
    dues = [*_next_dues(work, queues), *(at for lane in lanes if (at := token_at(work, lane)))]
    return Claimed([], _reason(work, queues, wanted, lanes), min(dues, default=0))


def _reason(work: Work, queues: list[Queue], wanted: dict[int, list[int]], lanes: list[Lane]) -> str:
    for queue in queues:
        if queue.no not in wanted:
            continue
        if queue.settings.paused:
            return "paused"
        if room(work, queue) == 0 or not lanes:
            return "max_running"
        return lane_reason(work, lanes[0])
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


def _remember(work: Work, op: Claim, taken: list[Taken]) -> None:
    leases: list[int] = []
    for first_id, last_id, _, shared in taken:
        leases += (first_id, last_id - first_id + 1, shared.deliveries)
    put_memo(
        work,
        ks.MemoKind.CLAIM,
        op.claim_id.encode(),
        rec.Memo(work.now.wall, work.now.wall + limits.MEMO_KEPT_NS, leases=tuple(leases)),
    )
