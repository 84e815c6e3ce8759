"""From a trace to what it did to the disk: the ``Event`` list that ``disk`` replays, with the answers between.

Descriptors become inodes, paths become names below the root of the recording. The rules of who is durable when are not
here but in ``disk``; here is only told what was asked: written, sized, synced, named. A write to a descriptor that was
opened with O_DSYNC or O_SYNC is two events, so that the power may fail between them.

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

from lmdbq.storm.trace import Syscall, Unclear, syscalls, trace

DIRECTORY: Final = "queue"  # below the root
DIARY: Final = "diary"
LOCK: Final = f"{DIRECTORY}/lock.mdb"
DATA: Final = f"{DIRECTORY}/data.mdb"
LIBRARY: Final = "lmdbq.storm.child"
DAEMON: Final = "lmdbq.storm.served_child"

_DIRFD = re.compile(r"^(?:AT_FDCWD|\d+)$")
_HARMLESS: Final = ("fcntl", "rmdir")


class Named(Struct, frozen=True, tag="named"):
    """A name, relative to the root, was given to an inode."""

    path: str
    inode: int


class Dropped(Struct, frozen=True, tag="dropped"):
    """A name was taken away."""

    path: str


class Moved(Struct, frozen=True, tag="moved"):
    """A name was changed, in one step."""

    old: str
    new: str


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


Event = Named | Dropped | Moved | Wrote | Forced | Sized | Synced | Told


class Recording(Struct):
    """All that a session did to the disk. directories: the inodes that are some; lock: the lock file's last content.

    through_daemon: whether the session asked a daemon, sometimes by several callers at once.
    """

    durability: str
    seed: str
    events: list[Event]
    directories: dict[int, str]
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

    path: str
    inode: int
    through: bool = False
    append: bool = False
    position: int = 0


class _Reader:
    """Follows the descriptors, names and sizes of one process."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self.directories: dict[int, str] = {0: ""}
        self._root = str(root)
        self._names: dict[str, int] = {"": 0}
        self._sizes: dict[int, int] = {}
        self._open: dict[int, _Open] = {}

    def take(self, call: Syscall) -> None:
        """Take the next call into account."""
        if call.result < 0:
            return
        if call.name.startswith(("open", "creat")):
            self._opened(call)
        elif call.name in (
            "link",
            "linkat",
            "rename",
            "renameat",
            "renameat2",
            "unlink",
            "unlinkat",
            "mkdir",
            "mkdirat",
        ):
            self._renamed(call)
        elif call.name in _HARMLESS:
            return
        else:
            self._on_descriptor(call)

    # --- names ---

    def _path(self, text: bytes, directory: str) -> str | None:
        """Return a path below the root, None if it is elsewhere."""
        path = os.fsdecode(text)
        if not path.startswith("/"):
            base = self._open.get(int(directory)) if directory.isdigit() else None
            if base is None:
                return None
            path = f"{self._root}/{base.path}/{path}"
        path = os.path.normpath(path)
        if path == self._root:
            return ""
        return path[len(self._root) + 1 :] if path.startswith(self._root + "/") else None

    def _paths(self, call: Syscall) -> list[str]:
        directories = [word for word in call.words() if _DIRFD.match(word)] or ["AT_FDCWD"]
        texts = call.texts()
        found = [self._path(text, directories[min(index, len(directories) - 1)]) for index, text in enumerate(texts)]
        inside = [path for path in found if path is not None]
        if inside and len(inside) != len(found):
            raise Unclear(f"{call.name}: from or to a place outside")
        return inside

    def _renamed(self, call: Syscall) -> None:
        paths = self._paths(call)
        if not paths:
            return
        if call.name.startswith("mkdir"):
            self.directories[self._name(paths[0])] = paths[0]
        elif call.name.startswith("link"):
            self._names[paths[1]] = self._names[paths[0]]
            self.events.append(Named(paths[1], self._names[paths[0]]))
        elif call.name.startswith("rename"):
            self._names[paths[1]] = self._names.pop(paths[0])
            self.events.append(Moved(paths[0], paths[1]))
        else:
            self._names.pop(paths[0], None)
            self.events.append(Dropped(paths[0]))

    def _name(self, path: str) -> int:
        inode = len(self._sizes) + 1
        self._sizes[inode] = 0
        self._names[path] = inode
        self.events.append(Named(path, inode))
        return inode

    def _opened(self, call: Syscall) -> None:
        self._open.pop(call.result, None)
        paths = self._paths(call)
        if not paths:
            return
        path = paths[0]
        if path == DIARY:
            self._open[call.result] = _Open(path, -1)
            return
        flags = call.arguments
        if path not in self._names:
            self._name(path)
        inode = self._names[path]
        if "O_TRUNC" in flags or call.name == "creat":
            self._size(inode, 0)
        self._open[call.result] = _Open(path, inode, "SYNC" in flags, "O_APPEND" in flags)

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
