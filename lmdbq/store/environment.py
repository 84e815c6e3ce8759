"""Opening, creating and sharing the LMDB environment of a data directory.

A data directory holds ``data.mdb`` and LMDB's ``lock.mdb``; ``leases-<boot_no>`` (see ``side``); ``daemon.lock`` and
``timers.lock``; and an empty file ``verified``, renamed to ``verify-first`` when a commit failed in the middle, so that
the next opener checks the whole file before it uses it.

Creating an LMDB file is not atomic, and what a crash leaves in the middle of it no version can open. So a new file is
made under another name, committed, synced, and only then linked to its own; a directory lock keeps two creators apart.

The traps this module is for: one environment per process and file (LMDB's own rule: a second open would drop the first
one's locks), so they are shared by (device, inode) and counted; a forked child must not use its parent's, so the pid is
compared on every call; a killed process with our own pid in another container may have left a reader slot that only an
open and close from this pid clears; a network file system breaks LMDB's locks, and is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from lmdbq import limits
from lmdbq.errors import FormatUnknown, NotOurFile, StoreClosed
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec

DATA_NAME: Final = "data.mdb"
VERIFIED_NAME: Final = "verified"
VERIFY_FIRST_NAME: Final = "verify-first"
MAX_DATABASES: Final = 128  # ours, and room for those of a user who shares the file
MAX_READERS: Final = 512
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.glusterfs"}
)

ENGINE: Final = ".".join(str(part) for part in lmdb.version())

_shared: dict[tuple[int, int], Environment] = {}
_shared_lock = threading.Lock()


class Environment:
    """An open LMDB environment and its databases, shared by every store of this process on the same file."""

    def __init__(self, directory: Path, env: lmdb.Environment, key: tuple[int, int]) -> None:
        self.directory = directory
        self.data_path = directory / DATA_NAME
        self.env = env
        self.databases: dict[str, lmdb._Database] = {}
        self.failed: str | None = None  # set once a commit failed: nothing more is written by this process
        self.write_lock = threading.Lock()  # LMDB's own lock is per process; threads queue here
        self.data_fd = os.open(self.data_path, os.O_RDWR | os.O_CLOEXEC)
        self._idle = threading.Condition()
        self._reads = 0
        self._key = key
        self._users = 1
        self._pid = os.getpid()

    def use(self) -> lmdb.Environment:
        """Return the environment for a call. Raises StoreClosed after close, and in a forked child."""
        if os.getpid() != self._pid:
            raise StoreClosed("this store was opened before a fork: open it again in the child")
        if not self._users:
            raise StoreClosed("this store is closed: open it again")
        return self.env

    @contextlib.contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction. The map is not resized while one is open."""
        env = self.use()
        with self._idle:
            self._reads += 1
        try:
            with env.begin() as txn:
                yield txn
        finally:
            with self._idle:
                self._reads -= 1
                if not self._reads:
                    self._idle.notify_all()

    def resize_map(self, map_bytes: int) -> None:
        """Set the size of the map (0: that of the file) once no transaction of this process is open."""
        with self._idle:
            while self._reads:
                self._idle.wait()
            self.env.set_mapsize(map_bytes)

    def mark_failed(self, detail: str) -> None:
        """Remember that a commit failed: write nothing more, and let the next opener verify the file."""
        self.failed = detail
        with contextlib.suppress(OSError):  # best effort: the disk may be the very thing that failed
            (self.directory / VERIFIED_NAME).rename(self.directory / VERIFY_FIRST_NAME)

    def release(self) -> None:
        """Give up one use; the last one closes the file."""
        with _shared_lock:
            self._users -= 1
            if self._users:
                return
            _shared.pop(self._key, None)
            if os.getpid() == self._pid:
                self.env.close()
                os.close(self.data_fd)

    def _again(self) -> Environment:
        self._users += 1
        return self


def open_environment(directory: Path, *, max_bytes: int, metasync: bool) -> Environment:
    """Open (and if needed create) the environment of ``directory``; share it if this process has it open already.

    Raises NotOurFile, FormatUnknown.
    """
    _refuse_network(directory)
    _create_missing(directory)
    with _shared_lock:
        facts = (directory / DATA_NAME).stat()
        key = (facts.st_dev, facts.st_ino)
        known = _shared.get(key)
        if known is not None and known._pid == os.getpid():
            return known._again()
        map_bytes = max_bytes or limits.MAP_BYTES_DEFAULT
        # Opening, reading and closing clears a reader slot that a killed process with our pid left in the lock file.
        with _opened(directory, map_bytes, metasync) as env, env.begin():
            pass
        env = _open(directory, map_bytes, metasync)
        try:
            shared = Environment(directory, env, key)
            _adopt(shared)
        except BaseException:
            env.close()
            raise
        _shared[key] = shared
        return shared


