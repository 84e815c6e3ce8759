"""The harness measures what it says: every workload is run for a moment on every target of ours that can do it, figures
for tasks that are not there are refused, and tables and intervals are what the files say."""

from __future__ import annotations

import doctest
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from bench import __main__ as command
from bench import rows
from lmdbq.bench import inputs, procfs, results, runner, syncs, tables, written
from lmdbq.bench.backlogs import SHARED_MIN, Backlogs
from lmdbq.bench.raw import RawQueue
from lmdbq.bench.results import Cell, Part, Result
from lmdbq.bench.stats import ratio_interval
from lmdbq.bench.targets import RATE, TARGETS
from lmdbq.bench.targets.base import Sample, can
from lmdbq.bench.watching import Lines, Silent
from lmdbq.bench.workloads import DRAIN, ENQUEUE, IDLE, LATENCY, LIFE, START, WORKERS, WORKLOADS, WRITTEN, Workload

RESULTS = sorted((Path(__file__).parent.parent / "bench" / "results").glob("*.json"))
SMALL = Workload("small", ENQUEUE, batch=100, callers=2)
OURS = [
    "raw py-lmdb",
    "embedded",
    "HTTP JSON",
    "raw py-lmdb, unsynced",
    "no-op aiohttp",
    "embedded, batch",
    "Client, in the process",
    "Client, over HTTP",
    *(name for name in TARGETS if name.startswith("HTTP ") and name != "HTTP JSON"),
]
EVERY = [
    (name, workload)
    for name in OURS
    for workload in WORKLOADS.values()
    if can(TARGETS[name], workload)
    and (workload.callers < 64 or name.startswith(("HTTP", "no-op")))  # in one process there is one caller
    and (name in {"raw py-lmdb", "embedded", "HTTP JSON"} or workload.name in {"enqueue 100", "enqueue 1, one caller"})
]
QUICK = runner.Plan(1, 0.02, 0.1, count_syncs=False, patience_seconds=0, small=True)


def once(target: str, workload: Workload, directory: Path) -> Sample:
    """Measure for a moment. The runner itself compares what was acknowledged with what is stored."""
    sample, _ = measured(Cell("test", workload.small(), target, ""), Backlogs(directory, Silent().note))
    assert list(directory.iterdir()) == []
    return sample


def measured(cell: Cell, backlogs: Backlogs, *, count_syncs: bool = False) -> tuple[Sample, int]:
    """Measure for a moment; for a longer one, if a machine with much to do let nothing be done in that."""
    for seconds in (0.1, 1.0, 10.0):
        plan = structs.replace(QUICK, seconds=seconds)
        sample, syncs_seen = runner.measure_once(cell, plan, backlogs, count_syncs=count_syncs)
        if sample.left or sample.tasks or cell.workload.kind not in {ENQUEUE, LIFE, DRAIN, WORKERS}:
            break
    return sample, syncs_seen


VALUES = {
    ENQUEUE: {RATE},
    LIFE: {RATE, "enqueue_per_second", "claim_per_second", "report_per_second", "written_bytes_per_task"},
    DRAIN: {RATE, "written_bytes_per_task"},
    WORKERS: {RATE},
    LATENCY: {"p50_ms", "p90_ms", "p99_ms"},
    IDLE: {"anonymous_mb", "cpu_percent", "written_bytes"},
    START: {"ready_ms", "anonymous_mb"},
    WRITTEN: {"life_bytes", "life_pages", "heartbeat_bytes", "heartbeat_pages"},
}


@pytest.mark.parametrize(("target", "workload"), EVERY, ids=lambda one: one if isinstance(one, str) else one.name)
def test_every_workload_on_every_target_of_ours(target: str, workload: Workload, tmp_path: Path):
    sample = once(target, workload, tmp_path)
    values = sample.values
    assert set(values) >= VALUES[workload.kind]
    if workload.kind in {ENQUEUE, LIFE, DRAIN, WORKERS}:
        assert sample.left or sample.tasks
    if workload.kind == LIFE:
        assert 0 < values[RATE] < min(values[f"{verb}_per_second"] for verb in ("enqueue", "claim", "report"))
    if workload.kind == LATENCY:
        assert 0 < values["p50_ms"] <= values["p90_ms"] <= values["p99_ms"]
    if workload.kind == IDLE:
        assert values["written_bytes"] == 0


