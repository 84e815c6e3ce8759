"""The process: it starts, says where, drains on a signal, ends now on a second, and each way to fail has its code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmdbq.daemon.settings import Settings, load, read_bytes, shown, state_directory
from lmdbq.errors import InvalidInput
from lmdbq.store.lmdb import open_store

SECONDS = 60
START = """
import sys
from pathlib import Path
from lmdbq.daemon.serve import run
from lmdbq.daemon.settings import Settings
{before}
sys.exit(run(Settings(listen={listen!r}, data=Path({data!r}), **{more!r})))
"""


def address_in(line: str) -> str:
    return next((word for word in line.split() if word.startswith(("http://", "unix://"))), "")


class Process:
    """A daemon in a process of its own."""

    def __init__(self, data: Path, listen: str = "127.0.0.1:0", before: str = "", **more: Any) -> None:
        code = START.format(before=before, listen=listen, data=str(data), more=more)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environ, bufsize=1
        )
        assert self.process.stderr is not None
        self.first_line = self.process.stderr.readline()
        self.url = address_in(self.first_line)

    def call(self, path: str, body: Any = None, timeout: float = SECONDS) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def rest(self) -> str:
        assert self.process.stderr is not None
        return self.first_line + self.process.stderr.read()


@contextlib.contextmanager
def started(data: Path, listen: str = "127.0.0.1:0", before: str = "", **more: Any) -> Iterator[Process]:
    daemon = Process(data, listen, before, **more)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.process.wait(SECONDS)
        if daemon.process.stderr is not None:
            daemon.process.stderr.close()


def checked(data: Path) -> None:
    with contextlib.closing(open_store(data)) as store:
        assert store.check() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_says_where_and_drains_on_a_signal(tmp_path: Path, number: int):
    with started(tmp_path / "q") as daemon:
        assert str(tmp_path / "q") in daemon.first_line
        assert daemon.call("/readyz") == (200, {"status": "ok"})
        status, answer = daemon.call("/v1/enqueue", {"entries": [{"payload": 1}]})
        assert (status, answer["outcomes"][0]["outcome"]) == (200, "enqueued")
        assert daemon.end(number) == 0
    with started(tmp_path / "q") as daemon:
        _, answer = daemon.call("/v1/dequeue", {})
        assert answer["tasks"][0]["payload"] == 1
        assert daemon.end() == 0
    checked(tmp_path / "q")


def test_a_parked_dequeue_is_answered_when_it_drains(tmp_path: Path):
    with started(tmp_path / "q") as daemon:

        async def scenario() -> Any:
            parked = asyncio.ensure_future(asyncio.to_thread(daemon.call, "/v1/dequeue", {"wait_in_seconds": 60}))
            while (await asyncio.to_thread(daemon.call, "/v1/info"))[1]["engine"]["parked"] == 0:
                await asyncio.sleep(0)
            daemon.process.terminate()
            return await parked

        assert asyncio.run(scenario()) == (200, {"tasks": [], "reason": "draining"})
        assert daemon.process.wait(SECONDS) == 0


STUCK = """
import asyncio
from lmdbq.daemon.context import UnderWay
async def wait_for_none(self, seconds):
    await asyncio.Event().wait()
