"""What a ``Client`` hands out. Made from ``aio_handles.py`` by ``packaging/make_sync.py``: change that one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, Unpack

from msgspec import UNSET

from lmdbq.client import core, core_actions
from lmdbq.client.encoding import convert, to_json
from lmdbq.client.info import QueueInfo, TaskInfo, task_info
from lmdbq.client.keys import new_key
from lmdbq.client.options import (
    Filters,
    Options,
    QueueOptions,
    Seconds,
    fields_of,
    filter_fields_of,
    queue_fields_of,
    seconds,
)
from lmdbq.client.places import Transport
from lmdbq.client.reports import failed, released, succeeded
from lmdbq.client.values import (
    SUCCEEDED_NOT_KEPT,
    WAIT_SECONDS_MIN,
    ActionResult,
    Deadline,
    Extended,
    dead_or_cancelled,
    lease_lost,
)
from lmdbq.errors import TaskGone
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.wire.answers import ChangeAnswer, TaskAnswer
from lmdbq.wire.shapes import ExtendEntry, ReportEntry

R = TypeVar("R")
ENDED = ("succeeded", "dead", "cancelled")


class Handle(Generic[R]):
    """One task. outcome: "enqueued", "skipped" or "overwritten"; "" if the handle was not made by enqueueing.

    deduped: whether a task that was there before had the dedupe key; then this is the handle of that one.
    """

    __slots__ = ("_returns", "_transport", "deduped", "id", "outcome")

    def __init__(
        self, transport: Transport, id: str, returns: Any = Any, outcome: str = "", deduped: bool = False
    ) -> None:
        self._transport = transport
        self._returns = returns
        self.id = id
        self.outcome = outcome
        self.deduped = deduped

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.outcome}".rstrip() + ">"

    def info(self) -> TaskInfo:
        """Return the task as it is now. Raises NotFound, or TaskGone once it is no longer stored."""
        return task_info(self._transport.call(core.task(self.id)))

    def result(self, *, timeout: Seconds | None = None) -> R:
        """Wait for the task's end and return what its function returned. timeout: seconds, None = as long as it takes.

        Raises ResultTimeout, TaskDead, TaskCancelled; TaskGone if nothing of it was kept. A result is kept for an hour
        unless ``keep`` says otherwise. None is no result, and such a task is not kept: its daemon remembers the last
        10,000 of them that it was told of, and without a daemon each process those of its own workers. So who shares a
        directory with a worker in another process, or asks later, enqueues with ``keep``, or uses ``wait``.
        """
        try:
            task = self._ended(Deadline(timeout, time.monotonic()))
        except TaskGone as gone:
            if gone.code != SUCCEEDED_NOT_KEPT:
                raise
            return None  # type: ignore[return-value]
        if task.state != "succeeded":
            raise dead_or_cancelled(task)
        return convert(core.result_of(task), self._returns)  # type: ignore[no-any-return]

    def wait(self, *, timeout: Seconds | None = None) -> TaskInfo | None:
        """Wait for the task's end and return how it is then; None if nothing of it was kept. Raises ResultTimeout."""
        try:
            return task_info(self._ended(Deadline(timeout, time.monotonic())))
        except TaskGone:
            return None

    def _ended(self, deadline: Deadline) -> TaskAnswer:
        while True:
            wait = max(deadline.next_wait(time.monotonic()), WAIT_SECONDS_MIN)
            task = self._transport.call(core.task(self.id, wait=wait, payload="none"))
            if task.state in ENDED:
                return task
            deadline.check(time.monotonic(), task)

    def cancel(self) -> ChangeAnswer:
        """Cancel the task if it waits; ask it to stop if it runs (outcome "cancel_requested"). Raises Conflict."""
        return self._transport.call(core.cancel(self.id))

    def retry(self, *, queue: str | None = None) -> ChangeAnswer:
        """Make a dead or cancelled task ready again, with all its attempts before it, in ``queue`` if one is named.

        Raises Conflict; NotFound if there is no such queue.
        """
        return self._transport.call(core.retry(self.id, queue))

    def edit(self, *, payload: Any = UNSET, **options: Unpack[Options]) -> TaskInfo:
        """Change a waiting task. ``queue`` and ``dedupe`` cannot be changed. Raises Conflict once it has started."""
        return task_info(self._transport.call(core.edit(self.id, _edited(payload, options))))

    def delete(self) -> None:
        """Remove the task, in any state."""
        self._transport.call(core.delete(self.id))


