"""Full, over HTTP, in one daemon process: filled to 507, drained to nothing, filled again; on a disk and by a limit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox import Daemon

ROOM = "16m"
PAYLOAD = "x" * 4_000


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "lmdbq-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(name="daemon", params=["a full disk", "a full file"])
def _daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    if request.param == "a full file":
        started = Daemon(tmp_path / "data", "--max-size", ROOM)
    else:
        started = Daemon(request.getfixturevalue("small_disk") / "data")
    with started as daemon:
        yield daemon


def fill(daemon: Daemon) -> int:
    """Enqueue until even one task is refused with 507; return how many there was room for."""
    count = 0
    batch = 100
    while True:
        body = {"queue_name": "q", "entries": [{"payload": PAYLOAD}] * batch, "return_tasks": False}
        status, answer = daemon.call("POST", "/v1/enqueue", body)
        if status == 200:
            count += batch
        else:
            assert (status, answer["code"]) == (507, "full")
            if batch == 1:
                return count
            batch = max(1, batch // 5)


def drain(daemon: Daemon) -> int:
    """Dequeue and report until nothing is left; return how many tasks there were."""
    count = 0
    while tasks := daemon.dequeue(limit=100):
        reports = [{"lease": task["lease"], "status": "succeeded"} for task in tasks]
        outcomes = daemon.ok("POST", "/v1/report", {"reports": reports})["outcomes"]
        assert [one["outcome"] for one in outcomes] == ["ok"] * len(tasks)
        count += len(tasks)
    return count


def test_what_was_full_is_drained_and_filled_again(daemon: Daemon):
    assert daemon.process is not None
    process = daemon.process.pid
    first = fill(daemon)
    assert first > 1_000
    everything_else_goes_on(daemon)
    assert drain(daemon) == first
    second = fill(daemon)
    assert second > 0.9 * first
    assert daemon.ok("POST", "/v1/queues/q/purge")["tasks"] == second
    while daemon.call("POST", "/v1/tasks", {"queue_name": "q", "payload": PAYLOAD})[0] == 507:
        pass  # the tasks of a purged queue give their room back in rounds
    assert fill(daemon) > 0.5 * first
    assert daemon.process.pid == process
    assert daemon.process.poll() is None


def everything_else_goes_on(daemon: Daemon) -> None:
    """Workers and people can do what frees room, and what keeps work going."""
    [task] = daemon.dequeue()
    extended: Any = daemon.ok("POST", "/v1/extend", {"leases": [{"lease": task["lease"]}]})
    assert extended["outcomes"][0]["outcome"] == "ok"
    assert daemon.report(task["lease"], "failed", error={"message": "later"}, delay_in_seconds=0) == "ok"
    path = f"/v1/tasks/{task['id']}"
    assert daemon.ok("POST", f"{path}/cancel")["outcome"] == "ok"
    assert daemon.ok("POST", f"{path}/retry")["outcome"] == "ok"
    daemon.ok("POST", "/v1/queues/q/pause")
    daemon.ok("POST", "/v1/queues/q/resume")
    assert daemon.call("GET", "/readyz")[0] == 200
