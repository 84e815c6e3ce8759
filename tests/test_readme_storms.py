"""The README's table of promises: each names a command that exists, and each storm has its line in the report."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from lmdbq.bench.suites import SUITES
from lmdbq.cli.main import cli
from lmdbq.storm import results
from tests.test_storm_results import RECORDED, RENDERED

README = Path(__file__).resolve().parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .+ \| `lmdbq (storm|bench) ([\w-]+)` \|$", TEXT, re.MULTILINE)


def test_the_table_is_found_and_the_report_is_linked():
    assert len(ROWS) >= 5
    assert f"]({RENDERED.relative_to(README.parent)})" in TEXT


@pytest.mark.parametrize(("group", "name"), ROWS)
def test_a_promise_names_a_command_that_exists(group: str, name: str):
    found = cli.get_command(click.Context(cli), group)
    assert isinstance(found, click.Group)
    assert found.get_command(click.Context(found), name) is not None
    assert group == "storm" or name in SUITES


def test_every_storm_that_is_named_has_its_line_and_every_line_is_named():
    named = {name for group, name in ROWS if group == "storm"}
    assert {line.storm for line in results.read(RECORDED)} == named
