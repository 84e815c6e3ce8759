"""Claim in memory: sweep the named queues, sort their ready tasks, lease the best."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq import buckets, lifecycle, limits
from lmdbq.buckets import Bucket
from lmdbq.clock import Now, whole_us
from lmdbq.model import Claim, Claimed, ClaimedTask, Expire, Lapse, Order, Outcome, Promote, State
from lmdbq.sharing import Turns, is_weighted, parent_of
from lmdbq.store import memory_fair
from lmdbq.store.memory_lanes import blocked_by, started, token_at
from lmdbq.store.memory_leases import fence, lease_expires_at
from lmdbq.store.memory_rows import Lease, RememberedClaim, Row
from lmdbq.store.memory_state import Tables
from lmdbq.store.memory_timed import expire, lapse, promote


def claim(tables: Tables, op: Claim, now: Now) -> Claimed:
    """Lease the best ready tasks of some queues, or answer once more what this claim_id has got."""
    again = _claimed_before(tables, op.claim_id, now)
    if again:
        return Claimed([_claimed_task(tables, row, now) for row in again])
    queues = _queues(tables, op)
    for name in queues:
        lapse(tables, Lapse(), now, name)
        promote(tables, Promote(), now, name)
        expire(tables, Expire(), now, name)
    for name in queues:
        _count_bucket(tables, name, now)
    memory_fair.give_turns(tables)
    taken = _take(tables, op, queues, now)
    token_in_ns = _token_in_ns(tables, op, queues, now)
    if not taken:
        return _nothing(tables, op, queues, now, token_in_ns)
    if op.claim_id:
        leases = tuple((row.id, row.deliveries) for row in taken)
        tables.assign(tables.claims, op.claim_id, RememberedClaim(leases, now.wall + limits.MEMO_KEPT_NS))
    return Claimed([_claimed_task(tables, row, now) for row in taken], token_in_ns=token_in_ns)


def _queues(tables: Tables, op: Claim) -> list[str]:
    found: dict[str, None] = {}
    for name in op.queues:
        if name in tables.queues:
            found[name] = None
        if name and "." not in name:
            subs = sorted((sub for sub in tables.queues if parent_of(sub) == name), key=str.encode)
            found |= dict.fromkeys(subs)
    return list(found)


def _claimed_before(tables: Tables, claim_id: str, now: Now) -> list[Row]:
    memo = tables.claims.get(claim_id) if claim_id else None
    if memo is None or memo.until <= now.wall:
        return []
    rows = ((tables.rows.get(task_id), delivery) for task_id, delivery in memo.leases)
    return [row for row, delivery in rows if row is not None and fence(row, delivery) is Outcome.OK]


# --- how fast ---


def _bucket(tables: Tables, queue: str, now: Now) -> Bucket | None:
    """Return the tokens of a queue with a rate, as they are now."""
    return buckets.counted(tables.queues[queue].pace.bucket, tables.settings(queue).rate, now, now.steady)


def _count_bucket(tables: Tables, queue: str, now: Now) -> None:
    """Let a bucket of an earlier boot go on in this one."""
    settings, pace = tables.settings(queue), tables.queues[queue].pace
    if settings.rate is None or pace.bucket is None or pace.bucket.boot_no == now.boot_no or settings.paused:
        return
    tables.set_pace(queue, replace(pace, bucket=_bucket(tables, queue, now)))


def _tokens(tables: Tables, queue: str, now: Now) -> int | None:
    rate = tables.settings(queue).rate
    return None if rate is None else buckets.whole_tokens(_bucket(tables, queue, now), rate)


def _token_in_ns(tables: Tables, op: Claim, queues: list[str], now: Now) -> int:
    """Return how long it is until the first queue that has something to give has a token; 0 if none is short of one."""
    waits = [
        buckets.until_tokens_ns(_bucket(tables, name, now), 1)
        for name in queues
        if not tables.settings(name).paused and _wanted(tables, op, name)
    ]
    return min((wait for wait in waits if wait), default=0)


# --- taking ---


def _is_full(tables: Tables, queue: str) -> bool:
    max_running = tables.settings(queue).max_running
    return bool(max_running) and tables.number_in(queue, State.RUNNING) >= max_running


def _may_give(tables: Tables, queue: str, now: Now) -> bool:
    return not (tables.settings(queue).paused or _is_full(tables, queue) or _tokens(tables, queue, now) == 0)


def _wanted(tables: Tables, op: Claim, queue: str) -> list[Row]:
    """Return the ready tasks of a queue that are wanted, in its order."""
    settings = tables.settings(queue)
    rows = tables.standing_in(State.READY, queue=queue)
    return sorted((row for row in rows if not op.types or row.type in op.types), key=lambda row: row.order(settings))


class _Bag:
    """What a claim has taken so far, and what it may still take, by queue and in order."""

    def __init__(self, tables: Tables, op: Claim, queues: list[str], now: Now) -> None:
        self._tables, self._op, self._now = tables, op, now
        self._ready = {name: _wanted(tables, op, name) for name in queues}
        self._size = 0
        self.rows: list[Row] = []
        self.is_full = False

    def take_one(self, queues: list[str]) -> str | None:
        """Take the first task in order over ``queues`` that may be taken; return whose it was, if any."""
        tables, op, now = self._tables, self._op, self._now
        while not self.is_full and len(self.rows) < op.limit:
            heads = [row for name in queues if (row := self._head(name)) is not None]
            if not heads:
                return None
            row = min(heads, key=lambda row: row.order(tables.settings(row.queue)))
            self._ready[row.queue].remove(row)
            if row.has_expired(now):
                tables.expire(row, now)
            elif row.deliveries - row.retried_at - row.snoozes >= tables.retry_of(row).max_deliveries:
                tables.end(row, State.DEAD, "max_deliveries", now)
            elif self.rows and self._size + len(row.payload) > op.bytes_max:
                self.is_full = True
            else:
                self._size += len(row.payload)
                self.rows.append(_lease(tables, row, op.keepalive_ns, now))
                return row.queue
        return None

    def _head(self, queue: str) -> Row | None:
        if not _may_give(self._tables, queue, self._now):
            return None
        rows = self._ready[queue]
        if self._tables.settings(queue).order is Order.FAIR:
            heads = {row.lane: row for row in rows if row.options.group}
            is_held = {lane: bool(blocked_by(self._tables, row, self._now)) for lane, row in heads.items()}
            may_start = [row for row in rows if not is_held.get(row.lane) and not self._waits_in_thread(row)]
            return memory_fair.first_of(self._tables, queue, may_start)
        return next((row for row in rows if not blocked_by(self._tables, row, self._now)), None)

    def _waits_in_thread(self, row: Row) -> bool:
        return bool(row.options.thread and blocked_by(self._tables, row, self._now))


def _take(tables: Tables, op: Claim, queues: list[str], now: Now) -> list[Row]:
    bag = _Bag(tables, op, queues, now)
    for level in sorted({tables.settings(name).priority for name in queues}):
        members = [name for name in queues if tables.settings(name).priority == level]
        if len(members) > 1 and is_weighted(tables.settings(name) for name in members):
            _take_in_turns(tables, bag, members)
            continue
        while bag.take_one(members):
            pass
    return bag.rows


def _take_in_turns(tables: Tables, bag: _Bag, members: list[str]) -> None:
    starts = {name: tables.queues[name].pace.start for name in members}
    weights = {name: tables.settings(name).weight for name in members}
    turns = Turns(starts, weights, tables.turn_time[""])
    while (name := turns.next()) is not None:
        if bag.take_one([name]):
            turns.serve(name)
        else:
            turns.empty(name)
    for name in turns.served:
        tables.set_pace(name, replace(tables.queues[name].pace, start=turns.starts[name]))
    tables.assign(tables.turn_time, "", turns.time)


def _lease(tables: Tables, row: Row, keepalive_ns: int, now: Now) -> Row:
    length_ns = lifecycle.resolve_keepalive(
        keepalive_ns, row.options.keepalive_ns, tables.rules(row.queue, row.type).keepalive_ns
    )
    row = replace(
        row,
        state=State.RUNNING,
        deliveries=row.deliveries + 1,
        lease=Lease(now.boot_no, now.steady + length_ns, length_ns, length_ns),
    )
    tables.put(row)
    tables.tally(row.queue, "claimed")
    memory_fair.served(tables, row)
    started(tables, row, now)
    rate = tables.settings(row.queue).rate
    if rate is not None:
        bucket = buckets.spent(_bucket(tables, row.queue, now), rate, now)
        tables.set_pace(row.queue, replace(tables.queues[row.queue].pace, bucket=bucket))
    return row


def _nothing(tables: Tables, op: Claim, queues: list[str], now: Now, token_in_ns: int) -> Claimed:
    ready = {name: _wanted(tables, op, name) for name in queues}
    reason = next((_why(tables, rows, now) for rows in ready.values() if rows), "empty")
    due = [row.due_at for name in queues for row in tables.standing_in(State.SCHEDULED, queue=name)]
    groups = {row.options.group for rows in ready.values() for row in rows if row.options.group}
    due += [at for group in groups if (at := token_at(tables, group, now))]
    due += [whole_us(now.wall + token_in_ns)] if token_in_ns else []
    return Claimed([], reason, min(due, default=0), token_in_ns)


def _why(tables: Tables, ready: list[Row], now: Now) -> str:
    """Return why none of a queue's ready tasks may start."""
    queue = ready[0].queue
    if tables.settings(queue).paused:
        return "paused"
    if _is_full(tables, queue):
        return "max_running"
    return "rate_limited" if _tokens(tables, queue, now) == 0 else blocked_by(tables, ready[0], now)


def _claimed_task(tables: Tables, row: Row, now: Now) -> ClaimedTask:
    if row.lease is None:
        raise AssertionError(f"task {row.id} runs without a lease")
    max_attempts = tables.retry_of(row).max_attempts
    return ClaimedTask(
        id=row.id,
        queue=row.queue,
        type=row.type,
        payload=row.payload,
        encoding=row.encoding,
        priority=row.priority,
        created_at=row.created_at,
        scheduled_at=row.scheduled_at,
        expires_at=row.expires_at,
        deliveries=row.deliveries,
        attempts=lifecycle.attempts(row.state, row.failures, max_attempts),
        max_attempts=max_attempts,
        keepalive_ns=row.lease.seen_in(now.boot_no).length_ns,
        lease_expires_at=lease_expires_at(row.lease, now),
        options=row.options,
    )
