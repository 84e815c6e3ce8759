"""The negative controls: every fault that can be put in on purpose, and the storm that must find it.

A storm that finds nothing proves something only if it finds what is there. So each storm is run, short, with each of
its faults; what it does not find in TRIES runs is blamed.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from lmdbq.storm import (
    clock_steps,
    fail_runs,
    foreign,
    hostile,
    kill,
    kill_plants,
    planted,
    power_cut,
    sim_plants,
    simulate,
    soak,
)
from lmdbq.storm.child import GO_ON
from lmdbq.storm.report import Report, Tell

TRIES: Final = 3


class Control(NamedTuple):
    """A storm, a fault, and a short run of the storm with it, given a seed."""

    storm: str
    plant: str
    run: Callable[[str], Report]


def _silence(*_: Any) -> None:
    return


def _kill(plant: str) -> Control:
    return Control("kill", plant, lambda seed: kill.run(seed, _silence, 30, plant=plant))


def _power_cut(plant: str) -> Control:
    return Control("power-cut", plant, lambda seed: power_cut.run(seed, _silence, 60, steps=120, plant=plant))


def _clock(plant: str, kind: str) -> Control:
    return Control("clock", plant, lambda seed: clock_steps.run(seed, _silence, 1, plant=plant, kinds=(kind,)))


def _hostile(plant: str) -> Control:
    return Control(
        "hostile", plant, lambda seed: hostile.run(seed, _silence, 3_000, connections=0, examples=0, plant=plant)
    )


def _foreign(plant: str, case: str) -> Control:
    return Control(
        "foreign",
        plant,
        lambda seed: foreign.run(seed, _silence, 1, hold_seconds=1.0, plant=plant, cases=lambda name: name == case),
    )


def _simulate(plant: str) -> Control:
    return Control("simulate", plant, lambda seed: simulate.run(seed, _silence, 60_000, plant=plant))


def _soak(plant: str) -> Control:
    return Control("soak", plant, lambda seed: soak.run(seed, _silence, 0.5, 0, plant=plant))


CONTROLS: Final = (
    *(_kill(plant) for plant in kill_plants.PLANTS),
    *(_power_cut(plant) for plant in planted.PLANTS),
    Control("fail-call", GO_ON, lambda seed: fail_runs.run(seed, _silence, 40, steps=40, plant=GO_ON)),
    _clock("leases-by-wall", "a day ahead"),
    _clock("nobody-looks", "two hours ahead"),
    _clock("ids-by-clock", "an hour back"),
    _clock("instants-again", "stopped"),
    _clock("instants-forgotten", "stopped"),
    *(_hostile(plant) for plant in ("payloads-unchecked", "bodies-kept", "refused-too-late", "nan-forgotten")),
    _foreign("lengths-unseen", "cuts it off"),
    _foreign("raw-errors", "flips a bit"),
    _foreign("nobody-owns", "starts a second daemon"),
    *(_simulate(plant) for plant in sim_plants.PLANTS if plant),
    *(_soak(plant) for plant in soak.PLANTS),
)


def run(seed: str, tell: Tell, controls: Iterable[Control] = CONTROLS) -> Report:
    """Put in one fault after the other. Raises trace.Unclear if one of the storms cannot be run here."""
    report = Report("controls", seed, "faults put in")
    wanted = tuple(controls)
    started = time.monotonic()
    for control in wanted:
        tell(report.tried, len(wanted), f"{control.storm} --plant {control.plant}")
        if _is_found(control, seed):
            report.count(f"found by {control.storm}")
        else:
            report.blame(f"{control.storm} --plant {control.plant}", [f"not found in {TRIES} runs"])
        report.tried += 1
        report.seconds = time.monotonic() - started
    return report


def _is_found(control: Control, seed: str) -> bool:
    # Not SEED/2: that is a single run of a simulation.
    return any(_finds(control, f"{seed}-{number}") for number in range(TRIES))


def _finds(control: Control, seed: str) -> bool:
    try:
        return not control.run(seed).passed
    except subprocess.TimeoutExpired:
        return True  # a process that should have ended at once, and did not, is a fault that was seen
