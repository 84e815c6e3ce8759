"""What handlers share: the engine, the settings, and who waits for what beside the engine's own waiters.

``Endings`` wakes those who wait for the end of one task, ``Streams`` knows which stream holds which lease. Both are
hints kept in memory only: the truth is in the store, and who waits looks there, too.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from lmdbq.daemon.access import Access
from lmdbq.daemon.connections import UnderWay
from lmdbq.daemon.metrics import RequestCounts
from lmdbq.daemon.settings import Settings
from lmdbq.engine.groups import consumers_of
from lmdbq.engine.queue import Engine
from lmdbq.engine.registry import Registry
from lmdbq.model import QueueView, State
from lmdbq.sharing import parent_of

LOOK_SECONDS: Final = 0.25  # how often who waits for a task's end looks, for ends that nobody here reported


class Endings:
    """Events for tasks whose end somebody waits for."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    @contextmanager
    def watch(self, task_id: int) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever something happened to the task through this daemon."""
        event = asyncio.Event()
        self._waiting[task_id].add(event)
        try:
            yield event
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    def tell(self, task_ids: Iterable[int]) -> None:
        """Wake those who wait for one of these tasks."""
        for task_id in task_ids:
            for event in self._waiting.get(task_id, ()):
                event.set()


class Streams:
    """Which stream holds which task, so that its place is free as soon as the task is reported elsewhere."""

    def __init__(self) -> None:
        self._holders: dict[int, Callable[[int], None]] = {}

    def __bool__(self) -> bool:
        """Whether any stream holds a task."""
        return bool(self._holders)

    def hold_any(self, task_ids: Iterable[int]) -> bool:
        """Whether some stream holds one of these tasks."""
        return not self._holders.keys().isdisjoint(task_ids)

    def hold(self, task_ids: Iterable[int], freed: Callable[[int], None]) -> None:
        self._holders.update(dict.fromkeys(task_ids, freed))

    def drop(self, task_ids: Iterable[int], freed: Callable[[int], None]) -> None:
        """Forget what one holder has; a task that another stream got meanwhile stays that stream's."""
        for task_id in task_ids:
            if self._holders.get(task_id) == freed:
                del self._holders[task_id]

    def tell(self, task_ids: Iterable[int]) -> None:
        """Free the places of tasks that no longer run under their lease."""
        for task_id in task_ids:
            freed = self._holders.pop(task_id, None)
            if freed is not None:
                freed(task_id)


class Daemon:
    """One serving daemon. draining: set when it is asked to stop; nothing new is begun from then on."""

    def __init__(self, settings: Settings, engine: Engine, access: Access) -> None:
        self.settings = settings
        self.engine = engine
        self.access = access
        self.store = engine.store
        self.clock = engine.clock
        self.endings = Endings()
        self.streams = Streams()
        self.under_way = UnderWay()
        self.requests = RequestCounts()
        self.workers = Registry()
        self.started_at = engine.clock.wall_ns()
        self.draining = asyncio.Event()

    def ended(self, task_ids: Iterable[int]) -> None:
        """Tell who waits that something ended the leases of these tasks."""
        if self.endings or self.streams:
            ids = list(task_ids)
            self.endings.tell(ids)
            self.streams.tell(ids)

    def unconsumed(self, queue: QueueView) -> list[str]:
        """Return the types of a queue that have ready tasks and that nobody here asks for."""
        ready = [kind for kind, counts in queue.counts.items() if counts.get(State.READY.word)]
        return [kind for kind in ready if not self.is_consumed(queue.name, kind)]

    def is_consumed(self, queue: str, kind: str) -> bool:
        """Whether somebody asks for tasks of this type of this queue, or has registered to run them."""
        consumers = consumers_of(self.engine.consumers(), queue)
        asked = consumers is not None and (consumers.any_type or kind in consumers.types)
        return asked or any(self.workers.takes(name, kind, self.clock.wall_ns()) for name in (queue, parent_of(queue)))


DAEMON: Final = web.AppKey("daemon", Daemon)
