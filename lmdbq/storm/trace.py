"""Running a program under strace, and reading what strace wrote: one ``Syscall`` per line, its bytes as bytes.

strace prints all strings in hex and in full, so that what was written can be taken from the trace alone. The traps: a
call that another thread interrupts is printed in two halves, which this reader refuses (``Unclear``), for then it is
not known what was done when; and a string that was cut short ends in dots.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
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
_ENDED = re.compile(r"^\d+ +(?:\+\+\+|---)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


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
    """Yield the calls of a trace in their order. Raises Unclear for a line that cannot be read."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is not None:
                yield Syscall(match["name"], match["arguments"], int(match["result"]))
            elif not _ENDED.match(line):
                raise Unclear(f"a line of the trace that cannot be read: {line[:200]}")
