"""The eight ways to reach a queue: sync and async, over HTTP, a socket, a directory, in memory."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdbq
from tests.real_daemon import LMDBQ, RealDaemon

WAYS = [(kind, place) for kind in ("sync", "async") for place in ("http", "unix", "directory", "memory")]
IDS = [f"{kind}-{place}" for kind, place in WAYS]


async def ask(value: Any) -> Any:
    """Return what a verb answers, awaited where the client is the async one."""
    return await value if inspect.isawaitable(value) else value


async def each(selection: Any) -> list[Any]:
    """Return what a selection yields."""
    if hasattr(selection, "__aiter__"):
        return [one async for one in selection]
    return list(selection)


@contextmanager
def http_daemon(directory: Path) -> Iterator[str]:
    """The address of a daemon on a free port."""
    command = [*LMDBQ, "serve", "--listen", "127.0.0.1:0", "--data", str(directory / "data")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield next(word for word in line.split() if word.startswith("http://"))
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.stdout.close()


def make(kind: str, where: Any, **options: Any) -> Any:
    """Return a client."""
    return lmdbq.Client(where, **options) if kind == "sync" else lmdbq.AsyncClient(where, **options)


def run_python(code: str, *arguments: str, timeout: float = 60) -> str:
    """Run a program to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


__all__ = ["IDS", "WAYS", "AsyncIterator", "Callable", "RealDaemon", "ask", "each", "http_daemon", "make", "run_python"]
