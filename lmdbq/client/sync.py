"""``Client``: the verbs of a queue. Made from ``aio.py`` by ``packaging/make_sync.py``: change that one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from msgspec import UNSET

from lmdbq.client import core, core_groups, core_schedules, core_sets
from lmdbq.client.context import lease_in
from lmdbq.client.entries import Entry, bodies_of
from lmdbq.client.group_options import GroupOptions, group_fields_of
from lmdbq.client.info import GroupInfo, GroupRuleInfo, QueueInfo, TaskInfo, ThreadInfo, WorkerInfo
from lmdbq.client.keys import new_key
from lmdbq.client.options import Filters, Seconds, filter_fields_of, seconds
from lmdbq.client.places import Place, Transport, place_of
from lmdbq.client.schedule_info import ScheduleInfo, schedule_info
from lmdbq.client.set_info import SetInfo, SetOptions, set_info
from lmdbq.client.sync_groups import GroupHandle
from lmdbq.client.sync_handles import Handle, Lease, QueueHandle, Selection
from lmdbq.client.sync_schedules import ScheduleHandle
from lmdbq.client.sync_sets import SetHandle
from lmdbq.client.sync_within import Enqueuer
from lmdbq.client.tasks import Task, entry_of
from lmdbq.limits import PAGE_TASKS_MAX, WAIT_SECONDS_MAX
from lmdbq.wire.shapes import DequeueRequest

if TYPE_CHECKING:
    from lmdb import Environment, Transaction

P = ParamSpec("P")
R = TypeVar("R")


class Client:
    """A queue: a daemon's, or the file in a directory, or one in memory.

    where: "http://…", "unix:///PATH", "./dir", ":memory:"; None: $LMDBQ_URL, else http://127.0.0.1:7325.
    token: for a daemon; None = $LMDBQ_TOKEN, if set. timeout: seconds a daemon's answer may take, beside the wait that
    a call asks for, and for how long an absent daemon is tried again. durability: of a directory, "full" (default:
    synced before the answer) or "batch" (a power cut may lose the last). Raises InvalidInput for what cannot be.

    Every method raises InvalidInput (a value is wrong), Refusal (``code`` says why), Unreachable (no daemon answered)
    or StoreError (the file cannot be used); they may be called from anywhere, at the same time, and after a fork.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | None = None,
        /,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        durability: Literal["full", "batch"] | None = None,
    ) -> None:
        self._begin(place_of(where, token=token, timeout=timeout, durability=durability))

    def _begin(self, place: Place) -> None:
        self._place = place
        self._transport: Transport = place.transport()

    @property
    def place(self) -> Place:
        """The place, for workers."""
        return self._place

    @property
    def where(self) -> str:
        """The place, as it was named."""
        return self._place.where

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections and files. A later call opens them again, but what was in memory is gone."""
        self._transport.close()

    # --- producing

    @overload
    def enqueue(self, entry: Entry[R], /) -> Handle[R]: ...

    @overload
    def enqueue(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...

    def enqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Enqueue a call of a task's function, or an entry, and return the task's handle once it is on disk.

        Options go on the task: ``enqueue(greet.using(delay=60), "Ada")``. Raises TypeError if the arguments do not fit
        the function, Duplicate if its dedupe key is taken and it asked to be rejected then.
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
        request = core.enqueue(bodies, queue_name=None, return_tasks=False, key=new_key(), lease=lease_in(bodies))
        outcomes = (self._transport.call(request)).outcomes
        return [
            Handle(self._transport, one.id, entry.returns, one.outcome, one.deduped)
            for entry, one in zip(said, outcomes, strict=True)
        ]

    def environment(self) -> Environment:
        """Return the LMDB environment of a directory, opened: one file has one environment in a process.

        Databases of your own in it (``environment.open_db(b"orders")``) share its transactions, see ``within``. It ends
        with the client. Raises TransactionUnusable for other places.
        """
        return self._place.environment()

    def within(self, transaction: Transaction, /) -> Enqueuer:
        """Enqueue as part of a write transaction of ``environment()``, on its thread and before the next ``await``:

            with environment.begin(write=True) as transaction:
                transaction.put(b"order", b"...", db=orders)
                client.within(transaction).enqueue(ship, order=7)

        All of it is committed, or nothing. Raises TransactionUnusable for what is no such transaction.
        """
        return Enqueuer(self._transport, self._place.within(transaction))

    # --- tasks and queues

    def task(self, id: str, /) -> Handle[Any]:
        """Return the handle of a task, by its id. Nothing is asked yet."""
        return Handle(self._transport, id)

    def tasks(self, **filters: Unpack[Filters]) -> Selection:
        """Return the tasks that match all that is said (``lmdbq.Filters``). Asks nothing yet."""
        return Selection(self._transport, filter_fields_of(filters))

    def queue(self, name: str = "default", /) -> QueueHandle:
        """Return the handle of a queue. Nothing is asked yet."""
        return QueueHandle(self._transport, name)

    def queues(self) -> list[QueueInfo]:
        """Return every queue, by name: settings, counts, totals, what holds it up."""
        return (self._transport.call(core.queues())).queues

    def group(self, key: str, /) -> GroupHandle:
        """Return the handle of a group. Nothing is asked yet."""
        return GroupHandle(self._transport, key)

    def groups(self) -> list[GroupInfo]:
        """Return every group with settings of its own, or with ready or running tasks, by key."""
        found: list[GroupInfo] = []
        cursor: str | None = None
        while cursor != "":
            page = self._transport.call(core_groups.groups(cursor, PAGE_TASKS_MAX))
            found += page.groups
            cursor = page.next
        return found

    def group_rules(self) -> list[GroupRuleInfo]:
        """Return every rule for groups, by pattern."""
        return (self._transport.call(core_groups.group_rules())).rules

    def put_group_rule(self, pattern: str, /, *, priority: int = 0, **settings: Unpack[GroupOptions]) -> GroupRuleInfo:
        """Let settings hold for every group that ``pattern`` matches (``*`` any characters, ``?`` one).

        A group's own settings come first; of several rules the highest priority holds, then the longest pattern.
        """
        fields = {**group_fields_of(settings), "priority": priority}
        return self._transport.call(core_groups.put_group_rule(pattern, fields))

    def delete_group_rule(self, pattern: str, /) -> None:
        """Remove a rule. Raises NotFound."""
        self._transport.call(core_groups.delete_group_rule(pattern))

    def threads(self, queue: str = "default", /) -> list[ThreadInfo]:
        """Return the threads of a queue with ready tasks, or with one that runs or is to be tried again, by name."""
        found: list[ThreadInfo] = []
        cursor: str | None = None
        while cursor != "":
            page = self._transport.call(core_groups.threads(queue, cursor, PAGE_TASKS_MAX))
            found += page.threads
            cursor = page.next
        return found

    @overload
    def set(self, id: str, /) -> SetHandle: ...

    @overload
    def set(self, /, **options: Unpack[SetOptions]) -> SetHandle: ...

    def set(self, id: str = "", /, **options: Unpack[SetOptions]) -> SetHandle:
        """Return the handle of a set by its id, or of a new one: see ``SetHandle``. Nothing is asked yet."""
        return SetHandle(self._transport, id, **options)

    def sets(self, *, state: str | Sequence[str] = ()) -> list[SetInfo]:
        """Return every set that is kept, or those in these states (open, closed, met, unmet), the oldest first."""
        found: list[SetInfo] = []
        cursor: Any = None
        while cursor is not UNSET:
            query = {"state": list([state] if isinstance(state, str) else state), "cursor": cursor}
            page = self._transport.call(core_sets.sets({**query, "limit": PAGE_TASKS_MAX}))
            found += map(set_info, page.sets)
            cursor = page.next
        return found

    def schedule(self, name: str, /) -> ScheduleHandle:
        """Return the handle of a schedule. Nothing is asked yet."""
        return ScheduleHandle(self._transport, name)

    def schedules(self) -> list[ScheduleInfo]:
        """Return every schedule, by name: what it enqueues, when, and where it stands."""
        return [schedule_info(one) for one in (self._transport.call(core_schedules.schedules())).schedules]

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that were heard of in the last minute; of a directory, those of this process."""
        return (self._transport.call(core.workers())).workers

    def wait(self, handles: Iterable[Handle[Any]], *, timeout: Seconds | None = None) -> list[TaskInfo | None]:
        """Wait until all these tasks have ended, and return how; None for one of which nothing was kept.

        timeout: seconds, None = as long as it takes. Raises ResultTimeout.
        """
        until = None if timeout is None else time.monotonic() + seconds(timeout)
        ended = []
        for handle in handles:
            left = None if until is None else max(0.0, until - time.monotonic())
            ended.append(handle.wait(timeout=left))
        return ended

    # --- working, by hand; ``Worker`` does it for functions

    def dequeue(
        self,
        *queues: str,
        types: Sequence[str] = (),
        limit: int = 1,
        wait: Seconds = 20.0,
        lease: Seconds | None = None,
    ) -> list[Lease]:
        """Take up to ``limit`` (<= 1,000) ready tasks of ``queues`` ("default" if none is named), and return them.

        types: only these, empty = all. wait: seconds to wait for the first (<= 60). lease: how long it is ours without
        ``extend`` (1 s .. 12 h), None = each task's own.
        """
        wanted = DequeueRequest(
            queue_names=list(queues) or None,
            types=list(types) or None,
            limit=limit,
            wait_in_seconds=min(seconds(wait), WAIT_SECONDS_MAX),
            keepalive_timeout_in_seconds=None if lease is None else seconds(lease),
            claim_id=new_key(),
        )
        given = (self._transport.call(core.dequeue(wanted))).tasks
        return [Lease(self._transport, task) for task in given]
