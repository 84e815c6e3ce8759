"""Starting and stopping, judged from outside: who is refused, what a stop leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.blackbox import JSON, LMDBQ, Daemon


def test_a_stop_gives_back_what_a_stream_holds_and_nobody_reports(tmp_path: Path):
    with Daemon(tmp_path / "data", "--grace", "2") as daemon:
        daemon.enqueue({"payload": 1})
        stream = daemon.socket()
        body = json.dumps({"queue_names": ["q"]}).encode()
        stream.sendall(
            b"POST /v1/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (JSON.encode(), len(body), body)
        )
        received = b""
        while b'"task"' not in received:
            received += stream.recv(65536)
        assert daemon.end(signal.SIGTERM) == 0
        while block := stream.recv(65536):
            received += block
        assert b'"bye"' in received
        assert "the grace is over" not in daemon.log
        daemon.start()
        assert daemon.queue()["counts"] | {"running": 0, "ready": 1} == daemon.queue()["counts"]
        assert daemon.queue()["totals"]["released"] == 1
        [task] = daemon.dequeue()
        assert (task["attempts"], task["deliveries"]) == (1, 2)
        assert daemon.report(task["lease"]) == "ok"


def test_a_taken_address_is_said_in_one_line(tmp_path: Path):
    with Daemon(tmp_path / "data") as daemon:
        listen = f"127.0.0.1:{daemon.port}"
        command = [*LMDBQ, "serve", "--data", str(tmp_path / "other"), "--listen", listen]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (second.returncode, len(second.stderr.splitlines())) == (75, 1), second.stderr
        assert listen in second.stderr
