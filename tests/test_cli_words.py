"""What people type and read: payloads, durations, names, completion, and how little a command line imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bench import startup
from lmdbq.cli import render
from lmdbq.cli.common import DURATION
from lmdbq.cli.enqueue import parse_payload
from lmdbq.cli.exits import Exit
from lmdbq.cli.main import COMMANDS, cli
from lmdbq.daemon.settings import DEFAULTS, SETTINGS
from lmdbq.store.lmdb import open_store
from tests.fake_daemon import FakeDaemon, answer

HEAVY = (
    "aiohttp",
    "lmdb",
    "rich",
    "asyncio",
    "uvloop",
    "prometheus_client",
    "lmdbq.daemon",
    "lmdbq.store",
    "lmdbq.engine",
)
OUTCOME = {"id": "tsk_00000000010", "outcome": "enqueued", "deduped": False, "queue_name": "q", "state": "ready"}


def plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("words", "payload"),
    [
        (['{"a": 1}'], {"a": 1}),
        (["null"], None),
        (["3"], 3),
        (['"text"'], "text"),
        (["a=1"], {"a": 1}),
        (["a=1", "b=x", "c=true", 'd={"e": []}', "f="], {"a": 1, "b": "x", "c": True, "d": {"e": []}, "f": ""}),
        (["name=Grace Hopper", "x=1=2"], {"name": "Grace Hopper", "x": "1=2"}),
        (['{"a": "b=c"}'], {"a": "b=c"}),
    ],
)
def test_payloads(words: list[str], payload: object):
    assert plain(parse_payload(tuple(words))) == payload


@pytest.mark.parametrize("words", [["{a: 1}"], ["hello"], ["a=1", "b"], ['{"a": 1}', "b=2"], ["NaN"], ["[1,"]])
def test_what_is_neither_json_nor_pairs_is_refused(words: list[str]):
    with pytest.raises(click.UsageError, match="key=value"):
        parse_payload(tuple(words))


def test_a_payload_from_standard_input_is_sent_as_it_is():
    with FakeDaemon() as daemon:
        daemon.script = [answer(body={"outcomes": [{**OUTCOME, "priority": 0}]})]
        result = CliRunner().invoke(
            cli, ["enqueue", "x", "-", "--at", daemon.where], input='{"n": 12345678901234567890}\n'
        )
        assert result.exit_code == 0
        assert daemon.next().body["entries"] == [{"type": "x", "payload": {"n": 12345678901234567890}}]
    assert result.output == f"{OUTCOME['id']}\n"


def test_every_option_of_enqueue_is_a_field_of_the_entry():
    words = ["-q", "mail", "--in", "5m", "--key", "k", "--priority", "-3", "--lease", "30s", "--tag", "a", "--tag", "b"]
    more = ["--expires-in", "1d", "--retry", '{"max_attempts": 2}']
    with FakeDaemon() as daemon:
        daemon.script = [answer(body={"outcomes": [{**OUTCOME, "priority": 0}]})]
        assert CliRunner().invoke(cli, ["enqueue", "x", *words, *more, "--at", daemon.where]).exit_code == 0
        assert daemon.next().body["entries"] == [
            {
                "type": "x",
                "queue_name": "mail",
                "delay_in_seconds": 300,
                "expires_in_seconds": 86400,
                "dedupe_key": "k",
                "priority": -3,
                "keepalive_timeout_in_seconds": 30,
                "tags": ["a", "b"],
                "retry_strategy": {"max_attempts": 2},
            }
        ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("250ms", 0.25), ("1h30m", 5400), ("1.5s", 1.5), ("0", 0)],
)
def test_durations(text: str, seconds: float):
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "5x", "5m ", "1h-2m"])
def test_a_duration_says_its_unit(text: str):
    with pytest.raises(click.BadParameter, match="say the unit"):
        DURATION.convert(text, None, None)


@given(st.floats(0, 10**9))
def test_spans_are_short_and_end_in_a_unit(seconds: float):
    said = render.span(seconds)
    assert len(said) <= 9
    assert said[-1] in "smhd"


def test_tables_align_and_say_nothing_without_rows():
    assert render.table(("a", "b"), []) == ""
    assert render.table(("name", "n"), [("x", 5), ("long", 100)]) == "name    n\nx       5\nlong  100"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str):
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: lmdbq {name}" in result.output


@pytest.mark.parametrize(
    "name",
    sorted(
        set(COMMANDS)
        - {"serve", "demo", "dev", "bench", "storm", "completion", "queue", "dead", "set", "schedule", "group"}
    ),
)
def test_every_command_takes_at_and_json(name: str):
    said = CliRunner().invoke(cli, [name, "--help"]).output
    assert "--at WHERE" in said
    assert "--json" in said


@pytest.mark.parametrize("words", [["enqueue", "x"], ["--help"], ["queues"], ["dequeue"], ["worker", "--exec", "cat"]])
def test_a_command_line_imports_no_daemon_and_no_store(words: list[str]):
    program = "import sys; from lmdbq.cli.main import cli; cli(sys.argv[1:], standalone_mode=False)\n"
    watched = f"import atexit, sys; atexit.register(lambda: print('MODULES', *sys.modules)); {program}"
    command = [sys.executable, "-c", watched, *words]
    environment = {"LMDBQ_URL": "http://127.0.0.1:1", "PATH": ""}  # nobody listens on port 1
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    imported = set(ended.stdout.partition("MODULES ")[2].split())
    assert "lmdbq.cli.main" in imported
    assert imported.isdisjoint(HEAVY if words != ["--help"] else {"aiohttp", "lmdb", "rich"})
    assert words[0] != "enqueue" or imported.isdisjoint({"lmdbq.model", "logging", "pathlib", "lmdbq.client.places"})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str):
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"_LMDBQ_COMPLETE={shell}_complete" in result.output


def completed(*words: str, **environment: str) -> list[str]:
    """Return what bash is offered for the last of ``words``."""
    said = {
        "_LMDBQ_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["lmdbq", *words]),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-c", "from lmdbq.cli.main import main; main()"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**said, **environment}, timeout=60, check=False
    )
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


def queue_answer(name: str, *types: str) -> dict[str, Any]:
    numbers = {"counts": {}, "totals": {}, "oldest_ready_seconds": 0, "next_due_at": 0, "consumers": 0}
    kinds = {kind: {"ready": 1} for kind in types}
    return {"name": name, "settings": {}, "types": kinds, "blocked_by": "", "unconsumed_types": [], **numbers}


def test_commands_options_and_queues_are_completed():
    assert completed("que") == ["queues", "queue"]
    assert "--priority" in completed("enqueue", "--p")
    with FakeDaemon() as daemon:
        daemon.script = [answer(body={"queues": [queue_answer(name) for name in ("mail", "maps", "x")]})] * 4
        assert completed("tasks", "-q", "ma", LMDBQ_URL=daemon.where) == ["mail", "maps"]
        assert completed("tasks", "--at", daemon.where, "-q", "ma") == ["mail", "maps"]
        assert completed("--at", daemon.where, "tasks", "-q", "ma") == ["mail", "maps"]
        assert completed("queue", "pause", "x", LMDBQ_URL=daemon.where) == ["x"]
    assert completed("tasks", "-q", "ma", LMDBQ_URL="http://127.0.0.1:1") == []
    assert completed("tasks", "-q", "ma", LMDBQ_URL="/no/such/directory") == []


def test_types_and_ids_are_completed():
    with FakeDaemon() as daemon:
        daemon.script = [
            answer(body={"queues": [queue_answer("mail", "send", "sort"), queue_answer("x", "sum")]}),
            answer(body={"queues": [queue_answer("mail", "send", "sort"), queue_answer("x", "sum")]}),
            answer(body={"tasks": [task_answer("tsk_00000000010"), task_answer("tsk_10000000010")]}),
        ]
        assert completed("enqueue", "s", LMDBQ_URL=daemon.where) == ["send", "sort", "sum"]
        assert completed("tasks", "-q", "x", "--type", "s", LMDBQ_URL=daemon.where) == ["sum"]
        assert completed("retry", "tsk_1", LMDBQ_URL=daemon.where) == ["tsk_10000000010"]


def task_answer(task_id: str) -> dict[str, Any]:
    words = {"id": task_id, "queue_name": "q", "type": "t", "dedupe_key": "", "state": "ready"}
    numbers = ("priority", "created_at", "scheduled_at", "expires_at", "attempts", "deliveries")
    return {**words, **dict.fromkeys(numbers, 0)}


def test_at_and_json_may_stand_before_the_command():
    with FakeDaemon() as daemon:
        daemon.script = [answer(body={"count": 3})] * 3 + [answer(body={**queue_answer("q")})]
        before = CliRunner().invoke(cli, ["--at", daemon.where, "--json", "tasks", "--count"])
        behind = CliRunner().invoke(cli, ["tasks", "--count", "--at", daemon.where, "--json"])
        assert (before.exit_code, before.output) == (0, '{"count":3}\n')
        assert before.output == behind.output
        # what stands nearer to the command holds
        nearer = CliRunner().invoke(cli, ["--at", "http://127.0.0.1:1", "tasks", "--count", "--at", daemon.where])
        assert (nearer.exit_code, nearer.output) == (0, "3\n")
        nested = CliRunner().invoke(cli, ["--at", daemon.where, "--json", "queue", "show", "q"])
        assert json.loads(nested.output)["name"] == "q"


@pytest.mark.parametrize("words", [["--at", "http://127.0.0.1:1", "serve"], ["--at", "./q", "completion", "bash"]])
def test_what_a_command_does_not_take_is_refused_before_it_too(words: list[str]):
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == Exit.USAGE
    assert f"has no {words[0]}" in result.stderr


def test_an_error_is_json_if_that_stood_before_the_command():
    result = CliRunner().invoke(cli, ["--json", "--at", "http://127.0.0.1:1", "queues"])
    assert result.exit_code == Exit.UNREACHABLE
    assert json.loads(result.stderr)["code"] == "unreachable"


def test_commands_work_on_a_directory_without_a_daemon(tmp_path: Path):
    where = str(tmp_path / "queue")

    def said(*words: str) -> Any:
        result = CliRunner().invoke(cli, ["--at", where, "--json", *words])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    nothing = CliRunner().invoke(cli, ["tasks", "--at", where])
    assert nothing.exit_code == Exit.USAGE
    assert f"lmdbq enqueue TYPE --at {where}" in nothing.stderr
    assert not (tmp_path / "queue").exists()
    task_id = said("enqueue", "greet", "name=Ada")["id"]
    assert [task["id"] for task in said("tasks")["tasks"]] == [task_id]
    assert said("stats")["states"]["ready"] == 1
    assert said("version")["daemon"] == "none: a directory"
    lease = said("dequeue")["tasks"][0]["lease"]
    assert said("report", lease)["outcome"] == "ok"
    store = open_store(tmp_path / "queue")
    assert store.check() == []
    store.close()


@pytest.mark.parametrize(("where", "remedy"), [(":memory:", "a daemon or a directory"), ("localhost:7325", "http://")])
def test_a_place_that_is_none_for_a_command_line(where: str, remedy: str):
    result = CliRunner().invoke(cli, ["enqueue", "x", "--at", where])
    assert result.exit_code == Exit.USAGE
    assert remedy in result.stderr


def test_config_says_each_value_and_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for row in SETTINGS:
        monkeypatch.delenv(row.env, raising=False)
    monkeypatch.setenv("LMDBQ_LISTEN", "127.0.0.1:9999")
    monkeypatch.setenv("LMDBQ_TOKEN", "very-secret")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    result = CliRunner().invoke(cli, ["config", "--json"])
    said = json.loads(result.output)
    rows = {row["name"]: row for row in said["settings"]}
    assert list(rows) == [row.name for row in SETTINGS]
    assert (rows["listen"]["value"], rows["listen"]["source"]) == ("127.0.0.1:9999", "LMDBQ_LISTEN")
    assert rows["listen"]["default"] == "127.0.0.1:7325"
    assert (rows["data"]["value"], rows["data"]["source"]) == (str(tmp_path), "STATE_DIRECTORY")
    assert rows["durability"]["source"] == "default"
    assert [row["name"] for row in said["defaults"]] == [default.name for default in DEFAULTS]
    assert "very-secret" not in result.output
    plain_text = CliRunner().invoke(cli, ["config"]).output
    assert all(row.name in plain_text for row in SETTINGS)
    assert "very-secret" not in plain_text


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LMDBQ_DURABILITY", "sometimes")
    result = CliRunner().invoke(cli, ["config"])
    assert result.exit_code == Exit.USAGE
    assert "durability" in result.stderr


@pytest.mark.parametrize(("elsewhere", "here"), [("--port=80", "--listen"), ("--dir=q", "--data")])
def test_serve_knows_what_other_daemons_call_its_options(elsewhere: str, here: str):
    result = CliRunner().invoke(cli, ["serve", elsewhere])
    assert result.exit_code == Exit.USAGE
    assert f"Did you mean '{here}'?" in result.stderr


def test_serve_names_every_setting_and_takes_no_secret_on_the_command_line(monkeypatch: pytest.MonkeyPatch):
    said = CliRunner().invoke(cli, ["serve", "--help"]).output
    for row in SETTINGS:
        assert row.env in said
    assert "--token" not in said


def in_shell(*command: str, home: Path) -> str:
    """Run a shell that has ``lmdbq`` on its path and nobody's settings, and return what it prints."""
    (home / "lmdbq").write_text(f'#!/bin/sh\nexec {sys.executable} -m lmdbq.cli "$@"\n')
    (home / "lmdbq").chmod(0o755)
    variables = {"PATH": f"{home}:{os.environ['PATH']}", "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_fish_completes(tmp_path: Path):
    script = 'lmdbq completion fish | source; complete -C "lmdbq que"; complete -C "lmdbq tasks --st"'
    said = in_shell("fish", "--no-config", "-c", script, home=tmp_path)
    assert sorted(line.split("\t")[0] for line in said.splitlines()) == ["--state", "queue", "queues"]


def test_bash_completes(tmp_path: Path):
    script = """
        eval "$(lmdbq completion bash)"
        COMP_WORDS=(lmdbq que) COMP_CWORD=1
        $(complete -p lmdbq | sed 's/.*-F \\([^ ]*\\) .*/\\1/') lmdbq que lmdbq
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert in_shell("bash", "--norc", "-c", script, home=tmp_path).split() == ["queues", "queue"]


def test_zsh_completes(tmp_path: Path):
    """What the widget hands to zsh: ``compadd`` is replaced, for it works only while a key is handled."""
    script = """
        autoload -U compinit; compinit -u -D
        eval "$(lmdbq completion zsh)"
        function _describe() { printf '%s\\n' ${(P)3} }
        function compadd() { shift $(( ${@[(i)-a]} )); printf '%s\\n' ${(P)1} }
        words=(lmdbq que) CURRENT=2
        $_comps[lmdbq]
    """
    said = in_shell("zsh", "-f", "-c", script, home=tmp_path)
    assert [line.split(":")[0] for line in said.splitlines()] == ["queues", "queue"]


@pytest.mark.parametrize(
    ("words", "collects"), [(["version"], False), (["--help"], False), (["tasks"], True), (["dev", "-h"], True)]
)
def test_garbage_is_left_by_what_ends_at_once_and_collected_by_what_goes_on(words: list[str], collects: bool):
    program = "import atexit, gc; atexit.register(lambda: print('COLLECTS', gc.isenabled()))\n"
    start = "from lmdbq.cli.start import main; main()"
    command = [sys.executable, "-c", program + start, *words]
    environment = {"LMDBQ_URL": "http://127.0.0.1:1", "PATH": ""}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert ended.stdout.splitlines()[-1] == f"COLLECTS {collects}"


def test_the_recorded_start_is_under_what_is_asked_for():
    """Processor time, of the machine that is named beside the other figures; `python -m bench startup` measures."""
    lines = (Path(startup.__file__).parent / "results/startup.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["rounds"] >= 10
    assert last["enqueue_seconds"] < startup.SECONDS_MAX
    assert last["ratio"] == pytest.approx(last["enqueue_seconds"] / last["base_seconds"], abs=0.02)


def test_the_start_can_be_measured():
    found = startup.measure(1)
    assert 0 < found["base_seconds"] < found["enqueue_seconds"]