def test_one_by_one_a_life_is_written_three_times():
    """Three calls, each on the disk before it is answered: a page of data and one of meta at the least."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:  # in memory, nothing is written to a disk
        assert once("HTTP JSON", WORKLOADS["written, 1 by 1"], Path(directory)).values["life_pages"] >= 6


def test_a_large_backlog_is_filled_once_and_copied_where_it_changes(tmp_path: Path):
    said: list[str] = []
    backlogs = Backlogs(tmp_path, said.append)
    stays = Workload("stays", LIFE, batch=100, backlog=SHARED_MIN)
    grows = Workload("grows", ENQUEUE, batch=100, backlog=SHARED_MIN)
    before = None
    for workload in (grows, stays, grows, stays):
        target = TARGETS["raw py-lmdb"]
        with backlogs.place(target, workload) as directory, target.open(directory) as session:
            assert session.stored() == SHARED_MIN
            session.measure(workload, 0.0, 0.01)
            before = before or directory
            assert (workload is stays) == (directory.parent == tmp_path)
    assert len([line for line in said if line.startswith("filling")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["backlog-0"]


@pytest.mark.parametrize("keys", ["sequential", "random"])
@pytest.mark.parametrize("target", ["embedded", "raw py-lmdb"])
def test_a_shared_backlog_is_worked_on_again_and_again(target: str, keys: str, tmp_path: Path):
    """What an earlier round has enqueued still waits behind the backlog; the keys of a later one are not taken."""
    cell = Cell("test", Workload("again", LIFE, batch=100, backlog=SHARED_MIN, keys=keys), target, "")
    backlogs = Backlogs(tmp_path, Silent().note)
    for _ in range(2):
        sample, _ = measured(cell, backlogs)
        assert sample.tasks > 0


def test_random_keys_of_a_backlog_are_all_different_and_spread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "_SHUFFLED", 7_000)
    workload = Workload("keys", ENQUEUE, keys="random", backlog=25_000)
    keys = [key for batch in inputs.backlog(workload) for key in batch.keys]
    assert len(set(keys)) == len(keys) == 25_000
    firsts = [sum(key.startswith(digit) for key in keys) for digit in "0123456789abcdef"]
    assert min(firsts) > 1_000
    assert not set(keys) & {key for batch in islice(inputs.batches(workload), 5) for key in batch.keys}


def test_a_mixed_workload_mixes():
    (batch,) = islice(inputs.batches(WORKLOADS["enqueue 1,000, mixed"]), 1)
    for values in (batch.keys, batch.delays):
        assert 200 < sum(map(bool, values)) < 400
    assert set(batch.priorities) == set(range(8))


def test_a_figure_for_tasks_that_are_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RawQueue, "count", lambda _: 0)
    with pytest.raises(runner.WrongCount, match="holds 0"):
        once("raw py-lmdb", SMALL, tmp_path)


def test_a_session_that_stays_behind_what_it_says_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RawQueue, "report", lambda *_: None)
    with pytest.raises(runner.WrongCount, match="acknowledged 0 tasks and holds"):
        once("raw py-lmdb", WORKLOADS["whole life 1,000"], tmp_path)


def test_an_answer_that_is_no_200_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(written, "_QUEUE", b"no name for a queue")
    with pytest.raises(ValueError, match="422 Unprocessable") as found:
        once("HTTP JSON", WORKLOADS["written, 1 by 1"], tmp_path)
    assert "The server said: " in found.value.__notes__[0]
    assert "http://127.0.0.1" in found.value.__notes__[0]


def quick(pairs: list[tuple[str, str]], directory: Path, said: list[str], rounds: int = 1) -> list[Cell]:
    plan = structs.replace(QUICK, rounds=rounds)
    return runner.run_group("test", plan, Told(said), pairs, Backlogs(directory, said.append))


class Told(Lines):
    """A watcher that writes down what it is told."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.note = said.append  # type: ignore[method-assign]


def test_a_peer_that_is_not_installed_is_absent_and_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (cell,) = quick([("enqueue 1,000", "Redis always, pipelined")], tmp_path, [])
    assert cell.rounds == []
    assert "apt-get install redis-server" in cell.absent
    assert f"absent: {cell.absent}" in tables.table_of_cells(result([cell]))


def test_cells_take_turns_and_every_other_round_goes_backwards(tmp_path: Path):
    said: list[str] = []
    pairs = [("enqueue 1,000, one caller", "raw py-lmdb"), ("enqueue 1,000, one caller", "embedded")]
    cells = quick(pairs, tmp_path, said, rounds=2)
    assert [line.split("  ·  ")[1] for line in said] == ["raw py-lmdb", "embedded", "embedded", "raw py-lmdb"]
    assert [len(cell.rounds) for cell in cells] == [2, 2]
    plan = structs.replace(QUICK, rounds=2)
    assert runner.turns_of({"test": (plan, pairs)}) == len(said)
    assert runner.seconds_of({"test": (plan, pairs)}) > runner.seconds_of({"test": (QUICK, pairs)}) > 0


