"""The clock storm: the daemon's wall clock is set, its process stopped and booted, under parties who must not notice.

The kinds of step come in an order of the seed, each once before any comes again. A boot with last year's date is a new
process with a new boot id (where this user may put one over the kernel's), and the date is put right a little later, as
on a machine without a battery for its clock. A suspended machine is a process that was stopped and finds the wall clock
ahead: the steady clock of Linux does not go on meanwhile. Another kind stops the process for true seconds.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from lmdbq.storm.clock_cron import Cron
from lmdbq.storm.clock_parties import Leases, Timed
from lmdbq.storm.clock_rig import Rig, Stalls, run_parties
from lmdbq.storm.fake_clock import WallClock
from lmdbq.storm.planted_daemon import PLANTS
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory
from lmdbq.storm.served import Served, ending

HOUR: Final = 3_600.0
DAY: Final = 86_400.0
YEAR: Final = 365 * DAY
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_QUIET_SHARE: Final = 0.5  # of those steps that may come when nobody else writes
_MAY_BE_QUIET: Final = ("an hour back", "two hours ahead", "a day ahead", "a day back", "suspended")
_SETTLE_SECONDS: Final = (1.8, 2.6)  # after each step: lateness of a second must show


class ClockStorm:
    """One daemon and what is done to it."""

    def __init__(self, rig: Rig, directory: Path, seed: str) -> None:
        self._rig = rig
        self._boot_id = directory / "boot_id"
        self._chosen = random.Random(f"{seed}/steps")
        self._can_boot = _namespaces_work()

    def start(self) -> None:
        """Start the daemon for the first time."""
        self._rig.served.before = self._new_boot()
        self._rig.start(new_boot=True)

    def steps(self, kinds: Sequence[str]) -> Iterator[str]:
        """Take one step after the other, for ever; yield its kind once it has had its effect."""
        time.sleep(_SETTLE_SECONDS[0])
        while True:
            for kind in self._chosen.sample(kinds, len(kinds)):
                quiet = kind in _MAY_BE_QUIET and self._chosen.random() < _QUIET_SHARE
                with self._rig.quiet() if quiet else nullcontext():
                    KINDS[kind](self)
                    time.sleep(self._chosen.uniform(*_SETTLE_SECONDS))
                yield kind

    def all_has_come(self) -> None:
        """Set the clock ahead of every instant that was asked for."""
        self._rig.wall.step(2 * YEAR)

    # --- the kinds ---

    def hour_back(self) -> None:
        self._rig.wall.step(-HOUR)

    def two_hours_ahead(self) -> None:
        self._rig.wall.step(2 * HOUR)

    def day_ahead(self) -> None:
        self._rig.wall.step(DAY)

    def day_back(self) -> None:
        self._rig.wall.step(-DAY)

    def suspended(self) -> None:
        self._stopped(0.2, HOUR)

    def stopped(self) -> None:
        self._stopped(2.5, 0.0)

    def _stopped(self, seconds: float, ahead: float) -> None:
        with self._rig.changing():
            self._rig.served.send(signal.SIGSTOP)
            self._rig.wall.unseen()
            time.sleep(seconds)
            self._rig.wall.step(ahead)
            self._rig.wake()
            self._rig.served.send(signal.SIGCONT)

    def killed(self) -> None:
        with self._rig.changing():
            self._rig.served.kill()
            self._rig.wall.unseen()
            self._rig.start()

    def booted_last_year(self) -> None:
        with self._rig.changing():
            self._rig.served.stop() if self._chosen.random() < 0.5 else self._rig.served.kill()
            self._rig.wall.unseen()
            self._rig.wall.step(-YEAR)
            self._rig.served.before = self._new_boot()
            self._rig.start(new_boot=True)
        time.sleep(self._chosen.uniform(*_SETTLE_SECONDS))
        self._rig.wall.step(YEAR)

    def _new_boot(self) -> tuple[str, ...]:
        """Return the words that let a command see a boot id of its own."""
        if not self._can_boot:
            return ()
        self._rig.count("boots")
        self._boot_id.write_text(f"{uuid.UUID(int=self._chosen.getrandbits(128))}\n", encoding="ascii")
        return _over_boot_id(self._boot_id)


KINDS: Final[dict[str, Callable[[ClockStorm], None]]] = {
    "an hour back": ClockStorm.hour_back,
    "two hours ahead": ClockStorm.two_hours_ahead,
    "a day ahead": ClockStorm.day_ahead,
    "a day back": ClockStorm.day_back,
    "suspended": ClockStorm.suspended,
    "stopped": ClockStorm.stopped,
    "killed": ClockStorm.killed,
    "booted with last year's date": ClockStorm.booted_last_year,
}


def run(
    seed: str,
    tell: Tell,
    steps_max: int = 0,
    minutes: float = 0.0,
    *,
    plant: str = "",
    kinds: Sequence[str] = tuple(KINDS),
) -> Report:
    """Take ``steps_max`` steps, or as many as fit into ``minutes``.

    plant: a name of planted_daemon.PLANTS, or "". Raises trace.Unclear, KeyError (plant).
    """
    if plant and plant not in PLANTS:
        raise KeyError(plant)
    report = Report("clock", seed, "steps")
    with scratch_directory() as scratch, WallClock(scratch) as wall:
        served = Served(scratch / "data", environment=wall.environment(), plant=plant)
        stalls = Stalls(lambda: served.pid if served.is_alive else 0)
        rig = Rig(served, wall, report, stalls)
        storm = ClockStorm(rig, scratch, seed)
        until = time.monotonic() + minutes * 60 if minutes else None
        with stalls, ending(served):
            storm.start()
            run_parties(
                rig,
                [Timed(rig, seed), Leases(rig, seed), Cron(rig)],
                lambda: _take_steps(storm, rig, report, tell, kinds, steps_max, until),
                storm.all_has_come,
            )
            if status := served.stop():
                rig.blame(f"the daemon ended with status {status}: {served.log[-500:]}")
            for line in served.violations():
                rig.blame(f"lmdbq check: {line}")
    return report


def _take_steps(
    storm: ClockStorm,
    rig: Rig,
    report: Report,
    tell: Tell,
    kinds: Sequence[str],
    steps_max: int,
    until: float | None,
) -> None:
    started = time.monotonic()
    for kind in storm.steps(kinds):
        report.tried = rig.step_no = report.tried + 1
        report.seconds = time.monotonic() - started
        tell(report.tried, steps_max, kind)
        if report.tried == steps_max or (until is not None and time.monotonic() > until):
            return


def _over_boot_id(path: Path) -> tuple[str, ...]:
    bind = f'mount --bind {path} {BOOT_ID} && exec "$@"'
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", bind, "sh")


def _namespaces_work() -> bool:
    """Whether this user may give a process another boot id."""
    if shutil.which("unshare") is None:
        return False
    probe = (*_over_boot_id(Path("/dev/null")), "true")
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
