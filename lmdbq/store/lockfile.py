"""LMDB's lock file, allocated whole before LMDB opens it; and the lock that keeps apart those who make files.

LMDB makes ``lock.mdb`` with holes, maps it into memory and writes there. On a full disk the first write to a hole ends
the process with a bus error: at once, or when the n-th reader takes a slot in a page that nobody has touched before. So
a new one is made here with every block allocated, and the holes of an older one are filled.

The traps: a file that somebody has mapped must not grow, for those who mapped less of it would look beyond their end.
So a new one comes by a link, which fails if there is one by now. And as closing any descriptor of the file gives up the
locks that this process holds on it, the file is only opened when it must be, by who has no environment open there.
A program may have one of its own there, of which nobody told us: its descriptors are looked through before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOCK_NAME: Final = "lock.mdb"
FRESH_LOCK_NAME: Final = "lock.mdb.tmp"
MAX_READERS: Final = 512
LOCK_BYTES: Final = 9 * 4_096  # a head of 192 bytes and 64 for each reader, in whole pages
NO_HARD_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)
_DESCRIPTORS: Final = "/proc/self/fd"
_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's is


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[int]:
    """Hold a directory's lock, and give a descriptor of it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def allocate_lock_file(directory: Path) -> None:
    """Have every block of a directory's lock file allocated. Raises OSError if there is no room."""
    if not hasattr(os, "posix_fallocate"):
        return
    path = directory / LOCK_NAME
    try:
        facts = path.stat()
    except FileNotFoundError:
        with locked_directory(directory):
            _make(path, directory / FRESH_LOCK_NAME)
        return
    if facts.st_blocks * _BLOCK_BYTES < facts.st_size and not _has_open(facts):
        _allocate(path, os.O_RDWR, facts.st_size)


def _has_open(facts: os.stat_result) -> bool:
    """Whether this process has a file open; False where the system does not tell."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(_DESCRIPTORS):  # noqa: PTH208  (names are all that is wanted)
            with contextlib.suppress(OSError):  # the one that this list was read with, for one
                if os.path.samestat(os.fstat(int(descriptor)), facts):
                    return True
    return False


def _make(path: Path, fresh: Path) -> None:
    fresh.unlink(missing_ok=True)
    try:
        _allocate(fresh, os.O_RDWR | os.O_CREAT, LOCK_BYTES)
        os.link(fresh, path)
    except OSError as error:
        if error.errno not in (errno.EEXIST, *NO_HARD_LINKS):  # else LMDB has made it, or will
            raise
    finally:
        fresh.unlink(missing_ok=True)


def _allocate(path: Path, flags: int, length: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(fd, 0, length)
    finally:
        os.close(fd)
