"""What a script relies on: every command answers in JSON, those that go on say in one line that they are ready, and no
default is written nowhere."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import lmdbq
from lmdbq.cli.exits import Exit
from lmdbq.cli.main import COMMANDS, cli
from lmdbq.store.lmdb import open_store
from tests.real_daemon import LMDBQ

MODULE = "import lmdbq\ntasks = lmdbq.Tasks()\n@tasks.task\ndef add(a: int, b: int) -> int:\n    return a + b\n"


def leaves(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, *path, name)
        else:
            yield " ".join((*path, name)), found


ALL = dict(leaves(cli))


def test_all_commands_are_walked():
    assert {path.split()[0] for path in ALL} == set(COMMANDS)
    assert len(ALL) > 50


@pytest.mark.parametrize("path", ALL)
def test_every_command_takes_json(path: str):
    (option,) = [param for param in ALL[path].params if "--json" in param.opts]
    assert isinstance(option, click.Option)
    assert option.is_flag
    assert option.help


@pytest.mark.parametrize("path", ALL)
def test_every_option_says_its_default(path: str):
    for param in ALL[path].params:
        if isinstance(param, click.Option) and not (param.is_flag or param.required or param.hidden or param.multiple):
            is_known = isinstance(param.to_info_dict()["default"], (int, float, str))
            assert not is_known or param.show_default or "default" in (param.help or ""), param.opts


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str):
    said = json.loads(CliRunner().invoke(cli, ["completion", shell, "--json"]).output)
    assert said["shell"] == shell
    assert said["script"].strip() == CliRunner().invoke(cli, ["completion", shell]).output.strip()


@contextmanager
def started(here: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """Start a command and yield it with its first line; its end is asked for as by Ctrl-C, and must be a good one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
    command = [*LMDBQ, *words, "--json"]
    with (
        (here / "errors").open("w+") as errors,
        subprocess.Popen(
            command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 60)[0], (here / "errors").read_text()
            yield process, json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "", "there is more than the one line"
            assert process.wait(60) == Exit.OK
        finally:
            process.kill()


def test_serve_and_dev_say_in_one_line_where_and_who(tmp_path: Path):
    (tmp_path / "app.py").write_text(MODULE)
    place = ["--listen", "127.0.0.1:0", "--data", str(tmp_path / "q")]
    for words in (["serve", *place], ["dev", "app:tasks", *place]):
        with started(tmp_path, *words) as (process, said):
            assert said.keys() == {"url", "data", "durability", "pid"}
            assert (said["data"], said["durability"]) == (str(tmp_path / "q"), "full")
            assert said["pid"] == process.pid
            with lmdbq.Client(str(said["url"])) as client:
                job = client.enqueue(lmdbq.Entry("add", {"a": 1, "b": 2}))
                assert words[0] == "serve" or job.result(timeout=60) == 3
    store = open_store(tmp_path / "q")
    assert store.check() == []
    store.close()


def test_a_worker_says_in_one_line_what_it_works_on(tmp_path: Path):
    (tmp_path / "app.py").write_text(MODULE)
    with started(tmp_path, "worker", "app:tasks", "--at", "./q", "-q", "one", "-q", "two") as (process, said):
        assert said == {"where": "./q", "queues": ["one", "two"], "types": ["add"], "pid": process.pid}
    store = open_store(tmp_path / "q")
    assert store.check() == []
    store.close()


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["--max-size", "much"], 78, "invalid"),
        (["--listen", "nowhere"], 78, "bad_setting"),
        (["--listen", "127.0.0.1:0", "--data", "/dev/null"], 78, "bad_setting"),
    ],
)
def test_a_daemon_that_cannot_start_says_why_in_json(words: list[str], status: int, code: str):
    ended = subprocess.run([*LMDBQ, "serve", *words, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status
    assert ended.stdout == ""
    assert json.loads(ended.stderr)["code"] == code
