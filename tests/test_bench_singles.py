"""The profile of single requests: its page is that of its facts, every layer answers, and its bounds are right."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bench import __main__ as command
from bench import singles
from bench.singles import Cost


def test_the_page_is_that_of_the_committed_facts():
    facts = json.loads(singles.FACTS.read_text(encoding="utf-8"))
    assert singles.page(facts) == singles.PAGE.read_text(encoding="utf-8")
    assert list(facts["layers"]) == [layer.name for layer in singles.LAYERS]


def test_every_layer_answers_and_is_a_row_of_the_page():
    ended = CliRunner().invoke(command.main, ["profile", "singles", "--rounds", "1", "--seconds", "0.1"])
    assert ended.exit_code == 0, ended.output
    for layer in singles.LAYERS:
        assert f"| {layer.name} | " in ended.output or (layer.name in singles.REDIS and singles.absent_server())
    assert "by processor time: " in ended.output


@pytest.mark.parametrize(
    ("server", "callers", "cores", "rate"),
    [(100.0, 20.0, 2, 10_000), (20.0, 100.0, 2, 10_000), (100.0, 100.0, 1, 5_000)],
)
def test_a_rate_is_bounded_by_the_server_its_callers_and_all_cores(
    server: float, callers: float, cores: int, rate: float
):
    assert Cost(server - 5, 5.0, callers, 0.0).most(cores) == pytest.approx(rate)
