"""``lmdbq bench`` as users meet it, its picture, and the README, whose figures are those of a committed file."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from bench import __main__ as command
from bench import readme, rows
from lmdbq.bench import compare, figures, plot, procfs, results
from lmdbq.bench.results import Cell, Result
from lmdbq.bench.suites import SUITES, chosen
from lmdbq.bench.targets import RATE, TARGETS
from lmdbq.bench.targets.base import can
from lmdbq.bench.workloads import WORKLOADS
from lmdbq.cli.main import cli

README = readme.README.read_text(encoding="utf-8")
BRIEF = ["--rounds", "1", "--seconds", "0.2", "--small"]
MACHINE = {
    "cores": 2,
    "processor": "P",
    "file_system": "ext4",
    "fsync_4kb_ms": 0.1,
    "kernel": "Linux 6",
    "python": "CPython 3.11",
    "lmdb_engine": "0.9.36",
}


def bench(*words: str) -> tuple[int, str, str]:
    ended = CliRunner().invoke(cli, ["bench", *words])
    return ended.exit_code, ended.stdout, ended.stderr


def test_quick_is_the_default_and_answers_in_json(tmp_path: Path):
    status, said, told = bench("quick", "--json", "--at-dir", str(tmp_path), *BRIEF)
    assert status == 0, told
    found = json.loads(said)
    assert {(cell["workload"]["name"], cell["target"]) for cell in found["cells"]} == set(SUITES["quick"].pairs)
    assert found["machine"]["lmdb_engine"]
    for cell in found["cells"]:
        assert len(cell["rounds"]) == (0 if cell["absent"] else 1)
    assert list(tmp_path.iterdir()) == []
    words = ["--json", "--target", "raw", "--at-dir", str(tmp_path), *BRIEF]
    short = [[cell["target"] for cell in json.loads(bench(*more, *words)[1])["cells"]] for more in ([], ["quick"])]
    assert short == [["raw py-lmdb"], ["raw py-lmdb"]]


def test_a_table_a_file_a_picture_and_a_comparison(tmp_path: Path):
    out, picture = tmp_path / "a.json", tmp_path / "a.svg"
    words = ["life", "--target", "RAW", "--at-dir", str(tmp_path), "--out", str(out), "--plot", str(picture), *BRIEF]
    status, said, told = bench(*words)
    assert status == 0, told
    assert "whole life 1,000, eight priorities" in said
    assert "embedded" not in said
    assert "about 1 min" in told
    assert "<svg" in picture.read_text(encoding="utf-8")
    status, said, _ = bench("compare", str(out), str(out))
    assert status == 0
    assert "too few rounds" in said
    (first, *_) = json.loads(bench("compare", str(out), str(out), "--json")[1])
    assert (first["target"], first["found"]["ratio"]) == ("raw py-lmdb", 1.0)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--target", "nobody"], 2, "no target here is called nobody; there are: raw py-lmdb; embedded"),
        (["--plot", "x.gif"], 2, "neither .svg nor .png"),
        (["--at-dir", "/nowhere"], 2, "does not exist"),
        (["slow"], 2, "No such command 'slow'"),
        (["compare", __file__, __file__], 2, "no result of lmdbq bench"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], status: int, said: str):
    found, _, told = bench(*words)
    assert found == status
    assert said in told


def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    status, said, told = bench("--plot", "x.svg")
    assert (status, said) == (1, "")
    assert "pip install 'lmdbq[bench]'" in told


def test_a_disk_that_is_too_small_is_said_before_anything_is_filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_500_000_000}))
    status, _, told = bench("growth", "--at-dir", str(tmp_path))
    assert status == 1
    assert "has 1.5 GB free, and this needs" in told


def test_nothing_of_the_peers_is_imported_without_being_asked_for():
    program = "import sys, lmdbq.bench.suites, lmdbq.bench.runner; print(*sys.modules)"
    peers = {"redis", "hiredis", "matplotlib", "celery", "rq", "huey", "litequeue", "persistqueue", "procrastinate"}
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "lmdbq.bench.targets.redis" in modules
    assert peers & set(modules) == set()


def test_every_suite_names_cells_that_can_be_measured():
    for name, suite in SUITES.items():
        assert suite.pairs, name
        assert all(can(TARGETS[target], WORKLOADS[workload]) for workload, target in suite.pairs)
        assert len(set(suite.pairs)) == len(suite.pairs), name
    assert chosen(SUITES["quick"], ("redis", "raw"))[0] == ("enqueue 1,000", "raw py-lmdb")


def test_ctrl_c_leaves_neither_servers_nor_files(tmp_path: Path):
    words = ["bench", "latency", "--target", "HTTP", "--seconds", "60", "--at-dir", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-m", "lmdbq.cli", *words], stderr=subprocess.PIPE, start_new_session=True
    )
    assert child.stderr is not None
    deadline = time.monotonic() + 60
    while len(family := procfs.family([child.pid])) < 7 and time.monotonic() < deadline:  # daemon, workers, producer
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does it: to all of them
    child.communicate(timeout=60)
    assert child.returncode == 130
    wait_until_gone(family)
    assert list(tmp_path.iterdir()) == []


def wait_until_gone(family: list[int]) -> None:
    """One that was being started at that moment ends by itself, when it finds nobody at the other end."""
    deadline = time.monotonic() + 60
    while [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- figures ----------------------------------------------------------------------------------------------------------


def made() -> Result:
    """Return a result of which the figures are easy to tell."""

    def cell(workload: str, target: str, **values: float) -> Cell:
        return Cell("g", WORKLOADS[workload], target, TARGETS[target].durability, [values])

    cells = [
        structs.replace(cell("enqueue 1, one caller", "HTTP JSON", **{RATE: 900.0}), syncs_per_1000=2_000.0),
        cell("enqueue 1,000", "HTTP JSON", **{RATE: 250_000.0}),
        cell("enqueue 1, 64 callers", "Redis always, threads", **{RATE: 5_000.0}),
        cell("enqueue 1, 64 callers", "Redis always, asyncio", **{RATE: 7_000.0}),
        cell("enqueue 1,000", "raw py-lmdb", **{RATE: 500_000.0}),
        cell("start, none waiting", "HTTP JSON", ready_ms=400.0, anonymous_mb=30.0),
        cell("start, 10 M waiting", "HTTP JSON", ready_ms=410.0, anonymous_mb=31.0),
        cell(
            "whole life, 10 M waiting",
            "embedded",
            enqueue_per_second=500_000.0,
            claim_per_second=400_000.0,
            report_per_second=250_000.0,
        ),
    ]
    return Result("2026-01-01T00:00:00+00:00", MACHINE, "", cells)


def test_figures_are_those_of_the_result():
    said = figures.markdown(made())
    assert "| **lmdbq**, over HTTP | 900 | - | 250,000 | - | synced before every answer | 2,000 |" in said
    assert "| Redis always | - | 7,000 | - | - | appendfsync always | - |" in said
    assert "| 10,000,000 | 2.0 | 2.5 | 4.0 |" in said
    assert "ready 410 ms after its start and has 31 MB of its own; with none, 400 ms and 30 MB" in " ".join(
        said.split()
    )
    assert "raw" not in said
    assert max(len(line) for line in said.splitlines() if not line.startswith("|")) <= 120


def test_figures_are_of_the_group_in_which_all_took_turns():
    whole = made()
    turn = [structs.replace(whole.cells[0], group=figures.PEERS, rounds=[{RATE: 950.0}])]
    said = figures.rates(structs.replace(whole, cells=[*turn, *whole.cells]))
    assert "| **lmdbq**, over HTTP | 950 | - | - | - |" in said
    assert "Redis" not in said
    assert figures.PEERS in SUITES
    assert figures.PEERS in rows.groups()


def test_the_readme_has_the_figures_of_the_file_it_names():
    path = readme.source(README)
    tracked = subprocess.run(["git", "ls-files", "--error-unmatch", str(path)], cwd=readme.ROOT, capture_output=True)
    assert tracked.returncode == 0, f"{path} is not committed"
    assert readme.with_figures(README, path) == README, "run: python -m bench readme"


def test_the_readme_is_written_from_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("a\n<!-- figures: old.json -->\nold\n<!-- end of figures -->\nb\n")
    results.save(made(), tmp_path / "new.json")
    ended = CliRunner().invoke(command.main, ["readme", str(tmp_path / "new.json")], catch_exceptions=False)
    assert ended.exit_code == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == f"a\n<!-- figures: new.json -->\n{figures.markdown(made())}<!-- end of figures -->\nb\n"
    with pytest.raises(ValueError, match="not in this clone"):
        readme.with_figures(text, Path(__file__))
    with pytest.raises(ValueError, match="has no <!-- figures"):
        readme.with_figures("no marks", tmp_path / "new.json")


@pytest.mark.parametrize("suffix", plot.FORMATS)
def test_a_picture_has_a_bar_for_each_target(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("matplotlib").rcParams, "svg.fonttype", "none")  # so that text is text
    path = tmp_path / f"p{suffix}"
    plot.draw(made(), path)
    content = path.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
        return
    for text in ("enqueue 1, 64 callers  (tasks/s)", "Redis always, asyncio", "250,000", "LMDB 0.9.36"):
        assert text in content.decode(), text
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.draw(structs.replace(made(), cells=[]), path)


def test_cells_of_different_workloads_are_not_compared():
    before, after = made(), made()
    small = [structs.replace(one, workload=one.workload.small()) for one in before.cells]
    named = [one.workload for one in compare.differences(structs.replace(before, cells=small), after, 0.95)]
    assert "start, 10 M waiting" not in named
    assert "enqueue 1,000" in named
