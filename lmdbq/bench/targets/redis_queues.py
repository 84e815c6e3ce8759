"""The peers that are task queues on Redis: RQ and Celery, on a Redis that syncs its append-only file as it is told.

Both keep no results here, since nobody would read them, and both work in the driver's own process: RQ's SimpleWorker
and Celery's solo pool, which is what they do fastest with tasks as short as these.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from lmdbq.bench.peer_load import Tally
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.peers import BLOCKING, WORKER, PeerSession, missing
from lmdbq.bench.targets.redis import absent_server, redis_server
from lmdbq.bench.workloads import ENQUEUE, WORKERS

_QUEUE: Final = "benchmark"
_WORKER_SECONDS: Final = 20  # how long RQ takes a silent worker to be alive; it asks for tasks for 15 s less at a time
_ended: Callable[[], None] | None = None  # what a task of RQ tells, which finds it by name as RQ finds the task


def do_nothing(payload: dict[str, Any]) -> None:
    """Be the task that workers run."""
    if _ended is not None:
        _ended()


def _payloads(payloads: Sequence[bytes]) -> list[Any]:
    return [json.loads(payload) for payload in payloads]


class Rq:
    """RQ's Queue on a connection of its own."""

    def __init__(self, spec: dict[str, Any]) -> None:
        rq: Any = import_module("rq")
        self._connection = import_module("redis").Redis(port=spec["port"])
        self._queue: Any = rq.Queue(_QUEUE, connection=self._connection)
        self._worker: Any = rq.SimpleWorker([self._queue], connection=self._connection, worker_ttl=_WORKER_SECONDS)
        self.prepare = _payloads

    def enqueue(self, batch: list[Any]) -> None:
        if len(batch) == 1:
            self._queue.enqueue(do_nothing, batch[0], result_ttl=0)
        else:
            prepared = [self._queue.prepare_data(do_nothing, (payload,), result_ttl=0) for payload in batch]
            self._queue.enqueue_many(prepared)

    def serve(self, batches: cycle[Any], tally: Tally) -> None:
        global _ended

        def ended() -> None:
            if not tally.worked(1):
                self._worker.request_stop(signal.SIGTERM, None)
            elif tally.hungry:
                feed()

        def feed() -> None:
            self.enqueue(next(batches))
            tally.enqueued()

        _ended = ended
        feed()
        self._worker.work(logging_level="WARNING")

    def close(self) -> None:
        self._connection.close()


class Celery:
    """A Celery app with a connection for each caller."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._app: Any = import_module("celery").Celery(_QUEUE, broker=f"redis://127.0.0.1:{spec['port']}/0")
        self._app.conf.update(
            broker_pool_limit=spec["connections"],
            task_ignore_result=True,
            task_default_queue=_QUEUE,
            worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True,
        )
        self._task: Any = self._app.task(name="do_nothing")(do_nothing)
        self.prepare = _payloads

    def enqueue(self, batch: list[Any]) -> None:
        if len(batch) == 1:
            self._task.delay(batch[0])
            return
        with self._app.producer_pool.acquire() as producer:
            for payload in batch:
                self._task.apply_async((payload,), producer=producer)

    def serve(self, batches: cycle[Any], tally: Tally) -> None:
        global _ended
        state: Any = import_module("celery.worker.state")

        def feed() -> None:
            self.enqueue(next(batches))
            tally.enqueued()

        def ended() -> None:
            if tally.worked(1) and tally.hungry:
                feed()

        def stop() -> None:
            state.should_stop = 0  # what a signal to the worker would do

        _ended = ended
        feed()
        left_out = {f"without_{name}": True for name in ("gossip", "mingle", "heartbeat")}
        name = f"worker-{os.getpid()}"
        working = self._app.WorkController(pool="solo", loglevel="ERROR", hostname=name, **left_out)
        timer = threading.Timer(tally.end - time.monotonic(), stop)
        timer.start()
        working.start()
        timer.join()

    def close(self) -> None:
        self._app.close()


_CLIENTS: Final[dict[str, Any]] = {"RQ": Rq, "Celery": Celery}
_SHARED: Final = {"RQ": False, "Celery": True}
_MODULES: Final = {"RQ": "rq", "Celery": "celery"}


def connect(spec: dict[str, Any]) -> Any:
    """Return a client for a driver."""
    return _CLIENTS[spec["client"]](spec)


def worker(spec: dict[str, Any]) -> Any:
    """Return a worker for a driver."""
    return _CLIENTS[spec["client"]](spec)


class RedisQueueTarget:
    """RQ or Celery, and a redis-server of its own."""

    kinds: tuple[str, ...] = (ENQUEUE, WORKERS)

    def __init__(self, name: str, client: str, fsync: str) -> None:
        self.name = name
        self.durability = f"appendfsync {fsync}"
        self._client = client
        self._fsync = fsync

    def absent(self) -> str:
        return absent_server() or missing(_MODULES[self._client])

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        redis: Any = import_module("redis")
        with redis_server(directory, self._fsync) as (pid, port), redis.Redis(port=port) as client:

            def count() -> int:
                """Return how many wait, and how many a worker of Celery has put aside and not yet given back."""
                name = f"rq:queue:{_QUEUE}" if self._client == "RQ" else _QUEUE
                return int(client.llen(name)) + int(client.hlen("unacked"))

            load = {
                "adapter": __name__,
                "mode": BLOCKING,
                "worker_mode": WORKER,
                "client": self._client,
                "shared": _SHARED[self._client],
                "port": port,
            }
            yield PeerSession(directory, load, count, pid)


TARGETS: Final = tuple(
    RedisQueueTarget(f"{client}, Redis {fsync}", client, fsync)
    for client in ("RQ", "Celery")
    for fsync in ("always", "everysec")
)
