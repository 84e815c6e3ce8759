"""How a worker ends: what runs may finish, what waits comes back at once, and all is over a second after the grace.

Times are of the machine's monotonic clock, which the worker reads itself; what it stood still meanwhile (it got no
processor, as ``Stalls`` saw it in its own process) is no lateness of the queue and is allowed for, and nothing else is.
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
from lmdbq.storm.clock_rig import Stalls
from tests.real_daemon import RealDaemon

LATE_SECONDS = 1.0
PROGRAM = r"""
import sys, threading, time, lmdbq
from lmdbq.storm.clock_rig import Stalls
tasks = lmdbq.Tasks()

@tasks.task
def slow(seconds: float) -> str:
    sys.stdout.write("started\n")
    sys.stdout.flush()
    threading.Event().wait(seconds)
    return "finished"

with Stalls() as stalls:
    with lmdbq.Client(sys.argv[1]) as client:
        lmdbq.Worker(client, tasks, queues=[sys.argv[2]], concurrency=8, buffer=8, grace=float(sys.argv[3])).run()
    over_at = time.monotonic()
    since = float(sys.stdin.readline())
    print(over_at - since, stalls.seconds(since, over_at), flush=True)
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
        """Wait for its end and return its status and what it printed; it is told when it was asked to end."""
        out, errors = self.process.communicate(f"{self.asked_at}\n", timeout=60)
        return self.process.returncode, out, errors

    def seconds_to_end(self) -> tuple[float, float]:
        """Wait for its end, which is a good one; return how long it took, and for how long of that it stood still."""
        status, out, errors = self.ended()
        assert (status, errors) == (0, "")
        took, stood_still = map(float, out.split())
        return took, stood_still


def test_a_signal_lets_eight_finish_and_hands_eight_back(where: str):
    with Client(where) as client:
        handles = client.enqueue_many([Entry("slow", {"seconds": 2.5}, queue="term", keep=600)] * 16)
        with Working(where, "term", 3) as worker, Stalls() as stalls:
            while client.tasks(queue="term", state="running").count() < 16:
                time.sleep(0.01)
            worker.signal(signal.SIGTERM)
            while client.tasks(queue="term", state="ready").count() < 8:
                assert worker.process.poll() is None
            back_at = time.monotonic()
            assert client.tasks(queue="term", state="running").count() == 8, "they still run"
            took, stood_still = worker.seconds_to_end()
            here = stalls.seconds(worker.asked_at, back_at)
        assert back_at - worker.asked_at < LATE_SECONDS + here + stood_still
        assert took < 3 + LATE_SECONDS + stood_still
        infos = [handle.info() for handle in handles]
        assert sorted((info.state, info.deliveries, info.failures) for info in infos) == [
            *[("ready", 1, 0)] * 8,
            *[("succeeded", 1, 0)] * 8,
        ]


def test_the_grace_is_an_end(where: str):
    with Client(where) as client:
        client.enqueue_many([Entry("slow", {"seconds": 60}, queue="grace")] * 16)
        with Working(where, "grace", 0.5) as worker:
            worker.signal(signal.SIGTERM)
            took, stood_still = worker.seconds_to_end()
        assert 0.5 <= took < 0.5 + LATE_SECONDS + stood_still
        assert client.tasks(queue="grace", state="ready").count() == 16


def test_a_second_signal_ends_now(where: str):
    with Client(where) as client:
        client.enqueue_many([Entry("slow", {"seconds": 60}, queue="second")] * 8)
        with Working(where, "second", 60, before="import logging; logging.basicConfig(level=20)") as worker:
            assert worker.process.stderr is not None
            worker.signal(signal.SIGINT)
            assert any("a second signal ends it now" in line for line in worker.process.stderr)
            worker.signal(signal.SIGINT)
            status, out, errors = worker.ended()
        assert (status, out) == (-signal.SIGINT, "")
        assert "KeyboardInterrupt" in errors


def test_sigusr2_shows_what_runs(where: str):
    with Client(where) as client:
        client.enqueue_many([Entry("slow", {"seconds": 60}, queue="usr2")] * 8)
        with Working(where, "usr2", 0) as worker:
            assert worker.process.stderr is not None
            worker.process.send_signal(signal.SIGUSR2)
            assert re.match(r"tsk_\w{11} slow attempt 1, claimed ", worker.process.stderr.readline())
            assert any("in slow" in line for line in worker.process.stderr)
            worker.signal(signal.SIGTERM)
            assert worker.ended()[0] == 0
