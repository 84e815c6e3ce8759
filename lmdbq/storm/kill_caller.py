"""A caller in the storm of kills: a producer or worker over HTTP, a process of its own that may be killed at any time.

    python -I -S kill_caller.py ROLE SOCKET NOTES SEED

Nothing of lmdbq is imported. Whatever it asks it writes down before it asks, and each answer before it does anything
else, one line of JSON by one ``write`` to a file that only it appends to. A line begins with the monotonic time in ns,
which all processes of a machine share:

    ask      request, [[number, dedupe key, delay in seconds] ...]    told       request, [[outcome, id] ...]
    cancel   id                                                        cancelled  id, outcome
    dequeue  claim id, limit                                           given      claim id, [[id, delivery, number] ...]
    report   id, delivery, status                                      reported   id, delivery, status, outcome
    odd      path, status, body: an answer that nobody should get      end

A request is repeated until it is answered: with its Idempotency-Key, its claim id, its lease. A producer that follows
others that were killed first asks again what those had not been told (their notes are NOTES with lower numbers). A
worker knows nothing of those before it: what they held must come back by itself.

What is done with a task follows from its number, so that it is the same whoever does it: see ``is_slow``, ``is_kept``.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator

# The standard library's types only; the checkers run with the package.
from typing import Any

QUEUE = "storm"
LEASE_SECONDS = 1
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.02
WAIT_SECONDS = 40.0  # longer than the storm waits for what must come back: who is not woken is found
KEYS = 12
OPTIONS = {
    "keepalive_timeout_in_seconds": LEASE_SECONDS,
    "retry_strategy": {"max_attempts": 1_000, "max_deliveries": 4_000, "retry_intervals_in_seconds": [0]},
}
KEPT_SECONDS = 80_000

Post = Callable[[str, Any, str], tuple[int, Any]]
"""Sends a path, a body and an Idempotency-Key ("" for none), and returns status and body; status 0: no answer came."""


def is_slow(number: str) -> bool:
    """Whether the first to have this task keeps it beyond its lease, and the next one nearly as long as it may."""
    return zlib.crc32(number.encode()) % 12 == 0


def is_kept(key: str) -> bool:
    """Whether a task stays to be looked at when it has succeeded; if not, its dedupe slot has to go with it."""
    return not key


class Notes:
    """What this process writes down. Each line is whole or not there."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, *said: Any) -> None:
        """Append a line."""
        os.write(self._descriptor, json.dumps([time.monotonic_ns(), *said]).encode() + b"\n")


def read_notes(path: str) -> Iterator[list[Any]]:
    """Yield the whole lines of notes; of a file that there is not, none."""
    if not os.path.exists(path):  # noqa: PTH110  (pathlib would double the time to start)
        return
    with open(path, "rb") as file:  # noqa: PTH123
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


