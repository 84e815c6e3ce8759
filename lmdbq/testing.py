"""For tests of programs that use lmdbq: a queue in memory whose time stands still until it is told to move.

    def test_greeting():
        with lmdbq.testing.MemoryClient() as queue:
            job = queue.enqueue(greet.using(delay=60), "Ada")
            queue.advance(60)
            assert lmdbq.Worker(queue, tasks).drain() == 1
            assert job.result() == "Hello, Ada."

With pytest, put ``from lmdbq.testing import queue`` (or ``pytest_plugins = ["lmdbq.testing"]``) into conftest.py, and a
test that has a parameter ``queue`` gets one of its own. No disk is written to, no port is opened, nothing sleeps. What
it adds to a test is about 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from lmdbq.client.aio import AsyncClient
from lmdbq.client.loop_thread import engine_thread
from lmdbq.client.option_values import instant
from lmdbq.client.options import Seconds, seconds
from lmdbq.client.places import EmbeddedPlace, memory_place
from lmdbq.client.sync import Client
from lmdbq.clock import ManualClock
from lmdbq.engine.timers import run_once

if TYPE_CHECKING:
    from lmdbq.client.embedded_file import OpenQueue


class _Clocked:
    """What a memory client has besides its verbs. clock: the time of its queue, which no other clock moves."""

    clock: ManualClock
    _memory: EmbeddedPlace

    def advance(self, by: Seconds) -> None:
        """Let time pass, ``by`` seconds (>= 0): what is due is due, and leases that have come up lapse."""
        self.clock.advance(seconds(by))
        engine_thread.submit(_catch_up(self._memory.embedded.queue())).result()

    def check(self) -> list[str]:
        """Return one line for each fault in the queue's tables; there should be none."""
        return self._memory.embedded.queue().store.check()


async def _catch_up(queue: OpenQueue) -> None:
    """Do now what the clock asks for, as a daemon would in a moment."""
    while await run_once(queue.store, queue.clock, queue.engine.call):
        pass  # what was done may be followed by more that is due: a task that comes after a death, say
    queue.moved()


class MemoryClient(Client, _Clocked):
    """A ``Client(":memory:")`` with a clock of its own, which ``advance`` moves. Its ``Worker`` is best drained.

    at: what the clock says at first, a datetime with its zone; None: now. From there only ``advance`` moves it.
    Raises InvalidInput for a datetime without a zone.
    """

    def __init__(self, *, at: datetime | None = None) -> None:
        self.clock = _clock(at)
        self._memory = memory_place(self.clock)
        self._begin(self._memory)


class AsyncMemoryClient(AsyncClient, _Clocked):
    """The same, awaited; ``advance`` is a plain method here, too."""

    def __init__(self, *, at: datetime | None = None) -> None:
        self.clock = _clock(at)
        self._memory = memory_place(self.clock)
        self._begin(self._memory)


def _clock(at: datetime | None) -> ManualClock:
    return ManualClock(wall=int(instant(at or datetime.now(timezone.utc))))  # noqa: UP017  (one spelling for pyright)


def _queue() -> Iterator[MemoryClient]:
    """A ``MemoryClient`` for the length of a test; at its end its tables are checked."""
    with MemoryClient() as client:
        yield client
        assert client.check() == []


def __getattr__(name: str) -> Any:
    """Make the fixture when it is asked for: who drains a queue in a script needs no pytest."""
    if name == "queue":
        import pytest

        globals()["queue"] = pytest.fixture(name="queue")(_queue)
        return globals()["queue"]
    raise AttributeError(f"module 'lmdbq.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "queue"})
