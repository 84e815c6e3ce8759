"""A schedule of a ``Client``. Made from ``aio_schedules.py`` by ``packaging/make_sync.py``: change that one."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from lmdbq.client import core_schedules as core
from lmdbq.client.entries import Entry
from lmdbq.client.places import Transport
from lmdbq.client.schedule_info import (
    Cron,
    ScheduleInfo,
    UpcomingInstant,
    cron_fields,
    schedule_info,
    task_field,
    upcoming_instants,
)
from lmdbq.client.sync_handles import Handle


class ScheduleHandle:
    """A schedule, by its name; it need not exist yet."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def info(self) -> ScheduleInfo:
        """Return it as it stands, with its next five instants. Raises NotFound."""
        return schedule_info(self._transport.call(core.schedule(self.name)))

    def put(self, entry: Entry[Any], cron: str | Cron, *, paused: bool | None = None) -> ScheduleInfo:
        """Create it, or replace it: ``put(greet.entry("Ada"), "0 3 * * *")``.

        With the same cron and time zone it stays where it stood. paused: None leaves it paused if it was.
        """
        fields = {"task": task_field(entry), **cron_fields(cron)}
        if paused is not None:
            fields["paused"] = paused
        return schedule_info(self._transport.call(core.put_schedule(self.name, fields)))

    def edit(self, *, entry: Any = UNSET, cron: Any = UNSET) -> ScheduleInfo:
        """Change what it enqueues (an Entry), or when (text or a Cron). Raises NotFound."""
        fields: dict[str, Any] = {} if cron is UNSET else cron_fields(cron)
        if entry is not UNSET:
            fields["task"] = task_field(entry)
        return schedule_info(self._transport.call(core.patch_schedule(self.name, fields)))

    def pause(self) -> ScheduleInfo:
        """Enqueue nothing until it is resumed. Raises NotFound."""
        return schedule_info(self._transport.call(core.pause_schedule(self.name)))

    def resume(self) -> ScheduleInfo:
        """Go on with the next instant from now; those of the pause are not made up for. Raises NotFound."""
        return schedule_info(self._transport.call(core.resume_schedule(self.name)))

    def run(self) -> Handle[Any]:
        """Enqueue its task now, paused or not, and return the task's handle. Its instants stay what they are."""
        ran = self._transport.call(core.run_schedule(self.name))
        one = ran.outcome
        return Handle(self._transport, one.id, Any, one.outcome, one.deduped)

    def next(self, count: int = 5) -> list[UpcomingInstant]:
        """Return its next ``count`` (1..100) instants, as if it were not paused. Raises NotFound."""
        return upcoming_instants((self._transport.call(core.next_instants(self.name, count))).upcoming)

    def delete(self) -> None:
        """Remove it; the tasks that it enqueued stay. Raises NotFound."""
        self._transport.call(core.delete_schedule(self.name))
