"""A file comes into being whole or not at all, is opened by whoever may, and refused, untouched, to all others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from lmdbq.clock import ManualClock
from lmdbq.errors import FormatUnknown, NotCommitted, NotOurFile, StoreClosed, StoreFull
from lmdbq.store import creation, environment, network
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb import LmdbStore, open_store
from tests.crashes import MARK, await_line, go, kill_at, moments, no_child_is_left, start  # noqa: F401
from tests.store_driver import Driver, entry

CREATE = f"""
import sys
from pathlib import Path
from lmdbq.store.environment import open_environment
{MARK}
open_environment(Path(sys.argv[1]), max_bytes=0, metasync=True).release()
"""


def use(directory: Path) -> None:
    """Use a store as anybody would, and find it whole."""
    store = open_store(directory)
    q = Driver(store, ManualClock())
    task_id = q.add(queue="use")
    assert q.take("use").id == task_id
    assert store.check() == []
    store.close()
    assert not (directory / creation.FRESH_NAME).exists()


# --- crashes and races ---


def test_a_creator_killed_after_any_of_its_system_calls_leaves_none_or_a_whole_file(tmp_path: Path):
    kills = moments(CREATE, tmp_path / "first" / "q")
    assert {"mkdir", "pwrite64", "fdatasync", "fsync", "link", "unlink", "flock"} <= {moment.call for moment in kills}
    assert len(kills) > 30
    for number, moment in enumerate(kills):
        directory = tmp_path / f"at-{number}" / "q"
        kill_at(moment, CREATE, directory)
        if (directory / "data.mdb").exists():
            with lmdb.open(str(directory), max_dbs=20, lib_version=0) as env, env.begin() as txn:
                assert txn.stat(env.open_db(b"lmdbq/catalog", txn=txn, create=False))["entries"], moment
        use(directory)


def test_two_processes_create_at_the_same_time(tmp_path: Path):
    for number in range(5):
        directory = tmp_path / str(number)
        creators = [start(CREATE, directory) for _ in range(3)]
        for creator in creators:
            await_line(creator, "ready")
        for creator in creators:
            go(creator)
        for creator in creators:
            assert creator.communicate()[1] == ""
            assert creator.returncode == 0
        assert (directory / "data.mdb").stat().st_nlink == 1
        use(directory)


def test_what_a_creator_left_behind_is_removed(tmp_path: Path):
    (tmp_path / creation.FRESH_NAME).write_bytes(b"half of a file")
    use(tmp_path)
    os.link(tmp_path / "data.mdb", tmp_path / creation.FRESH_NAME)  # killed between link and unlink
    use(tmp_path)
    assert (tmp_path / "data.mdb").stat().st_nlink == 1


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    use(tmp_path / "q")


# --- somebody else's file, and files that are none ---


def test_an_environment_with_records_of_its_own_takes_ours_beside_them(tmp_path: Path):
    with lmdb.open(str(tmp_path), max_dbs=4, lib_version=0) as env:
        orders = env.open_db(b"orders")
        with env.begin(write=True) as txn:
            txn.put(b"o1", b"a book", db=orders)
            txn.put(b"plain", b"in the main database")
    use(tmp_path)
    with lmdb.open(str(tmp_path), max_dbs=40, lib_version=0) as env:
        orders = env.open_db(b"orders", create=False)
        with env.begin() as txn:
            assert list(txn.cursor(db=orders)) == [(b"o1", b"a book")]
            names = [key for key, _ in txn.cursor()]
    ours = [ks.PREFIX + name.encode() for name in ks.DATABASES]
    assert names == sorted([b"orders", b"plain", *ours])


EXCLUSIVE = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        print("held")
"""


def test_a_program_keeps_the_locks_of_an_environment_that_it_opened_itself(tmp_path: Path):
    """Without them the next process would take the lock file for nobody's, and make it anew under our feet."""
    with lmdb.open(str(tmp_path), max_dbs=8, lib_version=0):
        with pytest.raises(NotOurFile, match="one file has one environment"):
            open_store(tmp_path).info()
        command = [sys.executable, "-c", EXCLUSIVE, str(tmp_path / "lock.mdb")]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"
    use(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a database", bytes(range(256)) * 160], ids=["empty", "text", "noise"])
def test_a_data_file_that_is_none_is_refused_and_left_alone(tmp_path: Path, content: bytes):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(NotOurFile):
        open_store(tmp_path).info()
    assert (tmp_path / "data.mdb").read_bytes() == content


def test_a_place_where_no_directory_can_be_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotOurFile, match="file"):
        open_store(tmp_path / "file" / "q").info()
    with pytest.raises(NotOurFile):
        open_store(tmp_path / "file").info()


