"""The command with a fault that was put into it: ``python -m lmdbq.storm.planted_daemon PLANT serve ...``.

Storms that look at the daemon from outside must find each of these, or they prove nothing. Each is one function made
wrong in a way that a person might.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import runpy
import sys
from collections.abc import Callable
from typing import Final

from aiohttp import web

from lmdbq import clock, limits, schedules
from lmdbq.daemon import handlers_queueing, replies
from lmdbq.daemon.replies import HttpProblem
from lmdbq.engine import timers
from lmdbq.ids import ID_COUNTER_BITS
from lmdbq.model import CallOutcome, Done, Encoding, Schedule
from lmdbq.store import environment, lmdb_ops_enqueue, pages
from lmdbq.wire import payloads, values


def leases_by_wall() -> None:
    """Leases are counted by the clock that steps."""
    clock.SystemClock.steady_ns = clock.SystemClock.wall_ns  # type: ignore[method-assign]


def nobody_looks() -> None:
    """Timers sleep until what they know is due, and do not notice that the clock was set."""
    setattr(timers, "LOOK_SECONDS", limits.DAY_NS / limits.SECOND_NS)  # noqa: B010  (it is another module's constant)


def ids_by_clock() -> None:
    """The next id is made of the clock alone."""

    def next_id(_last_id: int, wall_ns: int) -> int:
        return (wall_ns // limits.MS_NS) << ID_COUNTER_BITS

    setattr(lmdb_ops_enqueue, "next_id", next_id)  # noqa: B010  (it is imported there)


def payloads_unchecked() -> None:
    """A payload is taken as it comes, whoever has to read it later."""
    setattr(payloads, "accept_msgpack", lambda raw: (raw, Encoding.MSGPACK))  # noqa: B010


def bodies_kept() -> None:
    """Whoever reads a body keeps what it has made of it."""
    read_body = replies.read_body
    kept: list[bytes] = []

    async def read_and_keep(request: web.Request) -> bytes:
        body = await read_body(request)
        kept.append(body + os.urandom(100_000))
        return body

    setattr(handlers_queueing, "read_body", read_and_keep)  # noqa: B010


def refused_too_late() -> None:
    """Now and then a call is refused that has been committed."""
    settled = replies.settled
    count = itertools.count(1)

    def settled_or_not(outcome: CallOutcome, *, prefix: str = "") -> Done:
        if next(count) % 10 == 0:
            raise HttpProblem(422, "too_late", "what was wrong with it was seen too late")
        return settled(outcome, prefix=prefix)

    setattr(handlers_queueing, "settled", settled_or_not)  # noqa: B010


def nan_forgotten() -> None:
    """A number that is none is not thought of, and ends in an error that nobody expects."""

    def duration_ns(said: float | None, *_: object, **__: object) -> int:
        return int((said or 0) * limits.SECOND_NS)

    setattr(values, "duration_ns", duration_ns)  # noqa: B010


def lengths_unseen() -> None:
    """Nobody compares a file's length with what it says."""
    setattr(environment, "refuse_cut_off", lambda data, env: None)  # noqa: B010


def raw_errors() -> None:
    """What LMDB says of damaged pages goes as it is to whoever asked."""
    pages.DAMAGED, environment.DAMAGED = (), ()  # type: ignore[misc, attr-defined]


def nobody_owns() -> None:
    """A daemon does not ask whether another one serves the file."""
    setattr(fcntl, "flock", lambda *_: None)  # noqa: B010


def instants_again() -> None:
    """Now and then a schedule stays where it stands."""
    firing = schedules.firing
    count = itertools.count(1)

    def fire(schedule: Schedule, next_at: int, now_wall: int, count_max: int) -> schedules.Firing:
        found = firing(schedule, next_at, now_wall, count_max)
        return found._replace(next_at=next_at) if next(count) % 5 == 0 else found

    setattr(schedules, "firing", fire)  # noqa: B010


def instants_forgotten() -> None:
    """Now and then an instant of a schedule gives no task."""
    firing = schedules.firing
    count = itertools.count(1)

    def fire(schedule: Schedule, next_at: int, now_wall: int, count_max: int) -> schedules.Firing:
        found = firing(schedule, next_at, now_wall, count_max)
        return found._replace(instants=[]) if next(count) % 3 == 0 else found

    setattr(schedules, "firing", fire)  # noqa: B010


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "leases-by-wall": leases_by_wall,
    "nobody-looks": nobody_looks,
    "ids-by-clock": ids_by_clock,
    "instants-again": instants_again,
    "instants-forgotten": instants_forgotten,
    "payloads-unchecked": payloads_unchecked,
    "bodies-kept": bodies_kept,
    "refused-too-late": refused_too_late,
    "nan-forgotten": nan_forgotten,
    "lengths-unseen": lengths_unseen,
    "raw-errors": raw_errors,
    "nobody-owns": nobody_owns,
}


if __name__ == "__main__":
    PLANTS[sys.argv.pop(1)]()
    runpy.run_module("lmdbq", run_name="__main__", alter_sys=True)