def test_a_turn_waits_for_a_quiet_machine_and_says_when_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    seen = iter([90.0, 50.0, 5.0, 60.0])
    monkeypatch.setattr(procfs, "busy_percent", lambda: next(seen))
    assert procfs.wait_until_quiet(10, 60) == 5.0
    said: list[str] = []
    (cell,) = quick([("enqueue 1,000, one caller", "raw py-lmdb")], tmp_path, said)
    assert cell.busy_before_percent == [60.0]
    assert "others kept the machine 60 % busy" in said[0]


def test_a_machine_that_works_is_seen_to_be_busy():
    over = threading.Event()
    with ThreadPoolExecutor() as threads:
        threads.submit(lambda: all(not over.is_set() for _ in iter(int, 1)))
        try:
            assert procfs.busy_percent(0.2) > 0
        finally:
            over.set()


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
    assert raw.count() == 3
    ids = raw.claim(10)
    raw.report(ids[:1])
    assert raw.enqueue([b"f", b"g"], keys=[b"k1", b"k2"]) == 1, "a key is free when its task has ended"
    raw.report([*ids[1:], *raw.claim(10)])
    assert raw.count() == 0
    assert raw.enqueue([b"h", b"i", b"j"], keys=[b"k1", b"k2", b"k3"]) == 3


def test_the_raw_script_keeps_the_priority_of_what_is_no_duplicate(raw: RawQueue):
    raw.enqueue([b"a", b"b"], [6, 5], keys=[b"k1", b"k2"])
    assert raw.enqueue([b"c", b"d"], [1, 4], keys=[b"k2", b"k3"]) == 1
    assert [int.from_bytes(task_id) for task_id in raw.claim(10)] == [4, 2, 1]


# --- results ----------------------------------------------------------------------------------------------------------


def cell(target: str, values: list[float], group: str = "batches", workload: str = "enqueue 1,000") -> Cell:
    return Cell(group, Workload(workload, ENQUEUE), target, "", [{RATE: value} for value in values])


def result(cells: list[Cell]) -> Result:
    part = Part("2026-01-01T00:00:00+00:00", 3, 0.5, 2.0, "abc", "python -m bench run")
    return Result(part.at, {"cores": 2}, "", cells, {one.group: part for one in cells})


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
    assert all(len(one.rounds) == loaded.parts[one.group].rounds or one.absent for one in loaded.cells)
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


def test_compare_says_better_worse_or_neither(tmp_path: Path):
    steady = [100.0, 101.0, 99.0, 100.0, 100.5]
    before = result([cell("a", steady), cell("b", steady), cell("c", steady), cell("only before", steady)])
    after = result([cell("a", [v * 2 for v in steady]), cell("b", [v / 2 for v in steady]), cell("c", steady[::-1])])
    late = [Cell("latency", WORKLOADS["enqueue to start"], "d", "", [{"p99_ms": ms} for ms in (9.0, 9.1, 8.9)])]
    few = [cell("e", steady[:2])]
    for name, saved, more in (("before", before, 1.0), ("after", after, 2.0)):
        slower = [structs.replace(late[0], rounds=[{"p99_ms": one["p99_ms"] * more} for one in late[0].rounds])]
        results.save(structs.replace(saved, cells=[*saved.cells, *slower, *few]), tmp_path / name)
    words = ["compare", str(tmp_path / "before"), str(tmp_path / "after")]
    lines = CliRunner().invoke(command.main, words, catch_exceptions=False).output.splitlines()
    verdicts = [line.rpartition("  ")[2] for line in lines]
    assert verdicts == ["better", "worse", "no difference shown", "worse", "too few rounds"]
    assert ": tasks/s 2.00 (" in lines[0]
    assert ": p99 ms 2.00 (" in lines[3]


def test_every_row_names_cells_that_can_be_measured():
    for group in rows.groups():
        assert rows.cells_of(group)
        wanted = {pair for row in rows.ROWS if row.group == group for pair in (row.numerator, *row.denominators)}
        assert wanted <= set(rows.cells_of(group))