UnderWay.wait_for_none = wait_for_none
"""


def test_a_second_signal_ends_it_now(tmp_path: Path):
    """The drain is made to last, as if a request never ended."""
    with started(tmp_path / "q", before=STUCK, grace_seconds=600) as daemon:
        daemon.process.terminate()
        while daemon.call("/readyz")[0] == 200:
            pass
        assert daemon.end(signal.SIGTERM) == 128 + signal.SIGTERM
    checked(tmp_path / "q")


def test_the_grace_is_kept(tmp_path: Path):
    with started(tmp_path / "q", before=STUCK, grace_seconds=0) as daemon:
        assert daemon.end(signal.SIGTERM) == 0
    checked(tmp_path / "q")


def test_a_killed_daemon_loses_nothing_and_leaves_nothing_in_the_way(tmp_path: Path):
    listen = f"unix:{tmp_path}/s"
    with started(tmp_path / "q", listen) as daemon:
        assert daemon.url == f"unix://{tmp_path}/s"
        assert json.loads(over_unix(tmp_path / "s", "/livez")) == {"status": "ok"}
        assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    assert (tmp_path / "s").exists()
    with started(tmp_path / "q", listen) as daemon:
        assert json.loads(over_unix(tmp_path / "s", "/livez")) == {"status": "ok"}
        assert daemon.end() == 0
    checked(tmp_path / "q")


def over_unix(path: Path, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while block := connection.recv(65_536):
            answer += block
    return answer.partition(b"\r\n\r\n")[2]


def test_a_second_daemon_names_the_first(tmp_path: Path):
    with started(tmp_path / "q") as first, started(tmp_path / "q") as second:
        assert second.process.wait(SECONDS) == 75
        said = second.rest()
        assert str(first.process.pid) in said
        assert first.url in said
        assert first.end() == 0


def test_a_disk_that_cannot_take_where_it_answers_keeps_nobody_from_serving(tmp_path: Path):
    before = "import os, errno\ndef full(*_): raise OSError(errno.ENOSPC, 'no room')\nos.ftruncate = full"
    with started(tmp_path / "q", before=before) as daemon:
        assert daemon.process.stderr is not None
        assert "no room" in daemon.first_line
        daemon.url = address_in(daemon.process.stderr.readline())
        assert daemon.call("/readyz")[0] == 200
        with started(tmp_path / "q") as second:
            assert second.process.wait(SECONDS) == 75
        assert daemon.end() == 0
        assert "Traceback" not in daemon.rest()
    checked(tmp_path / "q")


def test_a_taken_port_is_said(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with started(tmp_path / "q", address) as daemon:
            assert daemon.process.wait(SECONDS) == 75
            assert f"cannot listen on http://{address}" in daemon.rest()
    checked(tmp_path / "q")


def test_a_socket_where_the_daemon_of_another_file_answers_is_left_to_it(tmp_path: Path):
    listen = f"unix:{tmp_path}/s"
    with started(tmp_path / "q", listen) as first, started(tmp_path / "r", listen) as second:
        assert second.process.wait(SECONDS) == 75
        assert f"cannot listen on unix://{tmp_path}/s: Address already in use" in second.rest()
        answer = json.loads(over_unix(tmp_path / "s", "/v1/info"))
        assert answer["store"]["path"].startswith(str(tmp_path / "q"))
        assert first.end() == 0


@pytest.mark.parametrize(
    ("path", "why"), [("x" * 200, "too long"), ("x" * 300, "File name too long"), ("file/s", "Not a directory")]
)
def test_a_socket_that_cannot_be_made_says_why(tmp_path: Path, path: str, why: str):
    (tmp_path / "file").write_text("")
    with started(tmp_path / "q", f"unix:{tmp_path}/{path}") as daemon:
        assert daemon.process.wait(SECONDS) == 78
        said = daemon.rest()
        assert f"{path}: " in said
        assert why in said
        assert "Traceback" not in said


def test_an_open_address_without_a_token_is_refused_with_the_line_to_paste(tmp_path: Path):
    with started(tmp_path / "q", "0.0.0.0:0") as daemon:
        assert daemon.process.wait(SECONDS) == 78
        assert "LMDBQ_TOKEN=$(openssl rand -hex 16) lmdbq serve --listen 0.0.0.0:0" in daemon.rest()
    assert not (tmp_path / "q").exists()


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path):
    (tmp_path / "q").write_text("a file")
    with started(tmp_path / "q") as daemon:
        assert daemon.process.wait(SECONDS) == 78
        assert str(tmp_path / "q") in daemon.rest()


def test_a_file_of_another_kind_is_not_served(tmp_path: Path):
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "data.mdb").write_bytes(b"not a database" * 1000)
    with started(tmp_path / "q") as daemon:
        assert daemon.process.wait(SECONDS) in (65, 78)
        assert daemon.rest()
        assert "Traceback" not in daemon.rest()


def test_a_failed_commit_answers_503_and_ends_the_process(tmp_path: Path):
    before = (
        "import lmdbq.store.lmdb as s\n"
        "from lmdbq.errors import CommitUnknown\n"
        "from lmdbq.model import Enqueue\n"
        "real = s.LmdbStore.apply\n"
        "def apply(self, calls, *more):\n"
        "    if any(isinstance(op, Enqueue) for call in calls for op in call.ops):\n"
        "        raise CommitUnknown('the commit failed; restart the daemon')\n"
        "    return real(self, calls, *more)\n"
        "s.LmdbStore.apply = apply\n"
    )
    with started(tmp_path / "q", before=before) as daemon:
        status, answer = daemon.call("/v1/enqueue", {"entries": [{}]})
        assert (status, answer["code"]) == (503, "commit_unknown")
        assert daemon.process.wait(SECONDS) == 74


HOLD = """
import sys, lmdb
env = lmdb.open(sys.argv[1], max_dbs=64, lib_version=0, map_size=1 << 30)
with env.begin(write=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_health_is_answered_while_another_process_holds_the_file(tmp_path: Path):
    with started(tmp_path / "q") as daemon:
        daemon.call("/v1/enqueue", {"entries": [{}]})
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "q")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"

            async def scenario() -> None:
                pending = asyncio.ensure_future(asyncio.to_thread(daemon.call, "/v1/enqueue", {"entries": [{}]}))
                while not (await asyncio.to_thread(daemon.call, "/v1/info"))[1]["engine"]["pending_calls"]:
                    await asyncio.sleep(0)
                for _ in range(20):
                    assert (await asyncio.to_thread(daemon.call, "/livez"))[0] == 200
                assert not pending.done()  # an answer that waits for the lock would never have come
                holder.communicate()
                assert (await pending)[0] == 200

            asyncio.run(scenario())
        assert daemon.end() == 0
    checked(tmp_path / "q")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_given_wins_over_the_environment_and_that_over_the_default():
    environ = {
        "LMDBQ_LISTEN": "127.0.0.1:1",
        "LMDBQ_MAX_SIZE": "16MiB",
        "HOME": "/home/u",
        "LMDBQ_STRICT_QUEUES": "true",
    }
    settings = load({"listen": "127.0.0.1:2", "durability": None, "allow_hosts": ()}, environ)
    assert settings.listen == "127.0.0.1:2"
    assert (settings.max_size, settings.strict_queues, settings.durability) == (16 * 2**20, True, "full")
    assert settings.data == Path("/home/u/.local/state/lmdbq")


