"""The examples are run as their first lines say: against a daemon or on a directory, and what they print is checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lmdbq
from lmdbq.store.lmdb import open_store
from tests.real_daemon import LMDBQ

EXAMPLES = Path(__file__).resolve().parent.parent / "packaging/examples"
URL = re.compile(r"http://[\w.]+:\d+")


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon on a port, for programs that know no sockets in the file system."""
    directory = tmp_path_factory.mktemp("examples")
    command = [*LMDBQ, "serve", "--listen", "127.0.0.1:0", "--data", str(directory / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            yield next(found.group() for line in daemon.stdout if (found := URL.search(line)))
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()
    verified(directory / "data")


def verified(directory: Path) -> None:
    store = open_store(directory)
    assert store.check() == []
    store.close()


def environment(where: str = "") -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
    return {**inherited, **({"LMDBQ_URL": where} if where else {})}


def run(*command: str | Path, where: str = "") -> str:
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=EXAMPLES,
        env=environment(where),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@contextmanager
def started(*command: str, where: str, ready: str) -> Iterator[str]:
    """Run a command until the block ends, and yield the line with ``ready``; it must end well at SIGTERM."""
    with subprocess.Popen(command, cwd=EXAMPLES, env=environment(where), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield next(line for line in process.stderr if ready in line)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (0, -signal.SIGTERM)  # uvicorn ends itself by the signal, once it has cleaned up
        finally:
            process.kill()


def node() -> str:
    """Return the program; its absence is a failure, not a reason to skip."""
    found = shutil.which("node")
    assert found, "node is needed to run the examples: apt-get install nodejs"
    return found


def test_the_plain_script(tmp_path: Path):
    assert run(sys.executable, "plain_script.py", tmp_path / "q") == "9 billed, 108.00 in all, 3 tried again\n"
    verified(tmp_path / "q")


def test_plain_asyncio(tmp_path: Path):
    assert run(sys.executable, "plain_asyncio.py", tmp_path / "q") == "190\ncancelled\n"
    verified(tmp_path / "q")


def test_fastapi(tmp_path: Path):
    command = [sys.executable, "-m", "uvicorn", "--port", "0", "fastapi_app:app"]
    with started(*command, where=str(tmp_path / "q"), ready="Uvicorn running") as line:
        url = URL.findall(line)[0]
        accepted = asked(f"{url}/welcome/Ada", "POST")
        with lmdbq.Client(tmp_path / "q") as client:
            assert client.task(accepted["id"]).result(timeout=60) == "Welcome, Ada."
        assert asked(f"{url}/jobs/{accepted['id']}") == {"state": "succeeded", "result": "Welcome, Ada."}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(f"{url}/jobs/tsk_zzzzzzzzzzz")
    verified(tmp_path / "q")


def asked(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        return json.load(answer)


def test_flask(where: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("LMDBQ_URL", where)
    import flask_app

    browser = flask_app.app.test_client()
    with started(*LMDBQ, "worker", "flask_app:tasks", where=where, ready="working for"):
        accepted = browser.post("/resize", data={"width": "640"})
        assert accepted.status_code == 202
        job_id = accepted.get_json()["id"]
        assert lmdbq.Client(where).task(job_id).result(timeout=60) == "640x480"
        assert browser.get(f"/jobs/{job_id}").get_json() == {"state": "succeeded", "result": "640x480"}
    missing = browser.get("/jobs/tsk_zzzzzzzzzzz")
    assert (missing.status_code, missing.get_json()["error"]) == (404, "not_found")


def test_a_shell_script_as_a_worker(where: str):
    words = ["word-count", "text=one two three", "-q", "shell", "--wait"]
    with started(*LMDBQ, "worker", "-q", "shell", "--exec", "./worker.sh", where=where, ready="working for"):
        assert run(*LMDBQ, "enqueue", *words, where=where) == "3\n"
        with lmdbq.Client(where) as client:
            job = client.enqueue(lmdbq.Entry("word-count", queue="shell", retry=1))
            info = job.wait(timeout=60)
    assert info is not None
    assert info.errors[0].message == f"task {job.id}, attempt 1: there is no text"


def test_a_producer_that_is_curl(where: str):
    printed = [json.loads(line) for line in run("./producer.sh", where=where).splitlines() if line]
    one, batch, imported, count = printed
    assert one["outcome"]["outcome"] == "enqueued"
    assert [outcome["state"] for outcome in batch["outcomes"]] == ["scheduled", "ready"]
    assert (imported["enqueued"], imported["failed"], count["count"]) == (3, 0, 6)


def test_producer_and_worker_in_node(where: str):
    with started(node(), "worker.mjs", where=where, ready="working on node"):
        assert run(node(), "producer.mjs", "Ada", where=where) == 'succeeded "Hello, Ada."\n'
        with lmdbq.Client(where) as client:
            job = client.enqueue(lmdbq.Entry("greet", {"name": "nobody"}, queue="node", retry=1))
            info = job.wait(timeout=60)
    assert info is not None
    assert (info.state, info.errors[0].type, info.errors[0].message) == (
        "dead",
        "RangeError",
        "there is nobody to greet",
    )
    assert "worker.mjs" in info.errors[0].backtrace


def test_a_javascript_round_trip_leaves_every_field_equal(where: str):
    assert run(node(), "round_trip.mjs", where=where) == "550 fields are equal\n"


def test_both_type_checkers_accept_the_examples():
    files: list[Any] = sorted(EXAMPLES.glob("*.py"))
    run(sys.executable, "-m", "mypy", "--strict", *files)
    run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *files)


def test_every_example_is_listed_and_run():
    listed = set(re.findall(r"\]\((\w+\.\w+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    there = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert listed == there
    here = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in there if name not in here and name.removesuffix(".py") not in here] == []
