"""The storm of kills: a daemon, producers, workers and a library user on one file; SIGKILL of any of them, again and
again, at random moments; and then a judge who knows only what they wrote down.

A round (``kill_round``) is one file and KILLS_PER_ROUND kills, with durability ``full`` and ``batch`` by turns. Most of
it is waiting: for somebody to begin, for a pause to end, for a lease to lapse. So several are played side by side, each
in a lane (``kill_lanes``). What a round asks follows from the seed and its number, whatever lane it is in.

The trap: each lane adds its load to the machine, and nobody may be blamed for that. So a lane looks by itself how long
it was given no time, and its rounds are judged by that.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Final

from lmdbq.demo.children import Interrupts
from lmdbq.storm.kill_lanes import Lanes, Part
from lmdbq.storm.kill_plants import PLANTS
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory

KILLS_PER_ROUND: Final = 100
DURABILITIES: Final = ("full", "batch")
LANES: Final = 3


def run(seed: str, tell: Tell, kills_max: int, minutes: float = 0.0, *, plant: str = "", lanes: int = LANES) -> Report:
    """Kill ``kills_max`` times; or, if ``minutes`` are given, as often as fits into them.

    plant: the name of a fault of ``kill_plants.PLANTS``. lanes: how many rounds are played side by side. Raises
    KeyError (plant), KeyboardInterrupt.
    """
    if plant and plant not in PLANTS:
        raise KeyError(plant)
    report = Report("kill", seed, "kills")
    started = time.monotonic()
    until = started + minutes * 60 if minutes else None
    of = 0 if until else kills_max
    number = lanes if until else min(lanes, math.ceil(kills_max / KILLS_PER_ROUND))
    with Interrupts() as interrupts, scratch_directory() as scratch, Lanes(number, scratch, plant) as rounds:
        for event in rounds.play(_parts(seed, kills_max, until), interrupts):
            if isinstance(event, Report):
                report.add(event)
            report.seconds = time.monotonic() - started
            tell(report.tried + rounds.killed, of, event if isinstance(event, str) else "")
    return report


def _parts(seed: str, kills_max: int, until: float | None) -> Iterator[Part]:
    """Yield the rounds of a storm."""
    for number in itertools.count():
        left = KILLS_PER_ROUND if until else kills_max - number * KILLS_PER_ROUND
        if left <= 0 or (until is not None and time.monotonic() > until):
            return
        durability = DURABILITIES[number % len(DURABILITIES)]
        yield Part(f"{seed}/{number}", str(number), durability, min(left, KILLS_PER_ROUND), until)
