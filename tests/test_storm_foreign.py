"""What others do to the file ends as the docs say, row by row; planted faults are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmdbq.storm import foreign
from lmdbq.storm.report import Report

PAGE = Path(__file__).parent.parent / "packaging/docs/pages/guide/file.md"


def storm(seed: str, *names: str, plant: str = "") -> Report:
    wanted = names or tuple(foreign.CASES)
    return foreign.run(
        seed, lambda done, of, event: None, 1, hold_seconds=1.0, plant=plant, cases=lambda name: name in wanted
    )


def said(report: Report) -> str:
    return "\n".join(problem for fault in report.faults for problem in fault.problems)


def test_each_case_once():
    report = storm("of the tests")
    assert report.passed, said(report)
    assert report.tried == len(foreign.CASES)
    assert report.figures["found damaged"] > 0


def test_the_page_has_a_row_for_each_case_and_none_besides():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert [row for row in rows if row] == list(foreign.CASES)


@pytest.mark.parametrize(
    ("plant", "case", "found"),
    [
        ("lengths-unseen", "cuts it off", "lmdbq serve ended with -7"),
        ("raw-errors", "flips a bit", "Error: mdb_"),
        ("nobody-owns", "starts a second daemon", "second daemon"),
    ],
)
def test_a_planted_fault_is_found(plant: str, case: str, found: str):
    assert found in said(storm("planted", case, plant=plant))
