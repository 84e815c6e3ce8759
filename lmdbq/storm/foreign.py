"""The storm of foreign hands: what others do to the file, and how each of it ends.

Each case is one row of the docs' table (`guide/file.md`), run on a directory of its own with real processes. A case
yields what is not as that row says. ``foreign_files`` has the cases of files that are damaged, cut off, or not ours;
here are processes.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.storm.foreign_files import FILES
from lmdbq.storm.foreign_ground import Case, Ground
from lmdbq.storm.planted_daemon import PLANTS
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory
from lmdbq.storm.served import Served, Unreachable

SOON_SECONDS: Final = 60.0  # a hang is longer, and a machine with much to do is slow
BUSY_SECONDS: Final = 5.0  # a write that waited so long for the file's lock is answered 503
_NAMESPACE: Final = ("unshare", "--map-root-user", "--pid", "--mount-proc", "--fork", "--kill-child")


@contextmanager
def user(ground: Ground, what: str) -> Iterator[subprocess.Popen[str]]:
    """Have a library user hold a transaction for the length of a block; he is killed at its end, if he still lives."""
    command = [sys.executable, "-m", "lmdbq.storm.foreign_user", what, str(ground.data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the library user has died"
            yield process
        finally:
            process.kill()


def _enqueue(served: Served, patience: float = SOON_SECONDS + BUSY_SECONDS) -> tuple[int, float]:
    """Return the status of an enqueue (0: no answer), and how long it took."""
    began = time.monotonic()
    with served.caller(patience) as caller:
        try:
            status, _ = caller.ask("POST", "/v1/tasks", b'{"type":"t"}')
        except Unreachable:
            status = 0
    return status, time.monotonic() - began


def _waits_long(served: Served) -> bool:
    """Whether the daemon has waited for the file's lock for so long that it refuses more writes."""
    with served.caller(SOON_SECONDS) as caller:
        _, body = caller.ask("GET", "/v1/info")
    return float(json.loads(body)["engine"]["lock_wait_seconds"]) > BUSY_SECONDS


def _stored(served: Served) -> int:
    with served.caller() as caller:
        _, body = caller.ask("GET", "/v1/tasks/count")
    return int(body.partition(b":")[2].strip(b" }\n"))


def lock_held(ground: Ground) -> Iterator[str]:
    """Somebody holds the write lock: reads go on, a write waits; one that comes after long is 503; then all goes on."""
    with ground.served() as served, ThreadPoolExecutor(1) as beside:
        accepted = int(_enqueue(served)[0] == 201)
        with user(ground, "write") as holder:
            held_since = time.monotonic()
            waiting = beside.submit(_enqueue, served, ground.hold_seconds + BUSY_SECONDS + SOON_SECONDS)
            while time.monotonic() < held_since + ground.hold_seconds:
                with served.caller(SOON_SECONDS) as caller:
                    if caller.ask("GET", "/v1/tasks")[0] != 200:
                        yield "a read was not answered while another process held the lock"
                if _waits_long(served) and (status := _enqueue(served)[0]) != 503:
                    yield f"another write waited for more than {BUSY_SECONDS:g} s, and one was answered {status}"
                time.sleep(0.05)
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            holder.wait(SOON_SECONDS)
        for status, seconds in (waiting.result(), _enqueue(served)):
            accepted += status == 201
            if status != 201:
                yield f"when the lock was free, a write was answered {status} after {seconds:.1f} s"
        if (stored := _stored(served)) < accepted:
            yield f"{accepted} were accepted, {stored} are stored"


def holder_dies(ground: Ground) -> Iterator[str]:
    """Somebody dies holding the write lock: the next write goes on at once, and nothing of his is there."""
    with ground.served() as served:
        with user(ground, "write") as holder:
            holder.kill()
            holder.wait()
            status, seconds = _enqueue(served)
        if status != 201 or seconds > SOON_SECONDS:
            yield f"a write was answered {status} in {seconds:.1f} s after the lock's holder had died"


def old_reader(ground: Ground) -> Iterator[str]:
    """Somebody keeps a read transaction: the file grows meanwhile, and no more once he has ended or was killed."""
    with ground.served() as served:
        with user(ground, "read"):
            _churn(served, ground.hold_seconds)
        _churn(served, ground.hold_seconds)  # he was killed: his slot is found and cleared
        before = _used_up(ground.data)
        _churn(served, 2 * ground.hold_seconds)
        if (after := _used_up(ground.data)) > before + 16 * 2**20:
            yield f"the file grew from {before} to {after} bytes, and the reader was dead"


