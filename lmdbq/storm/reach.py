"""What of an LMDB file can be read at all: the pages that the newest meta page leads to, compared without opening them.

Two files whose two meta pages, whose size, and whose every page that can be reached are equal byte for byte, are one
and the same to LMDB: it gets to a page only by a number that stands in one it has read, and it writes whole pages. What
lies elsewhere (of a commit that was cut off, or freed long ago) is never looked at. So ``Reach.key`` walks the trees of
a drawn file, the free list's among them, and names each page by what it is. A page that is torn and can be reached is
another page, and the file another file. No hash is trusted for that: pages are compared as bytes.

The walk trusts nothing. Where a page is not what the format says (a foreign mark, a pointer beyond the page or the
file, a page met twice), the file is no more than itself: equal to what has the same bytes everywhere.

The numbers here are those of LMDB 0.9 on a machine of 64 bits that stores the low byte first. On any other machine no
file passes for whole, and each is looked at by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import Final

from lmdbq.storm.disk import SECTOR_BYTES, File, Inode

PAGE_BYTES: Final = 4_096
_HEAD_BYTES: Final = 16  # of a page: its number (8), padding (2), flags (2), where its free room begins and ends (2, 2)
_BRANCH, _LEAF, _OVERFLOW, _DIRTY = 0x01, 0x02, 0x04, 0x10
_META_MARK: Final = b"\xde\xc0\xef\xbe\x01\x00\x00\x00"  # magic, version; behind the head
_META_ROOTS: Final = (80, 128)  # of the free list, and of the main tree
_META_TXN: Final = 144
_NO_PAGE: Final = (1 << 64) - 1
_NODE: Final = struct.Struct("<4H")  # a node: the low and high half of a size or page number, flags, the key's length
_NUMBER: Final = struct.Struct("<Q")
_BIG, _SUBTREE = 0x01, 0x02
_SUBTREE_BYTES: Final = 48  # a tree's description, the root last
_SECTORS_PER_PAGE: Final = PAGE_BYTES // SECTOR_BYTES

_Child = tuple[int, bool]  # a page's number, and whether it begins a run of pages with one large value


class Unreadable(Exception):
    """A page is not what the format says."""


class Reach:
    """Names what can be read of the files of one recording. Equal keys mean equal contents."""

    def __init__(self) -> None:
        self._names: dict[bytes, int] = {}
        self._children: dict[bytes, list[_Child]] = {}
        self._durable: dict[int, dict[int, bytes]] = {}  # by inode and page number: pages that were put together

    def key(self, file: File) -> Hashable:
        """Return what names all that LMDB can read of a file."""
        try:
            return file.size, tuple(map(self._name, self._walk(file)))
        except Unreadable:
            return whole_key(file)

    def head(self, file: File) -> Hashable:
        """Return what names all that is read of a file that is opened and asked for no more than how much it holds."""
        pages = _Pages(file, self._current(file))
        try:
            return file.size, self._name(pages.get(0)), self._name(pages.get(1))
        except Unreadable:
            return whole_key(file)

    def _name(self, content: bytes) -> int:
        return self._names.setdefault(content, len(self._names))

    def _walk(self, file: File) -> list[bytes]:
        pages = _Pages(file, self._current(file))
        metas = [pages.get(0), pages.get(1)]
        if any(meta[_HEAD_BYTES : _HEAD_BYTES + len(_META_MARK)] != _META_MARK for meta in metas):
            raise Unreadable
        newest = max(metas, key=lambda meta: _number(meta, _META_TXN))
        found = metas
        left: list[_Child] = [(_number(newest, at), False) for at in _META_ROOTS]
        met: set[int] = set()
        while left:
            number, is_large = left.pop()
            if number == _NO_PAGE:
                continue
            if number in met:
                raise Unreadable
            met.add(number)
            if is_large:
                found.append(pages.large(number))
                continue
            page = pages.get(number)
            children = self._children.get(page)
            if children is None:
                children = self._children[page] = _children(page)
            found.append(page)
            left += children
        return found

    def _current(self, file: File) -> dict[int, bytes]:
        """Return the durable pages of a file that were put together before and are still as they were."""
        known = self._durable.setdefault(file.number, {})
        for sector in file.inode.fresh:
            known.pop(sector // _SECTORS_PER_PAGE, None)
        file.inode.fresh.clear()
        return known


def whole_key(file: File) -> Hashable:
    """Return what names a file that is equal in every byte: its durable state, its size, and its newer sectors."""
    return file.number, file.inode.settled, file.size, tuple(file.sectors)


class _Pages:
    """The pages of a file that was drawn."""

    def __init__(self, file: File, durable: dict[int, bytes]) -> None:
        self._inode: Inode = file.inode
        self._size = file.size
        self._durable = durable
        self._newer: dict[int, dict[int, bytes]] = {}
        for sector, data in file.sectors:
            self._newer.setdefault(sector // _SECTORS_PER_PAGE, {})[sector % _SECTORS_PER_PAGE] = data

    def get(self, number: int) -> bytes:
        """Return a page. Raises Unreadable beyond the end of the file."""
        if (number + 1) * PAGE_BYTES > self._size:
            raise Unreadable
        page = self._durable.get(number)
        if page is None:
            content = self._inode.content[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
            page = self._durable[number] = bytes(content).ljust(PAGE_BYTES, b"\0")
        newer = self._newer.get(number)
        if newer is None:
            return page
        old = (page[at : at + SECTOR_BYTES] for at in range(0, PAGE_BYTES, SECTOR_BYTES))
        return b"".join(newer.get(index, data) for index, data in enumerate(old))

    def large(self, number: int) -> bytes:
        """Return the run of pages that holds one large value. Raises Unreadable."""
        first = self.get(number)
        flags, pages = struct.unpack_from("<HI", first, 10)
        if flags & ~_DIRTY != _OVERFLOW or (number + pages) * PAGE_BYTES > self._size:
            raise Unreadable
        return b"".join([first, *(self.get(number + index) for index in range(1, pages))])


def _number(content: bytes, at: int) -> int:
    found: int = _NUMBER.unpack_from(content, at)[0]
    return found


def _children(page: bytes) -> list[_Child]:
    """Return the pages that a page leads to. Raises Unreadable."""
    flags, lower, upper = struct.unpack_from("<3H", page, 10)
    if flags & ~_DIRTY not in (_BRANCH, _LEAF) or not _HEAD_BYTES <= lower <= upper <= PAGE_BYTES or lower % 2:
        raise Unreadable
    starts = struct.unpack_from(f"<{(lower - _HEAD_BYTES) // 2}H", page, _HEAD_BYTES)
    try:
        found = [_child(page, start, is_branch=bool(flags & _BRANCH)) for start in starts]
    except struct.error as error:  # beyond the end of the page
        raise Unreadable from error
    return [child for child in found if child is not None]


def _child(page: bytes, start: int, *, is_branch: bool) -> _Child | None:
    low, high, flags, key_bytes = _NODE.unpack_from(page, start)
    data_at = start + _NODE.size + key_bytes
    if is_branch:
        return low | high << 16 | flags << 32, False
    if flags & _BIG:
        return _number(page, data_at), True
    if flags & _SUBTREE:
        return _number(page, data_at + _SUBTREE_BYTES - _NUMBER.size), False
    return None