def test_a_directory_without_room_is_a_full_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_room(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(environment, "create_missing", no_room)
    with pytest.raises(StoreFull, match="No space left"):
        open_store(tmp_path).info()


def with_meta(directory: Path, meta: rec.Meta) -> bytes:
    """Make a store whose file says of itself what ``meta`` says; return its bytes."""
    store = open_store(directory)
    Driver(store, ManualClock()).add()
    store.close()
    with lmdb.open(str(directory), max_dbs=20, lib_version=0) as env:
        catalog = env.open_db(b"lmdbq/catalog", create=False)
        with env.begin(write=True, db=catalog) as txn:
            txn.put(ks.meta(), rec.write_map(meta))
    return (directory / "data.mdb").read_bytes()


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        (rec.Meta(rec.FORMAT + 1, creation.ENGINE, 0), f"has format {rec.FORMAT + 1}"),
        (rec.Meta(rec.FORMAT, "1.0.2", 0), "written by LMDB 1.0.2"),
    ],
)
def test_an_unknown_format_or_engine_is_refused_and_left_alone(tmp_path: Path, meta: rec.Meta, says: str):
    before = with_meta(tmp_path, meta)
    for _ in range(2):
        with pytest.raises(FormatUnknown, match=says) as caught:
            open_store(tmp_path).info()
        assert "was not touched" in caught.value.detail
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_a_process_that_has_the_file_open_while_a_newer_version_raises_its_format_writes_no_more(tmp_path: Path):
    store = open_store(tmp_path)
    q = Driver(store, ManualClock())
    q.enqueue(entry())
    assert store._shared is not None
    env = store._shared.env
    catalog = env.open_db(b"lmdbq/catalog", create=False)
    with env.begin(write=True, db=catalog) as txn:
        facts = rec.read_meta(txn.get(ks.meta()))
        facts.format += 1
        txn.put(ks.meta(), rec.write_map(facts))
    with pytest.raises(NotCommitted, match="raised to format 3 by a newer lmdbq"):
        q.enqueue(entry())
    assert len(q.all_tasks()) == 1
    store.close()


def test_a_newer_format_without_our_databases_is_told_by_its_number(tmp_path: Path):
    meta = rec.Meta(rec.FORMAT + 1, creation.ENGINE, 0)
    with lmdb.open(str(tmp_path), max_dbs=20, lib_version=0) as env:
        catalog = env.open_db(b"lmdbq/catalog")
        with env.begin(write=True, db=catalog) as txn:
            txn.put(ks.meta(), rec.write_map(meta))
    with pytest.raises(FormatUnknown, match="has format"):
        open_store(tmp_path).info()


def test_a_file_of_lmdb_1_is_refused_and_left_alone(tmp_path: Path):
    with lmdb.open(str(tmp_path), max_dbs=4, lib_version=1) as env, env.begin(write=True) as txn:
        txn.put(b"k", b"v")
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(FormatUnknown, match="another LMDB engine"):
        open_store(tmp_path).info()
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_damaged_facts_are_refused(tmp_path: Path):
    with_meta(tmp_path, rec.Meta(rec.FORMAT, creation.ENGINE, 0))
    with lmdb.open(str(tmp_path), max_dbs=20, lib_version=0) as env:
        catalog = env.open_db(b"lmdbq/catalog", create=False)
        with env.begin(write=True, db=catalog) as txn:
            txn.put(ks.meta(), b"\x80 and a wrong checksum")
    with pytest.raises(FormatUnknown, match="restore a backup"):
        open_store(tmp_path).info()


# --- network file systems ---


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    mounts = tmp_path / "mounts"
    place = tmp_path / "far away"
    shown = str(place).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {shown} {kind} rw 0 0\ntmpfs {shown}/near tmpfs rw 0 0\n")
    monkeypatch.setattr(network, "MOUNTS", mounts)
    with pytest.raises(NotOurFile, match=f"network file system .{kind}"):
        open_store(place / "q").info()
    assert not place.exists()
    use(place / "near" / "q")  # what is mounted upon it counts
    use(tmp_path / "far away too")  # a name that only begins alike


# --- one environment per process and file ---


def test_the_same_directory_opened_twice_is_one_environment(tmp_path: Path):
    first, second = open_store(tmp_path / "q"), open_store(tmp_path / "q" / ".." / "q")
    one, two = Driver(first, ManualClock()), Driver(second, ManualClock())
    task_id = one.add()
    assert two.take().id == task_id
    assert first._environment() is second._environment()
    first.close()
    first.close()
    assert two.add()
    with pytest.raises(StoreClosed):
        one.add()
    with pytest.raises(StoreClosed):
        first.info()
    assert second.check() == []
    second.close()
    use(tmp_path / "q")


