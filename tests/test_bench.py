"""The harness measures what it says: every target that needs no server of others is run for a moment, figures for tasks
that are not there are refused, and tables and intervals are what the files say."""

from __future__ import annotations

import doctest
import importlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from bench import __main__ as command
from bench import rows
from lmdbq.bench import inputs, procfs, results, runner, syncs, tables
from lmdbq.bench.raw import RawQueue
from lmdbq.bench.results import Cell, Result
from lmdbq.bench.stats import ratio_interval
from lmdbq.bench.targets import RATE, TARGETS
from lmdbq.bench.workloads import ENQUEUE, IDLE, LATENCY, LIFE, WORKERS, Workload

RESULTS = sorted((Path(__file__).parent.parent / "bench" / "results").glob("*.json"))
SMALL = Workload("small", ENQUEUE, batch=100, callers=2)
ONES = Workload("ones", ENQUEUE, batch=1, callers=4)
KEYED = Workload("keyed", ENQUEUE, batch=100, callers=2, keys="random", backlog=10_000)
LIVES = Workload("lives", LIFE, batch=100, backlog=1_000, priorities=3)
OURS = [name for name in TARGETS if not name.startswith("Redis")]


def once(target: str, workload: Workload, directory: Path, seconds: float = 0.2) -> dict[str, float]:
    """Measure for a moment. The runner itself compares what was acknowledged with what is stored."""
    plan = runner.Plan(1, 0.05, seconds, count_syncs=False, directory=directory, patience_seconds=0)
    sample, _ = runner.measure_once(Cell("test", workload, target, ""), plan)
    assert list(directory.iterdir()) == []
    return sample.values


@pytest.mark.parametrize("target", OURS)
def test_every_target_of_ours_stores_what_it_acknowledges(target: str, tmp_path: Path):
    assert once(target, SMALL, tmp_path)[RATE] > 0


@pytest.mark.parametrize("target", ["raw py-lmdb", "embedded", "HTTP JSON"])
@pytest.mark.parametrize("workload", [ONES, KEYED], ids=lambda one: one.name)
def test_singles_and_keys(target: str, workload: Workload, tmp_path: Path):
    assert once(target, workload, tmp_path)[RATE] > 0


@pytest.mark.parametrize("target", ["raw py-lmdb", "embedded"])
def test_a_whole_life_leaves_the_backlog(target: str, tmp_path: Path):
    values = once(target, LIVES, tmp_path)
    assert set(values) == {RATE, "enqueue_per_second", "claim_per_second", "report_per_second"}
    assert values[RATE] < min(values["enqueue_per_second"], values["claim_per_second"], values["report_per_second"])


def test_workers_work_off_what_they_enqueue(tmp_path: Path):
    assert once("HTTP JSON", Workload("workers", WORKERS, batch=20, callers=2, take=5), tmp_path)[RATE] > 0


def test_from_enqueue_to_start(tmp_path: Path):
    values = once("HTTP JSON", Workload("late", LATENCY, batch=10, callers=2, rate=100), tmp_path)
    assert 0 < values["p50_ms"] <= values["p90_ms"] <= values["p99_ms"]


def test_an_idle_daemon_writes_nothing(tmp_path: Path):
    values = once("HTTP JSON", Workload("idle", IDLE, callers=2), tmp_path)
    assert values["written_bytes"] == 0
    assert values["anonymous_mb"] > 1


def test_a_figure_for_tasks_that_are_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RawQueue, "count", lambda _: 0)
    with pytest.raises(runner.WrongCount, match="holds 0"):
        once("raw py-lmdb", SMALL, tmp_path)


def test_an_answer_that_is_no_200_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "QUEUE", "no name for a queue")
    with pytest.raises(ValueError, match="422 Unprocessable"):
        once("HTTP JSON", KEYED, tmp_path)


def test_a_peer_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    plan = runner.Plan(1, 0, 0.1, count_syncs=False, directory=tmp_path, patience_seconds=0)
    pairs = [("enqueue 1,000", "Redis always, pipelined")]
    (cell,) = runner.run_group("batches", plan, lambda _: None, pairs)
    assert (cell.absent, cell.rounds) == ("redis-server is not installed", [])
    assert "absent: redis-server is not installed" in tables.table_of_cells(result([cell]))


