"""Bytes that a daemon writes: per whole life of a task, and per heartbeat of one that runs.

Counted by the kernel when a page that was clean is written to; what is overwritten before it is synced counts once.
One caller does one thing at a time, so that no sync is shared: that is the most a task can cost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from lmdbq.bench import inputs, procfs
from lmdbq.bench.http_load import Connection

_PAGE_BYTES: Final = 4096
_LEASE: Final = re.compile(rb'"lease":"([^"]+)"')
_QUEUE: Final = inputs.QUEUE.encode("ascii")


def _call(connection: Connection, verb: str, body: bytes) -> bytes:
    connection.call(inputs.request(f"/v1/{verb}", body))
    return connection.answer()


def _enqueue(connection: Connection, batch: int) -> None:
    entries = b",".join(b'{"payload":%b}' % inputs.payload(number, 60) for number in range(batch))
    _call(connection, "enqueue", b'{"queue_name":"%b","entries":[%b],"return_tasks":false}' % (_QUEUE, entries))


def _dequeue(connection: Connection, batch: int) -> list[bytes]:
    leases = _LEASE.findall(_call(connection, "dequeue", b'{"queue_names":["%b"],"limit":%d}' % (_QUEUE, batch)))
    assert len(leases) == batch, f"{len(leases)} tasks were dequeued of {batch}"
    return leases


def _report(connection: Connection, leases: list[bytes]) -> None:
    reports = b",".join(b'{"lease":"%b","status":"succeeded"}' % lease for lease in leases)
    _call(connection, "report", b'{"reports":[%b]}' % reports)


def _extend(connection: Connection, leases: list[bytes]) -> None:
    wanted = b",".join(b'{"lease":"%b"}' % lease for lease in leases)
    _call(connection, "extend", b'{"leases":[%b]}' % wanted)


def lives(connection: Connection, batch: int, times: int) -> None:
    """Let batches of tasks live, each in three calls."""
    for _ in range(times):
        _enqueue(connection, batch)
        _report(connection, _dequeue(connection, batch))


def measure(port: int, pid: int, batch: int, seconds: float) -> dict[str, float]:
    """Return bytes and pages per task and per heartbeat of a daemon, with ``batch`` tasks per call."""
    connection = Connection(port)
    with closing(connection.sock):
        lives(connection, batch, 1)  # so that queue and file are there
        life = _bytes_per_task(lambda: lives(connection, batch, 1), pid, batch, seconds / 2)
        _enqueue(connection, batch)
        leases = _dequeue(connection, batch)
        heartbeat = _bytes_per_task(lambda: _extend(connection, leases), pid, batch, seconds / 2)
        _report(connection, leases)
    return {
        "life_bytes": life,
        "life_pages": life / _PAGE_BYTES,
        "heartbeat_bytes": heartbeat,
        "heartbeat_pages": heartbeat / _PAGE_BYTES,
    }


def _bytes_per_task(once: Callable[[], None], pid: int, batch: int, seconds: float) -> float:
    tasks, before, end = 0, procfs.written_bytes(pid), time.monotonic() + seconds
    while not tasks or time.monotonic() < end:
        once()
        tasks += batch
    return (procfs.written_bytes(pid) - before) / tasks
