"""Settings as data: ``lmdbq apply`` and ``lmdbq config --toml``, on a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lmdbq.cli.exits import Exit
from lmdbq.cli.main import cli

FILE = """
[queues.mail]
max_running = 5
rate = {tokens = 10, period_in_seconds = 60}
keep = {dead_in_seconds = 3600}
max_dead = 100
order = "fair"

[queues."mail.bulk"]
priority = 10
order = "ageing"
ageing_in_seconds = 30

[groups.acme]
max_running = 3
rate = {tokens = 100, period_in_seconds = 60, burst = 5}

[group_rules."shop:*"]
max_running = 2
priority = 5

[schedules.nightly]
cron = "0 3 * * *"
timezone = "Europe/Berlin"
catch_up = "all"

[schedules.nightly.task]
type = "report"
queue_name = "mail"
payload = {to = "ada", copies = 2}
payload_json = '{"to": "ada", "copies": null}'
"""


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path / "queue")


def run(where: str, *words: str) -> Any:
    return CliRunner().invoke(cli, ["--at", where, *words])


def changes(where: str, file: Path, *words: str) -> Any:
    result = run(where, "apply", str(file), "--json", *words)
    assert result.exit_code == 0, result.output
    return {(one["kind"], one["name"]): one for one in json.loads(result.stdout)["changes"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "queues.toml"
    path.write_text(FILE.replace('payload = {to = "ada", copies = 2}\n', ""))
    return path


def test_a_file_is_applied_once_and_a_second_time_changes_nothing(where: str, file: Path):
    first = changes(where, file)

    assert {key: one["action"] for key, one in first.items()} == {
        ("queues", "mail"): "create",
        ("queues", "mail.bulk"): "create",
        ("groups", "acme"): "create",
        ("group_rules", "shop:*"): "create",
        ("schedules", "nightly"): "create",
    }
    assert first["queues", "mail"]["fields"]["max_running"] == [None, 5]
    queue = json.loads(run(where, "--json", "queue", "show", "mail").stdout)["settings"]
    assert (queue["rate"], queue["max_dead"]) == ({"tokens": 10, "period_in_seconds": 60}, 100)
    schedule = json.loads(run(where, "--json", "schedule", "show", "nightly").stdout)
    assert schedule["task"]["payload"] == {"to": "ada", "copies": None}
    assert changes(where, file) == {}


def test_what_is_exported_can_be_applied_elsewhere(where: str, file: Path, tmp_path: Path):
    changes(where, file)
    exported = run(where, "config", "--toml").stdout
    copy = tmp_path / "copy.toml"
    copy.write_text(exported)

    assert changes(where, copy) == {}
    other = str(tmp_path / "other")
    assert len(changes(other, copy)) == 5
    assert run(other, "config", "--toml").stdout == exported


def test_a_dry_run_shows_and_changes_nothing(where: str, file: Path):
    changes(where, file)
    file.write_text(file.read_text().replace("max_running = 5", "max_running = 7"))

    result = run(where, "apply", str(file), "--dry-run")

    assert result.stdout == "~ queue mail (change)\n    max_running: 5 -> 7\n"
    assert json.loads(run(where, "--json", "queue", "show", "mail").stdout)["settings"]["max_running"] == 5
    assert set(changes(where, file)) == {("queues", "mail")}


def test_eddyq_7_99_what_the_file_does_not_name_stays_unless_it_is_to_be_pruned(where: str, file: Path):
    changes(where, file)
    run(where, "enqueue", "t", "-q", "mail")
    file.write_text('[queues.other]\n[schedules.alpha]\ncron = "@daily"\ntask = {type = "t"}\n')

    assert set(changes(where, file)) == {("queues", "other"), ("schedules", "alpha")}
    pruned = changes(where, file, "--prune")

    assert {key: one["action"] for key, one in pruned.items()} == {
        ("queues", "mail"): "reset",
        ("queues", "mail.bulk"): "reset",
        ("schedules", "nightly"): "delete",
    }
    assert json.loads(run(where, "--json", "schedules").stdout)["schedules"][0]["name"] == "alpha"
    assert json.loads(run(where, "--json", "queue", "show", "mail").stdout)["counts"]["ready"] == 1
    assert changes(where, file, "--prune") == {}


def test_eddyq_7_100_one_wrong_value_and_nothing_changes(where: str, file: Path):
    file.write_text(FILE.replace('"0 3 * * *"', '"not a cron"').replace("priority = 10", "priority = 1_000_000"))
    run(where, "enqueue", "t")

    result = run(where, "apply", str(file))

    assert result.exit_code == Exit.USAGE
    assert "/schedules/nightly/cron" in result.stderr
    assert "/queues/mail.bulk/priority" in result.stderr
    assert [queue["name"] for queue in json.loads(run(where, "--json", "queues").stdout)["queues"]] == ["default"]


@pytest.mark.parametrize("text", ["[queue.mail]\n", "queues = 5\n", "[queues]\nmail = 5\n", "not toml"])
def test_what_is_no_such_file_is_refused(where: str, file: Path, text: str):
    file.write_text(text)

    assert run(where, "apply", str(file)).exit_code == Exit.USAGE


def test_groups_are_pruned_and_paused_as_queues_are(where: str, file: Path):
    changes(where, file)
    run(where, "group", "pause", "acme")
    file.write_text("[groups.acme]\nmax_running = 4\n[group_rules]\n")

    done = changes(where, file, "--prune")

    assert {key: one["action"] for key, one in done.items()} == {
        ("groups", "acme"): "change",
        ("group_rules", "shop:*"): "delete",
    }
    shown = json.loads(run(where, "--json", "group", "show", "acme").stdout)["settings"]
    assert shown == {"max_running": 4, "paused": True}
    assert changes(where, file, "--prune") == {}


def test_a_pause_is_left_alone_unless_the_file_says_it(where: str, file: Path):
    changes(where, file)
    run(where, "queue", "pause", "mail")
    run(where, "schedule", "pause", "nightly")

    file.write_text(file.read_text().replace("max_running = 5", "max_running = 7"))
    assert set(changes(where, file)) == {("queues", "mail")}
    assert json.loads(run(where, "--json", "queue", "show", "mail").stdout)["settings"]["paused"] is True
    assert "paused = true" in run(where, "config", "--toml").stdout
    file.write_text(file.read_text().replace("max_running = 7", "max_running = 7\npaused = false"))
    assert changes(where, file)["queues", "mail"]["fields"] == {"paused": [True, False]}
    assert json.loads(run(where, "--json", "schedule", "show", "nightly").stdout)["paused"] is True
