"""Hostile requests are refused and change nothing, and bad connections harm nobody; planted faults are found."""

from __future__ import annotations

import json
from contextlib import suppress

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
    ("plant", "bodies", "found"),
    [
        ("payloads-unchecked", 6_000, "page of tasks as application/json is broken"),  # if no other body has deleted it
        ("bodies-kept", 3_000, "the daemon has grown"),
        ("refused-too-late", 2_000, "are counted"),
        ("nan-forgotten", 2_000, "answered 500"),
    ],
)
def test_a_planted_fault_is_found(plant: str, bodies: int, found: str):
    report = storm("planted", bodies, connections=0, examples=0, plant=plant)
    assert found in said(report)


def test_a_body_of_a_seed_is_the_same_again_whatever_is_known_by_then():
    begun, later = Known(), Known()
    later.learn(["tsk_0000000000A"] * 150, ["tsk_0000000000A.1"] * 90)
    for number in range(300):
        assert body(f"again/{number}", begun) == body(f"again/{number}", later)


def test_of_two_values_under_one_key_the_first_may_be_the_hostile_one():
    differing = 0
    for number in range(2_000):
        with suppress(ValueError, RecursionError):
            outer = json.loads(body(f"twice/{number}", Known()).data, object_pairs_hook=list)
            names = [pair[0] for pair in outer] if isinstance(outer, list) and is_object(outer) else []
            half = len(names) // 2
            differing += half > 0 and names[:half] == names[half:] and outer[:half] != outer[half:]
    assert differing > 5


def is_object(outer: list[object]) -> bool:
    return all(isinstance(pair, tuple) for pair in outer)
