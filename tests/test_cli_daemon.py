"""The command line against the real daemon: every command, and programs as task handlers."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmdbq.cli.exits import Exit
from lmdbq.client.http import HttpClient
from tests.real_daemon import LMDBQ, RealDaemon, lmdbq

UNKNOWN = "tsk_00000000010"
NEVER = "tsk_zzzzzzzzzzz"


@pytest.fixture(scope="module")
def daemon() -> Iterator[RealDaemon]:
    with tempfile.TemporaryDirectory() as directory, RealDaemon(Path(directory)) as real:
        yield real


@pytest.fixture(scope="module")
def where(daemon: RealDaemon) -> str:
    return daemon.where


@pytest.fixture
def client(where: str) -> Iterator[HttpClient]:
    with HttpClient(where) as made:
        yield made


def said(*words: str, where: str, stdin: str = "") -> str:
    ended = lmdbq(*words, where=where, stdin=stdin)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def said_json(*words: str, where: str) -> Any:
    return json.loads(said(*words, "--json", where=where))


class Program:
    """``lmdbq worker --exec`` as a process, ended by ``with``."""

    def __init__(self, where: str, queue: str, *words: str) -> None:
        command = [*LMDBQ, "worker", "--at", where, "-q", queue, *words]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)


def test_enqueue_dequeue_report(where: str):
    task_id = said("enqueue", "send", "to=ada", "-q", "mail", where=where).strip()
    lease, kind, payload = said("dequeue", "-q", "mail", where=where).rstrip("\n").split("\t")
    assert (lease, kind, json.loads(payload)) == (f"{task_id}.1", "send", {"to": "ada"})
    assert said("report", lease, "--result", '{"sent": true}', where=where) == "ok: succeeded\n"
    shown = said_json("task", task_id, where=where)
    assert (shown["state"], shown["result"]) == ("succeeded", {"sent": True})
    head, row = said("tasks", "-q", "mail", "--state", "succeeded", where=where).splitlines()[:2]
    assert row.split()[head.split().index("started")] == "1"


def test_a_failed_report_shows_in_the_history_and_why_it_waits(where: str):
    task_id = said("enqueue", "send", "-q", "history", where=where).strip()
    lease = said("dequeue", "-q", "history", where=where).split("\t")[0]
    said("report", lease, "failed", "--error", "no such host", "--in", "1h", where=where)
    shown = said("task", task_id, where=where)
    assert "no such host" in shown
    assert "retry" in shown
    assert "1 of 5" in shown
    assert lmdbq("report", lease, where=where).returncode == Exit.CONFLICT


def test_a_duplicate_is_said(where: str):
    first = lmdbq("enqueue", "send", "-q", "dup", "--key", "k", where=where)
    second = lmdbq("enqueue", "send", "-q", "dup", "--key", "k", where=where)
    assert (first.stdout, first.stderr) == (second.stdout, "")
    assert "skipped" in second.stderr
    assert len(said_json("tasks", "--key", "k", where=where)["tasks"]) == 1


def test_what_is_not_there(where: str):
    assert lmdbq("task", NEVER, where=where).returncode == Exit.NOT_FOUND
    assert lmdbq("task", UNKNOWN, where=where).returncode == Exit.NOT_FOUND  # 410: it was, or may have been
    assert lmdbq("task", "nonsense", where=where).returncode == Exit.NOT_FOUND
    assert lmdbq("queue", "show", "nowhere", where=where).returncode == Exit.NOT_FOUND
    assert lmdbq("report", f"{UNKNOWN}.1", where=where).returncode == Exit.NOT_FOUND
    assert lmdbq("queue", "set", "nowhere", '{"max_running": 1}', where=where).returncode == Exit.NOT_FOUND


def test_cancel_retry_edit_delete(where: str):
    task_id = said("enqueue", "send", "--in", "1h", "-q", "changes", where=where).strip()
    said("edit", task_id, "--payload", "[1]", "--priority", "-5", where=where)
    shown = said_json("task", task_id, where=where)
    assert (shown["payload"], shown["priority"], shown["state"]) == ([1], -5, "scheduled")
    assert said("cancel", task_id, where=where) == f"{task_id}  ok\n"
    assert lmdbq("edit", task_id, "--priority", "1", where=where).returncode == Exit.CONFLICT
    assert lmdbq("cancel", task_id, where=where).returncode == Exit.CONFLICT
    said("retry", task_id, where=where)
    assert said_json("task", task_id, where=where)["state"] == "ready"
    said("delete", task_id, where=where)
    gone = lmdbq("task", task_id, where=where)
    assert gone.returncode == Exit.NOT_FOUND
    assert "lmdbq tasks" in gone.stderr


def test_actions_by_filter(where: str):
    for number in range(3):
        said("enqueue", "send", f"n={number}", "-q", "many", "--tag", f"t{number % 2}", where=where)
    assert lmdbq("delete", where=where).returncode == Exit.USAGE
    counted = said_json("cancel", "-q", "many", "--tag", "t0", "--dry-run", where=where)
    assert (counted["matched"], said_json("tasks", "-q", "many", "--count", where=where)["count"]) == (2, 3)
    assert said_json("cancel", "-q", "many", "--tag", "t0", where=where)["changed"] == 2
    listed = said_json("tasks", "-q", "many", "--state", "cancelled", "--state", "dead", where=where)["tasks"]
    assert [task["tags"] for task in listed] == [["t0"], ["t0"]]
    assert said_json("delete", "-q", "many", where=where)["changed"] == 3


def test_dead_tasks_are_listed_retried_elsewhere_and_removed(where: str):
    for kind in ("a", "b"):
        task = said("enqueue", kind, "-q", "graveyard", where=where).strip()
        lease = said_json("dequeue", "-q", "graveyard", where=where)["tasks"][0]["lease"]
        said("report", lease, "failed", "--error", "no such page", "--no-retry", where=where)
    listed = said("dead", "list", "-q", "graveyard", where=where)
    assert task in listed
    assert "no_retry" in listed
    assert "no such page" in listed
    assert lmdbq("dead", "retry", "--type", "a", "--to", "nowhere", where=where).returncode == Exit.NOT_FOUND
    said("queue", "put", "second-try", where=where)
    words = ("dead", "retry", "-q", "graveyard", "--type", "a", "--to", "second-try")
    assert said_json(*words, "--dry-run", where=where)["changed"] == 1
    assert said_json(*words, where=where)["changed"] == 1
    assert said_json("tasks", "-q", "second-try", "--state", "ready", "--count", where=where)["count"] == 1
    assert said_json("dead", "delete", "-q", "graveyard", where=where)["changed"] == 1
    assert said_json("dead", "list", "-q", "graveyard", where=where) == {"tasks": []}


def test_filters_of_tasks_by_range_and_time(where: str):
    said("enqueue", "r", "-q", "ranges", "--priority", "7", where=where)
    said("enqueue", "r", "-q", "ranges", where=where)

    def count(*words: str) -> int:
        return int(said("tasks", "-q", "ranges", "--count", *words, where=where))

    assert (count("--priority", "7"), count("--priority", "..6"), count("--priority", "0..7")) == (1, 1, 2)
    assert (count("--created", "1h.."), count("--created", "..1h"), count("--attempts", "1..")) == (2, 0, 0)
    assert count("--created", "2020-01-01T00:00:00Z..", "--scheduled", "..2100-01-01T00:00:00Z") == 2
    assert lmdbq("tasks", "--priority", "x..y", where=where).returncode == Exit.USAGE
    assert lmdbq("tasks", "--created", "1h", where=where).returncode == Exit.USAGE
    words = ("edit", "--where", '{"queue_name": "ranges"}', "--set", '{"tags": ["moved"]}')
    assert said_json(*words, "--dry-run", where=where)["changed"] == 2
    assert said_json(*words, where=where)["changed"] == 2
    assert count("--tag", "moved") == 2
    assert lmdbq("edit", "--priority", "1", where=where).returncode == Exit.USAGE


def test_tasks_go_page_by_page(where: str):
    ids = [said("enqueue", "send", "-q", "pages", where=where).strip() for _ in range(3)]
    first = said_json("tasks", "-q", "pages", "--limit", "2", where=where)
    rest = said_json("tasks", "-q", "pages", "--limit", "2", "--cursor", first["next"], where=where)
    assert [task["id"] for page in (first, rest) for task in page["tasks"]] == ids
    assert "next" not in rest
    human = lmdbq("tasks", "-q", "pages", "--limit", "2", where=where)
    assert "--cursor" in human.stderr
    assert len(human.stdout.splitlines()) == 3


def test_queues_say_what_is_stuck_and_why(where: str):
    said("enqueue", "sned", "-q", "stuck", where=where)
    assert "no consumer for type sned in queue stuck" in said("queues", where=where)
    said("queue", "pause", "stuck", where=where)
    queue = next(queue for queue in said_json("queues", where=where)["queues"] if queue["name"] == "stuck")
    assert (queue["blocked_by"], queue["counts"]["ready"]) == ("paused", 1)
    assert "paused" in said("queue", "show", "stuck", where=where)
    said("queue", "resume", "stuck", where=where)
    assert said("queue", "purge", "stuck", where=where) == "stuck: 1 tasks removed\n"
    said("queue", "delete", "stuck", where=where)
    assert lmdbq("queue", "show", "stuck", where=where).returncode == Exit.NOT_FOUND


def test_queue_settings(where: str):
    said("queue", "put", "set", '{"max_running": 3, "keepalive_timeout_in_seconds": 7}', where=where)
    said("queue", "set", "set", '{"max_running": null}', where=where)
    settings = said_json("queue", "show", "set", where=where)["settings"]
    assert settings["keepalive_timeout_in_seconds"] == 7
    assert not settings.get("max_running")
    assert lmdbq("queue", "set", "set", '{"max_runing": 1}', where=where).returncode == Exit.USAGE


def test_stats_version_and_an_empty_dequeue(where: str, daemon: RealDaemon):
    said("enqueue", "send", "-q", "counted", where=where)
    stats = said_json("stats", where=where)
    assert stats["totals"]["enqueued"] >= 1
    assert stats["store"]["path"].startswith(str(daemon.data))
    assert "enqueued" in said("stats", where=where)
    assert said_json("version", where=where)["daemon"] == said_json("version", where=where)["lmdbq"]
    nothing = lmdbq("dequeue", "-q", "nobody", where=where)
    assert (nothing.returncode, nothing.stdout) == (Exit.OK, "")
    assert "nothing waits in queue nobody" in nothing.stderr


def test_check_and_dump_beside_the_running_daemon(where: str, daemon: RealDaemon, tmp_path: Path):
    task_id = said("enqueue", "send", "-q", "dumped", where=where).strip()
    assert "all is well" in said("check", str(daemon.data), where=where)
    assert said_json("check", str(daemon.data), where=where)["violations"] == []
    assert task_id in said("dump", str(daemon.data), where=where)
    wrong = lmdbq("check", str(tmp_path), where=where)
    assert wrong.returncode == Exit.USAGE
    assert "no data.mdb" in wrong.stderr
    assert lmdbq("dump", str(tmp_path), where=where).returncode == Exit.USAGE
    assert list(tmp_path.iterdir()) == []  # looking at a directory does not make a queue of it


def test_wait_prints_the_result(where: str):
    with Program(where, "waited", "--exec", "cat"):
        assert said("enqueue", "echo", "name=Grace", "-q", "waited", "--wait", where=where) == '{"name":"Grace"}\n'
        assert said("enqueue", "echo", "-q", "waited", "--wait", where=where) == ""


def test_wait_for_a_task_that_dies_is_1_and_says_why(where: str):
    with Program(where, "dying", "--shell", "--exec", "echo out; echo no such file >&2; exit 3"):
        words = ["enqueue", "x", "-q", "dying", "--retry", '{"max_attempts": 1}', "--wait"]
        ended = lmdbq(*words, where=where)
    assert ended.returncode == Exit.FAILED
    assert "no such file" in ended.stderr
    assert "lmdbq task " in ended.stderr


def test_a_program_gets_payload_and_environment_and_its_output_is_the_result(where: str, tmp_path: Path):
    script = tmp_path / "work"
    variables = "$LMDBQ_TASK_ID $LMDBQ_TYPE $LMDBQ_QUEUE $LMDBQ_ATTEMPT $LMDBQ_LEASE"
    script.write_text(f'#!/bin/sh\necho "$1 $(cat) {variables}"\n')
    script.chmod(0o755)
    with Program(where, "programs", "--exec", f"{script} 'one word'"):
        waited = said_json("enqueue", "greet", '"x"', "-q", "programs", "--wait", where=where)
    task_id = waited["id"]
    assert waited["result"] == f'one word "x" {task_id} greet programs 1 {task_id}.1'


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ("exit 7", "exit_7", "exit status 7"),
        ("kill -9 $$", "signal_9", "killed by signal 9"),
        ("head -c 70000 /dev/zero", "result", "at most 65536"),
    ],
)
def test_how_a_program_can_fail(where: str, client: HttpClient, command: str, kind: str, message: str):
    queue = f"failing-{kind}"
    entry = {"retry_strategy": {"max_attempts": 1}}
    (outcome,) = client.enqueue([entry], queue_name=queue).outcomes
    with Program(where, queue, "--shell", "--exec", command):
        task = client.task(outcome.id, wait=30)
    assert task.state == "dead"
    assert task.errors is not None
    assert task.errors[0].type == kind
    assert message in task.errors[0].message


def test_a_program_that_does_not_exist_is_said_in_the_task(where: str, client: HttpClient):
    (outcome,) = client.enqueue([{"retry_strategy": {"max_attempts": 1}}], queue_name="missing").outcomes
    with Program(where, "missing", "--exec", "/no/such/program"):
        task = client.task(outcome.id, wait=30)
    assert task.errors is not None
    assert "/no/such/program" in task.errors[0].message


def test_programs_run_side_by_side(where: str, client: HttpClient, tmp_path: Path):
    """One writes to the other through a pipe that holds a writer until there is a reader: alone, neither would end."""
    os.mkfifo(tmp_path / "pipe")
    command = f'read -r what; if [ "$what" = 1 ]; then cat {tmp_path}/pipe; else echo 42 > {tmp_path}/pipe; fi'
    outcomes = client.enqueue(
        [{"payload": n, "keep": {"succeeded_in_seconds": 60}} for n in (1, 2)], queue_name="side"
    ).outcomes
    with Program(where, "side", "--shell", "-c", "2", "--exec", command):
        states = [client.task(outcome.id, wait=30).state for outcome in outcomes]
    assert states == ["succeeded", "succeeded"]


class Blocking:
    """A program that says when it has started and ends when it is let go, both through pipes in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._started, self._go_on = directory / "started", directory / "go-on"
        os.mkfifo(self._started)
        os.mkfifo(self._go_on)
        self.command = f"echo $$ > {self._started}; cat {self._go_on}"

    def started(self) -> int:
        return int(self._started.read_text())

    def let_go(self, result: str) -> None:
        self._go_on.write_text(result)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_program_finish_and_hands_back_the_rest(
    number: signal.Signals, where: str, client: HttpClient, tmp_path: Path
):
    blocking = Blocking(tmp_path)
    outcomes = client.enqueue([{}] * 3, queue_name=f"gentle-{number}").outcomes
    with Program(where, f"gentle-{number}", "--limit", "3", "--shell", "--exec", blocking.command) as process:
        blocking.started()
        os.killpg(process.pid, number)  # as a terminal does with Ctrl-C: to the worker and all that belong to it
        assert process.stderr is not None
        while b"stopping" not in process.stderr.readline():  # else it might take the next task before it has heard
            assert process.poll() is None
        blocking.let_go("7")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    tasks = [client.task(outcome.id) for outcome in outcomes]
    assert [task.state for task in tasks] == ["succeeded", "ready", "ready"]
    assert [task.failures for task in tasks[1:]] == [0, 0]