def test_cells_take_turns_and_every_other_round_goes_backwards(tmp_path: Path):
    said: list[str] = []
    plan = runner.Plan(2, 0, 0.05, count_syncs=False, directory=tmp_path, patience_seconds=0)
    pairs = [("enqueue 1,000, one caller", "raw py-lmdb"), ("enqueue 1,000, one caller", "embedded")]
    cells = runner.run_group("test", plan, said.append, pairs)
    assert [line.split("  ·  ")[1] for line in said] == ["raw py-lmdb", "embedded", "embedded", "raw py-lmdb"]
    assert [len(cell.rounds) for cell in cells] == [2, 2]


def test_a_turn_waits_for_a_quiet_machine_and_says_when_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    seen = iter([90.0, 50.0, 5.0, 60.0])
    monkeypatch.setattr(procfs, "busy_percent", lambda: next(seen))
    assert procfs.wait_until_quiet(10, 60) == 5.0
    said: list[str] = []
    plan = runner.Plan(1, 0, 0.05, count_syncs=False, directory=tmp_path, patience_seconds=0)
    (cell,) = runner.run_group("test", plan, said.append, [("enqueue 1,000, one caller", "raw py-lmdb")])
    assert cell.busy_before_percent == [60.0]
    assert "others kept the machine 60 % busy" in said[0]


def test_a_machine_that_works_is_seen_to_be_busy():
    ends = time.monotonic() + 0.3
    with ThreadPoolExecutor() as threads:
        worked = threads.submit(lambda: sum(1 for _ in iter(lambda: time.monotonic() < ends, False)))
        assert procfs.busy_percent(0.2) > 0
        assert worked.result() > 0


# --- the reference script ---------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path: Path):
    queue = RawQueue(tmp_path)
    yield queue
    queue.close()


def test_the_raw_script_moves_a_task_through_its_life(raw: RawQueue):
    assert raw.enqueue([b"a", b"b", b"c"], priorities=[2, 1, 1]) == 3
    second, third, first = raw.claim(10)
    assert first < second < third
    assert raw.claim(10) == []
    raw.report([first, second])
    assert raw.count() == 1
    with pytest.raises(KeyError):
        raw.report([first])


def test_the_raw_script_leaves_out_duplicates(raw: RawQueue):
    assert raw.enqueue([b"a", b"b", b"c"], keys=[b"k1", b"k2", b"k1"]) == 2
    assert raw.enqueue([b"d", b"e"], keys=[b"k2", b"k3"]) == 1
    assert raw.enqueue([b"f"]) == 1
    assert raw.count() == len(raw.claim(10)) == 4


def test_the_raw_script_keeps_the_priority_of_what_is_no_duplicate(raw: RawQueue):
    raw.enqueue([b"a", b"b"], [6, 5], keys=[b"k1", b"k2"])
    assert raw.enqueue([b"c", b"d"], [1, 4], keys=[b"k2", b"k3"]) == 1
    assert [int.from_bytes(task_id) for task_id in raw.claim(10)] == [4, 2, 1]


# --- results ----------------------------------------------------------------------------------------------------------


def cell(target: str, values: list[float], group: str = "batches", workload: str = "enqueue 1,000") -> Cell:
    return Cell(group, Workload(workload, ENQUEUE), target, "", [{RATE: value} for value in values])


def result(cells: list[Cell]) -> Result:
    return Result("2026-01-01T00:00:00+00:00", 3, 0.5, 2.0, {"cores": 2}, "", cells)


def test_rows_are_medians_of_ratios_inside_a_round():
    table = tables.table_of_rows(
        rows.ROWS, result([cell("embedded", [80, 90, 40]), cell("raw py-lmdb", [100, 100, 50])])
    )
    lines = table.splitlines()
    assert lines[2] == "| embedded, 1,000 per transaction ÷ raw | ≥ 0.7 | 0.80 | 0.80-0.90 | yes |"
    assert lines[3].endswith("| ≥ 0.4 | not measured | | |")