def _churn(served: Served, seconds: float) -> None:
    """Enqueue, dequeue and report."""
    until = time.monotonic() + seconds
    with served.caller() as caller:
        while time.monotonic() < until:
            caller.post("/v1/enqueue", {"entries": [{"payload": "x" * 500}] * 50, "return_tasks": False})
            tasks = caller.post("/v1/dequeue", {"limit": 50})["tasks"]
            reports = [{"lease": task["lease"], "status": "succeeded"} for task in tasks]
            caller.post("/v1/report", {"reports": reports})


def _used_up(directory: Path) -> int:
    return (directory / "data.mdb").stat().st_size


def forked(ground: Ground) -> Iterator[str]:
    """Somebody forks with the file open: the child is refused, may open it anew, and the parent goes on."""
    ground.fill()
    command = [sys.executable, "-m", "lmdbq.storm.foreign_user", "fork", str(ground.data)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        yield f"ended with {ended.returncode}: {ended.stderr[-500:]}"


def two_daemons(ground: Ground) -> Iterator[str]:
    """A second daemon on one file ends with 75 and names the first, which goes on."""
    with ground.served() as served:
        status, said = ground.lmdbq("serve", "--data", str(ground.data), "--listen", "127.0.0.1:0", seconds=15)
        if status != 75 or str(served.pid) not in said:
            yield f"the second daemon ended with {status}: {said}"
        if _enqueue(served)[0] != 201:
            yield "the first daemon no longer accepts tasks"


def two_containers(ground: Ground) -> Iterator[str]:
    """Two containers on one file, in both of which we are process 1: one killed leaves a file the other can use; one
    that comes while the other runs works with it, or is refused; neither harms the file."""
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        ground.skipped("no process numbers of its own for a container")
        return
    enqueue = [*_NAMESPACE, sys.executable, "-m", "lmdbq.storm.foreign_user", "enqueue", str(ground.data)]
    with ground.served(before=_NAMESPACE) as served:
        accepted = int(_enqueue(served)[0] == 201)
        beside = subprocess.run(enqueue, capture_output=True, text=True, check=False)
        if beside.returncode < 0 or (beside.returncode and "cannot be locked" not in beside.stderr):
            yield f"a user in another container ended with {beside.returncode}: {beside.stderr[-500:]}"
        accepted += 10 * (beside.returncode == 0) + (_enqueue(served)[0] == 201)
        served.kill()
    with ground.served(before=_NAMESPACE) as served:
        if (stored := _stored(served)) != accepted:
            yield f"{accepted} were accepted in two containers, {stored} are stored"


def copied(ground: Ground) -> Iterator[str]:
    """The lock file is copied with the data, from under a daemon or from another machine: it does no harm."""
    with ground.served() as served:
        accepted = sum(_enqueue(served)[0] == 201 for _ in range(3))
        served.send(signal.SIGSTOP)  # a copy of a file that is written to meanwhile is none
        copy = ground.data.with_name("copy")
        shutil.copytree(ground.data, copy)
        served.send(signal.SIGCONT)
    ground.data = copy
    with ground.served() as served:
        if (stored := _stored(served)) != accepted:
            yield f"{accepted} were accepted, {stored} are in the copy"
        if _enqueue(served)[0] != 201:
            yield "the copy takes no tasks"


CASES: Final[dict[str, Case]] = {
    "holds the write lock": lock_held,
    "dies holding the write lock": holder_dies,
    "keeps a read transaction": old_reader,
    "forks": forked,
    "starts a second daemon": two_daemons,
    "runs two containers on it": two_containers,
    "copies it with its lock file": copied,
    **FILES,
}


def run(
    seed: str,
    tell: Tell,
    rounds_max: int = 0,
    minutes: float = 0.0,
    *,
    hold_seconds: float = 10.0,
    plant: str = "",
    cases: Callable[[str], bool] = lambda _name: True,
) -> Report:
    """Run every case ``rounds_max`` times, or again and again for ``minutes``; ``hold_seconds``: how long hands hold.

    plant: a name of planted_daemon.PLANTS, or "". cases: which by name. Raises trace.Unclear, KeyError (plant).
    """
    if plant and plant not in PLANTS:
        raise KeyError(plant)
    report = Report("foreign", seed, "cases")
    started = time.monotonic()
    wanted = [name for name in CASES if cases(name)]
    rounds = 0
    while rounds < rounds_max if rounds_max else time.monotonic() - started < minutes * 60:
        for name in wanted:
            with scratch_directory() as scratch:
                ground = Ground(scratch / "data", random.Random(f"{seed}/{rounds}/{name}"), hold_seconds, plant, report)
                problems = [*CASES[name](ground), *ground.violations()]
            report.tried += 1
            if problems:
                report.blame(f"seed {seed}, round {rounds}: somebody {name}", problems)
            report.seconds = time.monotonic() - started
            tell(report.tried, rounds_max * len(wanted), name if not rounds else "")
        rounds += 1
    return report
