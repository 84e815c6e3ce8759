"""Room for the next transaction: allocated before it begins, so that a commit never meets a full disk.

A full disk would arrive at the commit as an I/O error, after which nothing may be trusted. So the file is allocated
ahead: before each transaction, beyond the last page in use, RESERVE pages, twice the bytes of its calls, and
PAGES_PER_OP for each of its ops. When the disk (or ``--max-size``) refuses that, the free pages inside the file are
counted; if they do not suffice either, space is *low*: enqueues are refused (507), the rest runs in small transactions,
whose page copies fit in the reserve, and gives pages back. While the disk refuses, the map is cut to what is allocated,
so that LMDB itself answers MapFull (which harms one call) instead of writing beyond it.

Used pages are the sum over our databases, because the file's last page never falls again once it was reached. The trap:
all this is decided before the write lock is held (the map cannot be resized inside a transaction), and another process
may use the room up in between. So ``still_holds`` is asked once the lock is held; if it says no, all begins anew.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import lmdb

from lmdbq import limits

if TYPE_CHECKING:
    from lmdbq.store.environment import Environment

RESERVE_OPS: Final = 16  # what a transaction may hold when space is low
PAGES_PER_OP: Final = 2 * 8  # a leaf and its parent in each tree that one op may touch
RESERVE_TIMES: Final = 3  # pages freed by one transaction can be used again two transactions later
GROW_BYTES_MAX: Final = 64 * 1024 * 1024
STAT_EVERY: Final = 256  # transactions between two looks at the trees' depth and at readers that were killed
META_PAGES: Final = 2

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Space:
    """Keeps room ahead of one environment. Only the writer uses it. max_bytes: what the file may grow to, 0: the disk.

    low: whether the last ``prepare`` found too little room.
    """

    def __init__(self, shared: Environment, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.page_bytes: int = shared.env.stat()["psize"]
        self.low = False
        self._shared = shared
        self._whole_map = max_bytes or limits.MAP_BYTES_DEFAULT
        self._allocated: int | None = None  # from the file's start to here, writing needs no room on the disk
        self._is_cut = False  # whether the map ends where the allocated part of the file does
        self._path_pages = 0
        self._wanted_pages = 0
        self._countdown = 0
        self._within = (0, 0, 0)  # a transaction that somebody else has begun, and what was wanted in it
        shared.map_bytes = self._whole_map

    def used_pages(self, txn: lmdb.Transaction) -> int:
        """Return how many pages our databases use, and remember how many one path through each of them has."""
        main = self._shared.env.stat()
        used: int = META_PAGES + main["branch_pages"] + main["leaf_pages"] + main["overflow_pages"]
        path_pages = 0
        for database in self._shared.databases.values():
            facts = txn.stat(database)
            used += facts["branch_pages"] + facts["leaf_pages"] + facts["overflow_pages"]
            path_pages += facts["depth"] + 1  # one more for a page that is split
        self._path_pages = path_pages
        return used

    def prepare(self, ops: int, payload_bytes: int) -> None:
        """Make room for a transaction of ``ops`` ops and ``payload_bytes``; sets ``low`` when there is none.

        The caller holds the process's write lock, and no transaction.
        """
        if self._countdown == 0:
            self._countdown = STAT_EVERY
            self._shared.env.reader_check()
            with self._shared.reading() as txn:
                self.used_pages(txn)
        self._countdown -= 1
        used_end = self._used_end()
        reserve_pages = RESERVE_TIMES * RESERVE_OPS * self._path_pages
        self._wanted_pages = reserve_pages + 2 * payload_bytes // self.page_bytes + min(ops * PAGES_PER_OP, used_end)
        self._is_cut = not self._covers(used_end)
        if not self._is_cut:
            self.low = False
            self._set_map(self._whole_map)
            return
        self._allocated = None  # another process may have let the file grow
        allocated = self._known_allocated()
        self._set_map(allocated)
        self._shared.env.reader_check()
        with self._shared.reading() as txn:
            room_pages = min(allocated, self.max_bytes or allocated) // self.page_bytes
            self.low = room_pages - self.used_pages(txn) < self._wanted_pages

    def prepare_within(self, txn_id: int, ops: int, payload_bytes: int) -> bool:
        """Make room for ops in a write transaction that is open, on its thread; False if there is none.

        What it has written so far is unknown until it commits, so the wishes of one transaction are added up.
        """
        known_id, known_ops, known_bytes = self._within
        if known_id == txn_id:
            ops, payload_bytes = ops + known_ops, min(payload_bytes + known_bytes, GROW_BYTES_MAX)
        self._within = (txn_id, ops, payload_bytes)
        if not self._path_pages:
            with self._shared.reading() as txn:
                self.used_pages(txn)
        used_end = self._used_end()
        reserve_pages = RESERVE_TIMES * RESERVE_OPS * self._path_pages
        pages = used_end + reserve_pages + 2 * payload_bytes // self.page_bytes + min(ops * PAGES_PER_OP, used_end)
        wanted = pages * self.page_bytes
        if self.max_bytes and wanted > self.max_bytes:
            return False
        return wanted <= self._known_allocated() or self._allocate(wanted)

    def still_holds(self) -> bool:
        """Whether what was prepared is still so, now that the caller's write transaction keeps others from writing."""
        if not self._is_cut:
            return self._covers(self._used_end())
        # Otherwise another process let the file grow, and our map had to follow.
        return self._shared.map_bytes == self._known_allocated()

    def pinned(self) -> str:
        """Return who keeps old pages from being used again, for the detail of a refusal; "" if nobody does."""
        last = self._shared.env.info()["last_txnid"]
        lines = [line.split() for line in self._shared.env.readers().splitlines()[1:]]
        old = [line[0] for line in lines if len(line) == 3 and line[2].isdigit() and int(line[2]) < last]
        return (
            f"; process {', '.join(old)} holds an old read transaction and keeps pages from being freed" if old else ""
        )

    def _used_end(self) -> int:
        last_page: int = self._shared.env.info()["last_pgno"]
        return last_page + 1

    def _covers(self, used_end: int) -> bool:
        """Whether the file is allocated as far as is wanted, or can be now."""
        wanted = (used_end + self._wanted_pages) * self.page_bytes
        if self.max_bytes and wanted > self.max_bytes:  # even if another process has let the file grow so far
            self._allocate(self.max_bytes)
            return False
        return wanted <= self._known_allocated() or self._allocate(wanted)

    def _known_allocated(self) -> int:
        if self._allocated is None:
            fd = self._shared.data_fd
            size = os.fstat(fd).st_size // self.page_bytes * self.page_bytes
            hole = os.lseek(fd, 0, os.SEEK_HOLE) // self.page_bytes * self.page_bytes
            # What is allocated but not written counts as a hole, too; filling it needs no room, and tells which it is.
            self._allocated = size if hole >= size or _reserve(fd, hole, size - hole) else hole
        return self._allocated

    def _allocate(self, wanted: int) -> bool:
        """Grow the file to at least ``wanted`` bytes, by a stride if the disk allows; False if it does not."""
        allocated = self._known_allocated()
        targets = [min(wanted + max(wanted // 8, 1 << 20), wanted + GROW_BYTES_MAX), wanted]
        for target in targets:
            if self.max_bytes and target > self.max_bytes:
                continue
            if target > allocated and _reserve(self._shared.data_fd, allocated, target - allocated):
                self._allocated = target
                return True
        return False

    def _set_map(self, map_bytes: int) -> None:
        if self._shared.map_bytes != map_bytes:
            self._shared.resize_map(map_bytes)


def _reserve(fd: int, start: int, length: int) -> bool:
    """Have ``length`` bytes of a file from ``start`` allocated on the disk; False if there is no room for them."""
    if not hasattr(os, "posix_fallocate"):  # macOS can only be asked
        disk = os.fstatvfs(fd)
        return disk.f_bavail * disk.f_frsize >= length
    try:
        os.posix_fallocate(fd, start, length)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        return False
    return True
