"""Backup, restore, compact: copies are whole, nothing is overwritten, nobody opens a file that is being replaced."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import lmdbq
from lmdbq.cli.exits import Exit
from lmdbq.cli.main import cli
from lmdbq.errors import CorruptFile, InUse, NotEmpty, NotOurFile, StoreError, StoreFull
from lmdbq.store import copies
from lmdbq.store.copies import COMPACT_NAME, PART_SUFFIX, backup, compact, new_backup, restore
from lmdbq.store.dump import dump_lines
from lmdbq.store.lmdb import open_store
from tests.fake_daemon import FakeDaemon, answer
from tests.real_daemon import RealDaemon

FILLER = "x" * 2_000


def quiet(done: int) -> None:
    """Hear how far a copy is, and say nothing."""


def filled(directory: Path, count: int = 300) -> Path:
    """Return a directory with tasks in several states, and room that was given back."""
    with lmdbq.Client(directory) as client:
        jobs = client.enqueue_many([lmdbq.Entry("fill", {"filler": FILLER, "n": n}) for n in range(count)])
        client.enqueue(lmdbq.Entry("later", delay=3600, dedupe="once"))
        for lease in client.dequeue("default", limit=count // 2):
            lease.succeed()
        for job in jobs[-count // 4 :]:
            job.delete()
        client.dequeue("default", limit=3)
    return directory


def lines(directory: Path) -> list[str]:
    return list(dump_lines(directory))


def verified(directory: Path) -> None:
    store = open_store(directory)
    assert store.check() == []
    store.close()


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_backup_put_back_is_the_same_queue(tmp_path: Path):
    origin = filled(tmp_path / "q")
    said = json.loads(run("backup", "--json", tmp_path / "copy", origin).stdout)
    assert said["bytes"] == (tmp_path / "copy").stat().st_size < (origin / "data.mdb").stat().st_size
    assert run("restore", tmp_path / "copy", tmp_path / "back").exit_code == Exit.OK
    assert lines(tmp_path / "back") == lines(origin)
    verified(tmp_path / "back")
    with lmdbq.Client(tmp_path / "back") as client:
        client.enqueue(lmdbq.Entry("more"))
        assert client.enqueue(lmdbq.Entry("later", dedupe="once")).deduped
    verified(tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "copy", "q"]


def test_a_backup_beside_a_daemon_has_all_that_was_accepted_before_it(tmp_path: Path):
    with RealDaemon(tmp_path) as daemon, lmdbq.Client(daemon.where) as client:
        known = {job.id for job in client.enqueue_many([lmdbq.Entry("fill", {"f": FILLER}) for _ in range(500)])}

        def enqueue_more(done: int) -> None:
            client.enqueue(lmdbq.Entry("meanwhile"))

        backup(daemon.data, tmp_path / "copy", enqueue_more)
        assert client.tasks(type="meanwhile").count() >= 1
    restore(tmp_path / "copy", tmp_path / "back", quiet)
    with lmdbq.Client(tmp_path / "back") as client:
        assert {info.id for info in client.tasks()} == known  # and nothing that came after its moment
    verified(tmp_path / "back")


def test_nothing_is_overwritten(tmp_path: Path):
    origin = filled(tmp_path / "q", 10)
    (tmp_path / "copy").write_text("mine")
    refused = run("backup", tmp_path / "copy", origin)
    assert (refused.exit_code, (tmp_path / "copy").read_text()) == (Exit.CONFLICT, "mine")
    assert "name a new file" in refused.stderr
    backup(origin, tmp_path / "good", quiet)
    before = lines(origin)
    refused = run("restore", tmp_path / "good", origin)
    assert (refused.exit_code, lines(origin)) == (Exit.CONFLICT, before)
    assert "is not empty" in refused.stderr
    with pytest.raises(NotEmpty):
        restore(tmp_path / "good", tmp_path / "copy", quiet)
    (tmp_path / "empty").mkdir()
    restore(tmp_path / "good", tmp_path / "empty", quiet)
    assert lines(tmp_path / "empty") == before


@pytest.mark.parametrize("damage", ["text", "half", "a byte"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(tmp_path: Path, damage: str):
    origin = filled(tmp_path / "q")
    backup(origin, tmp_path / "copy", quiet)
    whole = (tmp_path / "copy").read_bytes()
    at = whole.index(b'{"filler":"xxxx') + 20
    broken = {"text": b"no queue", "half": whole[: len(whole) // 2], "a byte": whole[:at] + b"y" + whole[at + 1 :]}
    (tmp_path / "copy").write_bytes(broken[damage])
    with pytest.raises(StoreError):
        restore(tmp_path / "copy", tmp_path / "back", quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "q"]


def test_no_check_is_for_who_knows(tmp_path: Path):
    origin = filled(tmp_path / "q")
    backup(origin, tmp_path / "copy", quiet)
    whole = (tmp_path / "copy").read_bytes()
    at = whole.index(b'{"filler":"xxxx') + 20
    (tmp_path / "copy").write_bytes(whole[:at] + b"y" + whole[at + 1 :])
    with pytest.raises(CorruptFile, match="backup is damaged"):
        restore(tmp_path / "copy", tmp_path / "back", quiet)
    assert run("restore", "--no-check", tmp_path / "copy", tmp_path / "back").exit_code == Exit.OK


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path):
    origin = filled(tmp_path / "q")

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(origin, tmp_path / "copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compact(origin, interrupt)
    backup(origin, tmp_path / "copy", quiet)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "copy", tmp_path / "back", interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "q"]
    assert not list(origin.glob(f"*{COMPACT_NAME}*"))
    verified(origin)


def test_what_cannot_be_tidied_up_neither_spoils_a_backup_nor_hides_why_one_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The disk fails where the name of the part is to go: behind a whole copy, and one that could not be synced."""

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    origin = filled(tmp_path / "q")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing)
        backup(origin, tmp_path / "copy", quiet)
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StoreFull, match="second could not be written"):
            backup(origin, tmp_path / "second", quiet)
    restore(tmp_path / "copy", tmp_path / "back", quiet)
    assert lines(tmp_path / "back") == lines(origin)
    verified(tmp_path / "back")


