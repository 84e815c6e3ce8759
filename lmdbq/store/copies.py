"""Whole files: a copy while others write, a copy put back, and a file without its free pages.

A copy is LMDB's own, of one committed moment, without free pages; it is a file like the one it was made of. Every
result is written under another name, synced, and only then given its own, so that a crash leaves the old state.

The trap is ``compact``, which puts another file in the place of one that others may open. Two locks keep them away: the
daemon's, which the caller holds, and the one that LMDB itself takes on the first byte of ``lock.mdb`` for as long as it
has the file open. Who opens the file meanwhile waits for that lock inside LMDB, before it looks for the data. But the
lock file also keeps the number of the last transaction, and a copy counts from the beginning; so before the lock is
given up the new file is opened once by the one process that is alone with it, which makes LMDB write that number anew.
Who waits is let in before that if the process dies just then: it looks for the transaction of the old number, for an
even one in the first of the file's two heads, where a copy describes an empty file. So both heads describe the whole
file before it gets its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from lmdbq.errors import CorruptFile, InUse, NotEmpty, NotOurFile, StoreFull
from lmdbq.store import keyspace as ks
from lmdbq.store.creation import DATA_NAME, MAX_DATABASES, VERIFIED_NAME, make_directories, sync_path
from lmdbq.store.environment import NO_ROOM, VERIFY_FIRST_NAME, is_open_here, open_environment
from lmdbq.store.lmdb import open_store
from lmdbq.store.lockfile import LOCK_NAME, allocate_lock_file

PART_SUFFIX: Final = ".part"
COMPACT_NAME: Final = "data.mdb.compact"
CHUNK_BYTES: Final = 1 << 20

Tell = Callable[[int], None]  # gets how many bytes have been written


def backup(directory: Path, target: Path, tell: Tell) -> int:
    """Copy the file of ``directory`` to the new file ``target``, as it is at this moment; return its bytes.

    Others may write meanwhile. Raises NotEmpty if ``target`` exists, StoreFull without room, StoreError.
    """
    _refuse_existing(target)
    shared = open_environment(directory, max_bytes=0, metasync=True)
    try:
        with _new_file(target) as fd, shared.reading() as txn:
            return _write_all(_copied(shared.use(), txn), fd, tell)
    finally:
        shared.release()


@contextlib.contextmanager
def new_backup(target: Path) -> Iterator[Callable[[bytes], int]]:
    """Yield what writes blocks to the new file ``target`` and says how many bytes that are by now.

    It gets its name at the end of the block, once it is whole and synced. Raises NotEmpty, StoreFull.
    """
    _refuse_existing(target)
    written = 0
    with _new_file(target) as fd:

        def write(block: bytes) -> int:
            nonlocal written
            written += _write(fd, block)
            return written

        yield write


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise NotEmpty(f"{target} exists, and a backup overwrites nothing; name a new file")


def restore(source: Path, directory: Path, tell: Tell, *, check: bool = True) -> int:
    """Put a backup into ``directory``, which must be missing or empty; return its bytes.

    check: verify the copy against every invariant before it gets its name. Raises NotEmpty, CorruptFile, StoreError.
    """
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise NotEmpty(f"{directory} is not empty; restore into a new directory, and name that one with --data")
    make_directories(directory.parent)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        with source.open("rb") as file, _new_file(made / DATA_NAME) as fd:
            size = _write_all(_read_all(file.fileno()), fd, tell)
        _refuse_cut_off(made, size)
        (made / VERIFIED_NAME).touch()
        _verify(made, every=check)
        (made / LOCK_NAME).unlink(missing_ok=True)
        made.rename(directory)
        try:
            sync_path(directory.parent)
        except OSError:
            directory.rename(made)  # its name may not outlast a power cut: nothing is there, and the next one may try
            raise
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return size


def compact(directory: Path, tell: Tell) -> tuple[int, int]:
    """Give back the free pages of the file in ``directory``; return its bytes before and after.

    Nobody may have it open; the caller keeps daemons away. Raises InUse, StoreError.
    """
    if (directory / VERIFY_FIRST_NAME).exists():
        raise CorruptFile(f"a commit to {directory} has failed: `lmdbq check {directory}` comes first")
    _verify(directory, every=False)
    data, fresh = directory / DATA_NAME, directory / COMPACT_NAME
    with alone(directory):
        before = data.stat()
        fresh.unlink(missing_ok=True)  # what an interrupted one has left
        with _new_file(fresh) as fd:
            os.fchmod(fd, before.st_mode & 0o777)
            with contextlib.closing(_unlocked(directory)) as env:
                _write_all(_copied(env), fd, tell)
            _write_both_heads(_part_of(fresh))
        size = fresh.stat().st_size
        fresh.rename(data)
        sync_path(directory)
        _open_once(directory)
    return before.st_size, size


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold what LMDB locks while it has the file of ``directory`` open. Raises InUse if somebody has it open."""
    if is_open_here(directory):  # its lock would not stop us, and would be given up with ours
        raise InUse(f"this process has {directory / DATA_NAME} open itself; close it first")
    allocate_lock_file(directory)
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0, os.SEEK_SET)
        except OSError as error:
            raise InUse(f"another process has {directory / DATA_NAME} open; end it first") from error
        yield
    finally:
        os.close(fd)