def test_a_difference_and_a_ratio_of_ratios():
    few, many = ("start, none waiting", "HTTP JSON"), ("start, 10 M waiting", "HTTP JSON")
    cells = [
        Cell("start", WORKLOADS[name], target, "", [{"ready_ms": ms} for ms in values])
        for (name, target), values in ((few, (400.0, 410.0)), (many, (440.0, 430.0)))
    ]
    row = tables.Row("start", "", 100, many, (few,), metric="ready_ms", at_most=True, minus=True)
    assert tables.reached(row, result(cells)) == (30.0, 20.0, 40.0)
    named = {("a", "x"): 100.0, ("b", "x"): 20.0, ("a", "y"): 90.0, ("b", "y"): 45.0}
    cells = [cell(target, [value], "g", name) for (name, target), value in named.items()]
    row = tables.Row("g", "", 1.3, ("a", "x"), (("b", "x"),), at_most=True, over=(("a", "y"), ("b", "y")))
    found = tables.reached(row, result(cells))
    assert found is not None
    assert found.value == 2.5
    assert tables.reached(structs_of(row, numerator=("c", "x")), result(cells)) is None


def structs_of(row: tables.Row, **changed: tuple[str, str]) -> tables.Row:
    return row._replace(**changed)  # type: ignore[arg-type]


def test_groups_are_put_together_in_one_file_and_go_on_where_they_stopped(tmp_path: Path):
    """The whole command, on a small scale: one group, then another, and the first one is not measured again."""
    path = tmp_path / "r.json"
    words = ["run", "--scale", "small", "--directory", str(tmp_path), "--out", str(path)]
    assert CliRunner().invoke(command.main, [*words, "--group", "written"]).exit_code == 0
    first = results.load(path)
    again = CliRunner().invoke(command.main, [*words, "--group", "written", "--group", "idle", "--resume"])
    assert again.exit_code == 0, again.output
    both = results.load(path)
    assert list(both.parts) == ["written", "idle"]
    assert both.cells[: len(first.cells)] == first.cells
    assert "| bytes written when idle | ≤ 0 B | 0.00 B |" in again.output
    neither = CliRunner().invoke(command.main, words)
    assert neither.exit_code == 2
    assert "--all" in neither.output


def test_results_of_two_machines_are_not_put_together():
    one, other = result([cell("a", [1.0])]), structs.replace(result([]), machine={"cores": 3})
    with pytest.raises(ValueError, match="cores 2 and this run 3"):
        results.merged(one, other)


def wait_until_gone(family: list[int]) -> None:
    """One that was being started at that moment ends by itself, when it finds nobody at the other end."""
    deadline = time.monotonic() + 60
    while [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_is_interrupted_leaves_neither_servers_nor_files(tmp_path: Path):
    words = ["run", "--group", "latency", "--seconds", "60", "--patience", "0", "--directory", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-m", "bench", *words, "--out", str(tmp_path / "r.json")],
        stderr=subprocess.PIPE,
        text=True,
        cwd=RESULTS[0].parent.parent.parent,
    )
    assert child.stderr is not None
    deadline = time.monotonic() + 60
    while len(family := procfs.family([child.pid])) < 7 and time.monotonic() < deadline:  # daemon, workers, producer
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1]
    assert "--resume goes on" in said or "go on with --resume" in said
    assert child.returncode == 1
    wait_until_gone(family)
    assert list(tmp_path.iterdir()) == []


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


def test_syncs_of_what_a_server_has_forked_are_counted(tmp_path: Path):
    """A child that was there before is attached to, and one that is forked meanwhile is followed."""
    script = """
import os

def forked(wait):
    if not os.fork():
        if wait:
            os.read(0, 1)
        number = os.open("f", os.O_CREAT | os.O_WRONLY)
        for _ in range(5):
            os.fsync(number)
        os._exit(0)

forked(wait=True)
print("ready", flush=True)
os.read(0, 1)
forked(wait=False)
os.wait(), os.wait()
print("done", flush=True)
os.read(0, 1)
"""
    server = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    with syncs.counting([server.pid], tmp_path) as counted:
        server.stdin.write(b"12")
        assert server.stdout.readline() == b"done\n"
    server.stdin.close()
    server.wait(60)
    server.stdout.close()
    assert counted.syncs == 10


def test_targets_of_ours_sync_as_they_promise(tmp_path: Path):
    seen = {}
    for target in ("embedded", "HTTP JSON", "raw py-lmdb, unsynced"):
        cell = Cell("test", Workload("one", ENQUEUE, batch=10), target, "")
        sample, count = measured(cell, Backlogs(tmp_path, print), count_syncs=True)
        seen[target] = count / (sample.left / 10)
    assert seen["embedded"] >= 2  # data, then meta
    assert seen["HTTP JSON"] >= 2
    assert seen["raw py-lmdb, unsynced"] < 0.1


@pytest.mark.parametrize("module", ["inputs", "stats", "syncs", "tables", "targets.base", "workloads"])
def test_examples(module: str):
    tried = doctest.testmod(importlib.import_module(f"lmdbq.bench.{module}"))
    assert tried.attempted > 0
    assert tried.failed == 0
