"""The peers that are a library around a file: huey on SQLite, litequeue and persist-queue.

Threads share one object, as the manuals of all three allow; a batch is one transaction where the library has a call for
that (litequeue only). A whole life needs several processes at one file, which persist-queue is not made for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.peers import BLOCKING, PeerSession, missing
from lmdbq.bench.workloads import ENQUEUE, WORKERS

_BUSY_SECONDS: Final = 60.0  # several processes wait for one lock, and none may give up


def do_nothing(payload: dict[str, Any]) -> None:
    """Be the task that huey runs."""


class Huey:
    """SqliteHuey without results, since nobody would read them. It takes a task out when it hands it to a worker."""

    def __init__(self, path: str) -> None:
        self._huey: Any = import_module("huey").SqliteHuey(filename=path, results=False, timeout=_BUSY_SECONDS)
        self._task: Any = self._huey.task()(do_nothing)

    def prepare(self, payloads: Sequence[bytes]) -> list[Any]:
        return [json.loads(payload) for payload in payloads]

    def enqueue(self, batch: list[Any]) -> None:
        for payload in batch:
            self._task(payload)

    def work(self, limit: int) -> int:
        for number in range(limit):
            task = self._huey.dequeue()
            if task is None:
                return number
            self._huey.execute(task)
        return limit

    def count(self) -> int:
        return int(self._huey.pending_count())

    def close(self) -> None:
        self._huey.storage.close()


class LiteQueue:
    """litequeue's LiteQueue: payloads are text, and each call is a transaction of its own unless it is in one."""

    def __init__(self, path: str, *, full: bool = False) -> None:
        self._queue: Any = import_module("litequeue").LiteQueue(path, timeout=_BUSY_SECONDS)
        self._one_at_a_time = threading.Lock()  # the threads share a connection, which has one transaction
        if full:
            self._queue.conn.execute("PRAGMA synchronous = FULL")

    def prepare(self, payloads: Sequence[bytes]) -> list[str]:
        return [payload.decode() for payload in payloads]

    def enqueue(self, batch: list[str]) -> None:
        if len(batch) == 1:
            self._queue.put(batch[0])
            return
        with self._one_at_a_time, self._queue.transaction("IMMEDIATE"):
            for payload in batch:
                self._queue.put(payload)

    def work(self, limit: int) -> int:
        for number in range(limit):
            message = self._queue.pop()
            if message is None:
                return number
            self._queue.done(message.message_id)
        return limit

    def count(self) -> int:
        return int(self._queue.qsize())

    def close(self) -> None:
        self._queue.close()


class PersistQueue:
    """persist-queue's SQLite queue with acknowledgements, the one that is meant for tasks."""

    def __init__(self, path: str) -> None:
        made: Any = import_module("persistqueue").SQLiteAckQueue
        self._queue: Any = made(path, multithreading=True, timeout=_BUSY_SECONDS, auto_resume=False)

    def prepare(self, payloads: Sequence[bytes]) -> list[Any]:
        return [json.loads(payload) for payload in payloads]

    def enqueue(self, batch: list[Any]) -> None:
        for payload in batch:
            self._queue.put(payload)

    def count(self) -> int:
        return int(self._queue.size)

    def close(self) -> None:
        self._queue.close()


class PersistFiles(PersistQueue):
    """persist-queue's queue of plain files."""

    def __init__(self, path: str) -> None:
        Path(path).mkdir(exist_ok=True)
        self._queue: Any = import_module("persistqueue").Queue(path, tempdir=path)

    def count(self) -> int:
        return int(self._queue.qsize())

    def close(self) -> None:
        """Nothing is to be closed: each call leaves its files as they must be."""


_CLIENTS: Final[dict[str, Callable[[str], Any]]] = {
    "huey": Huey,
    "litequeue": LiteQueue,
    "litequeue, synced": lambda path: LiteQueue(path, full=True),
    "persist-queue": PersistQueue,
    "persist-queue, files": PersistFiles,
}


def connect(spec: dict[str, Any]) -> Any:
    """Return a client for a driver."""
    return _CLIENTS[spec["client"]](spec["path"])


class FileTarget:
    """A library and its file."""

    def __init__(self, name: str, durability: str, module: str, kinds: tuple[str, ...] = (ENQUEUE, WORKERS)) -> None:
        self.name = name
        self.durability = durability
        self.kinds: tuple[str, ...] = kinds
        self._module = module

    def absent(self) -> str:
        return missing(self._module)

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        directory.mkdir(parents=True)
        path = str(directory / "queue")

        def count() -> int:
            with closing(_CLIENTS[self.name](path)) as client:
                return int(client.count())

        load = {"adapter": __name__, "mode": BLOCKING, "shared": True, "client": self.name, "path": path}
        yield PeerSession(directory, load, count)


TARGETS: Final = (
    FileTarget("huey", "as it comes: WAL, synchronous=FULL", "huey"),
    FileTarget("litequeue", "as it comes: WAL, synchronous=NORMAL", "litequeue"),
    FileTarget("litequeue, synced", "WAL, synchronous=FULL", "litequeue"),
    FileTarget("persist-queue", "as it comes: WAL, synchronous=FULL", "persistqueue", (ENQUEUE,)),
    FileTarget("persist-queue, files", "as it comes: a sync for each file of 100", "persistqueue", (ENQUEUE,)),
)