def test_of_two_denominators_the_harder_one_counts_and_a_row_that_is_missed_says_no():
    slow, fast = cell("Redis always, threads", [10.0]), cell("Redis always, asyncio", [20.0])
    ours = cell("HTTP JSON", [30.0])
    named = [
        structs.replace(one, group="singles", workload=Workload("enqueue 1, 64 callers", ENQUEUE))
        for one in (slow, fast, ours)
    ]
    assert "| ≥ 1.8 | 1.50 | 1.50-1.50 | **no** |" in tables.table_of_rows(rows.ROWS, result(named))


def test_results_survive_their_file(tmp_path: Path):
    saved = result([cell("embedded", [123456.789]), structs.replace(cell("x", []), absent="not installed")])
    results.save(saved, tmp_path / "r.json")
    loaded = results.load(tmp_path / "r.json")
    assert loaded.cells[0].values() == [123460.0]
    assert loaded.cells[1] == saved.cells[1]


def test_there_are_committed_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_the_table_is_printed_from_a_committed_result(path: Path):
    loaded = results.load(path)
    assert {"lmdb_engine", "fsync_4kb_ms", "cores", "command"} <= set(loaded.machine)
    assert all(len(one.rounds) == loaded.rounds or one.absent for one in loaded.cells)
    shown = CliRunner().invoke(command.main, ["table", str(path)], catch_exceptions=False).output
    assert shown == tables.table_of_rows(rows.ROWS, loaded)
    measured = {(one.group, one.workload.name, one.target) for one in loaded.cells if one.rounds}
    for row, line in zip(rows.ROWS, shown.splitlines()[2:], strict=True):
        assert ("not measured" in line) == ((row.group, *row.numerator) not in measured), line


def test_an_interval_says_whether_two_samples_differ():
    before = [100.0, 103.0, 98.0, 101.0, 99.0]
    faster = ratio_interval([value * 1.3 for value in before], before)
    assert faster.differs
    assert faster.low < faster.ratio < faster.high
    assert faster.ratio == pytest.approx(1.3)
    noise = ratio_interval([99.0, 104.0, 97.0, 102.0, 100.0], before)
    assert not noise.differs
    assert noise == ratio_interval([99.0, 104.0, 97.0, 102.0, 100.0], before)
    assert ratio_interval(before, before, confidence=0.5).low >= ratio_interval(before, before).low


def test_compare_says_faster_slower_or_neither(tmp_path: Path):
    steady = [100.0, 101.0, 99.0, 100.0, 100.5]
    before = result([cell("a", steady), cell("b", steady), cell("c", steady), cell("only before", steady)])
    after = result([cell("a", [v * 2 for v in steady]), cell("b", [v / 2 for v in steady]), cell("c", steady[::-1])])
    for name, saved in (("before", before), ("after", after)):
        results.save(saved, tmp_path / name)
    words = ["compare", str(tmp_path / "before"), str(tmp_path / "after")]
    lines = CliRunner().invoke(command.main, words, catch_exceptions=False).output.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["faster", "slower", "no difference shown"]
    assert ": 2.00 (" in lines[0]


def test_every_row_names_cells_that_can_be_measured():
    for group in rows.groups():
        for workload, target in rows.cells_of(group):
            assert runner.run_group(group, runner.Plan(0, count_syncs=False), print, [(workload, target)])


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_a_descriptor_that_syncs_each_write_is_known(tmp_path: Path):
    plain = os.open(tmp_path / "plain", os.O_CREAT | os.O_WRONLY)
    synced = os.open(tmp_path / "synced", os.O_CREAT | os.O_WRONLY | os.O_DSYNC)
    try:
        found = set(syncs.synced_descriptors(os.getpid()))
        assert str(synced) in found
        assert str(plain) not in found
    finally:
        os.close(plain)
        os.close(synced)


@pytest.mark.parametrize("module", ["inputs", "stats", "syncs", "tables"])
def test_examples(module: str):
    tried = doctest.testmod(importlib.import_module(f"lmdbq.bench.{module}"))
    assert tried.attempted > 0
    assert tried.failed == 0
