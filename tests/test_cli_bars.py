"""The bar of an action on all that match, as a person sees it: on a terminal, and only where there is much to do."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from lmdbq.clock import SystemClock
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.model import Call, Claim, Completion, Enqueue, Entry, Op, Report, Status
from lmdbq.store.lmdb import open_store

READY = 2 * PAGE_TASKS_MAX + 100
DEAD = PAGE_TASKS_MAX + 200


class Seen(NamedTuple):
    """What a command has printed: its answer, and what stood on the terminal that its errors go to."""

    status: int
    answer: str
    terminal: str


@pytest.fixture
def where(tmp_path: Path) -> str:
    """A directory with queues ``mail``, of many ready and many dead tasks, and ``few``."""
    store, clock = open_store(tmp_path / "queue"), SystemClock()

    def do(op: Op) -> object:
        (done,) = store.apply([Call((op,))], clock).outcomes
        return done.outcomes[0]

    do(Enqueue([Entry(queue="mail", type="send")] * DEAD))
    claimed = do(Claim(("mail",), limit=DEAD))
    do(Report([Completion(task.id, task.deliveries, Status.FAILED, retry=False) for task in claimed.tasks]))
    do(Enqueue([Entry(queue="mail", type="send")] * READY))
    do(Enqueue([Entry(queue="few", type="send")] * 3))
    assert store.check() == []
    store.close()
    return str(tmp_path / "queue")


def at_a_terminal(*arguments: str) -> Seen:
    """Run lmdbq with a terminal for its standard error."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        try:
            while data := os.read(ours, 65_536):
                shown.append(data)
        except OSError:  # how a terminal of which the other side was closed ends on Linux
            return

    watcher = threading.Thread(target=watch)
    process = subprocess.Popen([sys.executable, "-m", "lmdbq", *arguments], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    watcher.start()
    answer, _ = process.communicate(timeout=600)
    watcher.join()
    os.close(ours)
    return Seen(process.returncode, answer.decode(), b"".join(shown).decode())


@pytest.mark.parametrize(
    ("action", "arguments", "number"),
    [
        ("delete", ("delete", "-q", "mail"), READY + DEAD),
        ("retry", ("retry", "-q", "mail"), DEAD),
        ("cancel", ("cancel", "-q", "mail"), READY),
        ("edit", ("edit", "--where", '{"queue_name": "mail"}', "--priority", "5"), READY),
    ],
)
def test_an_action_on_many_shows_how_far_it_is_up_to_its_end(
    where: str, action: str, arguments: tuple[str, ...], number: int
):
    seen = at_a_terminal("--at", where, *arguments)

    assert seen.status == 0
    assert seen.answer.split() == ["matched", str(number), "changed", str(number)]
    steps = [line for line in seen.terminal.split("\r") if "%" in line]
    assert all(line.strip().startswith(action) or action in line for line in steps)
    assert "0%" in steps[0]
    assert "100%" in steps[-1], "what cannot be changed is not counted"
    assert len(steps) > 2


@pytest.mark.parametrize(
    "arguments", [("delete", "-q", "few"), ("--json", "delete", "-q", "mail")], ids=["few tasks", "JSON"]
)
def test_nobody_who_cannot_use_a_bar_gets_one(where: str, arguments: tuple[str, ...]):
    seen = at_a_terminal("--at", where, *arguments)

    assert (seen.status, seen.terminal) == (0, "")
    assert seen.answer
