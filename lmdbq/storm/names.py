"""Names on the disk: a name is an entry of one directory, so a directory that is renamed takes along what is in it.

An entry is the inode of a directory and a name in it; it leads to an inode. The ``Names`` of a disk are its entries,
and a path is a walk over them from the ROOT. What no walk reaches is lost: in a directory without a name nobody can
look anything up.

The trap: what is in a directory may have been synced and be lost nevertheless, because the directory's own name is an
entry of another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from msgspec import Struct

ROOT: Final = 0
NOBODY: Final = -1  # the number of an inode that no recording has

Entry = tuple[int, str]
"""A directory's inode, and a name in it."""

Names = dict[Entry, int]
"""The inode of each entry."""


class Named(Struct, frozen=True, tag="named"):
    """A name in a directory was given to an inode."""

    directory: int
    name: str
    inode: int


class Dropped(Struct, frozen=True, tag="dropped"):
    """A name was taken away from a directory: a file's, or that of an empty directory."""

    directory: int
    name: str


class Moved(Struct, frozen=True, tag="moved"):
    """A name was changed, in one step. directory, name: the new ones."""

    old_directory: int
    old_name: str
    directory: int
    name: str


Change = Named | Dropped | Moved


def apply(names: Names, change: Change) -> None:
    """Change ``names``. What is moved and was never there, or was lost, is not there then, either."""
    entry = change.directory, change.name
    if isinstance(change, Named):
        names[entry] = change.inode
    elif isinstance(change, Dropped):
        names.pop(entry, None)
    else:
        old = change.old_directory, change.old_name
        if old in names:
            names[entry] = names.pop(old)


def find(names: Names, path: str) -> int | None:
    """Return the inode of a path below the root, None if there is none."""
    inode = ROOT
    for name in path.split("/"):
        found = names.get((inode, name))
        if found is None:
            return None
        inode = found
    return inode


def first_named(changes: Iterable[object], path: str) -> tuple[int, int]:
    """Return after which of ``changes`` a path first leads to an inode, and that inode. What is no change is passed by.

    Raises LookupError if it never does.
    """
    names: Names = {}
    for index, change in enumerate(changes):
        if isinstance(change, Change):
            apply(names, change)
            inode = find(names, path)
            if inode is not None:
                return index, inode
    raise LookupError(path)


def walk(names: Names, directories: Collection[int]) -> Iterator[tuple[str, int]]:
    """Yield each path that can be reached, and its inode; parents come first.

    The order is that of the inodes, whatever they are called: some names are made up anew in each run.
    """
    inside: dict[int, list[tuple[int, str]]] = {}
    for (directory, name), inode in names.items():
        inside.setdefault(directory, []).append((inode, name))
    return _below(ROOT, "", inside, directories)


def _below(
    directory: int, prefix: str, inside: dict[int, list[tuple[int, str]]], directories: Collection[int]
) -> Iterator[tuple[str, int]]:
    for inode, name in sorted(inside.get(directory, ())):
        yield prefix + name, inode
        if inode in directories:
            yield from _below(inode, f"{prefix}{name}/", inside, directories)
