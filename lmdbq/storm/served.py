"""``lmdbq serve`` as a process for storms to treat badly, and HTTP by the standard library.

Neither the client of lmdbq nor its shapes stand between a storm and what the daemon really does. The process has a
session of its own, so that a terminal's Ctrl-C ends it in order: ``with`` kills whatever is left. With a plant (see
``planted_daemon``) it has a fault, for the test of the tests.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lmdbq.storm.trace import Unclear

JSON: Final = "application/json"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.01
_URL: Final = re.compile(rb"http://127\.0\.0\.1:(\d+)(?=\s)")

Unreachable = (OSError, http.client.HTTPException)
"""What a call raises when the daemon has gone, or goes."""


class Served:
    """A daemon on ``directory``, on a free port that it keeps over restarts. before: words in front of its command."""

    def __init__(
        self,
        directory: Path,
        *,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        plant: str = "",
    ) -> None:
        self.data = directory
        self.port = 0
        self.before = before
        self._options = options
        self._environment = environment or {}
        self._plant = plant
        self._log = directory.parent / f"{directory.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive:
            self.kill()

    @property
    def is_alive(self) -> bool:
        """Whether its process runs, or was only stopped for a while."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process number. Raises AssertionError before ``start``."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far, as of its first start."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it, and return when it is ready. Raises Unclear if it does not become so."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        serve = ["serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}", *self._options]
        module = ["lmdbq.storm.planted_daemon", self._plant] if self._plant else ["lmdbq"]
        with self._log.open("ab") as log:
            begun_at = log.tell()
            self._process = subprocess.Popen(
                [*self.before, sys.executable, "-m", *module, *serve],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | self._environment,
                start_new_session=True,
            )
        give_up_at = time.monotonic() + START_SECONDS
        while not self._is_ready(begun_at):
            if not self.is_alive or time.monotonic() > give_up_at:
                raise Unclear(f"the daemon did not become ready:\n{self.log[-2000:]}")
            time.sleep(_LOOK_SECONDS)

    def _is_ready(self, begun_at: int) -> bool:
        said = _URL.search(self._log.read_bytes()[begun_at:])
        if said is None:
            return False
        self.port = int(said[1])
        with self.caller() as caller:
            try:
                return caller.ask("GET", "/readyz")[0] == 200
            except Unreachable:
                return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end, and return its exit status; it is killed if it takes too long."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def caller(self, seconds: float = ANSWER_SECONDS) -> Caller:
        """Return a caller with a connection of its own, which waits so long for an answer."""
        return Caller(self.port, seconds)

    def anonymous_bytes(self) -> int:
        """Return how much memory of its own it has, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise Unclear("this kernel does not say how much memory of its own a process has")

    def violations(self) -> list[str]:
        """Return what ``lmdbq check`` finds wrong in its file."""
        command = [sys.executable, "-m", "lmdbq", "check", str(self.data)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return [] if ended.returncode == 0 else (ended.stdout + ended.stderr).splitlines()[:20]


@contextmanager
def ending(served: Served) -> Iterator[None]:
    """Kill a daemon, which need not have been started yet, at the end of a block, if it lives."""
    try:
        yield
    finally:
        if served.is_alive:
            served.kill()


class Caller:
    """One connection, opened when it is needed. For one thread. opened_after: for its user, to tell when that was."""

    def __init__(self, port: int, seconds: float) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        self.opened_after = 0

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "",
    ) -> tuple[int, bytes]:
        """Send a request and return the status and the body. Raises one of Unreachable."""
        headers = {} if body is None else {"Content-Type": content_type}
        if accept:
            headers["Accept"] = accept
        try:
            self._connection.request(method, path, body=body, headers=headers)
            with self._connection.getresponse() as answer:
                return answer.status, answer.read()
        except BaseException:
            self.close()  # what is half read must not be taken for the next answer
            raise

    def post(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """Send JSON and return the JSON of a 2xx. Raises one of Unreachable, and WrongAnswer for any other answer."""
        status, body = self.ask("POST", path, json.dumps(value).encode())
        if not 200 <= status < 300:
            raise WrongAnswer(f"POST {path} was answered {status}: {body[:300]!r}")
        answer: dict[str, Any] = json.loads(body)
        return answer


class WrongAnswer(Exception):
    """An answer that must not be; the message says which."""
