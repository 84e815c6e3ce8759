"""A judge's tools: the daemon as a process on a free loopback port, and HTTP by the standard library.

Nothing of lmdbq is imported here or by the tests that use this (test_blackbox_*.py), so that neither its client nor its
shapes can hide what the daemon really does. ``with`` ends the daemon gently and has ``lmdbq check`` verify the file.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

JSON = "application/json"
NDJSON = "application/x-ndjson"
LMDBQ = [sys.executable, "-m", "lmdbq"]
PATIENCE_SECONDS = 60
STORM = bool(os.environ.get("LMDBQ_STORM"))


class Daemon:
    """``lmdbq serve`` on a directory. before: words to put in front of the command (strace ...)."""

    def __init__(self, directory: Path, *options: str, before: tuple[str, ...] = ()) -> None:
        self.data = directory
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._options = options
        self._before = before
        self._log = directory.parent / f"{directory.name}.log"

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = self.end(signal.SIGTERM)
        if kind is None:
            assert status == 0, self.log
            checked = subprocess.run([*LMDBQ, "check", str(self.data)], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stdout + checked.stderr

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start it on the port it had, or a free one, and return when it takes writes."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        listen = ["--listen", f"127.0.0.1:{self.port}"]
        with self._log.open("ab") as log:
            begun_at = log.tell()
            self.process = subprocess.Popen(
                [*self._before, *LMDBQ, "serve", "--data", str(self.data), *listen, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready(begun_at):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def _is_ready(self, begun_at: int) -> bool:
        said = re.search(rb"http://127\.0\.0\.1:(\d+)", self._log.read_bytes()[begun_at:])
        if said is None:
            return False
        self.port = int(said[1])
        return self.try_call("GET", "/readyz")[0] == 200

    def end(self, number: int) -> int:
        """Send a signal and return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE_SECONDS)

    def kill_and_start_again(self) -> None:
        """kill -9, and a new process on the same file and port."""
        assert self.end(signal.SIGKILL) == -signal.SIGKILL
        self.start()

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def try_call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send one request over a connection of its own and return (status, body); (0, None) if no answer came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            try:
                return call_over(connection, method, path, body, raw=raw, headers=headers)
            except (OSError, http.client.HTTPException):
                return 0, None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """As try_call; an answer must come."""
        status, value = self.try_call(method, path, body, raw=raw, headers=headers)
        assert status, self.log
        return status, value

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """As call; it must be a 2xx. The body is returned."""
        status, value = self.call(method, path, body, **more)
        assert 200 <= status < 300, (method, path, status, value)
        return value

    def enqueue(self, *entries: dict[str, Any], queue: str = "q", **more: Any) -> Any:
        return self.ok("POST", "/v1/enqueue", {"queue_name": queue, "entries": list(entries), **more})

    def dequeue(self, *queues: str, **more: Any) -> list[dict[str, Any]]:
        answer = self.ok("POST", "/v1/dequeue", {"queue_names": list(queues) or ["q"], **more})
        return list(answer["tasks"])

    def report(self, lease: str, status: str = "succeeded", **more: Any) -> str:
        answer = self.ok("POST", "/v1/report", {"reports": [{"lease": lease, "status": status, **more}]})
        return str(answer["outcomes"][0]["outcome"])

    def queue(self, name: str = "q") -> dict[str, Any]:
        return dict(self.ok("GET", f"/v1/queues/{name}"))

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)


def call_over(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    *,
    raw: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Send one request over ``connection`` and return (status, body), decoded if it is JSON."""
    data = json.dumps(body).encode() if body is not None else raw
    sent = {"Content-Type": JSON} if method != "GET" else {}
    connection.request(method, path, data, {**sent, **(headers or {})})
    answer = connection.getresponse()
    got = answer.read()
    return answer.status, json.loads(got) if "json" in (answer.getheader("Content-Type") or "") else got