@contextlib.contextmanager
def _opened(directory: Path, map_bytes: int, metasync: bool) -> Iterator[lmdb.Environment]:
    env = _open(directory, map_bytes, metasync)
    try:
        yield env
    finally:
        env.close()


def _open(directory: Path, map_bytes: int, metasync: bool) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(directory),
            map_size=map_bytes,
            metasync=metasync,
            max_dbs=MAX_DATABASES,
            max_readers=MAX_READERS,
            max_spare_txns=8,
            create=False,
            lib_version=0,
        )
    except lmdb.LockError as error:
        raise NotOurFile(
            f"{directory} cannot be locked ({error}): another container seems to use it without sharing our process "
            "numbers. Share the daemon's address instead of the file, or run both with a shared PID namespace"
        ) from error
    except lmdb.VersionMismatchError as error:
        raise FormatUnknown(
            f"{directory / DATA_NAME} was written by another LMDB engine than {ENGINE}: open it with the lmdbq and "
            "lmdb versions that wrote it, `lmdbq dump` it there, or restore a backup made for this engine"
        ) from error
    except lmdb.Error as error:
        raise NotOurFile(f"{directory / DATA_NAME} is no LMDB file that can be opened here ({error})") from error


def _refuse_network(directory: Path) -> None:
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():  # not Linux: nothing to ask
        return
    target = os.path.realpath(directory)
    best, kind = "", ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, mount, found, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    if kind in NETWORK_FILE_SYSTEMS:
        raise NotOurFile(f"{directory} is on a network file system ({kind}), where locks do not hold: use a local disk")


def _create_missing(directory: Path) -> None:
    """Make the directory and an empty store in it, unless there is one; a crash leaves none or a whole one."""
    data = directory / DATA_NAME
    if data.exists():
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if not data.exists():
            fresh = directory / f"{DATA_NAME}.tmp"
            fresh.unlink(missing_ok=True)
            _write_fresh(fresh)
            (directory / VERIFIED_NAME).touch()
            try:
                os.link(fresh, data)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                fresh.rename(data)  # a file system without hard links; the directory lock keeps others away
            fresh.unlink(missing_ok=True)
            os.fsync(fd)
    finally:
        os.close(fd)


def _write_fresh(path: Path) -> None:
    env = lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 24, max_dbs=MAX_DATABASES, lib_version=0)
    try:
        with env.begin(write=True) as txn:
            _write_databases(env, txn)
    finally:
        env.close()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_databases(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
    handles = {name: env.open_db(ks.PREFIX + name.encode(), txn=txn) for name in ks.DATABASES}
    facts = rec.Meta(format=rec.FORMAT, engine=ENGINE, created_at=0)
    txn.put(ks.meta(), rec.write_map(facts), db=handles["catalog"])
    txn.put(ks.SEQUENCE, rec.write_sequence(rec.LastNumbers()), db=handles["count"])


def _adopt(shared: Environment) -> None:
    """Open our databases, making them in a file that has none of ours yet, and refuse a format we do not know."""
    env = shared.env
    with env.begin(write=True) as txn:  # handles opened in a read transaction would end with it
        if txn.get(ks.PREFIX + b"catalog") is None:  # somebody's environment, to hold tasks beside its own records
            _write_databases(env, txn)
        for name in ks.DATABASES:
            shared.databases[name] = env.open_db(ks.PREFIX + name.encode(), txn=txn, create=False)
        _check_format(shared.data_path, txn.get(ks.meta(), db=shared.databases["catalog"]))


def _check_format(path: Path, value: Any) -> None:
    try:
        facts = rec.read_meta(value or b"")
    except (rec.Damaged, ValueError) as error:
        raise FormatUnknown(f"{path}: its own facts cannot be read ({error}); restore a backup") from error
    if facts.format != rec.FORMAT:
        raise FormatUnknown(
            f"{path} has format {facts.format}; this version reads format {rec.FORMAT}. "
            "Use the lmdbq that wrote it, or a newer one; the file was not touched"
        )
    if facts.engine.split(".")[:2] != ENGINE.split(".")[:2]:
        raise FormatUnknown(
            f"{path} was written by LMDB {facts.engine}; this is {ENGINE}, which cannot read it. "
            "Use the lmdb package that wrote it; the file was not touched"
        )
