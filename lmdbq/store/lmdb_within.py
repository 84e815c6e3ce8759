"""``apply_in``: a call inside a write transaction that its caller has begun, and commits or aborts with the rest.

The call runs in a child of the caller's transaction, on the caller's thread: it reads and writes there what ``apply``
would, its counts and the last id included, so that whatever becomes of the caller's transaction becomes of all of it.
The caller holds the file's write lock, so ours is not taken: the writer thread may hold it while it waits for the file.

The traps. Room was made for nobody before this transaction began, and the map cannot be resized inside one: the file is
allocated ahead as far as the disk allows, and where it does not, the call is refused. What is not part of the main file
cannot be undone with it, so only enqueues and sets are taken, which touch no lease. And a commit that fails is seen by
its caller alone, who must end the process then: nothing that LMDB says afterwards can be trusted.
"""

from __future__ import annotations

import logging

import lmdb

from lmdbq.clock import Clock
from lmdbq.errors import CommitUnknown, TransactionUnusable
from lmdbq.model import Call, CallOutcome, Done, Enqueue, SetClose, SetMake
from lmdbq.store.environment import Environment
from lmdbq.store.lmdb_apply import open_work
from lmdbq.store.lmdb_calls import full, run_alone, run_fast
from lmdbq.store.lmdb_measure import measure

_log = logging.getLogger(__name__)

_FINISHED = "this transaction has been committed or aborted: begin another one with environment.begin(write=True)"
_ELSEWHERE = "this transaction is of another environment: begin it with begin(write=True) of the client's environment()"
_READ_ONLY = "this transaction only reads: begin it with environment.begin(write=True)"
_HAS_CHILD = "this transaction has a child that is open, or has failed: pass the child, or abort the transaction"


def apply_in(shared: Environment, txn: lmdb.Transaction, call: Call, clock: Clock) -> CallOutcome:
    """Run a call of Enqueue, SetMake and SetClose ops inside ``txn``; a refusal leaves no trace in it.

    Raises TransactionUnusable, CommitUnknown (this process has failed to commit before), ValueError for other ops.
    """
    if not all(isinstance(op, Enqueue | SetMake | SetClose) for op in call.ops) or call.memo is not None:
        raise ValueError("only enqueues and sets, without a memo, can be part of another transaction")
    _refuse(shared, txn)
    if shared.failed is not None:
        raise CommitUnknown(shared.failed)
    if not shared.space.prepare_within(txn.id(), *measure([call])):
        return full(shared.space.pinned())
    outcome: CallOutcome | None = None
    for run in (run_fast, run_alone):
        child = _child(shared, txn)
        try:
            work = open_work(shared, child, clock)
            (outcome,) = run(work, [call])
            work.flush()
        except Exception as error:
            child.abort()
            if run is run_alone:
                if isinstance(error, lmdb.MapFullError):
                    return full(shared.space.pinned())
                raise
            _log.debug("running a call again with care: %r", error)
            continue
        except BaseException:
            child.abort()
            raise
        if isinstance(outcome, Done):
            child.commit()
        else:
            child.abort()
        break
    assert outcome is not None
    return outcome


def check_usable(shared: Environment, txn: object) -> None:
    """Raise TransactionUnusable, saying why, unless ``txn`` is a transaction of this environment that may write now."""
    _child(shared, _refuse(shared, txn)).abort()


def _refuse(shared: Environment, txn: object) -> lmdb.Transaction:
    """Return ``txn`` if it is open and ours, else raise; whether it may write, only a child can tell."""
    if not isinstance(txn, lmdb.Transaction):
        raise TransactionUnusable(f"{txn!r} is no transaction of lmdb: environment.begin(write=True) makes one")
    try:
        txn.id()
    except lmdb.Error:
        raise TransactionUnusable(_FINISHED) from None
    try:
        txn.stat(shared.databases["catalog"])
    except lmdb.BadTxnError:
        raise TransactionUnusable(_HAS_CHILD) from None
    except lmdb.Error:
        raise TransactionUnusable(_ELSEWHERE) from None
    return txn


def _child(shared: Environment, txn: lmdb.Transaction) -> lmdb.Transaction:
    try:
        return shared.use().begin(write=True, parent=txn)
    except lmdb.InvalidParameterError:
        raise TransactionUnusable(_READ_ONLY) from None
    except lmdb.Error as error:
        raise TransactionUnusable(f"no child transaction can be begun in it ({error})") from error
