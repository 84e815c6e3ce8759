"""A session through the daemon as a process.

    python -m lmdbq.storm.served_child DIRECTORY DIARY DURABILITY SEED STEPS

The daemon runs in the main thread, exactly as ``lmdbq serve`` does but for its clock; the session is a thread that asks
it over a socket and writes down what it *received*. Both are one process, so that one trace holds what the disk was
asked for and what was answered, in their order. Some steps are bursts: several callers ask at once and share commits.
What a reader sees in the middle of one is not known; so each answer of a burst is a line without a world, and the world
follows when all have been answered. In the middle of the session the daemon is stopped and started.

The trap: time stands still here. A timer that did something by itself would change what a reader sees, unasked.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from lmdbq.clock import ManualClock
from lmdbq.daemon import serve
from lmdbq.daemon.settings import Settings
from lmdbq.ids import parse_id
from lmdbq.store.lmdb import open_store
from lmdbq.storm.kill_caller import HttpPost
from lmdbq.storm.ledger import DONE
from lmdbq.storm.look import world_of
from lmdbq.storm.session import Diary

QUEUES: Final = ("mail", "thumbs")
LIVES: Final = 2
CALLERS: Final = 6
STORED_MAX: Final = 150
KEYS: Final = 25

Asked = tuple[str, dict[str, Any]]
Told = tuple[list[int], list[int]]
"""What an answer says was accepted, and what has ended."""


class ServedSession:
    """Asks a daemon, by one caller or several at once."""

    def __init__(self, directory: Path, diary: Diary, durability: str, seed: str, socket: str) -> None:
        self._store = open_store(directory, durability=durability)
        self._diary = diary
        self._clock = ManualClock()
        self._chosen = random.Random(seed)
        self._socket = socket
        self._leases: list[str] = []
        self._ids: list[str] = []
        self._numbers = 0
        self._lock = threading.Lock()

    @property
    def clock(self) -> ManualClock:
        """The clock that stands still, for the daemon, too."""
        return self._clock

    def run(self, steps: int) -> None:
        """Take ``steps`` steps. The daemon must serve."""
        posts = [HttpPost(self._socket) for _ in range(CALLERS)]
        self._note([], [])
        with ThreadPoolExecutor(CALLERS) as callers:
            while steps > 0:
                if len(self._diary.world.tasks) > STORED_MAX:
                    self._purge(posts[0])
                    steps -= 1
                    continue
                wanted = [self._asked() for _ in range(self._chosen.choice((1, 1, 2, CALLERS)))]
                if len(wanted) == 1:
                    self._note(*self._ask(posts[0], *wanted[0]))
                else:
                    list(callers.map(self._ask_in_a_burst, posts, wanted))
                    self._note([], [])
                steps -= len(wanted)
        for post in posts:
            post.close()

    def close(self) -> None:
        """Give up the look at the file."""
        self._store.close()

    def _note(self, accepted: list[int], ended: list[int]) -> None:
        self._diary.write(DONE, accepted, ended, world_of(self._store, self._clock))

    def _ask_in_a_burst(self, post: HttpPost, wanted: Asked) -> None:
        self._diary.tell(DONE, *self._ask(post, *wanted))

    def _ask(self, post: HttpPost, path: str, body: dict[str, Any]) -> Told:
        """Ask, and return what the answer says. Raises AssertionError for an answer that should not be."""
        status, value = post(path, body)
        if status not in (200, 404, 409, 410):
            raise AssertionError(f"{path} was answered {status}: {value}")
        read: Callable[[dict[str, Any], Any], Told] = {
            "enqueue": self._enqueued,
            "dequeue": self._dequeued,
            "report": self._reported,
        }.get(path.rpartition("/")[2], lambda _body, _value: ([], []))
        return read(body, value)

    def _purge(self, post: HttpPost) -> None:
        queue = self._chosen.choice(QUEUES)
        gone = [task_id for task_id, row in self._diary.world.tasks.items() if row[1] == queue]
        self._ask(post, f"/v1/queues/{queue}/purge", {})
        self._note([], gone)

    # --- what is asked ---

    def _asked(self) -> Asked:
        kind = self._chosen.choices(("enqueue", "dequeue", "report", "cancel"), (50, 22, 22, 6))[0]
        if kind == "dequeue":
            return "/v1/dequeue", {"queue_names": list(QUEUES), "limit": self._chosen.choice((1, 3, 20))}
        if kind == "report" and self._leases:
            leases = [self._leases.pop() for _ in range(min(len(self._leases), self._chosen.choice((1, 1, 5))))]
            status = self._chosen.choice(("succeeded", "succeeded", "succeeded", "failed", "released"))
            return "/v1/report", {"reports": [{"lease": lease, "status": status} for lease in leases]}
        if kind == "cancel" and self._ids:
            return f"/v1/tasks/{self._chosen.choice(self._ids)}/cancel", {}
        entries = [self._entry() for _ in range(self._chosen.choice((1, 1, 2, 20)))]
        return "/v1/enqueue", {"queue_name": self._chosen.choice(QUEUES), "entries": entries, "return_tasks": False}

    def _entry(self) -> dict[str, Any]:
        self._numbers += 1
        more: dict[str, Any] = {}
        if self._chosen.random() < 0.3:
            more["dedupe_key"] = f"key {self._chosen.randrange(KEYS)}"
        if self._chosen.random() < 0.1:
            more["delay_in_seconds"] = 60
        return {"type": "send", "payload": f"{self._numbers}{'.' * self._chosen.choice((0, 0, 0, 3_000))}", **more}

    # --- what is answered ---

    def _enqueued(self, _body: dict[str, Any], value: Any) -> Told:
        new = [outcome["id"] for outcome in value["outcomes"] if outcome["outcome"] == "enqueued"]
        with self._lock:
            self._ids = [*self._ids, *new][-60:]
        return [parse_id(task_id) for task_id in new], []

    def _dequeued(self, _body: dict[str, Any], value: Any) -> Told:
        with self._lock:
            self._leases += [task["lease"] for task in value["tasks"]]
        return [], []

    def _reported(self, body: dict[str, Any], value: Any) -> Told:
        pairs = zip(body["reports"], value["outcomes"], strict=True)
        done = [one["lease"] for one, said in pairs if (one["status"], said["outcome"]) == ("succeeded", "ok")]
        return [], [parse_id(lease.partition(".")[0]) for lease in done]


def main(arguments: list[str]) -> int:
    """Serve, and be the one who asks; twice, each with half of the steps."""
    directory, diary, durability, seed, steps = arguments
    with tempfile.TemporaryDirectory() as place:
        socket = f"{place}/socket"
        session = ServedSession(Path(directory), Diary(Path(diary)), durability, seed, socket)
        setattr(serve, "SystemClock", lambda: session.clock)  # noqa: B010  (the daemon knows no other)
        settings = Settings(data=Path(directory), listen=f"unix:{socket}", durability=durability)
        for _ in range(LIVES):
            status = _served(settings, lambda: session.run(int(steps) // LIVES))
            if status:
                return status
        session.close()
    return 0


def _served(settings: Settings, ask: Callable[[], None]) -> int:
    """Serve as long as ``ask`` runs, in a thread; return the exit status, 1 if it failed."""
    failures: list[BaseException] = []

    def asking() -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001  (it is raised again in the main thread)
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    status = serve.run(settings, ready=lambda _: threading.Thread(target=asking).start())
    if failures:
        raise failures[0]
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
