"""The report of the storms: what ``--record`` keeps, what is printed of it, and that the committed one is true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from msgspec.structs import replace

from lmdbq import __version__
from lmdbq.cli.storm import CONTROLS, STORMS
from lmdbq.storm import results
from lmdbq.storm.report import Report

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "bench/results/storms.jsonl"
RENDERED = ROOT / "bench/results/storms.md"


def report(storm: str = "some storm", **more: object) -> Report:
    return Report(storm, "a seed", "runs", tried=12_000, seconds=61.27, figures={"slow | ones": 0.98765}, **more)


def lmdbq(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmdbq", "storm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)


def test_a_line_says_what_was_done_and_what_was_found(tmp_path: Path):
    line = results.line_of(report(faulty=3), "does something", "lmdbq storm some")
    assert (line.tried, line.faulty, line.seconds, line.version) == (12_000, 3, 61.3, __version__)
    file = tmp_path / "lines"
    for seed in ("first", "second"):
        results.append(replace(line, seed=seed), file)
    assert results.read(file) == [replace(line, seed="first"), replace(line, seed="second")]
    [row] = results.markdown(results.summed(results.read(file))).splitlines()[-1:]
    for cell in ("some storm", "does something", "12,000 runs in 61 s", "| 3 |", "slow \\| ones 0.988", "| second |"):
        assert cell in row
    for cell in ("24,000 runs in 2 sittings, 123 s", "| 6 |", "| first, second |"):
        assert cell in row
    heads, rule = results.markdown([]).splitlines()[-2:]
    assert heads.count("|") == rule.count("|") == row.replace("\\|", "").count("|")


def test_the_last_line_of_each_storm_is_shown_and_known_storms_come_first():
    lines = [results.line_of(report(name), "", "") for name in ("b", "a", "z", "b")]
    lines[3] = replace(lines[3], seed="the last")
    assert [row.storm for row in results.summed(lines, ("z", "never run"))] == ["z", "a", "b"]
    assert results.summed(lines)[1].seed == "the last"


def test_runs_of_several_sittings_are_summed_with_what_each_has_found():
    line = results.line_of(report("b"), "", "")
    sittings = [replace(line, seed=str(number % 15), faulty=int(number == 2), seconds=1_000.0) for number in range(20)]
    [row] = results.summed(sittings)
    assert (row.tried, row.faulty) == (12_000, 0)
    assert row.all_runs == results.AllRuns(20, 240_000, 1, 20_000.0, [str(number) for number in range(15)])
    text = results.markdown([row])
    assert "| 240,000 runs in 20 sittings, 5.6 h | 1 | " in text
    assert " 10, 11, and 3 more |" in text


def test_a_run_is_recorded_with_its_command_and_printed_again(tmp_path: Path):
    file = tmp_path / "storms.jsonl"
    ended = lmdbq("power-cut", "--images", "20", "--seed", "of the record", "--json", "--record", str(file))
    assert ended.returncode == 0, ended.stderr
    [line] = results.read(file)
    assert (line.storm, line.command, line.seed) == ("power-cut", "lmdbq storm power-cut --images 20", "of the record")
    assert line.figures == json.loads(ended.stdout)["figures"]
    assert lmdbq("report", str(file)).stdout == results.markdown(results.summed([line]))
    [row] = json.loads(lmdbq("report", "--json", str(file)).stdout)
    assert (row["storm"], row["tried"], row["all_runs"]["seeds"]) == ("power-cut", 20, ["of the record"])


def test_a_place_for_the_record_that_cannot_be_written_is_told_before_the_run(tmp_path: Path):
    ended = lmdbq("power-cut", "--record", str(tmp_path / "nowhere" / "file"))
    assert ended.returncode == 2
    assert "--record" in ended.stderr


def test_a_file_that_is_no_record_is_refused(tmp_path: Path):
    file = tmp_path / "other"
    file.write_text("{}\n")
    ended = lmdbq("report", str(file))
    assert ended.returncode == 1
    assert "--record" in ended.stderr


def test_the_committed_report_is_what_the_committed_lines_say():
    """After a new line: lmdbq storm report bench/results/storms.jsonl >bench/results/storms.md"""
    lines = results.read(RECORDED)
    assert RENDERED.read_text(encoding="utf-8") == results.markdown(results.summed(lines, [*STORMS, CONTROLS]))
    assert [line for line in lines if line.faulty] == []
