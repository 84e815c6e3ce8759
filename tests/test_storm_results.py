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
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def test_a_line_says_what_was_done_and_what_was_found(tmp_path: Path):
    line = results.line_of(report(faulty=3), "does something", "lmdbq storm some")
    assert (line.tried, line.faulty, line.seconds, line.version) == (12_000, 3, 61.3, __version__)
    file = tmp_path / "lines"
    for seed in ("first", "second"):
        results.append(replace(line, seed=seed), file)
    assert results.read(file) == [replace(line, seed="first"), replace(line, seed="second")]
    [row] = results.markdown(results.latest(results.read(file))).splitlines()[-1:]
    for cell in ("some storm", "does something", "12,000 runs in 61 s", "| 3 |", "slow \\| ones 0.988", "second"):
        assert cell in row
    assert "first" not in row


def test_the_last_line_of_each_storm_counts_and_known_storms_come_first():
    lines = [results.line_of(report(name), "", "") for name in ("b", "a", "z", "b")]
    lines[3] = replace(lines[3], seed="the last")
    assert [line.storm for line in results.latest(lines, ("z", "never run"))] == ["z", "a", "b"]
    assert results.latest(lines)[1] == lines[3]


def test_a_run_is_recorded_with_its_command_and_printed_again(tmp_path: Path):
    file = tmp_path / "storms.jsonl"
    ended = lmdbq("power-cut", "--images", "20", "--seed", "of the record", "--json", "--record", str(file))
    assert ended.returncode == 0, ended.stderr
    [line] = results.read(file)
    assert (line.storm, line.command, line.seed) == ("power-cut", "lmdbq storm power-cut --images 20", "of the record")
    assert line.figures == json.loads(ended.stdout)["figures"]
    assert lmdbq("report", str(file)).stdout == results.markdown([line])
    assert [one["storm"] for one in json.loads(lmdbq("report", "--json", str(file)).stdout)] == ["power-cut"]


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
    lines = results.latest(results.read(RECORDED), [*STORMS, CONTROLS])
    assert RENDERED.read_text(encoding="utf-8") == results.markdown(lines)
    assert [line.storm for line in lines if line.faulty] == []
