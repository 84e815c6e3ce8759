"""Opening and sharing the LMDB environment of a data directory.

A data directory holds ``data.mdb`` and LMDB's ``lock.mdb``; ``leases-<boot_no>`` (see ``side``); ``daemon.lock`` and
``timers.lock``; and an empty file ``verified``, renamed to ``verify-first`` when a commit failed in the middle, so that
the next opener checks the whole file before it uses it. ``creation`` makes what is missing.

The traps this module is for: one environment per process and file (LMDB's own rule: a second open would drop the first
one's locks), so they are shared by (device, inode) and counted; a forked child must not use its parent's, so the pid is
compared on every call, and the child opens its own; a killed process with our own pid in another container may have
left a reader slot that only an open and close from this pid clears; a network file system breaks LMDB's locks, and is
refused; and a file whose commit has failed is not written again by this process, whoever opens it anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb

from lmdbq import limits
from lmdbq.errors import CorruptFile, FormatUnknown, NotOurFile, StoreClosed, StoreFull
from lmdbq.store.creation import DATA_NAME as DATA_NAME
from lmdbq.store.creation import ENGINE, MAX_DATABASES, adopt, create_missing
from lmdbq.store.creation import VERIFIED_NAME as VERIFIED_NAME
from lmdbq.store.forks import Pause
from lmdbq.store.lockfile import MAX_READERS, allocate_lock_file
from lmdbq.store.network import refuse_network
from lmdbq.store.pages import DAMAGED, REMEDY, is_of_some_lmdb, refuse_cut_off
from lmdbq.store.side import SIDE_PREFIX, Side
from lmdbq.store.space import Space
from lmdbq.store.turn import Turn

VERIFY_FIRST_NAME: Final = "verify-first"
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

_FileKey = tuple[int, int]  # device, inode

_shared: dict[_FileKey, Environment] = {}
_shared_lock = threading.Lock()
_failures: dict[_FileKey, str] = {}
_pause = Pause()


class Environment:
    """An open LMDB environment and its databases, shared by every store of this process on the same file."""

    def __init__(self, directory: Path, env: lmdb.Environment, max_bytes: int) -> None:
        self.directory = directory
        self.data_path = directory / DATA_NAME
        self.env = env
        self.databases: dict[str, lmdb._Database] = {}
        self.write_lock = threading.RLock()  # LMDB's own lock is per process; threads queue here
        self.data_fd = os.open(self.data_path, os.O_RDWR | os.O_CLOEXEC)
        self.turn = Turn(self.data_fd)
        self.map_bytes = 0  # as it was last set by resize_map
        self.space = Space(self, max_bytes)
        self._idle = threading.Condition()
        self._reads = 0
        self._sides: dict[int, Side] = {}
        self.key = _key_of(os.fstat(self.data_fd))  # not of an earlier look: `compact` may have put another one there
        self._users = 1
        self._pid = os.getpid()

    def use(self) -> lmdb.Environment:
        """Return the environment for a call. Raises StoreClosed after close, and in a forked child."""
        self.refuse_closed()
        return self.env

    def refuse_closed(self) -> None:
        """Raise StoreClosed after close, and in a forked child."""
        if not self.is_ours:
            raise StoreClosed("this store was opened before a fork: open it again in the child")
        if not self._users:
            raise StoreClosed("this store is closed: open it again")

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, and not the one that this was forked from."""
        return os.getpid() == self._pid

    @property
    def failed(self) -> str | None:
        """What is to be said once a commit of this process has failed: nothing more is written by it."""
        return _failures.get(self.key)

    @contextlib.contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction. The map is not resized while one is open."""
        self.refuse_closed()
        try:
            txn = self._begin_read()
        except lmdb.MapResizedError:  # another process let the file grow beyond our map
            with self.write_lock:
                self.resize_map(0)
            txn = self._begin_read()
        try:
            with txn:
                yield txn
        finally:
            self._end_read()

    def _begin_read(self) -> lmdb.Transaction:
        with self._idle:  # where a fork may have it wait: without a reference to the environment, see ``forks``
            self._reads += 1
        try:
            return self.use().begin()
        except BaseException:
            self._end_read()
            raise

    def _end_read(self) -> None:
        with self._idle:
            self._reads -= 1
            if not self._reads:
                self._idle.notify_all()

    def resize_map(self, map_bytes: int) -> None:
        """Set the size of the map (0: that of the file) once no read is open. The caller holds the write lock."""
        with self._idle:
            while self._reads:
                self._idle.wait()
            self.env.set_mapsize(map_bytes)
            self.map_bytes = map_bytes

    def last_txn_id(self) -> int:
        """Return the number of the last transaction."""
        with self._idle:  # a fork waits for this, too
            number: int = self.use().info()["last_txnid"]
        return number

    def rest(self, pause: Pause) -> None:
        """Before a fork: let nobody begin to write or to read, and wait for those who do."""
        pause.take(self.write_lock)
        if pause.take(self._idle):
            self._idle.wait_for(lambda: not self._reads, pause.seconds_left)

    def side(self, boot_no: int) -> Side:
        """Return the lease extensions of a boot."""
        known = self._sides.get(boot_no)
        if known is None:
            with self._idle:
                known = self._sides.setdefault(boot_no, Side(self.directory, boot_no))
        return known

    def next_boot_no(self, boot_no: int) -> int:
        """Return the number of the boot after ``boot_no``: one that has no side file yet.

        A boot may have left one whose first commit a power cut has undone; its deadlines mean nothing in this boot.
        """
        boot_no += 1
        while (self.directory / f"{SIDE_PREFIX}{boot_no}").exists():
            boot_no += 1
        return boot_no

    def mark_failed(self, detail: str) -> None:
        """Remember that a commit failed: write nothing more, and let the next opener verify the file."""
        if self.key not in _failures:
            with contextlib.suppress(OSError):
                os.dup(self.data_fd)  # stays open, lest the inode be given to another file, which has not failed
        _failures[self.key] = detail
        mark = self.directory / VERIFY_FIRST_NAME
        with contextlib.suppress(OSError):  # best effort: the disk may be the very thing that failed
            try:
                (self.directory / VERIFIED_NAME).rename(mark)
            except FileNotFoundError:  # a file that somebody else made, or brought here
                mark.touch()

    def release(self) -> None:
        """Give up one use; the last one closes the file."""
        with _shared_lock:
            self._users -= 1
            if self._users:
                return
            if not self.is_ours:  # closing here would harm the parent, whose it is
                return
            _shared.pop(self.key, None)
            for side in self._sides.values():
                side.close()
            self.env.close()
            os.close(self.data_fd)

    def disown(self) -> None:
        """Let go of all that is LMDB's in a forked child. Closing it would give up the parent's reader slots."""
        del self.env
        self.databases.clear()
        self._sides.clear()

    def _again(self) -> Environment:
        self._users += 1
        return self


def _before_fork() -> None:
    _pause.begin()
    _pause.take(_shared_lock)
    for shared in tuple(_shared.values()):
        shared.rest(_pause)


def _after_fork_in_child() -> None:
    """Let a forked child open for itself what its parent has open: LMDB allows it once the parent's are let go of."""
    global _shared_lock
    _shared_lock = threading.Lock()  # a thread of the parent, which is not here, may have held it
    for shared in _shared.values():
        shared.disown()
    _shared.clear()
    _pause.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_pause.end, after_in_child=_after_fork_in_child)


