"""The process: from settings to an exit code.

Started in this order: the address is checked, the file is locked and opened, the engine runs, the socket listens. A
first SIGTERM or SIGINT drains: /readyz turns red, dequeues answer "draining", what producers begin is refused with 503,
workers may report, and when nothing is under way the process ends, within the grace whatever is. A second signal ends
it at once, and so does SIGKILL: nothing was answered that is not on disk.

Exit codes: 0 drained, 74 a commit failed (the file is verified at the next start), 75 somebody else has the file or the
address, 78 a setting is wrong, 65 the file cannot be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from aiohttp import web

from lmdbq.clock import SystemClock
from lmdbq.daemon.access import Access, BadSetting, Listen
from lmdbq.daemon.app import make_app
from lmdbq.daemon.connections import allow_descriptors
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.ownership import AlreadyServed, Ownership
from lmdbq.daemon.settings import Settings
from lmdbq.engine.queue import Engine
from lmdbq.errors import CommitUnknown, LmdbqError, NotOurFile, StoreError
from lmdbq.store.base import Store
from lmdbq.store.lmdb import open_store

log = logging.getLogger("lmdbq.daemon")

EXIT_OK: Final = 0
EXIT_DATA: Final = 65
EXIT_COMMIT: Final = 74
EXIT_TAKEN: Final = 75
EXIT_SETTING: Final = 78
ANSWER_SECONDS: Final = 1.0  # for the answers that are under way when a commit has failed
CLEANUP_SECONDS: Final = 1.0  # of the grace, for what comes after the last request; then the process ends by force
_NAME_ANOTHER: Final = "name another one with --data, or LMDBQ_DATA"


class Serving(NamedTuple):
    """A daemon that answers. url: what to give to clients. data: the directory of its file. pid: its process."""

    url: str
    data: Path
    durability: str
    pid: int

    def __str__(self) -> str:
        return f"lmdbq serves {self.url}  ·  data in {self.data}  ·  durability {self.durability}"


Ready = Callable[[Serving], None]
Complain = Callable[[LmdbqError], None]


class AddressTaken(LmdbqError):
    """The address to listen on cannot be had. Stop who uses it, or name another one."""

    code = "address_taken"


def _tell(serving: Serving) -> None:
    sys.stderr.write(f"{serving}\n")
    sys.stderr.flush()


def _complain(error: LmdbqError) -> None:
    sys.stderr.write(f"lmdbq: {error.detail}\n")
    sys.stderr.flush()


def run(settings: Settings, *, ready: Ready = _tell, complain: Complain = _complain) -> int:
    """Serve until a signal; return the exit code. ready: is told where; complain: what went wrong."""
    allow_descriptors()
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve(settings, ready=ready, complain=complain))
    return uvloop.run(serve(settings, ready=ready, complain=complain))


async def serve(settings: Settings, *, ready: Ready, complain: Complain = _complain) -> int:
    """Serve until a signal; return the exit code. Must run in the main thread, for the signals."""
    try:
        access = Access(settings)
        ownership = Ownership(settings.data_directory())
    except LmdbqError as wrong:
        complain(wrong)
        return _code_of(wrong)
    except OSError as wrong:
        complain(BadSetting(f"cannot use the directory {settings.data_directory()}: {wrong.strerror}; {_NAME_ANOTHER}"))
        return EXIT_SETTING
    try:
        return await _serve_file(settings, access.listen, ownership, ready)
    except (AddressTaken, BadSetting, StoreError) as failure:
        complain(failure)
        return _code_of(failure)
    finally:
        ownership.give_up()


def _code_of(failure: LmdbqError) -> int:
    match failure:
        case AlreadyServed() | AddressTaken():
            return EXIT_TAKEN
        case CommitUnknown():
            return EXIT_COMMIT
        case NotOurFile():
            return EXIT_SETTING
        case StoreError():
            return EXIT_DATA
        case _:
            return EXIT_SETTING


async def _serve_file(settings: Settings, listen: Listen, ownership: Ownership, ready: Ready) -> int:
    directory = settings.data_directory()
    store = open_store(directory, max_bytes=settings.max_size, durability=settings.durability)
    with contextlib.closing(store):
        store.info()  # opens the file, so that what is wrong with it is said before anybody can call
        return await _serve_store(settings, listen, store, ownership, ready)


async def _serve_store(settings: Settings, listen: Listen, store: Store, ownership: Ownership, ready: Ready) -> int:
    engine = Engine(store, SystemClock(), one_core=not settings.any_core)
    await engine.start()
    app = make_app(settings, engine)
    try:
        async with _listening(app, listen) as url:
            ownership.announce(url)
            signals = _Signals()
            gc.freeze()  # what was made by now is kept to the end; to look through it again would take 16 ms each time
            ready(Serving(url, settings.data_directory().absolute(), settings.durability, os.getpid()))
            return await _until_over(app[DAEMON], signals, settings.grace_seconds)
    except (AddressTaken, BadSetting):
        with contextlib.suppress(LmdbqError):
            await engine.stop()
        raise


async def _until_over(daemon: Daemon, signals: _Signals, grace_seconds: float) -> int:
    """Wait for a signal or a failed commit, drain, and return the exit code."""
    engine = daemon.engine
    stopping = asyncio.ensure_future(signals.asked.wait())
    ends: tuple[asyncio.Future[Any], ...] = (stopping, engine.fatal)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    failed = engine.fatal.done()
    stopping.cancel()
    asyncio.get_running_loop().call_later(
        max(grace_seconds, CLEANUP_SECONDS), _end_now, EXIT_COMMIT if failed else EXIT_OK, "the grace is over"
    )
    daemon.draining.set()
    engine.drain()
    if failed:
        log.error("%s", engine.fatal.result().detail)
    await daemon.under_way.wait_for_none(ANSWER_SECONDS if failed else max(0.0, grace_seconds - CLEANUP_SECONDS))
    with contextlib.suppress(LmdbqError):
        await engine.stop()
    return EXIT_COMMIT if failed or engine.status().failed else EXIT_OK


class _Signals:
    """SIGTERM and SIGINT: the first asks to drain, the second ends the process."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard, number)

    def _heard(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            _end_now(128 + number, "a second signal")
        log.info("draining after %s", number.name)
        self.asked.set()


def _end_now(code: int, why: str) -> NoReturn:
    """End the process as SIGKILL would; what is not on disk was not answered."""
    log.warning("ending now: %s", why)
    os._exit(code)


@contextlib.asynccontextmanager
async def _listening(app: web.Application, listen: Listen) -> AsyncIterator[str]:
    """Listen for the length of a block; the value is the URL to give to clients."""
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=CLEANUP_SECONDS / 2)
    await runner.setup()
    site = web.UnixSite(runner, listen.path) if listen.path else web.TCPSite(runner, listen.host, listen.port)
    try:
        if listen.path:
            _remove_dead_socket(Path(listen.path))
        await site.start()
    except OSError as error:
        await runner.cleanup()
        has_number = error.errno and not isinstance(error, socket.gaierror)
        why = os.strerror(error.errno or 0) if has_number else error.strerror or error
        cannot = f"cannot listen on {listen.url}: {why}"
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(f"{cannot}; stop who uses it, or name another with --listen") from None
        raise BadSetting(f"{cannot}; name another with --listen") from None
    watching = asyncio.ensure_future(_watch_connections(app, runner))
    try:
        port = runner.addresses[0][1] if not listen.path else 0
        yield listen._replace(port=port).url
    finally:
        watching.cancel()
        await runner.cleanup()


async def _watch_connections(app: web.Application, runner: web.AppRunner) -> None:
    server = runner.server
    assert server is not None, "it was set up"
    await app[DAEMON].under_way.watch(lambda: server.connections)


def _remove_dead_socket(path: Path) -> None:
    """Remove the socket a killed daemon left. Raises OSError if it is in use: by a daemon of another file, perhaps.

    To listen there would remove that, too, and leave its daemon running where nobody can reach it.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX) as asking:
            asking.setblocking(False)  # a queue that is full is in use, too
            try:
                asking.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
            except BlockingIOError:
                pass  # said below
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
