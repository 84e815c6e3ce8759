"""Memos: what a request with an Idempotency-Key, or a claim with a claim id, was answered; for when it comes again.

The trap: a damaged memo of a claim may be forgotten, but not that of an Idempotency-Key, whose request would be carried
out twice. So that one stays, and is an error to its caller, until Prune removes it at its time.
"""

from __future__ import annotations

from lmdbq import limits
from lmdbq.model import Call, CallOutcome, Done, Problem, Refused
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_rows import read_memo
from lmdbq.store.lmdb_work import Work


def put_memo(work: Work, kind: ks.MemoKind, key: bytes, memo: rec.Memo) -> None:
    """Write a memo and when it may be forgotten, in place of an older one."""
    memo_key = ks.memo(kind, key)
    old = work.get("memo", memo_key)
    if old is not None:
        work.delete("forget", ks.forget(read_memo(memo_key, old).remove_at, kind, key))
    work.put("memo", memo_key, rec.write_map(memo))
    work.put("forget", ks.forget(memo.remove_at, kind, key))


def remembered(work: Work, call: Call) -> CallOutcome | None:
    """Return what a call with a known Idempotency-Key was answered, None if it is to run."""
    if call.memo is None:
        return None
    value = work.get("memo", ks.memo(ks.MemoKind.IDEMPOTENCY, call.memo.key.encode()))
    if value is None:
        return None
    memo = rec.read_memo(value)
    if work.now.wall >= memo.remove_at:
        return None
    if memo.body_hash != call.memo.body_hash:
        detail = "this Idempotency-Key was used with another body; use a new key for a new request"
        return Refused("key_reused", (Problem("key_reused", "", detail),))
    return Done(rec.read_outcomes(memo.outcomes), replayed=True)


def remember(work: Work, call: Call, done: Done) -> None:
    """Note what a call with an Idempotency-Key was answered."""
    if call.memo is None:
        return
    now_wall = work.now.wall
    remove_at = min(now_wall + call.memo.kept_ns, limits.INSTANT_NS_MAX)
    memo = rec.Memo(now_wall, remove_at, call.memo.body_hash, rec.write_outcomes(done.outcomes))
    put_memo(work, ks.MemoKind.IDEMPOTENCY, call.memo.key.encode(), memo)
