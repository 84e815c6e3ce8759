"""The load on a daemon: a driver that sends ready-made bytes through plain sockets, so that it is not what is measured.

Modes: ``batch`` (one connection, one request at a time), ``single`` (many connections in one process, each with one
request under way), ``paced`` (a rate that does not wait for answers, each task with its time of sending), ``worker``
(long polls, and reports each task together with the next poll), ``life`` (enqueues a batch and works as many tasks
off), ``drain`` (works off what waits). Every answer must be a 200; anything else ends the run.
"""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from itertools import cycle
from typing import Any, Final

import msgspec

from lmdbq.bench import inputs
from lmdbq.bench.processes import driver_main
from lmdbq.bench.workloads import Workload

PATH: Final = "/v1/enqueue"
ANSWER_SECONDS: Final = 30.0  # no request of a benchmark takes so long, and nothing waits for ever
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ANSWER_BYTES: Final = 1 << 20  # of most answers; room is made for larger ones
_CHUNKED: Final = 1  # as the length of an answer that comes in chunks
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_LEASE: Final = re.compile(rb'"lease":"([^"]+)"')
_POLL_SECONDS: Final = 1.5  # an empty answer after so long means that the producer has finished

Run = Callable[[float, float], dict[str, Any]]


class Connection:
    """A socket to the daemon on which one request at a time is under way."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._buffer = bytearray(_ANSWER_BYTES)
        self._got = 0
        self._length = 0
        self._wanted = 0

    def send(self, request: bytes) -> None:
        self.sent_at = time.monotonic()
        self.sock.sendall(request)

    def receive(self) -> bool:
        """Read once; return whether the answer is complete. Raises ConnectionError, and ValueError unless it is 200."""
        if self._got == len(self._buffer):
            self._buffer += bytes(len(self._buffer))
        with memoryview(self._buffer) as view:
            got = self.sock.recv_into(view[self._got :])
        if not got:
            raise ConnectionError("the daemon has closed the connection")
        self._got += got
        if not self._wanted:
            head = self._buffer.find(b"\r\n\r\n", 0, self._got)
            if head < 0:
                return False
            if not self._buffer.startswith(b"HTTP/1.1 200"):
                raise ValueError(f"answered: {bytes(self._buffer[: min(self._got, 2000)])!r}")
            length = _LENGTH.search(self._buffer, 0, head)
            self._wanted = head + 4 + int(length.group(1)) if length else _CHUNKED
        ended = self._buffer.endswith(_LAST_CHUNK, 0, self._got) if self._wanted == _CHUNKED else True
        if self._got < self._wanted or not ended:
            return False
        self._got, self._length, self._wanted = 0, self._got, 0
        return True

    def answer(self) -> bytes:
        """Return the body of the answer that is complete."""
        return bytes(self._buffer[: self._length]).partition(b"\r\n\r\n")[2]

    def call(self, request: bytes) -> None:
        """Send, and return when the answer is there."""
        self.send(request)
        while not self.receive():
            pass


def requests_of(spec: dict[str, Any]) -> list[bytes]:
    """Return the requests a driver sends, in order."""
    workload = msgspec.convert(spec["workload"], Workload)
    kind, minimal = spec["content_type"], spec["minimal"]
    path = f"{PATH}?queue_name={inputs.QUEUE}" if kind == inputs.NDJSON else PATH
    pool = inputs.pool(workload, spec["seed"], spec["seconds"])
    return [inputs.request(path, inputs.body(batch, kind, minimal=minimal), kind) for batch in pool]


def supply(spec: dict[str, Any]) -> Any:
    """Return an iterator over the requests; with dedupe keys none comes twice, and running out is an error."""
    requests = requests_of(spec)
    return iter(requests) if spec["workload"]["keys"] else cycle(requests)


def batch(spec: dict[str, Any]) -> Run:
    """One connection, one request at a time."""
    source, connection, length = supply(spec), Connection(spec["port"]), spec["workload"]["batch"]

    def run(begin: float, end: float) -> dict[str, Any]:
        counted = sent = 0
        now = 0.0
        lengths: list[float] = []
        while now < end:
            connection.call(next(source))
            now = time.monotonic()
            sent += length
            if begin <= now < end:
                counted += length
                lengths.append(now - connection.sent_at)
        return {"counted": counted, "sent": sent, "lengths": lengths}

    return run


def single(spec: dict[str, Any]) -> Run:
    """Many connections, each with one request under way."""
    source, length = supply(spec), spec["workload"]["batch"]
    connections = {one.sock.fileno(): one for one in (Connection(spec["port"]) for _ in range(spec["connections"]))}
    poller = select.epoll()
    for number in connections:
        poller.register(number, select.EPOLLIN)

    def run(begin: float, end: float) -> dict[str, Any]:
        counted = sent = 0
        lengths: list[float] = []
        for connection in connections.values():
            connection.send(next(source))
        waiting = len(connections)
        while waiting:
            events = poller.poll(ANSWER_SECONDS)
            if not events:
                raise TimeoutError(f"no answer for {ANSWER_SECONDS} s")
            now = time.monotonic()
            for number, _ in events:
                connection = connections[number]
                if not connection.receive():
                    continue
                sent += length
                if begin <= now < end:
                    counted += length
                    lengths.append(now - connection.sent_at)
                if now < end:
                    connection.send(next(source))
                else:
                    waiting -= 1
        return {"counted": counted, "sent": sent, "lengths": lengths}

    return run


def paced(spec: dict[str, Any]) -> Run:
    """Tasks at a rate, whether or not earlier ones are answered; each says when it was due to be sent."""
    connections = {one.sock.fileno(): one for one in (Connection(spec["port"]) for _ in range(spec["connections"]))}
    poller = select.epoll()
    for number in connections:
        poller.register(number, select.EPOLLIN)
    gap = 1 / spec["workload"]["rate"]

    def run(begin: float, end: float) -> dict[str, Any]:
        idle, sent, answered = deque(connections.values()), 0, 0
        start = due = time.monotonic()
        while (now := time.monotonic()) < end or answered < sent:
            while idle and due < end and due <= now < end:
                content = b'{"queue_name":"%b","entries":[{"payload":{"sent_ns":%d}}],"return_tasks":false}'
                body = content % (inputs.QUEUE.encode(), int(due * 1e9))
                idle.popleft().send(inputs.request(PATH, body))
                sent += 1
                due = start + sent * gap
                now = time.monotonic()
            for number, _ in poller.poll(max(0.0, due - now) if idle and due < end else 0.1):
                if connections[number].receive():
                    answered += 1
                    idle.append(connections[number])
        return {"sent": sent}

    return run


def worker(spec: dict[str, Any]) -> Run:
    """Poll for tasks and report each with the next poll, until nothing comes any more."""
    connection = Connection(spec["port"])
    wanted = {"queue_names": [inputs.QUEUE], "limit": spec["workload"]["batch"], "wait_in_seconds": _POLL_SECONDS}
    first = inputs.request("/v1/dequeue", json.dumps(wanted).encode())

    def run(begin: float, end: float) -> dict[str, Any]:
        late_ms: list[float] = []
        total = counted = 0
        request = first
        while True:
            connection.call(request)
            now = time.monotonic()
            tasks = json.loads(connection.answer())["tasks"]
            total += len(tasks)
            counted += len(tasks) if begin <= now < end else 0
            sent_ns = [task["payload"]["sent_ns"] for task in tasks]
            late_ms += [now * 1e3 - sent / 1e6 for sent in sent_ns if begin <= sent / 1e9 < end]
            if not tasks and now > end:
                return {"late_ms": late_ms, "total": total, "counted": counted}
            reports = [{"lease": task["lease"], "status": "succeeded"} for task in tasks]
            request = inputs.request("/v1/report", json.dumps({"reports": reports, "dequeue": wanted}).encode())

    return run


class Taker:
    """A worker that reports what it holds and takes more in one call."""

    def __init__(self, connection: Connection, take: int) -> None:
        self._connection = connection
        self._more = b',"dequeue":{"queue_names":["%b"],"limit":%d}' % (inputs.QUEUE.encode(), take)
        self._held: list[bytes] = []

    def step(self, *, last: bool = False) -> int:
        """Report what is held, take more unless it is the last step, and return how many tasks are held now."""
        if last and not self._held:
            return 0
        reports = b",".join([b'{"lease":"%b","status":"succeeded"}' % lease for lease in self._held])
        body = b'{"reports":[%b]%b}' % (reports, b"" if last else self._more)
        self._connection.call(inputs.request("/v1/report", body))
        self._held = [] if last else _LEASE.findall(self._connection.answer().rpartition(b'"tasks":')[2])
        return len(self._held)


def life(spec: dict[str, Any]) -> Run:
    """Enqueue a batch, then work off as many tasks, ``take`` at a time; each report goes with the next dequeue."""
    source, connection = supply(spec), Connection(spec["port"])
    length, take = spec["workload"]["batch"], spec["workload"]["take"]
    taker = Taker(connection, take)

    def run(begin: float, end: float) -> dict[str, Any]:
        counted = total = 0
        now = producing = 0.0
        while now < end:
            began = time.process_time()
            connection.call(next(source))
            producing += time.process_time() - began
            for _ in range(0, length, take):
                assert taker.step() == take, "a dequeue found less than was enqueued before it"
            now = time.monotonic()
            total += length
            counted += length if begin <= now < end else 0
        taker.step(last=True)
        return {"counted": counted, "sent": 0, "total": total, "producing_seconds": producing}

    return run


def drain(spec: dict[str, Any]) -> Run:
    """Work off what waits, until nothing does or the time is over; say how long it took."""
    taker = Taker(Connection(spec["port"]), spec["workload"]["take"])

    def run(begin: float, end: float) -> dict[str, Any]:
        counted = 0
        now = begin
        while now < end and (taken := taker.step()):
            counted += taken
            now = time.monotonic()
        taker.step(last=True)
        return {"counted": counted, "seconds": now - begin}

    return run


MODES: Final = {"life": life, "drain": drain, "batch": batch, "single": single, "paced": paced, "worker": worker}


if __name__ == "__main__":
    driver_main(lambda spec: MODES[spec["mode"]](spec))