def test_a_second_ctrl_c_ends_now_and_takes_the_program_along(where: str, client: HttpClient, tmp_path: Path):
    blocking = Blocking(tmp_path)
    client.enqueue([{}, {}], queue_name="hasty")
    with Program(where, "hasty", "--shell", "--exec", blocking.command) as process:
        child = blocking.started()
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        while b"stopping" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert has_ended(child)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or dead and only waits for whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_worker_waits_for_a_daemon_that_was_killed(
    daemon: RealDaemon, where: str, client: HttpClient, tmp_path: Path
):
    blocking = Blocking(tmp_path)
    (outcome,) = client.enqueue([{"keep": {"succeeded_in_seconds": 60}}], queue_name="restart").outcomes
    with Program(where, "restart", "--shell", "--exec", blocking.command):
        blocking.started()
        daemon.kill_and_start_again()
        blocking.let_go("[1]")
        task = client.task(outcome.id, wait=30)
    assert (task.state, task.deliveries, bytes(task.result or b"")) == ("succeeded", 1, b"[1]")


def test_a_worker_without_a_daemon_says_so_at_once():
    ended = lmdbq("worker", "--exec", "cat", where="http://127.0.0.1:1")
    assert ended.returncode == Exit.UNREACHABLE
    assert "lmdbq serve" in ended.stderr


