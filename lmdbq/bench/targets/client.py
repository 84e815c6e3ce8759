"""What a program in Python gets: ``lmdbq.Client``, on a directory and on a daemon; one caller, values for payloads.

The other targets of lmdbq are loaded with ready-made bytes, so that the load is not what is measured. Here the client
is part of it: entries are checked, values become JSON, and each task gets its handle.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from lmdbq.bench.inputs import QUEUE, Batch
from lmdbq.bench.processes import serving
from lmdbq.bench.targets import embedded
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.inprocess import InProcess, PlainVerbs
from lmdbq.bench.workloads import ENQUEUE
from lmdbq.client.entries import Entry
from lmdbq.client.sync import Client


class _Verbs(PlainVerbs):
    def __init__(self, client: Client) -> None:
        self._client = client

    def ready(self, batch: Batch) -> list[Any]:
        return [msgspec.json.decode(payload) for payload in batch.payloads]

    def enqueue(self, batch: list[Any]) -> None:
        self._client.enqueue_many(Entry("default", value, queue=QUEUE) for value in batch)

    def claim(self, limit: int) -> list[Any]:
        raise NotImplementedError

    def report(self, claimed: list[Any]) -> None:
        raise NotImplementedError

    def count(self) -> int:
        return self._client.tasks().count()


class ClientTarget:
    """``lmdbq.Client``. served: it talks to a daemon; else the file is in this process."""

    durability = "full"
    kinds: tuple[str, ...] = (ENQUEUE,)

    def __init__(self, name: str, *, served: bool) -> None:
        self.name = name
        self._served = served

    def absent(self) -> str:
        return ""

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        data = directory / embedded.DATA
        with ExitStack() as stack:
            where: str | Path = data
            pids: tuple[int, ...] = ()
            if self._served:
                command = [sys.executable, "-m", "lmdbq.cli", "serve", "--listen", "127.0.0.1:0", "--data", str(data)]
                pid, port = stack.enter_context(serving(command, directory))
                where, pids = f"http://127.0.0.1:{port}", (pid,)
            yield InProcess(_Verbs(stack.enter_context(Client(where))), pids)


TARGETS: Final = (
    ClientTarget("Client, in the process", served=False),
    ClientTarget("Client, over HTTP", served=True),
)
