"""The README and the guide are run: their blocks against a real daemon, their names against what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "packaging/docs/pages/guide").glob("*.md"))
TEXT = README.read_text(encoding="utf-8")
ALL = "\n".join([TEXT, *(page.read_text(encoding="utf-8") for page in GUIDE)])
WORDS_MAX = 1_300  # of prose: five minutes, with a look at the tables, the code and the figures
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall(ALL)
URL = re.compile(r"http://[\w.]+:\d+")
DEFAULT_PLACE = "localhost:7325"


FILE = re.compile(r"# (\w+\.py)\n")  # a block that begins so is that file
SERVE_WORDS, WORKER_WORDS = "lmdbq serve", "lmdbq worker app:tasks --reload"

FILES = {found[1]: block for language, block in BLOCKS if language == "python" and (found := FILE.match(block))}
PYTHON = [block for language, block in BLOCKS if language == "python" and not FILE.match(block)]
SH = [block for language, block in BLOCKS if language == "sh"]
(SERVE,) = [block for block in SH if block.startswith(SERVE_WORDS)]
(WORKER,) = [block for block in SH if block.startswith(WORKER_WORDS)]
SHELL = [block for block in SH if block not in (SERVE, WORKER)]


class Place:
    """Where the blocks run: a directory, an environment in which ``lmdbq`` and ``curl`` are commands, a daemon's URL.

    ``curl`` fails on an error status here, so that a block whose request is refused is red.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        commands = directory / "bin"
        commands.mkdir()
        curl = shutil.which("curl")
        assert curl, "curl is needed to run the README's blocks"
        for name, line in (
            ("lmdbq", f"'{sys.executable}' -m lmdbq.cli"),
            ("python", f"'{sys.executable}'"),
            ("curl", f"{curl} --silent --show-error --fail-with-body"),
        ):
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="ascii")
            script.chmod(0o755)
        for name, block in FILES.items():
            (directory / name).write_text(block, encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        state = {"HOME": str(directory), "XDG_STATE_HOME": str(directory / "state")}
        self.environment = {**inherited, **state, "PATH": f"{commands}:{os.environ['PATH']}"}

    def run(self, *command: str) -> str:
        """Run a command to its end and return what it printed; it must succeed."""
        command = tuple(word.replace(DEFAULT_PLACE, self.url.removeprefix("http://")) for word in command)
        finished = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert finished.returncode == 0, f"{command[-1]}\n{finished.stdout}\n{finished.stderr}"
        return finished.stdout

    def run_shell(self, block: str) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", block)

    @contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command, and end it as Ctrl-C would."""
        with subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
                process.send_signal(signal.SIGINT)
                assert process.wait(60) in (0, 130)
            finally:
                process.kill()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A daemon, started as the README says but for its port."""
    place = Place(tmp_path_factory.mktemp("readme"))
    place.environment["LMDBQ_LISTEN"] = "127.0.0.1:0"
    with place.started("sh", "-c", f"exec {SERVE}") as daemon:
        assert daemon.stdout is not None
        place.url = next(found.group() for line in daemon.stdout if (found := URL.search(line)))
        place.environment["LMDBQ_URL"] = place.url
        yield place


def test_the_two_commands_stand_first():
    first = TEXT.index("packaging/run demo")
    assert first < TEXT.index("packaging/run test") < TEXT.index("\n## ")
    assert os.access(ROOT / "packaging/run", os.X_OK)


def test_the_shell_blocks_run(place: Place):
    with place.started("sh", "-c", f"exec {WORKER}"):
        printed = "".join(place.run_shell(block) for block in SHELL)
    assert re.search(r"^tsk_[0-9A-Za-z]{11} Hello, Ada!!!$", printed, re.MULTILINE)
    assert "Hello, Grace." in printed
    assert "Hello, Mary." in printed
    assert '"outcome":"ok"' in printed.replace(" ", ""), "neither extend nor report was ok"
    assert printed.count("tsk_") >= 5


def test_the_python_block_runs(place: Place):
    (block,) = PYTHON
    states, results, rest = place.run(sys.executable, "-c", block).splitlines()
    assert states == str(["succeeded"] * 3)
    assert results == str([12.0] * 3)
    assert rest.startswith("0 {")


def test_its_test_passes(place: Place):
    assert "1 passed" in place.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py")


def test_both_type_checkers_accept_its_python(place: Place):
    (block,) = PYTHON
    (place.directory / "in_python.py").write_text(block, encoding="utf-8")
    names = ["app.py", "in_python.py"]
    place.run(sys.executable, "-m", "mypy", "--strict", *names)
    place.run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *names)


def test_it_is_read_in_five_minutes():
    assert len(re.sub(r"^\|.*\n", "", BLOCK.sub("", TEXT), flags=re.MULTILINE).split()) < WORDS_MAX


def test_the_routes_exist(place: Place):
    with urllib.request.urlopen(f"{place.url}/openapi.json", timeout=60) as answer:
        paths = json.load(answer)["paths"]
    known = {path.replace("{task_id}", "{id}") for path in paths}
    said = set(re.findall(r"(?<=[` ])/v1/[-\w/{}]+", ALL))
    assert len(said) >= 15
    assert said - known == set()


def test_the_files_it_names_exist():
    said = set(re.findall(r"`((?:lmdbq|tests|packaging)/[\w./]*)`", ALL))
    said |= set(re.findall(r"\]\((\w[\w./-]*)\)", TEXT))
    assert len(said) >= 12
    assert [name for name in said if not (ROOT / name).exists()] == []
