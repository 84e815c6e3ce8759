"""From a trace to what it did to the disk: the ``Event`` list that ``disk`` replays, with the answers between.

Descriptors become inodes, paths become entries of directories (``names``), all below the root of the recording. The
rules of who is durable when are not here but in ``disk``; here is only told what was asked: written, sized, synced,
named. A write to a descriptor that was opened with O_DSYNC or O_SYNC is two events, so that the power may fail between
them.

The trap: a call that this reader does not know would be lost without a word. So any of ``trace.CALLS`` that touches a
file below the root and is not understood ends the recording with ``Unclear``. What is written through a shared mapping
shows in no trace: LMDB's lock file, whose content is therefore taken as it was in the end.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from lmdbq.storm.names import ROOT, Change, Dropped, Entry, Moved, Named, Names, apply
from lmdbq.storm.trace import Syscall, Unclear, syscalls, trace

DIRECTORY: Final = "queue"  # below the root
DIARY: Final = "diary"
LOCK: Final = f"{DIRECTORY}/lock.mdb"
DATA: Final = f"{DIRECTORY}/data.mdb"
LIBRARY: Final = "lmdbq.storm.child"
DAEMON: Final = "lmdbq.storm.served_child"

_DIRFD = re.compile(r"^(?:AT_FDCWD|\d+)$")
_HARMLESS: Final = "fcntl"
_NAMING: Final = ("link", "rename", "unlink", "mkdir", "rmdir")  # and their kin, which take a directory's descriptor
_ROOT_ENTRY: Final = (ROOT, "")  # the root's own: it has no name
_NOWHERE: Final = -2


class Wrote(Struct, frozen=True, tag="wrote"):
    """Bytes were written."""

    inode: int
    offset: int
    data: bytes


class Forced(Struct, frozen=True, tag="forced"):
    """These bytes of a file were synced, alone: the end of a write to a descriptor opened with O_DSYNC."""

    inode: int
    offset: int
    length: int


class Sized(Struct, frozen=True, tag="sized"):
    """A file was allocated or cut to a size."""

    inode: int
    size: int


class Synced(Struct, frozen=True, tag="synced"):
    """A file, or the names in a directory, were synced."""

    inode: int


class Told(Struct, frozen=True, tag="told"):
    """The session wrote down an answer: whoever asked has it."""

    line: bytes


Event = Change | Wrote | Forced | Sized | Synced | Told


class Recording(Struct):
    """All that a session did to the disk. directories: the inodes that are some; lock: the lock file's last content.

    through_daemon: whether the session asked a daemon, sometimes by several callers at once.
    """

    durability: str
    seed: str
    events: list[Event]
    directories: set[int]
    lock: bytes
    through_daemon: bool = False


def record(root: Path, durability: str, seed: str, steps: int, module: str = LIBRARY) -> Recording:
    """Run a session in an empty directory ``root`` under strace. module: LIBRARY or DAEMON. Raises Unclear."""
    root = root.resolve()
    raw = root / "trace"
    child = (sys.executable, "-m", module, str(root / DIRECTORY), str(root / DIARY), durability, seed)
    trace([*child, str(steps)], raw)
    reader = _Reader(root)
    for call in syscalls(raw):
        reader.take(call)
    raw.unlink()
    lock = (root / LOCK).read_bytes()
    return Recording(durability, seed, reader.events, reader.directories, lock, module == DAEMON)


def write(recording: Recording, path: Path) -> None:
    """Keep a recording in a file."""
    path.write_bytes(msgspec.msgpack.encode(recording))


def read(path: Path) -> Recording:
    """Return the recording that ``write`` kept."""
    return msgspec.msgpack.decode(path.read_bytes(), type=Recording)


class _Open(Struct):
    """What a descriptor is. inode -1: the diary."""

    inode: int
    through: bool = False
    append: bool = False
    position: int = 0


class _Reader:
    """Follows the descriptors, names and sizes of one process."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self.directories = {ROOT}
        self._root = str(root)
        self._names: Names = {_ROOT_ENTRY: ROOT}
        self._sizes: dict[int, int] = {}
        self._open: dict[int, _Open] = {}

    def take(self, call: Syscall) -> None:
        """Take the next call into account."""
        if call.result < 0:
            return
        if call.name.startswith(("open", "creat")):
            self._opened(call)
        elif call.name.startswith(_NAMING):
            self._renamed(call)
        elif call.name != _HARMLESS:
            self._on_descriptor(call)

    # --- names ---

    def _entry(self, text: bytes, directory: str) -> Entry | None:
        """Return what a path below the root is an entry of, None if it is elsewhere. Raises Unclear."""
        path, inode = os.path.normpath(os.fsdecode(text)), ROOT
        if path.startswith("/"):
            if path == self._root:
                return _ROOT_ENTRY
            if not path.startswith(self._root + "/"):
                return None
            path = path[len(self._root) + 1 :]
        else:
            base = self._open.get(int(directory)) if directory.isdigit() else None
            if base is None:
                return None
            inode = base.inode
        *parents, name = path.split("/")
        for parent in parents:
            inode = self._names.get((inode, parent), _NOWHERE)
        if inode not in self.directories or name in (".", ".."):
            raise Unclear(f"{os.fsdecode(text)}: which directory that is in is not known")
        return inode, name

    def _entries(self, call: Syscall) -> list[Entry]:
        directories = [word for word in call.words() if _DIRFD.match(word)] or ["AT_FDCWD"]
        texts = call.texts()
        found = [self._entry(text, directories[min(index, len(directories) - 1)]) for index, text in enumerate(texts)]
        inside = [entry for entry in found if entry is not None]
        if inside and len(inside) != len(found):
            raise Unclear(f"{call.name}: from or to a place outside")
        return inside

    def _renamed(self, call: Syscall) -> None:
        entries = self._entries(call)
        if not entries:
            return
        if call.name.startswith("mkdir"):
            self.directories.add(self._make(entries[0]))
        elif entries[0] not in self._names:
            raise Unclear(f"{call.name}({call.arguments[:100]}): of a name that nobody has given")
        elif call.name.startswith("link"):
            self._change(Named(*entries[1], self._names[entries[0]]))
        elif call.name.startswith("rename"):
            self._change(Moved(*entries[0], *entries[1]))
        else:
            self._change(Dropped(*entries[0]))

    def _make(self, entry: Entry) -> int:
        inode = len(self._sizes) + 1
        self._sizes[inode] = 0
        self._change(Named(*entry, inode))
        return inode

    def _change(self, change: Change) -> None:
        apply(self._names, change)
        self.events.append(change)

    def _opened(self, call: Syscall) -> None:
        self._open.pop(call.result, None)
        entries = self._entries(call)
        if not entries:
            return
        entry = entries[0]
        if entry == (ROOT, DIARY):
            self._open[call.result] = _Open(-1)
            return
        flags = call.arguments
        inode = self._names[entry] if entry in self._names else self._make(entry)
        if "O_TRUNC" in flags or call.name == "creat":
            self._size(inode, 0)
        self._open[call.result] = _Open(inode, "SYNC" in flags, "O_APPEND" in flags)

    # --- content ---

    def _on_descriptor(self, call: Syscall) -> None:
        words = call.words()
        if not words[0].isdigit():
            raise Unclear(f"{call.name}({call.arguments[:100]}): what it does to the disk is not known")
        number = int(words[0])
        opened = self._open.get(number)
        if call.name == "close":
            self._open.pop(number, None)
        elif call.name.startswith("dup"):
            self._open.pop(call.result, None)
            if opened is not None:
                self._open[call.result] = opened  # one position for both, as it is
        elif opened is None:
            return
        elif call.name == "lseek":
            opened.position = call.result
        elif "write" in call.name:
            self._wrote(call, opened, words)
        elif call.name in ("fdatasync", "fsync"):
            self.events.append(Synced(opened.inode))
        elif call.name == "ftruncate":
            self._size(opened.inode, int(words[1]))
        elif call.name == "fallocate" and words[1] == "0":
            end = int(words[2]) + int(words[3])
            if end > self._sizes[opened.inode]:
                self._size(opened.inode, end)
        elif call.name != "sync_file_range":  # of that nothing is promised
            raise Unclear(f"{call.name}({call.arguments[:100]}): what it does to the disk is not known")

    def _wrote(self, call: Syscall, opened: _Open, words: list[str]) -> None:
        data = b"".join(call.texts())[: call.result]
        if opened.inode < 0:
            self.events += [Told(line) for line in data.splitlines()]
            return
        if call.name.startswith("p"):
            offset = int(words[-2 if call.name == "pwritev2" else -1])
        else:
            offset = self._sizes[opened.inode] if opened.append else opened.position
            opened.position = offset + len(data)
        self._sizes[opened.inode] = max(self._sizes[opened.inode], offset + len(data))
        self.events.append(Wrote(opened.inode, offset, data))
        if opened.through:
            self.events.append(Forced(opened.inode, offset, len(data)))

    def _size(self, inode: int, size: int) -> None:
        self._sizes[inode] = size
        self.events.append(Sized(inode, size))
