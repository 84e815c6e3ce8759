"""How a worker ends: what runs may finish, what waits comes back at once, and the grace is an end.

Nothing here must be quick: what must come before something else is waited for, while that something is held up.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmdbq import Client, Entry
from lmdbq.store.lmdb import open_store
from tests.real_daemon import RealDaemon

PROGRAM = r"""
import sys, time, lmdbq
from pathlib import Path
tasks = lmdbq.Tasks()

@tasks.task
def slow(until: str) -> str:
    sys.stdout.write("started\n")
    sys.stdout.flush()
    while not Path(until).exists():
        time.sleep(0.01)
    return "finished"

with lmdbq.Client(sys.argv[1]) as client:
    lmdbq.Worker(client, tasks, queues=[sys.argv[2]], concurrency=8, buffer=8, grace=float(sys.argv[3])).run()
print(time.monotonic(), flush=True)
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[RealDaemon]:
    with tempfile.TemporaryDirectory() as directory, RealDaemon(Path(directory)) as real:
        yield real


@pytest.fixture(params=["unix", "directory"])
def where(request: pytest.FixtureRequest, daemon: RealDaemon, tmp_path: Path) -> Iterator[str]:
    if request.param == "unix":
        yield daemon.where
        return
    yield str(tmp_path / "q")
    store = open_store(tmp_path / "q")
    assert store.check() == []
    store.close()


class Working:
    """A worker process of which 8 tasks run. asked_at: when it was first sent a signal, monotonic seconds."""

    def __init__(self, where: str, queue: str, grace: float, *, before: str = "") -> None:
        command = [sys.executable, "-c", before + PROGRAM, where, queue, str(grace)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.asked_at = 0.0

    def __enter__(self) -> Working:
        assert self.process.stdout is not None
        started = [self.process.stdout.readline() for _ in range(8)]
        assert started == ["started\n"] * 8, self.process.communicate()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def signal(self, number: signal.Signals) -> None:
        self.asked_at = self.asked_at or time.monotonic()
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end and return its status and what it printed."""
        out, errors = self.process.communicate(timeout=60)
        return self.process.returncode, out, errors

    def ended_at(self) -> float:
        """Wait for its end, which is a good one; return when its work was over, monotonic seconds."""
        status, out, errors = self.ended()
        assert (status, errors) == (0, "")
        return float(out)


def test_a_signal_lets_eight_finish_and_hands_eight_back(where: str, tmp_path: Path):
    with Client(where) as client:
        handles = client.enqueue_many([Entry("slow", {"until": str(tmp_path / "go")}, queue="term", keep=600)] * 16)
        with Working(where, "term", 600) as worker:
            while client.tasks(queue="term", state="running").count() < 16:
                time.sleep(0.01)
            worker.signal(signal.SIGTERM)
            while client.tasks(queue="term", state="ready").count() < 8:
                assert worker.process.poll() is None
            assert client.tasks(queue="term", state="running").count() == 8, "they still run"
            (tmp_path / "go").touch()
            worker.ended_at()
        infos = [handle.info() for handle in handles]
        assert sorted((info.state, info.deliveries, info.failures) for info in infos) == [
            *[("ready", 1, 0)] * 8,
            *[("succeeded", 1, 0)] * 8,
        ]


def test_the_grace_is_an_end(where: str, tmp_path: Path):
    with Client(where) as client:
        client.enqueue_many([Entry("slow", {"until": str(tmp_path / "never")}, queue="grace")] * 16)
        with Working(where, "grace", 0.5) as worker:
            worker.signal(signal.SIGTERM)
            assert worker.ended_at() >= worker.asked_at + 0.5
        assert client.tasks(queue="grace", state="ready").count() == 16


def test_a_second_signal_ends_now(where: str, tmp_path: Path):
    with Client(where) as client:
        client.enqueue_many([Entry("slow", {"until": str(tmp_path / "never")}, queue="second")] * 8)
        with Working(where, "second", 60, before="import logging; logging.basicConfig(level=20)") as worker:
            assert worker.process.stderr is not None
            worker.signal(signal.SIGINT)
            assert any("a second signal ends it now" in line for line in worker.process.stderr)
            worker.signal(signal.SIGINT)
            status, out, errors = worker.ended()
        assert (status, out) == (-signal.SIGINT, "")
        assert "KeyboardInterrupt" in errors


def test_sigusr2_shows_what_runs(where: str, tmp_path: Path):
    with Client(where) as client:
        client.enqueue_many([Entry("slow", {"until": str(tmp_path / "never")}, queue="usr2")] * 8)
        with Working(where, "usr2", 0) as worker:
            assert worker.process.stderr is not None
            worker.process.send_signal(signal.SIGUSR2)
            assert re.match(r"tsk_\w{11} slow attempt 1, claimed ", worker.process.stderr.readline())
            assert any("in slow" in line for line in worker.process.stderr)
            worker.signal(signal.SIGTERM)
            assert worker.ended()[0] == 0
