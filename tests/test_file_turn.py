"""Turns at the write lock: a process that writes all the time lets the others in between."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lmdbq.clock import SystemClock
from lmdbq.model import Call, Done, Enqueue, Enqueued, Entry
from lmdbq.store import turn as turn_module
from lmdbq.store.lmdb import LmdbStore, open_store

ONE = Call((Enqueue([Entry()]),))

# Holds the write lock until a line comes, and begins anew at once when it has committed; each time it says its task.
GREEDY = """
import sys
from contextlib import contextmanager
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Enqueue, Entry
from lmdbq.store.lmdb import open_store
store = open_store(sys.argv[1])
call = Call((Enqueue([Entry()]),))
@contextmanager
def gate():
    print("held", flush=True)
    sys.stdin.readline()
    yield
first = store.apply([call], SystemClock(), gate())
second = store.apply([call], SystemClock())
print(first.outcomes[0].outcomes[0].ids[0], second.outcomes[0].outcomes[0].ids[0], flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    made = open_store(tmp_path / "q")
    made.info()
    yield made
    assert made.check() == []
    made.close()


def enqueue(store: LmdbStore) -> int:
    outcome = store.apply([ONE], SystemClock()).outcomes[0]
    assert isinstance(outcome, Done)
    told = outcome.outcomes[0]
    assert isinstance(told, Enqueued)
    return told.ids[0]


TRY = f"""
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, {turn_module._BYTE})
    print("free")
except BlockingIOError:
    print("taken")
"""


def turn_at(directory: Path) -> str:
    """Whether the turn is "free" or "taken", as another process sees it."""
    said = subprocess.run([sys.executable, "-c", TRY, str(directory / "data.mdb")], capture_output=True, check=True)
    return said.stdout.decode().strip()


@pytest.mark.parametrize("round_no", range(2))
def test_who_waits_is_next(store: LmdbStore, tmp_path: Path, round_no: int):
    command = [sys.executable, "-c", GREEDY, str(tmp_path / "q")]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as greedy,
        ThreadPoolExecutor(1) as threads,
    ):
        assert greedy.stdin is not None
        assert greedy.stdout is not None
        assert greedy.stdout.readline() == "held\n"
        ours = threads.submit(enqueue, store)
        while turn_at(tmp_path / "q") == "free":
            time.sleep(0.01)
        greedy.stdin.write("\n")
        greedy.stdin.flush()
        first, second = map(int, greedy.stdout.readline().split())
        assert first < ours.result(30) < second
    assert turn_at(tmp_path / "q") == "free"


def test_without_a_turn_one_goes_on(store: LmdbStore, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(turn_module.fcntl, "lockf", refused)
    assert enqueue(store) < enqueue(store)


def test_a_turn_ends_with_the_wait(store: LmdbStore, tmp_path: Path):
    environment = store.environment()
    with environment.begin(write=True):
        waiting = threading.Thread(target=enqueue, args=(store,))
        waiting.start()
        while turn_at(tmp_path / "q") == "free":
            time.sleep(0.01)
    waiting.join(30)
    assert turn_at(tmp_path / "q") == "free"
