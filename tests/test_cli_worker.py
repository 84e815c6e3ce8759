"""``lmdbq worker MODULE:TASKS``: finds the tasks, runs them, and says early what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmdbq
from lmdbq.cli.exits import Exit
from lmdbq.store.lmdb import open_store
from tests.real_daemon import LMDBQ

MODULE = """
import os
import lmdbq

tasks = lmdbq.Tasks()
more = lmdbq.Tasks()
nothing = 5

@tasks.task
def add(a: int, b: int = 1) -> int:
    return a + b

@more.task(run_in="process")
async def pid() -> int:
    return os.getpid()
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory with a module of tasks and one that is broken, and a queue."""
    (tmp_path / "app.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "bad.py").write_text(MODULE + "@tasks.task\ndef odd(x: 'Unknown') -> None: ...\n")
    yield tmp_path
    if (tmp_path / "q").exists():
        store = open_store(tmp_path / "q")
        assert store.check() == []
        store.close()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}


def worker(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*LMDBQ, "worker", *words]
    return subprocess.run(command, cwd=here, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def test_tasks_of_a_module_are_run_for_a_directory(here: Path):
    command = [*LMDBQ, "worker", "--at", "./q", "app", "app:more", "-q", "one", "-q", "two"]
    with (
        lmdbq.Client(here / "q") as client,
        subprocess.Popen(command, cwd=here, env=environment(), stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            jobs = client.enqueue_many(
                [
                    lmdbq.Entry("add", {"a": 1}, queue="one"),
                    lmdbq.Entry("add", {"a": 1, "b": 4}, queue="two"),
                    lmdbq.Entry("pid", queue="two"),
                ]
            )
            results = [job.result(timeout=60) for job in jobs]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == Exit.OK, errors
    assert results[:2] == [2, 5]
    assert results[2] != process.pid
    assert "working for ./q on one, two" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name either MODULE:TASKS"),
        (["app:tasks", "--exec", "cat"], "name either MODULE:TASKS"),
        (["nowhere:tasks"], "no module 'nowhere'"),
        (["app:nowhere"], "'nowhere' there is no Tasks object"),
        (["app:nothing"], "'nothing' there is no Tasks object"),
        (["app:tasks", "--type", "add"], "go with --exec"),
        (["app:tasks", "app:tasks", "bad:tasks"], "two tasks of the name 'add'"),
        (["bad:tasks"], "must name what its module has"),
        (["--exec", "'unclosed"], "--exec"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(here: Path, words: list[str], said: str):
    ended = worker(here, "--at", "./q", *words)
    assert ended.returncode == Exit.USAGE, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_a_module_misses_is_shown_as_python_shows_it(here: Path):
    ended = worker(here, "broken:tasks")
    assert ended.returncode == Exit.FAILED
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in ended.stderr


def test_a_file_that_is_not_ours_is_said_at_once(here: Path):
    (here / "other").mkdir()
    (here / "other/data.mdb").write_bytes(b"something else" * 1000)
    ended = worker(here, "--at", "./other", "app:tasks")
    assert ended.returncode == Exit.FAILED
    assert "lmdbq: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_daemon_is_said_at_once(here: Path):
    ended = worker(here, "--at", f"unix://{here}/none", "app:tasks")
    assert ended.returncode == Exit.UNREACHABLE
    assert "lmdbq serve" in ended.stderr


def test_a_command_that_enqueues_loads_little():
    code = "import sys, lmdbq.cli.main, lmdbq.cli.enqueue, lmdbq.client.http; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "lmdbq.client.http" in loaded
    assert loaded.isdisjoint({"aiohttp", "lmdb", "asyncio", "rich", "lmdbq.client.sync", "lmdbq.client.worker"})
