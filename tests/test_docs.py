"""The docs: generated pages are as the program says now, links resolve, nothing public is missing, and snippets run."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import lmdbq
from lmdbq.cli.main import COMMANDS, cli
from lmdbq.daemon.routes import ROUTES
from tests.real_daemon import RealDaemon

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "packaging/docs"
PAGES = DOCS / "pages"
COMING_FROM = sorted((PAGES / "coming-from").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WORKER = "lmdbq worker "


@pytest.fixture(scope="module")
def make() -> Any:
    """The program that writes the pages."""
    spec = importlib.util.spec_from_file_location("make_docs", DOCS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(make: Any):
    for name, text in make.generated().items():
        assert (PAGES / name).read_text(encoding="utf-8") == text, f"{name}: run python packaging/docs/make.py"


def test_the_site_builds_and_every_link_and_anchor_resolves(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(DOCS / "mkdocs.yml"), "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.relative_to(tmp_path).with_suffix(".md").as_posix() for path in tmp_path.rglob("*.html")}
    assert made >= {path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")}


def test_every_public_name_is_there():
    page = (PAGES / "reference/python.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (\w+)\n\n(.*?)(?=^##)", page + "\n## end", re.DOTALL | re.MULTILINE)
    said = {name: text.strip() for name, text in sections}
    assert set(lmdbq._HOME) <= said.keys()
    assert [name for name in lmdbq._HOME if len(said[name]) < 20] == []
    for name in ("Client.enqueue", "AsyncClient.wait", "Handle.result", "Tasks.task", "Worker.drain", "Context.check"):
        assert f"\n#### {name}\n" in page
    assert "### MemoryClient" in page


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield f"{path} {name}", found
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")


def test_every_command_and_option_is_there():
    page = (PAGES / "reference/command-line.md").read_text(encoding="utf-8")
    parts = {part.partition("\n")[0].strip("# "): part for part in re.split(r"^(?=##+ )", page, flags=re.MULTILINE)}
    found = dict(commands(cli, "lmdbq"))
    assert {f"lmdbq {name}" for name in COMMANDS} <= found.keys()
    for path, command in found.items():
        help_text = CliRunner().invoke(cli, [*path.split()[1:], "--help"]).output
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden and "--help" not in option.opts:
                assert f"`{option.opts[-1]}`" in parts[path], path
                assert option.opts[-1] in help_text


def test_every_route_is_there():
    page = (PAGES / "reference/http.md").read_text(encoding="utf-8")
    assert [route.path for route in ROUTES if f"\n## {route.method} {route.path}\n" not in page] == []


@pytest.mark.parametrize("page", COMING_FROM, ids=lambda path: path.stem)
def test_a_page_for_who_comes_is_honest_and_says_where_each_thing_is(page: Path):
    rows = re.findall(r"^\| (.+) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 20
    assert sum("no equivalent" in row[1] for row in rows) >= 4
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    assert f"(coming-from/{page.name})" in index


def test_there_is_a_page_for_each():
    assert [page.stem for page in COMING_FROM] == ["celery", "dramatiq", "huey", "rq", "sqs"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory in which ``lmdbq`` is a command, and a daemon that is what nobody names."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/lmdbq"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m lmdbq.cli "$@"\n')
    script.chmod(0o755)
    (tmp_path / "d").mkdir()
    with RealDaemon(tmp_path / "d") as daemon:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LMDBQ_URL": daemon.where}
        yield tmp_path, {**inherited, **path}


@pytest.mark.parametrize("page", COMING_FROM, ids=lambda path: path.stem)
def test_every_snippet_runs(page: Path, place: tuple[Path, dict[str, str]]):
    directory, environment = place
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"python", "sh"}
    workers = []
    try:
        for number, (language, block) in enumerate(blocks):
            if block.startswith("# app.py\n"):
                (directory / "app.py").write_text(block)
            elif block.startswith(WORKER):
                command = ["bash", "-c", f"exec {block}"]
                with (directory / f"worker{number}").open("w+") as said:
                    workers.append(subprocess.Popen(command, cwd=directory, env=environment, stderr=said))
                    while "working for" not in Path(said.name).read_text():  # before that a signal would just end it
                        assert workers[-1].poll() is None, Path(said.name).read_text()
                        time.sleep(0.05)
            else:
                file = directory / f"block{number}.{language}"
                file.write_text(block)
                shell = [sys.executable] if language == "python" else ["bash", "-euo", "pipefail"]
                done = subprocess.run(
                    [*shell, str(file)], cwd=directory, env=environment, capture_output=True, text=True, timeout=600
                )
                assert done.returncode == 0, block + done.stdout + done.stderr
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(60) for worker in workers] == [0] * len(workers)


def test_a_type_checker_accepts_their_python(tmp_path: Path):
    for page in COMING_FROM:
        for number, (language, block) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            if language == "python":
                (tmp_path / page.stem).mkdir(exist_ok=True)
                name = "app.py" if block.startswith("# app.py\n") else f"block{number}.py"
                (tmp_path / page.stem / name).write_text(block)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stdout


def test_what_the_pages_name_exists():
    """Commands and options in the prose and tables, and names of the package."""
    known = dict(commands(cli, "lmdbq"))
    for page in [*COMING_FROM, PAGES / "index.md"]:
        text = page.read_text(encoding="utf-8")
        for words in re.findall(r"(?:`|^)lmdbq ((?:[a-z]+ ?){1,2})", text, re.MULTILINE):
            first, _, second = words.strip().partition(" ")
            assert f"lmdbq {first}" in known, f"{page.name}: lmdbq {words}"
            assert not isinstance(known[f"lmdbq {first}"], click.Group) or f"lmdbq {first} {second}" in known
        for name in re.findall(r"`lmdbq\.([A-Z]\w+)", text):
            assert hasattr(lmdbq, name), f"{page.name}: lmdbq.{name}"
