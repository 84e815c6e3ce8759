"""The real daemon as a process, for tests of what talks to it: started, killed, started again, and its file checked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from lmdbq.client.http import HttpClient
from lmdbq.store.lmdb import open_store

LMDBQ = [sys.executable, "-m", "lmdbq.cli"]


def lmdbq(*words: str, where: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    environment = {**os.environ, "LMDBQ_URL": where}
    return subprocess.run(
        [*LMDBQ, *words], input=stdin, capture_output=True, text=True, env=environment, timeout=60, check=False
    )


class RealDaemon:
    """``lmdbq serve`` on a socket in ``directory``; ``with`` ends it gently and verifies the file."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.where = f"unix://{directory}/s"
        self._log = directory / "serve.log"
        self._listen = f"unix:{directory}/s"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RealDaemon:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = self.end(signal.SIGTERM)
        if kind is None:
            assert status == 0, self._log.read_text()
            store = open_store(self.data)
            found = store.check()
            store.close()
            assert found == []

    def start(self) -> None:
        """Start it, and return when it takes writes."""
        command = [*LMDBQ, "serve", "--listen", self._listen, "--data", str(self.data)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with HttpClient(self.where, patience=60) as client:
            assert client.healthy(), self._log.read_text()

    def end(self, number: int) -> int:
        """End it with a signal and return its status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def kill_and_start_again(self) -> None:
        """kill -9, and a new one on the same file and address."""
        assert self.end(signal.SIGKILL) == -signal.SIGKILL
        self.start()
