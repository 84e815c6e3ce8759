"""``lmdbq dev`` and ``worker --reload``: changes are taken up, broken files waited out, nobody is left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import click
import pytest

import lmdbq
from lmdbq.cli.exits import Exit
from lmdbq.cli.supervise import watching
from lmdbq.store.lmdb import open_store
from tests.real_daemon import LMDBQ

MODULE = """
import os
import lmdbq

tasks = lmdbq.Tasks()

@tasks.task
def greet(name: str) -> str:
    print("greeting", name)
    return f"{GREETING}, {name}."

@tasks.task
def hang(fifo: str) -> None:
    open(fifo, "w").write(str(os.getpid()))
    open(fifo).read()

GREETING = "Hello"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(MODULE)
    return tmp_path


class Started:
    """A command with its lines, both outputs together; ``with`` sees to it that it ends."""

    def __init__(self, here: Path, *words: str, **environment: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        self.process = subprocess.Popen(
            [*LMDBQ, *words],
            cwd=here,
            env={**inherited, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its children end with it
        self.process.communicate()

    def until(self, text: str) -> str:
        """Return the next line that has ``text``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in {self.said}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the status."""
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=60)[0].splitlines()
        return self.process.returncode

    def tree(self) -> list[int]:
        """Return the ids of all its descendants."""
        return list(descendants(self.process.pid))


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_over(*pids: int) -> None:
    """Return when none of these processes runs any more."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert is_over(pid) or select.select([descriptor], [], [], 60)[0], f"{pid} goes on"
        finally:
            os.close(descriptor)


def test_a_change_is_taken_up_a_broken_file_waited_out_and_ctrl_c_ends_all(here: Path):
    (here / "temporary").mkdir()
    words = ["dev", "app:tasks", "--temporary", "--listen", "127.0.0.1:0", "-q", "default", "-q", "other"]
    with Started(here, *words, TMPDIR=str(here / "temporary")) as dev:
        where = dev.until("lmdbq serves").split("serves ")[1].split()[0]
        assert f"--at {where}" in dev.until("lmdbq enqueue TYPE")
        dev.until("working for")
        with lmdbq.Client(where) as client:
            entry = lmdbq.Entry("greet", {"name": "Ada"}, queue="other")
            assert client.enqueue(entry).result(timeout=60) == "Hello, Ada."
            assert dev.until("greeting").startswith("worker │ ")
            (here / "app.py").write_text(MODULE.replace("Hello", "Good evening"))
            dev.until("app.py changed: starting again")
            dev.until("working for")
            assert client.enqueue(entry).result(timeout=60) == "Good evening, Ada."
            (here / "app.py").write_text("x = (")
            dev.until("SyntaxError")
            dev.until("waiting for a change")
            (here / "app.py").write_text(MODULE)
            dev.until("working for")
            assert client.enqueue(entry).result(timeout=60) == "Hello, Ada."
        assert len(list((here / "temporary").iterdir())) == 1
        family = dev.tree()
        assert len(family) == 2
        assert dev.end() == Exit.OK, dev.said
        assert all(map(is_over, family))
    assert list((here / "temporary").iterdir()) == []


def test_its_queue_is_the_projects_own_and_stays(here: Path):
    for round_no in (1, 2):
        with Started(here, "dev", "app:tasks", "--listen", f"unix:{here}/s") as dev:
            dev.until("working for")
            with lmdbq.Client(f"unix://{here}/s") as client:
                client.enqueue(lmdbq.Entry("later", delay=3600))
                assert client.tasks().count() == round_no
            assert dev.end(signal.SIGTERM) == Exit.OK, dev.said
    assert (here / ".lmdbq/.gitignore").read_text() == "*\n"
    store = open_store(here / ".lmdbq")
    assert store.check() == []
    store.close()


def test_even_kill_9_takes_its_children_along(here: Path):
    with Started(here, "dev", "app:tasks", "--listen", "127.0.0.1:0") as dev:
        dev.until("working for")
        family = dev.tree()
        dev.process.kill()
        wait_until_over(*family)
    assert len(family) == 2


def test_a_daemon_that_cannot_start_ends_it(here: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with Started(here, "dev", "app:tasks", "--listen", f"127.0.0.1:{taken.getsockname()[1]}") as dev:
            dev.until("cannot listen")
            assert dev.process.wait(60) == 75
    with Started(here, "dev", "app:tasks", "--data", "x", "--temporary") as dev:
        dev.until("name one")
        assert dev.process.wait(60) == Exit.USAGE


def test_a_daemon_that_ends_takes_the_worker_along(here: Path):
    with Started(here, "dev", "app:tasks", "--listen", "127.0.0.1:0") as dev:
        dev.until("working for")
        serve, worker = sorted(dev.tree())
        os.kill(serve, signal.SIGKILL)
        assert dev.process.wait(60) == Exit.FAILED
        assert is_over(worker)


def test_a_worker_reloads_and_its_second_signal_ends_it_now(here: Path):
    os.mkfifo(here / "pipe")
    with Started(here, "worker", "app:tasks", "--at", "./q", "--reload") as worker, lmdbq.Client(here / "q") as client:
        worker.until("working for ./q")
        (here / "app.py").write_text(MODULE.replace("Hello", "Bye"))
        worker.until("app.py changed")
        worker.until("working for")
        assert client.enqueue(lmdbq.Entry("greet", {"name": "Bob"})).result(timeout=60) == "Bye, Bob."
        job = client.enqueue(lmdbq.Entry("hang", {"fifo": str(here / "pipe")}))
        pid = int((here / "pipe").read_text())
        assert pid in worker.tree()
        worker.process.send_signal(signal.SIGUSR2)
        assert "hang attempt 1, claimed" in worker.until("tsk_")
        worker.until("leases held")
        worker.process.send_signal(signal.SIGINT)
        worker.until("stopping")
        assert worker.end() == Exit.INTERRUPTED, worker.said
        assert is_over(pid)
        assert job.info().state == "ready"
    store = open_store(here / "q")
    assert store.check() == []
    store.close()


def test_what_cannot_be_watched_is_said(here: Path):
    with pytest.raises(click.ClickException, match="cannot be watched"), watching([here / "nowhere"], SimpleQueue()):
        raise AssertionError("it is watched")


def test_a_worker_that_no_change_would_help_ends(here: Path):
    with Started(here, "worker", "app:tasks", "--at", f"unix://{here}/none", "--reload") as worker:
        worker.until("no answer")
        assert worker.process.wait(60) == Exit.UNREACHABLE
    with Started(here, "worker", "--exec", "cat", "--reload") as worker:
        worker.until("--reload goes with MODULE:TASKS")
        assert worker.process.wait(60) == Exit.USAGE
