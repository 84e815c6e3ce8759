"""``lmdbq storm``: what it says, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys


def storm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmdbq", "storm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


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
