"""``lmdbq demo`` as it is run: a whole one passes, a planted loss is found, an interrupted one leaves nobody behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEMO = [sys.executable, "-m", "lmdbq.cli", "demo", "--tasks", "400"]
PROMISED = {
    "enqueued",
    "deduplicated",
    "completed",
    "retried",
    "lost",
    "accepted_twice",
    "started_twice",
    "daemon_restarts",
    "enqueue_per_second",
    "complete_per_second",
    "seconds",
}


def run_demo(temporary: Path, *options: str) -> tuple[int, dict[str, Any]]:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    finished = subprocess.run([*DEMO, "--json", *options], env=environment, capture_output=True, text=True, check=False)
    assert finished.stdout, finished.stderr
    return finished.returncode, json.loads(finished.stdout)


def processes_that_know(directory: Path) -> list[str]:
    """Return the command lines of this machine's processes that name ``directory``."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it ended while we looked
        if str(directory) in line:
            lines.append(line)
    return lines


def test_a_whole_demo_counts_everything(tmp_path: Path):
    status, report = run_demo(tmp_path)
    assert report.keys() >= PROMISED
    expected = {"passed": True, "enqueued": 400, "completed": 400, "deduplicated": 20, "retried": 8}
    assert {name: report[name] for name in expected} == expected
    assert (report["lost"], report["accepted_twice"], report["unasked"], report["wrong"]) == (0, 0, 0, 0)
    assert (report["daemon_restarts"], report["worker_restarts"]) == (2, 1)
    assert status == 0
    assert list(tmp_path.iterdir()) == [], "the directory is removed unless --keep is given"
    assert processes_that_know(tmp_path) == []


def test_a_planted_loss_fails_the_demo(tmp_path: Path):
    status, report = run_demo(tmp_path, "--plant-loss", "--keep")
    assert (status, report["passed"], report["lost"], report["completed"]) == (1, False, 1, 399)
    (kept,) = tmp_path.iterdir()
    assert {path.name for path in kept.iterdir()} >= {"accepted.tsv", "worker-1.tsv", "worker-2.tsv", "data"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals):
    with subprocess.Popen(
        DEMO, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        assert any("kill -9" in line for line in demo.stderr), "the demo ended before its first kill"
        assert processes_that_know(tmp_path), "no process of the demo names its directory: this test would see nothing"
        demo.send_signal(number)
        _, said = demo.communicate(timeout=60)
    assert demo.returncode == 130, said
    assert processes_that_know(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_tasks_that_there_is_not_is_a_usage_error(tmp_path: Path):
    finished = subprocess.run(
        [*DEMO, "--tasks", "1000000"], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, check=False
    )
    assert finished.returncode == 2
    assert b"the data set has" in finished.stderr
