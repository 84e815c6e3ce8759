"""Time as an argument: what a clock is, the system's, and one that tests advance by hand.

Two times are kept apart. *Wall* time is what people give and read (schedules, expiry, retention); it follows every
step of the system clock. *Steady* time never steps and is one value for all processes of a boot; leases live in it.
A steady reading means something only together with its boot, so the store numbers the boots it has seen (``boot_no``).
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import NamedTuple, Protocol

from lmdbq.limits import US_NS


class Now(NamedTuple):
    """One reading of the clock, the same for every call of a transaction.

    wall: Unix nanoseconds, whole microseconds. steady: nanoseconds since this boot. boot_no: number of the boot, in
    the file, rising with each boot that writes to it.
    """

    wall: int
    steady: int
    boot_no: int


def whole_us(instant_ns: int) -> int:
    """Return an instant rounded down to a whole microsecond, as every instant that is shown is."""
    return instant_ns - instant_ns % US_NS


class Clock(Protocol):
    """What the store and the engine ask for the time."""

    def wall_ns(self) -> int:
        """Unix time in nanoseconds, rounded down to a whole microsecond."""
        ...

    def steady_ns(self) -> int:
        """Nanoseconds of a clock that never steps, shared by all processes of a boot."""
        ...

    def boot_id(self) -> str:
        """A word that is the same for all processes of a boot and never comes again."""
        ...


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Without a boot id each process counts as a boot of its own: leases are re-armed more often, never lost.
        return uuid.uuid4().hex


class SystemClock:
    """The machine's clock: ``time.time_ns`` and ``time.monotonic_ns``."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    def wall_ns(self) -> int:
        now = time.time_ns()
        return now - now % US_NS

    def steady_ns(self) -> int:
        return time.monotonic_ns()

    def boot_id(self) -> str:
        return self._boot_id


class ManualClock:
    """A clock for tests: both times move only by ``advance``; ``step`` moves wall time alone; ``reboot`` restarts.

    >>> clock = ManualClock(wall=10**18)
    >>> clock.advance(2.5); clock.wall_ns() - 10**18
    2500000000
    """

    def __init__(self, wall: int = 1_700_000_000_000_000_000, steady: int = 1_000_000_000_000) -> None:
        self._wall = wall
        self._steady = steady
        self._boots = 1

    def wall_ns(self) -> int:
        return self._wall

    def steady_ns(self) -> int:
        return self._steady

    def boot_id(self) -> str:
        return f"boot-{self._boots}"

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` (>= 0) pass on both clocks."""
        passed = round(seconds * 1_000_000) * US_NS
        self._wall += passed
        self._steady += passed

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back by ``seconds``; steady time stays."""
        self._wall += round(seconds * 1_000_000) * US_NS

    def reboot(self) -> None:
        """Begin a new boot: a new boot id, and a steady clock that starts near zero again."""
        self._boots += 1
        self._steady = 1_000_000_000