def test_compacting_gives_room_back_and_changes_nothing_else(tmp_path: Path):
    origin = filled(tmp_path / "q")
    before, size = lines(origin), (origin / "data.mdb").stat().st_size
    (origin / (COMPACT_NAME + PART_SUFFIX)).write_text("left by one that was killed")
    said = json.loads(run("compact", "--json", origin).stdout)
    assert said["bytes_before"] == size
    assert said["bytes"] == (origin / "data.mdb").stat().st_size < size
    assert lines(origin) == before
    with lmdbq.Client(origin) as client:
        assert client.enqueue(lmdbq.Entry("more")).info().state == "ready"
    verified(origin)
    assert not list(origin.glob(f"{COMPACT_NAME}*"))


def test_a_file_in_use_is_not_compacted(tmp_path: Path):
    with RealDaemon(tmp_path) as daemon:
        served = run("compact", daemon.data)
        assert served.exit_code == Exit.CONFLICT
        assert "already served by process" in served.stderr
    origin = filled(tmp_path / "q", 10)
    inode = (origin / "data.mdb").stat().st_ino
    with lmdbq.Client(origin) as client:
        client.enqueue(lmdbq.Entry("open"))
        with pytest.raises(InUse, match="this process"):
            compact(origin, quiet)
        elsewhere = subprocess.run(
            [sys.executable, "-m", "lmdbq.cli", "compact", str(origin)], capture_output=True, text=True, check=False
        )
        assert elsewhere.returncode == Exit.CONFLICT
        assert "another process has" in elsewhere.stderr
        assert "stop the daemon" in elsewhere.stderr
    assert (origin / "data.mdb").stat().st_ino == inode
    verified(origin)


OPENER = """
import sys, lmdb
env = lmdb.open(sys.argv[1], max_dbs=128, create=False, lib_version=0)
tasks = env.open_db(b"lmdbq/task", create=False)
with env.begin() as txn:
    print(txn.stat(tasks)["entries"], flush=True)
if sys.stdin.read():  # it stays open, so that the other one cannot be the first, either
    with env.begin(write=True) as txn:
        txn.put(b"own", b"record")
"""


