"""Single system calls fail, and no answer is wrong; a session that takes a failed commit for a good one is found."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from lmdbq.storm import fail_runs
from lmdbq.storm.child import EXIT_REFUSED, EXIT_UNKNOWN, GO_ON
from lmdbq.storm.fail_call import Failure, Reference, disturb, reference, shuffled

STEPS = 40


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return reference("of the tests", "full", tmp_path_factory.mktemp("reference"), STEPS)


def first(undisturbed: Reference, call: str, how: str, nth: int = 0) -> Failure:
    """Return the n-th such call on the main file: what fails on that of the extensions is got over."""
    found = [failure for failure in undisturbed.failures if (failure.call, failure.how) == (call, how)]
    return [failure for failure in found if "/leases-" not in failure.shown][nth]


def test_every_kind_of_call_is_there_to_fail(undisturbed: Reference):
    ways = Counter(failure.call for failure in undisturbed.failures)
    assert {"pwrite64", "writev", "fdatasync", "fsync", "fallocate", "openat", "link", "mkdir"} <= set(ways)
    assert ways["fdatasync"] > STEPS / 2
    assert {failure.how for failure in undisturbed.failures} == {"EIO", "ENOSPC", "short"}
    assert undisturbed.ledger.contradictions() == []


@pytest.mark.parametrize(
    "way", [("pwrite64", "EIO"), ("writev", "short"), ("fdatasync", "EIO"), ("fdatasync", "ENOSPC")]
)
def test_a_commit_that_fails_stops_the_session(undisturbed: Reference, way: tuple[str, str], tmp_path: Path):
    ended = disturb(undisturbed, first(undisturbed, *way, nth=5), tmp_path)
    assert ended.problems == []
    assert ended.status == EXIT_UNKNOWN


def test_a_store_that_cannot_be_made_is_refused_and_can_be_made_later(undisturbed: Reference, tmp_path: Path):
    ended = disturb(undisturbed, first(undisturbed, "fsync", "EIO"), tmp_path)
    assert (ended.status, ended.problems) == (EXIT_REFUSED, [])


def test_a_disk_without_room_refuses_and_goes_on(undisturbed: Reference, tmp_path: Path):
    last_fallocate = first(undisturbed, "fallocate", "ENOSPC", nth=-1)
    ended = disturb(undisturbed, last_fallocate, tmp_path)
    assert (ended.status, ended.problems) == (0, [])


def test_the_first_few_failures_show_something_of_every_call(undisturbed: Reference):
    ways = {(failure.call, failure.how) for failure in undisturbed.failures}
    few = shuffled(undisturbed, random.Random(3))[: len(ways)]
    assert {(failure.call, failure.how) for failure in few} == ways
    assert shuffled(undisturbed, random.Random(3))[: len(ways)] == few


def test_a_run_adds_up():
    report = fail_runs.run("adds up", lambda done, of, event: None, 6, steps=20)
    assert report.passed, report.faults
    assert report.tried == 6
    assert sum(report.figures.values()) == 6


def test_a_session_that_takes_a_failed_commit_for_a_good_one_is_found():
    report = fail_runs.run("goes on", lambda done, of, event: None, 40, steps=STEPS, plant=GO_ON)
    assert report.faulty > 0
    assert any("is lost" in problem or "is back" in problem for fault in report.faults for problem in fault.problems)
