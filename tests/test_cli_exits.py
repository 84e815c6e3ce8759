"""How commands end: one table of exit statuses, walked here, and what is said beside them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from lmdbq import errors
from lmdbq.cli.exits import HINTS, MEANINGS, OUTCOMES, SERVE_MEANINGS, STATUSES, Exit, exit_of, hint_of
from lmdbq.cli.main import COMMANDS, cli
from lmdbq.daemon import serve
from lmdbq.daemon.ownership import AlreadyServed
from lmdbq.model import Outcome, Problem
from lmdbq.wire.shapes import StatusWord
from tests.fake_daemon import FakeDaemon, answer, hold

LMDBQ = [sys.executable, "-m", "lmdbq.cli"]
ID = "tsk_00000000010"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as fake:
        yield fake


def refusal(status: int, code: str) -> dict[str, object]:
    return {"type": "x", "title": "t", "status": status, "code": code, "detail": "so it is", "request_id": "r"}


def test_the_statuses_are_the_promised_numbers():
    assert {status.name: status.value for status in Exit if status < 128} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "NOT_FOUND": 4,
        "CONFLICT": 5,
    }


def test_every_status_is_explained_in_the_help():
    said = CliRunner().invoke(cli, ["--help"]).output
    for status in Exit:
        assert re.search(rf"^ +{status.value} +{re.escape(MEANINGS[status])}$", said, re.MULTILINE)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_refusals_end_as_the_table_says(status: int, daemon: FakeDaemon):
    daemon.script = [answer(status, refusal(status, "some_code"))]
    result = CliRunner().invoke(cli, ["cancel", ID, "--at", daemon.where])
    assert result.exit_code == STATUSES[status]
    assert "so it is" in result.stderr


@pytest.mark.parametrize("status", [401, 403, 500, 503, 507])
def test_other_refusals_are_failures(status: int, daemon: FakeDaemon):
    daemon.script = [answer(status, refusal(status, "some_code"))]
    assert CliRunner().invoke(cli, ["purge", "--at", daemon.where]).exit_code == Exit.USAGE  # no such command
    assert CliRunner().invoke(cli, ["queue", "purge", "q", "--at", daemon.where]).exit_code == Exit.FAILED


@pytest.mark.parametrize(("status", "code"), [(401, "token_required"), (403, "role_required")])
def test_who_is_refused_for_a_token_is_told_where_to_put_it(status: int, code: str, daemon: FakeDaemon):
    daemon.script = [answer(status, refusal(status, code))]
    result = CliRunner().invoke(cli, ["queues", "--at", daemon.where])
    assert result.exit_code == Exit.FAILED
    assert "set LMDBQ_TOKEN" in result.stderr


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_outcomes_end_as_the_table_says(outcome: str, daemon: FakeDaemon):
    daemon.script = [answer(body={"id": ID, "outcome": outcome, "state": None})]
    result = CliRunner().invoke(cli, ["retry", ID, "--at", daemon.where])
    assert result.exit_code == OUTCOMES[outcome]
    assert outcome in result.output


def test_the_table_knows_every_outcome_a_change_or_a_report_can_have():
    of_enqueue = {Outcome.ENQUEUED, Outcome.SKIPPED, Outcome.OVERWRITTEN}
    assert set(OUTCOMES) == {str(outcome) for outcome in set(Outcome) - of_enqueue}


def test_the_daemon_has_the_numbers_of_its_table_and_no_other():
    numbers = {value for name, value in vars(serve).items() if name.startswith("EXIT_")}
    assert numbers == set(SERVE_MEANINGS)
    said = CliRunner().invoke(cli, ["serve", "--help"]).output
    for status in SERVE_MEANINGS:
        assert re.search(rf"^ +{status} +\w", said, re.MULTILINE)


WITHOUT_A_HINT = {
    "error": "every error",
    "client_error": "every error of a call",
    "store_error": "every error of a file",
    "task_error": "every end without a result",
    "refused": "every refusal",
    **dict.fromkeys(("dead", "cancelled", "timeout"), "of a result; `enqueue --wait` has words of its own"),
    **dict.fromkeys(
        ("transaction_unusable", "store_closed", "not_parseable"), "a program's mistake, not one of typing"
    ),
    **dict.fromkeys(("stale_lease", "not_now", "bad_setting", "address_taken"), "its detail has the remedy"),
}


def all_errors(root: type[errors.LmdbqError] = errors.LmdbqError) -> Iterator[type[errors.LmdbqError]]:
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=lambda kind: kind.__name__))
def test_every_error_that_can_be_typed_says_the_next_command(kind: type[errors.LmdbqError]):
    assert (kind.code in HINTS) != (kind.code in WITHOUT_A_HINT), kind


def made(kind: type[errors.LmdbqError]) -> errors.LmdbqError:
    """Return an error of a class, whatever it wants to know."""
    if issubclass(kind, errors.InvalidInput):
        return kind([Problem("a", "/b", "c")])
    if issubclass(kind, errors.Refusal):
        statuses = [status for status, refused in errors._REFUSALS.items() if issubclass(kind, refused)]
        return kind((statuses or [418])[0], kind.code, "no")
    if issubclass(kind, errors.LeaseLost):
        return kind("x", "stale_lease")
    return kind("x", None) if issubclass(kind, errors.TaskError) else kind("x")


EXITS = {
    errors.Unreachable: Exit.UNREACHABLE,
    errors.InvalidInput: Exit.USAGE,
    errors.NotFound: Exit.NOT_FOUND,
    errors.TaskGone: Exit.NOT_FOUND,
    errors.Conflict: Exit.CONFLICT,
    errors.Duplicate: Exit.CONFLICT,
    errors.InUse: Exit.CONFLICT,
    errors.NotEmpty: Exit.CONFLICT,
    AlreadyServed: Exit.CONFLICT,
}


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=lambda kind: kind.__name__))
def test_every_error_has_an_exit_status(kind: type[errors.LmdbqError]):
    assert exit_of(made(kind)) == EXITS.get(kind, Exit.FAILED)
    assert made(kind).code == kind.code


def test_an_error_says_what_to_do():
    assert "lmdbq tasks" in hint_of(errors.NotFound(404, "not_found", "no"))


@pytest.mark.parametrize("status", sorted(errors._REFUSALS))
def test_a_refusal_has_the_class_of_its_status(status: int):
    assert type(errors.refusal(status, "x", "no")) is errors._REFUSALS[status]
    assert type(errors.refusal(418, "x", "no")) is errors.Refusal
    assert type(errors.refusal(409, "duplicate", "no")) is errors.Duplicate


def test_commands_named_in_hints_exist():
    for hint in HINTS.values():
        for name in re.findall(r"`lmdbq (\w+)", hint):
            assert name in COMMANDS


def test_unreachable_says_how_to_start_a_daemon():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        result = CliRunner().invoke(cli, ["tasks", "--at", f"http://127.0.0.1:{sock.getsockname()[1]}"])
    assert result.exit_code == Exit.UNREACHABLE
    assert "`lmdbq serve`" in result.stderr
    assert "Traceback" not in result.output


def test_every_problem_of_a_request_is_said(daemon: FakeDaemon):
    problems = [{"code": "c", "pointer": f"/entries/{n}", "detail": f"wrong {n}"} for n in range(2)]
    daemon.script = [answer(422, {**refusal(422, "c"), "problems": problems})] * 2
    result = CliRunner().invoke(cli, ["enqueue", "x", "--at", daemon.where])
    assert result.exit_code == Exit.USAGE
    assert "wrong 0" in result.stderr
    assert "/entries/1: wrong 1" in result.stderr
    result = CliRunner().invoke(cli, ["enqueue", "x", "--at", daemon.where, "--json"])
    assert [each["detail"] for each in json.loads(result.stderr)["problems"]] == ["wrong 0", "wrong 1"]


@pytest.mark.parametrize(
    "words", [["enqueue"], ["frobnicate"], ["tasks", "--limit", "0"], ["report", "x", "lost"], ["cancel"]]
)
def test_wrong_usage_is_2(words: list[str]):
    assert CliRunner().invoke(cli, words).exit_code == Exit.USAGE


def test_a_command_that_does_not_exist_names_those_that_are_like_it():
    result = CliRunner().invoke(cli, ["enque", "x"])
    assert result.exit_code == Exit.USAGE
    assert "did you mean `lmdbq enqueue`" in result.output


def test_what_the_system_refuses_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch):
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refused)
    result = CliRunner().invoke(cli, ["queues", "--at", "./q"])
    assert result.exit_code == Exit.FAILED
    assert result.stderr == "lmdbq: q/data.mdb: Permission denied\n"


def test_a_report_is_for_its_status_only():
    assert set(get_args(StatusWord)) == {"succeeded", "failed", "released"}
    for words in (["failed", "--result", "1"], ["succeeded", "--error", "x"], ["released", "--no-retry"]):
        result = CliRunner().invoke(cli, ["report", f"{ID}.1", *words, "--at", "http://127.0.0.1:9"])
        assert result.exit_code == Exit.USAGE
        assert words[1] in result.stderr


def wait_until_asleep(pid: int) -> None:
    """Return when a process of one thread is in a call that blocks."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()


