"""Connections that nobody honest holds: heads that never end, none that say anything, waiters, streams nobody reads.

While each kind is held, an honest caller goes on as if it were alone: its calls must be answered, and soon. Afterwards
every task that was pushed into a stream must be back, and every waiter have got its task.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from lmdbq.storm.report import Report
from lmdbq.storm.served import Served

SOON_SECONDS: Final = 60.0  # whoever is not served hangs for longer; a machine with much to do is slow
HOLD_SECONDS: Final = 3.0
STREAMS: Final = 50
STREAM_TASKS: Final = 400
STREAM_PAYLOAD_BYTES: Final = 100_000
SPARE_FDS: Final = 200
GROWN_BYTES_MAX: Final = 150 * 2**20  # a thousand parked requests are freed, but not all of it is given back

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def run(served: Served, report: Report, connections: int) -> None:
    """Hold ``connections`` of each kind, one kind after the other."""
    connections = min(connections, _allow_descriptors(connections + SPARE_FDS) - SPARE_FDS)
    held = Sockets(served, report)
    before = served.anonymous_bytes()
    await held.slow_heads(connections)
    await held.idle(connections)
    await held.parked(connections)
    await held.never_read()
    grown = served.anonymous_bytes() - before
    report.figures["MB grown by connections"] = grown // 2**20
    if grown > GROWN_BYTES_MAX:
        report.blame("connections", [f"the daemon has grown by {grown / 2**20:.0f} MB, and all of them are closed"])


def _allow_descriptors(wanted: int) -> int:
    """Return how many descriptors this process may have: ``wanted``, if that can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(soft, min(wanted, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


class Sockets:
    """Holds bad connections to a daemon, and looks whether a good one is served."""

    def __init__(self, served: Served, report: Report) -> None:
        self._served = served
        self._report = report

    def _open(self) -> Any:
        return asyncio.open_connection("127.0.0.1", self._served.port)

    @contextlib.asynccontextmanager
    async def _honest(self, kind: str) -> AsyncIterator[None]:
        """For the length of a block an honest caller asks, in a connection of its own for each call."""
        over = asyncio.Event()

        async def ask() -> None:
            while not over.is_set():
                began = time.monotonic()
                try:
                    async with asyncio.timeout(SOON_SECONDS):
                        status, _ = await self._post("/v1/enqueue", {"queue_name": "honest", "entries": [{}]})
                except (TimeoutError, OSError, EOFError) as error:
                    self._report.blame(kind, [f"an honest call was not served: {error!r}"])
                    continue
                if status != 200:
                    self._report.blame(kind, [f"an honest call was answered {status}"])
                slowest_ms = round(1_000 * (time.monotonic() - began))
                self._report.figures["slowest ms"] = max(self._report.figures.get("slowest ms", 0), slowest_ms)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), 0.05)

        asking = asyncio.ensure_future(ask())
        try:
            yield
        finally:
            over.set()
            await asking

    async def _post(self, path: str, value: Any, streams: _Streams | None = None) -> tuple[int, bytes]:
        reader, writer = streams or await self._open()
        try:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            writer.write(_head(path, len(data)) + data)
            return await _answer(reader)
        finally:
            if streams is None:
                writer.close()

    async def _many(self, number: int) -> list[_Streams]:
        """Open connections, some at a time."""
        found: list[_Streams] = []
        while len(found) < number:
            found += await asyncio.gather(*(self._open() for _ in range(min(50, number - len(found)))))
        return found

    async def slow_heads(self, number: int) -> None:
        """Heads of requests that go on, a line at a time, and never end."""
        async with self._honest("slow heads"):
            held = await self._many(number)
            for line in range(3):
                for _, writer in held:
                    writer.write(b"POST /v1/enqueue HTTP/1.1\r\nHost: localhost\r\n" if not line else b"X-A: b\r\n")
                await asyncio.sleep(HOLD_SECONDS / 3)
            self._report.count("slow heads", number)
            _close(held)

    async def idle(self, number: int) -> None:
        """Connections on which nothing is said, or nothing more."""
        async with self._honest("idle connections"):
            held = await self._many(number)
            for reader, writer in held[::2]:
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await _answer(reader)
            await asyncio.sleep(HOLD_SECONDS)
            self._report.count("idle connections", number)
            _close(held)

    async def parked(self, number: int) -> None:
        """Dequeues that wait; then there is a task for each, and each must get one."""
        async with self._honest("parked waiters"):
            held = await self._many(number)
            asked = {"queue_names": ["parked"], "wait_in_seconds": 60}
            waiting = [asyncio.ensure_future(self._post("/v1/dequeue", asked, streams)) for streams in held]
            await asyncio.sleep(HOLD_SECONDS)
            entries: list[dict[str, Any]] = [{}] * number
            await self._post("/v1/enqueue", {"queue_name": "parked", "entries": entries, "return_tasks": False})
            got: set[str] = set()
            try:
                async with asyncio.timeout(SOON_SECONDS):
                    for status, data in await asyncio.gather(*waiting):
                        got |= {task["id"] for task in json.loads(data).get("tasks", [])} if status == 200 else set()
            except TimeoutError:
                self._report.blame("parked waiters", ["a waiter got nothing although there was a task for each"])
            if len(got) != number:
                self._report.blame("parked waiters", [f"{number} waiters got {len(got)} tasks of {number}"])
            self._report.count("parked waiters", number)
            _close(held)

    async def never_read(self) -> None:
        """Streams into which much is pushed and of which nothing is read; all of it must come back."""
        entries = [{"payload": "x" * STREAM_PAYLOAD_BYTES}] * (STREAM_TASKS // 4)
        for _ in range(4):
            await self._post("/v1/enqueue", {"queue_name": "unread", "entries": entries, "return_tasks": False})
        asked = json.dumps({"queue_names": ["unread"], "limit": 1_000}).encode()
        async with self._honest("streams that never read"):
            held = await self._many(STREAMS)
            for _, writer in held:
                writer.write(_head("/v1/stream", len(asked)) + asked)
            await asyncio.sleep(HOLD_SECONDS)
            _close(held)
            await self._wait_for_ready()
        self._report.count("streams never read", STREAMS)

    async def _wait_for_ready(self) -> None:
        give_up_at = time.monotonic() + SOON_SECONDS
        while True:
            reader, writer = await self._open()
            writer.write(b"GET /v1/queues/unread HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _, data = await _answer(reader)
            writer.close()
            ready = json.loads(data)["counts"].get("ready", 0)
            if ready == STREAM_TASKS:
                return
            if time.monotonic() > give_up_at:
                self._report.blame("streams that never read", [f"of {STREAM_TASKS} tasks {ready} are back"])
                return
            await asyncio.sleep(0.05)


def _head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer that says its length. Raises EOFError."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return status, await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""


def _close(held: list[_Streams]) -> None:
    for _, writer in held:
        writer.transport.abort()
