"""A fork while other threads of the parent are inside the store: the child opens the file for itself all the same."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.store import forks
from lmdbq.store.environment import Environment
from lmdbq.store.forks import Pause
from lmdbq.store.lmdb import LmdbStore, open_store
from tests.store_driver import Driver
from tests.test_file_creation import in_child

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Inside:
    """A thread that stays inside the store until a fork begins to wait for it."""

    def __init__(self) -> None:
        self.is_inside = threading.Event()
        self.is_waited_for = threading.Event()

    def reads(self, store: LmdbStore) -> None:
        with store._environment().reading() as txn:
            self.is_inside.set()
            assert self.is_waited_for.wait(60)
            assert txn.stat()["entries"]


def test_a_child_opens_what_a_thread_of_its_parent_was_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = open_store(tmp_path)
    Driver(store, ManualClock()).add()
    inside, rest = Inside(), Environment.rest

    def waited_for(shared: Environment, pause: Pause) -> None:
        inside.is_waited_for.set()
        rest(shared, pause)

    def opens() -> object:
        mine = open_store(tmp_path)
        number = Driver(mine, ManualClock()).add()
        mine.close()
        return number

    monkeypatch.setattr(Environment, "rest", waited_for)
    monkeypatch.setattr(forks, "FORK_SECONDS", 60.0)
    thread = threading.Thread(target=inside.reads, args=(store,))
    thread.start()
    assert inside.is_inside.wait(60)
    said = in_child(opens)
    thread.join()
    assert said.isdigit(), said
    assert int(said) in Driver(store, ManualClock()).claim_ids()
    assert store.check() == []
    store.close()


def test_a_fork_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Here for a thread that waits for a transaction of the thread that forks."""
    store = open_store(tmp_path)
    q = Driver(store, ManualClock())
    monkeypatch.setattr(forks, "FORK_SECONDS", 0.01)
    thread = threading.Thread(target=q.add)
    with store.environment().begin(write=True):
        thread.start()
        lock = store._environment().write_lock
        while lock.acquire(blocking=False):
            lock.release()
            os.sched_yield()
        assert in_child(lambda: "forked") == "forked"
    thread.join()
    q.add()
    assert len(q.claim_ids()) == 2
    assert in_child(open_store(tmp_path / "other").check) == "[]"
    assert store.check() == []
    store.close()
