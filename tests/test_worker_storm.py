"""Workers whose daemon is killed, restarted, stopped or replaced by a hole that swallows what they send, over and over.

20 rounds; with LMDBQ_STORM=1 200, and then all workers must consume again within 2 s of the daemon's return. Here they
get a minute, as the machine of a test has other things to do; without what is tested it would be ten.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import lmdbq
from lmdbq import Client, Entry, Worker
from tests.real_daemon import RealDaemon

IS_STORM = os.environ.get("LMDBQ_STORM") == "1"
ROUNDS = 200 if IS_STORM else 20
BACK_SECONDS = 2.0 if IS_STORM else 60.0
ANSWER_SECONDS = 600.0  # for which a client waits whose daemon does not answer
QUEUES = ("first", "second", "third")
tasks = lmdbq.Tasks()


@tasks.task
def one(number: int) -> int:
    return number


class Hole:
    """Listens at a path, takes every connection, and answers nothing; closing it leaves the connections open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._taken: list[socket.socket] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with self._changed:
                    self._taken.append(connection)
                    self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Return when so many connections have disappeared in here."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._taken) >= count, 60)

    def leave(self) -> None:
        """Listen no more. Who is in here stays, and waits."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        for connection in self._taken:
            connection.close()


def kill(daemon: RealDaemon) -> None:
    daemon.kill_and_start_again()


def restart(daemon: RealDaemon) -> None:
    assert daemon.end(signal.SIGTERM) == 0
    daemon.start()


def stop_and_continue(daemon: RealDaemon) -> None:
    assert daemon._process is not None
    daemon._process.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(0, 1))  # how long it hangs, not what is waited for
    daemon._process.send_signal(signal.SIGCONT)


def swallow(daemon: RealDaemon) -> None:
    daemon.end(signal.SIGKILL)
    hole = Hole(Path(daemon.where.removeprefix("unix://")))
    holes.append(hole)
    hole.wait_for(len(QUEUES))
    hole.leave()
    daemon.start()


holes: list[Hole] = []
MISHAPS = (kill, restart, stop_and_continue, swallow)


def test_a_worker_whose_daemon_hangs_ends_with_its_grace(tmp_path: Path):
    """The client would wait ten minutes for an answer; a worker that is told to end does not."""
    started, go_on = threading.Event(), threading.Event()
    own = lmdbq.Tasks()

    @own.task
    def hold_on() -> None:
        started.set()
        go_on.wait(60)

    with RealDaemon(tmp_path) as daemon:
        waiting = Client(daemon.where, timeout=ANSWER_SECONDS)
        with waiting as client, Worker(client, own, concurrency=1, grace=0.5):
            handle = client.enqueue(hold_on)
            assert started.wait(60)
            assert daemon._process is not None
            daemon._process.send_signal(signal.SIGSTOP)
            go_on.set()
        daemon._process.send_signal(signal.SIGCONT)
        assert handle.id


@contextlib.contextmanager
def workers(where: str) -> Iterator[None]:
    """A worker for each queue; each has a claim of its own on its way."""
    with contextlib.ExitStack() as stack:
        for name in QUEUES:
            client = stack.enter_context(Client(where, timeout=ANSWER_SECONDS))
            stack.enter_context(Worker(client, tasks, queues=[name], concurrency=2))
        yield


def test_all_workers_consume_again_whatever_becomes_of_the_daemon(tmp_path: Path):
    slowest = 0.0
    with RealDaemon(tmp_path) as daemon:
        with workers(daemon.where), Client(daemon.where) as client:
            for number in range(ROUNDS):
                mishap = MISHAPS[number % len(MISHAPS)]
                mishap(daemon)
                back_at = time.monotonic()
                handles = client.enqueue_many([Entry("one", {"number": number}, queue=name) for name in QUEUES])
                assert [handle.result(timeout=BACK_SECONDS) for handle in handles] == [number] * len(QUEUES)
                took = time.monotonic() - back_at
                slowest = max(slowest, took)
                assert took < BACK_SECONDS, f"{took:.1f} s after round {number}, {mishap.__name__}"
            assert client.tasks(state="running").count() == 0
        for hole in holes:
            hole.close()
    print(f"the slowest return of {ROUNDS}: {slowest:.2f} s")
