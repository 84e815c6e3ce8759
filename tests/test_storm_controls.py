"""The negative controls as a command: it knows every fault, and blames what is not found."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from lmdbq.cli.storm_controls import command
from lmdbq.storm import controls, kill_plants, planted, planted_daemon, sim_plants, soak
from lmdbq.storm.controls import CONTROLS, TRIES, Control
from lmdbq.storm.report import Report


def names(*of: str) -> set[str]:
    return {control.plant for control in CONTROLS if control.storm in of}


def test_every_fault_that_can_be_put_in_is_tried():
    assert names("kill") == set(kill_plants.PLANTS)
    assert names("power-cut") == set(planted.PLANTS)
    assert names("simulate") == set(sim_plants.PLANTS) - {""}
    assert names("soak") == set(soak.PLANTS)
    assert names("fail-call")
    assert names("clock", "hostile", "foreign") == set(planted_daemon.PLANTS)


def test_what_is_not_found_is_blamed_and_what_is_found_once_is_found():
    asked: list[str] = []

    def blind(seed: str) -> Report:
        asked.append(seed)
        return Report("some", seed, "runs", tried=1)

    def sees_the_second(seed: str) -> Report:
        return Report("some", seed, "runs", tried=1, faulty=int(seed.endswith("-1")))

    def silence(*_: Any) -> None:
        return

    report = controls.run("s", silence, [Control("some", "unseen", blind), Control("some", "seen", sees_the_second)])
    assert (report.tried, report.faulty, report.figures) == (2, 1, {"found by some": 1})
    assert [fault.where for fault in report.faults] == ["some --plant unseen"]
    assert asked == [f"s-{number}" for number in range(TRIES)]
    assert not any("/" in seed for seed in asked), "a simulation would take that for one run of many"


def test_the_command_runs_the_faults_of_one_storm(monkeypatch: pytest.MonkeyPatch):
    found = Control("some", "seen", lambda seed: Report("some", seed, "runs", tried=1, faulty=1))
    unseen = Control("other", "unseen", lambda seed: Report("other", seed, "runs", tried=1))
    monkeypatch.setattr(controls, "CONTROLS", (found, unseen))
    arguments = ["--seed", "of the tests", "--only"]
    ended = CliRunner().invoke(command, [*arguments, "some"], standalone_mode=False)
    assert (ended.return_value, "found by some 1" in ended.output) == (0, True)
    ended = CliRunner().invoke(command, [*arguments, "other"], standalone_mode=False)
    assert (ended.return_value, "other --plant unseen" in ended.output) == (1, True)
    ended = CliRunner().invoke(command, [*arguments, "nothing"])
    assert (ended.exit_code, "some, other" in ended.output) == (2, True)
