"""Enqueueing inside a write transaction of the caller's own, in the file of a directory client.

The transaction holds the file's write lock, on its thread. So the engine, which writes on a thread of its own, is not
asked: the call runs here, as a child of the transaction. A call of the same client beside it would wait for that lock
for ever, so while the transaction lasts, one that writes is refused on its thread (``Embedded.submit`` asks).

The trap is ``await``: whatever ran meanwhile would find the file locked, and an event loop that waits for it stops. It
is caught by a callback: it runs as soon as the loop gets a turn, which it does not before an ``await`` that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING

import lmdb

from lmdbq.client.core import Request
from lmdbq.client.embedded_tasks import settled
from lmdbq.client.embedded_verbs import enqueued
from lmdbq.errors import TransactionUnusable
from lmdbq.ids import format_set_id
from lmdbq.model import Call, Enqueue, Enqueued
from lmdbq.store.lmdb import LmdbStore
from lmdbq.wire import answers, requests, sets
from lmdbq.wire.problems import JSON_CODEC
from lmdbq.wire.set_shapes import SetAnswer

if TYPE_CHECKING:
    from lmdbq.client.embedded_file import OpenQueue

_AWAITED = "an await (or another task) came between: begin, enqueue and commit without one, in asyncio.to_thread say"
_THREAD = "a transaction belongs to the thread that began it; this is another one"
_INSIDE = (
    "this thread is inside a write transaction of this file, and would wait for itself: "
    "call client.within(transaction).enqueue(...), or end the transaction first"
)


def store_of(queue: OpenQueue) -> LmdbStore:
    """Return the store of a queue that is a file. Raises TransactionUnusable for one in memory."""
    if not isinstance(queue.store, LmdbStore):
        raise TransactionUnusable("a queue in memory has no transactions; within() is for the client of a directory")
    return queue.store


class Inside:
    """A transaction that a thread is inside of. awaited: whether the event loop has had a turn since then."""

    def __init__(self, transaction: lmdb.Transaction) -> None:
        self._transaction = weakref.ref(transaction)
        self.awaited = False
        with contextlib.suppress(RuntimeError):  # no event loop runs on this thread: nothing can come between
            asyncio.get_running_loop().call_soon(self._note_turn)

    def _note_turn(self) -> None:
        self.awaited = True

    def is_of(self, transaction: object) -> bool:
        """Whether this is about ``transaction``."""
        return self._transaction() is transaction

    @property
    def is_open(self) -> bool:
        """Whether the transaction has not ended."""
        transaction = self._transaction()
        if transaction is None:
            return False
        try:
            transaction.id()
        except lmdb.Error:
            return False
        return True


class Within:
    """A transaction to enqueue in. Raises TransactionUnusable if it is none, or not one of this file that may write."""

    def __init__(self, queue: OpenQueue, transaction: object) -> None:
        self._queue = queue
        self._store = store_of(queue)
        self._store.check_usable(transaction)
        assert isinstance(transaction, lmdb.Transaction)
        self._transaction = transaction
        self._thread = threading.get_ident()
        known = queue.inside.get(self._thread)
        if known is None or not known.is_of(transaction):
            known = queue.inside[self._thread] = Inside(transaction)
        self._inside = known
        self._refuse_late()

    def _refuse_late(self) -> None:
        if threading.get_ident() != self._thread:
            raise TransactionUnusable(_THREAD)
        if self._inside.awaited:
            raise TransactionUnusable(_AWAITED)

    def enqueue(self, request: Request[answers.EnqueueAnswer]) -> answers.EnqueueAnswer:
        """Carry out an enqueue. Raises TransactionUnusable, InvalidInput, Refusal; then nothing was changed."""
        self._refuse_late()
        batch = requests.read_enqueue(request.body, JSON_CODEC)
        done = settled(
            self._store.apply_in(
                self._transaction, Call((Enqueue(batch.entries, lease=batch.lease),)), self._queue.clock
            )
        )
        told = done.outcomes[0]
        assert isinstance(told, Enqueued)
        return enqueued(batch, told, {})

    def make_set(self, request: Request[SetAnswer]) -> str:
        """Make a set, perhaps with members, and return its id. Raises as ``enqueue`` does."""
        self._refuse_late()
        asked = sets.read_set(request.body, JSON_CODEC)
        done = settled(self._store.apply_in(self._transaction, Call(asked.ops), self._queue.clock))
        return format_set_id(asked.placed(done.outcomes)[0])


def refuse_inside(queue: OpenQueue) -> None:
    """Raise TransactionUnusable if this thread is inside a write transaction that ``Within`` was told of."""
    known = queue.inside.get(threading.get_ident())
    if known is None:
        return
    if known.is_open:
        raise TransactionUnusable(_INSIDE)
    del queue.inside[threading.get_ident()]