@pytest.mark.parametrize("command", ["", "echo 'no end"])
def test_a_worker_with_a_bad_command_line(command: str, where: str):
    assert lmdbq("worker", "--exec", command, where=where).returncode == Exit.USAGE


def test_a_schedule_from_the_command_line(where: str):
    line = said("schedule", "put", "nightly", "0 3 * * *", "report", "a=1", "--timezone", "Asia/Tokyo", where=where)
    assert line.startswith("nightly: 0 3 * * * Asia/Tokyo, next at ")
    shown = said_json("schedule", "show", "nightly", where=where)
    assert (shown["task"]["payload"], shown["catch_up"]) == ({"a": 1}, "one")
    assert "report" in said("schedules", where=where)
    assert said("schedule", "pause", "nightly", where=where) == "nightly: 0 3 * * * Asia/Tokyo, paused\n"
    task_id = said("schedule", "run", "nightly", where=where).strip()
    assert said_json("task", task_id, where=where)["type"] == "report"
    said("schedule", "resume", "nightly", where=where)
    assert said("schedule", "next", "nightly", "-n", "2", where=where).count("T03:00:00+09:00") == 2
    wrong = lmdbq("schedule", "put", "nightly", "0 3 * *", "report", where=where)
    assert (wrong.returncode, "5 fields" in wrong.stderr) == (Exit.USAGE, True)
    said("schedule", "delete", "nightly", where=where)
    assert lmdbq("schedule", "show", "nightly", where=where).returncode == Exit.NOT_FOUND


