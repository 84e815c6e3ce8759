"""A schedule through kills: whatever is killed when, each instant gives exactly one task."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.blackbox import STORM, Daemon

KILLS = 40 if STORM else 5


def test_each_instant_gives_one_task_though_the_daemon_is_killed_about_it(tmp_path: Path):
    chance = random.Random(7)
    with Daemon(tmp_path / "data") as daemon:
        daemon.ok("PUT", "/v1/schedules/tick", {"cron": "* * * * * *", "task": {"queue_name": "q"}})
        for _ in range(KILLS):
            until = int(time.time()) + 1 + chance.uniform(-0.03, 0.06)  # about the next instant
            time.sleep(max(0.0, until - time.time()))
            daemon.kill_and_start_again()
        last = int(time.time())
        deadline = time.monotonic() + 60
        while daemon.ok("GET", "/v1/schedules/tick")["last_at"] < last * 10**9:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        daemon.ok("POST", "/v1/schedules/tick/pause")
        tasks = daemon.ok("GET", "/v1/tasks?queue_name=q&limit=1000")["tasks"]

    instants = [task["metadata"]["schedule"]["instant_at"] // 10**9 for task in tasks]
    assert len(instants) >= KILLS
    assert instants == list(range(instants[0], instants[0] + len(instants))), "one is missing, twice or out of order"
