"""Enqueueing in an LMDB transaction. Made from ``aio_within.py`` by ``packaging/make_sync.py``: change that one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from lmdbq.client import core, core_sets
from lmdbq.client.context import lease_in
from lmdbq.client.entries import Entry, bodies_of
from lmdbq.client.places import EnqueuerWithin, Transport
from lmdbq.client.set_info import SetOptions, set_fields_of
from lmdbq.client.sync_handles import Handle
from lmdbq.client.sync_sets import SetHandle
from lmdbq.client.tasks import Task, entry_of

P = ParamSpec("P")
R = TypeVar("R")


class Enqueuer:
    """What ``within`` returns: enqueues as part of a transaction, and takes all back if that is aborted.

    The handles are of tasks that exist once the transaction is committed. To be used on the thread that began the
    transaction, and before the next ``await``.
    """

    def __init__(self, transport: Transport, within: EnqueuerWithin) -> None:
        self._transport = transport
        self._within = within

    @overload
    def enqueue(self, entry: Entry[R], /) -> Handle[R]: ...

    @overload
    def enqueue(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...

    def enqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Enqueue a call of a task's function, or an entry; it is on disk when the transaction is.

        Raises TransactionUnusable once the transaction has ended, or out of its place; else what ``Client.enqueue``
        raises, and then the transaction is as it was before.
        """
        entry = what if isinstance(what, Entry) else entry_of(what, *args, **kwargs)
        (handle,) = self.enqueue_many([entry])
        return handle

    def enqueue_many(self, entries: Iterable[Entry[R]]) -> list[Handle[R]]:
        """Enqueue up to 10,000 entries, all or none, and return their handles in the same order."""
        said = list(entries)
        if not said:
            return []
        bodies = bodies_of(said)
        request = core.enqueue(bodies, queue_name=None, return_tasks=False, key="", lease=lease_in(bodies))
        outcomes = self._within.enqueue(request).outcomes
        return [
            Handle(self._transport, one.id, entry.returns, one.outcome, one.deduped)
            for entry, one in zip(said, outcomes, strict=True)
        ]

    def set(
        self, entries: Iterable[Entry[Any]] = (), /, *, close: bool = True, **options: Unpack[SetOptions]
    ) -> SetHandle:
        """Make a set with ``entries`` as its members, and return its handle; it is there when the transaction is.

        close False: others come, by ``enqueue`` with the option ``set``, here or later. Raises as ``enqueue`` does.
        """
        fields = {**set_fields_of(options), "close": close}
        made = self._within.make_set(core_sets.make_set(fields, bodies_of(entries), key=""))
        return SetHandle(self._transport, made)
