"""Judging one image of a disk: opened as by somebody who has just switched the machine on again.

The checker must find nothing, and what a reader sees must be one of the worlds that the answers allow: the one after
the last answer, or that of the call which was under way. With durability ``batch`` the last commit may be missing as
well, so the world before is allowed, too; a damaged file never is. Then the file is used: tasks are enqueued, claimed
and reported in it, every old lease runs out, and the checker looks again, since what LMDB keeps of free pages shows
only when somebody writes.

The trap: many answers change nothing. Worlds that are equal are one and the same state of the file, and only the last
*different* one may be missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from lmdbq.clock import ManualClock
from lmdbq.errors import LmdbqError
from lmdbq.limits import HOUR_NS, SECOND_NS
from lmdbq.model import (
    Call,
    Claim,
    Claimed,
    Completion,
    DaemonStart,
    Done,
    Enqueue,
    Enqueued,
    Entry,
    Lapse,
    Op,
    OpOutcome,
    QueueDelete,
    Report,
    State,
    Status,
)
from lmdbq.store.copies import restore
from lmdbq.store.lmdb import LmdbStore, open_store
from lmdbq.storm.ledger import Ledger, World
from lmdbq.storm.look import miscounted, world_of
from lmdbq.storm.session import COPY_NAME

LEASE_SECONDS_MAX: Final = 60.0  # that of an entry and a queue that say nothing is the longest
LATER_NS: Final = HOUR_NS * 24 * 7
_QUEUE: Final = "after the power cut"


def allowed_worlds(ledger: Ledger, answers: int, durability: str) -> list[World]:
    """Return the worlds that may be found when ``answers`` answers were given before the power failed."""
    worlds = ledger.worlds
    allowed = worlds[answers : answers + 2]
    if durability == "batch":
        older = answers
        while older > 0 and worlds[older] == worlds[answers]:
            older -= 1
        allowed = [*allowed, worlds[older]]
    return allowed


class _NextBoot(ManualClock):
    """The clock of a machine that was switched on again: later than any session, in a boot that none has seen."""

    def __init__(self) -> None:
        super().__init__(wall=ManualClock().wall_ns() + LATER_NS, steady=SECOND_NS)

    def boot_id(self) -> str:
        return "the boot after the power cut"


class Seen(NamedTuple):
    """What was found in a store. world: what a reader sees, None if it could not be opened or read.

    problems: what is wrong whatever was answered, before it was written to and after. boot_no: the last boot it knows.
    """

    problems: list[str]
    world: World | None = None
    boot_no: int = 0


def judge(directory: Path, compare: Callable[[World], list[str]]) -> list[str]:
    """Return what is wrong with the store in ``directory``; nothing if all is well. It is written to.

    compare: says what is wrong with what a reader sees.
    """
    problems = verdict(look(directory), compare)
    copy = directory / COPY_NAME
    return problems + (copy_faults(copy, directory.parent) if copy.exists() else [])


def verdict(seen: Seen, compare: Callable[[World], list[str]]) -> list[str]:
    """Return what is wrong with a store in which this was seen."""
    return seen.problems + ([] if seen.world is None else compare(seen.world))


def look(directory: Path) -> Seen:
    """Check the store in ``directory``, read all of it, use it, and check it again."""
    clock = _NextBoot()
    store = open_store(directory)
    try:
        boot_no = store.info().boot_no
        problems = [f"check: {line}" for line in store.check()]
        found = world_of(store, clock)
        problems += [f"counts: {line}" for line in miscounted(found)]
        return Seen(problems or _used(store, clock), found, boot_no)
    except LmdbqError as error:
        return Seen([f"{type(error).__name__}: {error.detail}"])
    finally:
        store.close()


def glance(directory: Path) -> list[str]:
    """Open the store in ``directory``, begin a new boot in it, and return what is wrong with that."""
    clock = _NextBoot()
    store = open_store(directory)
    try:
        store.queues()
        store.schedules()
        _apply(store, clock, DaemonStart(), Lapse())
    except LmdbqError as error:
        return [f"{type(error).__name__}: {error.detail}"]
    finally:
        store.close()
    return []


def copy_faults(copy: Path, scratch: Path) -> list[str]:
    """Return what is wrong with a backup that has got its name: it must be whole, and can be put back."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        try:
            restore(copy, Path(place, "restored"), lambda _: None)
        except LmdbqError as error:
            return [f"its backup: {type(error).__name__}: {error.detail}"]
    return []


def _used(store: LmdbStore, clock: ManualClock) -> list[str]:
    """Use the store, and return what is wrong with it then."""
    entries = [Entry(b'"%d"' % number, _QUEUE) for number in range(12)]
    _apply(store, clock, DaemonStart(), Lapse())
    [enqueued] = _apply(store, clock, Enqueue(entries))
    [claimed] = _apply(store, clock, Claim((_QUEUE,), limit=len(entries)))
    assert isinstance(enqueued, Enqueued)
    assert isinstance(claimed, Claimed)
    problems = [] if [task.id for task in claimed.tasks] == enqueued.ids else ["what is enqueued now is not claimed"]
    _apply(
        store, clock, Report(tuple(Completion(task.id, task.deliveries, Status.SUCCEEDED) for task in claimed.tasks))
    )
    _apply(store, clock, QueueDelete(_QUEUE))
    clock.advance(LEASE_SECONDS_MAX + 6)
    _apply(store, clock, Lapse())
    running = sum(view.count(State.RUNNING) for view in store.queues())
    if running:
        problems.append(f"{running} tasks still run {LEASE_SECONDS_MAX:.0f} s after the start, with nobody at work")
    return problems + [f"check after use: {line}" for line in store.check()]


def _apply(store: LmdbStore, clock: ManualClock, *ops: Op) -> tuple[OpOutcome, ...]:
    [outcome] = store.apply([Call(ops)], clock).outcomes
    if not isinstance(outcome, Done):
        raise AssertionError(f"a plain call was refused: {outcome}")
    return outcome.outcomes