@pytest.mark.parametrize(("text", "means"), [("true", True), ("False", False), ("1", True), ("0", False)])
def test_what_is_either_so_or_not_is_said_in_these_words(text: str, means: bool):
    assert load({}, {"LMDBQ_ANY_CORE": text, "HOME": "/home/u"}).any_core is means
    with pytest.raises(InvalidInput, match=r"LMDBQ_ANY_CORE.*: it is true or false"):
        load({}, {"LMDBQ_ANY_CORE": f"{text}?", "HOME": "/home/u"})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/state/lmdbq"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/lmdbq"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/lmdbq"),
        ({"HOME": "/h", "STATE_DIRECTORY": "/var/lib/lmdbq:/other"}, "/var/lib/lmdbq"),
    ],
)
def test_where_data_is_kept(environ: dict[str, str], expected: str):
    assert state_directory(environ) == Path(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LMDBQ_DURABILITY", "none"),
        ("LMDBQ_AUTH", "basic"),
        ("LMDBQ_MAX_SIZE", "big"),
        ("LMDBQ_GRACE", "soon"),
        ("LMDBQ_IDEMPOTENCY_KEPT", "0"),
        ("LMDBQ_IDEMPOTENCY_KEPT", "nan"),
        ("LMDBQ_STRICT_QUEUES", "perhaps"),
        ("LMDBQ_MAX_SIZE", "7MiB"),
    ],
)
def test_wrong_settings_are_named(name: str, value: str):
    with pytest.raises(InvalidInput) as refused:
        load({}, {name: value, "HOME": "/h"})
    assert refused.value.problems[0].code == "bad_setting"


@pytest.mark.parametrize("text", ["", "x", "5X", "-1", "1.5G", "MiB"])
def test_wrong_sizes(text: str):
    with pytest.raises(ValueError, match="a size is"):
        read_bytes(text)


def test_a_token_is_not_shown():
    rows = {row.name: value for row, value in shown(Settings(token="very-secret", data=Path("/d")))}
    assert rows["token"] == "(set)"
    assert rows["data"] == "/d"
