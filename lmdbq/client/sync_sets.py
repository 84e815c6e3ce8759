"""A set of a ``Client``. Made from ``aio_sets.py`` by ``packaging/make_sync.py``: change that one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

from lmdbq.client import core, core_sets
from lmdbq.client.context import lease_in
from lmdbq.client.entries import Entry, bodies_of
from lmdbq.client.keys import new_key
from lmdbq.client.options import Filters, Seconds, filter_fields_of
from lmdbq.client.places import Transport
from lmdbq.client.set_info import SetInfo, SetOptions, set_fields_of, set_info
from lmdbq.client.sync_handles import Handle, Selection
from lmdbq.client.tasks import Task, entry_of
from lmdbq.client.values import WAIT_SECONDS_MIN, Deadline
from lmdbq.wire.answers import EntryOutcome

P = ParamSpec("P")
R = TypeVar("R")


class SetHandle:
    """A set, by its id. ``with`` makes one, and closes it at the end of the block:

        with client.set(callback=report) as pages:
            for url in urls:
                pages.enqueue(fetch, url)

    If the block raises, the set stays open: nothing follows it until somebody closes it, or deletes it.
    """

    def __init__(self, transport: Transport, id: str, **options: Unpack[SetOptions]) -> None:
        self._transport = transport
        self._fields = set_fields_of(options)
        self.id = id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id or 'yet to be made'}>"

    def __enter__(self) -> Self:
        if not self.id:
            self.make()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()

    def make(self, entries: Iterable[Entry[R]] = (), *, close: bool = False) -> list[Handle[R]]:
        """Make it, with ``entries`` (up to 10,000) as its first members, and return their handles; all or nothing.

        close: no others come. A set is made once.
        """
        if self.id:
            raise RuntimeError(f"{self.id} was made already; client.set(...) begins another one")
        said = list(entries)
        fields = {**self._fields, "close": True} if close else self._fields
        made = self._transport.call(core_sets.make_set(fields, bodies_of(said), key=new_key()))
        self.id = made.id
        return self._handles(said, made.outcomes or [])

    @overload
    def enqueue(self, entry: Entry[R], /) -> Handle[R]: ...

    @overload
    def enqueue(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...

    def enqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Enqueue a member, as ``Client.enqueue`` does. Raises Conflict once it is closed, but in a running member."""
        entry = what if isinstance(what, Entry) else entry_of(what, *args, **kwargs)
        (handle,) = self.enqueue_many([entry])
        return handle

    def enqueue_many(self, entries: Iterable[Entry[R]]) -> list[Handle[R]]:
        """Enqueue up to 10,000 members, all or none, and return their handles in the same order."""
        said = list(entries)
        if not said:
            return []
        bodies = [{**body, "set_id": self.id} for body in bodies_of(said)]
        request = core.enqueue(bodies, queue_name=None, return_tasks=False, key=new_key(), lease=lease_in(bodies))
        return self._handles(said, (self._transport.call(request)).outcomes)

    def _handles(self, said: list[Entry[R]], outcomes: list[EntryOutcome]) -> list[Handle[R]]:
        return [
            Handle(self._transport, one.id, entry.returns, one.outcome, one.deduped)
            for entry, one in zip(said, outcomes, strict=True)
        ]

    def close(self, entries: Iterable[Entry[R]] = ()) -> list[Handle[R]]:
        """Say that no more come but ``entries``; return their handles. Closing again is harmless. Raises NotFound."""
        said = list(entries)
        lease = lease_in([{"set_id": self.id}])
        request = core_sets.close_set(self.id, bodies_of(said), lease=lease, key=new_key())
        return self._handles(said, (self._transport.call(request)).outcomes or [])

    def info(self) -> SetInfo:
        """Return it as it stands. Raises NotFound."""
        return set_info(self._transport.call(core_sets.task_set(self.id)))

    def wait(self, *, timeout: Seconds | None = None) -> SetInfo:
        """Wait until it is met or unmet, and return how. timeout: seconds, None = as long as it takes.

        Raises ResultTimeout, NotFound.
        """
        deadline = Deadline(timeout, time.monotonic())
        while True:
            wait = max(deadline.next_wait(time.monotonic()), WAIT_SECONDS_MIN)
            one = self._transport.call(core_sets.task_set(self.id, wait=wait))
            if one.state in ("met", "unmet"):
                return set_info(one)
            deadline.check_set(time.monotonic(), one)

    def tasks(self, **filters: Unpack[Filters]) -> Selection:
        """Return its members that are stored, or those that match ``filters`` as well."""
        return Selection(self._transport, filter_fields_of({**filters, "set": self.id}))

    def delete(self) -> None:
        """Forget it: its members stay, and nothing follows. Raises NotFound."""
        self._transport.call(core_sets.delete_set(self.id))