def test_sets_from_the_command_line(where: str):
    words = ["--condition", "finished", "--callback", "report", "--after", "after-sets", "--keep", "1h"]
    set_id = said("set", "make", *words, where=where).strip()
    first, second = (said("enqueue", "in-a-set", "-q", "sets", "--set", set_id, where=where).strip() for _ in range(2))
    assert said("tasks", "--set", set_id, where=where).count("in-a-set") == 2
    assert said("set", "close", set_id, where=where) == f"{set_id}: closed, 2 of 2 pending\n"
    assert set_id in said("sets", "--state", "closed", where=where)
    refused = lmdbq("enqueue", "in-a-set", "-q", "sets", "--set", set_id, where=where)
    assert (refused.returncode, "closed" in refused.stderr) == (Exit.CONFLICT, True)
    program = f"{shlex.join(LMDBQ)} enqueue in-a-set -q added --set $LMDBQ_SET --at {where}"
    with Program(where, "sets", "--exec", program, "--shell"):
        while said_json("set", "show", set_id, where=where)["succeeded"] < 2:
            time.sleep(0.05)
    said("cancel", "--set", set_id, where=where)
    shown = said_json("set", "show", set_id, "--wait", where=where)
    assert (shown["state"], shown["members"], shown["succeeded"], shown["cancelled"]) == ("met", 4, 2, 2)
    (report,) = said_json("tasks", "-q", "after-sets", where=where)["tasks"]
    assert report["callback_of"] == set_id
    assert "finished" in said("set", "show", set_id, where=where)
    said("set", "delete", set_id, where=where)
    assert lmdbq("set", "show", set_id, where=where).returncode == Exit.NOT_FOUND
    assert first != second


