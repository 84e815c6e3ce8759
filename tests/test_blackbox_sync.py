"""Accepted means on disk: strace watches the daemon, and every 2xx to a write must leave behind a sync of the file.

For each request the trace shows when its bytes were read and when its answer was sent. In between must stand: a write
to the data file, a completed fdatasync of it, and a write of the page that makes the transaction valid, which is synced
by itself (the descriptor was opened with O_DSYNC). A request names itself by a text in its body, its answer by the id
it gives. Many callers share a sync, so it is also counted that they do.
"""

from __future__ import annotations

import http.client
import re
import shutil
import threading
import time
from pathlib import Path
from typing import NamedTuple

from tests.blackbox import STORM, Daemon, call_over

CALLERS = 64
CALLS = 1_000 if STORM else 320
SYSCALLS = "read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync,msync,openat"
STRACE = ("strace", "-D", "-f", "-y", "-s", "4096", "-e", f"trace={SYSCALLS}")
SLOW_SYNCS = ("-e", "inject=fdatasync:delay_enter=50000")  # microseconds: in memory, none would be waited for

_LINE = re.compile(r"^(\d+) +(.*)$")
_SYNC = re.compile(r"^f(?:data)?sync\(\d+<[^>]*/data\.mdb>")
_SUCCEEDED = re.compile(r" = 0(?: \(DELAYED\))?$")
_DATA_WRITE = re.compile(r"^(?:pwrite64|pwritev|write|writev)\((\d+)<[^>]*/data\.mdb>")
_SOCKET = re.compile(r"^(?:write|writev|sendto|sendmsg)\(\d+<(?:socket|TCP)[^>]*>")
_RECEIVED = re.compile(r"^(?:read|recvfrom|recvmsg)\(\d+<(?:socket|TCP)[^>]*>")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>")


_DSYNC_OPENED = re.compile(r"openat\(.*/data\.mdb\", [A-Z_|]*O_DSYNC[A-Z_|]*\) = (\d+)<", re.MULTILINE)

COVERED = ("written", "synced", "valid")


class Event(NamedTuple):
    """One thing that happened, in the order of the trace.

    kind: written (data file), synced, valid (the page that ends a transaction, synced), read or sent (socket).
    """

    kind: str
    text: str


def events(trace: str) -> list[Event]:
    """Return what matters. What is written or sent counts from its beginning, a sync or an arrival from its end."""
    self_synced = set(_DSYNC_OPENED.findall(trace))
    found: list[Event] = []
    unfinished: dict[str, str] = {}
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, text = match.groups()
        if text.endswith("<unfinished ...>"):
            unfinished[thread] = text.removesuffix("<unfinished ...>")
            kind = kind_of(unfinished[thread], self_synced)
            if kind in ("written", "sent"):
                found.append(Event(kind, text))
            continue
        resumed = _RESUMED.match(text)
        begun = unfinished.pop(thread, "") if resumed is not None else ""
        text = begun + text[resumed.end() :] if resumed is not None else text
        kind = kind_of(text, self_synced)
        if kind and not (begun and kind in ("written", "sent")):
            found.append(Event(kind, text))
    return found


def kind_of(text: str, self_synced: set[str]) -> str:
    if _SYNC.match(text):
        return "synced" if _SUCCEEDED.search(text) else ""
    write = _DATA_WRITE.match(text)
    if write is not None:
        return "valid" if write[1] in self_synced else "written"
    if _SOCKET.match(text):
        return "sent"
    return "read" if _RECEIVED.match(text) else ""


def unsynced_answers(found: list[Event], marks: dict[str, str]) -> list[str]:
    """Return the requests whose answer was sent before what COVERED names had followed their arrival.

    marks: what stands in a request -> what stands in its answer.
    """
    wrong = []
    for asked, answered in marks.items():
        arrived = next(index for index, event in enumerate(found) if event.kind == "read" and asked in event.text)
        sent = next(index for index, event in enumerate(found) if event.kind == "sent" and answered in event.text)
        between = iter(event.kind for event in found[arrived:sent])
        if not all(kind in between for kind in COVERED):  # in this order
            wrong.append(asked)
    return wrong


def traced(directory: Path, *options: str) -> tuple[dict[str, str], list[Event]]:
    """Serve many callers under strace; return the marks of their requests, and what happened."""
    assert shutil.which("strace"), "this test needs strace: apt-get install strace"
    marks: dict[str, str] = {}
    trace = directory / "trace"
    with Daemon(directory / "data", *options, before=(*STRACE, *SLOW_SYNCS, "-o", str(trace))) as daemon:
        storm(daemon, marks)
        follow_one_task(daemon, marks)
    assert len(marks) > CALLS
    return marks, events(whole(trace, daemon))


def test_every_2xx_is_sent_after_the_sync_that_covers_it(tmp_path: Path):
    marks, found = traced(tmp_path)
    assert unsynced_answers(found, marks) == []
    syncs = sum(event.kind == "synced" for event in found)
    assert syncs <= CALLS / 3, f"{syncs} syncs for {CALLS} calls of {CALLERS} callers"
    unsynced = [event for event in found if event.kind != "synced"]
    assert unsynced_answers(unsynced, marks) == list(marks), "this test would not have noticed"


def test_durability_batch_is_what_it_says(tmp_path: Path):
    """Data is synced before an answer, but the last page is not: a power cut may lose it, and this test sees that."""
    marks, found = traced(tmp_path, "--durability", "batch")
    assert unsynced_answers(found, marks) == list(marks)
    assert any(event.kind == "synced" for event in found)


def whole(trace: Path, daemon: Daemon) -> str:
    """Return the trace once strace, which outlives the daemon by a moment, has written its last line."""
    assert daemon.process is not None
    last = re.compile(rf"^{daemon.process.pid} .*[+]{{3}} exited with 0", re.MULTILINE)
    ends_at = time.monotonic() + 60
    while not last.search(text := trace.read_text()):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    return text


def storm(daemon: Daemon, marks: dict[str, str]) -> None:
    """Enqueue from many callers at once, one task a call, each over a connection that it keeps."""
    numbers = iter(range(CALLS))
    lock = threading.Lock()

    def produce() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            mark = f"mark-{number:05d}-"
            body = {"entries": [{"payload": mark}], "return_tasks": False}
            status, answer = call_over(connection, "POST", "/v1/enqueue", body)
            assert status == 200, answer
            marks[mark] = answer["outcomes"][0]["id"]

    threads = [threading.Thread(target=produce) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def follow_one_task(daemon: Daemon, marks: dict[str, str]) -> None:
    """One of each verb that writes; each names itself by a name of its own and is answered with it."""
    daemon.ok("PUT", "/v1/queues/other", {"max_running": 4001})
    marks['\\"max_running\\": 4001'] = '\\"max_running\\":4001'
    made = daemon.ok("POST", "/v1/tasks", {"queue_name": "other", "payload": "alone-1"})
    marks["alone-1"] = made["task"]["id"]
    [task] = daemon.dequeue("other", claim_id="claim-77")
    marks["claim-77"] = task["lease"]
    assert daemon.report(task["lease"], "failed", delay_in_seconds=0) == "ok"
    marks[f'\\"lease\\": \\"{task["lease"]}\\", \\"status\\"'] = f'\\"lease\\":\\"{task["lease"]}\\",\\"outcome\\"'
