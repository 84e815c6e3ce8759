"""``lmdbq top``: a frame is made of two looks, and the loop survives a daemon that restarts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from typing import Any

import msgspec
from click.testing import CliRunner

from lmdbq.cli.exits import Exit
from lmdbq.cli.main import cli
from lmdbq.cli.top import Look, as_json, frame, rates
from lmdbq.wire.answers import InfoAnswer, QueueAnswer
from tests.fake_daemon import FakeDaemon, answer, drop
from tests.real_daemon import LMDBQ

INFO = {"version": "9.9", "python": "p", "lmdb": "l", "durability": "full", "now": 61 * 10**9, "started_at": 1}
STORE = {"used_bytes": 28_672, "file_bytes": 5_368_709_120}
INFO_BODY = {**INFO, "store": STORE, "engine": {}, "settings": [], "defaults": []}


def queue_body(name: str = "mail", **totals: int) -> dict[str, Any]:
    counts = {"ready": 3, "running": 2}
    rest = {"oldest_ready_seconds": 90, "next_due_at": 0, "consumers": 4, "blocked_by": "", "unconsumed_types": []}
    return {"name": name, "settings": {}, "counts": counts, "types": {}, "totals": totals, **rest}


def look(at: float, *queues: dict[str, Any]) -> Look:
    return Look(at, msgspec.convert(INFO_BODY, InfoAnswer), msgspec.convert(list(queues), list[QueueAnswer]))


def test_rates_are_what_the_totals_rose_by():
    before = look(10.0, queue_body(enqueued=100, succeeded=50), queue_body("gone"))
    now = look(12.0, queue_body(enqueued=130, succeeded=51, failed=4), queue_body("new", enqueued=7))
    assert rates(now, before) == {"mail": {"in/s": 15.0, "done/s": 0.5, "fail/s": 2.0}}
    assert rates(now, None) == {}
    purged = look(14.0, queue_body(enqueued=0))  # deleted and made anew: nothing a second, and not less than that
    assert rates(purged, now)["mail"]["in/s"] == 0


def test_a_frame_has_the_daemon_the_queues_and_what_holds_them_up():
    stuck = {**queue_body("stuck"), "blocked_by": "paused", "unconsumed_types": ["sned"]}
    said = frame(look(12.0, queue_body(enqueued=130), stuck), look(10.0, queue_body(enqueued=100)))
    head, _, columns, mail, other, *rest = said.splitlines()
    assert head == "lmdbq 9.9  ·  up 1m1s  ·  durability full  ·  28.0 KiB in use of 5.0 GiB"
    assert columns.split()[:5] == ["queue", "ready", "scheduled", "running", "dead"]
    assert mail.split() == ["mail", "3", "0", "2", "0", "15.0", "0.0", "0.0", "1m30s", "4"]
    assert other.split() == ["stuck", "3", "0", "2", "0", "1m30s", "4"]
    assert "`lmdbq queue resume stuck`" in rest[0]
    assert "no consumer for type sned in queue stuck" in rest[1]


def test_what_is_wrong_with_the_file_is_said():
    sick = look(1.0)
    sick.info.store |= {"low_space": True, "quarantined": 2}
    assert "SPACE IS LOW" in frame(sick, None)
    assert "2 quarantined" in frame(sick, None)
    assert "lmdbq enqueue TYPE" in frame(sick, None)


def test_a_frame_for_programs():
    said = json.loads(msgspec.json.encode(as_json(look(12.0, queue_body(failed=4)), look(10.0, queue_body()))))
    assert said["queues"][0]["per_second"] == {"enqueued": 0.0, "succeeded": 0.0, "failed": 2.0}
    assert said["queues"][0]["queue"]["counts"] == {"ready": 3, "running": 2}
    assert said["store"] == STORE


def test_it_goes_on_while_no_daemon_answers_and_ends_after_so_many_frames():
    with FakeDaemon() as daemon:
        infos, queues = answer(body=INFO_BODY), answer(body={"queues": [queue_body()]})
        daemon.script = [infos, queues, drop, infos, queues]
        words = ["top", "--interval", "100ms", "--frames", "3", "--at", daemon.where]
        result = CliRunner().invoke(cli, words)
    assert result.exit_code == Exit.OK
    assert result.stdout.count("lmdbq 9.9") == 2
    assert "no answer" in result.stderr
    missing = CliRunner().invoke(cli, ["top", "--at", "http://127.0.0.1:1"])
    assert missing.exit_code == Exit.UNREACHABLE
    assert CliRunner().invoke(cli, ["top", "--interval", "1ms"]).exit_code == Exit.USAGE


def test_at_a_terminal_it_has_a_screen_of_its_own_and_ctrl_c_ends_it_well():
    with FakeDaemon() as daemon:
        daemon.script = [answer(body=INFO_BODY), answer(body={"queues": [queue_body()]})]
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
        with subprocess.Popen(
            [*LMDBQ, "top", "--interval", "1h", "--at", daemon.where], stdout=theirs, env=environment
        ) as process:
            drawn = b""
            try:
                while b"consumers" not in drawn or b"mail" not in drawn:  # 80 characters hold every column
                    drawn += os.read(ours, 65_536)
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == Exit.OK
            finally:
                process.kill()
                os.close(theirs)
                os.close(ours)
    assert b"\x1b[?1049h" in drawn
