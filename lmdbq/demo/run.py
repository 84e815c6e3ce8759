"""The run: a daemon, a producer and two workers as processes; kills in the middle; then the independent count.

Everything happens in one directory, and what happened is read from there: ``accepted.tsv`` by the producer,
``worker-*.tsv`` by the workers, both written before anybody else is told. The run itself only watches and kills.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from lmdbq.client.http import HttpClient
from lmdbq.demo import count
from lmdbq.demo.children import Children, DemoFailed, Interrupts
from lmdbq.demo.producer import QUEUE, Producer
from lmdbq.demo.sample import SAMPLE_PATH, read_changes

LEASE_SECONDS: Final = 3.0  # short, so that what a killed worker held is soon back
RETRY: Final = {"max_attempts": 20, "retry_intervals_in_seconds": [0.2, 0.5]}
WORKERS: Final = ("worker-1", "worker-2")
LOOK_SECONDS: Final = 0.02
RUN_SECONDS_MAX: Final = 180.0
PATIENCE_SECONDS: Final = 60.0
COUNT_STATUSES: Final = (0, 1)


class Progress(NamedTuple):
    """How far a run is. event: what has just happened, in words, or ""."""

    total: int
    accepted: int
    completed: int
    event: str = ""


class Tail:
    """Counts the finished tasks in a worker's output as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.done = 0

    def look(self) -> int:
        """Return how many lines say "done" so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._at += len(whole)
            self.done += sum(line.startswith(b"done\t") for line in whole.split(b"\n"))
        return self.done


class Run:
    """One demo in ``directory``, told to ``tell`` as it goes."""

    def __init__(self, directory: Path, tasks: int, tell: Callable[[Progress], None], children: Children) -> None:
        self._directory = directory
        self._changes = read_changes(tasks)
        self._tell = tell
        self._children = children
        self._tails = [Tail(directory / f"{name}.tsv") for name in WORKERS]
        self._listen = "127.0.0.1:0"
        self.daemon_restarts = 0
        self.worker_restarts = 0
        self.url = self._start_daemon()
        self._client = HttpClient(self.url, token="", patience=PATIENCE_SECONDS)
        self._producer = Producer(self._client, self._changes, directory / "accepted.tsv")

    def _start_daemon(self) -> str:
        arguments = ("lmdbq.cli", "serve", "--data", str(self._directory / "data"), "--listen", self._listen)
        self._children.start("daemon", *arguments)
        url = self._children.read_url("daemon")
        self._listen = url.removeprefix("http://")
        return url

    def _start_worker(self, name: str) -> None:
        self._children.start(name, "lmdbq.demo.worker", self.url, str(self._directory / f"{name}.tsv"))

    def _progress(self, event: str = "") -> Progress:
        total = len(self._changes)
        completed = min(total, sum(tail.look() for tail in self._tails))  # a task done twice is two lines
        progress = Progress(total, self._producer.accepted, completed, event)
        self._tell(progress)
        return progress

    def drain(self) -> tuple[float, float]:
        """Enqueue and work everything off, with kills; return the seconds of the producer and of the whole."""
        self._client.put_queue(QUEUE, keepalive_timeout_in_seconds=LEASE_SECONDS, retry_strategy=RETRY)
        began = time.monotonic()
        for name in WORKERS:
            self._start_worker(name)
        self._producer.start()
        kills = self._kills()
        while not next(kills) or not self._is_drained():
            if time.monotonic() - began > RUN_SECONDS_MAX:
                raise DemoFailed(f"not drained after {RUN_SECONDS_MAX:.0f} s: {self._progress()}")
            self._children.check()
            if self._producer.error:
                raise DemoFailed(f"the producer failed: {self._producer.error}")
            time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - began
        self._progress("drained")
        self._children.check()
        for name in WORKERS:
            self._children.stop(name)
        self._client.close()
        self._children.stop("daemon")
        return self._producer.seconds, seconds

    def _kills(self) -> Iterator[bool]:
        """Kill what the plan says, each when its moment has come; yield whether all of it is done."""
        while self._progress().accepted < 0.4 * len(self._changes):
            yield False
        self._restart_daemon("while tasks came in and were worked off")
        while self._progress().completed < 0.5 * len(self._changes):
            yield False
        self._children.kill("worker-1")
        self.worker_restarts += 1
        self._progress("kill -9 of a worker; another takes its place, its tasks come back when their leases lapse")
        self._start_worker("worker-1")
        while self._producer.is_alive() or self._progress().completed < 0.7 * len(self._changes):
            yield False
        self._restart_daemon("while tasks were worked off")
        while True:
            self._progress()
            yield True

    def _restart_daemon(self, when: str) -> None:
        self._children.kill("daemon")
        self.daemon_restarts += 1
        self._progress(f"kill -9 of the daemon, {when}")
        self._start_daemon()

    def _is_drained(self) -> bool:
        if self._producer.is_alive():
            return False
        return self._client.count(queue_name=QUEUE, state=["scheduled", "ready", "running"]) == 0


def plant_a_loss(directory: Path) -> None:
    """Take what one finished task left in the workers' outputs away, to show that the count sees a loss."""
    lines = {path: path.read_text("ascii").splitlines(keepends=True) for path in directory.glob("worker-*.tsv")}
    done = next(line for part in lines.values() for line in part if line.startswith("done\t"))
    task_id = done.split("\t")[2]
    for path, part in lines.items():
        path.write_text("".join(line for line in part if line.split("\t")[::2][:2] != ["done", task_id]), "ascii")


def count_independently(directory: Path) -> tuple[bool, dict[str, int]]:
    """Run ``count.py`` as a process that knows nothing of lmdbq; return whether all is well, and what it found."""
    command = [sys.executable, "-I", count.__file__, str(directory), str(SAMPLE_PATH)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode not in COUNT_STATUSES:
        raise DemoFailed(f"the count failed: {finished.stderr.strip()}")
    found: dict[str, int] = json.loads(finished.stdout)
    return finished.returncode == 0, found


def run(directory: Path, tasks: int, tell: Callable[[Progress], None], *, with_loss: bool = False) -> dict[str, Any]:
    """Carry the demo out in ``directory`` (empty) with ``tasks`` items and return the report.

    Raises ValueError for a number of tasks that the data set does not have, DemoFailed if the run broke down,
    KeyboardInterrupt after SIGINT or SIGTERM; no process is left behind.
    """
    began = time.monotonic()
    with Interrupts() as interrupts, Children(directory, interrupts) as children:
        demo = Run(directory, tasks, tell, children)
        producer_seconds, drain_seconds = demo.drain()
    if with_loss:
        plant_a_loss(directory)
    is_well, found = count_independently(directory)
    return {
        "passed": is_well and found["enqueued"] == found["completed"] == tasks,
        "tasks": tasks,
        **found,
        "daemon_restarts": demo.daemon_restarts,
        "worker_restarts": demo.worker_restarts,
        "enqueue_per_second": round((found["enqueued"] + found["deduplicated"]) / producer_seconds),
        "complete_per_second": round(found["completed"] / drain_seconds),
        "seconds": round(time.monotonic() - began, 1),
    }
