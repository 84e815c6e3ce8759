"""Hostile requests are refused and change nothing, and bad connections harm nobody; planted faults are found."""

from __future__ import annotations

import pytest

from lmdbq.storm import hostile
from lmdbq.storm.hostile_bodies import Known, body
from lmdbq.storm.report import Report


def storm(seed: str, bodies: int, **more: object) -> Report:
    return hostile.run(seed, lambda done, of, event: None, bodies, **more)  # type: ignore[arg-type]


def said(report: Report) -> str:
    return "\n".join(problem for fault in report.faults for problem in fault.problems)


def test_bodies_and_connections():
    report = storm("of the tests", 10_000, connections=1_000, examples=0)
    assert report.passed, said(report)
    assert report.figures["2xx"] > 500
    assert report.figures["4xx"] > 5_000
    assert report.figures["parked waiters"] == 1_000
    assert report.figures["pages read"] > 10


def test_what_the_schema_allows():
    report = storm("1", 1, connections=0, examples=1)
    assert report.passed, said(report)
    assert report.figures["requests by the schema"] > 1_000


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        ("payloads-unchecked", "page of tasks as application/json is broken"),
        ("bodies-kept", "the daemon has grown"),
        ("refused-too-late", "are counted"),
        ("nan-forgotten", "answered 500"),
    ],
)
def test_a_planted_fault_is_found(plant: str, found: str):
    report = storm("planted", 3_000 if plant == "bodies-kept" else 2_000, connections=0, examples=0, plant=plant)
    assert found in said(report)


def test_a_body_of_a_seed_is_the_same_again():
    known = Known()
    for number in range(200):
        assert body(f"again/{number}", known) == body(f"again/{number}", known)
