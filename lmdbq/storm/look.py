"""What a reader of a store sees, as a ``ledger.World``: the same look is taken in a session and in its images.

A row is the state first, then all that an answer may have told. What follows the clock alone is left out (when a lease
ends), for an image is opened in another boot.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from lmdbq.clock import Clock
from lmdbq.model import Filter, QueueView, SetView, Task
from lmdbq.sets import COUNTED
from lmdbq.store.base import Store
from lmdbq.storm.ledger import World

_ALL: Final = Filter()
_PAGE: Final = 1000


def world_of(store: Store, clock: Clock) -> World:
    """Return all tasks and queues. Raises StoreError if they cannot be read."""
    tasks: dict[int, list[Any]] = {}
    after = 0
    while True:
        page = store.tasks(_ALL, clock, after, _PAGE)
        tasks |= {task.id: _row(task) for task in page.tasks}
        after = page.after
        if not after:
            return World(tasks, {view.name: _queue(view) for view in store.queues()} | _others(store, clock))


def miscounted(world: World) -> list[str]:
    """Return the queues whose counts are not those of the tasks that are listed."""
    listed = Counter((row[1], row[2], row[0]) for row in world.tasks.values())
    counted = Counter(
        {
            (name, kind, state): number
            for name, (_, counts, _) in world.queues.items()
            for kind, states in counts.items()
            for state, number in states.items()
        }
    )
    return [
        f"{key}: {counted[key]} counted, {listed[key]} there"
        for key in {*listed, *counted}
        if listed[key] != counted[key]
    ]


def _others(store: Store, clock: Clock) -> dict[str, Any]:
    """Return schedules, sets and the settings of groups, as if they were queues that have no tasks."""
    schedules = {
        f"schedule {one.name}": [[one.schedule.cron, one.schedule.paused], {}, [one.next_at, one.last_at, one.fired]]
        for one in store.schedules()
    }
    groups = {
        f"group {one.name}": [[one.settings.paused, one.settings.max_running], {}, []]
        for one in store.groups(clock)
        if one.settings is not None
    }
    sets = {f"set {one.id}": [[one.state.word, one.reason], {}, set_counts(one)] for one in store.sets()}
    return schedules | groups | sets


def set_counts(one: SetView) -> list[int]:
    """Return how a set's members stand, and when it was decided."""
    return [one.members, one.pending, *(getattr(one, name) for name in COUNTED), one.ended_at]


def _row(task: Task) -> list[Any]:
    return [
        task.state.word,
        task.queue,
        task.type,
        task.payload.decode(),
        task.priority,
        task.scheduled_at,
        task.expires_at,
        task.due_at,
        task.deliveries,
        task.failures,
        task.cancel_requested,
        len(task.errors),
        task.remove_at,
    ]


def _queue(view: QueueView) -> list[Any]:
    settings = [view.settings.paused, view.settings.max_running, view.settings.keepalive_ns]
    totals = [getattr(view.totals, name) for name in view.totals.__struct_fields__]
    return [settings, view.counts, totals]
