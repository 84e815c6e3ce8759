"""A storm: the daemon is killed all the time, and a ledger of our own says afterwards what became of each task.

Producers repeat a request, with its Idempotency-Key, until it is answered; workers repeat dequeues, with their
claim_id, and reports. Everybody writes down only what was answered. Then, from those notes alone: nothing that was
acknowledged is missing, nothing was accepted twice, no id was given twice, no task was finished under two leases; and
the daemon's own totals agree.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.blackbox import STORM, Daemon

SECONDS = 75 if STORM else 8
KILL_EVERY_SECONDS = 1.0 if STORM else 0.8
BATCHES_PAUSE_SECONDS = 0.02
LEASE_SECONDS = 2
LATE = 0.05  # share of tasks whose worker comes back with them when others have them, or nobody
LATE_SECONDS = 1.6 * LEASE_SECONDS
FAILING = 0.06


class Ledger:
    """What was answered. number -> ids the producer was told; id -> deliveries that began, that ended well."""

    def __init__(self) -> None:
        self.accepted: dict[int, str] = {}
        self.answers: list[list[str]] = []
        self.started: dict[str, set[int]] = defaultdict(set)
        self.numbers: dict[int, set[str]] = defaultdict(set)
        self.finished: dict[str, list[int]] = defaultdict(list)
        self.stale: list[str] = []
        self.unexpected: list[Any] = []
        self.lost_answers = 0


class Storm:
    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.ledger = Ledger()
        self.producing = threading.Event()
        self.working = threading.Event()
        self.producing.set()
        self.working.set()

    def insist(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """Send the same request until it is answered. 503 is what a starting or stopping daemon may say."""
        while True:
            status, value = self.daemon.try_call("POST", path, body, headers=headers)
            if status == 200:
                return value
            if status == 0:
                self.ledger.lost_answers += 1
            elif status != 503:
                self.ledger.unexpected.append((path, status, value))
                return None
            time.sleep(0.02)

    def produce(self, share: int) -> None:
        """Enqueue numbered tasks in batches."""
        chance = random.Random(share)
        number = share * 10_000_000
        while self.producing.is_set():
            numbers = range(number, number + chance.randint(1, 12))
            number = numbers.stop
            body = {"queue_name": "storm", "entries": [self.entry(one) for one in numbers], "return_tasks": False}
            answer = self.insist("/v1/enqueue", body, {"Idempotency-Key": str(uuid.uuid4())})
            if answer is not None:
                ids = [outcome["id"] for outcome in answer["outcomes"]]
                self.ledger.answers.append(ids)
                self.ledger.accepted.update(zip(numbers, ids, strict=True))
            time.sleep(BATCHES_PAUSE_SECONDS)

    @staticmethod
    def entry(number: int) -> dict[str, Any]:
        return {
            "payload": {"number": number},
            "dedupe_key": str(number) if number % 2 else "",
            "keepalive_timeout_in_seconds": LEASE_SECONDS,
            "retry_strategy": {"max_attempts": 100, "max_deliveries": 1000, "retry_intervals_in_seconds": [0, 0.2]},
            "keep": {"succeeded_in_seconds": 3600},
        }

    def work(self, share: int) -> None:
        """Dequeue, and succeed or fail, in time or late."""
        chance = random.Random(1000 + share)
        late: deque[tuple[float, Any]] = deque()
        while self.working.is_set():
            body = {
                "queue_names": ["storm"],
                "limit": chance.randint(1, 10),
                "wait_in_seconds": 0.5,
                "claim_id": str(uuid.uuid4()),
            }
            for task in (self.insist("/v1/dequeue", body) or {"tasks": []})["tasks"]:
                self.begin(task)
                fate = chance.random()
                if fate < LATE:
                    late.append((time.monotonic() + LATE_SECONDS, task))
                else:
                    self.end(task, "failed" if fate < LATE + FAILING else "succeeded")
            while late and late[0][0] < time.monotonic():
                self.end(late.popleft()[1], "succeeded")

    def begin(self, task: dict[str, Any]) -> None:
        deliveries = self.ledger.started[task["id"]]
        if task["deliveries"] in deliveries:
            self.ledger.unexpected.append(("one delivery given twice", task))
        deliveries.add(task["deliveries"])
        self.ledger.numbers[task["payload"]["number"]].add(task["id"])

    def end(self, task: dict[str, Any], status: str) -> None:
        report = {"lease": task["lease"], "status": status}
        answer = self.insist("/v1/report", {"reports": [report]})
        outcome = answer["outcomes"][0]["outcome"] if answer else "none"
        if outcome != "ok":
            self.ledger.stale.append(outcome)
        elif status == "succeeded":
            self.ledger.finished[task["id"]].append(task["deliveries"])


def run_threads(target: Callable[[int], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, args=(share,)) for share in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_storm_of_kills_loses_nothing_and_does_nothing_twice(tmp_path: Path):
    with Daemon(tmp_path / "data") as daemon:
        storm = Storm(daemon)
        producers, workers = run_threads(storm.produce, 3), run_threads(storm.work, 3)
        kills = 0
        ends_at = time.monotonic() + SECONDS
        try:
            while time.monotonic() < ends_at:
                time.sleep(KILL_EVERY_SECONDS)
                daemon.kill_and_start_again()
                kills += 1
        finally:
            storm.producing.clear()
            for thread in producers:
                thread.join()
            drained = wait_until_drained(daemon)
            storm.working.clear()
            for thread in workers:
                thread.join()
        assert drained
        assert kills >= 5
        judge(storm.ledger, daemon)


def wait_until_drained(daemon: Daemon) -> bool:
    """Wait until nothing waits or runs."""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        counts = daemon.queue("storm")["counts"]
        if not counts["scheduled"] + counts["ready"] + counts["running"]:
            return True
        time.sleep(0.1)
    return False


def judge(ledger: Ledger, daemon: Daemon) -> None:
    """Compare the ledger with itself, and then with what the daemon says."""
    assert ledger.unexpected == []
    assert len(ledger.accepted) > 200
    assert ledger.lost_answers > 0, "no kill met a request: the storm was none"
    ids = [one for answer in ledger.answers for one in answer]
    assert len(ids) == len(set(ids)), "an id was given twice"
    assert {number: {given} for number, given in ledger.accepted.items()} == dict(ledger.numbers), (
        "a task that was acknowledged was never given out, or one was accepted twice"
    )
    assert set(ledger.finished) == set(ids), "a task that was acknowledged never ended"
    assert [one for one, deliveries in ledger.finished.items() if len(deliveries) > 1] == [], "finished twice"
    queue = daemon.queue("storm")
    assert queue["totals"]["enqueued"] == len(ids)
    assert queue["totals"]["succeeded"] == len(ids)
    assert {state: count for state, count in queue["counts"].items() if count} == {"succeeded": len(ids)}
    assert set(ledger.stale) <= {"stale_lease", "not_running"}
    assert "stale_lease" in ledger.stale, "nobody was late: fences were not tried"
    for one in ids[:: max(1, len(ids) // 200)]:
        shown = daemon.ok("GET", f"/v1/tasks/{one}")
        assert (shown["state"], shown["deliveries"]) == ("succeeded", ledger.finished[one][0])
