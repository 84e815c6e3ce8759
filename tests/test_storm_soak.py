"""The soak: a daemon that leaks, a file that grows and a lease that is lost are found; without them all is well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lmdbq.limits import SECOND_NS
from lmdbq.storm import soak
from lmdbq.storm.plateau import MB, SAMPLES_MIN, Sample, problems

FLAT = Sample(anonymous_bytes=40 * MB, descriptors=20, file_bytes=60 * MB, written_bytes=50 * MB, used_bytes=40 * MB)

HOUR = 60.0


def ignore(*_: object) -> None:
    return


def test_what_goes_up_and_down_is_flat_and_what_was_warm_once_is_flat():
    swinging = [FLAT._replace(used_bytes=(5 + n % 36) * MB, descriptors=20 + n % 3) for n in range(200)]
    warm = [FLAT._replace(anonymous_bytes=min(20 + n, 60) * MB, file_bytes=min(n, 60) * MB) for n in range(200)]
    assert problems(swinging, HOUR) == []
    assert problems(warm, HOUR) == []


@pytest.mark.parametrize(
    ("field", "per_sample", "said"),
    [("anonymous_bytes", MB // 10, "memory"), ("file_bytes", MB // 4, "the file"), ("descriptors", 1, "descriptors")],
)
def test_what_leaks_is_found(field: str, per_sample: int, said: str):
    leaking = [FLAT._replace(**{field: getattr(FLAT, field) + n * per_sample}) for n in range(200)]
    [problem] = problems(leaking, HOUR)
    assert problem.startswith(f"{said} grows: ")


@pytest.mark.parametrize(("minutes", "found"), [(1.0, 0), (60.0, 1)])
def test_what_a_swing_may_be_in_a_minute_is_a_leak_in_an_hour(minutes: float, found: int):
    higher = [FLAT._replace(anonymous_bytes=(50 if n < 150 else 57) * MB) for n in range(200)]
    assert len(problems(higher, minutes)) == found


def test_a_leak_is_found_in_a_minute_if_it_is_large():
    leaking = [FLAT._replace(anonymous_bytes=40 * MB + n * MB // 5) for n in range(200)]
    assert "memory grows" in problems(leaking, 1.0)[0]


def test_a_file_that_holds_too_little_is_found_though_it_is_flat():
    [problem] = problems([FLAT._replace(written_bytes=90 * MB)] * 100, HOUR)
    assert "never had more than 40.0 MB to hold" in problem
    [problem] = problems([FLAT._replace(file_bytes=300 * MB)] * 100, HOUR)
    assert "the file has 300.0 MB" in problem


def test_too_few_samples_prove_nothing():
    [problem] = problems([FLAT] * (SAMPLES_MIN - 1), HOUR)
    assert "too few" in problem


def test_a_daemon_under_churn_stays_as_it_is_and_no_short_lease_is_lost():
    report = soak.run("of the tests", ignore, 1.25, 200_000)
    assert report.passed, report.faults
    assert report.figures["imported"] == 200_000
    assert report.figures["short leases kept"] >= 2 * soak.KEPT_AT_ONCE
    for churned in ("enqueued", "succeeded", "failed", "lapsed", "expired"):
        assert report.figures[churned] > 0
    assert report.tried >= SAMPLES_MIN


def test_what_they_waited_lately_is_what_may_have_cost_a_lease():
    waits = soak.Waits()
    assert waits.lately(10.0, 5 * SECOND_NS) == 0
    for at in (10.5, 11.0, 11.5, 12.0):
        assert waits.lately(at, 6 * SECOND_NS) == 1, "a lease and a look ago"
    assert waits.lately(14.1, 6 * SECOND_NS) == 0
    for at in (20.0, 30.0):
        assert waits.lately(at, 8 * SECOND_NS) == 2, "with looks that are far apart, the last few"
    assert waits.lately(40.0, 8 * SECOND_NS) == 0


def test_what_a_queue_did_before_it_was_deleted_counts():
    one = soak.Soak("of the tests", ignore, cast(Any, None), "")
    for totals in ({"enqueued": 5}, {"enqueued": 8}, {}, {"enqueued": 2}, {"enqueued": 1}):
        one.count_churned(cast(Any, SimpleNamespace(totals=lambda queue, now=totals: now)))
    assert one.report.figures["enqueued"] == soak.CHURNERS * (8 + 2 + 1)


def test_a_worker_that_extends_no_lease_is_found():
    report = soak.run("of the tests", ignore, 0.4, 0, plant="forget-leases")
    assert any("of 2 s w" in problem for fault in report.faults for problem in fault.problems)


def test_a_reader_that_never_ends_is_found_by_the_file_that_grows():
    report = soak.run("of the tests", ignore, 0.5, 0, plant="pin-a-reader")
    assert [fault.where for fault in report.faults] == ["the churn"]
    assert any("never had more than" in problem for problem in report.faults[0].problems)


def test_a_fault_that_is_not_there_cannot_be_put_in():
    with pytest.raises(KeyError):
        soak.run("of the tests", ignore, 0.1, 0, plant="nothing")