def test_two_stores_of_one_file_share_its_lease_extensions(tmp_path: Path):
    clock = ManualClock()
    first, second = Driver(open_store(tmp_path), clock), Driver(open_store(tmp_path), clock)
    first.add()
    task = first.take()
    first.extend(task, keepalive_ns=900 * 10**9)
    assert second.task(task.id).lease_expires_at == clock.wall_ns() + 900 * 10**9
    second.extend(task, keepalive_ns=1_000 * 10**9)
    assert first.task(task.id).lease_expires_at == clock.wall_ns() + 1_000 * 10**9
    first.store.close()
    second.extend(task, keepalive_ns=1_100 * 10**9)
    assert second.store.check() == []
    second.store.close()


def test_opening_from_many_threads_opens_once(tmp_path: Path):
    store = open_store(tmp_path)
    found: list[environment.Environment] = []
    start = threading.Barrier(8)

    def look() -> None:
        start.wait()
        found.append(store._environment())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert store.check() == []
    store.close()
    assert (found[0].directory / "data.mdb").stat().st_size  # closed once is closed: nobody else holds it
    with pytest.raises(StoreClosed):
        found[0].use()


def test_a_store_that_was_closed_before_it_was_opened_stays_closed(tmp_path: Path):
    store = open_store(tmp_path / "q")
    store.close()
    with pytest.raises(StoreClosed):
        store.info()
    assert not (tmp_path / "q").exists()


# --- forks ---


def in_child(run: object) -> str:
    """Fork, and return what ``run()`` says there."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = run()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001  the child must not go on as if it were the test
            said = f"{type(error).__name__}: {error}"
        os.write(write_fd, str(said).encode())
        os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_must_open_its_own(tmp_path: Path):
    store = open_store(tmp_path)
    q = Driver(store, ManualClock())
    q.add()

    def reads() -> object:
        return store.info()

    def writes() -> object:
        return q.add()

    def closes_and_opens() -> object:
        store.close()
        mine = open_store(tmp_path)
        number = Driver(mine, ManualClock()).add(payload=b'"of the child"')
        assert mine.check() == []
        mine.close()
        return number

    assert in_child(reads).startswith("StoreClosed: this store was opened before a fork")
    assert in_child(writes).startswith("StoreClosed")
    number = int(in_child(closes_and_opens))
    assert in_child(lambda: sys.exit(0)) == "SystemExit: 0"
    assert q.task(number).payload == b'"of the child"'
    assert len(q.claim_ids()) == 2
    assert store.check() == []
    store.close()


# --- readers that were killed ---


HOLD = """
import lmdb, sys
env = lmdb.open(sys.argv[1], lib_version=0)
txn = env.begin()
print("reading", flush=True)
sys.stdin.read()
"""


def test_the_slot_of_a_killed_reader_is_cleared_at_the_next_opening(tmp_path: Path):
    use(tmp_path)
    killed, other = start(HOLD, tmp_path), start(HOLD, tmp_path)  # the other keeps the lock file from being begun anew
    await_line(killed, "reading")
    await_line(other, "reading")
    killed.kill()
    killed.communicate()
    store: LmdbStore = open_store(tmp_path)
    readers = store._environment().env.readers()
    assert str(other.pid) in readers
    assert str(killed.pid) not in readers
    assert store.check() == []
    store.close()
    other.communicate("")


CONTAINED = """
import os, sys
from lmdbq.errors import NotOurFile
from lmdbq.store.lmdb import open_store
assert os.getpid() == 1
try:
    open_store(sys.argv[1]).info()
    print("open", flush=True)
    sys.stdin.readline()
except NotOurFile as error:
    print(error.detail)
"""
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")


def test_two_containers_on_one_volume_are_told_why_they_cannot(tmp_path: Path):
    """Both are process 1, and LMDB tells its readers apart by that number alone."""
    first = start(CONTAINED, tmp_path, under=CONTAINER)
    await_line(first, "open")
    second = start(CONTAINED, tmp_path, under=CONTAINER)
    assert "Share the daemon's address instead of the file" in second.communicate()[0]
    first.kill()
    first.communicate()
    third = start(CONTAINED, tmp_path, under=CONTAINER)  # what the first has left behind does not stand in its way
    await_line(third, "open")
    third.communicate("go\n")
    use(tmp_path)
