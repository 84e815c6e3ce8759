"""What every test file gets: the stores, Hypothesis profiles, and the rule that a skipped test is no passed test.

Profiles: ``default`` for a run at the desk; ``ci`` when CI is set, the same examples each time; ``storm`` when
LMDBQ_STORM=1, for a night. When CI is set, a skip counts as a failure: a missing tool must not look like a green run.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lmdbq.clock import ManualClock
from tests.store_driver import Driver
from tests.store_factories import FACTORIES

IN_CI = bool(os.environ.get("CI"))
SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=SLOW_MACHINE)
settings.register_profile("ci", settings.get_profile("default"), max_examples=150, derandomize=True, print_blob=True)
settings.register_profile("storm", settings.get_profile("default"), max_examples=5_000, print_blob=True)
settings.load_profile("storm" if os.environ.get("LMDBQ_STORM") == "1" else "ci" if IN_CI else "default")


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure when CI is set: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


collect_ignore = ["typing_wrong.py"]  # it is for type checkers to refuse, and cannot even be imported


@pytest.fixture(params=FACTORIES)
def q(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """An empty store of each kind in turn, with a clock that stands still; checked when the test is over."""
    store = FACTORIES[request.param](tmp_path / "store")
    yield Driver(store, ManualClock())
    assert store.check() == []
    store.close()