def test_once_for_many_calls_from_the_command_line(where: str):
    rules = (["--key", "k", "--debounce", "1h"], ["--key", "l", "--throttle", "1h"], ["--coalesce", "m"])
    for payload in ("1", "2"):
        for rule in (*rules, ["--external-id", "o-7"]):
            assert lmdbq("enqueue", "t", payload, "-q", "once", *rule, where=where).returncode == Exit.OK

    stored = said_json("tasks", "-q", "once", where=where)["tasks"]
    assert sorted(task["payload"] for task in stored) == [1, 1, 2, 2]
    (found,) = said_json("tasks", "--external-id", "o-7", where=where)["tasks"]
    assert found["external_id"] == "o-7"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--debounce", "5s"], "give that, too"),
        (["--key", "k", "--debounce", "5s", "--throttle", "5s"], "exclude each other"),
    ],
)
def test_rules_that_make_no_sense_together_are_refused(where: str, words: list[str], says: str):
    refused = lmdbq("enqueue", "t", *words, where=where)
    assert (refused.returncode, refused.stdout) == (Exit.USAGE, "")
    assert says in refused.stderr


def test_groups_and_threads_from_the_command_line(where: str):
    line = said("group", "set", "acme", "--max-running", "1", "--rate", "10/s", "--burst", "20", where=where)
    assert line == "acme: at most 1 at once, 10 per 1s, burst 20\n"
    for _ in range(2):
        said("enqueue", "t", "-q", "lanes", "--group", "acme", where=where)
        said("enqueue", "t", "-q", "lanes", "--thread", "order-7", where=where)
    assert len(said_json("dequeue", "-q", "lanes", "--limit", "9", where=where)["tasks"]) == 2
    assert said_json("group", "show", "acme", where=where)["blocked_by"] == "max_running"
    assert "blocked by" in said("group", "show", "acme", where=where)
    assert "max_running" in said("groups", where=where)
    assert "order-7" in said("threads", "-q", "lanes", where=where)
    assert said("group", "pause", "acme", where=where).startswith("acme: paused")
    said("group", "resume", "acme", where=where)
    assert said("group", "rule", "ac*", "--max-running", "5", "--priority", "2", where=where) == "ac*: rule put\n"
    assert "ac*" in said("group", "rules", where=where)
    said("group", "set", "acme", "--max-running", "none", "--rate", "none", where=where)
    assert said_json("group", "show", "acme", where=where)["limits"]["max_running"] == 5
    said("group", "unrule", "ac*", where=where)
    said("group", "delete", "acme", where=where)
    for wrong in (("set", "acme"), ("set", "acme", "--rate", "fast"), ("set", "acme", "--burst", "3")):
        assert lmdbq("group", *wrong, where=where).returncode == Exit.USAGE
    assert lmdbq("group", "show", "nobody", where=where).returncode == Exit.NOT_FOUND


def test_waiting_for_what_nobody_takes_says_so(where: str):
    command = [*LMDBQ, "enqueue", "grete", "-q", "mistyped", "--wait", "--at", where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            with Program(where, "mistyped", "--exec", "echo 5"):
                assert process.wait(60) == Exit.OK
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == "5\n"
    assert said.startswith("it waits: ")
    assert "grete" in said
