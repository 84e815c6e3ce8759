"""Lease extensions: deadlines that heartbeats moved, in a small environment of their own that is never synced.

A heartbeat must not cost a sync. So an extended deadline is written to ``leases-<boot_no>`` beside the data: a process
crash keeps it (the page cache does), every process of the boot sees it, and a power cut may take it whole, because
leases of an earlier boot are re-armed anyway. When a deadline in the main file comes up, Lapse looks here first.

Everything happens under the main write lock, so there is one writer; the values are ``records.Extension``. The traps:
an entry outlives its lease when a process dies between the two commits; it then names a delivery that no longer runs,
and is ignored by everyone and removed by the next report or lapse of that task, or with the whole file at next boot.
And as nothing here is synced or allocated ahead, the file may be unusable (a full disk, a crash while it was made): it
is then as if nothing had been extended, and the writer moves the deadlines of the main file instead.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lmdb

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lockfile import MAX_READERS, allocate_lock_file

SIDE_MAP_BYTES: Final = 1 << 30
SIDE_PREFIX: Final = "leases-"
LOOK_EVERY: Final = 256  # writes between two looks at readers that were killed, who keep old pages from being reused
_DATA_NAME: Final = "data.mdb"

_log = logging.getLogger(__name__)


class Unusable(Exception):
    """The side file cannot be opened, read or written; ``str`` says why."""


class Side:
    """The lease extensions of one boot. Opened when first needed."""

    def __init__(self, directory: Path, boot_no: int) -> None:
        self.boot_no = boot_no
        self._path = directory / f"{SIDE_PREFIX}{boot_no}"
        self._data_path = str(self._path / _DATA_NAME)
        self._directory = directory
        self._env: lmdb.Environment | None = None
        self._opening = threading.Lock()
        self._countdown = 0

    def _open(self) -> lmdb.Environment:
        with self._opening:
            if self._env is None:
                try:
                    self._path.mkdir(mode=0o700, exist_ok=True)
                    allocate_lock_file(self._path)
                    self._env = lmdb.open(
                        str(self._path),
                        map_size=SIDE_MAP_BYTES,
                        sync=False,
                        metasync=False,
                        max_readers=MAX_READERS,
                        max_spare_txns=0,
                        lib_version=0,
                    )
                except (OSError, lmdb.Error) as error:
                    raise Unusable(f"{self._path}: {error}") from error
            return self._env

    def _exists(self) -> bool:
        return self._env is not None or os.path.exists(self._data_path)  # noqa: PTH110  (pathlib's takes four times as long)

    def is_empty(self) -> bool:
        """Whether there is nothing to look up: then reports and lapses need not."""
        if not self._exists():
            return True
        try:
            return not self._open().stat()["entries"]
        except (lmdb.Error, Unusable) as error:
            _log.warning("lease extensions cannot be read: %s", error)
            return True

    def get(self, task_id: int) -> rec.Extension | None:
        """Return a task's extension, whatever delivery it is for; None if it has none."""
        if not self._exists():
            return None
        try:
            with self._open().begin() as txn:
                value: Any = txn.get(ks.task(task_id))
            return None if value is None else rec.read_extension(value)
        except (lmdb.Error, Unusable, rec.Damaged) as error:  # it was never synced: as if it had not been written
            _log.warning("the lease extension of task %d cannot be read: %s", task_id, error)
            return None

    def write(self, changes: Mapping[int, rec.Extension | None]) -> None:
        """Put (or with None: remove) extensions by task id, in one transaction. Raises Unusable if it cannot."""
        try:
            env = self._open()
            if self._countdown == 0:
                self._countdown = LOOK_EVERY
                env.reader_check()
            self._countdown -= 1
            with env.begin(write=True) as txn:
                for task_id, extension in changes.items():
                    key = ks.task(task_id)
                    if extension is None:
                        txn.delete(key)
                    else:
                        txn.put(key, rec.write_extension(extension))
        except lmdb.Error as error:
            raise Unusable(f"{self._path}: {error}") from error

    def remove_older(self) -> None:
        """Remove the side files of earlier boots."""
        for path in self._directory.glob(f"{SIDE_PREFIX}*"):
            if path != self._path:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Close the side file."""
        if self._env is not None:
            self._env.close()
            self._env = None
