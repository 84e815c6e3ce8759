"""Durability as it is seen: how often a target makes the disk keep what it wrote.

strace attaches to the processes that keep the data during a short extra run, never during one that is timed. Counted
are fsync, fdatasync, msync and sync_file_range, and each write through a descriptor that was opened with O_DSYNC (LMDB
writes its meta page through one). Under strace everything is slower, so that more callers may share a sync than in a
timed run: the figure is a lower bound for concurrent callers, and exact for one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HOW: Final = "strace on the processes that keep the data, in an extra run: sync calls, and writes through O_DSYNC"
_CALLS: Final = "fsync,fdatasync,msync,sync_file_range,write,writev,pwrite64,pwritev"
_SYNCS: Final = re.compile(r"\b(?:fsync|fdatasync|msync|sync_file_range)\(")
_WRITES: Final = re.compile(r"\b(?:write|writev|pwrite64|pwritev)\((\d+)")


class Counted:
    """How many syncs there were; set when the block of ``counting`` is over."""

    def __init__(self) -> None:
        self.syncs = 0


def absent() -> str:
    """Return why syncs cannot be counted here; "" if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    return "" if Path("/proc/self/fdinfo").exists() else "there is no /proc"


@contextmanager
def counting(pids: Sequence[int], directory: Path) -> Iterator[Counted]:
    """Count the syncs of processes for the length of a block. Raises OSError if they cannot be traced."""
    log = directory / "strace.log"
    counted = Counted()
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={_CALLS}", "-e", "signal=none"]
    for pid in pids:
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_attached(tracer, len(pids))
        yield counted
        synced = {f"{pid}:{number}" for pid in pids for number in synced_descriptors(pid)}
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    descriptors = {name.partition(":")[2] for name in synced}
    counted.syncs = _count(log.read_text(encoding="utf-8", errors="replace"), descriptors)
    log.unlink()


def _wait_until_attached(tracer: subprocess.Popen[str], processes: int) -> None:
    assert tracer.stderr is not None
    for line in tracer.stderr:
        processes -= "attached" in line
        if processes <= 0:
            return
    raise OSError("strace may not trace these processes")


def synced_descriptors(pid: int) -> Iterator[str]:
    """Yield the descriptors of a process that sync with every write."""
    for entry in list(Path(f"/proc/{pid}/fdinfo").iterdir()):
        try:
            said = entry.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            continue  # closed meanwhile, as is the one that listed the directory
        found = re.search(r"^flags:\s+0?(\d+)", said, re.MULTILINE)
        if found and int(found.group(1), 8) & os.O_DSYNC:
            yield entry.name


def _count(log: str, synced_descriptors: set[str]) -> int:
    """Return the syncs in a log of strace. A call that another thread's line cuts in two is begun only once.

    >>> _count("1 fsync(3 <unfinished ...>\\n1 pwrite64(4, ..\\n2 pwrite64(5, ..\\n1 <... fsync resumed>) = 0", {"4"})
    2
    """
    syncs = 0
    for line in log.splitlines():
        written = _WRITES.search(line)
        syncs += bool(_SYNCS.search(line)) or bool(written and written.group(1) in synced_descriptors)
    return syncs
