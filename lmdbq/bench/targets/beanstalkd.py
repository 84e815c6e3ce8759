"""The peer beanstalkd: its protocol through a plain socket, commands of a batch sent together and answered together.

The client is written here because none that is kept well sends a batch in one go. A task is taken by ``reserve`` and
finished by ``delete``, with a time to run of a minute, which no driver exceeds.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from lmdbq.bench.processes import free_port, running, wait_for_port
from lmdbq.bench.targets.base import Session
from lmdbq.bench.targets.peers import BLOCKING, PeerSession
from lmdbq.bench.workloads import ENQUEUE, WORKERS

_WAITING: Final = re.compile(rb"^current-jobs-(?:ready|reserved): (\d+)", re.MULTILINE)
_ANSWER_SECONDS: Final = 30.0


class Client:
    """A connection. Raises ValueError for an answer that was not asked for."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(_ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def prepare(self, payloads: Sequence[bytes]) -> tuple[bytes, int]:
        commands = [b"put 0 0 60 %d\r\n%b\r\n" % (len(payload), payload) for payload in payloads]
        return b"".join(commands), len(commands)

    def enqueue(self, batch: tuple[bytes, int]) -> None:
        commands, length = batch
        self._socket.sendall(commands)
        for _ in range(length):
            self._expect(b"INSERTED")

    def work(self, limit: int) -> int:
        self._socket.sendall(b"reserve-with-timeout 0\r\n" * limit)
        taken = [job for _ in range(limit) if (job := self._reserved())]
        self._socket.sendall(b"".join(b"delete %b\r\n" % job for job in taken))
        for _ in taken:
            self._expect(b"DELETED")
        return len(taken)

    def _reserved(self) -> bytes:
        answer = self._answers.readline().split()
        if answer[:1] == [b"TIMED_OUT"]:
            return b""
        if answer[:1] != [b"RESERVED"]:
            raise ValueError(f"beanstalkd answered {answer!r}")
        self._answers.read(int(answer[2]) + 2)
        return answer[1]

    def _expect(self, word: bytes) -> None:
        answer = self._answers.readline()
        if not answer.startswith(word):
            raise ValueError(f"beanstalkd answered {answer!r}")

    def waiting(self) -> int:
        """Return how many jobs there are."""
        self._socket.sendall(b"stats\r\n")
        length = int(self._answers.readline().split()[1])
        return sum(int(found) for found in _WAITING.findall(self._answers.read(length + 2)))

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


def connect(spec: dict[str, Any]) -> Client:
    """Return a client for a driver."""
    return Client(spec["port"])


class BeanstalkdTarget:
    """beanstalkd with its log (-b); options: how that is synced."""

    kinds: tuple[str, ...] = (ENQUEUE, WORKERS)

    def __init__(self, name: str, durability: str, *options: str) -> None:
        self.name = name
        self.durability = durability
        self._options = options

    def absent(self) -> str:
        return "" if shutil.which("beanstalkd") else "beanstalkd is not installed: apt-get install beanstalkd"

    @contextmanager
    def open(self, directory: Path) -> Iterator[Session]:
        data = directory / "data"
        data.mkdir(parents=True)
        port = free_port()
        command = ["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", str(data), *self._options]
        log = directory / "server.log"
        with log.open("ab") as said, running(command, log, stdin=subprocess.DEVNULL, stdout=said) as server:
            wait_for_port(port, server)
            load = {"adapter": __name__, "mode": BLOCKING, "port": port}
            with closing(Client(port)) as client:
                yield PeerSession(directory, load, client.waiting, server.pid)


TARGETS: Final = (
    BeanstalkdTarget("beanstalkd", "-b, -f 0: every command is synced", "-f", "0"),
    BeanstalkdTarget("beanstalkd, as it comes", "-b: synced every 50 ms"),
)
