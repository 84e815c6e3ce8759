"""A set through kills: its callback comes exactly once, whatever is killed when."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

from tests.blackbox import STORM, Daemon

ROUNDS = 60 if STORM else 6
MEMBERS = 8


def test_each_set_is_followed_once_though_the_daemon_is_killed_at_its_last_reports(tmp_path: Path):
    chance = random.Random(11)
    with Daemon(tmp_path / "data") as daemon:
        made = []
        for number in range(ROUNDS):
            body = {
                "condition": "finished",
                "callback": {"queue_name": "after"},
                "entries": [{"queue_name": "q", "keep": {"succeeded_in_seconds": 600}} for _ in range(MEMBERS)],
                "close": True,
            }
            made.append(daemon.ok("POST", "/v1/sets", body, headers={"Idempotency-Key": f"set-{number}"})["id"])
            leases = [task["lease"] for task in daemon.dequeue(limit=MEMBERS)]
            _report_while_it_is_killed(daemon, leases, chance.uniform(0, 0.02))
            for lease in leases:  # whatever had come through is repeated
                assert daemon.report(lease) == "ok"
        shown = [daemon.ok("GET", f"/v1/sets/{id}") for id in made]
        followers = daemon.ok("GET", "/v1/tasks?queue_name=after&limit=1000")["tasks"]

    assert {(one["state"], one["succeeded"], one["pending"]) for one in shown} == {("met", MEMBERS, 0)}
    assert sorted(task["callback_of"] for task in followers) == sorted(made)


def _report_while_it_is_killed(daemon: Daemon, leases: list[str], seconds: float) -> None:
    def report(lease: str) -> None:
        body = {"reports": [{"lease": lease, "status": "succeeded"}]}
        answers.append(daemon.try_call("POST", "/v1/report", body))

    answers: list[tuple[int, Any]] = []
    callers = [threading.Thread(target=report, args=(lease,)) for lease in leases]
    for caller in callers:
        caller.start()
    time.sleep(seconds)
    daemon.kill_and_start_again()
    for caller in callers:
        caller.join()
    assert {status for status, _ in answers} <= {0, 200, 503}
