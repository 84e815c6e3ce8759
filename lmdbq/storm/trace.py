"""Running a program under strace, and reading what strace wrote: one ``Syscall`` per line, its bytes as bytes.

strace prints all strings in hex and in full, so that what was written can be taken from the trace alone. The traps: a
call that another thread interrupts is printed in two halves, and what it did was done somewhere in between; it is taken
for done when it ended, which holds unless a sync and a write of one file overlap. And a string that was cut short ends
in dots.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

STRING_BYTES_MAX: Final = 1 << 28
SECONDS_MAX: Final = 600
# All by which a program may change files, and what is needed to know which file a descriptor is.
CALLS: Final = (
    "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,writev,pwrite64,pwritev,pwritev2,sendfile,splice,"
    "copy_file_range,fdatasync,fsync,sync_file_range,sync,syncfs,msync,truncate,ftruncate,fallocate,link,linkat,symlink,"
    "symlinkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir"
)

_LINE = re.compile(r"^(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>[^\n]*)$")
_BEGUN = re.compile(r"^(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*?),? *<unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>[^\n]*)$")
_UNFINISHED: Final = "<unfinished ...>\n"
_RESUMES: Final = "<... "
_ENDED = re.compile(r"^\d+ +(?:\+\+\+|---)")
_TEXT = re.compile(r'"([^"]*)"(\.\.\.)?')  # in hex, so without quotes in it


class Unclear(Exception):
    """The trace does not tell what happened, or strace cannot be run; ``str`` says why."""


class Syscall(NamedTuple):
    """One system call. arguments: as strace prints them, strings in hex; result: -1 for any error."""

    name: str
    arguments: str
    result: int

    def texts(self) -> list[bytes]:
        """Return its strings: paths, or what it wrote. Raises Unclear if one was cut."""
        found = _TEXT.findall(self.arguments)
        if any(cut for _, cut in found):
            raise Unclear(f"{self.name}: strace cut its bytes short")
        return [bytes.fromhex(text.replace("\\x", "")) for text, _ in found]

    def words(self) -> list[str]:
        """Return its arguments without strings and lists of them, each of which leaves an empty word."""
        return [word.strip() for word in re.sub(r"\[.*\]", "", _TEXT.sub("", self.arguments)).split(",")]


def strace() -> str:
    """Return the path of strace. Raises Unclear if there is none."""
    found = shutil.which("strace")
    if found is None:
        raise Unclear("this needs strace: install the package of that name (Linux only)")
    return found


def trace(command: Sequence[str], into: Path) -> None:
    """Run ``command`` under strace to its end, which must be a good one. Raises Unclear."""
    options = ("-f", "--seccomp-bpf", "-xx", "-s", str(STRING_BYTES_MAX), "-e", f"trace={CALLS}", "-o", str(into))
    ended = subprocess.run(
        [strace(), *options, *command], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    if ended.returncode:
        raise Unclear(f"the session under strace ended with {ended.returncode}: {ended.stderr[-2000:]}")


def syscalls(path: Path) -> Iterator[Syscall]:
    """Yield the calls of a trace in the order in which they ended, but each close when it began: its descriptor is free
    from then on. Raises Unclear for a line that cannot be read, and for a sync beside which another thread wrote.
    """
    begun: dict[str, str] = {}  # by thread: the first half of a call that another thread has interrupted
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if line.endswith(_UNFINISHED) and (first := _BEGUN.match(line)) is not None:
                if first["name"] == "close":
                    yield Syscall("close", first["arguments"], 0)
                else:
                    begun[first["thread"]] = f"{first['thread']} {first['name']}({first['arguments']}"
                continue
            if _RESUMES in line and (rest := _RESUMED.match(line)) is not None:
                if rest["name"] == "close":
                    continue
                line = begun.pop(rest["thread"]) + rest["rest"]
            match = _LINE.match(line)
            if match is not None:
                call = Syscall(match["name"], match["arguments"], int(match["result"]))
                _refuse_overlaps(call, begun.values())
                yield call
            elif not _ENDED.match(line):
                raise Unclear(f"a line of the trace that cannot be read: {line[:200]}")


def _refuse_overlaps(ended: Syscall, begun: Iterable[str]) -> None:
    """Refuse a write that ended while another thread synced the same descriptor, or the other way round."""
    kinds = {"write": "sync", "sync": "write"}
    kind = next((kind for kind in kinds if kind in ended.name), "")
    for call in begun:
        name, _, arguments = call.partition(" ")[2].partition("(")
        if kind and kinds[kind] in name and arguments.split(",")[0] == ended.arguments.split(",")[0]:
            raise Unclear(f"two threads at one file: {ended.name} ended in the middle of {name}")