def open_environment(directory: Path, *, max_bytes: int, metasync: bool) -> Environment:
    """Open (and if needed create) the environment of ``directory``; share it if this process has it open already.

    A shared one keeps the max_bytes and metasync it was first opened with. Raises NotOurFile, FormatUnknown,
    CorruptFile, StoreFull.
    """
    try:
        refuse_network(directory)
        create_missing(directory)
        with _shared_lock:
            facts = (directory / DATA_NAME).stat()
            if not facts.st_size:  # LMDB would make it an environment, and not in one step
                raise NotOurFile(f"{directory / DATA_NAME} is empty: no store; remove it, and one will be made")
            known = _shared.get(_key_of(facts))
            if known is not None:
                return known._again()
            shared = _open_first(directory, max_bytes, metasync)
            _shared[shared.key] = shared
            return shared
    except (OSError, lmdb.Error) as error:
        if isinstance(error, lmdb.DiskError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            raise StoreFull(f"{directory}: there is no room to open a store here ({error}); free some") from error
        if isinstance(error, DAMAGED):
            raise CorruptFile(f"{directory / DATA_NAME} is damaged ({error}): {REMEDY}") from error
        detail = f"{directory}: no store can be opened or made here ({error})"
        if "already open in this process" in str(error):  # py-lmdb's words; it has no class for it
            detail += "; one file has one environment in a process: open it as a client, and take client.environment()"
        raise NotOurFile(detail) from error


def is_open_here(directory: Path) -> bool:
    """Whether this process has the file of ``directory`` open."""
    with _shared_lock:
        try:
            facts = (directory / DATA_NAME).stat()
        except FileNotFoundError:
            return False
        return _key_of(facts) in _shared


def _key_of(facts: os.stat_result) -> _FileKey:
    return facts.st_dev, facts.st_ino


def _open_first(directory: Path, max_bytes: int, metasync: bool) -> Environment:
    map_bytes = max_bytes or limits.MAP_BYTES_DEFAULT
    allocate_lock_file(directory)
    # Opening, reading and closing clears a reader slot that a killed process with our pid left in the lock file.
    env = _open(directory, map_bytes, metasync)
    try:
        with env.begin():
            pass
        refuse_cut_off(directory / DATA_NAME, env)
    finally:
        env.close()
    env = _open(directory, map_bytes, metasync)
    try:
        env.reader_check()  # slots of processes that were killed keep old pages from being used again
        shared = Environment(directory, env, max_bytes)
        try:
            shared.databases = adopt(shared.data_path, env)
        except BaseException:
            os.close(shared.data_fd)
            raise
    except BaseException:
        env.close()
        raise
    return shared


def _open(directory: Path, map_bytes: int, metasync: bool) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(directory),
            map_size=map_bytes,
            metasync=metasync,
            max_dbs=MAX_DATABASES,
            max_readers=MAX_READERS,
            max_spare_txns=0,  # a forked child that ends would give up its parent's reader slots with them
            create=False,
            lib_version=0,
        )
    except lmdb.LockError as error:
        raise NotOurFile(
            f"{directory} cannot be locked ({error}): another container seems to use it without sharing our process "
            "numbers. Share the daemon's address instead of the file, or run both with a shared PID namespace"
        ) from error
    except (lmdb.VersionMismatchError, lmdb.InvalidError) as error:
        if isinstance(error, lmdb.InvalidError) and not is_of_some_lmdb(directory / DATA_NAME):
            raise NotOurFile(f"{directory / DATA_NAME} is no LMDB file ({error}); it was not touched") from error
        raise FormatUnknown(
            f"{directory / DATA_NAME} was written by another LMDB engine than {ENGINE}: open it with the lmdbq and "
            "lmdb versions that wrote it, or restore a backup made for this engine; the file was not touched"
        ) from error
