"""One daemon per file: a flock on ``daemon.lock`` beside the data, held for the life of the process.

The lock is the kernel's and goes with the process, however it ends; what the file says (pid and address) is only for
the message a second daemon gives. Nothing here is ever removed, so two starting daemons cannot each lock a file of
their own.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from lmdbq.errors import LmdbqError
from lmdbq.store.creation import make_directories

LOCK_NAME: Final = "daemon.lock"

log = logging.getLogger("lmdbq.daemon")


class Owner(Struct):
    """Who holds a file."""

    pid: int = 0
    url: str = ""


class AlreadyServed(LmdbqError):
    """Another daemon serves this file. Use that one, or stop it first."""

    code = "already_served"


class Ownership:
    """The lock of one data directory. Raises AlreadyServed, naming the other daemon."""

    def __init__(self, directory: Path) -> None:
        make_directories(directory)
        self._descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _read(self._descriptor)
            os.close(self._descriptor)
            raise AlreadyServed(
                f"{directory} is already served by process {owner.pid or '?'} at {owner.url or '?'}; "
                "use that one, stop it, or name another directory with --data"
            ) from None

    def announce(self, url: str) -> None:
        """Write down who holds the file and where it answers; a disk that cannot take that keeps nobody from it."""
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, msgspec.json.encode(Owner(os.getpid(), url)), 0)
        except OSError as error:
            log.warning("%s: %s; a second daemon on this file will not say where this one answers", LOCK_NAME, error)

    def give_up(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def _read(descriptor: int) -> Owner:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Owner)
    except msgspec.DecodeError:
        return Owner()  # it has just begun and not yet said who it is
