"""Who works on a daemon while it is soaked: ``python -m lmdbq.storm.soak_child churn | import | keep | forget | pin``.

churn URL SEED TASKS: fills a queue up to TASKS waiting tasks of every kind (with keys, delayed, expiring, with results,
failing, abandoned) and drains it again, or purges or deletes it, over and over.
import URL TASKS: one bulk import.
keep URL: a worker of the SDK whose leases are much shorter than its work.
forget URL: the same work, by somebody who never extends a lease. pin DIRECTORY: a reader that never ends. Both are
faults put in on purpose.
"""

from __future__ import annotations

import http.client
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lmdbq.client.http import HttpClient
from lmdbq.client.job_worker import JobWorker
from lmdbq.client.verbs import subscription
from lmdbq.store.environment import open_environment
from lmdbq.wire.shapes import DequeueRequest, ReportEntry

KEPT_QUEUE: Final = "kept"
IMPORT_QUEUE: Final = "imported"
LEASE_SECONDS: Final = 2.0
WORK_SECONDS: Final = 7.0
KEPT_AT_ONCE: Final = 8
BATCH: Final = 500
PAUSE_SECONDS: Final = 0.1  # between two batches, so that an hour of this leaves the machine to others
PATIENCE_SECONDS: Final = 60.0
IMPORT_LINES: Final = 5_000  # in one piece of the request's body
IMPORT_TIMEOUT_SECONDS: Final = 3_600.0


class Churn:
    """One queue that is filled and drained."""

    def __init__(self, client: HttpClient, seed: str, tasks: int) -> None:
        self._client = client
        self._chosen = random.Random(seed)
        self._queue = f"churn-{seed.rpartition('/')[2]}"
        self._tasks = tasks

    def run(self) -> None:
        """Go on until the process is ended."""
        while True:
            for _ in range(self._tasks // BATCH):
                self._client.enqueue([self._entry() for _ in range(BATCH)], queue_name=self._queue)
                time.sleep(PAUSE_SECONDS)
            self._end()

    def _end(self) -> None:
        way = self._chosen.random()
        if way < 0.15:
            self._client.purge(self._queue)
        elif way < 0.25:
            self._client.delete_queue(self._queue)
        else:
            while self._drain():
                time.sleep(PAUSE_SECONDS)

    def _drain(self) -> bool:
        """Work off one batch; False if there was none."""
        wanted = DequeueRequest(
            queue_names=[self._queue], limit=BATCH, wait_in_seconds=0, keepalive_timeout_in_seconds=LEASE_SECONDS
        )  # without a claim id: those are remembered for an hour
        tasks = self._client.dequeue(wanted).tasks
        reports = [entry for task in tasks if (entry := self._report(str(task.lease))) is not None]
        if reports:
            self._client.report(reports)
        return bool(tasks)

    def _entry(self) -> dict[str, Any]:
        chosen = self._chosen
        entry: dict[str, Any] = {
            "payload": "x" * chosen.randrange(50, 4_000),
            "retry_strategy": {"max_attempts": 3, "backoff": {"kind": "intervals", "intervals_in_seconds": [0.5]}},
            "keep": {"succeeded_in_seconds": chosen.choice([0, 0, 3]), "dead_in_seconds": 3},
        }
        kind = chosen.random()
        if kind < 0.3:
            entry["dedupe_key"] = f"key {chosen.randrange(4 * self._tasks)}"
        elif kind < 0.45:
            entry["expires_in_seconds"] = chosen.uniform(1, 5)
        elif kind < 0.6:
            entry["delay_in_seconds"] = chosen.uniform(0.5, 3)
        return entry

    def _report(self, lease: str) -> ReportEntry | None:
        end = self._chosen.random()
        if end < 0.02:
            return None  # abandoned: the lease lapses
        if end < 0.1:
            return ReportEntry(lease=lease, status="failed")
        if end < 0.15:
            return ReportEntry(lease=lease, status="released", delay_in_seconds=0.5)
        return ReportEntry(lease=lease, status="succeeded")


def churn(url: str, seed: str, tasks: str) -> None:
    """Fill and drain a queue until the process is ended."""
    with HttpClient(url, patience=PATIENCE_SECONDS) as client:
        Churn(client, seed, int(tasks)).run()


def bulk_import(url: str, tasks: str) -> None:
    """Import ``tasks`` tasks in one request. Raises AssertionError if not all of them were taken."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=IMPORT_TIMEOUT_SECONDS)
    connection.request(
        "POST",
        f"/v1/enqueue?queue_name={IMPORT_QUEUE}",
        body=_lines(int(tasks)),
        headers={"Content-Type": "application/x-ndjson"},
        encode_chunked=True,
    )
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, said
    assert f'"enqueued":{tasks},'.encode() in said.replace(b" ", b""), said


def _lines(tasks: int) -> Iterator[bytes]:
    for start in range(0, tasks, IMPORT_LINES):
        numbers = range(start, min(start + IMPORT_LINES, tasks))
        yield b"".join(b'{"payload":{"number":%d,"text":"a task of an import"}}\n' % number for number in numbers)


def keep(url: str) -> None:
    """Work on tasks for much longer than their leases last, until a signal."""
    busy = threading.Event()
    with HttpClient(url, patience=PATIENCE_SECONDS) as client:
        JobWorker(
            client,
            lambda job: busy.wait(WORK_SECONDS) or None,
            [KEPT_QUEUE],
            limit=1,
            concurrency=KEPT_AT_ONCE,
            lease=LEASE_SECONDS,
        ).run()


def forget(url: str) -> None:
    """Do the same without ever extending a lease."""
    with HttpClient(url, patience=PATIENCE_SECONDS) as client:
        while True:
            wanted = subscription(KEPT_QUEUE, limit=KEPT_AT_ONCE, wait=1, lease=LEASE_SECONDS)
            tasks = client.dequeue(wanted).tasks
            time.sleep(WORK_SECONDS)
            client.report([ReportEntry(lease=str(task.lease), status="succeeded") for task in tasks])


def pin(directory: str) -> None:
    """Read for ever, so that no page that was in use now can be used again."""
    with open_environment(Path(directory), max_bytes=0, metasync=True).reading():
        threading.Event().wait()


_MODES: Final[dict[str, Callable[..., None]]] = {
    "churn": churn,
    "import": bulk_import,
    "keep": keep,
    "forget": forget,
    "pin": pin,
}

if __name__ == "__main__":
    _MODES[sys.argv[1]](*sys.argv[2:])
