"""What clients may rely on when the daemon is killed: keys, claims, leases, imports; and who else may write."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.blackbox import NDJSON, PATIENCE_SECONDS, Daemon

LONG = {"keepalive_timeout_in_seconds": 600}
KEYED = {"queue_name": "q", "entries": [{"payload": number} for number in range(5)]}


def keyed(daemon: Daemon, body: Any = KEYED) -> tuple[int, Any]:
    return daemon.call("POST", "/v1/enqueue", body, headers={"Idempotency-Key": "one"})


def test_a_key_is_remembered_through_kill_and_the_end_of_its_tasks(tmp_path: Path):
    with Daemon(tmp_path / "data") as daemon:
        with ThreadPoolExecutor(16) as callers:
            answers = list(callers.map(lambda _: keyed(daemon), range(16)))
        assert answers == [answers[0]] * 16
        assert answers[0][0] == 200
        assert daemon.queue()["totals"]["enqueued"] == 5
        [task] = daemon.dequeue()
        assert daemon.report(task["lease"]) == "ok"
        daemon.kill_and_start_again()
        assert keyed(daemon)[1]["outcomes"] == answers[0][1]["outcomes"]
        status, problem = keyed(daemon, {"queue_name": "q", "entries": [{"payload": "other"}]})
        assert (status, problem["code"]) == (422, "key_reused")
        assert daemon.queue()["counts"]["ready"] == 4


def test_a_claim_id_gives_the_same_leases_after_a_kill(tmp_path: Path):
    with Daemon(tmp_path / "data") as daemon:
        daemon.enqueue(*[{"payload": number} for number in range(5)])
        first = daemon.dequeue(limit=3, claim_id="mine")
        assert daemon.report(first[0]["lease"]) == "ok"
        daemon.kill_and_start_again()
        again = daemon.dequeue(limit=3, claim_id="mine")
        assert [(task["lease"], task["lease_expires_at"] > 0) for task in again] == [
            (task["lease"], True) for task in first[1:]
        ]
        assert [daemon.report(task["lease"]) for task in again] == ["ok", "ok"]
        assert {task["payload"] for task in daemon.dequeue(limit=3, claim_id="mine")} == {3, 4}


def settled_facts(daemon: Daemon, task_id: str) -> dict[str, Any]:
    """Return all of a task but the estimate in wall time of when its lease ends, which may differ by a microsecond."""
    shown = daemon.ok("GET", f"/v1/tasks/{task_id}")
    return {name: value for name, value in shown.items() if name != "lease_expires_at"}


def test_a_lease_and_its_extension_outlive_the_daemon_and_a_stale_one_changes_nothing(tmp_path: Path):
    with Daemon(tmp_path / "data") as daemon:
        daemon.enqueue({"keepalive_timeout_in_seconds": 1, "retry_strategy": {"retry_intervals_in_seconds": [0]}}, LONG)
        short, long = daemon.dequeue(limit=2)
        extended = daemon.ok("POST", "/v1/extend", {"leases": [{"lease": long["lease"]}]})["outcomes"][0]
        daemon.kill_and_start_again()
        shown = daemon.ok("GET", f"/v1/tasks/{long['id']}")
        assert (shown["state"], shown["deliveries"]) == ("running", 1)
        assert abs(shown["lease_expires_at"] - extended["lease_expires_at"]) < 10**9
        [again] = daemon.dequeue(
            wait_in_seconds=60, **LONG
        )  # the short one lapsed, though nobody was there when it did
        assert (again["id"], again["deliveries"], again["attempts"]) == (short["id"], 2, 2)
        before = settled_facts(daemon, short["id"])
        assert [daemon.report(short["lease"], status) for status in ("succeeded", "failed", "released")] == [
            "stale_lease"
        ] * 3
        assert settled_facts(daemon, short["id"]) == before
        assert daemon.report(again["lease"]) == daemon.report(long["lease"]) == "ok"


def test_an_import_that_was_killed_goes_on_where_it_was_committed(tmp_path: Path):
    lines = [json.dumps({"payload": number, "dedupe_key": str(number)}) for number in range(6_000)]
    body = "\n".join(lines).encode()
    with Daemon(tmp_path / "data") as daemon:
        half = daemon.socket()
        head = f"POST /v1/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(body)}"
        half.sendall(f"{head}\r\n\r\n".encode() + body[: len(body) // 2])
        while daemon.call("GET", "/v1/tasks/count?queue_name=default")[1]["count"] < 2_000:
            pass
        daemon.kill_and_start_again()
        half.close()
        there = daemon.queue("default")["counts"]["ready"]
        assert there % 1_000 == 0, "a chunk was committed in part"
        path = f"/v1/enqueue?from_line={there + 1}"
        told = daemon.ok("POST", path, raw=body, headers={"Content-Type": NDJSON})
        assert (told["enqueued"], told["skipped"], told["last_line"]) == (6_000 - there, 0, 6_000)
        assert daemon.queue("default")["counts"]["ready"] == 6_000


WRITER = """
import pathlib, sys
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Done, Enqueue, Entry
from lmdbq.store.lmdb import open_store
store = open_store(pathlib.Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    [outcome] = store.apply([Call((Enqueue([Entry(b"%d" % number, "q")]),))], SystemClock()).outcomes
    assert isinstance(outcome, Done), outcome
    print(number, flush=True)
store.close()
"""


def test_another_process_enqueues_into_the_served_file_and_may_be_killed(tmp_path: Path):
    with Daemon(tmp_path / "data") as daemon:
        got: list[int] = []
        enough = threading.Event()

        def work() -> None:
            while not enough.is_set():
                for task in daemon.dequeue(limit=10, wait_in_seconds=1):
                    got.append(task["payload"])
                    assert daemon.report(task["lease"]) == "ok"

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        command = [sys.executable, "-c", WRITER, str(daemon.data)]
        try:
            subprocess.run([*command, "100"], check=True, timeout=PATIENCE_SECONDS, stdout=subprocess.DEVNULL)
            for _ in range(3):
                with subprocess.Popen([*command, "1000000"], stdout=subprocess.PIPE) as writer:
                    assert writer.stdout is not None
                    for line in writer.stdout:
                        if int(line) == 50:
                            writer.send_signal(signal.SIGKILL)
                            break
            while daemon.call("GET", "/v1/tasks/count?queue_name=q")[1]["count"]:
                pass
        finally:
            enough.set()
            for worker in workers:
                worker.join()
        totals = daemon.queue()["totals"]
        assert totals["enqueued"] == totals["succeeded"] == len(got) >= 100 + 3 * 51
        assert sorted(got)[:4] == [0, 0, 0, 0]