class HttpPost:
    """Posts to a daemon on a socket, over one connection as long as it holds."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, path: str, body: Any, key: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
        try:
            return self.send("POST", path, json.dumps(body).encode(), headers)
        except (OSError, http.client.HTTPException):
            self._connection = None
            return 0, None

    def send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        """Send one request. Raises OSError, HTTPException."""
        if self._connection is None:
            self._connection = _SocketConnection(self._path)
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


class Caller:
    """Asks, and writes down what it asks and is told. name: of this process, in no other's numbers."""

    def __init__(self, post: Post, notes: Notes, name: str, chance: random.Random, asked_to_stop: list[int]) -> None:
        self.post = post
        self.notes = notes
        self.name = name
        self.chance = chance
        self._asked_to_stop = asked_to_stop
        self._requests = 0
        self._held: list[tuple[float, dict[str, Any]]] = []

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return bool(self._asked_to_stop)

    def insist(self, path: str, body: Any, key: str = "", expected: tuple[int, ...] = (200,)) -> Any:
        """Send the same until it is answered; None if the answer is one that should not be."""
        while True:
            status, value = self.post(path, body, key)
            if status in expected:
                return value
            if status not in (0, 503):  # 503 is what a daemon that begins, ends or waits for the file may say
                self.notes.write("odd", path, status, value)
                return None
            time.sleep(PAUSE_SECONDS)

    # --- producing ---

    def produce(self, most: int) -> None:
        """Enqueue up to ``most`` tasks; some have a key that others have, too; some are for later, or are cancelled."""
        self._requests += 1
        request = f"{self.name}/{self._requests}"
        entries = [
            [
                f"{request}/{number}",
                f"key {self.chance.randrange(KEYS)}" if self.chance.random() < 0.3 else "",
                round(self.chance.uniform(0.1, 1.5), 2) if self.chance.random() < 0.15 else 0,
            ]
            for number in range(self.chance.randint(1, most))
        ]
        self.enqueue(request, entries)

    def enqueue(self, request: str, entries: list[list[Any]]) -> None:
        """Ask for tasks. ``request`` is also the Idempotency-Key."""
        self.notes.write("ask", request, entries)
        body = {"queue_name": QUEUE, "entries": [_entry(*entry) for entry in entries], "return_tasks": False}
        answer = self.insist("/v1/enqueue", body, request)
        if answer is None:
            return
        told = [[outcome["outcome"], outcome["id"]] for outcome in answer["outcomes"]]
        self.notes.write("told", request, told)
        for (outcome, task_id), (_, _, delay) in zip(told, entries, strict=True):
            if outcome == "enqueued" and delay and self.chance.random() < 0.5:
                self.cancel(task_id)

    def cancel(self, task_id: str) -> None:
        """Cancel a task that may have ended."""
        self.notes.write("cancel", task_id)
        answer = self.insist(f"/v1/tasks/{task_id}/cancel", {}, expected=(200, 202, 404, 409, 410))
        if answer is not None:
            self.notes.write("cancelled", task_id, answer.get("outcome") or answer.get("code"))

    def produce_on(self, previous: list[str]) -> None:
        """Ask again what those before were not told; then produce until told to stop. previous: their notes."""
        lines = [line for path in previous for line in read_notes(path)]
        told = {line[2] for line in lines if line[1] == "told"}
        asked = {line[2]: line[3] for line in lines if line[1] == "ask" and line[2] not in told}
        for request, entries in asked.items():
            self.enqueue(request, entries)
        while not self.stopping:
            self.produce(4)
            time.sleep(self.chance.uniform(0.02, 0.12))

    # --- working ---

    def take(self, wait_seconds: float) -> list[dict[str, Any]]:
        """Ask for tasks, and return what was given."""
        self._requests += 1
        claim_id = f"{self.name}/{self._requests}"
        limit = self.chance.randint(1, 5)
        self.notes.write("dequeue", claim_id, limit)
        body = {"queue_names": [QUEUE], "limit": limit, "wait_in_seconds": wait_seconds, "claim_id": claim_id}
        answer = self.insist("/v1/dequeue", body)
        tasks: list[dict[str, Any]] = answer["tasks"] if answer else []
        self.notes.write("given", claim_id, [[one["id"], one["deliveries"], one["payload"]["number"]] for one in tasks])
        return tasks

    def report(self, task: dict[str, Any], status: str) -> str:
        """Say how an attempt ended, and return what is said to that."""
        self.notes.write("report", task["id"], task["deliveries"], status)
        answer = self.insist("/v1/report", {"reports": [{"lease": task["lease"], "status": status}]})
        outcome = str(answer["outcomes"][0]["outcome"]) if answer else "none"
        self.notes.write("reported", task["id"], task["deliveries"], status, outcome)
        return outcome

    def work_off(self, tasks: list[dict[str, Any]]) -> None:
        """End each task as chance has it, now or later."""
        for task in tasks:
            if task["deliveries"] <= 2 and is_slow(task["payload"]["number"]):
                keeps_seconds = LEASE_SECONDS * (1.6 if task["deliveries"] == 1 else 0.8)
                self._held.append((time.monotonic() + keeps_seconds, task))
                continue
            fate = self.chance.random()
            if fate < 0.05:
                self.insist("/v1/extend", {"leases": [{"lease": task["lease"]}]})
            time.sleep(self.chance.uniform(0, 0.02))
            ended = "failed" if fate > 0.95 else "released" if fate > 0.93 else "succeeded"
            said = self.report(task, ended)
            if said == "ok" and fate > 0.89:  # and once more, otherwise: one delivery ends once
                self.report(task, "failed" if ended == "succeeded" else "succeeded")

    def report_held(self) -> float:
        """Report what was held and whose time has come, as if it were in time; return how long it is to the next."""
        now = time.monotonic()
        due = [task for at, task in self._held if at <= now]
        self._held = [(at, task) for at, task in self._held if at > now]
        for task in due:
            self.report(task, "succeeded")
        return max(0.0, min((at for at, _ in self._held), default=now + WAIT_SECONDS) - now)

    def work_on(self) -> None:
        """Work until told to stop."""
        while not self.stopping:
            self.work_off(self.take(round(self.report_held(), 3)))


def _entry(number: str, key: str, delay: float) -> dict[str, Any]:
    keep = {"succeeded_in_seconds": KEPT_SECONDS * is_kept(key), "cancelled_in_seconds": KEPT_SECONDS}
    more = {"dedupe_key": key} if key else {}
    return {"type": "one", "payload": {"number": number}, "delay_in_seconds": delay, "keep": keep, **more, **OPTIONS}


def begun(post: Post, notes_path: str, seed: str) -> Caller:
    """Return a caller that a SIGTERM asks to stop. Its notes are there only once that holds."""
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(1))
    name = os.path.basename(notes_path)  # noqa: PTH119
    return Caller(post, Notes(notes_path), name, random.Random(seed), asked_to_stop)


def main(arguments: list[str]) -> int:
    """Produce or work until a signal."""
    role, place, notes_path, seed = arguments
    caller = begun(HttpPost(place), notes_path, seed)
    if role == "producer":
        base, _, life = notes_path.rpartition(".")
        caller.produce_on([f"{base}.{number}" for number in range(1, int(life))])
    else:
        caller.work_on()
    caller.notes.write("end")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
