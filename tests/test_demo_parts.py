"""The parts of the demo, each alone: the data set, the work, and the count that must see every planted fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lmdbq.demo import count
from lmdbq.demo.sample import SAMPLE_PATH, Change, read_changes
from lmdbq.demo.work import Answer, answer

PARIS_IN_SPRING = Change("Europe/Paris", 1743296400, 3600, 7200, "CET", "CEST")


def test_the_data_set_is_large_and_its_keys_are_unique():
    changes = read_changes()
    assert len(changes) >= 20_000
    assert len({change.key for change in changes}) == len(changes)
    assert PARIS_IN_SPRING in changes


def test_a_part_of_the_data_set_is_spread_over_the_zones():
    some = read_changes(100)
    assert len(set(some)) == 100
    assert len({change.zone for change in some}) > 50


@pytest.mark.parametrize("wanted", [0, -1, 10**6])
def test_more_than_there_is_is_refused(wanted: int):
    with pytest.raises(ValueError, match="ask for 1 to"):
        read_changes(wanted)


def test_the_work_on_a_change_everybody_knows():
    assert answer(PARIS_IN_SPRING) == Answer(
        "gap", "3600", "2025-03-30 02:00:00", "2025-03-30 03:00:00", "Sunday", "5/1"
    )


def test_worker_and_count_agree_on_every_item():
    disagreed = [
        change
        for change in read_changes()
        if tuple(answer(change)) != count.expected_answer(change.at, change.before, change.after)
    ]
    assert disagreed == []


class Ledger:
    """Files as the producer and the workers of a faultless run would have left them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.accepted: list[str] = []
        self.events: list[str] = []
        for number, change in enumerate(read_changes(5), 1):
            self.accepted.append(f"enqueued\t{change.key}\ttsk_{number}")
            self.events += [f"start\t{change.key}\ttsk_{number}\t1", self.done(change, f"tsk_{number}", 1)]
        self.accepted.append(self.accepted[0].replace("enqueued", "skipped"))

    @staticmethod
    def done(change: Change, task_id: str, delivery: int) -> str:
        return "\t".join(["done", change.key, task_id, str(delivery), *answer(change)])

    def count(self) -> tuple[int, dict[str, int]]:
        (self.directory / "accepted.tsv").write_text("".join(f"{line}\n" for line in self.accepted), encoding="ascii")
        half = len(self.events) // 2
        for name, events in (("worker-1.tsv", self.events[:half]), ("worker-2.tsv", self.events[half:])):
            (self.directory / name).write_text("".join(f"{line}\n" for line in events), encoding="ascii")
        script = [sys.executable, "-I", count.__file__, str(self.directory), str(SAMPLE_PATH)]
        finished = subprocess.run(script, capture_output=True, text=True, check=False)
        return finished.returncode, json.loads(finished.stdout)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def test_the_count_of_a_faultless_run(ledger: Ledger):
    assert ledger.count() == (
        0,
        {
            "enqueued": 5,
            "deduplicated": 1,
            "completed": 5,
            "retried": 0,
            "lost": 0,
            "accepted_twice": 0,
            "started_twice": 0,
            "finished_twice": 0,
            "unasked": 0,
            "wrong": 0,
        },
    )


def test_the_count_sees_a_lost_task(ledger: Ledger):
    ledger.events.pop()
    status, found = ledger.count()
    assert (status, found["lost"], found["completed"]) == (1, 1, 4)


def test_the_count_sees_a_key_that_was_accepted_twice(ledger: Ledger):
    key = read_changes(5)[0].key
    ledger.accepted.append(f"enqueued\t{key}\ttsk_9")
    status, found = ledger.count()
    assert (status, found["accepted_twice"], found["lost"]) == (1, 1, 1)


def test_the_count_sees_a_key_that_was_done_under_two_ids(ledger: Ledger):
    ledger.events.append(ledger.done(read_changes(5)[0], "tsk_9", 1))
    status, found = ledger.count()
    assert (status, found["accepted_twice"], found["completed"]) == (1, 1, 5)


def test_the_count_sees_work_that_nobody_was_promised(ledger: Ledger):
    ledger.accepted.pop(2)
    status, found = ledger.count()
    assert (status, found["unasked"]) == (1, 1)


def test_the_count_sees_a_wrong_answer(ledger: Ledger):
    ledger.events[-1] = ledger.events[-1].replace("gap", "overlap").replace("renamed", "gap")
    status, found = ledger.count()
    assert (status, found["wrong"]) == (1, 1)


def test_a_task_that_ran_again_is_told_and_is_no_fault(ledger: Ledger):
    change = read_changes(5)[0]
    ledger.events += [f"start\t{change.key}\ttsk_1\t2", ledger.done(change, "tsk_1", 2)]
    status, found = ledger.count()
    assert (status, found["started_twice"], found["finished_twice"]) == (0, 1, 1)


def test_a_planned_failure_is_a_retry_and_not_a_second_start(ledger: Ledger):
    key = read_changes(5)[0].key
    ledger.events[:0] = [f"start\t{key}\ttsk_1\t1", f"fail\t{key}\ttsk_1\t1"]
    status, found = ledger.count()
    assert (status, found["retried"], found["started_twice"]) == (0, 1, 0)


def test_half_a_line_of_a_killed_worker_is_no_record(ledger: Ledger, tmp_path: Path):
    ledger.count()
    path = tmp_path / "worker-2.tsv"
    path.write_text(path.read_text(encoding="ascii")[:-1], encoding="ascii")
    assert count.count(tmp_path, SAMPLE_PATH)["lost"] == 1
