"""The model of a disk: what may be on it after the power fails at one moment, by the rules that POSIX gives.

What a completed fsync or fdatasync covers is there: for a file its content and size, for a directory its names. Of all
that came since, anything may be there or not: each write by itself, and torn, each 512-byte sector by itself, in any
order; each change of size and each name likewise. A sector is never half old and half new, and a rename is one step. A
directory that is renamed takes along what is in it; one that has neither its old nor its new name is lost with all.

How: events are replayed in order; each inode has its durable bytes and a list of what is not yet synced. ``draw`` draws
one of the possible disks, which need not be made in order to know what is on it. Not all are drawn alike: everything
lost, everything kept, all but one piece, or a share.

The trap: a sector that was written twice since the last sync may hold the first of the two writes as well. So a sector
is drawn as a *version*: the durable one, or what it was after any of its writes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final, NamedTuple

from lmdbq.storm.names import Change, Names, apply, walk
from lmdbq.storm.recording import Event, Forced, Recording, Sized, Synced, Wrote

SECTOR_BYTES: Final = 512
_MODES: Final = ("none", "all", "share", "share", "all but one", "one", "whole writes", "whole writes")


class Inode:
    """A file: what is surely on the disk, and what was done since, in order.

    versions: of each sector written since the last sync, what it was after each write, with the number of that write.
    sizes: the file's, beginning with the one that is sure. settled: how often ``content`` has changed; fresh: which
    sectors of it have, since somebody has emptied the set.
    """

    __slots__ = ("content", "fresh", "settled", "sizes", "versions", "writes")

    def __init__(self) -> None:
        self.content = bytearray()  # to the last byte ever written; the rest up to the size is zeros
        self.sizes = [0]
        self.versions: dict[int, list[tuple[int, bytes]]] = {}
        self.writes = 0
        self.settled = 0
        self.fresh: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        self.writes += 1
        for sector in _sectors(offset, len(data)):
            known = self.versions.setdefault(sector, [])
            old = known[-1][1] if known else self._durable(sector)
            known.append((self.writes, _overlaid(old, offset, data, sector)))
        self.sizes.append(max(self.sizes[-1], offset + len(data)))

    def force(self, offset: int, length: int) -> None:
        """What O_DSYNC promises: these bytes, and a size that holds them. What was written before is as it was."""
        for sector in _sectors(offset, length):
            self._settle(sector)
        self.sizes[0] = max(self.sizes[0], offset + length)

    def resize(self, size: int) -> None:
        self.sizes.append(size)

    def sync(self) -> None:
        for sector in list(self.versions):
            self._settle(sector)
        self.writes = 0
        self.sizes = [self.sizes[-1]]
        if len(self.content) > self.sizes[0]:
            self.settled += 1
            self.fresh.update(_sectors(self.sizes[0], len(self.content) - self.sizes[0]))
            del self.content[self.sizes[0] :]

    def _settle(self, sector: int) -> None:
        self.settled += 1
        self.fresh.add(sector)
        start = sector * SECTOR_BYTES
        if len(self.content) < start + SECTOR_BYTES:
            self.content.extend(bytes(start + SECTOR_BYTES - len(self.content)))
        self.content[start : start + SECTOR_BYTES] = self.versions.pop(sector)[-1][1]

    def _durable(self, sector: int) -> bytes:
        return bytes(self.content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")


def _sectors(offset: int, length: int) -> range:
    return range(offset // SECTOR_BYTES, (offset + length - 1) // SECTOR_BYTES + 1)


def _overlaid(old: bytes, offset: int, data: bytes, sector: int) -> bytes:
    start = sector * SECTOR_BYTES - offset
    piece = data[max(start, 0) : start + SECTOR_BYTES]
    at = max(-start, 0)
    return old[:at] + piece + old[at + len(piece) :]


class File(NamedTuple):
    """A file of a disk that was drawn: its inode, size, and the sectors that are newer than the durable content.

    It is what it is until more is replayed. number: the inode's.
    """

    number: int
    inode: Inode
    size: int
    sectors: list[tuple[int, bytes]]

    def make(self, place: Path) -> None:
        """Make it, as the new file ``place``."""
        with place.open("wb", buffering=0) as file:
            file.write(memoryview(self.inode.content)[: self.size])
            for sector, data in self.sectors:
                file.seek(sector * SECTOR_BYTES)
                file.write(data)
            file.truncate(self.size)


Drawn = dict[str, File | None]
"""A disk that was drawn: each path with its file, None for a directory; parents come first."""


def make(drawn: Drawn, target: Path) -> None:
    """Make a disk in the empty directory ``target``. Two names of one inode are one file."""
    made: dict[int, Path] = {}
    for path, file in drawn.items():
        place = target / path
        if file is None:
            place.mkdir(mode=0o700)
        elif file.number in made:
            place.hardlink_to(made[file.number])
        else:
            file.make(place)
            made[file.number] = place


class Disk:
    """The disk while a recording is replayed."""

    def __init__(self, recording: Recording) -> None:
        self._directories = recording.directories
        self._inodes: dict[int, Inode] = {}
        self._names: Names = {}
        self._pending_names: list[Change] = []

    def replay(self, event: Event) -> None:
        """Let an event have happened."""
        if isinstance(event, Wrote):
            self._inode(event.inode).write(event.offset, event.data)
        elif isinstance(event, Forced):
            self._inode(event.inode).force(event.offset, event.length)
        elif isinstance(event, Sized):
            self._inode(event.inode).resize(event.size)
        elif isinstance(event, Synced):
            self._sync(event.inode)
        elif isinstance(event, Change):
            self._pending_names.append(event)

    def _inode(self, number: int) -> Inode:
        return self._inodes.setdefault(number, Inode())

    def _sync(self, number: int) -> None:
        if number not in self._directories:
            self._inode(number).sync()
            return
        for change in self._pending_names:
            if change.directory == number:
                apply(self._names, change)
        self._pending_names = [change for change in self._pending_names if change.directory != number]

    # --- the power fails ---

    def draw(self, chosen: random.Random) -> Drawn:
        """Draw one of the disks that are possible now."""
        names = dict(self._names)
        for change in self._chosen_names(chosen):
            apply(names, change)
        files: dict[int, File] = {}
        drawn: Drawn = {}
        for path, number in walk(names, self._directories):
            if number in self._directories:
                drawn[path] = None
                continue
            if number not in files:
                files[number] = self._file(number, chosen)
            drawn[path] = files[number]
        return drawn

    def _chosen_names(self, chosen: random.Random) -> list[Change]:
        pending = self._pending_names
        if chosen.random() < 0.5:  # a journal keeps them in order
            return pending[: chosen.randrange(len(pending) + 1)]
        return [change for change in pending if chosen.random() < 0.5]

    def _file(self, number: int, chosen: random.Random) -> File:
        inode = self._inodes.get(number) or Inode()
        mode = chosen.choice(_MODES)
        size = _chosen_size(inode, mode, chosen)
        return File(number, inode, size, _chosen_sectors(inode, mode, chosen))


def _chosen_size(inode: Inode, mode: str, chosen: random.Random) -> int:
    if mode == "none":
        return inode.sizes[0]
    return inode.sizes[-1] if mode == "all" or chosen.random() < 0.7 else chosen.choice(inode.sizes)


def _chosen_sectors(inode: Inode, mode: str, chosen: random.Random) -> list[tuple[int, bytes]]:
    """Return the sectors that hold something newer than the durable content, and what."""
    versions = inode.versions.items()
    if mode == "none":
        return []
    if mode == "share":
        share = chosen.random()
        return [(sector, chosen.choice(known)[1]) for sector, known in versions if chosen.random() < share]
    if mode == "whole writes":
        there = {number for number in range(inode.writes + 1) if chosen.random() < 0.5}
        held = ((sector, [data for number, data in known if number in there]) for sector, known in versions)
        return [(sector, known[-1]) for sector, known in held if known]
    found = [(sector, known[-1][1]) for sector, known in versions]
    if not found or mode == "all":
        return found
    picked = chosen.randrange(len(found))
    return [found[picked]] if mode == "one" else found[:picked] + found[picked + 1 :]
