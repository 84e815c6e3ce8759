"""Timers: what happens by the clock alone. ``run_once`` does what is due now; a loop around it only waits.

Claims promote, lapse and expire for their own queues by themselves; timers exist so that parked dequeues wake up and
figures move. They ask ``store.due`` and write only when something is due, so an idle daemon writes nothing. They look
at least every limits.LOOK_SECONDS, because wall time may step, and sooner after a commit, because that may have
scheduled something. The trap is a hot loop: a round that moved nothing although something seemed due waits for the next
look, and after an error the pauses grow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from lmdbq.clock import Clock
from lmdbq.errors import CommitUnknown, Draining, StoreClosed
from lmdbq.limits import LOOK_SECONDS, SECOND_NS
from lmdbq.model import CallOutcome, Due, Expire, Fire, Lapse, Op, Promote, Prune, Refill, Refused, Swept
from lmdbq.store.base import Store

PAUSE_SECONDS: Final = 0.02  # between two looks, however much is committed
BACKOFF_SECONDS_MAX: Final = 30.0

_log = logging.getLogger(__name__)

Commit = Callable[[Op], Awaitable[CallOutcome]]


def due_ops(due: Due, wall_ns: int) -> list[Op]:
    """Return the timed ops that have something to do at ``wall_ns`` (Unix ns), in the order of their effects."""
    ops: list[Op] = []
    if due.lapse_in_ns is not None and due.lapse_in_ns <= 0:
        ops.append(Lapse())
    if due.refill_in_ns is not None and due.refill_in_ns <= 0:
        ops.append(Refill())
    if 0 < due.fire_at <= wall_ns:
        ops.append(Fire())
    if 0 < due.promote_at <= wall_ns:
        ops.append(Promote())
    if 0 < due.expire_at <= wall_ns:
        ops.append(Expire())
    if 0 < due.prune_at <= wall_ns:
        ops.append(Prune())
    return ops


def seconds_until(due: Due, wall_ns: int) -> float:
    """Return how long to wait for the next thing that is due: 0.0 .. limits.LOOK_SECONDS."""
    waits_ns = [at - wall_ns for at in (due.fire_at, due.promote_at, due.expire_at, due.prune_at) if at]
    if due.lapse_in_ns is not None:
        waits_ns.append(due.lapse_in_ns)
    if due.refill_in_ns is not None:
        waits_ns.append(due.refill_in_ns)
    return min(LOOK_SECONDS, max(0, min(waits_ns, default=SECOND_NS)) / SECOND_NS)


async def run_once(store: Store, clock: Clock, commit: Commit) -> int:
    """Do what is due now, all of it, and return how many tasks were moved. Raises what ``commit`` raises."""
    moved = 0
    ops = due_ops(store.due(clock), clock.wall_ns())
    while ops:
        unfinished: list[Op] = []
        for op in ops:  # a transaction each: one for all would allocate the file ahead for the worst of all
            outcome = await commit(op)
            if isinstance(outcome, Refused):
                _log.error("%s was refused: %s", type(op).__name__, outcome.problems)
                continue
            swept = outcome.outcomes[0]
            assert isinstance(swept, Swept)
            moved += swept.count
            if swept.more:
                unfinished.append(op)
        ops = unfinished
    return moved


class Timers:
    """The loop around ``run_once``. ``poke`` tells it that a commit may have brought something nearer."""

    def __init__(self, store: Store, clock: Clock, commit: Commit) -> None:
        self._store = store
        self._clock = clock
        self._commit = commit
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Look again soon."""
        self._poked.set()

    async def run(self) -> None:
        """Run until cancelled, or until the store or the engine takes no more."""
        errors = 0
        while True:
            try:
                moved, due, now = 0, self._store.due(self._clock), self._clock.wall_ns()
                if due_ops(due, now):
                    moved = await run_once(self._store, self._clock, self._commit)
                    due, now = self._store.due(self._clock), self._clock.wall_ns()
                wait = seconds_until(due, now)
            except (CommitUnknown, StoreClosed, Draining):
                return
            except Exception:  # noqa: BLE001  (a service outlives what it reports; nothing was half done)
                _log.exception("timers failed, and try again")
                await asyncio.sleep(min(BACKOFF_SECONDS_MAX, LOOK_SECONDS * 2**errors))
                errors = min(errors + 1, 10)
                continue
            errors = 0
            if moved or wait:
                await self._pause(wait)
            else:
                await asyncio.sleep(LOOK_SECONDS)  # not to be poked: our own attempt has done that

    async def _pause(self, seconds: float) -> None:
        """Wait ``seconds``, or until poked, but never less than PAUSE_SECONDS."""
        loop = asyncio.get_running_loop()
        earliest = loop.time() + PAUSE_SECONDS
        try:
            async with asyncio.timeout(max(seconds, PAUSE_SECONDS)):
                await self._poked.wait()
                await asyncio.sleep(earliest - loop.time())  # more may come meanwhile: one look serves all of it
        except TimeoutError:
            return  # the usual end
        finally:
            self._poked.clear()