class Died(BaseException):
    """The process ended."""


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("dies", [False, True])
def test_who_opens_the_file_meanwhile_waits_and_gets_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool, parity: int
):
    """Two at once, and no clients of ours, which open it twice: none of them makes the lock file fit the new file.

    Not even the one that compacts, if it dies when the new file has its name. LMDB looks for an even transaction where
    a copy has nothing.
    """
    origin = filled(tmp_path / "q")
    with lmdbq.Client(origin) as client, closing(open_store(origin)) as store:
        while store.changed() % 2 != parity:
            client.enqueue(lmdbq.Entry("fill"))
    count = len([line for line in lines(origin) if line.startswith("lmdbq/task ")])
    openers: list[subprocess.Popen[str]] = []

    def start(done: int) -> None:
        if not openers:
            command = [sys.executable, "-c", OPENER, str(origin)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            openers.extend(subprocess.Popen(command, text=True, **pipes) for _ in range(2))
            await_all_wait(openers)

    def die(_: Path) -> None:
        raise Died

    if dies:
        monkeypatch.setattr(copies, "_open_once", die)
    errors: list[str] = []
    try:
        with pytest.raises(Died) if dies else nullcontext():
            compact(origin, start)
        seen = [opener.stdout.readline() for opener in openers if opener.stdout]
    finally:
        for opener in openers:
            errors.append(opener.communicate("" if errors else "write", timeout=60)[1])
    assert errors == ["", ""]
    assert [int(number) for number in seen] == [count, count]
    verified(origin)


TWICE = """
import sys
from pathlib import Path
from lmdbq.store.environment import is_open_here
from lmdbq.store.lmdb import open_store
first, second = open_store(sys.argv[1]), open_store(sys.argv[1])
print(first.info().last_id == second.info().last_id, is_open_here(Path(sys.argv[1])))
"""


def test_who_waits_knows_which_file_it_has_open(tmp_path: Path):
    origin = filled(tmp_path / "q")
    openers: list[subprocess.Popen[str]] = []

    def start(done: int) -> None:
        if not openers:
            command = [sys.executable, "-c", TWICE, str(origin)]
            openers.append(subprocess.Popen(command, text=True, stdout=subprocess.PIPE))
            await_all_wait(openers)

    compact(origin, start)
    assert openers[0].communicate(timeout=60)[0] == "True True\n"
    verified(origin)


def await_all_wait(openers: list[subprocess.Popen[str]]) -> None:
    while not all(waits_for_a_lock(opener.pid) for opener in openers):
        assert all(opener.poll() is None for opener in openers)
        os.sched_yield()


def waits_for_a_lock(pid: int) -> bool:
    waiting = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line)
    return any(words[5] == str(pid) for words in waiting)


def test_a_daemon_sends_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with RealDaemon(tmp_path) as daemon, lmdbq.Client(daemon.where) as client:
        known = {job.id for job in client.enqueue_many([lmdbq.Entry("fill", {"f": FILLER}) for _ in range(500)])}
        said = json.loads(run("backup", "--json", "--at", daemon.where, tmp_path / "copy").stdout)
        assert said == {"daemon": daemon.where, "file": str(tmp_path / "copy"), "bytes": said["bytes"]}
        assert said["bytes"] == (tmp_path / "copy").stat().st_size > 500 * len(FILLER)
        assert run("backup", "--at", daemon.where, tmp_path / "copy").exit_code == Exit.CONFLICT
        assert not [path for path in daemon.data.iterdir() if path.name.startswith("tmp")]
        monkeypatch.setenv("LMDBQ_URL", daemon.where)
        assert run("backup", tmp_path / "second").exit_code == Exit.OK
    assert run("restore", tmp_path / "copy", tmp_path / "back").exit_code == Exit.OK
    with lmdbq.Client(tmp_path / "back") as client:
        assert {info.id for info in client.tasks()} == known
    verified(tmp_path / "back")


def test_a_backup_that_breaks_off_or_is_refused_leaves_nothing(tmp_path: Path):
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 500)
        handler.close_connection = True

    problem = {"type": "x", "title": "t", "status": 507, "code": "full", "detail": "no room", "request_id": "r"}
    with FakeDaemon() as daemon:
        daemon.script = [half, answer(507, problem)]
        broken = run("backup", "--at", daemon.where, tmp_path / "copy")
        refused = run("backup", "--at", daemon.where, tmp_path / "copy")
        assert (daemon.next().path, daemon.next().method) == ("/v1/backup", "POST")
    assert (broken.exit_code, refused.exit_code) == (Exit.UNREACHABLE, Exit.FAILED)
    assert "no room" in refused.stderr
    assert run("backup", "--at", "http://127.0.0.1:1", tmp_path / "copy").exit_code == Exit.UNREACHABLE
    assert list(tmp_path.iterdir()) == []


def test_a_backup_whose_file_cannot_be_closed_has_failed_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(fd: int) -> None:
        close(fd)
        raise OSError(errno.EIO, "what was written is lost")

    close = os.close
    with pytest.raises(NotOurFile, match="what was written is lost"), new_backup(tmp_path / "copy") as write:
        write(b"x")
        monkeypatch.setattr(os, "close", refuse)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
