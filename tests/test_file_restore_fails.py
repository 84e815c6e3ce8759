"""Each call by which a restore changes the disk fails once: it says so and the target is missing, or it is whole."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.store.copies import backup, restore
from lmdbq.store.lmdb import open_store
from lmdbq.storm.trace import strace
from tests.store_driver import Driver

CALLS = ("mkdir", "write", "fsync", "fdatasync", "pwrite64", "fallocate", "ftruncate", "link", "rename", "unlink")
RESTORE = "import sys, pathlib; from lmdbq.store import copies as c; c.restore(*map(pathlib.Path, sys.argv[1:]), id)"
TASKS = 30


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    q = Driver(open_store(tmp_path / "store"), ManualClock())
    for _ in range(TASKS):
        q.add()
    assert q.store.check() == []
    q.store.close()
    backup(tmp_path / "store", tmp_path / "copy", lambda _: None)
    return tmp_path / "copy"


def restored(copy: Path, target: Path, *options: str) -> int:
    command = [strace(), "-f", "--seccomp-bpf", *options, sys.executable, "-c", RESTORE, str(copy), str(target)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def calls_below(log: Path, place: Path) -> list[tuple[str, int]]:
    """Return the calls on what lies in ``place``: their names, and the how manieth of its name each was."""
    seen: Counter[str] = Counter()
    found = []
    for line in log.read_text().splitlines():
        name = line.split(maxsplit=1)[1].partition("(")[0]
        seen[name] += 1
        if str(place) in line:
            found.append((name, seen[name]))
    return found


def assert_whole(directory: Path) -> None:
    store = open_store(directory)
    assert store.check() == []
    assert sum(sum(view.counts["default"].values()) for view in store.queues()) == TASKS
    store.close()


def test_a_restore_in_which_a_call_fails_leaves_nothing_or_all(copy: Path, tmp_path: Path):
    place = tmp_path / "undisturbed"
    place.mkdir()
    log = tmp_path / "log"
    assert restored(copy, place / "target", "-y", "-s", "0", "-e", f"trace={','.join(CALLS)}", "-o", str(log)) == 0
    assert_whole(place / "target")
    calls = calls_below(log, place)
    assert {"mkdir", "write", "fsync", "rename", "unlink"} <= {name for name, _ in calls}
    refused = 0
    for number, (name, nth) in enumerate(calls):
        place = tmp_path / str(number)
        place.mkdir()
        error = ("EIO", "ENOSPC")[number % 2]
        injection = ("-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={nth}", "-o", "/dev/null")
        status = restored(copy, place / "target", *injection)
        is_there = (place / "target").exists()
        assert is_there == (not status), f"{name} {nth}: ended with {status}, and the target {is_there=}"
        if not is_there:
            restore(copy, place / "target", lambda _: None)
        assert_whole(place / "target")
        refused += not is_there
    assert refused > 4