def _verify(directory: Path, *, every: bool) -> None:
    """Open the file, which refuses what is none, and look at ``every`` invariant if asked to."""
    with contextlib.closing(open_store(directory)) as store:
        store.info()
        problems = store.check() if every else []
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CorruptFile(f"the backup is damaged: {problems[0]}{more}")


def _refuse_cut_off(directory: Path, size: int) -> None:
    """Look whether the file has all its pages: LMDB would take for granted that it has, and end the process."""
    try:
        with contextlib.closing(_unlocked(directory)) as env:
            wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    except lmdb.Error as error:
        raise NotOurFile(f"the backup is no file of this LMDB ({error})") from error
    if size < wanted:
        raise CorruptFile(f"the backup is cut off: it has {size} of {wanted} bytes")


def _unlocked(directory: Path) -> lmdb.Environment:
    return lmdb.open(
        str(directory), readonly=True, lock=False, max_dbs=MAX_DATABASES, create=False, subdir=True, lib_version=0
    )


def _write_both_heads(path: Path) -> None:
    """Have both heads of a copy describe all of it: by a transaction that changes nothing. Raises lmdb.Error."""
    room = path.stat().st_size + CHUNK_BYTES  # one key needs a page for each level of two trees
    env = lmdb.open(
        str(path), map_size=room, subdir=False, lock=False, max_dbs=MAX_DATABASES, create=False, lib_version=0
    )
    with contextlib.closing(env), env.begin(write=True) as txn:
        catalog = env.open_db(ks.PREFIX + b"catalog", txn=txn, create=False)
        facts: Any = txn.get(ks.meta(), db=catalog)
        txn.put(ks.meta(), facts, db=catalog)


def _open_once(directory: Path) -> None:
    """Open and close the file, which makes LMDB's lock file fit it. It gives up the locks of this process."""
    lmdb.open(str(directory), max_dbs=MAX_DATABASES, create=False, lib_version=0).close()


def _part_of(path: Path) -> Path:
    """Return the name of a file that is being written, and will be ``path``."""
    return path.with_name(path.name + PART_SUFFIX)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """Yield a descriptor of a new file that is synced, and gets its name, at the end of the block; else it goes."""
    part = _part_of(path)
    try:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotOurFile(f"cannot write {part}: {error.strerror}") from error
    try:
        try:
            yield fd
            os.fsync(fd)
        finally:
            os.close(fd)
        part.rename(path)
        sync_path(path.parent)
    except (OSError, lmdb.Error) as error:
        kind = StoreFull if isinstance(error, OSError) and error.errno in NO_ROOM else NotOurFile
        raise kind(f"{path} could not be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # the copy has its name, or has failed; the next one writes over what stays
            part.unlink(missing_ok=True)


def _read_all(source: int) -> Generator[bytes, None, None]:
    while block := os.read(source, CHUNK_BYTES):
        yield block


def _copied(env: lmdb.Environment, txn: lmdb.Transaction | None = None) -> Generator[bytes, None, None]:
    """Yield the bytes of a copy as LMDB makes it, on another thread. Who stops asking ends it, at once."""
    reader, writer = os.pipe()
    failures: list[lmdb.Error] = []

    def copy() -> None:
        try:
            env.copyfd(writer, compact=True, txn=txn)
        except lmdb.Error as error:
            failures.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=copy, name="lmdbq-copy")
    thread.start()
    try:
        yield from _read_all(reader)
    finally:
        os.close(reader)  # a copy that goes on then finds nobody to write to
        thread.join()
    if failures:
        raise failures[0]


def _write_all(blocks: Generator[bytes, None, None], fd: int, tell: Tell) -> int:
    """Write ``blocks`` and return how many bytes that were."""
    written = 0
    with contextlib.closing(blocks):  # not when it is collected: an error's traceback keeps it, and with it the copy
        for block in blocks:
            written += _write(fd, block)
            tell(written)
    return written


def _write(fd: int, block: bytes) -> int:
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]
    return len(block)