def _edited(payload: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    fields = fields_of(options)
    if payload is not UNSET:
        fields["payload"] = payload if isinstance(payload, bytes) else core.raw(to_json(payload, "/payload"))
    return fields


class Selection:
    """The tasks that match a filter, whenever it is asked. Iterate it, count it, or act on all of it."""

    def __init__(self, transport: Transport, filters: Mapping[str, Any]) -> None:
        self._transport = transport
        self._filters = filters

    def __iter__(self) -> Iterator[TaskInfo]:
        cursor = None
        while True:
            page = self._transport.call(core.tasks({**self._filters, "limit": PAGE_TASKS_MAX, "cursor": cursor}))
            for task in page.tasks:
                yield task_info(task)
            cursor = page.next
            if not cursor:
                return

    def count(self) -> int:
        """Return how many tasks match; exact if only queue, type and state are named, or nothing changes meanwhile."""
        return (self._transport.call(core.count(self._filters))).count

    def cancel(self, *, all: bool = False, dry_run: bool = False) -> ActionResult:
        """Cancel those that wait, ask those that run to stop. all: needed where the filter matches every task."""
        return self._act("cancel", all, dry_run)

    def retry(self, *, queue: str | None = None, all: bool = False, dry_run: bool = False) -> ActionResult:
        """Make those that are dead or cancelled ready again, in ``queue`` if one is named.

        dry_run: only say how many match, and how many of them it would change.
        """
        return self._act("retry", all, dry_run, to=queue)

    def edit(
        self, *, payload: Any = UNSET, all: bool = False, dry_run: bool = False, **options: Unpack[Options]
    ) -> ActionResult:
        """Change those that wait, as ``Handle.edit`` does one."""
        return self._act("edit", all, dry_run, fields=_edited(payload, options))

    def delete(self, *, all: bool = False, dry_run: bool = False) -> ActionResult:
        """Remove them, in any state."""
        return self._act("delete", all, dry_run)

    def _act(
        self,
        action: str,
        every: bool,
        dry_run: bool,
        to: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> ActionResult:
        matched = changed = 0
        cursor = None
        while True:
            request = core_actions.actions(
                action,
                self._filters,
                every=every,
                dry_run=dry_run,
                cursor=cursor,
                key=new_key(),
                to=to,
                fields=fields,
            )
            page = self._transport.call(request)
            matched += page.matched
            changed += page.changed
            cursor = page.next or None
            if cursor is None:
                return ActionResult(matched, changed)


class QueueHandle:
    """A queue, by its name; it need not exist yet."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def info(self) -> QueueInfo:
        """Return its settings, counts, totals and what holds it up. Raises NotFound."""
        return self._transport.call(core.queue(self.name))

    def create(self, **options: Unpack[QueueOptions]) -> QueueInfo:
        """Create the queue, or replace all its settings."""
        return self._transport.call(core.put_queue(self.name, queue_fields_of(options)))

    def edit(self, **options: Unpack[QueueOptions]) -> QueueInfo:
        """Change the settings that are named; None goes back to the default. Raises NotFound."""
        return self._transport.call(core.patch_queue(self.name, queue_fields_of(options)))

    def pause(self) -> QueueInfo:
        """Start none of its tasks from now on; what runs goes on. Raises NotFound."""
        return self._transport.call(core.pause(self.name))

    def resume(self) -> QueueInfo:
        """Start its tasks again. Raises NotFound."""
        return self._transport.call(core.resume(self.name))

    def purge(self) -> int:
        """Remove all its tasks, running ones too, and return how many they were. Raises NotFound."""
        return (self._transport.call(core.purge(self.name))).tasks

    def delete(self) -> None:
        """Remove the queue and all its tasks. Raises NotFound."""
        self._transport.call(core.delete_queue(self.name))

    def tasks(self, **filters: Unpack[Filters]) -> Selection:
        """Return its tasks, or those that match ``filters`` as well."""
        return Selection(self._transport, filter_fields_of({**filters, "queue": self.name}))


class Lease:
    """A task that is ours until the lease ends. task: as it was given. Exactly one of its ends is to be reported."""

    def __init__(self, transport: Transport, task: TaskAnswer) -> None:
        self._transport = transport
        self.lease = task.lease or ""
        self.task = task_info(task)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lease}>"

    def succeed(self, result: Any = None) -> None:
        """Say that it is done. result: anything JSON can say, or bytes; up to 64 KiB. Raises LeaseLost."""
        self._report(succeeded(self.lease, result))

    def fail(self, error: BaseException | str, *, delay: Seconds | None = None, retry: bool = True) -> None:
        """Say that it failed. delay: seconds to the next attempt instead of the backoff. retry False: dead at once.

        Raises LeaseLost.
        """
        self._report(failed(self.lease, error, delay=None if delay is None else seconds(delay), retry=retry))

    def release(self, *, delay: Seconds | None = None) -> None:
        """Hand it back, uncounted; others may have it at once, or after ``delay`` seconds. Raises LeaseLost."""
        self._report(released(self.lease, None if delay is None else seconds(delay)))

    def extend(self, lease: Seconds | None = None, *, progress: float | None = None) -> Extended:
        """Prolong the lease: it then ends ``lease`` seconds from now (1 s .. 12 h; None: its length). progress: 0..1.

        The answer says whether a cancel was asked for. Raises LeaseLost.
        """
        length = None if lease is None else seconds(lease)
        said = ExtendEntry(lease=self.lease, keepalive_timeout_in_seconds=length, progress=progress)
        outcome = (self._transport.call(core.extend([said]))).outcomes[0]
        if outcome.outcome != "ok":
            raise lease_lost(self.lease, outcome.outcome)
        return Extended.of(outcome)

    def _report(self, report: ReportEntry) -> None:
        outcome = (self._transport.call(core.report([report]))).outcomes[0]
        if outcome.outcome != "ok":
            raise lease_lost(self.lease, outcome.outcome)
