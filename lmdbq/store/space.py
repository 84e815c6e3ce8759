"""Room for the next transaction: allocated before it begins, so that a commit never meets a full disk.

A full disk would arrive at the commit as an I/O error, after which nothing may be trusted. So the file is allocated
ahead: before each transaction, beyond the last page in use, RESERVE pages and twice the bytes of its calls and
PAGES_PER_OP for each of its ops. When the disk (or ``--max-size``) refuses that, the free pages inside the file are
counted; if they do not suffice either, space is *low*: enqueues are refused (507), the rest runs in small transactions, whose
page copies fit in the reserve, and gives pages back. While the disk refuses, the map is cut to what is allocated, so
that LMDB itself answers MapFull (which harms one call) instead of writing beyond it.

Used pages are the sum over our databases, because the file's last page never falls again once it was reached.
"""

from __future__ import annotations

import errno
import os
from typing import Final

import lmdb

from lmdbq import limits
from lmdbq.store.environment import Environment

RESERVE_OPS: Final = 16  # what a transaction may hold when space is low
PAGES_PER_OP: Final = 2 * 8  # a leaf and its parent in each tree that one op may touch
RESERVE_TIMES: Final = 3  # pages freed by one transaction can be used again two transactions later
GROW_BYTES_MAX: Final = 64 * 1024 * 1024
STAT_EVERY: Final = 256  # transactions between two looks at the trees' depth


class Space:
    """Keeps room ahead of one environment. Only the writer uses it."""

    def __init__(self, shared: Environment, max_bytes: int) -> None:
        self._shared = shared
        self._max_bytes = max_bytes
        self._allocated = 0  # the first allocation covers the file from its start, holes and all
        self._whole_map = max_bytes or limits.MAP_BYTES_DEFAULT
        self._map_bytes = self._whole_map
        self.page_bytes: int = shared.env.stat()["psize"]
        self._depth = 1
        self._countdown = 0
        self.low = False

    def used_pages(self, txn: lmdb.Transaction) -> int:
        """Return how many pages our databases use, and remember the depth of the deepest."""
        used = 0
        for database in self._shared.databases.values():
            facts = txn.stat(database)
            used += facts["branch_pages"] + facts["leaf_pages"] + facts["overflow_pages"]
            self._depth = max(self._depth, facts["depth"])
        return used

    def reserve_pages(self) -> int:
        """Return RESERVE: room for RESERVE_TIMES transactions of RESERVE_OPS ops in every tree."""
        return RESERVE_TIMES * RESERVE_OPS * len(self._shared.databases) * self._depth

    def prepare(self, ops: int, payload_bytes: int) -> None:
        """Make room for a transaction of ``ops`` ops and ``payload_bytes``; sets ``low`` when there is none."""
        if self._countdown == 0:
            self._countdown = STAT_EVERY
            self._depth = 1
            with self._shared.reading() as txn:
                self.used_pages(txn)
        self._countdown -= 1
        info = self._shared.env.info()
        used_end = info["last_pgno"] + 1
        path_pages = min(ops * PAGES_PER_OP, used_end)
        wanted_pages = self.reserve_pages() + 2 * payload_bytes // self.page_bytes + path_pages
        wanted = (used_end + wanted_pages) * self.page_bytes
        if wanted <= self._allocated or self._allocate(wanted):
            self.low = False
            self._set_map(self._whole_map)
            return
        self._set_map(self._allocated)
        with self._shared.reading() as txn:
            free_pages = self._allocated // self.page_bytes - self.used_pages(txn)
        self.low = free_pages < wanted_pages

    def pinned(self) -> str:
        """Return who keeps old pages from being used again, for the detail of a refusal; "" if nobody does."""
        last = self._shared.env.info()["last_txnid"]
        lines = [line.split() for line in self._shared.env.readers().splitlines()[1:]]
        old = [line[0] for line in lines if len(line) == 3 and line[2].isdigit() and int(line[2]) < last]
        return (
            f"; process {', '.join(old)} holds an old read transaction and keeps pages from being freed" if old else ""
        )

    def _allocate(self, wanted: int) -> bool:
        """Grow the file to at least ``wanted`` bytes, by a stride if the disk allows; False if it does not."""
        stride = min(wanted + max(wanted // 8, 1 << 20), wanted + GROW_BYTES_MAX)
        for target in (stride, wanted):
            if self._max_bytes and target > self._max_bytes:
                continue
            try:
                os.posix_fallocate(self._shared.data_fd, self._allocated, target - self._allocated)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                continue
            self._allocated = target
            return True
        return False

    def _set_map(self, map_bytes: int) -> None:
        if self._map_bytes != map_bytes:
            self._shared.resize_map(map_bytes)
            self._map_bytes = map_bytes
