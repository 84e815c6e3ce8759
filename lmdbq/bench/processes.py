"""Children of the harness: servers under test, and the drivers that load them.

Each is started here, in a directory of its own, on a free loopback port, and ended by its pid. A *driver* is a process
that makes its input, says ``ready``, is told a *window* of the machine's monotonic clock, and prints what it did as a
line of JSON, with the processor time it took. What it finished inside the window counts; what it does before is
warm-up. Nothing is timed by sleeping.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
_ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Failed(Exception):
    """A child did not start, or ended with an error; the message has what it said."""


@contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process for the length of a block; what it says on stderr goes to ``log``."""
    with log.open("ab") as said:
        child = subprocess.Popen(command, stderr=said, text=True, **options)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for servers that cannot be asked for any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], directory: Path) -> Iterator[tuple[int, int]]:
    """Run a server that prints its URL on stdout or stderr; the value is (pid, port)."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "server.log"
    log.unlink(missing_ok=True)  # the last server in this directory had another port
    with log.open("ab") as said, running(command, log, stdin=subprocess.DEVNULL, stdout=said) as server:
        yield server.pid, _port_in(log, server)


def _port_in(log: Path, server: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        found = _ADDRESS.search(log.read_text(encoding="utf-8"))
        if found:
            return int(found.group(1))
        time.sleep(0.002)
    raise Failed(f"{server.args!r} did not start: {log.read_text(encoding='utf-8')[-2000:]}")


def wait_for_port(port: int, server: subprocess.Popen[str]) -> None:
    """Return when something answers on a port. Raises Failed."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise Failed(f"{server.args!r} did not start")


# --- drivers ----------------------------------------------------------------------------------------------------------


class Driver:
    """One driver process that is ready to go."""

    def __init__(self, module: str, spec: dict[str, Any], child: subprocess.Popen[str], log: Path) -> None:
        self._child = child
        self._log = log
        self._name = f"{module} {spec.get('mode', '')}"
        self._tell(spec)

    def _tell(self, message: dict[str, Any]) -> None:
        _pipe(self._child.stdin).write(json.dumps(message) + "\n")
        _pipe(self._child.stdin).flush()

    def _hear(self) -> str:
        line = _pipe(self._child.stdout).readline()
        if not line:
            self._child.wait(STOP_SECONDS)
            raise Failed(f"{self._name} ended: {self._log.read_text(encoding='utf-8')[-2000:]}")
        return line

    def wait_until_ready(self) -> None:
        """Return when its input is made and it is connected."""
        assert self._hear() == "ready\n"

    def go(self, begin: float, end: float) -> None:
        """Let it work at once, and count between ``begin`` and ``end`` (monotonic seconds)."""
        self._tell({"begin": begin, "end": end})

    def result(self) -> dict[str, Any]:
        """Return what it has done, when it has finished."""
        found: dict[str, Any] = json.loads(self._hear())
        return found


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def drivers(module: str, specs: Sequence[dict[str, Any]], directory: Path) -> Iterator[list[Driver]]:
    """Run a driver for each spec; the block begins when all are ready."""
    with ExitStack() as stack:
        started = []
        log = directory / "driver.log"
        for spec in specs:
            command = [sys.executable, "-m", module]
            child = stack.enter_context(running(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            started.append(Driver(module, spec, child, log))
        for driver in started:
            driver.wait_until_ready()
        yield started


def drive(
    module: str, specs: Sequence[dict[str, Any]], directory: Path, warm_seconds: float, seconds: float
) -> list[dict[str, Any]]:
    """Run drivers over one window and return what each did."""
    with drivers(module, specs, directory) as ready:
        begin = time.monotonic() + warm_seconds
        for driver in ready:
            driver.go(begin, begin + seconds)
        return [driver.result() for driver in ready]


def driver_main(prepare: Any) -> None:
    """Be a driver: ``prepare(spec)`` returns a function of (begin, end) that works and returns its result."""
    work = prepare(json.loads(sys.stdin.readline()))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    window = json.loads(sys.stdin.readline())
    begun = time.process_time()
    done = work(window["begin"], window["end"])
    sys.stdout.write(json.dumps(done | {"cpu_seconds": time.process_time() - begun}) + "\n")
    sys.stdout.flush()
