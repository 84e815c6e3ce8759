"""The peers of the benchmark do what their adapters say: each that is installed is started and loaded for a moment, the
runner compares what it acknowledged with what it holds, and its syncs are seen to be as its durability has it.

At the desk a peer that is missing is a skip that says what to install; in CI, where all are installed, it is a failure.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lmdbq.bench import runner
from lmdbq.bench.backlogs import Backlogs
from lmdbq.bench.peer_cells import PEER_CELLS
from lmdbq.bench.peer_load import Tally
from lmdbq.bench.results import Cell
from lmdbq.bench.targets import PEERS, Sample, beanstalkd, nats, postgres, servers
from lmdbq.bench.targets.base import can
from lmdbq.bench.targets.peers import missing
from lmdbq.bench.workloads import ENQUEUE, WORKERS, WORKLOADS, Workload

ONES = Workload("ones", ENQUEUE, batch=1)
MANY = Workload("many", ENQUEUE, batch=5, callers=3)
BATCHES = Workload("batches", ENQUEUE, batch=100, callers=2)
LIVES = Workload("lives", WORKERS, batch=20, callers=2, take=5)

# How many syncs there are for each task that is enqueued alone, at least and at most.
SYNCED = (1.0, float("inf"))
NOW_AND_THEN = (0.0, 0.9)
SYNCS = {
    "Redis always, threads": SYNCED,
    "Redis everysec, threads": NOW_AND_THEN,
    "Redis in memory, threads": (0.0, 0.0),
    "beanstalkd": SYNCED,
    "beanstalkd, as it comes": NOW_AND_THEN,
    "procrastinate": SYNCED,
    "procrastinate, unsynced": NOW_AND_THEN,
    "huey": SYNCED,
    "litequeue": NOW_AND_THEN,
    "litequeue, synced": SYNCED,
    "persist-queue": SYNCED,
    "persist-queue, files": NOW_AND_THEN,
    "RQ, Redis always": SYNCED,
    "Celery, Redis always": SYNCED,
    "NATS JetStream": SYNCED,
    "NATS JetStream, as it comes": NOW_AND_THEN,
}
WITH_BATCHES = [
    ("Redis always, pipelined", BATCHES),
    ("Redis in memory, bulk", BATCHES),
    ("beanstalkd, as it comes", BATCHES),
    ("procrastinate", MANY),
    ("litequeue", MANY),
    ("litequeue", BATCHES),
    ("RQ, Redis everysec", MANY),
    ("NATS JetStream, as it comes", MANY),
]
WITH_WORKERS = ["beanstalkd, as it comes", "procrastinate", "huey", "litequeue", "RQ, Redis everysec"]
WITH_WORKERS += ["Celery, Redis everysec", "NATS JetStream, as it comes"]


def once(
    target: str, workload: Workload, directory: Path, seconds: float, *, count: bool = False
) -> tuple[Sample, int]:
    """Measure for a moment. The runner itself compares what was acknowledged with what is stored."""
    if absent := PEERS[target].absent():
        pytest.skip(absent)
    plan = runner.Plan(1, 0.0, seconds, patience_seconds=0)
    cell = Cell("test", workload, target, "")
    measured = runner.measure_once(cell, plan, Backlogs(directory, lambda _: None), count_syncs=count)
    assert list(directory.iterdir()) == []
    return measured


@pytest.mark.parametrize("target", SYNCS)
def test_a_peer_syncs_as_its_durability_says(target: str, tmp_path: Path):
    assert shutil.which("strace"), "this test needs strace: apt-get install strace"
    sample, seen = once(target, ONES, tmp_path, 0.2, count=True)
    if not sample.left:  # a busy machine let nobody come so far
        sample, seen = once(target, ONES, tmp_path, 5.0, count=True)
    at_least, at_most = SYNCS[target]
    assert sample.left > 0
    assert at_least <= seen / sample.left <= at_most


@pytest.mark.parametrize(("target", "workload"), WITH_BATCHES)
def test_a_peer_holds_the_batches_it_acknowledged(target: str, workload: Workload, tmp_path: Path):
    sample, _ = once(target, workload, tmp_path, 0.1)
    if not sample.left:  # a busy machine let nobody come so far
        sample, _ = once(target, workload, tmp_path, 5.0)
    assert sample.left >= workload.batch * workload.callers


@pytest.mark.parametrize("target", WITH_WORKERS)
def test_two_workers_finish_tasks_and_leave_what_nobody_has_finished(target: str, tmp_path: Path):
    for seconds in (0.7, 3.0, 10.0):  # of the first, a busy machine may leave nothing to workers that have to start
        place = tmp_path / str(seconds)
        place.mkdir()
        sample, _ = once(target, LIVES, place, seconds)
        if sample.tasks:
            break
    assert sample.tasks > 0
    assert 0 <= sample.left <= 2 * LIVES.batch * LIVES.callers


def test_every_peer_is_tried_here():
    tried = {*SYNCS, *WITH_WORKERS, *(target for target, _ in WITH_BATCHES)}
    assert {name for name in PEERS if not name.startswith("Redis")} <= tried
    assert tried <= {target for _, target in PEER_CELLS}


def test_cells_of_peers_can_be_measured():
    assert len(set(PEER_CELLS)) == len(PEER_CELLS)
    for workload, target in PEER_CELLS:
        assert runner.empty_cell("peers", workload, target).workload == WORKLOADS[workload]


def test_a_peer_cannot_do_what_its_adapter_does_not_know():
    assert not can(PEERS["persist-queue"], LIVES)
    assert not can(PEERS["beanstalkd"], Workload("keyed", ENQUEUE, keys="random"))


def test_what_is_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(postgres, "program", lambda _: "")
    nats.nats_server.cache_clear()
    try:
        assert [PEERS[name].absent() for name in ("beanstalkd", "procrastinate", "RQ, Redis always")] == [
            "beanstalkd is not installed: apt-get install beanstalkd",
            "PostgreSQL is not installed: apt-get install postgresql",
            "redis-server is not installed: apt-get install redis-server",
        ]
        assert PEERS["NATS JetStream"].absent().startswith("nats-server is not installed: go install ")
    finally:
        nats.nats_server.cache_clear()
    assert missing("nowhere_to_be_found") == "nowhere_to_be_found is not installed: pip install 'lmdbq[bench]'"
    assert missing("json") == ""


def test_a_server_that_cannot_sync_each_write_is_not_measured_as_if_it_could(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nats, "nats_server", lambda: ("nats-server", (2, 9)))
    assert "2.9 cannot sync each write" in PEERS["NATS JetStream"].absent()
    assert "2.9" not in PEERS["NATS JetStream, as it comes"].absent()


def test_an_answer_that_was_not_asked_for_ends_the_run(tmp_path: Path):
    if absent := PEERS["beanstalkd"].absent():
        pytest.skip(absent)
    with PEERS["beanstalkd"].open(tmp_path / "target") as session:
        port = session._load["port"]  # type: ignore[attr-defined]
        client = beanstalkd.Client(port)
        too_big = client.prepare([b"x" * 100_000])
        with pytest.raises(ValueError, match="JOB_TOO_BIG"):
            client.enqueue(too_big)
        client.close()


def test_a_tally_counts_only_what_happens_inside_the_window():
    lives = Workload("", WORKERS, batch=10)
    early, late, inside = Tally(lives, 1e18, 2e18), Tally(lives, 0, 0), Tally(lives, 0, 1e18)
    assert [one.hungry for one in (early, late, inside)] == [True] * 3
    assert [one.enqueued() for one in (early, late, inside)] == [True, False, True]
    assert [one.worked(9) for one in (early, late, inside)] == [True, False, True]
    assert not inside.hungry
    assert inside.worked(1)
    assert inside.hungry
    assert [(one.counted, one.sent, one.finished) for one in (early, late, inside)] == [
        (0, 10, 9),
        (0, 10, 9),
        (10, 10, 10),
    ]
    enqueues = Tally(Workload("", ENQUEUE, batch=10), 0, 1e18)
    assert enqueues.enqueued()
    assert enqueues.counted == 10


def test_a_result_names_the_servers_it_was_measured_with(monkeypatch: pytest.MonkeyPatch):
    here = servers()
    assert ("beanstalkd" in here) == (not PEERS["beanstalkd"].absent())
    assert ("postgres" in here) == bool(postgres.program("postgres"))
    assert all(re.fullmatch(r"\d+(\.\d+)+.*", version) for version in here.values())
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert servers().keys().isdisjoint({"beanstalkd", "redis-server"})
