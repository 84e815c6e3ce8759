"""The daemon with a fault that was put into it: ``python -m lmdbq.storm.planted_daemon PLANT serve ...``.

Storms that look at the daemon from outside must find each of these, or they prove nothing. Each is one function made
wrong in a way that a person might.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from typing import Final

from lmdbq import clock, limits
from lmdbq.engine import timers
from lmdbq.ids import ID_COUNTER_BITS
from lmdbq.store import lmdb_ops_enqueue


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


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "leases-by-wall": leases_by_wall,
    "nobody-looks": nobody_looks,
    "ids-by-clock": ids_by_clock,
}


if __name__ == "__main__":
    PLANTS[sys.argv.pop(1)]()
    runpy.run_module("lmdbq", run_name="__main__", alter_sys=True)