def interrupted(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Press Ctrl-C until the process ends; Python does not hear one between its last look and the call that blocks."""
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=20)
    raise AssertionError("it goes on")


def test_ctrl_c_ends_with_130_and_no_traceback(daemon: FakeDaemon):
    let_go = threading.Event()
    daemon.script = [hold(let_go)]
    command = [*LMDBQ, "dequeue", "--wait", "30s", "--at", daemon.where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        daemon.next()
        wait_until_asleep(process.pid)
        output, said = interrupted(process)
    let_go.set()
    assert process.returncode == 130
    assert output == b""
    assert said.strip() == b""


def test_a_closed_pipe_is_quiet(daemon: FakeDaemon):
    row = {"name": "q", "value": 1, "doc": "d" * 100}
    info = {"version": "v", "python": "p", "lmdb": "l", "durability": "full", "now": 1, "started_at": 1}
    daemon.script = [
        answer(body={"queues": []}),
        answer(body={**info, "store": row, "engine": {}, "settings": [], "defaults": []}),
    ]
    reader, writer = os.pipe()
    os.close(reader)
    command = [*LMDBQ, "stats", "--at", daemon.where]
    try:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    finally:
        os.close(writer)
    assert ended.returncode == 141
    assert ended.stderr == b""


def test_tables_are_drawn_at_a_terminal_and_plain_in_a_pipe(daemon: FakeDaemon):
    queue = {"name": "q\x1b[31m", "settings": {}, "counts": {"ready": 3}, "types": {"a": {"ready": 3}}, "totals": {}}
    rest = {"oldest_ready_seconds": 61, "next_due_at": 0, "consumers": 0, "blocked_by": "", "unconsumed_types": ["a"]}
    daemon.script = [answer(body={"queues": [{**queue, **rest}]})] * 2
    command = [*LMDBQ, "queues", "--at", daemon.where]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert plain.splitlines()[0].split()[:4] == ["queue", "ready", "scheduled", "running"]
    assert "1m1s" in plain
    assert "no consumer for type a in queue q" in plain
    assert "\x1b" not in plain.splitlines()[1]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs) as process:
        os.close(theirs)
        drawn = b""
        while chunk := read_or_end(ours):
            drawn += chunk
        assert process.wait(60) == 0
    os.close(ours)
    assert "─".encode() in drawn


def read_or_end(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how a terminal without a program says that this was all
        return b""
