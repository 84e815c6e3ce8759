"""The peer PostgreSQL: procrastinate, which takes tasks with FOR UPDATE SKIP LOCKED.

PostgreSQL refuses to run as root. Then it runs as the user ``postgres`` or ``nobody``, with the one capability it needs
to reach a directory inside of one that is root's alone, and asks every client for a password that is made for the run.
The rest is as Debian has it: fsync and full pages, 128 MB of shared buffers.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from lmdbq.bench.peer_load import Tally
from lmdbq.bench.processes import START_SECONDS, Failed, free_port, running
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.peers import BLOCKING, WORKER, PeerSession, missing
from lmdbq.bench.workloads import ENQUEUE, WORKERS

_USER: Final = "bench"
_WAITING: Final = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
_WORKER_CONNECTIONS: Final = 4  # one to listen, one to take tasks, one for those that feed, one to spare
_REACH: Final = {2: "dac_read_search", 1: "dac_override"}  # capabilities by their bits; a container may lack the lesser


def _pool(spec: dict[str, Any], connections: int) -> dict[str, Any]:
    return {"kwargs": _login(spec), "min_size": connections, "max_size": connections}


def _app(spec: dict[str, Any], connections: int) -> Any:
    procrastinate: Any = import_module("procrastinate")
    return procrastinate.App(connector=procrastinate.PsycopgConnector(**_pool(spec, connections)))


def _login(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": spec["port"],
        "user": _USER,
        "password": spec["password"],
        "dbname": "postgres",
    }


def prepare(payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """Make a batch ready: the arguments of each task."""
    return [{"payload": json.loads(payload)} for payload in payloads]


def do_nothing(payload: dict[str, Any]) -> None:
    """Be a task."""


class Client:
    """An app whose pool has a connection for each thread: that is faster here than as many coroutines."""

    def __init__(self, spec: dict[str, Any]) -> None:
        procrastinate: Any = import_module("procrastinate")
        self._app: Any = procrastinate.App(
            connector=procrastinate.SyncPsycopgConnector(**_pool(spec, spec["connections"]))
        )
        self._app.open()
        self._task: Any = self._app.task(name="do_nothing")(do_nothing)
        self.prepare = prepare

    def enqueue(self, batch: list[dict[str, Any]]) -> None:
        if len(batch) == 1:
            self._task.defer(**batch[0])
        else:
            self._task.batch_defer(*batch)

    def close(self) -> None:
        self._app.close()


def connect(spec: dict[str, Any]) -> Client:
    """Return a client for a driver."""
    return Client(spec)


class Worker:
    """procrastinate's worker as it comes: one task at a time, which beats ten here, and what is finished is kept."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._app = _app(spec, _WORKER_CONNECTIONS)
        self.prepare = prepare

    def serve(self, batches: cycle[Any], tally: Tally) -> None:
        asyncio.run(self._serve(batches, tally))

    async def _serve(self, batches: cycle[Any], tally: Tally) -> None:
        feeding = asyncio.Lock()

        async def feed() -> None:
            async with feeding:
                if tally.hungry and time.monotonic() < tally.end:
                    await task.batch_defer_async(*next(batches))
                    tally.enqueued()

        async def finish(payload: dict[str, Any]) -> None:
            tally.worked(1)
            await feed()

        task: Any = self._app.task(name="do_nothing")(finish)
        async with self._app.open_async():
            await feed()
            working = asyncio.create_task(self._app.run_worker_async(install_signal_handlers=False))
            await asyncio.sleep(tally.end - time.monotonic())
            working.cancel()  # it finishes what it has begun
            with suppress(asyncio.CancelledError):
                await working


def worker(spec: dict[str, Any]) -> Worker:
    """Return a worker for a driver."""
    return Worker(spec)


# --- the server -------------------------------------------------------------------------------------------------------


def program(name: str) -> str:
    """Return the path of a program of the newest PostgreSQL; Debian keeps them away from the PATH. "" if none."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(versions[-1]) if versions else shutil.which(name) or ""


def _other_user() -> pwd.struct_passwd | None:
    """Return who runs PostgreSQL when we are root; None if we are not, and run it ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _as_user(user: pwd.struct_passwd | None) -> list[str]:
    """Return the words in front of a command that is not to run as root, but may enter root's directories."""
    if user is None:
        return []
    held = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    ours = int(held.group(1), 16) if held else 0
    reach = ",".join(["-all", *[f"+{name}" for bit, name in _REACH.items() if ours >> bit & 1][:1]])
    who = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return ["setpriv", *who, "--inh-caps", reach, "--ambient-caps", reach]


def _initialize(directory: Path, password: str) -> Path:
    user = _other_user()
    secret, data = directory / "password", directory / "data"
    secret.touch(0o600)
    secret.write_text(password, encoding="ascii")
    if user:
        os.chown(directory, user.pw_uid, user.pw_gid)
        os.chown(secret, user.pw_uid, user.pw_gid)
    words = ["--no-sync", "-A", "scram-sha-256", "--pwfile", str(secret), "-U", _USER, "-E", "UTF8", "--locale", "C"]
    command = [*_as_user(user), program("initdb"), *words, "-D", str(data)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise Failed(f"initdb: {made.stderr[-2000:]}")
    return data


def _wait_until_ready(spec: dict[str, Any], server: subprocess.Popen[str], log: Path) -> Any:
    """Return a connection to a server that has just been started. Raises Failed."""
    psycopg: Any = import_module("psycopg")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return psycopg.connect(**_login(spec), autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.02)
    raise Failed(f"PostgreSQL did not start: {log.read_text(encoding='utf-8')[-2000:]}")


class PostgresTarget:
    """procrastinate on a PostgreSQL of its own."""

    kinds: tuple[str, ...] = (ENQUEUE, WORKERS)

    def __init__(self, name: str, synchronous_commit: str) -> None:
        self.name = name
        self.durability = f"fsync=on, synchronous_commit={synchronous_commit}"
        self._synchronous_commit = synchronous_commit

    def absent(self) -> str:
        if not program("initdb"):
            return "PostgreSQL is not installed: apt-get install postgresql"
        if _other_user() and not shutil.which("setpriv"):
            return "setpriv is not installed, which PostgreSQL needs to run for root: apt-get install util-linux"
        return missing("procrastinate", "psycopg", "psycopg_pool")

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        directory.mkdir(parents=True)
        spec: dict[str, Any] = {"port": free_port(), "password": secrets.token_urlsafe()}
        data = _initialize(directory, spec["password"])
        chosen = {
            "port": spec["port"],
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
            "synchronous_commit": self._synchronous_commit,
        }
        settings = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        command = [*_as_user(_other_user()), program("postgres"), "-D", str(data), *settings]
        log = directory / "server.log"
        with (
            log.open("ab") as said,
            running(command, log, stdin=subprocess.DEVNULL, stdout=said) as server,
            _wait_until_ready(spec, server, log) as connection,
        ):
            asyncio.run(_make_tables(spec))
            load = {"adapter": __name__, "mode": BLOCKING, "worker_mode": WORKER, "shared": True, **spec}
            yield PeerSession(directory, load, lambda: connection.execute(_WAITING).fetchone()[0], server.pid)


async def _make_tables(spec: dict[str, Any]) -> None:
    async with _app(spec, 1).open_async() as app:
        await app.schema_manager.apply_schema_async()


TARGETS: Final = (
    PostgresTarget("procrastinate", "on"),
    PostgresTarget("procrastinate, unsynced", "off"),
)
