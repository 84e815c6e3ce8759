"""What every test file gets: the stores, Hypothesis profiles, and the rule that a skipped test is no passed test.

Profiles: ``default`` for a run at the desk; ``ci`` when CI is set, the same examples each time; ``storm`` when
LMDBQ_STORM=1, for a night. When CI is set, a skip counts as a failure: a missing tool must not look like a green run.

A test gives up what it has opened: one that leaves a store open in this process fails, whatever it was that it tested.
LMDB wants each file open but once in a process, and later tests count what is open.

Files of tests are in memory, where there is some: a sync is asked for as on a disk, but nobody waits for one. On a disk
the suite waits for it most of the time. What a failing disk may do is the storms' matter. TMPDIR, if set, holds.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Set
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lmdbq.clock import ManualClock
from tests.store_driver import Driver
from tests.store_factories import FACTORIES

IN_CI = bool(os.environ.get("CI"))
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 << 30  # that must be free; a run needs about a quarter of it
LONGEST = (
    "test_storm_clock",
    "test_storm_foreign",
    "test_storm_soak",
    "test_storm_kill",
    "test_storm_simulate",
    "test_storm_hostile",
    "test_store_agreement",
    "test_file_commit",
    "test_file_full",
    "test_storm_power_cut",
    "test_bench",
    "test_cli_daemon",
    "test_planted_bugs",
    "test_bench_peers",
)
CLOSING_SECONDS = 60.0  # until a store must be closed that was given up by itself; a hang is longer
SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=SLOW_MACHINE)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("storm", settings.get_profile("default"), max_examples=5_000, print_blob=True)
settings.load_profile("storm" if os.environ.get("LMDBQ_STORM") == "1" else "ci" if IN_CI else "default")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `pytest &`; the processes of tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


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


def _open_stores() -> dict[int, str]:
    """Return the directories that are open in this process; those of clients with the word of who has them open."""
    found: dict[int, str] = {}
    if (stores := sys.modules.get("lmdbq.store.environment")) is not None:
        found |= {id(one): str(one.directory) for one in tuple(stores._shared.values())}
    if (clients := sys.modules.get("lmdbq.client.embedded_file")) is not None:
        found |= {id(one): f"{one.directory}, by a client" for one in tuple(clients._open.values())}
    return found


_OPEN_BEFORE = pytest.StashKey[Set[int]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[_OPEN_BEFORE] = _open_stores().keys()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that leaves a store open. What nobody refers to any more is closed beside us: that is waited for."""
    yield
    until = time.monotonic() + CLOSING_SECONDS
    while left := [what for one, what in _open_stores().items() if one not in item.stash[_OPEN_BEFORE]]:
        assert not any("by a client" in what for what in left), f"left open: {left}"
        assert time.monotonic() < until, f"left open: {left}"
        time.sleep(0.01)


collect_ignore = ["typing_wrong.py"]  # it is for type checkers to refuse, and cannot even be imported


@pytest.fixture(params=FACTORIES)
def q(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """An empty store of each kind in turn, with a clock that stands still; checked when the test is over."""
    store = FACTORIES[request.param](tmp_path / "store")
    yield Driver(store, ManualClock())
    assert store.check() == []
    store.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take longest begin first, so that no process is left with one when the others have ended."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes ``-n auto`` means: one more than there are cores, for tests wait for others, too."""
    return min(len(os.sched_getaffinity(0)) + 1, 8)
