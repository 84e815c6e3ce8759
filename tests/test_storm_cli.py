"""``lmdbq storm``: what it says, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path


def storm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmdbq", "storm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)


def test_a_power_cut_storm_that_finds_nothing_ends_well():
    ended = storm("power-cut", "--images", "30", "--seed", "of the cli", "--json")
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert (said["storm"], said["seed"], said["tried"], said["faulty"], said["passed"]) == (
        ("power-cut", "of the cli", 30, 0, True)
    )


def test_one_that_finds_a_fault_says_where_and_ends_with_one():
    ended = storm("power-cut", "--images", "40", "--seed", "of the cli", "--plant", "answer-early")
    assert ended.returncode == 1
    assert "ARE NOT AS THEY MUST BE" in ended.stdout
    assert "image of the cli/0/" in ended.stdout
    assert "seed of the cli" in ended.stdout


def test_failing_calls_are_told_in_words_with_a_seed_that_was_chosen():
    ended = storm("fail-call", "--runs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("fail-call: 2 runs in ")
    assert "all is there" in ended.stdout
    assert "durability full" in ended.stderr


def test_a_storm_that_does_not_exist_is_a_wrong_use():
    assert storm("power-cut", "--plant", "nothing").returncode == 2
    assert storm("earthquake").returncode == 2


def test_one_image_is_made_again_and_kept(tmp_path: Path):
    seed = ("--seed", "of the cli", "--plant", "answer-early")
    first = storm("power-cut", "--images", "40", "--json", *seed)
    fault = json.loads(first.stdout)["faults"][0]
    name = re.search(r"of the cli/(\d+/\d+), cut", fault["where"])
    assert name is not None
    keep = tmp_path / "kept"
    ended = storm("power-cut", "--image", name[1], "--keep", str(keep), "--json", *seed)
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["faults"] == [fault]
    assert f"lmdbq check {keep}/queue" in ended.stderr
    checked = subprocess.run([sys.executable, "-m", "lmdbq", "check", str(keep / "queue")], check=False)
    assert checked.returncode == 0, "the file is whole; it is the answer that came too early"
    answers = [json.loads(line) for line in (keep / "answers.jsonl").read_text().splitlines()]
    assert sum(len(answer["accepted"]) for answer in answers) > 0
    again = storm("power-cut", "--image", name[1], "--keep", str(keep), *seed)
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_an_image_needs_a_seed_a_place_and_a_name_that_can_be_one(tmp_path: Path):
    assert storm("power-cut", "--image", "0/1", "--keep", str(tmp_path)).returncode == 2
    ended = storm("power-cut", "--image", "first", "--keep", str(tmp_path / "kept"), "--seed", "1")
    assert ended.returncode == 2
    assert "ROUND/NUMBER" in ended.stderr
